"""The triggers: wait in the triggerer until a job, or its table, needs its task's attention."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Literal

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisNotFound, PolarisUnreachable
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.availability import Readiness, Table
from airflow_provider_polaris.gate.decision import Condition, Gate, UntilOver, Verdict, decide
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.polling.shared_client import SharedClient
from airflow_provider_polaris.polling.subscription import LAST_ASK
from airflow_provider_polaris.triggers.base import PolarisTrigger
from airflow_provider_polaris.waiting.progress_log import ProgressLog


class PolarisJobTrigger(PolarisTrigger):
    """Poll one job until a gate would stop waiting for it.

    It knows when to wake the task, not what the task makes of it: the thresholds stay on the worker. It only reads, but
    for :meth:`on_kill`.

    :param wait_for: as of the gate; ``over``: however it ended.
    :param fail_on_unhealthy: as of the gate.
    :param cancel_on_kill: cancel the job when a user clears the waiting task, or marks it. Airflow tells from 3.3 on.
    :param logical_date: of the DAG run, in ISO 8601; ``None`` if it has none. By it Airflow tells whether the task was
        cleared.
    """

    class_path = "airflow_provider_polaris.triggers.polaris.PolarisJobTrigger"

    def __init__(
        self,
        *,
        wait_for: Literal["completed", "running", "over"],
        fail_on_unhealthy: bool,
        cancel_on_kill: bool = False,
        logical_date: str | None = None,
        **wait: Any,
    ) -> None:
        super().__init__(**wait)
        self.wait_for = wait_for
        self.fail_on_unhealthy = fail_on_unhealthy
        self.cancel_on_kill = cancel_on_kill
        self.logical_date = datetime.fromisoformat(logical_date) if logical_date else None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to make this trigger again."""
        path, arguments = super().serialize()
        return path, {
            **arguments,
            "wait_for": self.wait_for,
            "fail_on_unhealthy": self.fail_on_unhealthy,
            "cancel_on_kill": self.cancel_on_kill,
            "logical_date": self.logical_date.isoformat() if self.logical_date else None,
        }

    @property
    def gate(self) -> Condition:
        """What it waits for."""
        if self.wait_for == "over":
            return UntilOver()
        return Gate(wait_for=self.wait_for, fail_on_unhealthy=self.fail_on_unhealthy)

    async def wait(
        self, client: SharedClient, tolerance: OutageTolerance, notes: ProgressLog
    ) -> Literal["job", "timeout"]:
        """Listen to the poll until the gate would stop waiting."""
        pace = self.pace()
        first = pace.pause() if tolerance.resume(self.failing, clock.now()) else 0.0
        with client.watcher.subscribe(
            self.job_id, self.gate, pace, self.deadline, first=first, known=notes.last
        ) as poll:
            while True:
                answer = await poll.next()
                notes.polls, poll.silent_polls = notes.polls + poll.silent_polls, 0
                if isinstance(answer, PolarisApiError):
                    delay = tolerance.failed(answer, clock.now())
                    notes.failed(answer)
                    if isinstance(answer, PolarisNotFound) and delay is not None:
                        poll.ask_again_in(delay)
                elif self._ends_with(answer or notes.last, notes):
                    return "job"
                else:
                    tolerance.succeeded()
                if clock.now() >= self.deadline:
                    return "timeout"

    def _ends_with(self, job: Job | None, notes: ProgressLog) -> bool:
        if job is None:
            return False
        decision = decide(job, self.gate)
        notes.saw(job, decision)
        return decision.verdict is not Verdict.WAIT

    async def on_kill(self) -> None:
        """Cancel the job of a task that a user has killed while it waited here."""
        if self.cancel_on_kill:
            from airflow_provider_polaris.submission.trigger_kill import cancel_killed

            await cancel_killed(self)


class PolarisTableTrigger(PolarisTrigger):
    """Look at the table of a job that completed until it is available, is being deleted, or is not there.

    A wait of its own, after the job's: the worker has read the counters in between, and refused what they do not bear.

    :param table: its name.
    """

    class_path = "airflow_provider_polaris.triggers.polaris.PolarisTableTrigger"

    def __init__(self, *, table: str, **wait: Any) -> None:
        super().__init__(**wait)
        self.table = table
        self._readiness = Readiness(table)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to make this trigger again."""
        path, arguments = super().serialize()
        return path, {**arguments, "table": self.table}

    def table_seen(self) -> dict[str, Any] | None:
        """Return what the last look found."""
        return self._readiness.to_event()

    async def wait(
        self, client: SharedClient, tolerance: OutageTolerance, notes: ProgressLog
    ) -> Literal["table", "timeout"]:
        """Look until the table's state is one that ends the wait, twice where it takes that."""
        pace = self.pace()
        pause = pace.pause() if tolerance.resume(self.failing, clock.now()) else 0.0
        while True:
            left = self.deadline - clock.now()
            if pause:
                if left <= 0:
                    return "timeout"
                # A second look that is under way may end a little later: Airflow's backstop leaves time for it.
                await clock.sleep_async(pause if self._readiness.second_look_in(clock.now()) else min(pause, left))
            pause = pace.pause()
            try:
                table = await self._ask(client)
            except PolarisApiError as error:
                pause = tolerance.failed(error, clock.now()) or pause
                notes.failed(error)
            else:
                decision = self._readiness.saw(table, clock.now())
                notes.saw_table(str(self._readiness), decision)
                if decision.verdict is not Verdict.WAIT:
                    return "table"
                tolerance.succeeded()
                pause = self._readiness.second_look_in(clock.now()) or pause

    async def _ask(self, client: SharedClient) -> Table | None:
        """Ask, and take a service that hangs past the deadline for one that did not answer."""
        left = max(self.deadline - clock.now(), LAST_ASK)
        asking = asyncio.ensure_future(client.get_table(self.table))
        try:
            # Not wait_for, which up to Python 3.11 loses a cancellation that comes together with the answer.
            await asyncio.wait({asking}, timeout=left)
            if not asking.done():
                raise PolarisUnreachable("No answer before the deadline")
            return asking.result()
        except PolarisNotFound:
            return None
        finally:
            if not asking.cancel() and not asking.cancelled():
                asking.exception()  # of one that was cancelled together with it, nobody else asks for that
