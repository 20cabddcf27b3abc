"""The calls on jobs of the local Polaris."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_polaris.local.engine.jobs.runner import Runner
from airflow_provider_polaris.local.engine.project.specs import (
    SpecFault,
    expression_faults_of,
    form_faults_of,
    rule_faults_of,
)
from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.project.stored import OVER, USER, StoredJob, summary_of
from airflow_provider_polaris.local.engine.sql.queries import reads_data
from airflow_provider_polaris.local.http.answers import (
    ApiError,
    Endpoint,
    all_of,
    dig,
    faulty,
    json_of,
    one_of,
    whole,
)

PERMISSION = ("ManageIngestionJobs",)

#: The path in a job of each column by which the list can be sorted. The service does not document ``source_name``; here
#: it is the name of the connection.
_SORT_KEYS: Mapping[str, tuple[str, ...]] = {
    "created_by_user_name": ("createdBy", "username"),
    "created_date_time": ("createdTimestamp",),
    "execution_status": ("executionStatus",),
    "last_updated_date_time": ("lastUpdatedTimestamp",),
    "source_name": ("source", "connectionName"),
    "source_type": ("source", "type"),
    "source_connection_name": ("source", "connectionName"),
    "source_table_name": ("source", "tableName"),
    "target_table_name": ("target", "tableName"),
    "type": ("type",),
}
#: The path in a job of each field by which the list can be filtered.
_FILTERS: Mapping[str, tuple[str, ...]] = {
    "executionStatus": ("executionStatus",),
    "healthStatus": ("health", "status"),
    "type": ("type",),
    "connectionName": ("source", "connectionName"),
    "targetTableName": ("target", "tableName"),
}
#: The values of the filters that have an enum.
_FILTER_VALUES: Mapping[str, tuple[str, ...]] = {
    "executionStatus": ("pending", "running", "completed", "idle", "canceled", "failed", "suspended", "unknown"),
    "healthStatus": ("ok", "warn", "error"),
    "type": ("batch", "delete_data", "drop_table", "restore_data", "streaming", "sql"),
}
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SEARCHED = (("id",), ("target", "tableName"), ("source", "connectionName"), ("source", "type"), ("type",))


class JobsApi:
    """Answers the calls on jobs from the store."""

    def __init__(self, store: Store, runner: Runner) -> None:
        self._store = store
        self._runner = runner

    def endpoints(self) -> list[Endpoint]:
        """Return the calls, their paths under the project."""
        return [
            Endpoint(method, path, answer, PERMISSION)
            for method, path, answer in (
                ("GET", "/jobs", self._list),
                ("POST", "/jobs", self._create),
                ("GET", "/jobs/{job}", self._get),
                ("PUT", "/jobs/{job}", self._update),
                ("GET", "/jobs/{job}/status", self._get_status),
                ("POST", "/jobs/{job}/status", self._update_status),
                ("GET", "/jobs/{job}/metrics", self._get_metrics),
                ("GET", "/jobs/{job}/logs", self._get_logs),
                ("GET", "/jobs/{job}/progress", self._get_progress),
                ("POST", "/jobs/{job}/reset", self._reset),
            )
        ]

    def _job(self, request: Request) -> StoredJob:
        job = self._store.jobs.get(request.path_params["job"])
        if job is None:
            raise ApiError(404, "There is no such job", "jobId")
        return job

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        limit = whole(query, "paginationLimit", 100, 1, 1000)
        offset = whole(query, "paginationOffset", 0, 0, 2**31)
        key = _SORT_KEYS[one_of(query, "sortColumn", "last_updated_date_time", _SORT_KEYS)]
        order = one_of(query, "sortOrder", "DESC", ("ASC", "DESC"))
        fits = self._filter(query)
        with self._store.lock:
            jobs = self._store.jobs.values()
            bodies = [self._store.poll(job) if job.is_restless else job.body for job in jobs]
            fitting = [body for body in bodies if fits(body)]
            fitting.sort(key=lambda body: dig(body, key), reverse=order == "DESC")
            page = [summary_of(body) for body in fitting[offset : offset + limit]]
        return JSONResponse({"values": page, "moreResultsAvailable": offset + limit < len(fitting)})

    def _filter(self, query: QueryParams) -> Callable[[Mapping[str, Any]], bool]:
        """Return the filter of a query: values of one name are alternatives, and all names must match."""
        wanted = [(path, set(query.getlist(name))) for name, path in _FILTERS.items() if name in query]
        for name, values in _FILTER_VALUES.items():
            all_of(query, name, values)
        for name, most in (("targetTableName", 255), ("connectionName", 64)):
            if not all(1 <= len(value) <= most for value in query.getlist(name)):
                raise ApiError(400, f"It must be a text of 1 to {most} characters", name)
        if not all(_UUID.fullmatch(value) for value in query.getlist("targetTableId")):
            raise ApiError(400, "It must be a uuid", "targetTableId")
        text = query.get("searchString", "").lower()
        ids = set(query.getlist("targetTableId"))
        tables = self._store.tables

        def fits(body: Mapping[str, Any]) -> bool:
            return (
                all(dig(body, path) in values for path, values in wanted)
                and (not ids or tables.id_of(dig(body, ("target", "tableName"))) in ids)
                and (not text or any(text in dig(body, path).lower() for path in _SEARCHED))
            )

        return fits

    def _faults_of(self, spec: Any) -> list[SpecFault]:
        if faults := form_faults_of(spec):
            return faults
        with self._store.lock:
            project = self._store.project()
            faults = rule_faults_of(spec, project)
            name = spec["target"]["tableName"] if spec["type"] in ("batch", "streaming") else ""
            table = self._store.tables.columns(name)
        return faults or expression_faults_of(spec, project, self._store.database, table)

    def _reason_not_run(self, spec: Mapping[str, Any]) -> str | None:
        """Return why the local Polaris does not run the query of an SQL job, ``None`` for any other job."""
        if spec["type"] != "sql":
            return None
        if not reads_data(spec["query"]):
            return "The query reads no data"
        # The import takes a fifth of a second, which only a local Polaris that gets such a job needs.
        from airflow_provider_polaris.local.engine.jobs.sql_jobs import reason_not_run

        return reason_not_run(self._store, spec)

    async def _create(self, request: Request) -> Response:
        spec = await json_of(request)
        faults = await run_in_threadpool(self._faults_of, spec)
        reason = None if faults else await run_in_threadpool(self._reason_not_run, spec)
        with self._store.lock:
            if faults := faults or rule_faults_of(spec, self._store.project()):  # a file may be deleted since
                raise faulty(faults)
            job = self._store.submit(spec, not_run_because=reason)
            body = dict(job.body)
        self._runner.start(job)
        return JSONResponse(body, 201, headers={"Location": f"{request.url.path}/{body['id']}"})

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._store.poll(self._job(request)))

    async def _get_status(self, request: Request) -> Response:
        body = self._store.poll(self._job(request))
        return JSONResponse({"executionStatus": body.get("executionStatus")})

    async def _update(self, request: Request) -> Response:
        return JSONResponse(await self._updated(request))

    async def _update_status(self, request: Request) -> Response:
        body = await self._updated(request)
        return JSONResponse({"executionStatus": body.get("executionStatus")})

    async def _updated(self, request: Request) -> dict[str, Any]:
        job = self._job(request)
        spec = await json_of(request)
        wish = spec.get("desiredExecutionStatus") if isinstance(spec, dict) else None
        if wish not in ("running", "suspended", "canceled"):
            raise ApiError(400, "It must be running, suspended or canceled", "desiredExecutionStatus")
        with self._store.lock:
            if job.status in OVER:
                job.masks.clear()  # the caller knows the status now
                raise ApiError(400, f"The job is {job.status} and cannot be updated")
            if job.body.get("type") in ("delete_data", "drop_table"):
                raise ApiError(400, f"Jobs of type {job.body['type']} cannot be updated")
            if wish == "canceled":
                self._store.cancel(job)
            elif job.body.get("type") != "streaming":
                raise ApiError(400, "Only streaming jobs can be suspended and resumed", "desiredExecutionStatus")
            elif job.canceled.is_set():
                raise ApiError(400, "The job is being canceled and cannot be updated")
            else:
                self._store.update(job, desiredExecutionStatus=wish, executionStatus=wish, lastModifiedBy=USER)
            self._runner.streams.wake()
            return dict(job.body)

    async def _get_metrics(self, request: Request) -> Response:
        return JSONResponse(self._job(request).metrics or {"totals": {}})

    async def _get_logs(self, request: Request) -> Response:
        return JSONResponse({"logs": self._job(request).logs})

    async def _get_progress(self, request: Request) -> Response:
        job = self._job(request)
        if job.body.get("type") == "streaming":
            raise ApiError(400, "A streaming job never ends, so it has no progress")
        return JSONResponse({"overallProgress": job.progress})

    async def _reset(self, request: Request) -> Response:
        job = self._job(request)
        if job.body.get("type") != "streaming" or job.status in OVER:
            raise ApiError(404, "There is no such streaming job", "jobId")
        with self._store.lock:
            self._store.update(job, lastModifiedBy=USER)
            self._runner.streams.reset(job)
        self._runner.streams.wake()
        return Response(status_code=200)
