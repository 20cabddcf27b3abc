"""What every deferred wait has in common: when it ends, and what comes back from the trigger."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import AIRFLOW_3
from airflow_provider_polaris.api.errors import (
    PolarisConnectionInvalid,
    PolarisError,
    PolarisUsageError,
    error_from_dict,
)

if TYPE_CHECKING:
    from airflow_provider_polaris._compat import BaseOperator, Context

T = TypeVar("T")

#: How much later than the trigger's own deadline Airflow's backstop ends a deferred wait, in seconds: long enough for a
#: request under way to end, since the backstop knows nothing of the job.
BACKSTOP = 120.0
#: How long Airflow may take until a deferred task is on a worker again, in seconds.
RETURN = 60.0
#: A hundred years, in seconds: later times are none that every part of Airflow can write down.
LONGEST = 100 * 365 * 86_400


def execution_limit(task: BaseOperator, timeout: float) -> float | None:
    """Return the task's ``execution_timeout`` in seconds where it, and not ``timeout``, ends the wait."""
    limit = task.execution_timeout.total_seconds() if task.execution_timeout else None
    return limit if limit is not None and limit < timeout else None


def deadline_of(task: BaseOperator, context: Context, began: float, timeout: float) -> float:
    """Return when a deferred wait ends, in seconds since the epoch: Airflow 3 enforces neither limit itself.

    :param began: when the wait began, in seconds since the epoch.
    :param timeout: how long it may take, in seconds.
    """
    limit = execution_limit(task, timeout)
    if limit is None:
        return began + timeout
    if not AIRFLOW_3:
        # 2.11 ends a task that goes on after that without asking it: it has to be on a worker before, to say what
        # became of its job, and to cancel it.
        limit -= min(RETURN, limit / 10)
    try_began = getattr(context["ti"], "start_date", None)
    return (try_began.timestamp() if isinstance(try_began, datetime) else began) + limit


def backstop(deadline: float) -> timedelta:
    """Return after how long Airflow itself ends the wait, should the trigger not."""
    return timedelta(seconds=max(0.0, deadline - clock.now()) + BACKSTOP)


def say_when(interval: float, deadline: float) -> str:
    """Return how often a deferred wait asks, and until when."""
    until = datetime.fromtimestamp(deadline, timezone.utc)
    return f"asking at least every {interval:g} s, until {until:%Y-%m-%d %H:%M:%S} UTC"


def read_event(event: Any, job_id: Any) -> dict[str, Any]:
    """Return the trigger's event, whose ``outcome`` is ``job``, ``table`` or ``timeout``.

    :raises PolarisError: the error that the trigger reported, or one that says that the event is of an unknown shape.
    """
    if isinstance(event, dict):
        outcome, job, table = event.get("outcome"), event.get("job"), event.get("table")
        if outcome == "error":
            raise error_from_dict(event.get("error"))
        known = outcome == "timeout" or (outcome in ("job", "table") and isinstance(job, dict))
        if outcome == "table":
            known = known and isinstance(table, dict) and isinstance(table.get("state"), str)
        if known and isinstance(event.get("deadline"), (int, float)):
            return event
    raise PolarisError(f"Job {job_id}: the trigger reported something of an unknown shape: {event!r}")


def check_seconds(task: BaseOperator, *names: str) -> None:
    """Raise PolarisUsageError for options of the task that are no times a wait can have, in seconds."""
    for name in names:
        value = getattr(task, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 < value <= LONGEST:
            raise PolarisUsageError(
                f"{name} must be more than 0 seconds, and less than a hundred years; it is {value!r}"[:200]
            )


def fails_for_good(method: Callable[..., T]) -> Callable[..., T]:
    """Make a wrong option or job spec end a task without retries, which would only fail in the same way.

    A connection that cannot work is left to the retries: a person may correct it in the meantime. So is everything
    under ``soft_fail``, where Airflow makes a skip of each error that is not retried.
    """

    @functools.wraps(method)
    def ends_for_good(task: Any, *args: Any, **kwargs: Any) -> T:
        from airflow_provider_polaris.exceptions import PolarisOptionInvalid

        try:
            return method(task, *args, **kwargs)
        except PolarisConnectionInvalid:
            raise
        except PolarisUsageError as error:
            if getattr(task, "soft_fail", False) or getattr(task, "never_fail", False):
                raise
            raise PolarisOptionInvalid(str(error)) from None

    return ends_for_good


def seconds(value: timedelta | float) -> float:
    """Return a time that was given either way in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value
