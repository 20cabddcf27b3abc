"""A worker that is killed at any step of a load never loads twice; kills and clears of users cancel the right job."""

from __future__ import annotations

import json
import os
import signal
from contextlib import contextmanager, nullcontext

import psutil
import pytest

from airflow_provider_polaris.local import LocalPolaris
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.real_airflow import running_airflow, wait_for

DAG_FILE = '''
import os
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from airflow_provider_polaris.submission import submit_once

# A spec arrives at once here. So a search without a result ends after seconds instead of minutes.
submit_once.IN_FLIGHT_SECONDS = submit_once.SENDING_SECONDS = 2.0
HERE = Path(__file__).parent


def die_once(run_id):
    """Kill this process with SIGKILL at its first call in a run."""
    note = HERE / f"{run_id}.killed"
    if not note.exists():
        note.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def after(owner, name, applies, run_id):
    original = getattr(owner, name)

    def then_die(*args, **kwargs):
        result = original(*args, **kwargs)
        if applies(args, kwargs):
            die_once(run_id)
        return result

    setattr(owner, name, then_die)


class Load(PolarisCreateJobOperator):
    def execute(self, context):
        self.arm(context)
        if context["dag_run"].conf["step"] == "before the post":
            die_once(context["run_id"])
        result = super().execute(context)
        return self.at_the_end(context, result)

    def execute_complete(self, context, event=None):
        self.arm(context)
        return self.at_the_end(context, super().execute_complete(context, event))

    def at_the_end(self, context, result):
        if context["dag_run"].conf["step"] == "returned":
            die_once(context["run_id"])
        return result

    def arm(self, context):
        from airflow_provider_polaris.hooks.polaris import PolarisHook
        from airflow_provider_polaris.submission.submission_record import SubmissionRecord
        from airflow_provider_polaris.waiting.job_wait import JobWait

        step, run_id = context["dag_run"].conf["step"], context["run_id"]
        ti = type(context["ti"])
        if step == "posted":
            after(PolarisHook, "create_job", lambda args, kwargs: True, run_id)
        elif step == "sending noted":
            after(SubmissionRecord, "note", lambda args, kwargs: args[1] == "sending", run_id)
        elif step == "job noted":
            after(SubmissionRecord, "note", lambda args, kwargs: args[1] == "waiting", run_id)
        elif step == "job_id pushed":
            after(ti, "xcom_push", lambda args, kwargs: kwargs.get("key") == "job_id", run_id)
        elif step == "polled":
            after(JobWait, "poll", lambda args, kwargs: True, run_id)
        elif step == "verdict noted":
            after(SubmissionRecord, "note", lambda args, kwargs: args[1] == "passed", run_id)
        elif step == "metrics pushed":
            after(ti, "xcom_push", lambda args, kwargs: kwargs.get("key") == "metrics", run_id)


for mode in ("worker", "deferred", "last"):
    with DAG(f"load_{mode}", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False):
        Load(
            task_id="load",
            polaris_conn_id="polaris_stored",
            deferrable=mode != "worker",
            poll_interval=1,
            # Longer than all tests: a load that times out is in the state of the load that a test clears.
            timeout=12 if mode == "last" else 3600,  # a busy scheduler mistakes the end of a short deferral
            retries=0 if mode == "last" else 5,
            cancel_on_failure=True,  # no kill of a try with retries left may cancel the job
            retry_delay=timedelta(seconds=1),
            job_spec={
                "type": "{{ dag_run.conf['type'] }}",
                "createTableIfNotExists": True,
                "query": 'INSERT INTO "{{ run_id }}" SELECT 1 PARTITIONED BY ALL',
                "target": {"type": "table", "tableName": "{{ run_id }}"},
                "source": {
                    "type": "inline",
                    "data": '{"timestamp": "2026-11-01"}\\n' * 400,
                    "formatSettings": {"format": "nd-json"},
                    "inputSchema": [{"name": "timestamp", "dataType": "string"}],
                },
                "mappings": [{"columnName": "__time", "expression": 'TIME_PARSE("timestamp")'}],
            },
        )
'''
STEPS = [
    "before the post",
    "sending noted",
    "posted",
    "job noted",
    "job_id pushed",
    "polled",
    "verdict noted",
    "metrics pushed",
    "returned",
]


@pytest.fixture(scope="module")
def polaris():
    with LocalPolaris(rows_per_second=150) as polaris:
        yield polaris


@pytest.fixture(scope="module")
def airflow(polaris, tmp_path_factory):
    # A retry waits for the timeout of a request that may still be on its way.
    connection = json.loads(polaris.connection_json)
    connection["extra"]["timeout"] = 5
    home = tmp_path_factory.mktemp("airflow")
    with running_airflow(home, DAG_FILE, polaris_stored=json.dumps(connection)) as airflow:
        # The last test reads the log of this load, whose first report comes after a minute.
        start_a_load_that_hangs(airflow, polaris, "deferred", "reported")
        yield airflow


def rows_of(polaris, run_id):
    with polaris._store.lock:
        return polaris._store.tables.poll(run_id)["totalRows"] if run_id in polaris._store.tables else 0


def jobs_of(polaris, run_id):
    return [job for job in polaris._store.jobs.values() if job.body["target"]["tableName"] == run_id]


def test_a_worker_that_is_killed_never_loads_twice(airflow, polaris):
    # 2.11 may report the end of a killed process twice. The second report can set a task of an ended run back to
    # up_for_retry. With two steps only, that is rare.
    steps = STEPS if AIRFLOW_3 else ["posted", "returned"]
    runs = {f"{mode}_{step.replace(' ', '_')}": (mode, step) for step in steps for mode in ("worker", "deferred")}
    for run_id, (mode, step) in runs.items():
        airflow.run(f"load_{mode}", run_id, {"type": "batch", "step": step})
    ended = {run_id: airflow.wait_for_state(run_id, "success", "failed", task_id="load") for run_id in runs}
    for run_id, (mode, _) in runs.items():
        (tries,) = airflow.query("select try_number from task_instance where run_id = %s and task_id = 'load'", run_id)
        assert (airflow.home / "dags" / f"{run_id}.killed").exists(), f"{run_id}: no process was killed"
        # A busy scheduler can take the end of the process that deferred for the end of the resumed try, which is
        # queued ("finished with state success, but the task instance's state attribute is queued"). Then it starts
        # one more try.
        assert tries[0] == 2 or (tries[0] > 2 and mode == "deferred"), run_id
        wait_for(lambda: rows_of(polaris, run_id) == 400, f"the rows of {run_id}")  # noqa: B023
        assert len(jobs_of(polaris, run_id)) == 1, run_id
    assert set(ended.values()) == {"success"}, ended


def test_a_retry_finds_the_job_of_a_query_after_a_lost_response(airflow, polaris):
    polaris.next_job("complete", table="query")
    airflow.run("load_worker", "query", {"type": "sql", "step": "posted"})
    airflow.assert_ends("query", "success", task_id="load")
    assert (airflow.home / "dags" / "query.killed").exists()
    assert len(jobs_of(polaris, "query")) == 1


def statuses_of(polaris, run_id):
    return [job.body["executionStatus"] for job in jobs_of(polaris, run_id)]


def wait_for_the_cancellation(airflow, polaris, run_id):
    """Wait until Polaris has accepted a cancellation of the run's job."""
    wanted = lambda: [job.body["desiredExecutionStatus"] for job in jobs_of(polaris, run_id)]  # noqa: E731
    wait_for(lambda: wanted() == ["canceled"], f"the job of {run_id} to be canceled", lambda: airflow.log_of(run_id))


def start_a_load_that_hangs(airflow, polaris, mode, run_id, logical_date=None):
    """Start a load whose job does not end by itself."""
    polaris.next_job("hang", table=run_id)
    airflow.run(f"load_{mode}", run_id, {"type": "sql", "step": ""}, logical_date)


def start_and_wait_for_its_job(airflow, polaris, mode, run_id, logical_date=None):
    """Start a load whose job hangs, and wait until its task waits for it."""
    start_a_load_that_hangs(airflow, polaris, mode, run_id, logical_date)
    airflow.wait_for_state(run_id, "deferred" if mode == "deferred" else "running", task_id="load")
    wait_for(lambda: jobs_of(polaris, run_id), f"the job of {run_id}")
    job_id = jobs_of(polaris, run_id)[0].body["id"]
    wait_for(lambda: sum(seen.path.endswith(job_id) for seen in polaris.requests) > 2, f"{run_id} to poll")
    return job_id


@pytest.mark.parametrize("mode", ["worker", "deferred"] if AIRFLOW_3 else ["worker"])
def test_a_task_that_a_user_marks_failed_cancels_its_job(airflow, polaris, mode):
    run_id = f"marked_{mode}"
    start_and_wait_for_its_job(airflow, polaris, mode, run_id)
    airflow.mark_failed(f"load_{mode}", run_id, "load")
    wait_for_the_cancellation(airflow, polaris, run_id)
    assert airflow.state(run_id, "load") == "failed"
    if mode == "worker":
        wait_for(lambda: "Polaris accepted the cancellation of job" in airflow.log_of(run_id), "the log to say so")


def test_the_last_try_that_times_out_cancels_its_job_with_cancel_on_failure(airflow, polaris):
    start_a_load_that_hangs(airflow, polaris, "last", "timed_out")
    wait_for_the_cancellation(airflow, polaris, "timed_out")
    airflow.assert_ends("timed_out", "failed", task_id="load")


def test_a_worker_that_is_shut_down_leaves_the_job_running(airflow, polaris):
    job_id = start_and_wait_for_its_job(airflow, polaris, "worker", "shut_down")
    # The parent of a task's process passes the signal on.
    os.kill(psutil.Process(airflow.pid_of("shut_down", "load")).ppid(), signal.SIGTERM)
    wait_for(lambda: "no user killed the task" in airflow.log_of("shut_down"), "on_kill")
    assert not [seen for seen in polaris.requests if seen.method == "PUT" and seen.path.endswith(job_id)]
    polaris.set_status(job_id, "completed")
    airflow.assert_ends("shut_down", "success", task_id="load")
    assert statuses_of(polaris, "shut_down") == ["completed"]


@contextmanager
def no_slots(airflow):
    """Let the scheduler start no task."""
    airflow.execute("update slot_pool set slots = 0")
    try:
        yield
    finally:
        airflow.execute("update slot_pool set slots = 128")


@pytest.mark.skipif(
    not AIRFLOW_3, reason="the test clears over the 3.x API; for 2.11, see tests/submission/test_worker_kill.py"
)
@pytest.mark.parametrize(
    ("mode", "logical_date"),
    [("worker", None), ("deferred", None), ("deferred", "2026-11-01T00:00:00Z")],
    ids=["worker", "deferred", "deferred, of a run with a logical date"],
)
def test_a_task_that_is_cleared_cancels_its_job_and_loads_again(airflow, polaris, mode, logical_date):
    run_id = f"cleared_{mode}{'_dated' if logical_date else ''}"
    start_and_wait_for_its_job(airflow, polaris, mode, run_id, logical_date)
    polaris.next_job("complete", table=run_id)
    # A next try that starts before on_kill continues with the job. Without slots, the next try starts later.
    with no_slots(airflow) if mode == "deferred" else nullcontext():
        airflow.clear(f"load_{mode}", run_id, "load")
        if mode == "deferred":
            wait_for_the_cancellation(airflow, polaris, run_id)
    wait_for(lambda: len(jobs_of(polaris, run_id)) == 2, "a second job")
    airflow.assert_ends(run_id, "success", task_id="load")
    assert statuses_of(polaris, run_id) == ["canceled", "completed"]


@pytest.mark.skipif(not AIRFLOW_3, reason="the test clears over the 3.x API, and 2.11 has no on_kill in the triggerer")
def test_a_next_try_that_starts_before_the_kill_continues_with_the_job(airflow, polaris):
    start_and_wait_for_its_job(airflow, polaris, "deferred", "faster")
    polaris.next_job("complete", table="faster")
    airflow.clear("load_deferred", "faster", "load")
    wait_for(lambda: "killed" in airflow.log_of("faster"), "the kill")
    for job in jobs_of(polaris, "faster"):
        if job.body["desiredExecutionStatus"] != "canceled":
            polaris.set_status(job.body["id"], "completed")
    airflow.assert_ends("faster", "success", task_id="load")
    assert statuses_of(polaris, "faster") in (["completed"], ["canceled", "completed"])


#: ``dag.test()`` sets a task to queued right after its deferral, and runs its trigger itself. Here the task stays
#: deferred for seconds, so that the triggerer also starts the trigger before its row is deleted.
TEST_A_DAG = """
import sys
import time

from airflow.dag_processing.dagbag import DagBag
from airflow.models.taskinstance import TaskInstance

dags, conf = sys.argv[1], {"type": "sql", "step": ""}
set_state = TaskInstance.set_state


def set_state_slowly(ti, state, *args, **kwargs):
    if state == "queued" and ti.state == "deferred":
        time.sleep(5)
    return set_state(ti, state, *args, **kwargs)


TaskInstance.set_state = set_state_slowly
run = DagBag(dags).dags["load_deferred"].test(run_conf=conf)
sys.exit(run.state != "success")
"""


@pytest.fixture
def paused(airflow):
    """Pause the DAG: the scheduler would also run the tasks of dag.test()."""
    airflow.execute("update dag set is_paused = true where dag_id = 'load_deferred'")
    yield
    airflow.execute("update dag set is_paused = false where dag_id = 'load_deferred'")


@pytest.mark.usefixtures("paused")
@pytest.mark.skipif(not AIRFLOW_3, reason="2.11 never calls on_kill in the triggerer")
def test_dag_test_beside_a_triggerer_cancels_nothing(airflow, polaris):
    polaris.requests.clear()
    polaris.next_job("hang")
    before = len(polaris._store.jobs)
    test = airflow.start_python(TEST_A_DAG, str(airflow.home / "dags"))
    wait_for(lambda: len(polaris._store.jobs) > before, "the job")
    job = list(polaris._store.jobs.values())[-1]
    run_id = job.body["target"]["tableName"]
    wait_for(lambda: "invoking on_kill" in airflow.log_of(run_id), "on_kill in the triggerer")
    wait_for(lambda: "trigger completed" in airflow.log_of(run_id), "the end of on_kill")
    assert "no user killed the task: its state is queued" in airflow.log_of(run_id)
    assert job.body["desiredExecutionStatus"] == "running", airflow.log_of(run_id)
    polaris.set_status(job.body["id"], "completed")
    assert test.wait(60) == 0
    assert "PUT" not in {request.method for request in polaris.requests}


@pytest.mark.skipif(
    not AIRFLOW_3, reason="the test clears over the 3.x API; for 2.11, see tests/operators/test_create.py"
)
@pytest.mark.parametrize("how", ["good", "refused"])
def test_a_clear_after_a_verdict_loads_again(airflow, polaris, how):
    if how == "refused":
        polaris.next_job("complete", table=how, health={"status": "warn", "code": "no_rows_found"})
    airflow.run("load_worker", how, {"type": "batch", "step": ""})
    first = airflow.wait_for_state(how, "success", "failed", task_id="load")
    assert first == ("success" if how == "good" else "failed")
    # The scheduler overwrites a clear if it ends the run at the same time.
    ended = "select 1 from dag_run where run_id = %s and state in ('success', 'failed')"
    wait_for(lambda: airflow.query(ended, how), "the run to end")
    airflow.clear("load_worker", how, "load")
    wait_for(lambda: len(jobs_of(polaris, how)) == 2, "a second job")
    airflow.assert_ends(how, "success", task_id="load")
    assert rows_of(polaris, how) == 800


def test_a_deferred_load_reports_its_progress_in_the_log_of_its_task(airflow, polaris):
    wait_for(lambda: "reported: running, " in airflow.log_of("reported"), "the report of the first minute")
    (job,) = jobs_of(polaris, "reported")
    polaris.set_status(job.body["id"], "completed")
    airflow.assert_ends("reported", "success", task_id="load")
