"""The paths under ``/local`` for tests: faults and behaviours over HTTP, changes of jobs and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_polaris.local.engine.project.behaviours import Behaviour
from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.http.answers import ApiError, Endpoint, object_of, whole
from airflow_provider_polaris.local.http.faults import HANG_SECONDS, Fault, Faults
from airflow_provider_polaris.local.http.shell import SeenRequest

_FAULT_FIELDS = ("times", "match", "status", "body", "retry_after", "delay", "hang", "cut")
_BEHAVIOUR_FIELDS = ("kind", "times", "at", "table", "metrics", "health")
_TYPES: dict[str, tuple[type, ...]] = {
    "times": (int,),
    "status": (int,),
    "delay": (int, float),
    "at": (int, float),
    "metrics": (dict,),
    "health": (dict,),
    "table": (str,),
}
_HEADER = re.compile(r"[ -~]{1,100}")
Thing = TypeVar("Thing", Fault, Behaviour)


class AdminApi:
    """Answers the calls under ``/local``. They need the key, as all calls do."""

    def __init__(self, store: Store, faults: Faults, requests: list[SeenRequest]) -> None:
        self._store = store
        self._faults = faults
        self._requests = requests

    def endpoints(self) -> list[Endpoint]:
        """Return the calls."""
        return [
            Endpoint("GET", "/local/requests", self._list_requests),
            Endpoint("GET", "/local/faults", self._list_faults),
            Endpoint("POST", "/local/faults", self._add_fault),
            Endpoint("DELETE", "/local/faults", self._clear_faults),
            Endpoint("GET", "/local/behaviours", self._list_behaviours),
            Endpoint("POST", "/local/behaviours", self._add_behaviour),
            Endpoint("DELETE", "/local/behaviours", self._clear_behaviours),
            Endpoint("PATCH", "/local/jobs/{job}", self._change_job),
            Endpoint("PATCH", "/local/tables/{table:path}", self._change_table),
        ]

    async def _list_requests(self, request: Request) -> Response:
        last = whole(request.query_params, "last", 100, 1, 10_000)
        shown = ("method", "path", "query", "at", "status")  # without bodies, which can be large
        return JSONResponse(
            {"values": [{name: getattr(seen, name) for name in shown} for seen in self._requests[-last:]]}
        )

    async def _list_faults(self, _request: Request) -> Response:
        faults = [asdict(fault) for fault in self._faults.waiting]
        return JSONResponse({"values": [{**fault, "body": _text(fault["body"])} for fault in faults]})

    async def _add_fault(self, request: Request) -> Response:
        given = await object_of(request, _FAULT_FIELDS)
        retry_after = given.pop("retry_after", None)
        if given.pop("hang", False):
            given["delay"] = HANG_SECONDS
        if retry_after is not None:
            if not (isinstance(retry_after, (int, float, str)) and _HEADER.fullmatch(str(retry_after))):
                raise ApiError(400, "It must be a number of seconds, or a date", "retry_after")
            given["headers"] = {"Retry-After": str(retry_after)}
            given.setdefault("status", 429)
        if "body" in given:
            body = given["body"]
            given["body"] = (body if isinstance(body, str) else json.dumps(body)).encode()
            given.setdefault("status", 200)
        if "match" in given and not (isinstance(given["match"], str) and _is_harmless(given["match"])):
            raise ApiError(
                400, "It must be a regular expression without groups, and with two repetitions at most", "match"
            )
        fault = _made(Fault, given)
        if not (fault.status or fault.delay or fault.cut):
            raise ApiError(400, f"It must have one of {', '.join(_FAULT_FIELDS[2:])}")
        self._faults.add(fault)
        return Response(status_code=204)

    async def _clear_faults(self, _request: Request) -> Response:
        self._faults.clear()
        return Response(status_code=204)

    async def _list_behaviours(self, _request: Request) -> Response:
        return JSONResponse({"values": [asdict(behaviour) for behaviour in self._store.behaviours.waiting]})

    async def _add_behaviour(self, request: Request) -> Response:
        given = await object_of(request, _BEHAVIOUR_FIELDS)
        self._store.behaviours.add(_made(Behaviour, given))
        return Response(status_code=204)

    async def _clear_behaviours(self, _request: Request) -> Response:
        self._store.behaviours.clear()
        return Response(status_code=204)

    async def _change_job(self, request: Request) -> Response:
        job = self._store.jobs.get(request.path_params["job"])
        if job is None:
            raise ApiError(404, "There is no such job", "jobId")
        changes = await object_of(request, ("executionStatus", "health", "metrics", "logs"))
        metrics, logs = _of_type(changes, "metrics", dict), _of_type(changes, "logs", list)
        if metrics and not all(isinstance(count, int) for count in metrics.values()):
            raise ApiError(400, "It must be counters", "metrics")
        with self._store.lock:
            job.metrics = job.metrics if metrics is None else {"totals": metrics}
            job.logs = job.logs if logs is None else logs
            self._store.override(job, **changes)
            return JSONResponse(dict(job.body))

    async def _change_table(self, request: Request) -> Response:
        changes = await object_of(request, ("availability", "totalRows"))
        name = request.path_params["table"]
        with self._store.lock:
            if name not in self._store.tables:
                raise ApiError(404, "There is no such table", "tableName")
            self._store.tables[name].fields.update(changes)
            return JSONResponse(self._store.tables.poll(name))


def _made(kind: Callable[..., Thing], given: dict[str, Any]) -> Thing:
    """Return a fault or a behaviour made of these fields.

    :raises ApiError: if a field is invalid.
    """
    for name, value in given.items():
        if name in _TYPES and (isinstance(value, bool) or not isinstance(value, _TYPES[name])):
            raise ApiError(400, "It is of the wrong type", name)
    if not 200 <= given.get("status", 200) <= 599:
        raise ApiError(400, "It must be an HTTP status, 200 to 599", "status")
    try:
        return kind(**given)
    except (TypeError, ValueError, OverflowError, re.error) as error:
        raise ApiError(400, str(error)) from None


def _is_harmless(pattern: str) -> bool:
    """Return whether a search for this pattern of a caller is always fast."""
    return len(pattern) <= 200 and "(" not in pattern and sum(pattern.count(sign) for sign in "*+{?") <= 2


def _of_type(changes: dict[str, Any], name: str, kind: type) -> Any:
    value = changes.pop(name, None)
    if value is not None and not isinstance(value, kind):
        raise ApiError(400, "It is of the wrong type", name)
    return value


def _text(body: bytes | None) -> str | None:
    return None if body is None else body.decode("utf-8", "replace")
