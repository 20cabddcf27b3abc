"""The calls on push streaming connections of the local Polaris, and on the events that are pushed to them."""

from __future__ import annotations

import re
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_polaris.local.engine.data.connections import READ_BYTES, ConnectionFull, StoredConnection
from airflow_provider_polaris.local.engine.jobs.runner import Runner
from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.project.stored import USER
from airflow_provider_polaris.local.engine.timestamps import timestamp
from airflow_provider_polaris.local.http.answers import ApiError, Endpoint, bounded, json_of

PERMISSION = ("ManageConnections",)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: The types of a connection that the API documents.
_TYPES = ("azure", "confluent", "confluent_schema_registry", "kafka", "kinesis", "push_streaming", "s3")


class ConnectionsApi:
    """Answers the calls on connections and events from the store."""

    def __init__(self, store: Store, runner: Runner) -> None:
        self._store = store
        self._runner = runner

    def endpoints(self) -> list[Endpoint]:
        """Return the calls, their paths under the project."""
        return [
            Endpoint(method, path, answer, PERMISSION)
            for method, path, answer in (
                ("GET", "/connections", self._list),
                ("POST", "/connections", self._create),
                ("GET", "/connections/{name}", self._get),
                ("PATCH", "/connections/{name}", self._update),
                ("DELETE", "/connections/{name}", self._delete),
                ("POST", "/events/{name}", self._push),
            )
        ]

    def _connection(self, request: Request) -> StoredConnection:
        found = self._store.connections.get(request.path_params["name"])
        if found is None:
            raise ApiError(404, "There is no such connection", "name")
        return found

    def _shown(self, request: Request, connection: StoredConnection) -> dict[str, Any]:
        """Return a connection as the API has it, with the address to which events are pushed."""
        project = request.url.path.partition("/connections")[0]
        return {**connection.body, "endpointUrl": f"{request.base_url}{project[1:]}/events/{connection.body['name']}"}

    async def _list(self, request: Request) -> Response:
        with self._store.lock:
            found = [self._shown(request, one) for one in self._store.connections.values()]
        return JSONResponse({"values": found})

    async def _create(self, request: Request) -> Response:
        body = _checked(await json_of(request))
        name = body.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ApiError(400, "It must be a name of 1 to 64 letters, digits, dots, hyphens and underscores", "name")
        connection = self._store.add_connection(name, body.get("description"))
        if connection is None:
            raise ApiError(409, f"There is a connection named {name!r} already", "name")
        location = f"{request.url.path}/{name}"
        return JSONResponse(self._shown(request, connection), 201, headers={"Location": location})

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._shown(request, self._connection(request)))

    async def _update(self, request: Request) -> Response:
        connection = self._connection(request)
        body = _checked(await json_of(request))
        with self._store.lock:
            if "description" in body:
                connection.body["description"] = body["description"]
            connection.body |= {"modifiedByUser": USER, "modifiedOnTimestamp": timestamp()}
            self._store.save_connection(connection)
            shown = self._shown(request, connection)
        return JSONResponse(shown, headers={"Location": request.url.path})

    async def _delete(self, request: Request) -> Response:
        with self._store.lock:
            connection = self._connection(request)
            name = connection.body["name"]
            if self._store.is_streamed_from(name):
                raise ApiError(400, "A job reads from this connection", "name")
            self._store.remove_connection(name)
        return Response(status_code=200)

    async def _push(self, request: Request) -> Response:
        connection = self._connection(request)
        events = await bounded(request, READ_BYTES - 1).body()
        try:
            await run_in_threadpool(connection.push, events)
        except ConnectionFull:
            raise ApiError(429, "The connection keeps no more events") from None
        self._runner.streams.wake()
        return Response(status_code=200)


def _checked(body: Any) -> dict[str, Any]:
    """Return the body of a connection whose form has no fault."""
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a connection, a JSON object")
    kind = body.get("type")
    if kind not in _TYPES:
        raise ApiError(400, f"It must be one of {', '.join(_TYPES)}", "type")
    if kind != "push_streaming":
        raise ApiError(400, f"A connection of the type {kind!r} is not carried out by the local Polaris", "type")
    if not isinstance(body.get("description", ""), str):
        raise ApiError(400, "It must be text", "description")
    return body
