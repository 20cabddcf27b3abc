"""LocalPolaris: the local Polaris as a Python object, served from a thread."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_polaris.local.app import Api, error_body
from airflow_provider_polaris.local.faults import Fault, Faults
from airflow_provider_polaris.local.store import Store

#: At least so many of the last requests are remembered.
REMEMBERED = 50_000


@dataclass
class SeenRequest:
    """A request that arrived, its path still quoted, without what would give the key away."""

    method: str
    path: str
    query: str
    body: Any = None


class LocalPolaris:
    """A Polaris project on this machine; use it as a context manager.

    It takes batch jobs with ``inline`` nd-json and with files that were uploaded to it, and reads them row by row.
    ``sql`` and ``streaming`` jobs are scripted: they do what :meth:`set_status` says.

    :param host: loopback unless you say otherwise; then anyone who reaches the port needs the key, and nothing else.
    :param port: 0 picks a free one.
    :param rows_per_second: read no faster, so that there is something to wait for; ``None`` for full speed.
    :param cancel_looks: how many looks a scripted job survives after its cancellation was taken.
    :param certfile: serve https with this certificate; ``keyfile`` holds its key.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        project_id: str | None = None,
        api_key: str | None = None,
        rows_per_second: float | None = None,
        cancel_looks: int = 1,
        certfile: str | None = None,
        keyfile: str | None = None,
    ) -> None:
        self._scheme = "https" if certfile else "http"
        self.project_id = project_id or str(uuid.uuid4())
        self.requests: list[SeenRequest] = []
        self._store = Store(rows_per_second=rows_per_second, cancel_looks=cancel_looks)
        self._faults = Faults()
        self._api = Api(self._store, self.project_id, api_key or f"pok_{secrets.token_urlsafe(24)}")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        self._lines: dict[Any, asyncio.Transport] = {}
        config = uvicorn.Config(
            _Shell(self._api.app(), self._faults, self.requests, self._lines),
            http=_protocol(self._lines),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            timeout_graceful_shutdown=1,
            ssl_certfile=certfile,
            ssl_keyfile=keyfile,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="local-polaris", daemon=True
        )

    @property
    def url(self) -> str:
        """``http://HOST:PORT``, or ``https`` with a certificate."""
        host, port = self._socket.getsockname()[:2]
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def api_key(self) -> str:
        """The one key it takes; assign another to rotate it."""
        return self._api.api_key

    @api_key.setter
    def api_key(self, key: str) -> None:
        self._api.api_key = key

    @property
    def cancel_looks(self) -> int:
        """How many looks a scripted job survives after its cancellation was taken."""
        return self._store.cancel_looks

    @cancel_looks.setter
    def cancel_looks(self, looks: int) -> None:
        self._store.cancel_looks = looks

    @property
    def connection_json(self) -> str:
        """An Airflow connection to it, for ``AIRFLOW_CONN_POLARIS_DEFAULT``."""
        return json.dumps(
            {
                "conn_type": "imply_polaris",
                "host": self.url,
                "password": self.api_key,
                "extra": {"project_id": self.project_id},
            }
        )

    def __enter__(self) -> LocalPolaris:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("The local Polaris did not start")
            time.sleep(0.005)
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
        self._store.close()

    def add_job(self, *, metrics: Mapping[str, Any] | None = None, **body: Any) -> str:
        """Script a job and return its id.

        :param metrics: its counters, by the API's names.
        :param body: the API's own fields (``executionStatus="running"``, ``type="streaming"``, …); a new job's by
            default.
        """
        return str(self._store.add_job(body, metrics).body["id"])

    def set_status(self, job_id: str, status: str, **changes: Any) -> None:
        """Move a job to a status; ``changes`` are further fields of the API: ``health={"status": "warn", …}``."""
        self._store.update(self._store.jobs[job_id], executionStatus=status, **changes)

    def script(self, job_id: str, *changes: Mapping[str, Any]) -> None:
        """Let each further look at a job find it changed: one mapping of the API's fields for each look."""
        self._store.jobs[job_id].script = [dict(change) for change in changes]

    def set_fields(self, job_id: str, **fields: Any) -> None:
        """Change fields of a job to anything, right or wrong."""
        self._store.jobs[job_id].body.update(fields)

    def remove_field(self, job_id: str, name: str) -> None:
        """Make a job lack a field."""
        self._store.jobs[job_id].body.pop(name, None)

    def set_metrics(self, job_id: str, **counters: int) -> None:
        """Set a job's counters, by the API's names."""
        self._store.jobs[job_id].metrics = {"totals": counters}

    def set_logs(self, job_id: str, *entries: Mapping[str, Any]) -> None:
        """Set a job's log."""
        self._store.jobs[job_id].logs = [dict(entry) for entry in entries]

    def remove_job(self, job_id: str) -> None:
        """Forget a job, as the clean-up of old history does."""
        with self._store.lock:
            del self._store.jobs[job_id]

    def fail_next(self, times: int = 1, *, status: int = 503, retry_after: object = None, match: str = "") -> None:
        """Answer the next requests with an error in the service's shape.

        :param match: only requests for which this regular expression is found in ``"METHOD /path"``.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._faults.add(Fault(times, match, status=status, headers=headers))

    def answer_next(
        self,
        times: int = 1,
        *,
        body: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        match: str = "",
    ) -> None:
        """Answer the next requests with any body, of type ``text/html`` unless the headers tell another."""
        self._faults.add(
            Fault(
                times,
                match,
                status=status,
                body=body.encode(),
                headers={"Content-Type": "text/html", **(headers or {})},
            )
        )

    def drop_next(self, times: int = 1, *, when: str = "before", match: str = "") -> None:
        """Cut the line ``before`` the next requests are looked at, ``after`` they were carried out, or ``mid-body``."""
        self._faults.add(Fault(times, match, cut=when))

    def delay_next(self, times: int = 1, *, seconds: float, match: str = "") -> None:
        """Let the next requests wait before they are carried out."""
        self._faults.add(Fault(times, match, delay=seconds))

    def clear_faults(self) -> None:
        """Let everything go right again."""
        self._faults.clear()


class _Shell:
    """Around the API: notes each request, and makes go wrong what was asked to."""

    def __init__(
        self, app: ASGIApp, faults: Faults, requests: list[SeenRequest], lines: dict[Any, asyncio.Transport]
    ) -> None:
        self._app = app
        self._faults = faults
        self._requests = requests
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        seen = SeenRequest(method, scope["raw_path"].decode("ascii"), scope["query_string"].decode("latin-1"))
        scope["local_polaris.seen"] = seen
        self._requests.append(seen)
        if len(self._requests) > 2 * REMEMBERED:
            del self._requests[:REMEMBERED]
        fault = self._faults.take(method, path)
        if fault is None:
            await self._app(scope, receive, send)
            return
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.cut:
            await self._cut(fault.cut, scope, receive, send)
        elif fault.status is not None:
            await _answer(fault)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _cut(self, when: str, scope: Scope, receive: Receive, send: Send) -> None:
        line = self._lines[tuple(scope["client"])]
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
        await asyncio.sleep(
            0.01
        )  # let uvicorn see that the line is gone: it complains of an unfinished answer otherwise


def _answer(fault: Fault) -> Response:
    assert fault.status is not None  # noqa: S101
    if fault.body is not None:
        return Response(fault.body, fault.status, dict(fault.headers))
    return JSONResponse(
        error_body(fault.status, "The local Polaris was asked to fail"), fault.status, dict(fault.headers)
    )


def _protocol(lines: dict[Any, asyncio.Transport]) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol, which here notes its line, so that it can be cut."""

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._name = tuple(transport.get_extra_info("peername")[:2])
            lines[self._name] = transport
            # asyncio does so itself only for sockets whose protocol number is set, which these do not have. Without it
            # every answer on a kept-alive line takes 40 ms: head and body are two writes.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            lines.pop(self._name, None)
            super().connection_lost(exc)

    return Protocol
