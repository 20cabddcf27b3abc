"""The calls on tables of the local Polaris."""

from __future__ import annotations

from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_polaris.local.engine.intervals import GRANULARITIES
from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.project.table_specs import (
    faults_of_new_table,
    faults_of_update,
    form_faults_of_table,
)
from airflow_provider_polaris.local.http.answers import ApiError, Endpoint, all_of, faulty, json_of, whole

SEE_TABLES = ("ViewTables", "ManageTables")
MANAGE_TABLES = ("ManageTables",)

#: A table, unlike a job, can be partitioned by week.
_GRANULARITIES = (*GRANULARITIES, "week")


class TablesApi:
    """Answers the calls on tables from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def endpoints(self) -> list[Endpoint]:
        """Return the calls, their paths under the project."""
        return [
            Endpoint("GET", "/tables", self._list, SEE_TABLES),
            Endpoint("POST", "/tables", self._create, MANAGE_TABLES),
            Endpoint("GET", "/tables/{table:path}", self._get, SEE_TABLES),
            Endpoint("PUT", "/tables/{table:path}", self._update, MANAGE_TABLES),
        ]

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        all_of(query, "partitioningGranularity", _GRANULARITIES)
        whole(query, "segmentCount", 0, 0, 2**63 - 1)
        await run_in_threadpool(self._store.drop_expired)
        with self._store.lock:
            tables = self._store.tables.poll_all()
        for name in ("partitioningGranularity", "segmentCount"):
            if name in query:
                tables = [table for table in tables if str(table[name]) == query[name]]
        return JSONResponse({"values": tables})

    async def _get(self, request: Request) -> Response:
        await run_in_threadpool(self._store.drop_expired)
        with self._store.lock:
            return JSONResponse(self._store.tables.poll(self._name(request)))

    def _name(self, request: Request) -> str:
        """Return the name of the table of a request. A caller holds the lock."""
        name = str(request.path_params["table"])
        if name not in self._store.tables:
            raise ApiError(404, "There is no such table", "tableName")
        return name

    async def _create(self, request: Request) -> Response:
        body = await json_of(request)
        if faults := form_faults_of_table(body) or faults_of_new_table(body):
            raise faulty(faults)
        if not self._store.create_table(body):
            raise ApiError(409, f"There is a table named {body['name']!r} already", "name")
        with self._store.lock:
            answer = self._store.tables.poll(body["name"])
        return JSONResponse(answer, 201, headers={"Location": f"{request.url.path}/{quote(body['name'], safe='')}"})

    async def _update(self, request: Request) -> Response:
        body = await json_of(request)
        with self._store.lock:
            name = self._name(request)
            if faults := form_faults_of_table(body):
                raise faulty(faults)
            table = self._store.tables[name]
            if "version" not in body:
                raise ApiError(400, "It is required", "version")
            if body["version"] != table.body["version"]:
                raise ApiError(409, f"The table has the version {table.body['version']}. Read it again", "version")
            if faults := faults_of_update(body, table, has_jobs=self._store.has_active_jobs(name)):
                raise faulty(faults)
            self._store.update_table(name, body)
            return JSONResponse(self._store.tables.poll(name))
