"""The wait of one task for an asynchronous query: its log, everywhere, and its polls, on a worker."""

from __future__ import annotations

import math
from typing import Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisNotFound,
    PolarisQueryFailed,
)
from airflow_provider_polaris.api.models import QueryResult, Statement
from airflow_provider_polaris.api.parsing import clean
from airflow_provider_polaris.api.statement_calls import failure_of
from airflow_provider_polaris.exceptions import PolarisResultTooLarge
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance, QueryTolerance
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.polling.polled_wait import Pace
from airflow_provider_polaris.waiting.progress_log import Log, PollLog
from airflow_provider_polaris.waiting.query_crossing import QueryEvent

#: The first pause of a wait, in seconds. Each further one is twice as long, up to the interval: most queries are short.
FIRST_PAUSE_SECONDS = 1.0


def pace_of(interval: float, *, is_failing: bool) -> Pace:
    """Return how long a wait pauses between two polls.

    :param interval: the longest pause, in seconds.
    :param is_failing: whether the poll before has failed. Then each pause is an interval.
    """
    return Pace(interval if is_failing else min(FIRST_PAUSE_SECONDS, interval), backoff=True, most=interval)


class QueryLog(PollLog):
    """Logs the states of a query during a wait. The lines are the same on a worker and in a triggerer."""

    missing = "query"

    def __init__(self, query_id: str, log: Log) -> None:
        super().__init__(f"Query {query_id}", log)
        #: The state at the last successful poll.
        self.state: str | None = None

    def polled(self, statement: Statement) -> None:
        """Record the query of a successful poll. Log its state if that has changed."""
        self.polls += 1
        again = "Polaris responds again. " if self.recovered() else ""
        if again or statement.state != self.state:
            self.log.info("%s%s is %s", again, self.about, statement.state)
        self.state = statement.state

    def resume(self, event: QueryEvent) -> None:
        """Continue from a trigger's event."""
        self.state = event.state
        self.add_polls_of(event)

    def explain(self, error: PolarisApiError) -> PolarisApiError:
        """Return the error that ends a wait: of the same type, with the query and its last known state."""
        seen = f"The query was {self.state} when last seen" if self.state else "The query was not reported yet"
        lines = [*str(error).splitlines(), *([] if isinstance(error, PolarisNotFound) else [seen])]
        message = "\n".join([*lines, self.about])
        return type(error)(message, status=error.status, code=error.code)


class QueryWait:
    """The wait of one task for one query, within one process.

    :param max_unreachable: the wait ends after an outage of this many seconds.
    :param interval: the longest pause between two polls, in seconds.
    :param reads_result: whether to read the rows of the result.
    :param max_rows: the most rows that the result may have, ``None`` for any number.
    """

    def __init__(
        self,
        hook: PolarisHook,
        query_id: str,
        log: Log,
        *,
        max_unreachable: float,
        interval: float,
        reads_result: bool = True,
        max_rows: int | None = None,
    ) -> None:
        self.hook = hook
        self.query_id = query_id
        self.interval = interval
        self.log = QueryLog(query_id, log)
        # Polaris has accepted the key when the query was started.
        self.tolerance: OutageTolerance = QueryTolerance(max_unreachable, interval, worked=True)
        self._reads_result = reads_result
        self._max_rows = max_rows
        self._statement: Statement | None = None
        #: Seconds until the next poll, if Polaris has asked for a longer pause.
        self._next: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether the query was over at the last poll."""
        return self._statement is not None and self._statement.is_over

    def resume(self, event: QueryEvent) -> None:
        """Continue from the event of a trigger."""
        self.log.resume(event)
        self.tolerance.resume(event.failing, clock.now())

    def poll(self) -> QueryResult | None:
        """Poll once. Return the result; ``None`` to continue.

        :raises PolarisQueryFailed: if the query has failed.
        :raises PolarisResultTooLarge: if the result has too many rows.
        :raises PolarisApiError: if the wait cannot continue.
        """
        while True:
            try:
                return self._poll()
            except PolarisQueryFailed:
                raise
            except PolarisApiError as error:
                self._next = self._tolerate(error)
                if not isinstance(error, PolarisNotFound):
                    return None
            # Here, and not after another deferral: a trigger does not request the result, which may be gone alone.
            clock.sleep(self._next or 0.0)

    def wait_until(self, deadline: float) -> QueryResult | None:
        """Poll until the query is over. Return ``None`` if the deadline passes before that.

        :param deadline: in seconds since the epoch.
        """
        pace = pace_of(self.interval, is_failing=self.log.trouble is not None)
        while True:
            left = deadline - clock.now()
            if left <= 0:
                return None
            clock.sleep(min(self._next or pace.pause(), left))
            result = self.poll()
            if result is not None:
                return result

    def _tolerate(self, error: PolarisApiError) -> float | None:
        """Return after how many seconds to poll again, ``None`` for the usual pause. Raise if the wait is over."""
        try:
            delay = self.tolerance.failed(error, clock.now())
        except PolarisApiError as final:
            raise self.log.explain(final) from None
        self.log.failed(error)
        return delay

    def _poll(self) -> QueryResult | None:
        self._next = None
        statement = self._statement = self.hook.get_statement(self.query_id, retry=False)
        self.log.polled(statement)
        if statement.has_failed:
            raise failure_of(statement)
        result = self._result_of(statement) if statement.has_succeeded else None
        # Only now: a result that cannot be read is an outage that continues.
        self.tolerance.succeeded()
        return result

    def _result_of(self, statement: Statement) -> QueryResult:
        self._check_size(statement.total_rows)
        if not self._reads_result:
            return QueryResult(statement.columns, ())
        result = self.hook.statement_results(self.query_id)
        self._check_size(len(result))
        return result

    def _check_size(self, rows: int | None) -> None:
        if self._reads_result and None not in (rows, self._max_rows) and rows > self._max_rows:  # type: ignore[operator]
            raise PolarisResultTooLarge(
                f"The result has {rows:,} rows, max_rows is {self._max_rows:,}\n"
                "Let the query return fewer rows, or aggregate in the query\n"
                "A larger max_rows puts more rows into XCom, and so into Airflow's database\n"
                f"Query {self.query_id}"
            )


def rows_for_xcom(result: QueryResult) -> list[list[Any]]:
    """Return the rows as plain JSON, which each database of Airflow accepts."""
    return [[_plain(value) for value in row] for row in result]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"  # as Druid writes them
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
