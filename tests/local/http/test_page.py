"""The page of the local Polaris shows its state and needs the key."""

from __future__ import annotations

import requests


def test_the_page_shows_jobs_requests_and_plans_and_escapes_them(own_polaris):
    polaris, call = own_polaris
    assert "No job yet" in call("GET", "/").text
    job_id = polaris.add_job(
        executionStatus="failed",
        target={"type": "table", "tableName": "<script>alert(1)</script>"},
        health={"status": "error", "code": "row_too_large"},
        metrics={"numRowsProcessed": 1234},
    )
    polaris.add_job(id='"><b>', health="odd", target=None, executionStatus=["odd"])
    call("GET", f"jobs/{job_id}")
    call("GET", "jobs/%3Cscript%3E")
    polaris.fail_next(3, match="<i>")
    polaris.next_job("hang")
    polaris.script(job_id, {"executionStatus": "completed"})
    answer = requests.get(polaris.page_url, timeout=5)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for text in (job_id, "row_too_large", "1,234", "failed", "/jobs/%3Cscript%3E", "404", "times=3", "hang", "cities"):
        assert text in answer.text
    for markup in ("<script", "<b>", "<i>"):
        assert markup not in answer.text
    assert "completed" not in requests.get(polaris.page_url, timeout=5).text.partition("<h2>Jobs")[2], (
        "the page changes no job"
    )


def test_a_browser_is_asked_for_the_key(polaris):
    answer = requests.get(polaris.url, timeout=5)
    assert (answer.status_code, "Basic" in answer.headers["WWW-Authenticate"]) == (401, True)
