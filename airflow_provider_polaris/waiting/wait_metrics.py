"""The metrics of a wait, for the StatsD, Datadog or OpenTelemetry that Airflow is configured with.

A process sends them once, when its part of the wait ends: no poll sends anything. docs/reference/metrics.md lists them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import (
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    TaskDeferred,
)

if TYPE_CHECKING:
    from airflow_provider_polaris._compat import BaseOperator as Base
    from airflow_provider_polaris.waiting.job_wait import Outcome
    from airflow_provider_polaris.waiting.progress_log import PollLog
else:
    Base = object  # an operator without an __init__ of its own would show all options of Airflow as its own

T = TypeVar("T")

#: The characters that each of Airflow's backends accepts in a tag.
_TAG = re.compile(r"[A-Za-z0-9_.-]+")


def sends_metrics(method: Callable[..., T]) -> Callable[..., T]:
    """Decorate a method in which Airflow runs a waiting task: send the metrics when the method ends."""

    @functools.wraps(method)
    def call(task: MeteredTask, *args: Any, **kwargs: Any) -> T:
        try:
            result = method(task, *args, **kwargs)
        except (TaskDeferred, AirflowRescheduleException):
            task.send_metrics(None)
            raise
        except (Exception, AirflowTaskTimeout) as error:
            task.send_metrics(_ending_of(error))
            raise
        task.send_metrics("passed")
        return result

    return call


def _ending_of(error: BaseException) -> str:
    """Return how a wait has ended, from its error."""
    from airflow_provider_polaris.exceptions import (
        PolarisCancelTimeout,
        PolarisGateRefused,
        PolarisJobCanceled,
        PolarisJobFailed,
        PolarisJobTimeout,
        PolarisQueryTimeout,
    )

    timeouts = AirflowSensorTimeout, AirflowTaskTimeout, PolarisJobTimeout, PolarisCancelTimeout, PolarisQueryTimeout
    if isinstance(error, timeouts):
        return "timed_out"
    return "refused" if isinstance(error, (PolarisGateRefused, PolarisJobFailed, PolarisJobCanceled)) else "failed"


class MeteredTask(Base):
    """Mixin of a waiting task that sends metrics."""

    #: How the wait for a job ended; ``None`` before its end, and for a wait for anything else.
    _outcome: Outcome | None = None
    #: Whether the rows of the outcome are rows that the task has waited for.
    counts_rows = False

    @property
    def poll_log(self) -> PollLog | None:
        """The log of the wait, which counts polls. ``None`` if this process has begun no wait."""
        raise NotImplementedError

    def send_metrics(self, ending: str | None) -> None:
        """Send the metrics of this process's part of the wait. Best effort: no error, and no wait.

        :param ending: how the wait has ended; ``None`` if another process continues it.
        """
        try:
            self._send_metrics(ending)
        except Exception as error:  # noqa: BLE001 - metrics fail no task
            self.log.warning("The metrics of this wait could not be sent: %s: %s", type(error).__name__, error)

    def _send_metrics(self, ending: str | None) -> None:
        from airflow_provider_polaris._compat import stats

        poll_log, outcome = self.poll_log, self._outcome
        if poll_log is None or not poll_log.polls + poll_log.failed_polls:
            return  # the task has not waited: it was refused before, or it had nothing to wait for
        job = outcome.job if outcome else None
        tags = {"dag_id": self.dag_id, "task_id": self.task_id, "operator": type(self).__name__}
        if job and job.table and _TAG.fullmatch(job.table):
            tags["table"] = job.table
        counts = {
            f"wait.{ending}": 1 if ending else 0,
            "wait.polls": poll_log.polls,
            "wait.failed_polls": poll_log.failed_polls,
            "wait.outages": poll_log.outages,
        }
        metrics = outcome.metrics if outcome and self.counts_rows else None
        if metrics and job and job.has_completed:
            counts |= {
                "rows.processed": metrics.rows_processed or 0,
                "rows.with_warning": metrics.rows_processed_with_warning or 0,
                "rows.skipped": metrics.rows_skipped_by_error or 0,
            }
        backend = stats()
        for name, count in counts.items():
            if count:
                backend.incr(f"polaris.{name}", count, tags=tags)
        ended = job.end_time if job else None
        # The first poll of a wait finds a job that may have ended long ago.
        if ended is not None and poll_log.polls + poll_log.failed_polls > 1:
            backend.timing("polaris.wait.delay", timedelta(seconds=max(0.0, clock.now() - ended)), tags=tags)
