"""A job keeps its timestamps, and a job that is over stays over."""

from __future__ import annotations

import re

import pytest

from tests.support.local_calls import status_of
from tests.support.specs import SQL, T, rows, spec_of


def test_a_job_gets_its_timestamps_with_nanoseconds_as_it_changes(polaris, call):
    job_id = polaris.add_job()
    names = ("startedTimestamp", "completedTimestamp")
    for status, known in (("pending", []), ("running", names[:1]), ("unknown", names[:1]), ("completed", names)):
        polaris.set_status(job_id, status)
        job = call("GET", f"jobs/{job_id}").json()
        stamps = {name: text for name, text in job.items() if name.endswith("Timestamp")}
        assert [name for name in names if name in stamps] == list(known)
        for text in stamps.values():
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", text)


@pytest.mark.parametrize("status", ["failed", "canceled", "completed"])
def test_only_a_completed_job_has_the_time_of_its_completion(polaris, call, status):
    job_id = polaris.add_job(executionStatus="running")
    polaris.set_status(job_id, status)
    assert ("completedTimestamp" in call("GET", f"jobs/{job_id}").json()) == (status == "completed")


def test_the_time_of_the_last_update_moves_with_the_updates_of_a_user(polaris, call):
    job_id = polaris.add_job(type="streaming")

    def updated():
        return call("GET", f"jobs/{job_id}").json()["lastUpdatedTimestamp"]

    created = updated()
    polaris.set_status(job_id, "running")
    assert updated() == created
    call("POST", f"jobs/{job_id}/status", json={"desiredExecutionStatus": "suspended"})
    suspended = updated()
    call("POST", f"jobs/{job_id}/reset")
    reset = updated()
    call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "canceled"})
    assert created < suspended < reset < updated()


def test_a_flapping_job_stays_over_after_a_refused_update(own_polaris, wait_until):
    polaris, call = own_polaris
    polaris.next_job("flap")
    job_id = call("POST", "jobs", json=spec_of(rows({"timestamp": T}))).json()["id"]
    assert wait_until(lambda: polaris._store.jobs[job_id].status == "completed")
    assert call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "canceled"}).status_code == 400
    assert status_of(call, job_id) == "completed"


def test_a_job_that_a_test_fails_stays_failed_despite_its_behaviour(own_polaris):
    polaris, call = own_polaris
    polaris.next_job("complete")
    job_id = call("POST", "jobs", json=SQL).json()["id"]
    call("PATCH", f"/local/jobs/{job_id}", json={"executionStatus": "failed"})
    assert [status_of(call, job_id) for _ in range(4)] == ["failed"] * 4


def test_a_job_that_a_test_fails_stays_failed_while_a_worker_reads(own_polaris, wait_until):
    polaris, call = own_polaris
    polaris.rows_per_second = 50
    job_id = call("POST", "jobs", json=spec_of(rows(*[{"timestamp": T}] * 40))).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "running")
    polaris.set_status(job_id, "failed")
    assert wait_until(lambda: not polaris._runner._started)
    assert status_of(call, job_id) == "failed"


def test_a_streaming_job_that_is_over_cannot_be_reset(own_polaris):
    polaris, call = own_polaris
    job_id = polaris.add_job(type="streaming", executionStatus="canceled")
    assert call("POST", f"jobs/{job_id}/reset").status_code == 404
