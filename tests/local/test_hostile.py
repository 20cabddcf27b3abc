"""What has once broken the local Polaris, or held it up, and what an over job must never do."""

from __future__ import annotations

import gzip
import json
import socket
import tempfile
import time
from pathlib import Path

import pytest

from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.local.engine.specs import day_bounds, within
from tests.local.conftest import T, caller_of, rows, spec_of, uploaded
from tests.local.test_jobs import SQL, STREAMING
from tests.support.job_specs import SPEC

JSON = {"Content-Type": "application/json"}
DROP = {"type": "drop_table", "target": {"type": "table", "tableName": "cities"}}
DELETE = {**DROP, "type": "delete_data", "deleteAll": True}


@pytest.fixture
def own():
    """A local Polaris of its own, and calls to it."""
    with LocalPolaris() as polaris:
        polaris.add_table("cities")
        yield polaris, caller_of(polaris)


def status_of(call, job_id):
    return call("GET", f"jobs/{job_id}").json()["executionStatus"]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({**SPEC, "target": {**SPEC["target"], "z": 0}}).replace('"z": 0', '"z": 1e999'),
        json.dumps({**SPEC, "note": 0}).replace('"note": 0', '"note": -Infinity'),
        json.dumps({**SPEC, "inputSchema": [0] * 400_000, "mappings": [0] * 100_000}),
        json.dumps({**DELETE, "deleteAll": False, "target": {**DELETE["target"], "intervals": ["a/b"] * 20_000}}),
        json.dumps({"type": "sql", "query": f'INSERT INTO "{"a" * 5_000_000}" '}),
        json.dumps({"type": "sql", "query": '"' * 3_000_000}),
        json.dumps({"type": "sql", "createTableIfNotExists": True, "query": f'INSERT INTO "{"t" * 256}" SELECT 1'}),
        json.dumps({**SPEC, "source": {"type": "table", "tableName": "cities"}, "mappings": [1]}),
        json.dumps({**STREAMING, "mappings": 5}),
    ],
    ids=lambda body: f"{body[:30]}…{body[-30:]}",
)
def test_a_spec_that_once_broke_it_is_a_small_400_soon(own, body):
    _, call = own
    start = time.monotonic()
    answer = call("POST", "jobs", data=body.encode(), headers=JSON)
    assert (answer.status_code, len(answer.content) < 10_000) == (400, True)
    assert time.monotonic() - start < 8
    assert call("GET", "jobs").json()["values"] == [], "what is refused leaves no job behind"


@pytest.mark.parametrize("target", ["foo", {"x": 1}, {"type": "table", "tableName": [1]}, {"tableName": "other"}])
def test_the_target_of_a_query_is_in_the_query(own, target):
    _, call = own
    job = call("POST", "jobs", json={**SQL, "target": target}).json()
    assert job["target"] == {"type": "table", "tableName": "by_sql"}
    assert call("GET", "tables/other").status_code == 404


@pytest.mark.parametrize(
    "text",
    [
        "2021-01-01\ud80010:00:00",
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
def test_an_odd_timestamp_is_one_row_that_is_skipped(own, wait_until, text):
    _, call = own
    spec = spec_of(rows({"timestamp": T}, {"timestamp": text}), ingestionMode="replace", replaceAll=True)
    job_id = call("POST", "jobs", json=spec).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "completed")
    totals = call("GET", f"jobs/{job_id}/metrics").json()["totals"]
    assert (totals["numRowsProcessed"], totals["numRowsSkippedByError"]) == (1, 1)


def test_a_deletion_whose_table_is_gone_ends(own, wait_until):
    polaris, call = own
    polaris.rows_per_second = 100
    for _ in range(2):  # both workers are busy
        call("POST", "jobs", json=spec_of(rows(*[{"timestamp": T}] * 50)))
    ids = [call("POST", "jobs", json=spec).json()["id"] for spec in (DROP, DELETE)]
    assert wait_until(lambda: [status_of(call, job_id) for job_id in ids] == ["completed"] * 2)


def test_deletions_behave_as_asked_too(own, wait_until):
    polaris, call = own
    polaris.next_job("fail")
    job_id = call("POST", "jobs", json=DROP).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "failed")
    polaris.next_job("hang")
    job_id = call("POST", "jobs", json=DELETE).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "running")
    assert call("GET", "tables/cities").status_code == 200


def test_jobs_that_hang_leave_the_workers_to_others(own, wait_until):
    polaris, call = own
    polaris.next_job("hang", times=3)
    for _ in range(3):
        call("POST", "jobs", json=spec_of(rows({"timestamp": T})))
    job_id = call("POST", "jobs", json=spec_of(rows({"timestamp": T}))).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "completed")


class TestWhatIsOverStaysOver:
    def test_though_it_was_to_flap(self, own, wait_until):
        polaris, call = own
        polaris.next_job("flap")
        job_id = call("POST", "jobs", json=spec_of(rows({"timestamp": T}))).json()["id"]
        assert wait_until(lambda: polaris._store.jobs[job_id].status == "completed")
        assert call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "canceled"}).status_code == 400
        assert status_of(call, job_id) == "completed"

    def test_though_it_was_to_become_something_else(self, own):
        polaris, call = own
        polaris.next_job("complete")
        job_id = call("POST", "jobs", json=SQL).json()["id"]
        call("PATCH", f"/local/jobs/{job_id}", json={"executionStatus": "failed"})
        assert [status_of(call, job_id) for _ in range(4)] == ["failed"] * 4

    def test_though_a_worker_reads_for_it(self, own, wait_until):
        polaris, call = own
        polaris.rows_per_second = 50
        job_id = call("POST", "jobs", json=spec_of(rows(*[{"timestamp": T}] * 40))).json()["id"]
        assert wait_until(lambda: status_of(call, job_id) == "running")
        polaris.set_status(job_id, "failed")
        assert wait_until(lambda: not polaris._runner._started)
        assert status_of(call, job_id) == "failed"

    def test_though_it_is_reset(self, own):
        polaris, call = own
        job_id = polaris.add_job(type="streaming", executionStatus="canceled")
        assert call("POST", f"jobs/{job_id}/reset").status_code == 404


@pytest.mark.parametrize("speed", [None, 1000])
def test_a_job_without_a_row_in_sight_is_canceled_and_does_not_keep_it_from_stopping(wait_until, speed):
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


def test_a_list_shows_the_head_of_inline_data_only(own):
    _, call = own
    call("POST", "jobs", json=spec_of(rows(*[{"timestamp": T}] * 1000)))
    (job,) = call("GET", "jobs").json()["values"]
    assert len(job["source"]["data"]) == 1000


def test_a_client_that_hangs_up_before_its_line_is_cut(own, capfd):
    polaris, call = own
    polaris._faults.add(_cut_later())
    host, port = polaris.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as line:
        line.sendall(b"GET /v1/projects/x/jobs HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.4)
    assert call("GET", "jobs").status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def _cut_later():
    from airflow_provider_polaris.local.http.faults import Fault

    return Fault(delay=0.2, cut="before")


def test_a_start_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match=r".*"), LocalPolaris(host="203.0.113.1"):  # no address of this machine
        pass
    wrong = tmp_path / "no-certificate"
    wrong.write_text("x")
    with pytest.raises((RuntimeError, OSError)), LocalPolaris(certfile=str(wrong)):
        pass
    assert list(tmp_path.iterdir()) == [wrong]


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_a_speed_that_is_none(speed):
    with pytest.raises(ValueError, match="rows_per_second"):
        LocalPolaris(rows_per_second=speed)


def test_a_table_with_a_slash_in_its_name(own):
    polaris, call = own
    polaris.add_table("a/b")
    assert call("GET", "tables/a%2Fb").json()["name"] == "a/b"


def test_a_share_of_the_rows_is_exact(own, wait_until):
    polaris, call = own
    polaris.next_job("fail", at=0.55)
    job_id = call("POST", "jobs", json=spec_of(rows(*[{"timestamp": T}] * 100))).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "failed")
    assert call("GET", f"jobs/{job_id}/metrics").json()["totals"]["numRowsProcessed"] == 55


def test_intervals_that_overlap_are_one():
    bounds = day_bounds(
        ["2026-01-04/2026-01-06", "2026-01-01/2026-01-03", "2026-01-02/2026-01-04", "2026-02-01/2026-02-02"]
    )
    assert len(bounds) == 2
    first = bounds[0][0]
    assert [day - first for day in range(first - 1, first + 40) if within(bounds, day)] == [0, 1, 2, 3, 4, 31]


def test_no_folder_is_left():
    with LocalPolaris() as polaris:
        assert caller_of(polaris)("POST", "files", files={"file": ("x", b"")}).status_code == 201
        folder = Path(polaris._store._folder.name)
        assert folder.is_dir()
    assert not folder.exists()
