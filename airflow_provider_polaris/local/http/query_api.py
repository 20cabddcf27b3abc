"""The calls on queries: ``POST /query/sql``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from airflow_provider_polaris.local.engine.querying import QueryFailure, run_query
from airflow_provider_polaris.local.engine.results import FORMATS, LINES, Header, written
from airflow_provider_polaris.local.engine.store import Store
from airflow_provider_polaris.local.http.answers import Endpoint, json_of

QUERY = ("AccessQueries",)
#: The status and the code of a failure of each category.
_STATUS: Mapping[str, tuple[int, str, str]] = {
    "CAPACITY_EXCEEDED": (429, "capacityExceeded", "OPERATOR"),
    "INVALID_INPUT": (400, "invalidInput", "USER"),
    "RUNTIME_FAILURE": (500, "runtimeFailure", "OPERATOR"),
    "TIMEOUT": (504, "timeout", "USER"),
    "UNSUPPORTED": (501, "unsupported", "USER"),
}


class QueryApi:
    """Answers queries from the rows of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def endpoints(self) -> list[Endpoint]:
        """Return the calls, their paths under the project."""
        return [Endpoint("POST", "/query/sql", self._run, QUERY)]

    async def _run(self, request: Request) -> Response:
        body = await json_of(request)
        try:
            text, parameters, result_format, header = _checked(body)
            result = await run_in_threadpool(run_query, self._store, text, parameters)
        except QueryFailure as failure:
            return _failed(failure)
        parts = written(result.rows, result.names, result.kinds, result_format, header)
        kind = "text/csv" if result_format == "csv" else "text/plain" if result_format in LINES else "application/json"
        headers = {"X-Druid-SQL-Header-Included": "yes"} if header.names else {}
        return StreamingResponse(parts, media_type=kind, headers=headers)


def _checked(body: Any) -> tuple[str, list[Mapping[str, Any]], str, Header]:
    """Return the query of a request, its parameters, the format of its result, and the header.

    :raises QueryFailure: for an invalid request.
    """
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        raise QueryFailure("INVALID_INPUT", "The body must be an object with a query, a text")
    parameters = body.get("parameters") or []
    if not isinstance(parameters, list) or not all(isinstance(one, dict) for one in parameters):
        raise QueryFailure("INVALID_INPUT", "parameters must be a list of objects with type and value")
    result_format = body.get("resultFormat") or "object"
    if result_format not in FORMATS:
        raise QueryFailure("INVALID_INPUT", f"resultFormat must be one of {', '.join(FORMATS)}")
    flags = [body.get(name) or False for name in ("header", "typesHeader", "sqlTypesHeader")]
    if not all(isinstance(flag, bool) for flag in flags):
        raise QueryFailure("INVALID_INPUT", "header, typesHeader and sqlTypesHeader must be true or false")
    if any(flags[1:]) and not flags[0]:
        raise QueryFailure("INVALID_INPUT", "typesHeader and sqlTypesHeader need header")
    if not isinstance(body.get("context", {}), (dict, type(None))):
        raise QueryFailure("INVALID_INPUT", "context must be an object")
    return body["query"], parameters, result_format, Header(*flags)


def _failed(failure: QueryFailure) -> Response:
    status, code, persona = _STATUS[failure.category]
    body = {
        "error": "druidException",
        "errorCode": code,
        "persona": persona,
        "category": failure.category,
        "errorMessage": str(failure),
        "context": {},
    }
    return JSONResponse(body, status)
