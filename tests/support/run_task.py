"""Run a task as Airflow does, in each of its modes, on fresh instances, and return its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.airflow_versions import (
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    FakeTaskInstance,
    TaskDeferred,
    context_of,
    event_through_the_database,
    trigger_through_the_database,
)

#: Run a test on a worker and deferred.
both_modes = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])


@dataclass
class Outcome:
    """How a task ended: ``success``, ``skipped``, ``rescheduled``, ``deferred``, ``timeout``, or an error's name."""

    kind: str
    xcom: Any = None
    error: BaseException | None = None
    pushed: dict[str, Any] = field(default_factory=dict)
    event: Any = None
    deferrals: int = 0


def outcome_of(run: Callable[[], Any], ti: FakeTaskInstance) -> Outcome:
    try:
        xcom = run()
    except AirflowSkipException as error:
        return Outcome("skipped", error=error, pushed=ti.pushed)
    except AirflowRescheduleException as error:
        return Outcome("rescheduled", error=error, pushed=ti.pushed)
    except AirflowSensorTimeout as error:
        return Outcome("timeout", error=error, pushed=ti.pushed)
    except AirflowTaskTimeout as error:
        return Outcome("execution_timeout", error=error, pushed=ti.pushed)
    except TaskDeferred as error:
        return Outcome("deferred", error=error, pushed=ti.pushed)
    except Exception as error:
        return Outcome(type(error).__name__, error=error, pushed=ti.pushed)
    return Outcome("success", xcom=xcom, pushed=ti.pushed)


async def all_events(trigger: Any) -> list[Any]:
    return [event async for event in trigger.run()]


def one_event(trigger: Any) -> Any:
    """Run a trigger to its end, and return its only event."""
    events = asyncio.run(all_events(trigger))
    assert len(events) == 1, events
    return events[0]


def run_task(
    make: Callable[[], Any],
    between: Callable[[], None] | None = None,
    most_deferrals: int = 3,
    context: dict[str, Any] | None = None,
) -> Outcome:
    """Execute, and as often as the task defers: run its trigger, and resume on a fresh instance.

    :param between: called after each deferral, before the trigger runs.
    :param context: the task's, if it needs another than a first try's.
    """
    context = context or context_of(FakeTaskInstance())
    ti = context["ti"]
    outcome = outcome_of(lambda: make().execute(context), ti)
    deferrals = 0
    while outcome.kind == "deferred":
        deferrals += 1
        assert deferrals <= most_deferrals, "the task defers without an end"
        assert set(ti.pushed) <= {"job_id", "query_id"}, "pushed before deferring"
        if between:
            between()
        deferred = outcome.error
        event = event_through_the_database(one_event(trigger_through_the_database(deferred.trigger)))
        outcome = outcome_of(
            lambda: make().resume_execution(deferred.method_name, {"event": event}, context),  # noqa: B023
            ti,
        )
        outcome.event = event
    outcome.deferrals = deferrals
    return outcome
