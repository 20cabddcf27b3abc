"""make screenshots: the pictures of README and docs, from a scripted story on a real Airflow, in a browser.

The picture of the demo is the text of its run, as a terminal shows it. What differs between two runs (ports, ids,
times, paths of the machine) is replaced before a picture is taken. The parts of the pages have nothing else that
differs.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME

from tests.support.browser import chromium
from tests.support.browser_story import JOBS, PROJECT_ID, Story, story
from tests.support.connection_forms import connection_form

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures"
#: The picture of the demo, and the width of its terminal in characters.
DEMO = FOLDER / "demo.svg"
COLUMNS = 80
TIDY = r"""
() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    node.textContent = node.textContent
      .replace(/127\.0\.0\.1:\d+/g, "127.0.0.1:8080")
      .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, "2026-11-01 06:00:00")
      .replace(/"[^"]*\/(airflow|airflow_provider_polaris)\//g, '"$1/')
      .replace(/\d\d:\d\d:\d\d\.[\d.]+/g, "00:00:05.000")
      .replace(/\d\d:\d\d:\d\d(?!\.)/g, "06:00:00");
  }
}
"""


@dataclass(frozen=True)
class Picture:
    """A part of a page.

    :param address: returns the address of the page.
    :param wanted: a text to wait for.
    :param box: left, top, width and height of the part, in pixels.
    :param then: what to do on the page before the picture is taken.
    """

    name: str
    address: Callable[[Story], str]
    wanted: str
    box: tuple[int, int, int, int]
    width: int = 1280
    then: Callable[[Story, Any], None] = lambda _story, _page: None

    @property
    def path(self) -> Path:
        """The file of the picture."""
        return FOLDER / f"{self.name}.png"

    def take(self, told: Story, browser: Any) -> None:
        """Take the picture."""
        context = browser.new_context(viewport={"width": self.width, "height": 1400}, color_scheme="light")
        page = context.new_page()
        page.goto(self.address(told))
        page.get_by_text(self.wanted).first.wait_for()
        self.then(told, page)
        page.evaluate(TIDY)
        clip = dict(zip(("x", "y", "width", "height"), self.box, strict=True))
        before = None
        while (shot := page.screenshot(clip=clip)) != before:  # the page still moves its parts
            before = shot
            page.wait_for_timeout(1_000)
        self.path.write_bytes(shot)
        context.close()


def _log_of(name: str, wanted: str) -> Picture:
    """Return the picture of the log of a story's task."""
    return Picture(name, lambda told: told.task_page(name), wanted, TASK)


def _connections(told: Story) -> str:
    """Return the address of the list of connections."""
    return f"{told.url}/connections"


def _unfold(_told: Story, page: Any) -> None:
    """Show the whole values of XCom."""
    page.get_by_role("button", name="Expand all").first.click()
    page.get_by_text("23988").first.wait_for()


def _unfold_event(_told: Story, page: Any) -> None:
    """Show the whole extra of an asset's event."""
    counter = page.get_by_text("numRowsSkippedByError").first
    folded = page.locator(".codicon-folding-collapsed").last
    while True:
        folded.or_(counter).first.wait_for()
        if counter.count():
            return
        folded.click()


def _fill_in(told: Story, page: Any) -> None:
    """Show the form with a connection."""
    form = connection_form(told.url, page)
    form.add("polaris_default")
    form.fill({"host": "acme.us-east-1.aws.api.imply.io", "password": "pok_of_the_picture", "port": "443"})


def _fill_in_extra(told: Story, page: Any) -> None:
    """Show the extra fields of the same form. Airflow shows one section at a time."""
    _fill_in(told, page)
    connection_form(told.url, page).fill({"project_id": PROJECT_ID})


#: The part of a page that shows a task.
TASK = (320, 60, 960, 560)
PICTURES = (
    _log_of("refused", "Refused: orders lost"),
    _log_of("timeout", "Timeout: orders was"),
    _log_of("outage", "was unreachable for"),
    _log_of("lost", "Polaris no longer has the job"),
    _log_of("loaded", "Gate opens"),
    Picture("xcom", lambda told: told.task_page("loaded", "xcom"), "return_value", (320, 60, 960, 910), then=_unfold),
    Picture(
        "asset-event",
        lambda told: told.task_page("loaded", "asset_events"),
        "1 Asset Event",
        (320, 60, 960, 760),
        then=_unfold_event,
    ),
    Picture("connection", _connections, "Add Connection", (180, 40, 920, 800), then=_fill_in),
    Picture("connection-extra", _connections, "Add Connection", (180, 40, 920, 1240), then=_fill_in_extra),
    Picture("local", lambda told: told.polaris.page_url, "orders", (0, 0, 1280, 400)),
    Picture("local-phone", lambda told: told.polaris.page_url, "orders", (0, 0, 400, 660), width=400),
)


def main() -> None:
    """Take all pictures."""
    with story() as told, chromium() as browser:
        for picture in PICTURES:
            picture.take(told, browser)
            print(f"docs/pictures/{picture.path.name}")
    DEMO.write_text(draw_demo())
    print(f"docs/pictures/{DEMO.name}")


def draw_demo() -> str:
    """Run the demo, and return its text as a picture of a terminal."""
    env = {**os.environ, "COLUMNS": str(COLUMNS), "PYTHONUTF8": "1"}
    program = [sys.executable, str(ROOT / "scripts" / "demo.py")]
    text = subprocess.run(program, env=env, capture_output=True, check=True).stdout.decode()
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    console.print(f"$ make demo\n{tidy_demo(text)}", markup=False, end="")
    svg = console.export_svg(title="make demo", theme=DEFAULT_TERMINAL_THEME, unique_id="demo")
    # Without the fonts, which a browser would load from another host.
    svg = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def tidy_demo(text: str) -> str:
    """Replace what differs between two runs of the demo: the port, the ids, the times and the number of polls."""
    ids = dict.fromkeys(re.findall(r"\b[0-9a-f]{8}(?=-[0-9a-f]{4}-| is )", text))
    for short, fixed in zip(ids, JOBS.values(), strict=False):
        text = re.sub(rf"{short}-[0-9a-f-]{{27}}", fixed, text).replace(short, fixed[:8])
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8080", text)
    for line, seconds in (("airflow db", " 5.0"), ("airflow dags", " 5.0"), ("job", "18.0")):
        text = re.sub(rf" *[\d.]+ s  {line}", f"    {seconds} s  {line}", text)
    return re.sub(r"[\d.]+ s, deferred to the triggerer; \d+ polls", "6.0 s, deferred to the triggerer; 5 polls", text)


if __name__ == "__main__":
    main()
