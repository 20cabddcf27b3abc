"""In the triggerer, the job of a killed task is canceled. Airflow reports kills there from 3.3 on."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from airflow_provider_polaris.submission import trigger_kill
from tests.support.airflow_versions import (
    AIRFLOW_3,
    FakeTaskInstance,
    context_of,
    trigger_through_the_database,
)
from tests.support.create_tasks import puts
from tests.support.run_task import outcome_of
from tests.support.specs import SQL
from tests.support.triggers import trigger

#: The states in which Airflow has a task that a user has killed.
KILLED = ["failed", "success", "skipped", "restarting", "removed", None]

pytestmark = pytest.mark.usefixtures("moved_clock")


def waiting(job_id, **options):
    """Return a trigger as it runs in a triggerer."""
    running = trigger(job_id, **{"deadline": 9e12, "cancel_on_kill": True, **options})
    # The setter of Airflow 3 would look for the templates of the task.
    running.__dict__["_task_instance" if AIRFLOW_3 else "task_instance"] = FakeTaskInstance()
    return running


@pytest.fixture
def job_id(polaris):
    job_id = polaris.add_job(executionStatus="running", target={"type": "table", "tableName": "killed"})
    polaris.requests.clear()
    return job_id


@pytest.mark.parametrize("told", KILLED)
def test_the_job_of_a_killed_task_is_canceled(polaris, state, job_id, told):
    state.value = told
    asyncio.run(waiting(job_id).on_kill())
    assert len(puts(polaris)) == 1


@pytest.mark.parametrize("told", ["scheduled", "queued"])
def test_the_job_of_a_cleared_task_is_canceled_because_of_its_new_try(polaris, state, job_id, told):
    state.value, state.current_try = told, 2
    asyncio.run(waiting(job_id).on_kill())
    assert len(puts(polaris)) == 1


@pytest.mark.parametrize("told", ["scheduled", "queued"])
def test_a_task_of_the_same_try_was_not_cleared(polaris, state, job_id, told):
    """dag.test() runs the trigger itself, or another triggerer ended the wait with an error."""
    state.value = told
    asyncio.run(waiting(job_id).on_kill())
    assert not polaris.requests
    assert state.asked == 1, "a known try is requested once"


@pytest.mark.parametrize("told", ["scheduled", "queued"])
def test_the_job_keeps_running_if_airflow_does_not_report_the_try(polaris, state, job_id, told, moved_clock):
    state.value, state.current_try = told, None
    asyncio.run(waiting(job_id).on_kill())
    assert not polaris.requests
    assert state.asked == trigger_kill.TRY_REQUESTS


def test_the_try_is_requested_again_while_the_task_changes_its_state(polaris, state, job_id, moved_clock):
    state.value, state.current_try = "scheduled", None

    def move_on():
        state.value, state.current_try = "queued", 2

    moved_clock.on_sleep = move_on
    asyncio.run(waiting(job_id).on_kill())
    assert len(puts(polaris)) == 1


def test_a_kill_goes_on_while_airflow_cancels_the_trigger_again_and_again(polaris, state, job_id, moved_clock):
    """The runner of Airflow 3.3 cancels a killed trigger about once a second, until the trigger ends."""
    state.value, state.current_try = "scheduled", None
    moved_clock.on_sleep = lambda: setattr(state, "current_try", 2 if state.asked == 2 else None)

    async def kill():
        killed = asyncio.ensure_future(asyncio.wait_for(waiting(job_id).on_kill(), 30))
        for _ in range(100):
            await asyncio.sleep(0.2)
            killed.cancel("user-action")
            if puts(polaris):
                break

    asyncio.run(kill())
    assert len(puts(polaris)) == 1


def test_a_kill_ends_with_the_event_loop(polaris, state, job_id):
    state.value, state.current_try = "scheduled", None

    async def end_of_the_triggerer():
        killed = asyncio.ensure_future(waiting(job_id).on_kill())
        await asyncio.sleep(0.2)
        assert not killed.done()

    asyncio.run(end_of_the_triggerer())  # cancels all tasks and waits for them
    assert not puts(polaris)


@pytest.mark.parametrize("told", ["deferred", "running"])
def test_the_job_keeps_running_if_the_task_still_waits(polaris, state, job_id, told):
    state.value = told
    asyncio.run(waiting(job_id).on_kill())
    assert not polaris.requests


def test_the_job_keeps_running_if_the_task_state_cannot_be_read(polaris, state, job_id, caplog):
    state.value = RuntimeError("no API server")
    asyncio.run(waiting(job_id).on_kill())
    assert not polaris.requests


def test_the_job_keeps_running_if_airflow_does_not_respond_in_time(polaris, state, job_id, moved_clock):
    def late():
        moved_clock.sleep(trigger_kill.STATE_LIMIT_SECONDS + 1)
        time.sleep(0.3)  # so that the loop sees that the time is over before this returns
        return "failed"

    state.value = late
    asyncio.run(waiting(job_id).on_kill())
    assert not polaris.requests


def test_the_trigger_of_a_sensor_cancels_nothing(polaris, state, job_id):
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
def test_a_job_whose_wait_was_over_is_not_canceled(polaris, state, job_id, fields, wait_for):
    """Another triggerer may have fired the event, and the task continued. A streaming job keeps running then."""
    state.value = "success"
    polaris.set_fields(job_id, **fields)
    asyncio.run(waiting(job_id, wait_for=wait_for).on_kill())
    assert not puts(polaris)


def test_a_cancellation_is_sent_again_after_an_outage(polaris, state, job_id):
    state.value = "failed"
    polaris.fail_next(2, status=503)
    asyncio.run(waiting(job_id).on_kill())
    assert len(puts(polaris)) == 1


def test_a_job_that_the_next_try_waits_for_is_not_canceled(polaris, state, job_id, moved_clock):
    state.value, state.current_try = "queued", 2
    polaris.fail_next(5, status=503)
    moved_clock.on_sleep = lambda: setattr(state, "value", "running")
    try:
        asyncio.run(waiting(job_id).on_kill())
    finally:
        polaris.clear_faults()
    assert not puts(polaris)


def test_the_cancellation_ends_within_airflows_time_limit(polaris, state, job_id, moved_clock):
    state.value = "failed"
    polaris.fail_next(1000, status=503)
    began = moved_clock.time
    try:
        asyncio.run(waiting(job_id).on_kill())
    finally:
        polaris.clear_faults()
    assert moved_clock.time - began < 30, "Airflow gives it 30 s"
    assert not puts(polaris)


def test_a_missing_connection_raises_nothing(polaris, state, job_id, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_POLARIS_DEFAULT")
    state.value = "failed"
    asyncio.run(waiting(job_id).on_kill())
    assert not polaris.requests


@pytest.mark.parametrize("asked", [True, False])
def test_the_operator_stores_cancel_on_kill_with_its_trigger(polaris, asked):
    polaris.next_job("hang")
    operator = PolarisCreateJobOperator(
        task_id="load", job_spec=SQL, deferrable=True, **({} if asked else {"cancel_on_kill": False})
    )
    ti = FakeTaskInstance()
    stored = outcome_of(lambda: operator.execute(context_of(ti)), ti).error.trigger
    assert stored.serialize()[1]["cancel_on_kill"] is asked


def test_the_operator_stores_the_logical_date_with_its_trigger(polaris):
    polaris.next_job("hang")
    ti, day = FakeTaskInstance(), datetime(2026, 11, 1, 10, tzinfo=timezone.utc)
    context = {**context_of(ti), "dag_run": SimpleNamespace(logical_date=day, start_date=day)}
    operator = PolarisCreateJobOperator(task_id="load", job_spec=SQL, deferrable=True)
    stored = outcome_of(lambda: operator.execute(context), ti).error.trigger
    assert stored.serialize()[1]["logical_date"] == "2026-11-01T10:00:00+00:00"
    assert trigger_through_the_database(stored).args.logical_date == day


def test_the_sensor_stores_no_cancel_on_kill_with_its_trigger(job_id):
    ti = FakeTaskInstance()
    sensor = PolarisJobSensor(task_id="gate", job_id=job_id, deferrable=True)
    stored = outcome_of(lambda: sensor.execute(context_of(ti)), ti).error.trigger
    assert stored.serialize()[1]["cancel_on_kill"] is False


@pytest.mark.parametrize("told", ["up_for_retry", "up_for_reschedule", "upstream_failed", "of a later release"])
def test_the_job_keeps_running_in_task_states_without_a_user_action(polaris, state, told):
    job_id = polaris.add_job(executionStatus="running")
    state.value = told
    asyncio.run(waiting(job_id).on_kill())
    assert not puts(polaris)


def test_the_job_keeps_running_if_the_deadline_of_the_wait_has_passed(polaris, state, moved_clock):
    job_id = polaris.add_job(executionStatus="running")
    state.value = "scheduled"  # because of the event of another triggerer
    asyncio.run(waiting(job_id, deadline=moved_clock.time - 1).on_kill())
    assert not puts(polaris)
