"""Chromium without a window, for the tests in a browser and for the pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Debian's browser; another path can be named.
CHROMIUM = os.environ.get("POLARIS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a browser without a window."""
    assert CHROMIUM, "There is no chromium. scripts/chromium.sh installs it, or says how to"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Without a sandbox, since root may run this. The pages come from loopback only.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
