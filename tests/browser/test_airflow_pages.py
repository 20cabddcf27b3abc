"""Airflow's own pages in a browser: the connection form and its test, the page of a failed task, XCom, and events."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.support.airflow_versions import AIRFLOW_3
from tests.support.browser_story import JOBS, story
from tests.support.connection_forms import connection_form

pytestmark = pytest.mark.browser

#: Returns the box of a text, and the right edge of what clips it. Airflow 2.11 puts its pages into a shadow root.
BOX = """
(text) => {
  const roots = [document];
  for (const root of roots) {
    for (const one of root.querySelectorAll("*")) if (one.shadowRoot) roots.push(one.shadowRoot);
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const at = node.textContent.indexOf(text);
      if (at < 0 || !node.parentElement.checkVisibility()) continue;
      const range = document.createRange();
      range.setStart(node, at);
      range.setEnd(node, at + text.length);
      let edge = innerWidth;
      for (let one = node.parentElement; one; one = one.parentElement || one.getRootNode().host) {
        if (getComputedStyle(one).overflowX !== "visible") edge = Math.min(edge, one.getBoundingClientRect().right);
      }
      const box = range.getBoundingClientRect();
      return { left: box.left, right: box.right, edge };
    }
  }
}
"""


@pytest.fixture(scope="module")
def told():
    with story() as told:
        yield told


def assert_readable(page, text):
    """Check that the text is on the screen as a whole, without scrolling sideways."""
    page.wait_for_function(f"({BOX})({json.dumps(text)})", timeout=30_000)
    box = page.evaluate(BOX, text)
    assert box["left"] >= 0, box
    assert box["right"] <= box["edge"], f"{text!r} ends at {box['right']:.0f}, and the log at {box['edge']:.0f}"


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("refused", ["Refused: orders lost 7 rows, max_rows_skipped_by_error is 0", "23,988 in, 7 lost. Job",
                     "The job is over. To load again, clear the task that created it"]),
        ("timeout", ["Timeout: orders was running after 3 s (timeout)", "The job was not canceled",
                     "To wait longer, raise timeout and clear the task", f"Job {JOBS['timeout']}"]),
        ("outage", ["Polaris was unreachable for", "(max_unreachable 3)",
                    "orders was running when last seen. The job may still be running",
                    "When Polaris responds again, clear the task to wait for the same job",
                    "HTTP 503: ServiceUnavailable", f"Job {JOBS['outage']}"]),
        ("lost", ["orders was running, and Polaris no longer has the job",
                  "The job was deleted, or another project or service responds at this address",
                  "Check the table, and the host and the project of the connection",
                  f"Job {JOBS['lost']}"]),
        ("loaded", ["Gate opens with a warning: orders completed, 23,988 in, 7 lost"]),
    ],
)  # fmt: skip
def test_the_page_of_a_task_shows_the_verdict_without_scrolling_sideways(told, open_page, name, texts):
    page = open_page(told.task_page(name), height=1000)
    for text in texts:
        assert_readable(page, text)


def test_the_button_opens_the_page_of_the_job(told, open_page):
    page = open_page(told.task_page("refused", "details"))
    link = page.get_by_role("link", name="Open in Polaris")
    link.wait_for(timeout=30_000)
    address = link.get_attribute("href")
    assert address == f"{told.polaris.url}/#{JOBS['refused']}"
    local = open_page(told.polaris.page_url)
    local.locator(".job").first.wait_for()
    local.goto(address)
    assert local.evaluate("(id) => document.getElementById(id)?.matches(':target, .target, [open]')", JOBS["refused"])


def test_xcom_has_the_result_and_the_counters(told, open_page):
    page = open_page(told.task_page("loaded", "xcom"))
    for key in ("metrics", "return_value"):
        page.get_by_text(key, exact=True).wait_for(timeout=30_000)


def test_the_event_of_the_outlet_has_the_counters(told, open_page):
    if AIRFLOW_3:
        (asset,) = told.airflow.api("GET", "assets")["assets"]
        page = open_page(f"{told.url}/assets/{asset['id']}")
        page.get_by_text("load_orders_loaded").first.wait_for(timeout=30_000)
        events = told.airflow.api("GET", f"assets/events?asset_id={asset['id']}")["asset_events"]
    else:
        page = open_page(f"{told.url}/datasets?uri={quote('polaris://orders', safe='')}")
        page.get_by_text("polaris://orders").first.wait_for(timeout=30_000)
        events = told.airflow.api("GET", "datasets/events")["dataset_events"]
    assert [event["extra"]["polaris_job"]["metrics"]["numRowsProcessed"] for event in events] == [23_988]


LABELS = [
    "Description",
    "API endpoint",
    "API key",
    "Port",
    "Project ID",
    "Authentication",
    "Timeout in seconds",
    "Check the certificate",
    "Allow plain http",
    "Address of a job's page",
]


@pytest.fixture
def form(told, open_page):
    return connection_form(told.url, open_page(told.url))


@pytest.fixture
def values(told):
    """The values of a connection to the local Polaris, by the names of the fields."""
    host, _, port = told.polaris.url.rpartition(":")
    return {"host": host, "port": port, "password": told.polaris.api_key, "project_id": told.polaris.project_id}


def test_the_form_has_these_fields_in_this_order(form):
    form.add("polaris_shown")
    for name in ("login", "schema"):
        assert not form.field(name).is_visible()
    form.extra_field("project_id")
    raw = [] if AIRFLOW_3 else ["Extra"]  # 3.x folds the raw JSON of the extras
    assert form.labels() == [*LABELS[:4], *raw, *LABELS[4:]]
    assert form.field("password").get_attribute("type") == "password"
    assert form.field("host").get_attribute("placeholder") == "ORG.REGION.CLOUD.api.imply.io"
    assert form.field("port").get_attribute("placeholder").startswith("443")


NO_KEY = "no API key. In an Airflow connection, the API key is the password"


def test_a_saved_connection_can_be_tested_and_opened_again(told, form, values):
    form.add("polaris_saved")
    form.fill(values)
    good = "Polaris responds, and the API key can read this project's jobs"
    assert form.test_and_save("polaris_saved") == good
    form.reopen("polaris_saved")
    assert form.field("host").input_value() == values["host"]
    assert form.field("port").input_value() == values["port"]
    assert form.extra_field("project_id").input_value() == values["project_id"]
    # Airflow never sends a saved key to the browser: 2.11 shows an empty field, 3.x three stars.
    assert form.field("password").input_value() == ("***" if AIRFLOW_3 else "")
    # The test of 2.11 sends the form as it is, without the saved key. Its button needs the box with the raw extras.
    assert form.test_and_save("polaris_saved") == (good if AIRFLOW_3 else NO_KEY)
    (saved,) = told.airflow.query("select password from connection where conn_id = 'polaris_saved'")
    assert saved[0], "an untouched field keeps the key"


@pytest.mark.parametrize(
    ("name", "changes", "answer"),
    [
        ("key", {"password": "pok_wrong"}, "Polaris rejects the API key (401)"),
        ("project", {"project_id": "4bd7330d-cb6d-489b-aa7b-22653f237f9d"}, "This API key can see no project"),
        ("port", {"port": "9"}, "the host could not be reached"),
        ("console", {"host": "acme.app.imply.io", "port": "443"}, "its host is the console"),
    ],
)
def test_the_test_button_says_what_is_wrong(form, values, name, changes, answer):
    form.add(f"polaris_wrong_{name}")
    form.fill({**values, **changes})
    seen = form.test_and_save(f"polaris_wrong_{name}")
    assert answer in seen
    assert len(seen.split()) < 25
