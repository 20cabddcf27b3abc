"""The create operator on Celery workers: what each kill does to its job, row by row of docs/reference/kills.md."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_polaris.local import LocalPolaris
from scale.celery_workers import CeleryAirflow
from scale.processes import STEP_SECONDS, require
from tests.support.real_airflow import wait_for

CONN_ID = "polaris_stored"
MODES = ("worker", "deferred")
#: The timeout of a request. A retry waits for it: a request may still be on its way.
REQUEST_SECONDS = 5
#: How long a task must keep running after a warm shutdown has begun.
WARM_SECONDS = 5.0

DAG_FILE = """
from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG

from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator

for mode in ("worker", "deferred"):
    with DAG(f"load_{mode}", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False):
        PolarisCreateJobOperator(
            task_id="load",
            polaris_conn_id="polaris_stored",
            deferrable=mode == "deferred",
            poll_interval=1,
            timeout=3600,
            retries=5,
            retry_delay=timedelta(seconds=1),
            job_spec={
                "type": "sql",
                "createTableIfNotExists": True,
                "query": 'INSERT INTO "{{ run_id }}" SELECT 1 PARTITIONED BY ALL',
                "target": {"type": "table", "tableName": "{{ run_id }}"},
            },
        )
"""


@dataclass(frozen=True)
class Row:
    """What a kill did to one load.

    :param event: what happened.
    :param mode: where the task waited.
    :param jobs: the statuses of the jobs that the load has created, as found.
    :param state: the state of the task in the end; empty if the run was deleted.
    :param expected: the same two, as the documentation says.
    """

    event: str
    mode: str
    jobs: tuple[str, ...]
    state: str
    expected: tuple[tuple[str, ...], str]

    @property
    def is_right(self) -> bool:
        """Whether the documentation is right."""
        return (self.jobs, self.state) == self.expected

    def __str__(self) -> str:
        return f"| {self.event} | {self.mode} | {', '.join(self.jobs)} | {self.state or 'deleted'} |"


def table(rows: Iterable[Row]) -> str:
    """Return the rows in Markdown."""
    return "\n".join(["| event | the task waits | its jobs | the task |", "| --- | --- | --- | --- |", *map(str, rows)])


def faults_of(rows: Iterable[Row]) -> list[str]:
    """Return the rows that differ from the documentation."""
    return [f"{row.event}, {row.mode}: {asdict(row)}" for row in rows if not row.is_right]


def run(home: Path, progress: Callable[[str], None]) -> list[Row]:
    """Run all kills in an empty folder. Nothing runs on after the end.

    :raises AssertionError: if a step does not end in time.
    """
    dags = home / "dags"
    dags.mkdir()
    (dags / "loads.py").write_text(DAG_FILE)
    with LocalPolaris() as polaris:
        connection = json.loads(polaris.connection_json)
        connection["extra"]["timeout"] = REQUEST_SECONDS
        airflow = CeleryAirflow(home, dags, silence=20)
        try:
            progress("starting PostgreSQL, Redis, API server, DAG processor, scheduler, triggerers and two workers")
            airflow.start_all(**{CONN_ID: json.dumps(connection)})
            return Kills(airflow, polaris, progress).run()
        finally:
            airflow.stop_all()


class Kills:
    """The kills on a running Airflow. Each row has a run of its own, whose job hangs."""

    def __init__(self, airflow: CeleryAirflow, polaris: LocalPolaris, progress: Callable[[str], None]) -> None:
        self._airflow = airflow
        self._polaris = polaris
        self._progress = progress
        self._rows: list[Row] = []

    def run(self) -> list[Row]:
        """Run the kills one after another."""
        self._users_kills()
        self._task_process()
        self._worker_tree()
        self._warm_shutdown()
        return self._rows

    def _users_kills(self) -> None:
        """Clear, mark failed, and delete the run: the job is canceled."""
        for mode in MODES:
            self._start("clear", mode)
            self._start("mark_failed", mode)
            self._start("delete", mode)
        for mode in MODES:
            for event in ("clear", "mark_failed", "delete"):
                self._wait_for_wait(event, mode)
        for mode in MODES:
            self._progress(f"clear, mark failed and deletion of the run: {mode}")
            self._clear(mode)
            self._airflow.mark_failed(_dag(mode), _run("mark_failed", mode), "load")
            self._row("marked failed", "mark_failed", mode, ["canceled"], "failed")
            self._delete(mode)

    def _clear(self, mode: str) -> None:
        run_id = _run("clear", mode)
        self._polaris.next_job("complete", table=run_id)
        # A next try that starts before the cancellation continues with the job, as documented. It does not start here.
        self._airflow.execute("update slot_pool set slots = 0")
        try:
            self._airflow.clear(_dag(mode), run_id, "load")
            wait_for(lambda: self._is_canceled(run_id), f"the job of {run_id} to be canceled", seconds=STEP_SECONDS)
        finally:
            self._airflow.execute("update slot_pool set slots = 128")
        self._row("cleared", "clear", mode, ["canceled", "completed"], "success")

    def _delete(self, mode: str) -> None:
        run_id = _run("delete", mode)
        path = f"dags/{_dag(mode)}/dagRuns/{run_id}"
        # Airflow 3.3 does not delete a run that is running.
        self._airflow.api("PATCH", path, {"state": "failed"})
        self._airflow.api("DELETE", path)
        self._row("run marked failed, and deleted at once", "delete", mode, ["canceled"], "")

    def _task_process(self) -> None:
        """Kill the process of a task when its spec has arrived, and while the task waits: one job, and a retry."""
        self._progress("kill -9 of task processes")
        for mode in MODES:
            self._start("kill_sending", mode)
            self._kill_when_the_spec_arrives(_run("kill_sending", mode))
            self._complete("kill -9 of the task's process when its spec has arrived", "kill_sending", mode)
        self._start("kill_waiting", "worker")
        self._wait_for_wait("kill_waiting", "worker")
        run_id = _run("kill_waiting", "worker")
        os.kill(self._airflow.pid_of(run_id, "load"), signal.SIGKILL)
        self._wait_for_second_try(run_id)
        self._complete("kill -9 of the task's process while it waits", "kill_waiting", "worker")

    def _kill_when_the_spec_arrives(self, run_id: str) -> None:
        """Kill the process of a task right after Polaris has created its job."""
        has_pid = "select 1 from task_instance where run_id = %s and pid is not null"
        wait_for(lambda: self._airflow.query(has_pid, run_id), f"{run_id} to start", seconds=STEP_SECONDS)
        pid = self._airflow.pid_of(run_id, "load")
        deadline = time.monotonic() + STEP_SECONDS
        while not self._jobs(run_id):
            require(time.monotonic() < deadline, f"{run_id} has sent no spec")
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        self._wait_for_second_try(run_id)

    def _wait_for_second_try(self, run_id: str) -> None:
        wait_for(lambda: self._tries(run_id) > 1, f"a second try of {run_id}", seconds=STEP_SECONDS)

    def _worker_tree(self) -> None:
        """Kill a worker with all its tasks: the job and a deferred wait continue."""
        for mode in MODES:
            self._start("kill_tree", mode)
        for mode in MODES:
            self._wait_for_wait("kill_tree", mode)
        run_id = _run("kill_tree", "worker")
        name = self._airflow.worker_of(self._airflow.pid_of(run_id, "load"))
        self._progress(f"kill -9 of {name} and its children")
        self._airflow.kill_tree(name)
        self._wait_for_second_try(run_id)
        for mode in MODES:
            self._complete("kill -9 of the worker and its tasks", "kill_tree", mode)
        self._airflow.start_named(name)
        self._airflow.wait_for_worker(name)

    def _warm_shutdown(self) -> None:
        """Stop a worker as Celery recommends: its task runs to its end."""
        for mode in MODES:
            self._start("warm", mode)
        for mode in MODES:
            self._wait_for_wait("warm", mode)
        pid = self._airflow.pid_of(_run("warm", "worker"), "load")
        name = self._airflow.worker_of(pid)
        self._progress(f"SIGTERM of {name}: a warm shutdown")
        worker = self._airflow.processes.pop(name)
        worker.terminate()
        time.sleep(WARM_SECONDS)
        require(psutil.pid_exists(pid), "the task has ended with its worker")
        for mode in MODES:
            self._complete("warm shutdown of the worker", "warm", mode)
        worker.wait(STEP_SECONDS)
        require(self._tries(_run("warm", "worker")) == 1, "the task has run again")

    def _start(self, event: str, mode: str) -> None:
        run_id = _run(event, mode)
        self._polaris.next_job("hang", table=run_id)
        self._airflow.run(_dag(mode), run_id, {})

    def _wait_for_wait(self, event: str, mode: str) -> None:
        """Wait until the task waits for its job."""
        run_id = _run(event, mode)
        state = "deferred" if mode == "deferred" else "running"
        wait_for(
            lambda: self._airflow.state(run_id, "load") == state and self._polls(run_id) > 2,
            f"{run_id} to wait",
            lambda: f"it is {self._airflow.state(run_id, 'load')}, and its jobs are {self._jobs(run_id)}",
            seconds=STEP_SECONDS,
        )

    def _complete(self, event: str, name: str, mode: str) -> None:
        """Complete the one job of a load. Add the row."""
        run_id = _run(name, mode)
        wait_for(lambda: self._jobs(run_id), f"the job of {run_id}", seconds=STEP_SECONDS)
        self._polaris.set_status(self._jobs(run_id)[0]["id"], "completed")
        self._row(event, name, mode, ["completed"], "success")

    def _row(self, event: str, name: str, mode: str, jobs: list[str], state: str) -> None:
        """Wait until a load has ended as documented, or for so long that it never will. Add the row."""
        run_id = _run(name, mode)
        expected = (tuple(jobs), state)

        def found() -> tuple[tuple[str, ...], str]:
            return tuple(map(_status, self._jobs(run_id))), self._state(run_id)

        try:
            wait_for(lambda: found() == expected, run_id, seconds=STEP_SECONDS)
        except AssertionError:
            self._progress(f"{run_id} is {found()}, and {expected} is documented")
        self._rows.append(Row(event, mode, *found(), expected))

    def _state(self, run_id: str) -> str:
        return self._airflow.state(run_id, "load") or ""

    def _tries(self, run_id: str) -> int:
        rows = self._airflow.query("select try_number from task_instance where run_id = %s", run_id)
        return int(rows[0][0]) if rows else 0

    def _jobs(self, run_id: str) -> list[dict[str, Any]]:
        """Return the jobs that were created for a run, the oldest first."""
        jobs = list(self._polaris._store.jobs.values())
        return [job.body for job in jobs if job.body["target"]["tableName"] == run_id]

    def _is_canceled(self, run_id: str) -> bool:
        return {job["desiredExecutionStatus"] for job in self._jobs(run_id)} == {"canceled"}

    def _polls(self, run_id: str) -> int:
        ids = {job["id"] for job in self._jobs(run_id)}
        return sum(seen.path.rpartition("/")[2] in ids for seen in list(self._polaris.requests))


def _status(job: dict[str, Any]) -> str:
    """Return the status of a job, or ``canceled`` if Polaris has accepted its cancellation."""
    wanted = job["desiredExecutionStatus"]
    return str("canceled" if wanted == "canceled" else job["executionStatus"])


def _dag(mode: str) -> str:
    return f"load_{mode}"


def _run(event: str, mode: str) -> str:
    return f"{event}_{mode}"
