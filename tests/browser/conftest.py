"""A browser for the tests of this folder, and a local Polaris that shows a story."""

from __future__ import annotations

import time

import pytest
import requests

from airflow_provider_polaris.local import LocalPolaris
from tests.support.browser import chromium
from tests.support.specs import SPEC

ROW = '{"timestamp": "2026-11-01T10:00:00Z", "city": "Bern"}\n'


@pytest.fixture(scope="session")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    """Return a function that opens an address in a new browser profile, and returns the page."""
    contexts = []

    def open_it(address, width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.goto(address)
        return page

    yield open_it
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def story():
    """Yield a local Polaris with jobs in each kind of state, and their ids by a short name."""
    with LocalPolaris() as polaris:
        jobs = {}

        def create(name, table, data):
            spec = {
                **SPEC,
                "createTableIfNotExists": True,
                "target": {"type": "table", "tableName": table},
                "source": {**SPEC["source"], "data": data},
            }
            answer = requests.post(
                f"{polaris.url}/v1/projects/{polaris.project_id}/jobs",
                json=spec,
                headers={"Authorization": f"Basic {polaris.api_key}"},
                timeout=10,
            )
            jobs[name] = answer.json()["id"]

        def ends(name):
            deadline = time.monotonic() + 10
            while polaris._store.jobs[jobs[name]].status in ("pending", "running"):
                assert time.monotonic() < deadline
                time.sleep(0.05)

        create("lossy", "orders", ROW * 2_000 + "<html>502</html>\n" * 7)
        polaris.next_job("fail", at=0.4, table="returns")
        create("failed", "returns", ROW * 100)
        ends("lossy")
        ends("failed")
        polaris.rows_per_second = 2
        create("running", "visits_of_every_page_of_every_country", ROW * 10_000)
        jobs["waiting"] = polaris.add_job(type="sql", target={"type": "table", "tableName": "orders"})
        polaris.fail_next(3, status=429, retry_after=5, match="GET .*/nothing")
        polaris.next_job("hang", table="orders")
        yield polaris, jobs
