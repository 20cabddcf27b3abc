"""Jobs read rows on two workers, and can be canceled at any time."""

from __future__ import annotations

import gzip
import time

import pytest

from airflow_provider_polaris.local import LocalPolaris
from tests.support.local_calls import caller_of, status_of
from tests.support.specs import DELETE, DROP, T, rows, spec_of, uploaded


def test_a_job_is_canceled_while_it_reads_rows(wait_until):
    with LocalPolaris(rows_per_second=100) as slow:
        call = caller_of(slow)
        spec = spec_of(rows(*[{"timestamp": T}] * 5000))
        job = f"jobs/{call('POST', 'jobs', json=spec).json()['id']}"

        def look(path=""):
            return call("GET", job + path).json()

        assert wait_until(lambda: look()["executionStatus"] == "running")
        assert wait_until(lambda: 0 < look("/progress")["overallProgress"] < 1)
        assert look("/metrics")["totals"]["numRowsProcessed"] > 0
        answer = call("PUT", job, json={"desiredExecutionStatus": "canceled"}).json()
        assert (answer["desiredExecutionStatus"], answer["executionStatus"]) == ("canceled", "running")
        assert wait_until(lambda: look()["executionStatus"] == "canceled")
        assert look()["health"]["code"] == "canceled"
        assert look("/metrics")["totals"]["numRowsProcessed"] < 5000


def test_a_slow_job_does_not_delay_the_end_of_the_server(wait_until):
    with LocalPolaris(rows_per_second=10) as slow:
        call = caller_of(slow)
        call("POST", "jobs", json=spec_of(rows(*[{"timestamp": T}] * 5000)))
        assert wait_until(lambda: "startedTimestamp" in call("GET", "jobs").json()["values"][0])
        start = time.monotonic()
    assert time.monotonic() - start < 100, "reading on to the end takes 500 s"


@pytest.mark.parametrize(
    "text",
    [
        "now",
        "P99999999999D",
        "2020-01-01/P99999999D",
        "2020-01-01/PT",
        "1\x00",
        "2020-01-01T00:00:00+24:00",
        "P9999999999999999999999Y",
        "9" * 5000,
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_a_row_with_an_odd_timestamp_fails_the_job(own_polaris, wait_until, text):
    _, call = own_polaris
    spec = spec_of(rows({"timestamp": T}, {"timestamp": text}), ingestionMode="replace", replaceAll=True)
    job_id = call("POST", "jobs", json=spec).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "failed")
    assert call("GET", f"jobs/{job_id}").json()["health"]["code"] == "null_timestamp"


def test_a_deletion_completes_if_its_table_is_gone(own_polaris, wait_until):
    polaris, call = own_polaris
    polaris.rows_per_second = 100
    for _ in range(2):  # both workers are busy
        call("POST", "jobs", json=spec_of(rows(*[{"timestamp": T}] * 50)))
    ids = [call("POST", "jobs", json=spec).json()["id"] for spec in (DROP, DELETE)]
    assert wait_until(lambda: [status_of(call, job_id) for job_id in ids] == ["completed"] * 2)


@pytest.mark.parametrize("speed", [None, 1000])
def test_a_file_of_blank_lines_delays_neither_a_cancellation_nor_the_end_of_the_server(wait_until, speed):
    with LocalPolaris(rows_per_second=speed) as polaris:
        call = caller_of(polaris)
        blank = gzip.compress(b"\n" * 100_000_000, compresslevel=1)
        call("POST", "files", files={"file": ("blank.json.gz", blank * 20)})
        job_id = call("POST", "jobs", json=uploaded("blank.json.gz")).json()["id"]
        assert wait_until(lambda: status_of(call, job_id) == "running")
        call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "canceled"})
        assert wait_until(lambda: status_of(call, job_id) == "canceled")
        call("POST", "jobs", json=uploaded("blank.json.gz"))
        start = time.monotonic()
    assert time.monotonic() - start < 30, "reading on to the end takes minutes"


def test_a_fault_of_the_local_polaris_itself_fails_the_job(own_polaris, wait_until, monkeypatch):
    def fail(*_):
        raise RuntimeError("a fault")

    monkeypatch.setattr("airflow_provider_polaris.local.engine.jobs.runner.Runner._load", fail)
    _, call = own_polaris
    job_id = call("POST", "jobs", json=spec_of(rows({"timestamp": T}))).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "failed")
    health = call("GET", f"jobs/{job_id}").json()["health"]
    assert (health["code"], health["message"]) == ("internal_error", "RuntimeError: a fault")
