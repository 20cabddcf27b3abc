"""The HTTP face of the local Polaris: routes, authentication, errors in the service's shape."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_polaris.local.specs import check_spec
from airflow_provider_polaris.local.store import (
    NOT_IN_SUMMARY,
    OVER,
    USER,
    Store,
    StoredFile,
    StoredJob,
    timestamp,
)

_CODES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    415: "UnsupportedMediaType",
}
#: What the list can be sorted by: where a job keeps it.
_SORT_KEYS: Mapping[str, tuple[str, ...]] = {
    "created_by_user_name": ("createdBy", "username"),
    "created_date_time": ("createdTimestamp",),
    "execution_status": ("executionStatus",),
    "last_updated_date_time": ("lastUpdatedTimestamp",),
    "source_name": ("source", "type"),
    "source_type": ("source", "type"),
    "source_connection_name": ("source", "connectionName"),
    "source_table_name": ("source", "tableName"),
    "target_table_name": ("target", "tableName"),
    "type": ("type",),
}
_FILE_NAME = re.compile(r"[^/\\\x00-\x1f]{1,255}")


class ApiError(HTTPException):
    """An answer in the service's error shape."""

    def __init__(self, status: int, message: str, target: str | None = None) -> None:
        super().__init__(status, message)
        self.target = target


def error_body(status: int, message: str, target: str | None = None) -> dict[str, Any]:
    """Return an error as the service words it."""
    body = {"code": _CODES.get(status, "InternalError"), "message": message}
    return body | ({"target": target} if target else {})


async def _on_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return JSONResponse(error_body(500, "The local Polaris failed; its output says why"), 500)
    target = getattr(error, "target", None)
    return JSONResponse(error_body(error.status_code, str(error.detail), target), error.status_code)


class Api:
    """The endpoints. One project, one key."""

    def __init__(self, store: Store, project_id: str, api_key: str) -> None:
        self._store = store
        self._project_id = project_id
        self.api_key = api_key

    def app(self) -> Starlette:
        """Return the application to serve."""
        base = "/v1/projects/{project}"
        job = base + "/jobs/{job}"
        routes = [
            Route(path, self._checked(endpoint), methods=[method])
            for method, path, endpoint in (
                ("GET", f"{base}/jobs", self._list_jobs),
                ("POST", f"{base}/jobs", self._create_job),
                ("GET", job, self._get_job),
                ("PUT", job, self._update_job),
                ("GET", f"{job}/status", self._get_status),
                ("POST", f"{job}/status", self._update_status),
                ("GET", f"{job}/metrics", self._get_metrics),
                ("GET", f"{job}/logs", self._get_logs),
                ("GET", f"{job}/progress", self._get_progress),
                ("GET", f"{base}/files", self._list_files),
                ("POST", f"{base}/files", self._upload),
                ("GET", base + "/files/{name}", self._get_file),
                ("DELETE", base + "/files/{name}", self._delete_file),
            )
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _on_error, Exception: _on_error})

    def _checked(self, endpoint: Any) -> Any:
        async def checked(request: Request) -> Response:
            self._authenticate(request)
            if request.path_params["project"] != self._project_id:
                raise ApiError(404, "There is no such project", "projectId")
            answer: Response = await endpoint(request)
            return answer

        return checked

    def _authenticate(self, request: Request) -> None:
        """Take the key itself, as the documentation sends it, or as a user name, as the vendor's client does."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        encoded = base64.urlsafe_b64encode(f"{self.api_key}:".encode()).decode()
        encoded_too = base64.b64encode(f"{self.api_key}:".encode()).decode()
        if scheme.lower() != "basic" or not any(
            secrets.compare_digest(given.encode(), right.encode()) for right in (self.api_key, encoded, encoded_too)
        ):
            raise ApiError(401, "The API key is missing or wrong")

    def _job(self, request: Request) -> StoredJob:
        job = self._store.jobs.get(request.path_params["job"])
        if job is None:
            raise ApiError(404, "There is no such job", "jobId")
        return job

    async def _list_jobs(self, request: Request) -> Response:
        query = request.query_params
        limit = _whole(query, "paginationLimit", 100, 1, 1000)
        offset = _whole(query, "paginationOffset", 0, 0, 2**31)
        sort_by = _one_of(query, "sortColumn", "last_updated_date_time", _SORT_KEYS)
        order = _one_of(query, "sortOrder", "DESC", ("ASC", "DESC"))
        with self._store.lock:
            bodies = [self._store.look(job) for job in self._store.jobs.values()]
        fitting = [body for body in bodies if _fits(body, query)]
        fitting.sort(key=lambda body: _dig(body, _SORT_KEYS[sort_by]), reverse=order == "DESC")
        page = [
            {key: value for key, value in body.items() if key not in NOT_IN_SUMMARY}
            for body in fitting[offset : offset + limit]
        ]
        return JSONResponse({"values": page, "moreResultsAvailable": offset + limit < len(fitting)})

    async def _create_job(self, request: Request) -> Response:
        spec = await _json(request)
        with self._store.lock:
            fault = check_spec(spec, self._store.files)
        if fault:
            raise ApiError(400, fault.message, fault.target)
        job = self._store.submit(spec)
        body = self._store.look(job)
        return JSONResponse(body, 201, headers={"Location": f"{request.url.path}/{body['id']}"})

    async def _get_job(self, request: Request) -> Response:
        return JSONResponse(self._store.look(self._job(request)))

    async def _get_status(self, request: Request) -> Response:
        body = self._store.look(self._job(request))
        return JSONResponse({"executionStatus": body.get("executionStatus")})

    async def _update_job(self, request: Request) -> Response:
        return JSONResponse(await self._update(request))

    async def _update_status(self, request: Request) -> Response:
        body = await self._update(request)
        return JSONResponse({"executionStatus": body.get("executionStatus")})

    async def _update(self, request: Request) -> dict[str, Any]:
        job = self._job(request)
        spec = await _json(request)
        wish = spec.get("desiredExecutionStatus") if isinstance(spec, dict) else None
        if wish not in ("running", "suspended", "canceled"):
            raise ApiError(400, "It must be running, suspended or canceled", "desiredExecutionStatus")
        with self._store.lock:
            if job.body.get("executionStatus") in OVER:
                raise ApiError(400, f"The job is {job.body['executionStatus']} and cannot be updated")
            if job.body.get("type") in {"delete_data", "drop_table"}:
                raise ApiError(400, f"Jobs of type {job.body['type']} cannot be updated")
            if wish == "canceled":
                self._store.cancel(job)
            elif job.body.get("type") != "streaming":
                raise ApiError(400, "Only streaming jobs can be suspended and resumed", "desiredExecutionStatus")
            else:
                self._store.update(job, desiredExecutionStatus=wish, executionStatus=wish, lastModifiedBy=USER)
            return dict(job.body)

    async def _get_metrics(self, request: Request) -> Response:
        return JSONResponse(self._job(request).metrics or {"totals": {}})

    async def _get_logs(self, request: Request) -> Response:
        return JSONResponse({"logs": self._job(request).logs})

    async def _get_progress(self, request: Request) -> Response:
        return JSONResponse({"overallProgress": self._job(request).progress})

    async def _upload(self, request: Request) -> Response:
        try:
            async with request.form(max_files=1, max_fields=5) as form:
                upload = form.get("file")
                if upload is None or isinstance(upload, str):
                    raise ApiError(400, "A part named 'file', with a file name, is missing", "file")
                name = upload.filename or ""
                if not _FILE_NAME.fullmatch(name) or name in {".", ".."}:
                    raise ApiError(400, "It must be the name of a file, without a path", "file")
                path = self._store.new_file_path()
                size = await run_in_threadpool(_copy, upload.file, path)
        except ApiError:
            raise
        except HTTPException as error:
            raise ApiError(400, str(error.detail), "file") from None
        metadata = {
            "id": path.name,
            "name": name,
            "sizeBytes": size,
            "dataFormat": request.query_params.get("dataFormat"),
            "compressionFormat": request.query_params.get("compressionFormat"),
            "uploadedBy": USER,
            "uploadedOnDatetime": timestamp(),
        }
        with self._store.lock:
            taken = name in self._store.files
            if not taken:
                self._store.files[name] = StoredFile(path, metadata)
        if taken:
            path.unlink()
            raise ApiError(409, f"There is a file named {name!r} already", "file")
        return JSONResponse(metadata, 201)

    def _file(self, request: Request) -> StoredFile:
        file = self._store.files.get(request.path_params["name"])
        if file is None:
            raise ApiError(404, "There is no such file", "name")
        return file

    async def _list_files(self, _request: Request) -> Response:
        with self._store.lock:
            return JSONResponse({"values": [file.metadata for file in self._store.files.values()]})

    async def _get_file(self, request: Request) -> Response:
        return JSONResponse(self._file(request).metadata)

    async def _delete_file(self, request: Request) -> Response:
        file = self._file(request)
        with self._store.lock:
            self._store.files.pop(file.metadata["name"], None)
        file.path.unlink(missing_ok=True)
        return Response(status_code=204)


def _copy(source: Any, path: Any) -> int:
    size = 0
    with path.open("wb") as target:
        while chunk := source.read(1 << 16):
            size += target.write(chunk)
    return size


async def _json(request: Request) -> Any:
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "The body must be application/json")
    try:
        data = json.loads(await request.body(), parse_constant=_no_constant)
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair cannot be answered with
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not JSON") from None
    request.scope["local_polaris.seen"].body = data
    return data


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _whole(query: QueryParams, name: str, default: int, least: int, most: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise ApiError(400, f"It must be a whole number, {least} to {most}", name)
    return int(text)


def _one_of(query: QueryParams, name: str, default: str, values: Any) -> str:
    value = query.get(name, default)
    if value not in values:
        raise ApiError(400, f"It must be one of {', '.join(values)}", name)
    return value


def _dig(body: Mapping[str, Any], path: tuple[str, ...]) -> str:
    value: Any = body
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return str(value or "")


def _fits(body: Mapping[str, Any], query: QueryParams) -> bool:
    """Whether a job passes the filters: values of one name are alternatives, different names must all hold."""
    for name, path in (
        ("executionStatus", ("executionStatus",)),
        ("healthStatus", ("health", "status")),
        ("type", ("type",)),
        ("connectionName", ("source", "connectionName")),
        ("targetTableName", ("target", "tableName")),
        ("targetTableId", ("target", "tableId")),
    ):
        wanted = query.getlist(name)
        if wanted and _dig(body, path) not in wanted:
            return False
    text = query.get("searchString", "").lower()
    return not text or any(
        text in _dig(body, path).lower() for path in (("id",), ("target", "tableName"), ("source", "type"))
    )
