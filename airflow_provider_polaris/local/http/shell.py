"""The layer around the API: records each request, and carries out the planned faults."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_polaris.local.http.answers import error_body
from airflow_provider_polaris.local.http.faults import Fault, Faults

#: At least this many of the last requests are kept.
REMEMBERED = 50_000
#: How long a request that waits for its fault still waits after all faults were removed, in seconds.
CLEARED_SECONDS = 0.1
#: The paths that only the local Polaris has. Their requests have no faults, and are not recorded.
OWN = ("/", "/local")


@dataclass
class SeenRequest:
    """A request that arrived, with its path still quoted, and without its headers, which hold the key."""

    method: str
    path: str
    query: str
    body: Any = None
    #: When the request arrived, in seconds since the epoch.
    at: float = field(default_factory=time.time)
    #: The status of the response; ``None`` if there is none yet, or if the connection was cut.
    status: int | None = None


class Shell:
    """The application that is served: faults first, then the API."""

    def __init__(
        self, app: ASGIApp, faults: Faults, requests: list[SeenRequest], lines: dict[Any, asyncio.Transport]
    ) -> None:
        self._app = app
        self._faults = faults
        self._requests = requests
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        method, path = scope["method"], scope["path"]
        seen = SeenRequest(method, scope["raw_path"].decode("ascii"), scope["query_string"].decode("latin-1"))
        scope["local_polaris.seen"] = seen
        if path in OWN or path.startswith(f"{OWN[1]}/"):
            await self._app(scope, receive, send)
            return
        self._requests.append(seen)
        if len(self._requests) > 2 * REMEMBERED:
            del self._requests[:REMEMBERED]

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            await send(message)

        await self._carry_out(self._faults.take(method, path), scope, receive, send_and_note)

    async def _carry_out(self, fault: Fault | None, scope: Scope, receive: Receive, send: Send) -> None:
        if fault is None or not await self._is_due(fault):
            await self._app(scope, receive, send)
        elif fault.cut:
            await self._cut(fault.cut, scope, receive, send)
        elif fault.status is not None:
            await _answer(fault, fault.status)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _is_due(self, fault: Fault) -> bool:
        """Wait for the fault's delay. Return whether the fault still counts after that."""
        cleared, end = self._faults.cleared, time.monotonic() + fault.delay
        while cleared == self._faults.cleared and (left := end - time.monotonic()) > 0:  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(min(left, CLEARED_SECONDS))
        return cleared == self._faults.cleared

    async def _cut(self, when: str, scope: Scope, receive: Receive, send: Send) -> None:
        line = self._lines.get(tuple(scope["client"]))
        if line is None:
            return  # the client has disconnected
        if when == "mid-body":
            start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]}
            await send(start)
            await send({"type": "http.response.body", "body": b'{"id": ', "more_body": True})
            line.close()
        elif when == "after":

            async def swallow(message: Message) -> None:
                pass

            await self._app(scope, receive, swallow)
            line.abort()
        else:
            line.abort()
        # uvicorn needs a moment to see the cut. Otherwise it logs an unfinished response.
        await asyncio.sleep(0.01)


def _answer(fault: Fault, status: int) -> Response:
    if fault.body is not None:
        return Response(fault.body, status, dict(fault.headers))
    return JSONResponse(error_body(status, "A planned fault of the local Polaris"), status, dict(fault.headers))


def protocol(lines: dict[Any, asyncio.Transport]) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol with a record of its connections, so that they can be cut."""

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._name = tuple(transport.get_extra_info("peername")[:2])
            lines[self._name] = transport
            # asyncio sets it only for sockets with a protocol number, which these do not have. Without it
            # every response on a kept-alive connection takes 40 ms, since head and body are two writes.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            lines.pop(self._name, None)
            super().connection_lost(exc)

    return Protocol
