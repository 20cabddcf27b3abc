"""The triggers: wait in the triggerer until a job, or its table, ends the wait of a task."""

from __future__ import annotations

import asyncio
from functools import cached_property, partial
from typing import Literal

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisNotFound
from airflow_provider_polaris.api.models import Job, Table
from airflow_provider_polaris.gate.availability import Readiness
from airflow_provider_polaris.gate.decision import Condition, Verdict, decide
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.polling.job_poller import LAST_REQUEST_SECONDS
from airflow_provider_polaris.polling.shared_client import SharedClient, answer_within
from airflow_provider_polaris.submission.kill_target import JobOfTrigger
from airflow_provider_polaris.submission.trigger_kill import TriggerKill
from airflow_provider_polaris.triggers.base import PolarisTrigger
from airflow_provider_polaris.waiting.crossing import JobTriggerArgs, TableSeen, TableTriggerArgs, TriggerArgs
from airflow_provider_polaris.waiting.progress_log import ProgressLog
from airflow_provider_polaris.waiting.progress_report import next_report, read_progress


class PolarisJobTrigger(PolarisTrigger):
    """Poll one job until the job ends the wait, or the deadline passes.

    The trigger does not judge the job: the thresholds stay on the worker. Only :meth:`on_kill` may change the job.
    :class:`JobTriggerArgs` describes the arguments.
    """

    class_path = "airflow_provider_polaris.triggers.polaris.PolarisJobTrigger"
    args_type = JobTriggerArgs
    args: JobTriggerArgs

    @property
    def gate(self) -> Condition:
        """The condition that ends the wait."""
        return self.args.condition

    async def wait(
        self, client: SharedClient, tolerance: OutageTolerance, progress: ProgressLog
    ) -> Literal["job", "timeout"]:
        """Take notices of the shared poll until the job ends the wait, or the deadline passes."""
        # A task of its own, so that a report never delays the wait.
        reports = asyncio.create_task(self._report(client, progress))
        try:
            return await self._wait(client, tolerance, progress)
        finally:
            reports.cancel()

    async def _wait(
        self, client: SharedClient, tolerance: OutageTolerance, progress: ProgressLog
    ) -> Literal["job", "timeout"]:
        pace = self.pace()
        first = pace.pause() if tolerance.resume(self.failing, clock.now()) else 0.0
        with client.poller.subscribe(
            self.job_id, self._is_decided, pace, self.deadline, first=first, known=progress.last
        ) as poll:
            while True:
                answer, silent_polls = await poll.next()
                progress.add_silent_polls(silent_polls)
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

    async def _report(self, client: SharedClient, progress: ProgressLog) -> None:
        """Log how far the job is, from time to time."""
        read = partial(read_progress, job_id=self.job_id)
        began, due = clock.monotonic(), 0.0
        while True:
            # An event loop may wake a little early.
            due = next_report(max(due, clock.monotonic() - began))
            await clock.sleep_async(began + due - clock.monotonic())
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


class PolarisTableTrigger(PolarisTrigger):
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

    def table_seen(self) -> TableSeen:
        """Return the table for the event."""
        return TableSeen(self.table, self._readiness.state, str(self._readiness))

    async def wait(
        self, client: SharedClient, tolerance: OutageTolerance, progress: ProgressLog
    ) -> Literal["table", "timeout"]:
        """Poll until the table's state ends the wait, after a second check if the state needs that."""
        pace = self.pace()
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
                pause = tolerance.failed(error, clock.now()) or pause
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


def trigger_for(args: TriggerArgs) -> PolarisTrigger:
    """Return the trigger that waits as the arguments say."""
    kind = PolarisTableTrigger if isinstance(args, TableTriggerArgs) else PolarisJobTrigger
    return kind(**args.to_dict())
