"""The trigger of an asynchronous query: wait in the triggerer until the query is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisError
from airflow_provider_polaris.gate.outage_tolerance import QueryTolerance
from airflow_provider_polaris.polling.poller import LAST_REQUEST_SECONDS
from airflow_provider_polaris.polling.shared_client import SharedClient, answer_within, shared_client
from airflow_provider_polaris.submission.kill_target import QueryOfTrigger
from airflow_provider_polaris.submission.trigger_kill import TriggerKill
from airflow_provider_polaris.waiting.query_crossing import QueryEvent, QueryOutcome, QueryTriggerArgs
from airflow_provider_polaris.waiting.query_wait import QueryLog, pace_of


class PolarisQueryTrigger(BaseTrigger):
    """Poll an asynchronous query until it is over, or the deadline passes.

    The trigger fires one :class:`QueryEvent`, and never raises. It does not read the result: the worker does that. Only
    :meth:`on_kill` may cancel the query.

    :param stored: the arguments, as :class:`QueryTriggerArgs` describes them. Arguments of a newer release are ignored.
        If an argument is missing, the trigger fires an event that says so.
    """

    #: Airflow's database holds this path while a task is deferred. The path stays the same if the class moves.
    class_path = "airflow_provider_polaris.triggers.queries.PolarisQueryTrigger"
    args: QueryTriggerArgs

    def __init__(self, **stored: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stored = stored
        self._fault: PolarisError | None = None
        try:
            self.args = QueryTriggerArgs.from_dict(stored)
        except PolarisError as error:
            self._fault = PolarisError(f"Query {stored.get('query_id')}: {error}")

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to make this trigger again."""
        return self.class_path, dict(self._stored) if self._fault else self.args.to_dict()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, and return."""
        event = QueryEvent(outcome="error", error=self._fault) if self._fault else await self._wait_for_event()
        yield TriggerEvent(event.to_dict())

    async def on_kill(self) -> None:
        """Cancel the query if a user has killed the task that waits here."""
        if not self._fault and self.args.cancel_on_kill:
            target = QueryOfTrigger(self.args.query_id)
            await TriggerKill(self.args, target, self.task_instance, self.log).cancel_if_killed()

    async def _wait_for_event(self) -> QueryEvent:
        args = self.args
        log = QueryLog(args.query_id, self.log)
        tolerance = QueryTolerance(args.max_unreachable, args.poll_interval, worked=True)
        outcome: QueryOutcome = "error"
        error: PolarisError | None = None
        try:
            async with shared_client(args.polaris_conn_id, args.project_id) as client:
                outcome = await self._wait(client, tolerance, log)
        except PolarisApiError as failure:
            error = log.explain(failure)
        except PolarisError as failure:
            error = failure
        except Exception as failure:
            # If a trigger raises, Airflow fails the task with an error that says nothing about the query.
            self.log.exception("Query %s: the trigger failed", args.query_id)
            error = PolarisError(
                f"Query {args.query_id}: the trigger failed: {type(failure).__name__}: {failure}. "
                "The triggerer's log has the traceback"
            )
        return QueryEvent(
            outcome=outcome,
            query_id=args.query_id,
            deadline=args.deadline,
            state=log.state,
            error=error,
            failing=tolerance.to_dict(clock.now()),
            trouble=log.trouble,
            polls=log.polls,
            failed_polls=log.failed_polls,
        )

    async def _wait(self, client: SharedClient, tolerance: QueryTolerance, log: QueryLog) -> QueryOutcome:
        """Poll until the query is over, or the deadline has passed. Raises PolarisError if the wait cannot continue."""
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
                log.failed(error)
            else:
                log.polled(statement)
                if statement.is_over:
                    return "over"
                tolerance.succeeded()
