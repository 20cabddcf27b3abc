"""The base class of the provider's triggers: stored arguments, and the one event that a trigger fires."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisError
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.polling.polled_wait import Pace
from airflow_provider_polaris.polling.shared_client import SharedClient, shared_client
from airflow_provider_polaris.waiting.crossing import EndEvent, OneJobArgs, TriggerArgs, WaitArgs, WaitEvent
from airflow_provider_polaris.waiting.progress_log import PollLog, ProgressLog

LogType = TypeVar("LogType", bound=PollLog)


class PolarisTrigger(BaseTrigger, Generic[LogType]):
    """Wait in the triggerer, fire one event, and return. A trigger never raises, and only reads.

    :param stored: the arguments, as ``args_type`` describes them. Arguments of a newer release are ignored.
        If an argument is missing, the trigger fires an event that says so.
    """

    #: Airflow's database holds this path while a task is deferred. The path stays the same if the class moves.
    class_path: ClassVar[str]
    #: The type of the stored arguments.
    args_type: ClassVar[type[WaitArgs]]
    #: The type of the event.
    event_type: ClassVar[type[EndEvent]] = WaitEvent
    args: WaitArgs

    def __init__(self, **stored: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        #: The arguments, only if they are invalid: then ``args`` cannot return them.
        self._stored: dict[str, Any] | None = None
        self._fault: PolarisError | None = None
        try:
            self.args = self.args_type.from_dict(stored)
        except PolarisError as error:
            self._stored = stored
            self._fault = PolarisError(f"{self.about(stored)}: {error}")

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
        return self.class_path, self.args.to_dict() if self._stored is None else dict(self._stored)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, and return."""
        fault = self._fault
        event = self.event_type(outcome="error", error=fault) if fault else await self._wait_for_event()
        yield TriggerEvent(event.to_dict())

    async def _wait_for_event(self) -> EndEvent:
        args = self.args
        progress = self.start_log()
        tolerance = self.tolerance()
        if args.failing:
            progress.continue_outage()
        outcome = "error"
        error: PolarisError | None = None
        try:
            async with shared_client(args.polaris_conn_id, args.project_id) as client:
                outcome = await self.wait(client, tolerance, progress)
        except PolarisApiError as failure:
            error = progress.explain(failure)
        except PolarisError as failure:
            error = failure
        except Exception as failure:
            # If a trigger raises, Airflow fails the task with a TaskDeferralError, which soft_fail turns into a skip.
            # This event fails the task instead, and says why.
            self.log.exception("%s: the trigger failed", progress.about)
            error = PolarisError(
                f"{progress.about}: the trigger failed: {type(failure).__name__}: {failure}. "
                "The triggerer's log has the traceback"
            )
        return self.event_type(
            outcome=outcome,
            deadline=args.deadline,
            error=error,
            failing=tolerance.to_dict(clock.now()),
            trouble=progress.trouble,
            polls=progress.polls,
            failed_polls=progress.failed_polls,
            outages=progress.outages,
            **self.seen(progress),
        )

    @staticmethod
    def about(stored: Mapping[str, Any]) -> str:
        """Return what the stored arguments wait for, as the beginning of a message. They may be incomplete."""
        raise NotImplementedError

    def start_log(self) -> LogType:
        """Return the log of the wait."""
        raise NotImplementedError

    async def wait(self, client: SharedClient, tolerance: OutageTolerance, progress: LogType) -> str:
        """Return the outcome for the event: why the task must continue.

        :raises PolarisError: if the wait cannot continue.
        """
        raise NotImplementedError

    def seen(self, progress: LogType) -> dict[str, Any]:
        """Return what else the event says."""
        raise NotImplementedError

    def tolerance(self) -> OutageTolerance:
        """Return which failed polls the wait tolerates."""
        return OutageTolerance(self.args.max_unreachable, self.args.poll_interval, worked=True)


def pace_of(args: TriggerArgs) -> Pace:
    """Return how long a wait pauses between two polls."""
    waited = None if args.waiting_since is None else max(0.0, clock.now() - args.waiting_since)
    return Pace(args.poll_interval, backoff=args.exponential_backoff, most=args.max_wait, waited=waited)


class OneJobTrigger(PolarisTrigger[ProgressLog]):
    """The base of the triggers whose job is known."""

    args: OneJobArgs

    @property
    def job_id(self) -> str:
        """The id of the job."""
        return self.args.job_id

    @staticmethod
    def about(stored: Mapping[str, Any]) -> str:
        """Return the job, as the beginning of a message."""
        return f"Job {stored.get('job_id')}"

    def start_log(self) -> ProgressLog:
        """Return the log of the wait, which continues from the job as the worker last saw it."""
        progress = ProgressLog(self.job_id, self.log)
        progress.resume(self.args.last_job)
        return progress

    def seen(self, progress: ProgressLog) -> dict[str, Any]:
        """Return the job as last seen."""
        return {"job": progress.last}
