"""PolarisTableTrigger: wait in the triggerer until what a job has loaded can be queried. It only reads."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisNotFound, PolarisUnreachable
from airflow_provider_polaris.gate.availability import Readiness, Table
from airflow_provider_polaris.gate.decision import Verdict
from airflow_provider_polaris.gate.outage_tolerance import Patience
from airflow_provider_polaris.polling.shared_client import SharedClient
from airflow_provider_polaris.polling.subscription import LAST_ASK
from airflow_provider_polaris.triggers.base import PolarisTrigger
from airflow_provider_polaris.waiting.progress_log import WaitLog


class PolarisTableTrigger(PolarisTrigger):
    """Look at the table of a job that completed until it is available, is being deleted, or is not there.

    A wait of its own, after the job's: the worker has read the counters in between, and refused what they do not bear.

    :param table: its name.
    """

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

    async def wait(self, client: SharedClient, patience: Patience, notes: WaitLog) -> Literal["table", "timeout"]:
        """Look until the table's state is one that ends the wait, twice where it takes that."""
        pace = self.pace()
        pause = pace.pause() if patience.resume(self.failing, clock.now()) else 0.0
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
                pause = patience.failed(error, clock.now()) or pause
                notes.failed(error)
            else:
                decision = self._readiness.saw(table, clock.now())
                notes.saw_table(str(self._readiness), decision)
                if decision.verdict is not Verdict.WAIT:
                    return "table"
                patience.succeeded()
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
