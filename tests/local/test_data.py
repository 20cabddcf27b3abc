"""With ``data``, a local Polaris keeps its state over a restart, also if it is killed at any moment."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime, timezone

import pytest
import requests

from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.local.engine.project.journal import FolderInUse, Journal
from tests.support.local_calls import caller_of, status_of
from tests.support.specs import T, event, load_of, stream_into, uploaded

ROW = {"timestamp": T, "city": "Oslo", "count": 1}
OVER = ("completed", "failed", "canceled")


@pytest.fixture
def server(tmp_path):
    """Return a function that starts a local Polaris with the same folder each time."""

    @contextmanager
    def start(**options):
        with LocalPolaris(data=tmp_path / "data", **options) as polaris:
            yield polaris, caller_of(polaris)

    return start


def rows_of(call, table="kept"):
    return call("POST", "query/sql", json={"query": f'SELECT "city", COUNT(*) AS n FROM "{table}" GROUP BY 1'}).json()  # noqa: S608


def run(call, spec, wait_until):
    job = call("POST", "jobs", json=spec).json()
    assert wait_until(lambda: status_of(call, job["id"]) in OVER)
    return job["id"]


def test_everything_that_a_user_has_made_is_there_after_a_restart(server, wait_until):
    paths = ("jobs", "files", "tables", "tables/kept", "tables/other", "connections")
    with server() as (polaris, call):
        first = polaris.project_id, polaris.api_key
        schema = [{"name": "city", "dataType": "string"}]
        assert call("POST", "tables", json={"type": "detail", "name": "kept", "schema": schema}).status_code == 201
        assert call("POST", "files", files={"file": ("rows/a.json", json.dumps(ROW).encode())}).status_code == 201
        assert call("POST", "connections", json={"type": "push_streaming", "name": "clicks"}).status_code == 201
        load = run(call, load_of("kept", ROW, {**ROW, "timestamp": None}, city='"city"'), wait_until)
        assert status_of(call, load) == "failed"
        run(call, load_of("kept", ROW, city='"city"', n='"count"'), wait_until)
        run(call, uploaded("rows/a.json", target={"type": "table", "tableName": "other"}), wait_until)
        run(
            call,
            {"type": "delete_data", "deleteAll": True, "target": {"type": "table", "tableName": "other"}},
            wait_until,
        )
        dropped = load_of("gone", ROW, city='"city"') | {"createTableIfNotExists": True}
        run(call, dropped, wait_until)
        run(call, {"type": "drop_table", "target": {"type": "table", "tableName": "gone"}}, wait_until)
        before = {path: call("GET", path).json() for path in paths}
        details = {
            part: call("GET", f"jobs/{load}/{part}").json() for part in ("status", "metrics", "logs", "progress")
        }
    with server() as (polaris, call):
        assert (polaris.project_id, polaris.api_key) == first
        after = {path: call("GET", path).json() for path in paths}
        port = polaris.url.rpartition(":")[2]
        for connection in before["connections"]["values"]:
            connection["endpointUrl"] = after["connections"]["values"][0]["endpointUrl"]
            assert f":{port}/" in connection["endpointUrl"]
        assert after == before
        assert {part: call("GET", f"jobs/{load}/{part}").json() for part in details} == details
        assert rows_of(call) == [{"city": "Oslo", "n": 1}]
        again = run(call, uploaded("rows/a.json", target={"type": "table", "tableName": "other"}), wait_until)
        assert call("GET", f"jobs/{again}/metrics").json()["totals"]["numRowsPersisted"] == 1
        assert call("DELETE", "files/rows%2Fa.json").status_code == 204
    with server() as (_, call):
        assert call("GET", "files").json()["totalCount"] == 0


def test_without_a_folder_nothing_is_kept(tmp_path, wait_until):
    with LocalPolaris() as polaris:
        run(caller_of(polaris), load_of("kept", ROW, city='"city"') | {"createTableIfNotExists": True}, wait_until)
    with LocalPolaris() as polaris:
        assert caller_of(polaris)("GET", "tables").json() == {"values": []}
    assert list(tmp_path.iterdir()) == []


def test_a_given_project_and_key_win_over_the_kept_ones(server):
    with server(project_id="mine", api_key="pok_mine") as (polaris, _):
        assert (polaris.project_id, polaris.api_key) == ("mine", "pok_mine")
    with server() as (polaris, _):
        assert (polaris.project_id, polaris.api_key) == ("mine", "pok_mine")
        polaris.api_key = "pok_rotated"
    with server(project_id="other") as (polaris, _):
        assert (polaris.project_id, polaris.api_key) == ("other", "pok_rotated")


def test_two_servers_cannot_share_a_folder(server, tmp_path):
    with server(), pytest.raises(FolderInUse, match="uses"), server():
        pass
    with server():
        command = [sys.executable, "-m", "airflow_provider_polaris.local", "--port", "0", "--data", tmp_path / "data"]
        other = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (other.returncode, other.stderr) == (1, f"Another local Polaris uses {tmp_path / 'data'}\n")


def test_a_job_that_had_not_ended_runs_again_from_its_start(server, wait_until):
    rows = [{**ROW, "city": str(n)} for n in range(50)]
    with server(rows_per_second=20) as (_, call):
        call("POST", "tables", json={"type": "detail", "name": "kept"})
        job_id = call("POST", "jobs", json=load_of("kept", *rows, city='"city"')).json()["id"]
        assert wait_until(lambda: call("GET", f"jobs/{job_id}/metrics").json()["totals"])
    with server() as (_, call):
        assert wait_until(lambda: status_of(call, job_id) == "completed")
        assert call("GET", "tables/kept").json()["totalRows"] == 50
        assert call("GET", f"jobs/{job_id}/metrics").json()["totals"]["numRowsPersisted"] == 50


def test_a_stream_goes_on_with_its_counters_and_without_a_gap(server, wait_until):
    today = datetime.now(timezone.utc).isoformat()
    with server() as (_, call):
        call("POST", "connections", json={"type": "push_streaming", "name": "clicks"})
        job_id = call("POST", "jobs", json=stream_into("kept")).json()["id"]
        call("POST", "events/clicks", data=event("Oslo", at=today))
        assert wait_until(lambda: rows_of(call) == [{"city": "Oslo", "n": 1}])
        call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "suspended"})
        call("POST", "events/clicks", data=event("Bern", at=today))
    with server() as (_, call):
        assert status_of(call, job_id) == "suspended"
        call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "running"})
        assert wait_until(lambda: len(rows_of(call)) == 2)
        assert {row["n"] for row in rows_of(call)} == {1}
        assert call("GET", f"jobs/{job_id}/metrics").json()["totals"]["numRowsProcessed"] == 2


def test_a_job_of_a_script_keeps_its_status_and_its_rows(server):
    with server() as (polaris, call):
        job_id = polaris.add_job(metrics={"numRowsPersisted": 7}, target={"type": "table", "tableName": "kept"})
        other = polaris.add_job(executionStatus="running")
        polaris.set_status(job_id, "completed")
        polaris.remove_job(polaris.add_job())
        call("PUT", f"jobs/{other}", json={"desiredExecutionStatus": "canceled"})
    with server() as (_, call):
        assert [job["id"] for job in call("GET", "jobs").json()["values"]] == [other, job_id]
        assert (status_of(call, job_id), call("GET", "tables/kept").json()["totalRows"]) == ("completed", 7)
        assert status_of(call, other) == "canceled"


@pytest.mark.parametrize("kind", ["batch", "delete_data", "streaming"])
def test_a_job_whose_end_cannot_be_written_fails_and_changes_nothing(server, wait_until, monkeypatch, kind):
    with server() as (_, call):
        call("POST", "connections", json={"type": "push_streaming", "name": "clicks"})
        call("POST", "tables", json={"type": "detail", "name": "kept"})
        run(call, load_of("kept", ROW, city='"city"'), wait_until)
        write = Journal.write

        def full(self, records, cursor=None):
            if cursor is not None:
                raise OSError("No space left on device")
            write(self, records)

        spec = {
            "batch": load_of("kept", {**ROW, "city": "Bern"}, city='"city"', n='"count"'),
            "delete_data": {"type": "delete_data", "deleteAll": True, "target": {"type": "table", "tableName": "kept"}},
            "streaming": stream_into("kept"),
        }[kind]
        before = call("GET", "tables/kept").json()
        monkeypatch.setattr(Journal, "write", full)
        job = call("POST", "jobs", json=spec).json()
        call("POST", "events/clicks", data=event("Bern", at=datetime.now(timezone.utc).isoformat()))
        assert wait_until(lambda: status_of(call, job["id"]) == "failed")
        assert call("GET", f"jobs/{job['id']}").json()["health"]["message"] == "OSError: No space left on device"
        assert (call("GET", "tables/kept").json(), rows_of(call)) == (before, [{"city": "Oslo", "n": 1}])
    monkeypatch.undo()
    with server() as (_, call):
        assert (call("GET", "tables/kept").json(), rows_of(call)) == (before, [{"city": "Oslo", "n": 1}])


def test_files_that_belong_to_nothing_are_removed(server, tmp_path):
    with server() as (_, call):
        call("POST", "files", files={"file": ("a.json", b"{}")})
        call("POST", "connections", json={"type": "push_streaming", "name": "clicks"})
        call("POST", "events/clicks", data=event())
    events = next((tmp_path / "data" / "events").iterdir())
    whole = events.read_bytes()
    events.write_bytes(whole + b'{"cut of')
    for folder in ("files", "events", "statements"):
        (tmp_path / "data" / folder / "left-over").write_bytes(b"x")
    with server() as (_, call):
        assert call("GET", "files").json()["totalCount"] == 1
    kept = {folder: len([*(tmp_path / "data" / folder).iterdir()]) for folder in ("files", "events", "statements")}
    assert (kept, events.read_bytes()) == ({"files": 1, "events": 1, "statements": 0}, whole)
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


class Victim:
    """A local Polaris in a process of its own, which is killed and started again."""

    def __init__(self, folder):
        command = [sys.executable, "-m", "airflow_provider_polaris.local", "--port", "0", "--available-after", "0"]
        self.process = subprocess.Popen([*command, "--data", folder], stdout=subprocess.PIPE, text=True)
        lines = dict(line.strip().split(None, 1) for line in itertools.islice(self.process.stdout, 1))
        rest = [self.process.stdout.readline() for _ in range(2)]
        self.base = f"{lines['URL']}/v1/projects/{rest[1].split()[-1]}/"
        self.key = rest[0].split()[-1]
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Basic {self.key}"

    def call(self, method, path, **options):
        return self.session.request(method, self.base + path, timeout=20, **options)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_a_server_that_is_killed_at_any_moment_keeps_each_job_and_loads_it_once(tmp_path, wait_until):
    chance = random.Random(15)  # noqa: S311 - not for a secret
    created, pushed, names = [], [], itertools.count()
    today = datetime.now(timezone.utc).isoformat()
    victim = Victim(tmp_path)
    for method, path, body in (
        ("POST", "tables", {"type": "detail", "name": "kept"}),
        ("POST", "connections", {"type": "push_streaming", "name": "clicks"}),
        ("POST", "jobs", stream_into("streamed")),
    ):
        assert victim.call(method, path, json=body).status_code == 201
    for _ in range(8):
        deadline = time.monotonic() + chance.uniform(0.05, 0.6)
        while time.monotonic() < deadline:
            name = f"row-{next(names)}"
            job = victim.call("POST", "jobs", json=load_of("kept", {**ROW, "city": name}, city='"city"'))
            assert job.status_code == 201
            created.append((job.json()["id"], name))
            name = f"event-{next(names)}"
            assert victim.call("POST", "events/clicks", data=event(name, at=today)).status_code == 200
            pushed.append(name)
        completed = {job["id"] for job in victim.call("GET", "jobs?executionStatus=completed").json()["values"]}
        victim.kill()
        victim = Victim(tmp_path)
        listed = {}
        while True:
            page = victim.call("GET", f"jobs?paginationLimit=1000&paginationOffset={len(listed)}").json()
            listed |= {job["id"]: job["executionStatus"] for job in page["values"]}
            if not page["moreResultsAvailable"]:
                break
        assert {job_id for job_id, _ in created} <= listed.keys()
        assert all(listed[job_id] == "completed" for job_id in completed)
    try:
        for table, expected in (("kept", [name for _, name in created]), ("streamed", pushed)):
            found = sorted((row["city"], row["n"]) for row in _settled(victim, table, len(expected), wait_until))
            assert found == sorted((name, 1) for name in expected)
            assert victim.call("GET", f"tables/{table}").json()["totalRows"] == len(expected)
        assert all(status_of(victim.call, job_id) == "completed" for job_id, _ in created)
    finally:
        victim.kill()


def _settled(victim, table, count, wait_until):
    """Return the rows of a table as soon as it has enough of them."""
    assert wait_until(lambda: len(rows_of(victim.call, table)) >= count)
    return rows_of(victim.call, table)


def test_no_query_reads_the_state(server):
    with server() as (polaris, call):
        for text in ('SELECT * FROM "state"', "SELECT * FROM state", "SELECT * FROM main.state"):
            answer = call("POST", "query/sql", json={"query": text})
            assert (answer.status_code, polaris.api_key in answer.text) == (400, False)
