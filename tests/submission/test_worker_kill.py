"""On a worker, the job of a killed task is canceled. If only the process must end, the job keeps running."""

from __future__ import annotations

import json
import threading

import pytest

from airflow_provider_polaris.submission import worker_kill
from airflow_provider_polaris.submission.submission_record import KEY
from tests.support.airflow_versions import AirflowTaskTimeout, FakeTaskInstance
from tests.support.create_tasks import Running, jobs_of, posts, puts
from tests.support.run_task import outcome_of
from tests.support.specs import STREAMING, spec_into_a_new_table

#: The states in which Airflow has a task that a user has killed.
KILLED = ["failed", "success", "skipped", "restarting", "removed", None]
CONTINUES = sorted(worker_kill.CONTINUES)

pytestmark = pytest.mark.usefixtures("moved_clock")


@pytest.mark.parametrize("told", KILLED)
def test_a_user_who_kills_the_task_cancels_its_job(running, state, told, task_log):
    state.value = told
    outcome = running.run()
    assert outcome.kind == "PolarisJobCanceled", "Airflow 3 lets the task run on after on_kill"
    assert [request.body for request in puts(running.polaris)] == [{"desiredExecutionStatus": "canceled"}]
    said = " ".join(task_log())
    assert f"The task was killed: its state is {told}" in said
    assert f"Polaris accepted the cancellation of job {outcome.pushed['job_id']}" in said


@pytest.mark.parametrize("told", CONTINUES)
def test_a_worker_that_is_shut_down_leaves_the_job_running(running, state, told, task_log):
    state.value = told
    assert running.run().kind == "PolarisJobTimeout"
    assert not puts(running.polaris)
    assert "no user killed the task" in " ".join(task_log())


def test_a_worker_that_cannot_get_the_task_state_leaves_the_job_running(running, state, task_log):
    state.value = ConnectionError("no API server")
    assert running.run().kind == "PolarisJobTimeout"
    assert not puts(running.polaris)
    assert "left running: ConnectionError: no API server" in " ".join(task_log())


def test_cancel_on_kill_false_leaves_the_job_running(polaris, moved_clock, state):
    polaris.next_job("hang")
    state.value = "failed"
    assert Running(polaris, moved_clock, cancel_on_kill=False).run().kind == "PolarisJobTimeout"
    assert not puts(polaris)
    assert not state.asked


def test_a_cancellation_is_sent_again_after_an_outage(running, state):
    state.value = "failed"
    running.polaris.fail_next(2, status=503, match="PUT")
    running.run()
    assert len(puts(running.polaris)) == 3


def test_a_rejected_cancellation_is_logged(running, state, task_log):
    state.value = "failed"
    running.polaris.fail_next(9, status=400, match="PUT")
    try:
        running.run()
    finally:
        running.polaris.clear_faults()
    assert "could not be canceled, and may still be running" in " ".join(task_log())


def test_a_job_that_is_over_is_not_canceled(polaris, moved_clock, state):
    polaris.next_job("complete")
    state.value = "failed"
    running = Running(polaris, moved_clock)
    assert running.run(kill_at=None).kind == "success"
    running.kill()
    assert not puts(polaris)


def test_a_kill_before_the_task_starts_sends_nothing(running):
    running.kill()
    assert not running.polaris.requests


def test_a_task_that_is_killed_before_it_begins_creates_no_job(running, state):
    """Airflow 3 renders and calls listeners before execute, and lets the task continue after on_kill."""
    state.value = "failed"
    running.kill()
    assert running.run(kill_at=None).kind == "PolarisTaskKilled"
    assert not posts(running.polaris)


@pytest.mark.parametrize("options", [{"wait_for_completion": False}, {"job_spec": STREAMING}, {}])
def test_a_kill_after_the_task_has_ended_cancels_nothing(polaris, moved_clock, state, options):
    """Airflow ends a process that is slow to end after its success, and calls on_kill then."""
    polaris.next_job("complete")
    running = Running(polaris, moved_clock)
    for name, value in options.items():
        setattr(running.operator, name, value)
    assert running.run(kill_at=None).kind == "success"
    state.value = "success"
    running.kill()
    assert not puts(polaris)


def test_a_second_kill_does_not_cancel_again(running, state):
    state.value = "failed"
    right = running.kill
    running.kill = lambda: (right(), right())
    running.run()
    assert len(puts(running.polaris)) == 1


def test_a_service_that_hangs_does_not_block_the_signal_handler(running, state, monkeypatch):
    monkeypatch.setattr(worker_kill, "LIMIT_SECONDS", 0.2)
    connection = json.loads(running.polaris.connection_json)
    connection["extra"]["timeout"] = 1
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))
    state.value = "failed"
    running.polaris.hang_next(1, match="PUT")
    try:
        running.run()
    finally:
        running.polaris.clear_faults()
    assert running.on_kill_took < 2


def test_a_lock_that_the_task_holds_does_not_block_the_signal_handler(running, state, monkeypatch, wait_until):
    """The signal comes during a request of the task to Airflow, whose lock is released only afterwards."""
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


def test_a_task_that_is_killed_before_it_sent_its_spec_does_not_send_it(running, state):
    state.value = "failed"
    right = running.store.get
    running.store.get = lambda *args: (running.kill(), right(*args))[1]
    outcome = running.run(kill_at=None)
    assert outcome.kind == "PolarisTaskKilled"
    assert "before it created its job" in str(outcome.error)
    assert not posts(running.polaris)
    assert running.on_kill_took < 2, "on_kill does not wait for the task itself"


def test_a_job_whose_spec_is_being_sent_is_canceled_when_its_id_is_known(running, state, wait_until):
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
@pytest.mark.parametrize("kind", ["sql", "batch"])
def test_a_cleared_task_loads_again_when_its_first_job_is_canceled(
    polaris, moved_clock, hook, state, store, running, kind
):
    noted = store == "noted"
    if store == "not to be noted" and running:
        pytest.skip("then the next try cannot know who canceled its job, and a person's cancellation counts")
    table, spec = spec_into_a_new_table(kind)
    polaris.next_job("hang", table=table)
    polaris.cancel_checks = 3
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


def test_execution_timeout_does_not_count_as_a_kill(running, state):
    """Airflow calls on_kill also after an execution_timeout."""
    running.clock.on_sleep = lambda: _alarm(running)
    outcome = outcome_of(lambda: running.operator.execute(running.task.context()), FakeTaskInstance())
    running.kill()
    assert outcome.kind == "execution_timeout"
    assert not puts(running.polaris)


def test_execution_timeout_cancels_the_job_with_cancel_on_timeout(polaris, moved_clock, state, task_log):
    polaris.next_job("hang")
    running = Running(polaris, moved_clock, cancel_on_timeout=True)
    moved_clock.on_sleep = lambda: _alarm(running)
    outcome = outcome_of(lambda: running.operator.execute(running.task.context()), FakeTaskInstance())
    assert outcome.kind == "execution_timeout"
    assert len(puts(polaris)) == 1
    assert "Polaris accepted the cancellation" in " ".join(task_log())
    assert running.store.get(KEY)["state"] == "canceling"


def test_a_user_can_kill_a_task_after_its_worker_was_shut_down(running, state):
    def on_sleep():
        if len(running.clock.slept) in (2, 4):
            state.value = {2: "running", 4: "failed"}[len(running.clock.slept)]
            running.operator.on_kill()

    running.clock.on_sleep = on_sleep
    context = running.task.context()
    assert outcome_of(lambda: running.operator.execute(context), context["ti"]).kind == "PolarisJobCanceled"
    assert len(puts(running.polaris)) == 1


def _alarm(running):
    if len(running.clock.slept) == 2:
        raise AirflowTaskTimeout("Timeout")
