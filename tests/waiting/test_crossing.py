"""Arguments and events of triggers are read alike at both ends, whatever release has written them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from airflow_provider_polaris.api.errors import PolarisError, PolarisUnreachable
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.decision import UntilOver
from airflow_provider_polaris.gate.options import Gate
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from airflow_provider_polaris.triggers.polaris import PolarisJobTrigger, PolarisTableTrigger, trigger_for
from airflow_provider_polaris.waiting.crossing import JobTriggerArgs, TableSeen, TableTriggerArgs, WaitEvent
from tests.support.airflow_versions import (
    FakeTaskInstance,
    context_of,
    event_through_the_database,
    trigger_through_the_database,
)
from tests.support.run_task import one_event

GOLDEN = Path(__file__).parent.parent / "triggers" / "golden"
JOB_ARGS = json.loads((GOLDEN / "deferred_by_the_first_slice.json").read_text())["kwargs"]
TABLE_ARGS = json.loads((GOLDEN / "deferred_for_a_table.json").read_text())["kwargs"]
KINDS = [(PolarisJobTrigger, JobTriggerArgs, JOB_ARGS), (PolarisTableTrigger, TableTriggerArgs, TABLE_ARGS)]
both_triggers = pytest.mark.parametrize(("kind", "args_type", "stored"), KINDS, ids=["job", "table"])
REQUIRED = ["job_id", "polaris_conn_id", "project_id", "poll_interval", "deadline", "max_unreachable"]
OPTIONAL = ["exponential_backoff", "max_wait", "waiting_since", "failing", "last_job"]
JOB = Job.from_api({"id": "j", "executionStatus": "completed", "health": {"status": "ok"}})


def event_of(trigger):
    """Return what a worker reads of the event that a trigger from the database fires."""
    return WaitEvent.from_dict(event_through_the_database(one_event(trigger_through_the_database(trigger))))


@both_triggers
def test_stored_arguments_of_the_first_release_are_read_and_written_alike(kind, args_type, stored):
    args = args_type.from_dict(stored)
    assert {name: value for name, value in args.to_dict().items() if name in stored} == stored
    assert args_type.from_dict(args.to_dict()) == args
    assert type(trigger_for(args)) is kind


@both_triggers
def test_the_job_in_stored_arguments_keeps_no_second_form(kind, args_type, stored):
    args = args_type.from_dict({**stored, "last_job": {"id": "j", "executionStatus": "running", "source": {}}})
    assert args.last_job.execution_status == "running"
    assert args.last_job.raw == {}
    trigger = kind(**args.to_dict())
    assert trigger._stored is None, "the arguments are kept only if they are invalid"


@both_triggers
def test_arguments_of_a_newer_release_are_ignored(polaris, moved_clock, kind, args_type, stored):
    polaris.add_job(id=stored["job_id"], executionStatus="completed")
    trigger = trigger_through_the_database(kind(**stored, brand_new={"x": 1}))
    assert trigger.args == args_type.from_dict(stored)
    assert "brand_new" not in trigger.serialize()[1]
    assert one_event(trigger).payload["outcome"] in {"job", "table"}


@pytest.mark.parametrize("name", [*REQUIRED, "wait_for", "fail_on_unhealthy"])
def test_a_job_trigger_reports_a_missing_argument_in_its_event(name):
    assert_event_names_missing(PolarisJobTrigger, JOB_ARGS, name)


@pytest.mark.parametrize("name", [*REQUIRED, "table"])
def test_a_table_trigger_reports_a_missing_argument_in_its_event(name):
    assert_event_names_missing(PolarisTableTrigger, TABLE_ARGS, name)


def assert_event_names_missing(kind, stored, name):
    event = event_of(kind(**{key: value for key, value in stored.items() if key != name}))
    assert event.outcome == "error"
    assert f"{name!r} is missing" in str(event.error)
    if name != "job_id":
        assert JOB_ARGS["job_id"] in str(event.error)


@both_triggers
@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_argument_may_be_missing(kind, args_type, stored, name):
    args = args_type.from_dict({key: value for key, value in stored.items() if key != name})
    assert getattr(args, name) in (None, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("job_id", 7), ("job_id", None), ("project_id", 7), ("poll_interval", "30"), ("poll_interval", True),
        ("deadline", None), ("max_unreachable", []), ("exponential_backoff", 1), ("max_wait", "9"),
        ("waiting_since", "now"), ("failing", []),
        ("last_job", {"id": "j"}), ("last_job", "j"), ("wait_for", "finished"), ("wait_for", ["over"]),
        ("fail_on_unhealthy", None), ("cancel_on_kill", "yes"), ("logical_date", "yesterday"), ("logical_date", 5),
    ],
    ids=str,
)  # fmt: skip
def test_a_trigger_reports_an_argument_of_a_wrong_type_in_its_event(name, value):
    event = event_of(PolarisJobTrigger(**{**JOB_ARGS, name: value}))
    assert event.outcome == "error"
    assert f"{name!r} must be" in str(event.error)


@pytest.mark.parametrize("stored", [{}, {"job_id": "j"}])
def test_a_trigger_that_cannot_read_its_arguments_survives_a_kill(stored):
    import asyncio

    asyncio.run(PolarisJobTrigger(**stored).on_kill())


@pytest.mark.parametrize(
    ("wait_for", "condition"),
    [
        ("completed", Gate(wait_for="completed", fail_on_unhealthy=True)),
        ("running", Gate(wait_for="running", fail_on_unhealthy=True)),
        ("over", UntilOver()),
    ],
)
def test_the_stored_wait_for_names_a_condition(wait_for, condition):
    args = JobTriggerArgs.from_dict({**JOB_ARGS, "wait_for": wait_for, "fail_on_unhealthy": True})
    assert args.condition == condition


@pytest.mark.parametrize(
    "event",
    [
        WaitEvent(outcome="job", deadline=9.0, job=JOB, polls=3, failed_polls=1, trouble="no answer"),
        WaitEvent(outcome="table", deadline=9.0, job=JOB, table=TableSeen("t", "available", "table 't' is available")),
        WaitEvent(outcome="timeout", deadline=9.0, failing={"at": 8.0, "unreachable_since": 7.0}),
        WaitEvent(outcome="timeout", deadline=9.0, job=JOB, table=TableSeen("t", None, "")),
    ],
    ids=lambda event: event.outcome,
)
def test_an_event_comes_back_through_airflow(event):
    from airflow.triggers.base import TriggerEvent

    assert WaitEvent.from_dict(event_through_the_database(TriggerEvent(event.to_dict()))).to_dict() == event.to_dict()


def test_an_error_keeps_its_type_and_status_in_an_event():
    event = WaitEvent(outcome="error", error=PolarisUnreachable("gone", status=503))
    error = WaitEvent.from_dict(json.loads(json.dumps(event.to_dict()))).error
    assert (type(error), error.status, str(error)) == (PolarisUnreachable, 503, "gone")


FIRED = WaitEvent(
    outcome="table", deadline=9e9, job=JOB, table=TableSeen("t", "available", ""), error=PolarisError("x")
).to_dict()


@pytest.mark.parametrize(
    ("outcome", "key"),
    [
        ("job", "job"), ("job", "deadline"), ("table", "job"), ("table", "table"), ("table", "deadline"),
        ("timeout", "deadline"), ("error", "error"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["absent", "null"])
def test_a_task_names_the_key_that_its_event_lacks(polaris, outcome, key, how):
    fired = {**FIRED, "outcome": outcome, key: None}
    if how == "absent":
        del fired[key]
    with pytest.raises(PolarisError, match=f"outcome is '{outcome}', and '{key}' is missing"):
        resume(fired)


@pytest.mark.parametrize("key", ["failing", "trouble", "polls", "failed_polls", "table", "error"])
def test_an_event_may_lack_a_key_that_its_outcome_does_not_need(key):
    fired = {name: value for name, value in {**FIRED, "outcome": "job"}.items() if name != key}
    assert WaitEvent.from_dict(fired).job == JOB


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("outcome", "brand_new"), ("outcome", None), ("outcome", ["job"]), ("deadline", "soon"), ("deadline", True),
        ("job", "j"), ("job", {"id": "x"}), ("failing", "x"), ("trouble", 5), ("polls", "3"), ("polls", 1.5),
        ("failed_polls", None),
    ],
    ids=str,
)  # fmt: skip
def test_a_task_names_the_key_of_its_event_that_has_a_wrong_type(polaris, key, value):
    with pytest.raises(PolarisError, match=f"'{key}' must be"):
        resume({**FIRED, key: value})


@pytest.mark.parametrize(
    ("table", "says"), [({}, "'name' is missing"), ({"name": "t", "state": None, "seen": ""}, "'table.state' is")]
)
def test_a_task_names_what_the_table_of_its_event_lacks(polaris, table, says):
    with pytest.raises(PolarisError, match=says):
        resume({**FIRED, "table": table})


def test_keys_of_a_newer_release_in_an_event_are_ignored(polaris, moved_clock):
    job_id = polaris.add_job(executionStatus="completed")
    job = PolarisJobSensor(task_id="t", job_id=job_id)
    seen = Job.from_api({"id": job_id, "executionStatus": "completed", "health": {"status": "ok"}}).to_event()
    result = job.execute_complete(
        context_of(FakeTaskInstance()), {**FIRED, "outcome": "job", "job": seen, "brand_new": {"x": 1}}
    )
    assert result["execution_status"] == "completed"


def resume(event):
    PolarisJobSensor(task_id="t", job_id="j").execute_complete(context_of(FakeTaskInstance()), event)


def test_the_logical_date_is_stored_as_text():
    day = datetime(2026, 11, 1, 10, tzinfo=timezone.utc)
    args = JobTriggerArgs.from_dict({**JOB_ARGS, "logical_date": day.isoformat()})
    assert args.logical_date == day
    assert args.to_dict()["logical_date"] == "2026-11-01T10:00:00+00:00"
