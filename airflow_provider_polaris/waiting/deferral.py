"""How a task defers, when its wait ends, and in which form its errors reach Airflow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import AIRFLOW_3, AirflowSensorTimeout, AirflowTaskTimeout
from airflow_provider_polaris.api.errors import PolarisConnectionInvalid, PolarisError, PolarisUsageError

if TYPE_CHECKING:
    from typing import NoReturn

    from airflow.triggers.base import BaseTrigger

    from airflow_provider_polaris._compat import BaseOperator, Context
    from airflow_provider_polaris.waiting.crossing import WaitArgs

    Base = BaseOperator
else:
    Base = object  # an operator without an __init__ of its own would show all options of Airflow as its own

T = TypeVar("T")

#: Airflow's own timeout of a deferral comes this much later than the trigger's deadline, since its error does not name
#: the job. A request that is under way can end in that time.
BACKSTOP_SECONDS = 120.0
#: How long Airflow may take until a deferred task is on a worker again.
RETURN_TO_WORKER_SECONDS = 60.0
#: A hundred years. Not every part of Airflow can represent a later time.
LONGEST_SECONDS = 100 * 365 * 86_400


def execution_limit(task: BaseOperator, timeout: float) -> float | None:
    """Return the task's ``execution_timeout`` in seconds if that ends the wait before ``timeout`` does."""
    limit = task.execution_timeout.total_seconds() if task.execution_timeout else None
    return limit if limit is not None and limit < timeout else None


def deadline_of(task: BaseOperator, context: Context, began: float, timeout: float) -> float:
    """Return when a deferred wait ends, in seconds since the epoch. Airflow 3 enforces neither limit itself.

    :param began: when the wait began, in seconds since the epoch.
    :param timeout: the longest wait, in seconds.
    """
    limit = execution_limit(task, timeout)
    if limit is None:
        return began + timeout
    if not AIRFLOW_3:
        # Airflow 2.11 ends a task that resumes after its execution_timeout, without calling the task. The task must
        # resume before that, to report on its job and to cancel the job.
        limit -= min(RETURN_TO_WORKER_SECONDS, limit / 10)
    try_began = getattr(context["ti"], "start_date", None)
    return (try_began.timestamp() if isinstance(try_began, datetime) else began) + limit


def backstop(deadline: float) -> timedelta:
    """Return after how long Airflow itself ends the deferral if the trigger does not."""
    return timedelta(seconds=max(0.0, deadline - clock.now()) + BACKSTOP_SECONDS)


def describe_schedule(args: WaitArgs) -> str:
    """Return how often a deferred wait polls, and until when."""
    until = datetime.fromtimestamp(args.deadline, timezone.utc)
    often = "every 5 to" if args.grows else "at least every"
    return f"polling {often} {args.poll_interval:g} s, until {until:%Y-%m-%d %H:%M:%S} UTC"


def check_seconds(task: BaseOperator, *names: str) -> None:
    """Raise PolarisUsageError if one of these options of the task is not a usable number of seconds."""
    for name in names:
        value = getattr(task, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 < value <= LONGEST_SECONDS:
            raise PolarisUsageError(
                f"{name} must be more than 0 seconds, and less than a hundred years; it is {value!r}"[:200]
            )


class DeferringTask(Base):
    """Mixin of a task that waits in the triggerer, and continues in ``execute_complete``.

    :ivar timeout: the longest wait, in seconds.
    """

    timeout: float

    def trigger_for(self, args: Any) -> BaseTrigger:
        """Return the trigger that waits as the arguments say."""
        raise NotImplementedError

    def timeout_error(self, message: str) -> BaseException:
        """Return the error for a wait that the task's ``timeout`` has ended."""
        raise NotImplementedError

    def defer_with(self, args: WaitArgs, awaited: str) -> NoReturn:
        """Defer with these arguments.

        :param awaited: what the trigger waits for, for the log.
        """
        schedule = describe_schedule(args)
        self.log.info("Waiting for %s in the triggerer: %s", awaited, schedule)
        self.defer(trigger=self.trigger_for(args), method_name="execute_complete", timeout=backstop(args.deadline))
        raise AssertionError("defer() raises")

    def timed_out(self, message_of: Callable[[str, float], str], *, deferred: bool = False) -> BaseException:
        """Return the error for a wait whose time is over.

        :param message_of: returns the message, from the option that has ended the wait and its seconds.
        :param deferred: whether the wait was deferred. On a worker Airflow itself enforces ``execution_timeout``.
        """
        limit = execution_limit(self, self.timeout) if deferred else None
        if limit is not None:
            return AirflowTaskTimeout(message_of("execution_timeout", limit))
        return self.timeout_error(message_of("timeout", self.timeout))


@contextmanager
def no_retry_of_wrong_options() -> Iterator[None]:
    """Turn a wrong option or job spec into PolarisOptionInvalid: a retry would fail in the same way.

    A connection that cannot work is left to the retries, since a person may correct it in the meantime.
    """
    from airflow_provider_polaris.exceptions import PolarisOptionInvalid

    try:
        yield
    except PolarisConnectionInvalid:
        raise
    except PolarisUsageError as error:
        raise PolarisOptionInvalid(str(error)) from None


def called_by_airflow(method: Callable[..., T]) -> Callable[..., T]:
    """Decorate a method of a task that Airflow calls, and give its errors the form that Airflow needs.

    A wrong option or job spec ends the task without retries. The traceback of an expected error ends at this function:
    the message says all, and more lines of code would move the message off the screen.

    Does not prevent retries under ``soft_fail`` or ``never_fail``: Airflow turns each error that is not retried into a
    skip there.
    """

    @functools.wraps(method)
    def call(task: Any, *args: Any, **kwargs: Any) -> T:
        is_softened = getattr(task, "soft_fail", False) or getattr(task, "never_fail", False)
        try:
            with nullcontext() if is_softened else no_retry_of_wrong_options():
                return method(task, *args, **kwargs)
        except (PolarisError, AirflowSensorTimeout, AirflowTaskTimeout) as error:
            raise error.with_traceback(None)  # noqa: B904 - the same error

    return call


def seconds(value: timedelta | float) -> float:
    """Return a duration in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value
