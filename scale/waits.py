"""The waiting tasks: some that defer for real, and copies of their rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from airflow_provider_polaris.local import LocalPolaris
from scale.processes import PARALLEL_TASKS, STEP_SECONDS, ScaleAirflow
from tests.support.real_airflow import wait_for

DAG_ID = "many_waits"
REAL_RUN, COPIED_RUN = "real", "copied"
CONN_ID = "polaris_stored"
#: A real task needs a core for a few seconds, to defer and to resume.
TASK_SECONDS = 12.0

DAG_FILE = """
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_polaris.sensors.polaris import PolarisJobSensor

plan = json.loads(Path(__file__).with_name("plan.json").read_text())

with DAG("many_waits", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False):
    PolarisJobSensor.partial(
        task_id="gate",
        polaris_conn_id="polaris_stored",
        deferrable=True,
        poke_interval=plan["interval"],
        timeout=7200,
        # A busy scheduler can take the late end of the process that deferred for the end of the resumed process. Then
        # it fails the try. docs/reference/troubleshooting.md gives users the same advice.
        retries=2,
        retry_delay=timedelta(seconds=1),
    ).expand(job_id=plan["job_ids"])
"""
#: Copies the first mapped task of the real run, once for each job, as mapped tasks of one more run.
COPY_WAITS = """
import sys
import uuid

from sqlalchemy import insert, select

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session

RUN, TASK = DagRun.__table__, TaskInstance.__table__
real_run, copied_run, owners, *job_ids = sys.argv[1:]
owners = [int(owner) for owner in owners.split(",")]
with create_session() as session:
    run = dict(session.execute(select(RUN).where(RUN.c.run_id == real_run)).mappings().one())
    one = select(TASK).where(TASK.c.run_id == real_run, TASK.c.state == "deferred", TASK.c.trigger_id.is_not(None))
    task = session.execute(one.limit(1)).mappings().one()
    real = session.get(Trigger, task["trigger_id"])
    last_job = real.kwargs["last_job"]
    own = [{"job_id": job_id, "last_job": {**last_job, "id": job_id}} for job_id in job_ids]
    copies = [Trigger(real.classpath, real.kwargs | kwargs, real.created_date) for kwargs in own]
    for number, copy in enumerate(copies):
        copy.triggerer_id = owners[number % len(owners)]
    session.add_all(copies)
    session.flush()
    del run["id"]
    # A run that is over: the scheduler never starts its tasks.
    session.execute(insert(RUN), [{**run, "run_id": copied_run, "state": "success"}])
    session.execute(
        insert(TASK),
        [
            {**task, "id": uuid.uuid4(), "run_id": copied_run, "map_index": number, "trigger_id": copy.id}
            for number, copy in enumerate(copies)
        ],
    )
"""


@dataclass(frozen=True)
class Owners:
    """Which triggerers own how many waits, and how many waits have no live owner."""

    by_triggerer: dict[int, int]
    without: int


class Waits:
    """The jobs of a local Polaris, and the tasks that wait for some of them.

    :param real: how many tasks defer for real.
    :param copied: how many rows are copied.
    :param others: how many more jobs are active.
    :param interval: the tasks' ``poke_interval``, in seconds.
    """

    def __init__(self, polaris: LocalPolaris, *, real: int, copied: int, others: int, interval: float) -> None:
        self._polaris = polaris
        self.interval = interval

        def active(count: int) -> list[str]:
            return [polaris.add_job(executionStatus="running", metrics={"numRowsProcessed": 7}) for _ in range(count)]

        # The jobs of the waits are the newest: the list shows them on its last page.
        self.others = active(others)
        self.real = active(real)
        self.copied = active(copied)

    @property
    def count(self) -> int:
        """The number of waits."""
        return len(self.real) + len(self.copied)

    @property
    def jobs(self) -> dict[tuple[str, int], str]:
        """The job of each waiting task, by run and map index."""
        runs = ((REAL_RUN, self.real), (COPIED_RUN, self.copied))
        return {(run, number): job_id for run, job_ids in runs for number, job_id in enumerate(job_ids)}

    def plan(self) -> str:
        """Return what the DAG file reads, as JSON."""
        return json.dumps({"interval": self.interval, "job_ids": self.real})

    def defer(self, airflow: ScaleAirflow) -> None:
        """Let the real tasks defer."""
        airflow.run(DAG_ID, REAL_RUN, {})
        wait_for(
            lambda: states(airflow, REAL_RUN) == {"deferred": len(self.real)},
            f"{len(self.real)} tasks to defer",
            lambda: f"they are {states(airflow, REAL_RUN)}",
            seconds=STEP_SECONDS + TASK_SECONDS * len(self.real) / PARALLEL_TASKS,
        )
        # The scheduler starts no task of a paused DAG, so the events stay in the database.
        airflow.execute("update dag set is_paused = true where dag_id = %s", DAG_ID)

    def copy(self, airflow: ScaleAirflow) -> None:
        """Copy a real wait for each further job. Each triggerer gets the same number of copies."""
        # Otherwise a quick triggerer takes most of them, and the other has too few for the list.
        airflow.wait_for_triggerers()
        owners = ",".join(map(str, airflow.live_triggerers()))
        airflow.run_python(COPY_WAITS, REAL_RUN, COPIED_RUN, owners, *self.copied)

    def owners(self, airflow: ScaleAirflow, since: float = 0.0) -> Owners:
        """Return who owns the waits.

        :param since: an owner whose last heartbeat is older, in seconds since the epoch, does not count.
        """
        rows = airflow.query("select triggerer_id, count(*) from trigger group by triggerer_id")
        live = airflow.live_triggerers(since)
        owned = {owner: count for owner, count in rows if owner in live}
        return Owners(owned, self.count - sum(owned.values()))

    def end_all(self) -> None:
        """Complete each job that a task waits for."""
        for job_id in (*self.real, *self.copied):
            self._polaris.set_status(job_id, "completed")

    def events(self, airflow: ScaleAirflow) -> dict[tuple[str, int], dict[str, Any]]:
        """Return the event that each task has got."""
        rows = airflow.query(
            "select run_id, map_index, next_kwargs from task_instance where dag_id = %s and state = 'scheduled'", DAG_ID
        )
        return {(run, number): kwargs["event"] for run, number, kwargs in rows if "event" in (kwargs or {})}

    def resume(self, airflow: ScaleAirflow) -> dict[str, int]:
        """Delete the copies, and let the real tasks resume. Return how they ended."""
        airflow.execute("delete from task_instance where run_id = %s", COPIED_RUN)
        airflow.execute("delete from dag_run where run_id = %s", COPIED_RUN)
        airflow.execute("update dag set is_paused = false where dag_id = %s", DAG_ID)
        ends = {"success", "failed", "upstream_failed", "skipped", "removed"}
        wait_for(
            lambda: set(states(airflow, REAL_RUN)) <= ends,
            "the real tasks to end",
            lambda: f"they are {states(airflow, REAL_RUN)}",
            seconds=STEP_SECONDS + TASK_SECONDS * len(self.real) / PARALLEL_TASKS,
        )
        return states(airflow, REAL_RUN)


def triggers(airflow: ScaleAirflow) -> int:
    """Return how many triggers Airflow has."""
    return int(airflow.query("select count(*) from trigger")[0][0])


def wait_for_events(airflow: ScaleAirflow, count: int) -> float:
    """Wait until so many tasks have their events. Return when the last one was stored, in seconds since the epoch."""
    wait_for(
        lambda: states(airflow) == {"scheduled": count},
        "all tasks to get their events",
        lambda: f"they are {states(airflow)}",
        seconds=STEP_SECONDS,
    )
    rows = airflow.query("select extract(epoch from max(scheduled_dttm)) from task_instance where dag_id = %s", DAG_ID)
    return float(rows[0][0])


def wait_for_no_triggers(airflow: ScaleAirflow) -> None:
    """Wait until Airflow has deleted the triggers that have fired."""
    wait_for(lambda: not triggers(airflow), "Airflow to delete the triggers", seconds=STEP_SECONDS)


def states(airflow: ScaleAirflow, *run_ids: str) -> dict[str, int]:
    """Return how many tasks of the runs are in each state."""
    rows = airflow.query(
        "select coalesce(state, 'none'), count(*) from task_instance where dag_id = %s and run_id = any(%s) group by 1",
        DAG_ID,
        list(run_ids or (REAL_RUN, COPIED_RUN)),
    )
    return dict(rows)
