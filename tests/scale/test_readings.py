"""The readings of `make scale` count what they say: requests, transactions, memory, and lines of logs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.local.http.shell import SeenRequest
from scale.processes import LOG_SERVER
from scale.readings import LogLines, ProcessMemory, Statements, Traffic, fired, growth, of_provider
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.imports import ROOT

LOG = """
triggerer-1|7|LOG:  statement: BEGIN
triggerer-1|7|LOG:  statement: SELECT trigger.id\x20
\tFROM trigger FOR NO KEY UPDATE SKIP LOCKED
triggerer-2|8|LOG:  statement: BEGIN
triggerer-2|8|LOG:  statement: SELECT connection.password\x20
\tFROM connection\x20
\tWHERE connection.conn_id = 'polaris_stored'
triggerer-1|7|LOG:  statement: COMMIT
triggerer-2|8|LOG:  statement: ROLLBACK
triggerer-1|7|LOG:  statement: BEGIN
triggerer-1|7|LOG:  execute <unnamed>: INSERT INTO xcom (key) VALUES ($1)
triggerer-1|7|DETAIL:  Parameters: $1 = 'x'
triggerer-1|7|LOG:  statement: COMMIT
scheduler|9|LOG:  statement: BEGIN
scheduler|9|LOG:  statement: SELECT connection.password FROM connection
scheduler|9|LOG:  statement: COMMIT
"""


def test_the_statements_of_the_triggerers_are_counted_by_transaction():
    assert Statements.from_log(LOG) == Statements(transactions=3, of_triggers=2, connections=1)


def test_real_requests_are_counted_by_kind():
    with LocalPolaris() as polaris:
        active = [polaris.add_job(executionStatus="running", metrics={"numRowsProcessed": 7}) for _ in range(3)]
        base_url = f"{polaris.url}/v1/projects/{polaris.project_id}"
        connection = PolarisConnection(base_url, polaris.project_id, polaris.api_key)
        client = PolarisClient(connection)
        client.list_active(set(active), 0, 2)
        client.list_active(set(active), 2, 2)
        client.list_ended(set(active))
        client.get_job(active[0])
        client.get_job_progress(active[0])
        client.get_job_metrics(active[0])
        client.cancel_job(active[1])
        client.close()
        seen = Traffic([one for one in polaris.requests if one.method == "GET"])
        everything = Traffic(list(polaris.requests))
    assert (len(seen.pages), len(seen.polls), len(seen.ended), seen.reports) == (3, 1, 1, 2)
    assert seen.by_id == {active[0]: 1}
    assert seen.polling == 4
    assert seen.changing == []
    assert [one.split()[0] for one in everything.changing] == ["PUT"]


def test_the_most_requests_in_a_period_are_found():
    times = [0, 1, 9, 10, 11, 12, 30]
    seen = Traffic([SeenRequest("GET", "/v1/projects/p/jobs/j", "", at=at) for at in times])
    assert seen.most_within(5) == 4
    assert Traffic([]).most_within(5) == 0


def test_memory_grows_if_the_last_third_is_larger_than_the_first():
    samples = {"triggerer-1": [100, 101, 99, 104, 108, 108, 109, 140, 110], "triggerer-2": [90, 90, 90]}
    assert growth(samples) == 10


def test_the_memory_of_a_process_contains_what_it_has_allocated():
    before = ProcessMemory.of(psutil.Process())
    block = b"x" * 50_000_000
    after = ProcessMemory.of(psutil.Process())
    assert 45 < after.own - before.own < 60, len(block)
    assert 45 < after.share - before.share < 60


def test_only_whole_new_lines_of_triggerers_and_triggers_are_read(tmp_path):
    trigger = tmp_path / "logs" / "dag_id=d" / "attempt=1.log.trigger.3.log"
    trigger.parent.mkdir(parents=True)
    trigger.write_text("one\ntw")
    (tmp_path / "triggerer-1.log").write_text("three\n")
    (tmp_path / "scheduler.log").write_text("four\n")
    lines = LogLines(tmp_path)
    assert sorted(lines.new()) == ["one", "three"]
    with trigger.open("a") as log:
        log.write("o\n")
    assert lines.new() == ["two"]


def test_the_lines_of_the_provider_are_found_in_both_forms():
    ours = [
        '{"logger":"airflow_provider_polaris.triggers.polaris.PolarisJobTrigger","event":"Job is running"}',
        "2026-11-27T09:04:58Z [info     ] Job is over [airflow_provider_polaris.triggers.polaris.PolarisJobTrigger]",
    ]
    others = ['{"event":"trigger d/r/gate/1/1 (ID 3) starting"}', "2026 [info ] 80 triggers [airflow.jobs]", "[]"]
    assert of_provider(ours + others) == ours


def test_a_second_event_of_a_trigger_is_counted():
    lines = [
        "[info ] Trigger fired event [airflow] name='many/real/gate/3/1 (ID 3)' result=TriggerEvent<{}>",
        '{"event":"Trigger fired event","name":"many/copied/gate/7/1 (ID 9)"}',
        '{"event":"Trigger fired event","name":"many/copied/gate/7/1 (ID 9)"}',
        '{"event":"Trigger fired event","name":"other/copied/gate/7/1 (ID 9)"}',
    ]
    assert fired(lines, "many") == {("real", 3): 1, ("copied", 7): 2}


@pytest.mark.skipif(not AIRFLOW_3, reason="make scale needs Airflow 3")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_run_leaves_no_process_and_names_its_logs(how, tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-m", "scale", "--quick"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + 60
    # The migration of the database runs once PostgreSQL runs.
    while not any("migrate" in one for child in children.values() for one in _command(child)):
        assert time.monotonic() < deadline
        children |= {one.pid: one for one in psutil.Process(run.pid).children(recursive=True)}
        time.sleep(0.2)
    servers = [one for one in psutil.process_iter() if any(str(tmp_path) in part for part in _command(one))]
    assert servers
    run.send_signal(how)
    _, errors = run.communicate(timeout=60)
    assert run.returncode
    folder = Path(errors.strip().rpartition("All logs are in ")[2])
    assert folder.is_dir()
    _, left = psutil.wait_procs([*children.values(), *servers], 30)
    assert left == []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.skipif(not AIRFLOW_3, reason="make scale needs Airflow 3")
def test_airflow_has_this_name_for_its_log_server():
    from airflow.utils.serve_logs import core

    assert LOG_SERVER in Path(core.__file__).read_text()
