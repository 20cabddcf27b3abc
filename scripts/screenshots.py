"""make screenshots: the pictures of README and docs, from a scripted story on a real Airflow, in a browser.

Addresses with a random port are replaced before a picture is taken, and paths of the machine are cut off.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.support.browser_story import Story, story

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
CHROMIUM = os.environ.get("POLARIS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
#: Replaces what differs between two runs, in each text on the page: the port, times, and paths of this machine.
TIDY = r"""
() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    node.textContent = node.textContent
      .replace(/127\.0\.0\.1:\d+/g, "127.0.0.1:8080")
      .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, "2026-11-01 06:00:00")
      .replace(/"[^"]*\/(airflow|airflow_provider_polaris)\//g, '"$1/')
      .replace(/\d\d:\d\d:\d\d\.\d+/g, "00:00:05.000");
  }
}
"""
Rect = dict[str, float]


def main() -> None:
    """Take all pictures."""
    if not CHROMIUM:
        sys.exit("There is no chromium. make screenshots installs it, or says how to")
    PICTURES.mkdir(exist_ok=True)
    with story() as told, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])

        def take(
            name: str, address: str, wanted: str, *, clip: Rect, width: int = 1280, then: Callable[[Any], Any] = id
        ) -> None:
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light")
            page = context.new_page()
            page.goto(address)
            page.get_by_text(wanted).first.wait_for()
            then(page)
            page.evaluate(TIDY)
            page.screenshot(path=PICTURES / f"{name}.png", clip=clip)
            context.close()
            print(f"docs/pictures/{name}.png")

        take_all(told, take)
        browser.close()


def take_all(told: Story, take: Callable[..., None]) -> None:
    """Take each picture: its name, its page, a text to wait for, and the part to keep."""
    task = {"x": 320, "y": 60, "width": 960, "height": 560}
    for name, text in (
        ("refused", "Refused: orders lost"),
        ("timeout", "Timeout: orders was"),
        ("outage", "was unreachable for"),
        ("lost", "Polaris has no such job"),
        ("loaded", "Gate opens"),
    ):
        take(name, told.task_page(name), text, clip=task)
    take("xcom", told.task_page("loaded", "xcom"), "return_value", clip=task, then=_unfold)
    form = {"x": 180, "y": 40, "width": 920, "height": 800}
    take("connection", f"{told.url}/connections", "Add Connection", clip=form, then=_open_form)
    for name, width in (("local", 1280), ("local-phone", 400)):
        clip = {"x": 0, "y": 0, "width": width, "height": 700}
        take(name, told.polaris.page_url, "orders", clip=clip, width=width)


def _unfold(page: Any) -> None:
    """Show the whole values of XCom."""
    page.get_by_role("button", name="Expand all").first.click()
    page.get_by_text("23988").first.wait_for()


def _open_form(page: Any) -> None:
    """Fill in a connection."""
    page.get_by_role("button", name="Add Connection").click()
    dialog = page.locator("[role=dialog][data-state=open]")
    dialog.locator("[name=connection_id]").fill("polaris_default")
    dialog.locator("input[role=combobox]").first.click()
    page.keyboard.type("Imply")
    page.keyboard.press("Enter")
    dialog.locator("[name=host]").fill("acme.us-east-1.aws.api.imply.io")
    dialog.locator("[name=password]").fill("pok_of_the_picture")
    dialog.locator("[name=port]").fill("443")


if __name__ == "__main__":
    main()
