"""The page of the local Polaris in a browser: readable, live, usable by keyboard, on a wide and a narrow screen."""

from __future__ import annotations

import re

import pytest

from airflow_provider_polaris.local import LocalPolaris

pytestmark = pytest.mark.browser

TEXTS = "#summary, .status, .name, .kind, .bar, .job .number, .when, .job code, .request span, .request b, h2 span"
CONTRAST = """
(selector) => {
  const channels = (color) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const color = channels(getComputedStyle(one).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll(selector)].filter((node) => node.textContent.trim()).map((node) => {
    const pair = [luminance(channels(getComputedStyle(node).color)), luminance(behind(node))].sort((a, b) => b - a);
    return [node.className + ": " + node.textContent.slice(0, 30), (pair[0] + 0.05) / (pair[1] + 0.05)];
  });
}
"""


@pytest.fixture
def page_of(story, open_page):
    polaris, _ = story

    def open_it(fragment=None, **options):
        page = open_page(polaris.page_url, **options)
        page.locator(".job").first.wait_for()
        if fragment:
            page.goto(f"{polaris.url}/#{fragment}")
        return page

    return open_it


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_every_text_is_readable_and_nothing_is_wider_than_the_screen(page_of, width, scheme):
    page = page_of(width=width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = page.evaluate(CONTRAST, TEXTS)
    assert len(shown) > 20
    assert [text for text, contrast in shown if contrast < 4.5] == []


@pytest.mark.parametrize("width", [1280, 400])
def test_no_text_of_a_job_covers_its_neighbor(story, page_of, width):
    polaris, _ = story
    job_id = polaris.add_job(
        executionStatus="completed", createdTimestamp="2026-11-01T06:00:00Z", completedTimestamp="2026-11-01T06:59:59Z"
    )
    page = page_of(width=width)
    page.locator(".when", has_text="59 min 59 s").wait_for()
    polaris.remove_job(job_id)
    wider = "(cells) => cells.filter((cell) => cell.scrollWidth > cell.clientWidth + 1).map((cell) => cell.textContent)"
    assert page.locator(".job summary > *").evaluate_all(wider) == []


def test_a_job_shows_what_happens_and_why(page_of, story):
    _, jobs = story
    page = page_of()
    row = {name: page.locator(f'[data-key="{job_id}"]') for name, job_id in jobs.items()}
    assert "7 rows were skipped" in row["lossy"].inner_text()
    assert "2,000 in, 7 lost" in row["lossy"].inner_text()
    assert "internal_error at 40 %" in row["failed"].inner_text()
    assert row["running"].locator("progress").count() == 1
    assert re.search(r"\d %", row["running"].inner_text())
    assert "it waits until a test changes it" in row["waiting"].inner_text()
    planned = page.locator("#planned").inner_text()
    assert "to the next 3 requests that match GET .*/nothing, Retry-After 5" in planned
    assert "the next job into orders: hang after 80 % of the rows" in planned


def test_the_page_is_live_and_keeps_focus_scroll_and_open_details(page_of, story):
    polaris, jobs = story
    page = page_of(height=300)
    summary = page.locator(f'[data-key="{jobs["failed"]}"] > summary')
    summary.focus()
    page.keyboard.press("Enter")
    spec = page.locator(f'[data-key="{jobs["failed"]}"] pre')
    spec.wait_for()
    assert '"tableName": "returns"' in spec.inner_text()
    assert "failed, health error" in page.locator(f'[data-key="{jobs["failed"]}"]').inner_text()
    before = page.evaluate("window.scrollY")
    table = "added_while_the_page_is_open"
    polaris.add_table(table)
    page.get_by_text(table).wait_for()
    assert page.evaluate("document.activeElement.parentElement.dataset.key") == jobs["failed"]
    assert spec.is_visible()
    assert abs(page.evaluate("window.scrollY") - before) < 5


def test_an_address_with_the_id_of_a_job_marks_and_opens_the_job(page_of, story):
    _, jobs = story
    page = page_of(fragment=jobs["lossy"])
    job = page.locator(f'[data-key="{jobs["lossy"]}"]')
    page.locator(".job.marked").wait_for()
    assert "marked" in job.get_attribute("class")
    assert job.evaluate("(node) => node.open")
    assert job.locator("summary").is_visible()


def test_a_browser_without_the_key_gets_a_form_and_keeps_the_key(story, open_page):
    polaris, _ = story
    page = open_page(polaris.url)
    key = page.get_by_label("API key")
    assert key.get_attribute("type") == "password"
    key.fill("pok_wrong")
    page.keyboard.press("Enter")
    page.get_by_text("This is not the API key of this server.").wait_for()
    key.fill(polaris.api_key)
    page.keyboard.press("Enter")
    page.locator(".job").first.wait_for()
    page.goto(polaris.url)
    page.locator(".job").first.wait_for()
    assert polaris.api_key not in page.url
    assert polaris.api_key not in page.content()


def test_a_server_that_stops_is_reported(open_page):
    with LocalPolaris() as polaris:
        page = open_page(polaris.page_url)
        page.get_by_text("No job yet.").wait_for()
    page.get_by_text("The server does not respond").wait_for()
