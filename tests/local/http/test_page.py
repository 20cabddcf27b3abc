"""The page of the local Polaris: its data say what happens, need the key, and change nothing."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote

import pytest
import requests

from airflow_provider_polaris.local.engine.project.behaviours import Behaviour
from airflow_provider_polaris.local.http.faults import HANG_SECONDS, Fault
from airflow_provider_polaris.local.http.page import counters_of, describe, fold
from airflow_provider_polaris.local.http.shell import SeenRequest
from tests.support.specs import SPEC


def test_a_browser_gets_the_page_without_a_key_and_the_data_only_with_it(polaris):
    for path, kind in (("/", "text/html"), ("/local/page.css", "text/css"), ("/local/page.js", "text/javascript")):
        answer = requests.get(f"{polaris.url}{path}", timeout=5)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert polaris.api_key not in answer.text
    for path in ("/local/state", "/local/jobs/x"):
        answer = requests.get(f"{polaris.url}{path}", timeout=5)
        assert answer.status_code == 401
        assert "WWW-Authenticate" not in answer.headers, "a browser must not ask for a user name and a password"


def test_the_address_of_the_page_holds_the_key_where_no_server_sees_it(polaris):
    address, _, fragment = polaris.page_url.partition("#")
    assert address == f"{polaris.url}/"
    assert unquote(fragment) == f"key={polaris.api_key}"


def test_the_state_tells_what_jobs_tables_and_requests_do(own_polaris):
    polaris, call = own_polaris
    assert call("GET", "/local/state").json() == {
        "summary": "0 jobs, 0 files, 1 table",
        "jobs": [],
        "tables": [{"name": "cities", "availability": "available", "rows": 0}],
        "planned": [],
        "requests": [],
        "folded": 0,
    }
    job_id = polaris.add_job(
        executionStatus="failed",
        health={"status": "error", "code": "row_too_large", "message": "Row 7 is too large"},
        metrics={"numRowsProcessed": 1234, "numRowsProcessedWithWarning": 0, "numRowsSkippedByError": 7},
    )
    polaris.add_job(id="odd", health="odd", target=None, executionStatus=["odd"], type=None)
    call("GET", f"jobs/{job_id}")
    call("GET", "jobs/none")
    polaris.fail_next(3, match="nothing")
    state = call("GET", "/local/state").json()
    odd, failed = state["jobs"]
    assert odd["status"] == "['odd']"
    assert (failed["status"], failed["counters"]) == ("failed", "1,234 in, 7 lost")
    assert failed["reason"] == "row_too_large: Row 7 is too large"
    assert not failed["is_read"]
    assert [(line["status"], line["text"]) for line in state["requests"]] == [
        (404, "GET jobs/none"),
        (200, f"GET jobs/{job_id}"),
    ]
    assert state["planned"] == [{"mark": "503", "text": "to the next 3 requests that match nothing"}]


def test_the_page_changes_no_job(own_polaris):
    polaris, call = own_polaris
    job_id = polaris.add_job()
    polaris.script(job_id, {"executionStatus": "running"}, {"executionStatus": "completed"})
    for _ in range(3):
        (job,) = call("GET", "/local/state").json()["jobs"]
        assert (job["status"], job["note"]) == ("pending", "not run here: it waits until a test changes it")
        assert call("GET", f"/local/jobs/{job_id}").json()["changes"][-1]["text"] == "pending"
    assert call("GET", f"jobs/{job_id}").json()["executionStatus"] == "running"


def test_a_job_shows_its_spec_its_log_and_its_changes(own_polaris, wait_until):
    polaris, call = own_polaris
    data = '{"timestamp": "2026-11-01T10:00:00Z", "city": "Bern"}\n<html>\n' + " " * 3_000
    spec = {**SPEC, "createTableIfNotExists": True, "source": {**SPEC["source"], "data": data}}
    job_id = call("POST", "jobs", json=spec).json()["id"]
    assert wait_until(lambda: polaris._store.jobs[job_id].status == "completed")
    detail = call("GET", f"/local/jobs/{job_id}").json()
    assert [change["text"] for change in detail["changes"]] == ["pending", "running", "completed, health warn"]
    assert detail["spec"]["target"] == spec["target"]
    assert detail["spec"]["source"]["data"].endswith(f"… ({len(data):,} characters)"), "a long text is cut"
    (job,) = call("GET", "/local/state").json()["jobs"]
    assert job["reason"].startswith("invalid_rows_found: 1 rows were skipped")
    assert job["ended"] >= job["began"]
    assert call("GET", "/local/jobs/none").status_code == 404


def test_a_job_that_is_being_canceled_says_so(own_polaris):
    polaris, call = own_polaris
    job_id = polaris.add_job(executionStatus="running")
    call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "canceled"})
    assert call("GET", "/local/state").json()["jobs"][0]["wish"] == "canceled"
    polaris.set_status(job_id, "canceled")
    assert call("GET", "/local/state").json()["jobs"][0]["wish"] is None
    changes = call("GET", f"/local/jobs/{job_id}").json()["changes"]
    assert [change["text"] for change in changes] == ["running", "running, to be canceled", "canceled"]


POLL = SeenRequest("GET", "/v1/projects/p/jobs/a", "", at=1.0, status=200)


def test_polls_of_one_address_share_a_line_until_a_change_or_an_error_is_between_them():
    other = replace(POLL, path="/v1/projects/p/jobs/b")
    post = replace(POLL, method="POST", path="/v1/projects/p/jobs", status=201)
    error = replace(POLL, status=503)
    cut = replace(POLL, status=None)
    lines, folded = fold([POLL, other, POLL, other, POLL, post, POLL, POLL, error, error, cut])
    assert [(line["text"], line["status"], line["times"]) for line in lines] == [
        ("GET jobs/a", 200, 3),
        ("GET jobs/b", 200, 2),
        ("POST jobs", 201, 1),
        ("GET jobs/a", 200, 2),
        ("GET jobs/a", 503, 1),
        ("GET jobs/a", 503, 1),
        ("GET jobs/a", None, 1),
    ]
    assert folded == 4


@pytest.mark.parametrize(
    ("plan", "mark", "text"),
    [
        (Fault(status=503), "503", "to the next request"),
        (
            Fault(3, "GET .*/jobs", status=429, headers={"Retry-After": "5"}),
            "429",
            "to the next 3 requests that match GET .*/jobs, Retry-After 5",
        ),
        (Fault(1, "POST", delay=2.5), "late", "the response to the next request that matches POST, 2.5 s late"),
        (Fault(1, delay=2, status=500), "500", "to the next request, 2 s late"),
        (Fault(2, delay=HANG_SECONDS), "hang", "no response to the next 2 requests"),
        (Fault(cut="after"), "cut", "the connection of the next request, after it is carried out"),
        (Behaviour("fail", at=0.5, table="t"), "job", "the next job into t: fail after 50 % of the rows"),
        (Behaviour("complete", times=2), "job", "the next 2 jobs: complete"),
        (Behaviour("hang"), "job", "the next job: hang after 80 % of the rows"),
        (Behaviour("flap"), "job", "the next job: change between running and unknown, then complete"),
    ],
)
def test_a_plan_is_described_in_words(plan, mark, text):
    assert describe(plan) == {"mark": mark, "text": text}


@pytest.mark.parametrize(
    ("totals", "words"),
    [
        ({"numRowsProcessed": 23988, "numRowsProcessedWithWarning": 5, "numRowsSkippedByError": 7},
         "23,988 in, 5 in part, 7 lost"),
        ({"numRowsProcessed": 0, "numRowsSkippedByError": 0}, "0 in"),
        ({"numRowsSkippedByError": 2}, "2 lost"),
        ({"numRowsProcessed": "5"}, ""),
        (None, ""),
    ],
)  # fmt: skip
def test_counters_are_words(totals, words):
    assert counters_of(totals) == words
