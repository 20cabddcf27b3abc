"""The calls on asynchronous queries: queries that may take longer than a minute. Polaris calls them statements.

Facts about the service come from the vendor's OpenAPI document. It does not describe why a query failed. Druid, whose
API this is, has ``errorDetails``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from airflow_provider_polaris.api.caller import Caller
from airflow_provider_polaris.api.connection import check_id, is_id
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisInvalidResponse,
    PolarisNotFound,
    PolarisQueryFailed,
    PolarisResponseTooLarge,
    PolarisTransientError,
    PolarisUnreachable,
    sentences,
)
from airflow_provider_polaris.api.models import QueryResult, Statement, StatementPage
from airflow_provider_polaris.api.query_calls import MAX_RESULT, QUERY_SECONDS, body_of, lines_of
from airflow_provider_polaris.api.retries import Retry

PATH = ("query", "sql", "statements")
#: The categories of an error with a status of 5xx that are about the query, and not about its request.
REFUSED_CATEGORIES = frozenset({"INVALID_INPUT", "UNSUPPORTED", "CANCELED"})


class StatementCalls(Caller):
    """The calls on asynchronous queries. The API key needs ``AccessQueries`` and ``ManageIngestionJobs``."""

    def start_query(
        self, sql: str, parameters: Sequence[Any] | None = None, *, context: Mapping[str, Any] | None = None
    ) -> Statement:
        """Start a SELECT that may take longer than a minute, and return it. The call does not wait for its end.

        Polaris bills each query that it receives. So a request whose response was lost is not sent again. It raises a
        PolarisTransientError whose ``received`` is true: the query may run, and nobody knows its id.

        :param parameters: see :meth:`query`.
        :param context: Druid's query context, such as ``{"sqlTimeZone": "Europe/Zurich"}``.
        :raises PolarisQueryFailed: if the query is invalid.
        """
        body = body_of(sql, parameters, context)
        try:
            return self._request(
                "POST", *PATH, body=body, read=_started, retry=Retry.UNSENT, least_timeout=QUERY_SECONDS
            )
        except PolarisResponseTooLarge as error:
            raise _may_run(error, PolarisInvalidResponse) from None
        except PolarisQueryFailed as error:
            if (error.status or 0) < 500 or error.category in REFUSED_CATEGORIES:
                raise
            raise _may_run(error, PolarisUnreachable) from None
        except PolarisTransientError as error:
            if not error.received:
                raise
            raise _may_run(error, type(error)) from None

    def get_statement(self, query_id: str, *, retry: bool = True) -> Statement:
        """Return the asynchronous query. A query that has failed is returned, too."""
        query_id = check_id(query_id, "query_id")

        def read(answer: Any) -> Statement:
            statement = Statement.from_api(answer)
            if statement.id != query_id:
                raise PolarisInvalidResponse(f"Polaris returned query {statement.id[:100]} instead of {query_id}")
            return statement

        return self._get(*PATH, query_id, retry=Retry.when(retry), read=read)

    def statement_results(self, query_id: str) -> QueryResult:
        """Return the whole result of an asynchronous query that has succeeded, all pages of it.

        A page that was cut on its way, or that lacks rows, is never returned: it is requested again. All pages
        together have 256 MB at most, as the result of :meth:`query`.

        :raises PolarisQueryFailed: if the query has failed.
        :raises PolarisApiError: if the query has no result yet.
        :raises PolarisResponseTooLarge: if the result has more than 256 MB.
        """
        statement = self.get_statement(query_id)
        if statement.has_failed:
            raise failure_of(statement)
        if not statement.has_succeeded:
            raise PolarisApiError(f"Query {statement.id} is {statement.state}, and has no result yet")
        rows: list[tuple[Any, ...]] = []
        size = 0
        # If the status names no page, one response has the whole result.
        pages: Sequence[StatementPage | None] = statement.pages or (None,)
        for page in pages:
            more, bytes_of_page = self._page(statement, page, MAX_RESULT - size)
            rows += more
            size += bytes_of_page
        if statement.total_rows not in (None, len(rows)):
            raise PolarisInvalidResponse(
                f"Polaris returned {len(rows):,} of the {statement.total_rows:,} rows of query {statement.id}"
            )
        return QueryResult(statement.columns, rows)

    def cancel_query(self, query_id: str, *, retry: bool = True) -> None:
        """Ask Polaris to cancel an asynchronous query. A query that is over, or gone, is no error."""
        segments = (*PATH, check_id(query_id, "query_id"))
        try:
            self._request("DELETE", *segments, retry=Retry.when(retry), read=lambda _: None)
        except PolarisNotFound:
            return

    def _page(self, statement: Statement, page: StatementPage | None, most: int) -> tuple[list[tuple[Any, ...]], int]:
        """Return the rows of a page, and its size in bytes.

        :param page: ``None`` for all pages in one response.
        :param most: the largest page that is read, in bytes.
        """
        number = {} if page is None else {"page": page.id}
        return self._get(
            *PATH,
            statement.id,
            "results",
            params={**number, "resultFormat": "arrayLines"},
            parse=partial(_rows_of, columns=len(statement.columns), expected=page and page.rows),
            read=_as_parsed,
            most=most,
            least_timeout=QUERY_SECONDS,
        )


def failure_of(statement: Statement) -> PolarisQueryFailed:
    """Return the error for an asynchronous query that has failed."""
    category = f"{statement.category}: " if statement.category else ""
    reason = statement.error or "Polaris gives no reason"
    return PolarisQueryFailed(f"Query {statement.id} failed: {category}{reason}", category=statement.category)


def _as_parsed(page: tuple[list[tuple[Any, ...]], int]) -> tuple[list[tuple[Any, ...]], int]:
    return page


def _started(answer: Any) -> Statement:
    statement = Statement.from_api(answer)
    if not is_id(statement.id):
        raise PolarisInvalidResponse(f"Polaris returned an invalid id of a query: {statement.id[:100]!r}")
    return statement


def _may_run(error: PolarisApiError, kind: type[PolarisTransientError]) -> PolarisTransientError:
    """Return the error of a request that may have started a query."""
    what_next = "Polaris may be running the query, and bills it. The query is not sent again"
    return kind(sentences(error, what_next), status=error.status, code=error.code)


def _rows_of(content: bytes, *, columns: int, expected: int | None) -> tuple[list[tuple[Any, ...]], int]:
    """Return the rows of a page, and its size in bytes. A page that was cut, or lacks rows, is invalid.

    :param columns: how many values a row has; 0 if unknown.
    :param expected: how many rows the page has, ``None`` if unknown.
    """
    lines = lines_of(content, has_header=False)
    if not all(isinstance(line, list) and len(line) == (columns or len(line)) for line in lines):
        raise PolarisInvalidResponse(f"Polaris returned an invalid page of a result: {repr(lines[:2])[:100]}")
    if expected not in (None, len(lines)):
        raise PolarisInvalidResponse(f"The result of the query was cut: a page has {len(lines):,} of {expected:,} rows")
    return [tuple(line) for line in lines], len(content)
