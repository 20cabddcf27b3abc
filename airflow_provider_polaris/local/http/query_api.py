"""The calls on queries: ``POST /query/sql``, and those under ``/query/sql/statements``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.query import querying
from airflow_provider_polaris.local.engine.query.querying import Query, QueryFailure, Result
from airflow_provider_polaris.local.engine.query.results import FORMATS, LINES, Header, written
from airflow_provider_polaris.local.engine.query.statements import Statement, Statements
from airflow_provider_polaris.local.http.answers import Endpoint, json_of, one_of

QUERY = ("AccessQueries",)
STATEMENT = ("AccessQueries", "ManageIngestionJobs")
STATEMENTS = "/query/sql/statements"
#: What the name of a file may not have, as the API documents it.
_NO_FILENAME = frozenset('/\\:*?"<>|\0\n\r')
#: The status and the code of a failure of each category.
_STATUS: Mapping[str, tuple[int, str, str]] = {
    "CANCELED": (500, "canceled", "USER"),
    "CAPACITY_EXCEEDED": (429, "capacityExceeded", "OPERATOR"),
    "INVALID_INPUT": (400, "invalidInput", "USER"),
    "RUNTIME_FAILURE": (500, "runtimeFailure", "OPERATOR"),
    "TIMEOUT": (504, "timeout", "USER"),
    "UNSUPPORTED": (501, "unsupported", "USER"),
}


class QueryApi:
    """Answers queries from the rows of the store."""

    def __init__(self, store: Store, statements: Statements) -> None:
        self._store = store
        self._statements = statements

    def endpoints(self) -> list[Endpoint]:
        """Return the calls, their paths under the project."""
        one = f"{STATEMENTS}/{{query_id}}"
        return [
            Endpoint("POST", "/query/sql", self._run, QUERY),
            Endpoint("POST", STATEMENTS, self._submit, STATEMENT, needs_all=True),
            Endpoint("GET", one, self._show, STATEMENT, needs_all=True),
            Endpoint("DELETE", one, self._cancel, STATEMENT, needs_all=True),
            Endpoint("GET", f"{one}/results", self._results, STATEMENT, needs_all=True),
        ]

    async def _run(self, request: Request) -> Response:
        body = await json_of(request)
        try:
            text, parameters = _checked(body)
            result_format, header = _checked_format(body)
            result = await run_in_threadpool(
                lambda: Query(self._store, text, parameters).run(limit_seconds=querying.LIMIT_SECONDS)
            )
        except QueryFailure as failure:
            return _failed(failure)
        return _sent(result, result_format, header)

    async def _submit(self, request: Request) -> Response:
        body = await json_of(request)
        try:
            accepted = await run_in_threadpool(self._statements.submit, *_checked(body))
        except QueryFailure as failure:
            return JSONResponse({"state": "FAILED", "error": _error_of(failure)[1]}, 400)
        return JSONResponse(accepted)

    async def _show(self, request: Request) -> Response:
        detail = one_of(request.query_params, "detail", "false", ("true", "false"))
        try:
            statement = self._statement(request)
        except QueryFailure as failure:
            return _failed(failure, 404)
        body = statement.status()
        if statement.failure:
            body["errorDetails"] = _error_of(statement.failure)[1]
        # The service describes the stages of a query here. The local Polaris has none.
        return JSONResponse(body | ({"stages": {}, "counters": {}, "warnings": {}} if detail == "true" else {}))

    async def _cancel(self, request: Request) -> Response:
        try:
            statement = self._statement(request)
        except QueryFailure as failure:
            return _failed(failure, 404)
        if statement.is_over:
            return Response(status_code=200)
        statement.stop()
        return Response(status_code=202)

    async def _results(self, request: Request) -> Response:
        query = request.query_params
        try:
            statement = self._statement(request)
            if not statement.is_over:
                raise QueryFailure("INVALID_INPUT", f"The query {statement.id} is {statement.state}")
            if statement.failure:
                raise QueryFailure("INVALID_INPUT", f"The query {statement.id} has failed: {statement.failure}")
        except QueryFailure as failure:
            return _failed(failure, 404)
        try:
            result_format, _ = _checked_format(query)
            page = query.get("page")
            if page is not None and not (page.isascii() and page.isdigit() and len(page) < 10):
                raise QueryFailure("INVALID_INPUT", f"page must be a whole number, not {page[:100]!r}")
            rows = statement.rows(None if page is None else int(page))
        except QueryFailure as failure:
            return _failed(failure)
        name = query.get("filename")
        if name is not None and (not 0 < len(name) <= 255 or not _NO_FILENAME.isdisjoint(name)):
            return _failed(QueryFailure("INVALID_INPUT", "filename is empty, too long or has a character of a path"))
        answer = _sent(Result(statement.names, statement.kinds, rows), result_format, Header())
        if name is not None:
            answer.headers["Content-Disposition"] = f"attachment; filename={quote(name)}"
        return answer

    def _statement(self, request: Request) -> Statement:
        """Return the asynchronous query of a request.

        :raises QueryFailure: if there is none.
        """
        query_id = request.path_params["query_id"]
        try:
            return self._statements.get(query_id)
        except KeyError:
            raise QueryFailure("INVALID_INPUT", f"There is no query {query_id}") from None


def _sent(result: Result, result_format: str, header: Header) -> Response:
    """Return the answer that sends a result as it is read."""
    parts = written(result.rows, result.names, result.kinds, result_format, header)
    kind = "text/csv" if result_format == "csv" else "text/plain" if result_format in LINES else "application/json"
    headers = {"X-Druid-SQL-Header-Included": "yes"} if header.names else {}
    return StreamingResponse(parts, media_type=kind, headers=headers)


def _checked(body: Any) -> tuple[str, list[Mapping[str, Any]]]:
    """Return the query of a request, and its parameters.

    :raises QueryFailure: for an invalid request.
    """
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        raise QueryFailure("INVALID_INPUT", "The body must be an object with a query, a text")
    parameters = body.get("parameters") or []
    if not isinstance(parameters, list) or not all(isinstance(one, dict) for one in parameters):
        raise QueryFailure("INVALID_INPUT", "parameters must be a list of objects with type and value")
    if not isinstance(body.get("context", {}), dict):
        raise QueryFailure("INVALID_INPUT", "context must be an object")
    return body["query"], parameters


def _checked_format(body: Mapping[str, Any]) -> tuple[str, Header]:
    """Return the format of the result that a request asks for, and the header.

    :raises QueryFailure: for an invalid request.
    """
    result_format = body.get("resultFormat", "object")
    if result_format not in FORMATS:
        raise QueryFailure("INVALID_INPUT", f"resultFormat must be one of {', '.join(FORMATS)}")
    flags = [body.get(name, False) for name in ("header", "typesHeader", "sqlTypesHeader")]
    if not all(isinstance(flag, bool) for flag in flags):
        raise QueryFailure("INVALID_INPUT", "header, typesHeader and sqlTypesHeader must be true or false")
    if any(flags[1:]) and not flags[0]:
        raise QueryFailure("INVALID_INPUT", "typesHeader and sqlTypesHeader need header")
    return result_format, Header(*flags)


def _error_of(failure: QueryFailure) -> tuple[int, dict[str, Any]]:
    """Return the status of the answer for a failure, and the failure as the API has it."""
    status, code, persona = _STATUS[failure.category]
    return status, {
        "error": "druidException",
        "errorCode": code,
        "persona": persona,
        "category": failure.category,
        "errorMessage": str(failure),
        "context": {},
    }


def _failed(failure: QueryFailure, status: int | None = None) -> Response:
    usual, body = _error_of(failure)
    return JSONResponse(body, status or usual)
