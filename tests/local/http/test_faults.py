"""Requests fail on demand: an error, a delay, a connection that is cut."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import requests

from airflow_provider_polaris.local.http.faults import Fault
from tests.support.specs import SQL


def test_a_client_may_disconnect_before_its_connection_is_cut(own_polaris, capfd):
    polaris, call = own_polaris
    polaris._faults.add(Fault(delay=0.2, cut="before"))
    host, port = polaris.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as line:
        line.sendall(b"GET /v1/projects/x/jobs HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.4)
    assert call("GET", "jobs").status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def ask_python(polaris, call, **asked):
    asked.pop("times", None)
    if asked.pop("hang", False):
        polaris.hang_next(**asked)
    elif "cut" in asked:
        polaris.drop_next(when=asked.pop("cut"), **asked)
    elif "delay" in asked:
        polaris.delay_next(seconds=asked.pop("delay"), **asked)
    elif "body" in asked:
        polaris.answer_next(**asked)
    else:
        polaris.fail_next(**asked)


def ask_http(polaris, call, **asked):
    assert call("POST", "/local/faults", json=asked).status_code == 204


REQUESTS = pytest.mark.parametrize("ask", [ask_python, ask_http])


@REQUESTS
@pytest.mark.parametrize(
    ("asked", "status", "body", "retry_after"),
    [
        ({"status": 503}, 503, "planned fault", None),
        ({"status": 429, "retry_after": 7}, 429, "planned fault", "7"),
        ({"status": 200, "body": "<html>"}, 200, "<html>", None),
        ({"status": 500, "match": "GET .*/jobs$"}, 500, "planned fault", None),
        ({"delay": 0.05}, 200, "moreResults", None),
    ],
)
def test_a_planned_fault_fails_the_next_request_only(own_polaris, ask, asked, status, body, retry_after):
    polaris, call = own_polaris
    ask(polaris, call, times=1, **asked)
    answer = call("GET", "jobs")
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry_after)
    assert body in answer.text
    assert "moreResults" in call("GET", "jobs").text


@REQUESTS
@pytest.mark.parametrize("cut", ["before", "mid-body", "after"])
def test_a_connection_is_cut_before_in_or_after_the_response(own_polaris, ask, cut):
    polaris, call = own_polaris
    ask(polaris, call, cut=cut, match="POST")
    with pytest.raises(requests.RequestException):
        call("POST", "jobs", json=SQL)
    jobs = call("GET", "jobs").json()["values"]
    assert len(jobs) == (cut == "after"), "the response to a POST is lost after the job was created"


@REQUESTS
def test_a_request_that_hangs_does_not_delay_other_requests(own_polaris, ask):
    polaris, call = own_polaris
    ask(polaris, call, hang=True, match="/progress")
    job_id = polaris.add_job()
    base = f"{polaris.url}/v1/projects/{polaris.project_id}/jobs/{job_id}/progress"
    with pytest.raises(requests.ReadTimeout):
        requests.get(base, headers={"Authorization": f"Basic {polaris.api_key}"}, timeout=0.3)
    assert call("GET", f"jobs/{job_id}").status_code == 200
    start = time.monotonic()
    polaris.__exit__()
    assert time.monotonic() - start < 60, "a request that hangs does not delay the end of the server"


@REQUESTS
@pytest.mark.parametrize("asked", [{"hang": True}, {"delay": 60}], ids=str)
def test_a_request_that_waits_for_its_fault_is_answered_when_all_faults_are_removed(own_polaris, ask, asked):
    polaris, call = own_polaris
    ask(polaris, call, match="GET .*/jobs", **asked)
    timer = threading.Timer(0.2, polaris.clear_faults)
    timer.start()
    start = time.monotonic()
    assert call("GET", "jobs").status_code == 200
    assert time.monotonic() - start < 5
    timer.join()
