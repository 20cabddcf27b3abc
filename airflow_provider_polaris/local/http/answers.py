"""What all endpoints share: errors in the service's shape, and bodies and parameters read with bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message

#: A JSON body may not be larger, in bytes: parsing holds up all other requests.
MAX_JSON = 8 * 1024 * 1024
#: A larger JSON body is parsed beside the event loop, in bytes.
LARGE_JSON = 64 * 1024
#: A client that sends nothing of its body for so long is given up, in seconds.
MAX_SILENCE = 30.0

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
    """A call of the API: where it is, what answers it, and one of which permissions the key must have."""

    method: str
    path: str
    answer: Callable[[Request], Awaitable[Response]]
    permissions: tuple[str, ...] = ()


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
    """Return an error as the service words it."""
    body: dict[str, Any] = {"code": _CODES.get(status, "InternalError"), "message": message}
    return body | ({"target": target} if target else {}) | ({"details": details} if details else {})


async def on_error(_request: Request, error: Exception) -> Response:
    """Answer an exception: every error is a JSON object, for unknown routes too."""
    if not isinstance(error, HTTPException):
        return JSONResponse(error_body(500, "The local Polaris failed; its output says why"), 500)
    body = error_body(
        error.status_code, str(error.detail), getattr(error, "target", None), getattr(error, "details", None)
    )
    return JSONResponse(body, error.status_code, error.headers)


def bounded(request: Request, limit: int) -> Request:
    """Return the request with a body that ends with an error once it is too large, or too long in coming."""
    seen = 0
    close = {"Connection": "close"}  # what is still to come would be read to its end otherwise

    async def receive() -> Message:
        nonlocal seen
        try:
            message = await asyncio.wait_for(request.receive(), MAX_SILENCE)
        except asyncio.TimeoutError:
            raise ApiError(408, "The body did not come", headers=close) from None
        seen += len(message.get("body", b""))
        if seen > limit:
            raise ApiError(413, f"The body is larger than {limit:,} bytes", headers=close)
        return message

    return Request(request.scope, receive)


async def json_of(request: Request) -> Any:
    """Return a JSON body, and note it with the request that was seen."""
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
    """Return a JSON object that has no other fields than these."""
    data = await json_of(request)
    if not isinstance(data, dict):
        raise ApiError(400, "The body must be a JSON object")
    for name in data:
        if name not in known:
            raise ApiError(400, f"It must be one of {', '.join(known)}", name)
    return data


def _parsed(body: bytes) -> Any:
    data = json.loads(body)
    # What cannot be answered with is no JSON either: NaN, 1e999, half a surrogate pair.
    json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    return data


def whole(query: QueryParams, name: str, default: int, least: int, most: int) -> int:
    """Return a whole number of the query."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise ApiError(400, f"It must be a whole number, {least} to {most}", name)
    return int(text)


def one_of(query: QueryParams, name: str, default: str, values: Collection[str]) -> str:
    """Return a word of the query."""
    value = query.get(name, default)
    if value not in values:
        raise ApiError(400, f"It must be one of {', '.join(values)}", name)
    return value


def dig(body: Any, path: tuple[str, ...]) -> str:
    """Return what a job, file or table has at a path, as text; nothing for nothing."""
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return "" if body is None else str(body)
