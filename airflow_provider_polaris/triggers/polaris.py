"""The triggers: wait in the triggerer until a job, its table, or a load of a table ends the wait of a task."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any, Literal

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisNotFound
from airflow_provider_polaris.api.models import Job, Table
from airflow_provider_polaris.gate.availability import Readiness
from airflow_provider_polaris.gate.decision import Condition, Verdict, decide
from airflow_provider_polaris.gate.outage_tolerance import ListTolerance, OutageTolerance
from airflow_provider_polaris.polling.poller import LAST_REQUEST_SECONDS
from airflow_provider_polaris.polling.shared_client import SharedClient, answer_within
from airflow_provider_polaris.submission.kill_target import JobOfTrigger
from airflow_provider_polaris.submission.trigger_kill import TriggerKill
from airflow_provider_polaris.triggers.base import OneJobTrigger, PolarisTrigger, pace_of
from airflow_provider_polaris.waiting.crossing import (
    JobTriggerArgs,
    LoadTriggerArgs,
    TableSeen,
    TableTriggerArgs,
    TriggerArgs,
)
from airflow_provider_polaris.waiting.load_log import LoadLog
from airflow_provider_polaris.waiting.progress_log import ProgressLog
from airflow_provider_polaris.waiting.progress_report import ReportTimer, read_progress


class PolarisJobTrigger(OneJobTrigger):
    """Poll one job until the job ends the wait, or the deadline passes.

    The trigger does not judge the job: the thresholds stay on the worker. Only :meth:`on_kill` may change the job.
    :class:`JobTriggerArgs` describes the arguments.
    """

    class_path = "airflow_provider_polaris.triggers.polaris.PolarisJobTrigger"
    args_type = JobTriggerArgs
    args: JobTriggerArgs
    #: Whether a list has shown the last news.
    _is_listed: bool = False

    @property
    def gate(self) -> Condition:
        """The condition that ends the wait."""
        return self.args.condition

    async def wait(
        self, client: SharedClient, tolerance: OutageTolerance, progress: ProgressLog
    ) -> Literal["job", "timeout"]:
        """Take notices of the shared poll until the job ends the wait, or the deadline passes."""
        pace = pace_of(self.args)
        first = pace.pause() if tolerance.resume(self.failing, clock.now()) else 0.0
        with (
            # Tasks of their own, so that a report never delays the wait.
            ReportTimer(partial(self._report, client, progress)),
            client.poller.subscribe(
                self.job_id,
                self._is_decided,
                pace,
                self.deadline,
                first=first,
                known=progress.last,
                takes_list=self.args.takes_list,
            ) as poll,
        ):
            while True:
                answer, silent_polls, self._is_listed = await poll.next()
                progress.add_silent_polls(silent_polls)
                if self._is_listed and isinstance(answer, Job):
                    tolerance.succeeded()
                    progress.job_listed(answer)
                    return "job"
                if isinstance(answer, PolarisApiError):
                    delay = tolerance.failed(answer, clock.now())
                    progress.failed(answer)
                    if isinstance(answer, PolarisNotFound) and delay is not None:
                        poll.check_in(delay)
                elif self._ends_with(answer or progress.last, progress):
                    return "job"
                else:
                    tolerance.succeeded()
                if clock.now() >= self.deadline:
                    return "timeout"

    def seen(self, progress: ProgressLog) -> dict[str, Any]:
        """Return the job as last seen, and whether only a list has shown its end."""
        return {**super().seen(progress), "is_listed": self._is_listed}

    async def _report(self, client: SharedClient, progress: ProgressLog) -> None:
        """Log how far the job is."""
        read = partial(read_progress, job_id=self.job_id)
        numbers = await client.spare_call(read, lambda: progress.can_report)
        if numbers is not None:
            progress.report(numbers)

    def _is_decided(self, job: Job) -> bool:
        return decide(job, self.gate).verdict is not Verdict.WAIT

    def _ends_with(self, job: Job | None, progress: ProgressLog) -> bool:
        if job is None:
            return False
        decision = decide(job, self.gate)
        progress.job_polled(job, decision)
        return decision.verdict is not Verdict.WAIT

    async def on_kill(self) -> None:
        """Cancel the job if a user has killed the task that waits here."""
        if not self._fault and self.args.cancel_on_kill:
            target = JobOfTrigger(self.job_id, self.args.condition)
            await TriggerKill(self.args, target, self.task_instance, self.log).cancel_if_killed()


class PolarisTableTrigger(OneJobTrigger):
    """Poll the table of a completed job until the table is available, is being deleted, or does not exist.

    The wait for the table follows the wait for the job. In between, the worker has read the counters and compared them
    with the thresholds. :class:`TableTriggerArgs` describes the arguments.
    """

    class_path = "airflow_provider_polaris.triggers.polaris.PolarisTableTrigger"
    args_type = TableTriggerArgs
    args: TableTriggerArgs

    @property
    def table(self) -> str:
        """The name of the table."""
        return self.args.table

    @cached_property
    def _readiness(self) -> Readiness:
        return Readiness(self.table)

    def seen(self, progress: ProgressLog) -> dict[str, Any]:
        """Return the job, and its table as last seen."""
        return {**super().seen(progress), "table": TableSeen(self.table, self._readiness.state, str(self._readiness))}

    async def wait(
        self, client: SharedClient, tolerance: OutageTolerance, progress: ProgressLog
    ) -> Literal["table", "timeout"]:
        """Poll until the table's state ends the wait, after a second check if the state needs that."""
        pace = pace_of(self.args)
        pause = pace.pause() if tolerance.resume(self.failing, clock.now()) else 0.0
        while True:
            left = self.deadline - clock.now()
            if pause:
                if left <= 0:
                    return "timeout"
                # A second check may end after the deadline. Airflow's own timeout comes later.
                await clock.sleep_async(pause if self._readiness.second_check_in(clock.now()) else min(pause, left))
            pause = pace.pause()
            try:
                table = await self._request_table(client)
            except PolarisApiError as error:
                pause = tolerance.failed(error, clock.now(), pause) or pause
                progress.failed(error)
            else:
                decision = self._readiness.table_polled(table, clock.now())
                progress.table_polled(str(self._readiness), decision)
                if decision.verdict is not Verdict.WAIT:
                    return "table"
                tolerance.succeeded()
                pause = self._readiness.second_check_in(clock.now()) or pause

    async def _request_table(self, client: SharedClient) -> Table | None:
        """Request the table. A service that hangs past the deadline counts as unreachable."""
        left = max(self.deadline - clock.now(), LAST_REQUEST_SECONDS)
        try:
            return await answer_within(left, client.get_table(self.table))
        except PolarisNotFound:
            return None


class PolarisLoadTrigger(PolarisTrigger[LoadLog]):
    """Poll the lists of jobs until a table has a load that counts, or the deadline passes.

    The triggers of one connection share each request for a list, whatever their tables. The trigger does not judge
    the load: the gate stays on the worker. :class:`LoadTriggerArgs` describes the arguments.
    """

    class_path = "airflow_provider_polaris.triggers.polaris.PolarisLoadTrigger"
    args_type = LoadTriggerArgs
    args: LoadTriggerArgs
    _found: Job | None = None

    @staticmethod
    def about(stored: Mapping[str, Any]) -> str:
        """Return the table, as the beginning of a message."""
        return f"Table {stored.get('table')!r}"

    def start_log(self) -> LoadLog:
        """Return the log of the wait. The worker has logged its beginning."""
        log = LoadLog(self.args.choice, self.args.since, self.log, self.args.loads.refused)
        log.mark_logged()
        return log

    def tolerance(self) -> ListTolerance:
        """Return which failed polls the wait tolerates."""
        return ListTolerance(self.args.max_unreachable, self.args.poll_interval, worked=True)

    async def wait(
        self, client: SharedClient, tolerance: OutageTolerance, progress: LoadLog
    ) -> Literal["job", "timeout"]:
        """Take notices of the shared poll until the table has a load, or the deadline passes."""
        pace = pace_of(self.args)
        first = pace.pause() if tolerance.resume(self.failing, clock.now()) else 0.0
        read_from = self.args.read_from.timestamp() if self.args.read_from else None
        with client.loads_poller.subscribe(
            self.args.choice, pace, self.deadline, read_from=read_from, running=self.args.running, first=first
        ) as poll:
            while True:
                answer, silent_polls, _ = await poll.next()
                progress.add_silent_polls(silent_polls)
                if isinstance(answer, PolarisApiError):
                    delay = tolerance.failed(answer, clock.now())
                    progress.failed(answer)
                    if isinstance(answer, PolarisNotFound) and delay is not None:
                        poll.check_in(delay)
                elif answer:
                    self._found = answer[0]
                    return "job"
                else:
                    tolerance.succeeded()
                    progress.list_polled()
                if clock.now() >= self.deadline:
                    return "timeout"

    def seen(self, progress: LoadLog) -> dict[str, Any]:  # noqa: ARG002
        """Return the load that was found, and the loads that the worker has refused."""
        return {"job": self._found, "loads": self.args.loads}


def trigger_for(args: TriggerArgs) -> PolarisTrigger[Any]:
    """Return the trigger that waits as the arguments say."""
    kind = next(kind for kind in _KINDS if kind.args_type is type(args))
    return kind(**args.to_dict())


_KINDS: tuple[type[PolarisTrigger[Any]], ...] = (PolarisJobTrigger, PolarisTableTrigger, PolarisLoadTrigger)
