"""The call on queries: SQL over the tables of a project."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

from airflow_provider_polaris.api.caller import Caller
from airflow_provider_polaris.api.errors import PolarisInvalidResponse, PolarisUsageError
from airflow_provider_polaris.api.models import QueryColumn, QueryResult
from airflow_provider_polaris.api.retries import Retry

#: The largest result that is read, in bytes.
MAX_RESULT = 256 * 1024 * 1024
#: Seconds to wait for the result: the service ends a query after a minute.
QUERY_SECONDS = 90.0


class QueryCalls(Caller):
    """The call on queries. The API key needs the permission ``AccessQueries``."""

    def query(
        self,
        sql: str,
        parameters: Sequence[Any] | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        retry: bool = True,
    ) -> QueryResult:
        """Run a SELECT, and return its whole result. The service ends a query after a minute.

        A result that was cut on its way is never returned: it is requested again.

        :param sql: the query, with a ``?`` for each parameter.
        :param parameters: the values, which are sent apart from the query: text, numbers, booleans, dates, datetimes
            (without a time zone, UTC), ``None``, or dicts with the API's own ``type`` and ``value``.
        :param context: Druid's query context, such as ``{"sqlTimeZone": "Europe/Zurich"}``.
        :raises PolarisQueryFailed: if the query is invalid, or fails.
        """
        body = {
            **body_of(sql, parameters, context),
            "resultFormat": "arrayLines",
            "header": True,
            "typesHeader": True,
            "sqlTypesHeader": True,
        }
        return self._request(
            "POST",
            "query",
            "sql",
            body=body,
            parse=lines_of,
            read=_result_of,
            retry=Retry.when(retry),
            most=MAX_RESULT,
            least_timeout=QUERY_SECONDS,
        )


def body_of(sql: str, parameters: Sequence[Any] | None, context: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the query, its parameters and its context as the API takes them.

    :raises PolarisUsageError: for a value that cannot be sent.
    """
    if not isinstance(sql, str) or not sql.strip():
        raise PolarisUsageError(f"sql must be a query, not {sql!r}"[:200])
    if context is not None and not isinstance(context, Mapping):
        raise PolarisUsageError(f"context must be a dict, not {context!r}"[:200])
    body: dict[str, Any] = {"query": sql, "parameters": parameters_of(parameters)}
    body |= {"context": dict(context)} if context else {}
    try:
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PolarisUsageError(f"A parameter or the context cannot be sent as JSON: {error}"[:200]) from None
    return body


def parameters_of(values: Sequence[Any] | None) -> list[dict[str, Any]]:
    """Return the parameters of a query as the API takes them.

    :raises PolarisUsageError: for a value that has no type of SQL.
    """
    if values is None:
        return []
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Sequence):
        raise PolarisUsageError(f"parameters must be a list, one value for each ?, not {values!r}"[:200])
    return [_parameter(value) for value in values]


def _parameter(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if value is None or isinstance(value, str):
        return {"type": "VARCHAR", "value": value}
    if isinstance(value, bool):
        return {"type": "BOOLEAN", "value": value}
    if isinstance(value, int):
        return {"type": "BIGINT", "value": value}
    if isinstance(value, (float, Decimal)) and math.isfinite(value):
        return {"type": "DOUBLE", "value": float(value)}
    if isinstance(value, datetime):
        moment = value.astimezone(timezone.utc) if value.tzinfo else value
        return {"type": "TIMESTAMP", "value": f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}"}
    if isinstance(value, date):
        return {"type": "DATE", "value": f"{value:%Y-%m-%d}"}
    raise PolarisUsageError(f"A parameter has no type of SQL: {value!r}"[:200])


def lines_of(content: bytes, *, has_header: bool = True) -> list[Any]:
    """Return the values of all lines. A result ends with an empty line; without it, the result was cut.

    :param has_header: whether the first line is never empty. A result without header and rows is one empty line.
    """
    if not content.endswith(b"\n\n") and (has_header or content != b"\n"):
        raise PolarisInvalidResponse("The result of the query was cut: its last line is missing")
    # A line break in a text is escaped, so that one call parses all lines.
    values = json.loads(b"[" + content.strip(b"\n").replace(b"\n", b",") + b"]")
    return values if isinstance(values, list) else []


def _result_of(lines: Any) -> QueryResult:
    if not all(isinstance(line, list) for line in lines) or len(lines) < 3 or len({*map(len, lines)}) != 1:
        raise PolarisInvalidResponse(f"Polaris returned an invalid result of a query: {repr(lines[:4])[:100]}")
    names, native, sql = lines[:3]
    columns = [QueryColumn(*map(str, column)) for column in zip(names, sql, native, strict=True)]
    return QueryResult(columns, [tuple(row) for row in lines[3:]])
