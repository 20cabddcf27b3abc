"""A test makes a job complete, fail, hang or flap, in Python or over HTTP."""

from __future__ import annotations

import pytest

from tests.support.local_calls import status_of
from tests.support.specs import DELETE, DROP, S3, SQL, STREAMING, T, rows, spec_of


def test_a_deletion_fails_or_hangs_by_its_behaviour(own_polaris, wait_until):
    polaris, call = own_polaris
    polaris.next_job("fail")
    job_id = call("POST", "jobs", json=DROP).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "failed")
    polaris.next_job("hang")
    job_id = call("POST", "jobs", json=DELETE).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "running")
    assert call("GET", "tables/cities").status_code == 200


def test_a_job_that_hangs_occupies_no_worker(own_polaris, wait_until):
    polaris, call = own_polaris
    polaris.next_job("hang", times=3)
    for _ in range(3):
        call("POST", "jobs", json=spec_of(rows({"timestamp": T})))
    job_id = call("POST", "jobs", json=spec_of(rows({"timestamp": T}))).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "completed")


def test_a_job_fails_after_exactly_the_share_of_its_rows(own_polaris, wait_until):
    polaris, call = own_polaris
    polaris.next_job("fail", at=0.55)
    job_id = call("POST", "jobs", json=spec_of(rows(*[{"timestamp": T}] * 100))).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "failed")
    assert call("GET", f"jobs/{job_id}/metrics").json()["totals"]["numRowsProcessed"] == 55


TEN_ROWS = spec_of(rows(*[{"timestamp": T}] * 10))


def by_python(polaris, call, **asked):
    kind = asked.pop("kind")
    polaris.next_job(kind, **asked)


def by_http(polaris, call, **asked):
    assert call("POST", "/local/behaviours", json=asked).status_code == 204


FACES = pytest.mark.parametrize("ask", [by_python, by_http])


def statuses(call, spec, looks):
    """Create a job. Return its id, and its statuses in that many requests."""
    job_id = call("POST", "jobs", json=spec).json()["id"]
    return job_id, [call("GET", f"jobs/{job_id}").json()["executionStatus"] for _ in range(looks)]


@FACES
@pytest.mark.parametrize(
    ("spec", "kind", "seen"),
    [
        (SQL, "complete", ["pending", "running", "completed", "completed"]),
        (S3, "fail", ["pending", "running", "failed", "failed"]),
        ({**STREAMING, "replaceRunning": True}, "complete", ["pending", "running", "running"]),
        (STREAMING, "fail", ["pending", "running", "failed"]),
        (SQL, "hang", ["pending", "running", "running"]),
        (SQL, "flap", ["running", "unknown"] * 3 + ["completed"]),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else str(value)[:20],
)
def test_a_job_that_nothing_runs_changes_its_status_with_each_request(own_polaris, ask, spec, kind, seen):
    polaris, call = own_polaris
    ask(polaris, call, kind=kind, metrics={"numRowsProcessed": 5})
    job_id, statuses_seen = statuses(call, spec, len(seen))
    assert statuses_seen == seen
    assert call("GET", f"jobs/{job_id}/metrics").json() == {"totals": {"numRowsProcessed": 5}}
    if seen[-1] == "completed":
        assert call("GET", "tables/by_sql").json()["totalRows"] == 5
    assert statuses(call, spec, 3)[1] == ["pending"] * 3, "the behaviour is only for the next job"


@FACES
def test_a_job_fails_after_80_percent_of_its_rows(own_polaris, ask, wait_until):
    polaris, call = own_polaris
    ask(polaris, call, kind="fail", at=0.8)
    job_id = call("POST", "jobs", json=TEN_ROWS).json()["id"]
    assert wait_until(lambda: call("GET", f"jobs/{job_id}").json()["executionStatus"] == "failed")
    assert call("GET", f"jobs/{job_id}/metrics").json()["totals"]["numRowsProcessed"] == 8
    assert call("GET", f"jobs/{job_id}/progress").json() == {"overallProgress": 0.8}
    assert call("GET", f"jobs/{job_id}").json()["health"]["code"] == "internal_error"
    assert call("GET", "tables/cities").json()["totalRows"] == 0


def test_a_job_ends_with_the_health_of_its_behaviour(own_polaris, wait_until):
    polaris, call = own_polaris
    polaris.next_job("fail", health={"status": "error", "code": "row_too_large", "message": "Too large"})
    job_id = call("POST", "jobs", json=TEN_ROWS).json()["id"]
    assert wait_until(lambda: call("GET", f"jobs/{job_id}").json()["executionStatus"] == "failed")
    health = call("GET", f"jobs/{job_id}").json()["health"]
    assert (health["code"], health["message"], health["log"]["code"]) == ("row_too_large", "Too large", "row_too_large")
    polaris.next_job("complete", health={"status": "warn", "code": "unable_to_proceed"})
    assert call("GET", f"jobs/{statuses(call, SQL, 3)[0]}").json()["health"]["code"] == "unable_to_proceed"


@FACES
def test_a_job_hangs_until_it_is_canceled(own_polaris, ask, wait_until):
    polaris, call = own_polaris
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
def test_a_job_that_reads_rows_flaps(own_polaris, ask, wait_until):
    polaris, call = own_polaris
    ask(polaris, call, kind="flap")
    job_id, seen = statuses(call, TEN_ROWS, 6)
    assert seen == ["running", "unknown"] * 3
    assert wait_until(lambda: call("GET", f"jobs/{job_id}").json()["executionStatus"] == "completed")


def test_a_behaviour_is_for_one_table_and_a_number_of_jobs(own_polaris):
    polaris, call = own_polaris
    polaris.next_job("complete", times=2, table="by_sql")
    assert statuses(call, S3, 3)[1][-1] == "pending"
    assert [statuses(call, SQL, 3)[1][-1] for _ in range(3)] == ["completed", "completed", "pending"]


def test_a_streaming_job_with_a_behaviour_is_suspended_and_canceled(own_polaris):
    polaris, call = own_polaris
    polaris.next_job("complete")
    job_id, _ = statuses(call, STREAMING, 2)
    for wish, seen in (
        ("suspended", ["suspended"] * 2),
        ("running", ["running"] * 2),
        ("canceled", ["running", "canceled"]),
    ):
        call("POST", f"jobs/{job_id}/status", json={"desiredExecutionStatus": wish})
        assert [call("GET", f"jobs/{job_id}").json()["executionStatus"] for _ in range(2)] == seen


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kind": "explode"}, "A job can"),
        ({"kind": "fail", "at": 1.1}, "at is a share"),
        ({"kind": "fail", "times": 0}, "times must be"),
        ({"kind": "fail", "metrics": {"numRowsProcessed": "5"}}, "metrics must be"),
        ({"kind": "fail", "health": "error"}, "health must be"),
    ],
)
def test_an_invalid_behaviour_is_an_error_in_python(own_polaris, asked, message):
    with pytest.raises(ValueError, match=message):
        by_python(*own_polaris, **asked)
