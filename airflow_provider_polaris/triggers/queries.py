"""The trigger of an asynchronous query: wait in the triggerer until the query is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance, QueryTolerance
from airflow_provider_polaris.polling.poller import LAST_REQUEST_SECONDS
from airflow_provider_polaris.polling.shared_client import SharedClient, answer_within
from airflow_provider_polaris.submission.kill_target import QueryOfTrigger
from airflow_provider_polaris.submission.trigger_kill import TriggerKill
from airflow_provider_polaris.triggers.base import PolarisTrigger
from airflow_provider_polaris.waiting.query_crossing import QueryEvent, QueryOutcome, QueryTriggerArgs
from airflow_provider_polaris.waiting.query_wait import QueryLog, pace_of


class PolarisQueryTrigger(PolarisTrigger[QueryLog]):
    """Poll an asynchronous query until it is over, or the deadline passes.

    The trigger does not read the result: the worker does that. Only :meth:`on_kill` may cancel the query.
    :class:`QueryTriggerArgs` describes the arguments, and :class:`QueryEvent` the event.
    """

    class_path = "airflow_provider_polaris.triggers.queries.PolarisQueryTrigger"
    args_type = QueryTriggerArgs
    event_type = QueryEvent
    args: QueryTriggerArgs

    @staticmethod
    def about(stored: Mapping[str, Any]) -> str:
        """Return the query, as the beginning of a message."""
        return f"Query {stored.get('query_id')}"

    def start_log(self) -> QueryLog:
        """Return the log of the wait."""
        return QueryLog(self.args.query_id, self.log)

    def tolerance(self) -> QueryTolerance:
        """Return which failed polls the wait tolerates."""
        return QueryTolerance(self.args.max_unreachable, self.args.poll_interval, worked=True)

    def seen(self, progress: QueryLog) -> dict[str, Any]:
        """Return the query, and its state as last seen."""
        return {"query_id": self.args.query_id, "state": progress.state}

    async def on_kill(self) -> None:
        """Cancel the query if a user has killed the task that waits here."""
        if not self._fault and self.args.cancel_on_kill:
            target = QueryOfTrigger(self.args.query_id)
            await TriggerKill(self.args, target, self.task_instance, self.log).cancel_if_killed()

    async def wait(self, client: SharedClient, tolerance: OutageTolerance, progress: QueryLog) -> QueryOutcome:
        """Poll until the query is over, or the deadline has passed."""
        args = self.args
        pace = pace_of(args.poll_interval, is_failing=tolerance.resume(args.failing, clock.now()))
        pause = pace.pause()
        while True:
            left = args.deadline - clock.now()
            if left <= 0:
                return "timeout"
            await clock.sleep_async(min(pause, left))
            pause = pace.pause()
            left = max(args.deadline - clock.now(), LAST_REQUEST_SECONDS)
            try:
                statement = await answer_within(left, client.get_statement(args.query_id))
            except PolarisApiError as error:
                pause = tolerance.failed(error, clock.now()) or pause
                progress.failed(error)
            else:
                progress.polled(statement)
                if statement.is_over:
                    return "over"
                tolerance.succeeded()
