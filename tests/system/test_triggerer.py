"""Waits end as they should when a triggerer stops, users clear or mark waiting tasks, and a key is rotated."""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter

import psutil
import pytest

from airflow_provider_polaris.local import LocalPolaris
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.local_calls import connection_without_page
from tests.support.real_airflow import running_airflow, wait_for

DAG_FILE = """
from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import DAG
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:
    from airflow import DAG
    from airflow.operators.empty import EmptyOperator

from airflow_provider_polaris.sensors.polaris import PolarisJobSensor

with DAG("waits", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False):
    gate = PolarisJobSensor(
        task_id="gate",
        job_id="{{ dag_run.conf['job_id'] }}",
        polaris_conn_id="polaris_stored",
        deferrable=True,
        poke_interval=1,
        timeout=300,
        # A busy scheduler can take the late end of the process that deferred for the end of the resumed process. Then
        # it fails the try. docs/reference/troubleshooting.md gives users the same advice.
        retries=1,
        retry_delay=timedelta(seconds=1),
    )
    gate >> EmptyOperator(task_id="after")
"""
#: Copies a run whose task waits, once for each job. Real runs would take minutes.
COPY_A_WAIT = """
import sys
import uuid

from sqlalchemy import insert, select

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session

RUN, TASK = DagRun.__table__, TaskInstance.__table__
run_id, *job_ids = sys.argv[1:]
with create_session() as session:
    run = session.execute(select(RUN).where(RUN.c.run_id == run_id)).mappings().one()
    task = session.execute(select(TASK).where(TASK.c.run_id == run_id, TASK.c.task_id == "gate")).mappings().one()
    real = session.get(Trigger, task["trigger_id"])
    last_job = real.kwargs["last_job"]
    own = [{"job_id": job_id, "last_job": {**last_job, "id": job_id}} for job_id in job_ids]
    copies = [Trigger(real.classpath, real.kwargs | kwargs, real.created_date) for kwargs in own]
    session.add_all(copies)
    session.flush()
    names = [f"copy_{job_id}" for job_id in job_ids]
    # The scheduler also examines the running runs of a paused DAG, while the test deletes the copies.
    ended = {**run, "state": "success"}
    runs = [{**ended, "run_id": name, "conf": {"job_id": job_id}} for name, job_id in zip(names, job_ids)]
    for row in runs:
        del row["id"]
    session.execute(insert(RUN), runs)
    session.execute(
        insert(TASK),
        [{**task, "id": uuid.uuid4(), "run_id": name, "trigger_id": copy.id} for name, copy in zip(names, copies)],
    )
"""
#: The task of the real run and its copies.
WAITS = "(run_id = 'hundreds' or run_id like 'copy_%') and task_id = 'gate'"
only_3 = pytest.mark.skipif(not AIRFLOW_3, reason="the test uses the API of 3.x")


@pytest.fixture(scope="module")
def polaris():
    with LocalPolaris() as polaris:
        yield polaris


@pytest.fixture(scope="module")
def airflow(polaris, tmp_path_factory):
    home, connection = tmp_path_factory.mktemp("airflow"), connection_without_page(polaris)
    with running_airflow(home, DAG_FILE, polaris_stored=connection) as airflow:
        yield airflow


@pytest.fixture
def job_id(polaris):
    polaris.requests.clear()
    return polaris.add_job(executionStatus="running", metrics={"numRowsProcessed": 7})


def polls_of(polaris, job_id):
    return sum(request.path.endswith(job_id) for request in polaris.requests)


def wait_until_the_triggerer_polls(airflow, polaris, run_id, job_id):
    airflow.wait_for_state(run_id, "deferred")
    before = polls_of(polaris, job_id)
    wait_for(lambda: polls_of(polaris, job_id) >= before + 3, "the triggerer to poll")


def nothing_was_canceled(polaris):
    return {request.method for request in polaris.requests} == {"GET"}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_wait_continues_after_the_triggerer_ends(airflow, polaris, job_id, how):
    run_id, refused = f"outlives_{how.name}", f"refused_{how.name}"
    bad_job = polaris.add_job(executionStatus="running")
    airflow.run("waits", refused, {"job_id": bad_job})
    airflow.run("waits", run_id, {"job_id": job_id})
    wait_until_the_triggerer_polls(airflow, polaris, refused, bad_job)
    wait_until_the_triggerer_polls(airflow, polaris, run_id, job_id)
    airflow.stop("triggerer", how)
    polled = polls_of(polaris, job_id)
    polaris.set_status(job_id, "completed")
    polaris.set_status(bad_job, "failed", health={"status": "error", "code": "row_too_large"})
    assert airflow.state(run_id) == airflow.state(refused) == "deferred"
    airflow.start("triggerer")
    airflow.assert_ends(run_id, "success")
    airflow.assert_ends(refused, "failed")
    assert airflow.wait_for_state(run_id, "success", "failed", "skipped", task_id="after") == "success"
    assert airflow.wait_for_state(refused, "success", "upstream_failed", task_id="after") == "upstream_failed"
    (tries,) = airflow.query("select try_number from task_instance where run_id = %s and task_id = 'gate'", run_id)
    polls = polls_of(polaris, job_id) - polled
    assert polls == 1 or tries[0] > 1, "one poll found the job over; only its counters were requested after that"
    assert nothing_was_canceled(polaris)
    rows = airflow.query("select key from xcom where run_id = %s and task_id = 'gate' order by key", run_id)
    assert [key for (key,) in rows if not key.startswith("_")] == ["metrics", "return_value"]


def test_a_triggerer_that_is_stopped_does_not_wait_for_a_request_that_hangs(airflow, polaris, job_id):
    airflow.run("waits", "hanging", {"job_id": job_id})
    wait_until_the_triggerer_polls(airflow, polaris, "hanging", job_id)
    polaris.hang_next(10**6)
    polled = polls_of(polaris, job_id)
    wait_for(lambda: polls_of(polaris, job_id) > polled, "a request that hangs")
    triggerer = airflow.processes.pop("triggerer")
    children = psutil.Process(triggerer.pid).children(recursive=True)
    began = time.monotonic()
    triggerer.terminate()
    triggerer.wait(60)
    psutil.wait_procs(children, 60)
    took = time.monotonic() - began
    polaris.clear_faults()
    polaris.set_status(job_id, "completed")
    airflow.start("triggerer")
    airflow.assert_ends("hanging", "success")
    # The stop takes a second on a quiet machine, and 15 s with all cores busy. The request would take 30 s.
    assert took < 25


@only_3
def test_a_clear_of_a_waiting_sensor_does_not_cancel_the_job(airflow, polaris, job_id):
    airflow.run("waits", "cleared", {"job_id": job_id})
    wait_until_the_triggerer_polls(airflow, polaris, "cleared", job_id)
    (first,) = airflow.query("select id from task_instance where run_id = 'cleared' and task_id = 'gate'")
    airflow.clear("waits", "cleared", "gate")
    wait_for(
        lambda: airflow.query("select id from task_instance where run_id = 'cleared' and task_id = 'gate'") != [first],
        "a second try",
    )
    wait_until_the_triggerer_polls(airflow, polaris, "cleared", job_id)
    assert nothing_was_canceled(polaris)
    polaris.set_status(job_id, "completed")
    airflow.assert_ends("cleared", "success")


@only_3
def test_a_waiting_sensor_that_a_user_marks_failed_does_not_cancel_the_job(airflow, polaris, job_id):
    airflow.run("waits", "marked", {"job_id": job_id})
    wait_until_the_triggerer_polls(airflow, polaris, "marked", job_id)
    airflow.mark_failed("waits", "marked", "gate")
    airflow.wait_for_state("marked", "failed")
    seen: list[int] = []

    def is_quiet():
        seen.append(polls_of(polaris, job_id))
        return len(set(seen[-25:])) == 1 and len(seen) >= 25  # 25 checks in 5 s, at one poll per second

    wait_for(is_quiet, "the triggerer to stop polling")
    assert nothing_was_canceled(polaris)


@only_3
def test_a_wait_continues_after_its_key_is_rotated_in_the_database(airflow, polaris, job_id):
    airflow.run("waits", "rotated", {"job_id": job_id})
    wait_until_the_triggerer_polls(airflow, polaris, "rotated", job_id)
    polaris.api_key = "pok_rotated_in_mid_wait"
    refused = polls_of(polaris, job_id)
    wait_for(lambda: polls_of(polaris, job_id) > refused + 1, "polls that are rejected")
    assert airflow.state("rotated") == "deferred", "a wait that has worked tolerates a 401 for a while"
    connection = json.loads(polaris.connection_json)
    airflow.api(
        "PATCH",
        "connections/polaris_stored?update_mask=password",
        {"connection_id": "polaris_stored", "conn_type": "imply_polaris", "password": connection["password"]},
    )
    polaris.set_status(job_id, "completed")
    airflow.assert_ends("rotated", "success")


@pytest.fixture
def hundreds(airflow, polaris, job_id):
    """The ids of 300 jobs that tasks wait for: one real run, and copies of it."""
    airflow.run("waits", "hundreds", {"job_id": job_id})
    airflow.wait_for_state("hundreds", "deferred")
    others = [polaris.add_job(executionStatus="running") for _ in range(299)]
    # The scheduler starts no task of a paused DAG, so the test can read the stored events.
    airflow.execute("update dag set is_paused = true where dag_id = 'waits'")
    try:
        airflow.run_python(COPY_A_WAIT, "hundreds", *others)
        yield [job_id, *others]
    finally:
        for table in ("task_instance", "dag_run"):
            airflow.execute(f"delete from {table} where run_id like 'copy_%'")  # noqa: S608
        airflow.execute("update dag set is_paused = false where dag_id = 'waits'")
        polaris.set_status(job_id, "completed")
    airflow.assert_ends("hundreds", "success")


def list_polls(polaris):
    return sum(request.path.endswith("/jobs") for request in polaris.requests)


def wait_for_list_polls(airflow, polaris, waits, more):
    """Wait until the newest triggerer has all waits and polls."""
    newest = "select max(id) from job where job_type = 'TriggererJob'"

    def its_waits():
        return airflow.query(f"select count(*) from trigger where triggerer_id = ({newest})")[0][0]  # noqa: S608

    wait_for(lambda: its_waits() == waits, "the triggerer to take all waits", lambda: f"it has {its_waits()}")
    before = list_polls(polaris)
    wait_for(lambda: list_polls(polaris) >= before + more, "the triggerer to poll by list")


def requests_by_id(polaris):
    ids = Counter(request.path.rpartition("/")[2] for request in polaris.requests)
    del ids["jobs"]
    return ids


def events_logged(airflow, run_ids):
    """Count the events that the triggers of the runs have fired, in both triggerers."""
    # Airflow closes a trigger's log at the trigger's end. Later lines are in the log of the triggerer.
    paths = [airflow.home / "triggerer.log", *airflow.home.glob("logs/dag_id=waits/*/task_id=gate/*.trigger.*")]
    fired = Counter()
    for path in paths:
        fired.update(re.findall(r"Trigger fired event.*?\bwaits/([^/]+)/gate/", path.read_text()))
    return {run_id: fired[run_id] for run_id in run_ids}


@only_3
def test_hundreds_of_waits_continue_after_a_killed_triggerer_with_few_requests(airflow, polaris, hundreds):
    wait_for_list_polls(airflow, polaris, 300, more=1)
    airflow.stop("triggerer", signal.SIGKILL)
    polaris.requests.clear()
    airflow.start("triggerer")
    wait_for_list_polls(airflow, polaris, 300, more=2)
    # Up to ten jobs are requested by id before the list is cheaper. Each list poll also requests one job by id.
    assert len(polaris.requests) < 30, "a triggerer that takes over 300 waits does not request each job"
    states = f"select state, count(*) from task_instance where {WAITS} group by state"  # noqa: S608
    assert airflow.query(states) == [("deferred", 300)]

    # All requests have responses, and the next poll is seconds away. It finds all jobs over.
    wait_for(lambda: all(request.status for request in polaris.requests), "the poll to end")
    polaris.requests.clear()
    for job_id in hundreds:
        polaris.set_status(job_id, "completed")
    wait_for(
        lambda: airflow.query(states) == [("scheduled", 300)],
        "all tasks to be scheduled",
        lambda: str(airflow.query(states)),
    )
    wait_for(lambda: not airflow.query("select 1 from trigger"), "Airflow to delete the triggers")
    first, *copies = hundreds
    jobs = {"hundreds": first} | {f"copy_{job_id}": job_id for job_id in copies}
    rows = airflow.query(f"select run_id, next_kwargs from task_instance where {WAITS}")  # noqa: S608
    events = {run_id: kwargs["event"] for run_id, kwargs in rows}
    assert {run_id: event["outcome"] for run_id, event in events.items()} == dict.fromkeys(jobs, "job")
    assert {run_id: event["job"]["id"] for run_id, event in events.items()} == jobs
    by_id = requests_by_id(polaris)
    # Beside the lists, and a few that were not over yet when the list of active jobs was read.
    assert sum(by_id.values()) <= 4, "the list of ended jobs has the others"
    assert sum(event["is_listed"] for event in events.values()) >= 300 - 4
    assert nothing_was_canceled(polaris)
    # Airflow ignores a second event of a trigger. The logs show whether there was one.
    wait_for(lambda: sum(events_logged(airflow, jobs).values()) >= 300, "the logs to be written")
    assert events_logged(airflow, jobs) == dict.fromkeys(jobs, 1)
