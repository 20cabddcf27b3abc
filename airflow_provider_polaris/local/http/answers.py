"""Shared by all endpoints: errors in the service's shape, and bodies and parameters read with limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message

from airflow_provider_polaris.local.engine.project.specs import SpecFault

#: The largest JSON body, in bytes. Parsing delays all other requests.
MAX_JSON = 8 * 1024 * 1024
#: A JSON body of more bytes is parsed in a thread.
LARGE_JSON = 64 * 1024
#: The longest pause within a request's body, in seconds.
MAX_BODY_PAUSE_SECONDS = 30.0

_CODES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    409: "Conflict",
    413: "PayloadTooLarge",
    415: "UnsupportedMediaType",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}


class Endpoint(NamedTuple):
    """A call of the API: its method and path, its function, and the permissions of which the key needs one.

    :param needs_all: whether the key needs all of the permissions.
    :param needs_key: whether a request needs the key. Only the page itself needs none: it has no data in it.
    """

    method: str
    path: str
    answer: Callable[[Request], Awaitable[Response]]
    permissions: tuple[str, ...] = ()
    needs_all: bool = False
    needs_key: bool = True


class ApiError(HTTPException):
    """An answer in the service's error shape.

    :param target: the path of the wrong field.
    :param details: further errors, each in the same shape.
    """

    def __init__(
        self,
        status: int,
        message: str,
        target: str | None = None,
        *,
        details: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.target = target
        self.details = details


def error_body(
    status: int, message: str, target: str | None = None, details: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return an error's body in the service's shape."""
    body: dict[str, Any] = {"code": _CODES.get(status, "InternalError"), "message": message}
    return body | ({"target": target} if target else {}) | ({"details": details} if details else {})


def faulty(faults: Sequence[SpecFault]) -> ApiError:
    """Return the answer to a body that has these faults."""
    first, *more = faults
    details = [error_body(400, fault.message, fault.target) for fault in faults] if more else None
    return ApiError(400, first.message, first.target, details=details)


async def on_error(_request: Request, error: Exception) -> Response:
    """Answer an exception with a JSON object, also for an unknown route."""
    if not isinstance(error, HTTPException):
        return JSONResponse(error_body(500, "The local Polaris failed. Its output has the traceback"), 500)
    body = error_body(
        error.status_code, str(error.detail), getattr(error, "target", None), getattr(error, "details", None)
    )
    return JSONResponse(body, error.status_code, error.headers)


def bounded(request: Request, limit: int) -> Request:
    """Return the request with a body that raises an error if it is too large or arrives too slowly."""
    seen = 0
    close = {"Connection": "close"}  # otherwise the server reads the rest of the body

    async def receive() -> Message:
        nonlocal seen
        try:
            message = await asyncio.wait_for(request.receive(), MAX_BODY_PAUSE_SECONDS)
        except asyncio.TimeoutError:
            raise ApiError(408, "The body did not arrive in time", headers=close) from None
        seen += len(message.get("body", b""))
        if seen > limit:
            raise ApiError(413, f"The body is larger than {limit:,} bytes", headers=close)
        return message

    return Request(request.scope, receive)


async def json_of(request: Request) -> Any:
    """Return a JSON body, and record it with the request."""
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "The body must be application/json")
    body = await bounded(request, MAX_JSON).body()
    try:
        data = _parsed(body) if len(body) < LARGE_JSON else await run_in_threadpool(_parsed, body)
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not JSON") from None
    request.scope["local_polaris.seen"].body = data
    return data


async def object_of(request: Request, known: Collection[str]) -> dict[str, Any]:
    """Return a JSON object. An unknown field is an error."""
    data = await json_of(request)
    if not isinstance(data, dict):
        raise ApiError(400, "The body must be a JSON object")
    for name in data:
        if name not in known:
            raise ApiError(400, f"It must be one of {', '.join(known)}", name)
    return data


def _parsed(body: bytes) -> Any:
    data = json.loads(body)
    # What a response cannot hold is an error here: NaN, 1e999, half a surrogate pair.
    json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    return data


def whole(query: QueryParams, name: str, default: int, least: int, most: int) -> int:
    """Return a whole number from the query."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise ApiError(400, f"It must be a whole number, {least} to {most}", name)
    return int(text)


def one_of(query: QueryParams, name: str, default: str, values: Collection[str]) -> str:
    """Return one of these values from the query."""
    value = query.get(name, default)
    if value not in values:
        raise ApiError(400, f"It must be one of {', '.join(values)}", name)
    return value


def all_of(query: QueryParams, name: str, values: Collection[str]) -> None:
    """Check that each value of a parameter is one of these values."""
    for value in query.getlist(name):
        if value not in values:
            raise ApiError(400, f"It must be one of {', '.join(values)}", name)


def dig(body: Any, path: tuple[str, ...]) -> str:
    """Return the value at a path of a job, file or table as text; an empty text if there is none."""
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return "" if body is None else str(body)
