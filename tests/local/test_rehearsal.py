"""A bad night on demand: faults of requests and behaviours of jobs, over the Python face and over HTTP."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import requests

from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.local import LocalPolaris
from tests.local.conftest import T, caller_of, rows, spec_of
from tests.local.test_jobs import S3, SQL, STREAMING

TEN_ROWS = spec_of(rows(*[{"timestamp": T}] * 10))


@pytest.fixture
def night():
    """A local Polaris of its own, and calls to it."""
    with LocalPolaris() as polaris:
        polaris.add_table("cities")
        yield polaris, caller_of(polaris)


def by_python(polaris, call, **asked):
    kind = asked.pop("kind")
    polaris.next_job(kind, **asked)


def by_http(polaris, call, **asked):
    assert call("POST", "/local/behaviours", json=asked).status_code == 204


FACES = pytest.mark.parametrize("ask", [by_python, by_http])


def statuses(call, spec, looks):
    """Create a job; return its id and the statuses that so many looks see."""
    job_id = call("POST", "jobs", json=spec).json()["id"]
    return job_id, [call("GET", f"jobs/{job_id}").json()["executionStatus"] for _ in range(looks)]


@FACES
@pytest.mark.parametrize(
    ("spec", "kind", "seen"),
    [
        (SQL, "complete", ["pending", "running", "completed", "completed"]),
        (S3, "fail", ["pending", "running", "failed", "failed"]),
        (STREAMING, "complete", ["pending", "running", "running"]),
        (STREAMING, "fail", ["pending", "running", "failed"]),
        (SQL, "hang", ["pending", "running", "running"]),
        (SQL, "flap", ["running", "unknown"] * 3 + ["completed"]),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else str(value)[:20],
)
def test_a_job_whose_data_is_elsewhere_goes_through_its_states_look_by_look(night, ask, spec, kind, seen):
    polaris, call = night
    ask(polaris, call, kind=kind, metrics={"numRowsProcessed": 5})
    job_id, statuses_seen = statuses(call, spec, len(seen))
    assert statuses_seen == seen
    assert call("GET", f"jobs/{job_id}/metrics").json() == {"totals": {"numRowsProcessed": 5}}
    if seen[-1] == "completed":
        assert call("GET", "tables/by_sql").json()["totalRows"] == 5
    assert statuses(call, spec, 3)[1] == ["pending"] * 3, "only the next one was asked for"


@FACES
def test_a_job_fails_at_80_percent(night, ask, wait_until):
    polaris, call = night
    ask(polaris, call, kind="fail", at=0.8)
    job_id = call("POST", "jobs", json=TEN_ROWS).json()["id"]
    assert wait_until(lambda: call("GET", f"jobs/{job_id}").json()["executionStatus"] == "failed")
    assert call("GET", f"jobs/{job_id}/metrics").json()["totals"]["numRowsProcessed"] == 8
    assert call("GET", f"jobs/{job_id}/progress").json() == {"overallProgress": 0.8}
    assert call("GET", f"jobs/{job_id}").json()["health"]["code"] == "internal_error"
    assert call("GET", "tables/cities").json()["totalRows"] == 0


def test_a_job_fails_as_it_is_told(night, wait_until):
    polaris, call = night
    polaris.next_job("fail", health={"status": "error", "code": "row_too_large", "message": "Too large"})
    job_id = call("POST", "jobs", json=TEN_ROWS).json()["id"]
    assert wait_until(lambda: call("GET", f"jobs/{job_id}").json()["executionStatus"] == "failed")
    health = call("GET", f"jobs/{job_id}").json()["health"]
    assert (health["code"], health["message"], health["log"]["code"]) == ("row_too_large", "Too large", "row_too_large")
    polaris.next_job("complete", health={"status": "warn", "code": "unable_to_proceed"})
    assert call("GET", f"jobs/{statuses(call, SQL, 3)[0]}").json()["health"]["code"] == "unable_to_proceed"


@FACES
def test_a_job_hangs_until_it_is_canceled(night, ask, wait_until):
    polaris, call = night
    ask(polaris, call, kind="hang", at=0.5)
    job_id = call("POST", "jobs", json=TEN_ROWS).json()["id"]

    def read():
        return call("GET", f"jobs/{job_id}/metrics").json()["totals"].get("numRowsProcessed")

    assert wait_until(lambda: read() == 5)
    assert call("GET", f"jobs/{job_id}").json()["executionStatus"] == "running"
    call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "canceled"})
    assert wait_until(lambda: call("GET", f"jobs/{job_id}").json()["executionStatus"] == "canceled")
    assert read() == 5


@FACES
def test_a_job_that_is_read_here_flaps_too(night, ask, wait_until):
    polaris, call = night
    ask(polaris, call, kind="flap")
    job_id, seen = statuses(call, TEN_ROWS, 6)
    assert seen == ["running", "unknown"] * 3
    assert wait_until(lambda: call("GET", f"jobs/{job_id}").json()["executionStatus"] == "completed")


def test_a_behaviour_is_for_one_table_and_for_so_many_jobs(night):
    polaris, call = night
    polaris.next_job("complete", times=2, table="by_sql")
    assert statuses(call, S3, 3)[1][-1] == "pending"
    assert [statuses(call, SQL, 3)[1][-1] for _ in range(3)] == ["completed", "completed", "pending"]


def test_a_streaming_job_that_was_asked_for_is_suspended_and_canceled(night):
    polaris, call = night
    polaris.next_job("complete")
    job_id, _ = statuses(call, STREAMING, 2)
    for wish, seen in (
        ("suspended", ["suspended"] * 2),
        ("running", ["running"] * 2),
        ("canceled", ["running", "canceled"]),
    ):
        call("POST", f"jobs/{job_id}/status", json={"desiredExecutionStatus": wish})
        assert [call("GET", f"jobs/{job_id}").json()["executionStatus"] for _ in range(2)] == seen


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
        ({"status": 503}, 503, "asked to fail", None),
        ({"status": 429, "retry_after": 7}, 429, "asked to fail", "7"),
        ({"status": 200, "body": "<html>"}, 200, "<html>", None),
        ({"status": 500, "match": "GET .*/jobs$"}, 500, "asked to fail", None),
        ({"delay": 0.05}, 200, "moreResults", None),
    ],
)
def test_the_next_request_goes_wrong_as_asked_and_the_one_after_is_right(night, ask, asked, status, body, retry_after):
    polaris, call = night
    ask(polaris, call, times=1, **asked)
    answer = call("GET", "jobs")
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry_after)
    assert body in answer.text
    assert "moreResults" in call("GET", "jobs").text


@REQUESTS
@pytest.mark.parametrize("cut", ["before", "mid-body", "after"])
def test_a_line_is_cut(night, ask, cut):
    polaris, call = night
    ask(polaris, call, cut=cut, match="POST")
    with pytest.raises(requests.RequestException):
        call("POST", "jobs", json=SQL)
    jobs = call("GET", "jobs").json()["values"]
    assert len(jobs) == (cut == "after"), "the answer of a POST is lost after the job was made"


@REQUESTS
def test_a_request_hangs_and_others_do_not(night, ask):
    polaris, call = night
    ask(polaris, call, hang=True, match="/progress")
    job_id = polaris.add_job()
    base = f"{polaris.url}/v1/projects/{polaris.project_id}/jobs/{job_id}/progress"
    with pytest.raises(requests.ReadTimeout):
        requests.get(base, headers={"Authorization": f"Basic {polaris.api_key}"}, timeout=0.3)
    assert call("GET", f"jobs/{job_id}").status_code == 200
    start = time.monotonic()
    polaris.__exit__()
    assert time.monotonic() - start < 60, "what hangs does not keep it from stopping"


@pytest.mark.parametrize(
    ("path", "asked", "target"),
    [
        ("faults", {}, None),
        ("faults", {"status": "503"}, "status"),
        ("faults", {"status": 42}, "status"),
        ("faults", {"times": True, "status": 503}, "times"),
        ("faults", {"cut": "sideways"}, None),
        ("faults", {"match": "[", "status": 503}, None),
        ("faults", {"match": "(a+)+ZZ$", "status": 503}, "match"),
        ("faults", {"match": "a*b*c*d", "status": 503}, "match"),
        ("faults", {"match": "a{99999999999999}", "status": 503}, None),
        ("faults", {"match": 7, "status": 503}, "match"),
        ("faults", {"retry_after": "1\r\nX: y"}, "retry_after"),
        ("faults", {"retry_after": "€"}, "retry_after"),
        ("faults", {"retry_after": [1]}, "retry_after"),
        ("faults", {"times": 0, "status": 503}, None),
        ("faults", {"delay": -1}, None),
        ("faults", {"typo": 1}, "typo"),
        ("faults", [], None),
        ("behaviours", {}, None),
        ("behaviours", {"kind": "explode"}, None),
        ("behaviours", {"kind": "fail", "at": 80}, None),
        ("behaviours", {"kind": "fail", "metrics": 1}, "metrics"),
        ("behaviours", {"kind": "fail", "metrics": {"numRowsProcessed": "5"}}, None),
        ("behaviours", {"kind": "fail", "health": "abc"}, "health"),
        ("behaviours", {"kind": "fail", "table": ["t"]}, "table"),
        ("behaviours", {"kind": "fail", "times": 0}, None),
    ],
)
def test_what_cannot_be_rehearsed_is_a_400(night, path, asked, target):
    _, call = night
    answer = call("POST", f"/local/{path}", json=asked)
    assert answer.status_code == 400
    assert answer.json().get("target") == target
    assert call("GET", f"/local/{path}").json() == {"values": []}


def test_what_is_still_to_come_can_be_seen_and_taken_back(night):
    _, call = night
    call("POST", "/local/faults", json={"times": 9, "status": 503, "retry_after": 1, "body": "no"})
    call("POST", "/local/behaviours", json={"kind": "hang"})
    (fault,) = call("GET", "/local/faults").json()["values"]
    assert (fault["times"], fault["status"], fault["body"]) == (9, 503, "no")
    (behaviour,) = call("GET", "/local/behaviours").json()["values"]
    assert behaviour["kind"] == "hang"
    assert call("GET", "jobs").status_code == 503
    for path in ("faults", "behaviours"):
        assert call("DELETE", f"/local/{path}").status_code == 204
        assert call("GET", f"/local/{path}").json() == {"values": []}
    assert call("GET", "jobs").status_code == 200


def test_a_job_and_a_table_are_changed_over_http(night):
    _, call = night
    job_id = call("POST", "jobs", json=SQL).json()["id"]
    changes = {"executionStatus": "completed", "metrics": {"numRowsProcessed": 3}, "logs": [{"message": "done"}]}
    assert call("PATCH", f"/local/jobs/{job_id}", json=changes).json()["executionStatus"] == "completed"
    assert call("GET", f"jobs/{job_id}/metrics").json()["totals"] == {"numRowsProcessed": 3}
    assert call("GET", f"jobs/{job_id}/logs").json() == {"logs": [{"message": "done"}]}
    assert call("PATCH", "/local/tables/by_sql", json={"availability": "deleting"}).json()["totalRows"] == 3
    assert call("GET", "tables/by_sql").json()["availability"] == "deleting"
    assert call("PATCH", "/local/jobs/none", json={}).status_code == 404
    assert call("PATCH", "/local/tables/none", json={}).status_code == 404
    for wrong in ({"metrics": 1}, {"metrics": {"numRowsProcessed": "5"}}, {"metrics": {}, "logs": 5}):
        assert call("PATCH", f"/local/jobs/{job_id}", json=wrong).status_code == 400
    assert call("GET", f"jobs/{job_id}/metrics").json()["totals"] == {"numRowsProcessed": 3}


def test_its_own_paths_take_the_key_and_are_not_counted(night):
    polaris, call = night
    polaris.fail_next(1)
    for path in ("/", "/local/requests", "/local/faults"):
        assert call("GET", path).status_code == 200
        assert call("GET", path, headers={"Authorization": ""}).status_code == 401
    assert polaris.requests == []
    call("GET", "jobs?x=1")
    (seen,) = call("GET", "/local/requests").json()["values"]
    assert (seen["method"], seen["query"], seen["status"]) == ("GET", "x=1", 503)


def test_the_page_shows_what_goes_on_and_escapes_it(night):
    polaris, call = night
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
    assert "completed" not in requests.get(polaris.page_url, timeout=5).text.partition("<h2>Jobs")[2], "it only looks"


def test_a_browser_is_asked_for_the_key(polaris):
    answer = requests.get(polaris.url, timeout=5)
    assert (answer.status_code, "Basic" in answer.headers["WWW-Authenticate"]) == (401, True)


def test_the_plugins_fixtures_lead_to_each_other(local_polaris, local_polaris_connection):
    hook = PolarisHook(local_polaris_connection)
    assert hook.get_job(local_polaris.add_job()).execution_status == "pending"
    assert [request.method for request in local_polaris.requests] == ["GET"]
    hook.close()


@pytest.mark.parametrize(("host", "says"), [("127.0.0.1", False), ("0.0.0.0", True)])  # noqa: S104 - that is the point
def test_it_says_so_when_it_listens_to_more_than_this_machine(host, says):
    command = [sys.executable, "-m", "airflow_provider_polaris.local", "--port", "0", "--host", host]
    with subprocess.Popen([*command, "--without", "ManageFiles"], stdout=subprocess.PIPE, text=True) as process:
        head = [process.stdout.readline() for _ in range(6)]
        key, project = (head[number].split()[-1] for number in (1, 2))
        url = head[0].split()[-1].replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        get = f"{url}/v1/projects/{project}/files"
        assert requests.get(get, headers={"Authorization": f"Basic {key}"}, timeout=5).status_code == 403
        process.terminate()
        rest = process.stdout.read()
    assert ("anyone who can reach this port" in rest) == says
    assert process.returncode == 0
