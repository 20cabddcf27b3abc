"""The calls on tables of the local Polaris."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_polaris.local.engine.intervals import GRANULARITIES
from airflow_provider_polaris.local.engine.store import Store
from airflow_provider_polaris.local.http.answers import ApiError, Endpoint, all_of, whole

SEE_TABLES = ("ViewTables", "ManageTables")

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
            Endpoint("GET", "/tables/{table:path}", self._get, SEE_TABLES),
        ]

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        all_of(query, "partitioningGranularity", _GRANULARITIES)
        whole(query, "segmentCount", 0, 0, 2**63 - 1)
        with self._store.lock:
            tables = self._store.tables.poll_all()
        for name in ("partitioningGranularity", "segmentCount"):
            if name in query:
                tables = [table for table in tables if str(table[name]) == query[name]]
        return JSONResponse({"values": tables})

    async def _get(self, request: Request) -> Response:
        name = request.path_params["table"]
        with self._store.lock:
            if name not in self._store.tables:
                raise ApiError(404, "There is no such table", "tableName")
            return JSONResponse(self._store.tables.poll(name))
