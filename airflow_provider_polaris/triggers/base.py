"""What the provider's triggers share: what is stored of a wait, its one event, and how it bears failed polls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar, Literal

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisError,
    error_to_dict,
)
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.polling.polled_wait import Pace
from airflow_provider_polaris.polling.shared_client import SharedClient, shared_client
from airflow_provider_polaris.waiting.progress_log import ProgressLog, explain


class PolarisTrigger(BaseTrigger):
    """A wait that fires one event, and returns. It never raises, and only reads.

    Its arguments are stored in Airflow's database while a task is deferred, so they are plain JSON, hold no secret, and
    stay as they are: a task deferred by one release goes on under the next.

    The event: ``{"outcome": "job" | "table" | "timeout" | "error", "job": {…} | None, "table": {…} | None,
    "error": {…} | None, "deadline": …, "failing": {…} | None, "trouble": "…" | None, "polls": …, "failed_polls": …}``.

    :param deadline: when the wait ends, in seconds since the epoch: wall clock, since it may go on in another process.
    :param poll_interval: the longest time between two polls, in seconds; each is up to a tenth shorter, at random.
    :param max_unreachable: how many seconds without an answer end the wait.
    :param exponential_backoff: double the interval after each poll, up to ``max_wait`` seconds if given.
    :param failing: what went wrong before this deferral (:meth:`OutageTolerance.to_dict`). The first poll then waits an
        interval: the poll before has just failed.
    :param last_job: the job as the worker last saw it, in the form of the event's ``job``.
    """

    #: Airflow's database holds this path while a task is deferred. It stays if the class ever moves.
    class_path: ClassVar[str]

    def __init__(
        self,
        *,
        job_id: str,
        polaris_conn_id: str,
        project_id: str | None,
        poll_interval: float,
        deadline: float,
        max_unreachable: float,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        failing: dict[str, Any] | None = None,
        last_job: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.polaris_conn_id = polaris_conn_id
        self.project_id = project_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.max_unreachable = max_unreachable
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.failing = failing
        self.last_job = last_job

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to make this trigger again."""
        return self.class_path, {
            "job_id": self.job_id,
            "polaris_conn_id": self.polaris_conn_id,
            "project_id": self.project_id,
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
            "max_unreachable": self.max_unreachable,
            "exponential_backoff": self.exponential_backoff,
            "max_wait": self.max_wait,
            "failing": self.failing,
            "last_job": self.last_job,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, and return."""
        notes = ProgressLog(self.job_id, self.log)
        notes.resume(self.last_job)
        tolerance = OutageTolerance(self.max_unreachable, self.poll_interval, worked=True)
        try:
            async with shared_client(self.polaris_conn_id, self.project_id) as client:
                outcome = await self.wait(client, tolerance, notes)
            event: dict[str, Any] = {"outcome": outcome, "error": None}
        except PolarisApiError as error:
            event = {"outcome": "error", "error": error_to_dict(explain(error, self.job_id, notes.last))}
        except PolarisError as error:
            event = {"outcome": "error", "error": error_to_dict(error)}
        except Exception as error:
            # A trigger that raises is a TaskDeferralError, which soft_fail would hide. Let the task fail, and say why.
            self.log.exception("Job %s: the wait broke", self.job_id)
            fault = PolarisError(f"Job {self.job_id}: the wait broke in the triggerer: {type(error).__name__}: {error}")
            event = {"outcome": "error", "error": error_to_dict(fault)}
        yield TriggerEvent(
            event
            | {
                "job": notes.last and notes.last.to_event(),
                "table": self.table_seen(),
                "deadline": self.deadline,
                "failing": tolerance.to_dict(clock.now()),
                "trouble": notes.trouble,
                "polls": notes.polls,
                "failed_polls": notes.failed_polls,
            }
        )

    async def wait(
        self, client: SharedClient, tolerance: OutageTolerance, notes: ProgressLog
    ) -> Literal["job", "table", "timeout"]:
        """Return what woke the task; raise a PolarisError if the wait cannot go on."""
        raise NotImplementedError

    def table_seen(self) -> dict[str, Any] | None:
        """Return what the event says of a table."""
        return None

    def pace(self) -> Pace:
        """Return how long it pauses between two polls."""
        return Pace(self.poll_interval, backoff=self.exponential_backoff, most=self.max_wait)
