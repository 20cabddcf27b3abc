"""A task that is killed: its job is canceled if a user did that, and left alone if only its process is to end."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_polaris import _compat
from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from airflow_provider_polaris.submission import trigger_kill as trigger_killing
from airflow_provider_polaris.submission import worker_kill
from airflow_provider_polaris.submission.submission_record import KEY
from airflow_provider_polaris.triggers.polaris import PolarisJobTrigger
from tests.operators.test_create import SQL, STREAMING, FakeStore, Task, jobs_of, posts
from tests.support.airflow_versions import (
    AIRFLOW_3,
    DAG,
    AirflowTaskTimeout,
    EmptyOperator,
    FakeTaskInstance,
    context_of,
    run_dag,
    trigger_through_the_database,
)
from tests.support.run_task import outcome_of

#: What Airflow has made of the task by the time it is asked.
KILLED = ["failed", "success", "skipped", "restarting", "removed", None]
ALIVE = sorted(worker_kill.CONTINUES)

pytestmark = pytest.mark.usefixtures("moved_clock")


@pytest.fixture
def state(monkeypatch):
    """What Airflow answers about the task: its state (an exception is raised, a function called), and its try."""
    told = SimpleNamespace(value="running", asked=0, current_try=1)

    def task_state(_ti):
        told.asked += 1
        if isinstance(told.value, Exception):
            raise told.value
        return told.value() if callable(told.value) else told.value

    monkeypatch.setattr(worker_kill, "task_state", task_state)
    monkeypatch.setattr(trigger_killing, "task_state", task_state)
    monkeypatch.setattr(trigger_killing, "current_try", lambda *_: told.current_try)
    return told


def puts(polaris):
    return [request for request in polaris.requests if request.method == "PUT"]


class Running:
    """A task on a worker, which is told to end in the middle of its wait, as by a signal."""

    def __init__(self, polaris, moved_clock, **options):
        self.polaris = polaris
        self.store = FakeStore()
        self.task = Task()
        self.task.store = self.store
        self.operator = PolarisCreateJobOperator(
            task_id="load", job_spec=SQL, retries=2, deferrable=False,
            **{"poll_interval": 60, "timeout": 600, **options},
        )  # fmt: skip
        self.on_kill_took = None
        self.clock = moved_clock

    def kill(self):
        began = time.monotonic()
        self.operator.on_kill()
        self.on_kill_took = time.monotonic() - began

    def run(self, kill_at=2):
        def on_sleep():
            if len(self.clock.slept) == kill_at:
                self.kill()

        self.clock.on_sleep = on_sleep if kill_at else None
        context = self.task.context()
        return outcome_of(lambda: self.operator.execute(context), context["ti"])


@pytest.fixture
def running(polaris, moved_clock, state):
    polaris.next_job("hang")
    return Running(polaris, moved_clock)


class TestOnAWorker:
    @pytest.mark.parametrize("told", KILLED)
    def test_a_user_who_kills_the_task_cancels_its_job(self, running, state, told, task_log):
        state.value = told
        outcome = running.run()
        assert outcome.kind == "PolarisJobCanceled", "Airflow 3 lets the task run on after on_kill"
        assert [request.body for request in puts(running.polaris)] == [{"desiredExecutionStatus": "canceled"}]
        said = " ".join(task_log())
        assert f"The task was killed: its state is {told}" in said
        assert f"Polaris accepted the cancellation of job {outcome.pushed['job_id']}" in said

    @pytest.mark.parametrize("told", ALIVE)
    def test_a_worker_that_is_shut_down_leaves_it_running(self, running, state, told, task_log):
        state.value = told
        assert running.run().kind == "PolarisJobTimeout"
        assert not puts(running.polaris)
        assert "nobody killed the task" in " ".join(task_log())

    def test_so_does_one_that_cannot_tell(self, running, state, task_log):
        state.value = ConnectionError("no API server")
        assert running.run().kind == "PolarisJobTimeout"
        assert not puts(running.polaris)
        assert "left running: ConnectionError: no API server" in " ".join(task_log())

    def test_unless_it_is_to_be_left_alone(self, polaris, moved_clock, state):
        polaris.next_job("hang")
        state.value = "failed"
        assert Running(polaris, moved_clock, cancel_on_kill=False).run().kind == "PolarisJobTimeout"
        assert not puts(polaris)
        assert not state.asked

    def test_some_bad_answers_do_not_save_it(self, running, state):
        state.value = "failed"
        running.polaris.fail_next(2, status=503, match="PUT")
        running.run()
        assert len(puts(running.polaris)) == 3

    def test_that_it_cannot_be_canceled_is_said(self, running, state, task_log):
        state.value = "failed"
        running.polaris.fail_next(9, status=400, match="PUT")
        try:
            running.run()
        finally:
            running.polaris.clear_faults()
        assert "could not be canceled, and may still be running" in " ".join(task_log())

    def test_a_job_that_is_over_is_not_canceled(self, polaris, moved_clock, state):
        polaris.next_job("complete")
        state.value = "failed"
        running = Running(polaris, moved_clock)
        assert running.run(kill_at=None).kind == "success"
        running.kill()
        assert not puts(polaris)

    def test_before_it_has_begun_there_is_nothing_to_kill(self, running):
        running.kill()
        assert not running.polaris.requests

    def test_a_task_that_is_killed_before_it_begins_creates_no_job(self, running, state):
        """Airflow 3 renders, and calls listeners, before it executes, and lets the task run on after on_kill."""
        state.value = "failed"
        running.kill()
        assert running.run(kill_at=None).kind == "PolarisJobCanceled"
        assert not posts(running.polaris)

    @pytest.mark.parametrize("options", [{"wait_for_completion": False}, {"job_spec": STREAMING}, {}])
    def test_a_task_that_is_done_is_not_killed_any_more(self, polaris, moved_clock, state, options):
        """Airflow ends a process that is slow to end after its success, and calls on_kill then."""
        polaris.next_job("complete")
        running = Running(polaris, moved_clock)
        for name, value in options.items():
            setattr(running.operator, name, value)
        assert running.run(kill_at=None).kind == "success"
        state.value = "success"
        running.kill()
        assert not puts(polaris)

    def test_it_may_be_told_twice(self, running, state):
        state.value = "failed"
        right = running.kill
        running.kill = lambda: (right(), right())
        running.run()
        assert len(puts(running.polaris)) == 1

    def test_a_service_that_hangs_does_not_take_the_time_of_a_signal_handler(self, running, state, monkeypatch):
        monkeypatch.setattr(worker_kill, "LIMIT_SECONDS", 0.2)
        state.value = "failed"
        running.polaris.hang_next(1, match="PUT")
        try:
            running.run()
        finally:
            running.polaris.clear_faults()
        assert running.on_kill_took < 2

    def test_what_the_task_holds_may_be_what_it_needs(self, running, state, monkeypatch, wait_until):
        """The signal comes while the task itself talks to Airflow: what that holds is free only afterwards."""
        monkeypatch.setattr(worker_kill, "LIMIT_SECONDS", 0.2)
        lock = threading.Lock()

        def locked():
            with lock:
                return "failed"

        state.value = locked
        right = running.kill

        def kill():
            with lock:
                right()

        running.kill = kill
        running.run()
        assert running.on_kill_took < 2
        assert wait_until(lambda: puts(running.polaris))

    def test_a_task_that_is_killed_before_it_sent_its_spec_does_not_send_it(self, running, state):
        state.value = "failed"
        right = running.store.get
        running.store.get = lambda *args: (running.kill(), right(*args))[1]
        outcome = running.run(kill_at=None)
        assert outcome.kind == "PolarisJobCanceled"
        assert "before it created its job" in str(outcome.error)
        assert not posts(running.polaris)
        assert running.on_kill_took < 2, "it does not wait for what only the task can do"

    def test_a_job_whose_spec_is_under_way_is_canceled_as_soon_as_it_is_known(self, running, state, wait_until):
        state.value = "failed"
        running.polaris.delay_next(1, seconds=0.5, match="POST")

        def kill_in_mid_post():
            wait_until(lambda: posts(running.polaris))
            running.kill()

        killer = threading.Thread(target=kill_in_mid_post)
        killer.start()
        outcome = running.run(kill_at=None)
        killer.join()
        assert wait_until(lambda: puts(running.polaris))
        assert outcome.kind in {"PolarisJobCanceled", "PolarisJobTimeout"}

    @pytest.mark.parametrize("store", ["noted", "not to be noted", "none"])
    @pytest.mark.parametrize("running", [True, False], ids=["cleared while it runs", "cleared later"])
    def test_after_a_clear_it_is_loaded_again_once_the_first_is_gone(
        self, polaris, moved_clock, hook, state, store, running
    ):
        noted = store == "noted"
        if store == "not to be noted" and running:
            pytest.skip("then the next try cannot know who canceled its job, and a person's cancellation counts")
        table = f"cleared-{uuid.uuid4()}"
        spec = {**SQL, "query": f'INSERT INTO "{table}" SELECT 1 PARTITIONED BY ALL'}
        polaris.next_job("hang", table=table)
        polaris.cancel_looks = 3
        first = Running(polaris, moved_clock)
        first.operator.job_spec = spec
        if store == "none":
            first.task.store = None
        state.value = "restarting"
        noting = first.store.set

        def refuse(key, value):
            if value["state"] == "canceling":
                raise RuntimeError("409")
            noting(key, value)

        if not noted:
            first.store.set = refuse

        class Sigkill(BaseException):
            pass

        def kill_and_die():
            first.kill()
            raise Sigkill

        moved_clock.on_sleep = lambda: kill_and_die() if len(moved_clock.slept) == 2 else None
        context = first.task.context()
        with pytest.raises(Sigkill):
            first.operator.execute(context)
        if store != "none":
            assert first.store.get(KEY)["state"] == ("canceling" if noted else "waiting")
        moved_clock.on_sleep = None
        first.store.set = noting
        first.task.clear(running=running)
        polaris.next_job("complete", table=table)
        again = first.task.run(spec, deferrable=False)
        assert again.kind == "success", again.error
        first_job, second_job = jobs_of(hook, table)
        assert (first_job.desired_execution_status, second_job.execution_status) == ("canceled", "completed")

    def test_execution_timeout_is_no_kill(self, running, state):
        """Airflow calls on_kill then, too."""
        running.clock.on_sleep = lambda: _alarm(running)
        outcome = outcome_of(lambda: running.operator.execute(running.task.context()), FakeTaskInstance())
        running.kill()
        assert outcome.kind == "execution_timeout"
        assert not puts(running.polaris)

    def test_execution_timeout_cancels_if_it_is_to(self, polaris, moved_clock, state, task_log):
        polaris.next_job("hang")
        running = Running(polaris, moved_clock, cancel_on_timeout=True)
        moved_clock.on_sleep = lambda: _alarm(running)
        outcome = outcome_of(lambda: running.operator.execute(running.task.context()), FakeTaskInstance())
        assert outcome.kind == "execution_timeout"
        assert len(puts(polaris)) == 1
        assert "Polaris accepted the cancellation" in " ".join(task_log())
        assert running.store.get(KEY)["state"] == "canceling"


def _alarm(running):
    if len(running.clock.slept) == 2:
        raise AirflowTaskTimeout("Timeout")


def waiting(job_id, **options):
    trigger = PolarisJobTrigger(
        job_id=job_id, polaris_conn_id="polaris_default", project_id=None, poll_interval=60.0, max_unreachable=3600.0,
        **{"deadline": 9e12, "wait_for": "completed", "fail_on_unhealthy": False, "cancel_on_kill": True, **options},
    )  # fmt: skip
    # Past the setter of 3.x, which looks for the task's own templates.
    trigger.__dict__["_task_instance" if AIRFLOW_3 else "task_instance"] = FakeTaskInstance()
    return trigger


class TestInTheTriggerer:
    """What Airflow 3.3 calls when a user clears or marks a deferred task; older ones never do."""

    @pytest.fixture
    def job_id(self, polaris):
        job_id = polaris.add_job(executionStatus="running", target={"type": "table", "tableName": "killed"})
        polaris.requests.clear()
        return job_id

    @pytest.mark.parametrize("told", KILLED)
    def test_the_job_is_canceled(self, polaris, state, job_id, told):
        state.value = told
        asyncio.run(waiting(job_id).on_kill())
        assert len(puts(polaris)) == 1

    @pytest.mark.parametrize("told", ["scheduled", "queued"])
    def test_a_clear_is_known_by_its_new_try(self, polaris, state, job_id, told):
        state.value, state.current_try = told, 2
        asyncio.run(waiting(job_id).on_kill())
        assert len(puts(polaris)) == 1

    @pytest.mark.parametrize("told", ["scheduled", "queued"])
    def test_a_task_of_the_same_try_was_not_cleared(self, polaris, state, job_id, told):
        """dag.test() runs the trigger itself, or another triggerer ended the wait with an error."""
        state.value = told
        asyncio.run(waiting(job_id).on_kill())
        assert not polaris.requests
        assert state.asked == 1, "a known try is asked for once"

    @pytest.mark.parametrize("told", ["scheduled", "queued"])
    def test_a_job_runs_on_if_airflow_does_not_tell_the_try(self, polaris, state, job_id, told, moved_clock):
        state.value, state.current_try = told, None
        asyncio.run(waiting(job_id).on_kill())
        assert not polaris.requests
        assert state.asked == trigger_killing.TRY_REQUESTS

    def test_the_try_is_asked_for_again_while_the_task_changes_its_state(self, polaris, state, job_id, moved_clock):
        state.value, state.current_try = "scheduled", None

        def move_on():
            state.value, state.current_try = "queued", 2

        moved_clock.on_sleep = move_on
        asyncio.run(waiting(job_id).on_kill())
        assert len(puts(polaris)) == 1

    @pytest.mark.parametrize("told", ["deferred", "running"])
    def test_it_is_left_to_whoever_waits_for_it_now(self, polaris, state, job_id, told):
        state.value = told
        asyncio.run(waiting(job_id).on_kill())
        assert not polaris.requests

    def test_so_it_is_if_nobody_can_tell(self, polaris, state, job_id, caplog):
        state.value = RuntimeError("no API server")
        asyncio.run(waiting(job_id).on_kill())
        assert not polaris.requests

    def test_and_if_nobody_tells_in_time(self, polaris, state, job_id, monkeypatch):
        monkeypatch.setattr(trigger_killing, "STATE_LIMIT_SECONDS", 0.1)
        state.value = lambda: time.sleep(0.5)
        asyncio.run(waiting(job_id).on_kill())
        assert not polaris.requests

    def test_a_sensor_only_watches(self, polaris, state, job_id):
        state.value = "failed"
        asyncio.run(waiting(job_id, cancel_on_kill=False).on_kill())
        assert not polaris.requests
        assert not state.asked

    @pytest.mark.parametrize(
        ("fields", "wait_for"),
        [
            ({"executionStatus": "completed"}, "completed"),
            ({"executionStatus": "failed"}, "completed"),
            ({"type": "streaming", "executionStatus": "running"}, "running"),
        ],
    )
    def test_a_wait_that_was_over_is_not_a_load_to_be_stopped(self, polaris, state, job_id, fields, wait_for):
        """Another triggerer may have fired the event, and the task gone on: a stream that is up stays up."""
        state.value = "success"
        polaris.set_fields(job_id, **fields)
        asyncio.run(waiting(job_id, wait_for=wait_for).on_kill())
        assert not puts(polaris)

    def test_some_bad_answers_do_not_save_it(self, polaris, state, job_id):
        state.value = "failed"
        polaris.fail_next(2, status=503)
        asyncio.run(waiting(job_id).on_kill())
        assert len(puts(polaris)) == 1

    def test_a_next_try_that_takes_the_job_over_meanwhile_keeps_it(self, polaris, state, job_id, moved_clock):
        state.value, state.current_try = "queued", 2
        polaris.fail_next(5, status=503)
        moved_clock.on_sleep = lambda: setattr(state, "value", "running")
        try:
            asyncio.run(waiting(job_id).on_kill())
        finally:
            polaris.clear_faults()
        assert not puts(polaris)

    def test_it_gives_up_in_time(self, polaris, state, job_id, moved_clock):
        state.value = "failed"
        polaris.fail_next(1000, status=503)
        began = moved_clock.time
        try:
            asyncio.run(waiting(job_id).on_kill())
        finally:
            polaris.clear_faults()
        assert moved_clock.time - began < 30, "Airflow gives it 30 s"
        assert not puts(polaris)

    def test_a_connection_that_is_gone_breaks_nothing(self, polaris, state, job_id, monkeypatch):
        monkeypatch.delenv("AIRFLOW_CONN_POLARIS_DEFAULT")
        state.value = "failed"
        asyncio.run(waiting(job_id).on_kill())
        assert not polaris.requests

    @pytest.mark.parametrize("asked", [True, False])
    def test_the_operator_says_what_is_to_become_of_it(self, polaris, asked):
        polaris.next_job("hang")
        operator = PolarisCreateJobOperator(
            task_id="load", job_spec=SQL, deferrable=True, **({} if asked else {"cancel_on_kill": False})
        )
        ti = FakeTaskInstance()
        trigger = outcome_of(lambda: operator.execute(context_of(ti)), ti).error.trigger
        assert trigger.serialize()[1]["cancel_on_kill"] is asked

    def test_the_operator_tells_the_trigger_the_logical_date_of_the_run(self, polaris):
        polaris.next_job("hang")
        ti, day = FakeTaskInstance(), datetime(2026, 11, 1, 10, tzinfo=timezone.utc)
        context = {**context_of(ti), "dag_run": SimpleNamespace(logical_date=day, start_date=day)}
        operator = PolarisCreateJobOperator(task_id="load", job_spec=SQL, deferrable=True)
        trigger = outcome_of(lambda: operator.execute(context), ti).error.trigger
        assert trigger.serialize()[1]["logical_date"] == "2026-11-01T10:00:00+00:00"
        assert trigger_through_the_database(trigger).args.logical_date == day

    def test_the_sensor_never_does(self, job_id):
        ti = FakeTaskInstance()
        sensor = PolarisJobSensor(task_id="gate", job_id=job_id, deferrable=True)
        trigger = outcome_of(lambda: sensor.execute(context_of(ti)), ti).error.trigger
        assert trigger.serialize()[1]["cancel_on_kill"] is False


class TestTheStateOfATask:
    @pytest.mark.skipif(AIRFLOW_3, reason="3.x asks its API server: tests/system does")
    def test_2_11_looks_into_its_database(self, airflow_db):
        with DAG("a_state", schedule=None) as dag:
            EmptyOperator(task_id="task")
        run = run_dag(dag).run
        ti = SimpleNamespace(dag_id="a_state", task_id="task", run_id=run.run_id, map_index=-1)
        assert _compat.task_state(ti) == "success"
        ti.map_index = 7
        assert _compat.task_state(ti) == "removed"

    @pytest.mark.skipif(not AIRFLOW_3, reason="2.11 has its database at hand")
    @pytest.mark.parametrize(
        ("map_index", "states", "expected"),
        [
            (-1, {"run": {"task": "failed", "task_0": "x"}}, "failed"),
            (0, {"run": {"task_0": "restarting"}}, "restarting"),
            (-1, {"run": {"task": None}}, None),
            (-1, {"run": {}}, "removed"),
            (-1, {}, "removed"),
        ],
    )
    def test_3_x_asks_its_api_server(self, monkeypatch, map_index, states, expected):
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        asked = {}
        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **what: asked.update(what) or states)
        ti = FakeTaskInstance()
        ti.map_index = map_index
        assert _compat.task_state(ti) == expected
        assert asked == {"dag_id": "dag", "map_index": map_index, "task_ids": ["task"], "run_ids": ["run"]}

    @pytest.mark.skipif(not AIRFLOW_3, reason="only 3.3 calls on_kill, and so asks for the try")
    @pytest.mark.parametrize("logical_date", [datetime(2026, 11, 1, tzinfo=timezone.utc), None], ids=["date", "none"])
    @pytest.mark.parametrize(("run_id", "expected"), [("run", 3), ("another run", None), (None, None)])
    def test_the_current_try_is_read_from_the_latest_run_up_to_this_one(
        self, monkeypatch, logical_date, run_id, expected
    ):
        from airflow.sdk.execution_time import task_runner

        asked = []
        found = run_id and SimpleNamespace(run_id=run_id, try_number=3)
        comms = SimpleNamespace(send=lambda message: asked.append(message) or SimpleNamespace(task_instance=found))
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
        assert _compat.current_try(FakeTaskInstance(), "queued", logical_date) == expected
        (message,) = asked
        assert (message.dag_id, message.task_id, message.map_index, message.state) == ("dag", "task", -1, "queued")
        assert message.logical_date == (logical_date and logical_date + timedelta(microseconds=1))
