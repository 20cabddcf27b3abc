"""The base class of the provider's triggers: stored arguments, and the one event that a trigger fires."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar, Literal

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisError
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.polling.polled_wait import Pace
from airflow_provider_polaris.polling.shared_client import SharedClient, shared_client
from airflow_provider_polaris.waiting.crossing import EventOutcome, TableSeen, TriggerArgs, WaitEvent
from airflow_provider_polaris.waiting.progress_log import ProgressLog, explain


class PolarisTrigger(BaseTrigger):
    """Wait in the triggerer, fire one :class:`WaitEvent`, and return. A trigger never raises, and only reads.

    :param stored: the arguments, as :class:`TriggerArgs` describes them. Arguments of a newer release are ignored.
        If an argument is missing, the trigger fires an event that says so.
    """

    #: Airflow's database holds this path while a task is deferred. The path stays the same if the class moves.
    class_path: ClassVar[str]
    #: The type of the stored arguments.
    args_type: ClassVar[type[TriggerArgs]]
    args: TriggerArgs

    def __init__(self, **stored: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stored = stored
        self._fault: PolarisError | None = None
        try:
            self.args = self.args_type.from_dict(stored)
        except PolarisError as error:
            self._fault = PolarisError(f"Job {stored.get('job_id')}: {error}")

    @property
    def job_id(self) -> str:
        """The id of the job."""
        return self.args.job_id

    @property
    def deadline(self) -> float:
        """When the wait ends, in seconds since the epoch."""
        return self.args.deadline

    @property
    def failing(self) -> dict[str, Any] | None:
        """What failed before this deferral."""
        return self.args.failing

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to make this trigger again."""
        return self.class_path, dict(self._stored) if self._fault else self.args.to_dict()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, and return."""
        event = WaitEvent(outcome="error", error=self._fault) if self._fault else await self._wait_for_event()
        yield TriggerEvent(event.to_dict())

    async def _wait_for_event(self) -> WaitEvent:
        args = self.args
        progress = ProgressLog(args.job_id, self.log)
        progress.resume(args.last_job)
        tolerance = OutageTolerance(args.max_unreachable, args.poll_interval, worked=True)
        outcome: EventOutcome = "error"
        error: PolarisError | None = None
        try:
            async with shared_client(args.polaris_conn_id, args.project_id) as client:
                outcome = await self.wait(client, tolerance, progress)
        except PolarisApiError as failure:
            error = explain(failure, args.job_id, progress.last)
        except PolarisError as failure:
            error = failure
        except Exception as failure:
            # If a trigger raises, Airflow fails the task with a TaskDeferralError, which soft_fail turns into a skip.
            # This event fails the task instead, and says why.
            self.log.exception("Job %s: the trigger failed", args.job_id)
            error = PolarisError(
                f"Job {args.job_id}: the trigger failed: {type(failure).__name__}: {failure}. "
                "The triggerer's log has the traceback"
            )
        return WaitEvent(
            outcome=outcome,
            deadline=args.deadline,
            job=progress.last,
            table=self.table_seen(),
            error=error,
            failing=tolerance.to_dict(clock.now()),
            trouble=progress.trouble,
            polls=progress.polls,
            failed_polls=progress.failed_polls,
        )

    async def wait(
        self, client: SharedClient, tolerance: OutageTolerance, progress: ProgressLog
    ) -> Literal["job", "table", "timeout"]:
        """Return why the task must continue. Raise a PolarisError if the wait cannot continue."""
        raise NotImplementedError

    def table_seen(self) -> TableSeen | None:
        """Return the table for the event, ``None`` if the trigger waits for a job."""
        return None

    def pace(self) -> Pace:
        """Return how long the wait pauses between two polls."""
        return Pace(self.args.poll_interval, backoff=self.args.exponential_backoff, most=self.args.max_wait)
