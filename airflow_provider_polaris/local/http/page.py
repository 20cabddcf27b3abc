"""The page of the local Polaris for a browser, and the data that the page shows."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_polaris.local.engine.project.behaviours import Behaviour
from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.project.stored import OVER, StoredJob
from airflow_provider_polaris.local.http.answers import ApiError, Endpoint, dig
from airflow_provider_polaris.local.http.faults import HANG_SECONDS, Fault, Faults
from airflow_provider_polaris.local.http.shell import SeenRequest

#: How many jobs and lines of requests are shown, the newest first.
SHOWN = 50
#: How many of the last requests are folded into these lines.
FOLDED = 1_000
_FILES = {
    "/": ("page.html", "text/html"),
    "/local/page.css": ("page.css", "text/css"),
    "/local/page.js": ("page.js", "text/javascript"),
}
_HEADERS = {
    # Everything comes from this server, and no other page may show this one.
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'; form-action 'none'",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
#: The words for people of the counters, in this order. A zero is shown only for the first.
_COUNTERS = {"numRowsProcessed": "in", "numRowsProcessedWithWarning": "in part", "numRowsSkippedByError": "lost"}


class PageApi:
    """Answers a browser: the page without a key, and the page's data with the key. It changes no job."""

    def __init__(self, store: Store, faults: Faults, requests: Sequence[SeenRequest]) -> None:
        self._store = store
        self._faults = faults
        self._requests = requests

    def endpoints(self) -> list[Endpoint]:
        """Return the calls. The page has a form for the key, so a browser gets the page without one."""
        return [
            *(Endpoint("GET", path, self._get_file, needs_key=False) for path in _FILES),
            Endpoint("GET", "/local/state", self._get_state),
            Endpoint("GET", "/local/jobs/{job}", self._get_job),
        ]

    async def _get_file(self, request: Request) -> Response:
        name, kind = _FILES[request.url.path]
        return Response(_content(name), media_type=kind, headers=_HEADERS)

    async def _get_state(self, _request: Request) -> Response:
        lines, folded = fold(islice(reversed(self._requests), FOLDED))
        with self._store.lock:
            jobs = [_job(job) for job in islice(reversed(self._store.jobs.values()), SHOWN)]
            tables = [_table(table) for table in self._store.tables.list_all()]
            counts = {"job": len(self._store.jobs), "file": len(self._store.files), "table": len(tables)}
        plans = [describe(fault) for fault in self._faults.waiting]
        plans += [describe(behaviour) for behaviour in self._store.behaviours.waiting]
        summary = ", ".join(f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
        return JSONResponse(
            {
                "summary": summary,
                "jobs": jobs,
                "tables": tables,
                "planned": plans,
                "requests": lines[:SHOWN],
                "folded": folded,
            }
        )

    async def _get_job(self, request: Request) -> Response:
        with self._store.lock:
            job = self._store.jobs.get(request.path_params["job"])
            if job is None:
                raise ApiError(404, "There is no such job", "jobId")
            spec = _shortened(job.body.get("spec"))
            return JSONResponse({"changes": list(job.changes), "log": list(job.logs), "spec": spec})


#: The longest text that is shown of a value in a spec, in characters: inline data may have megabytes.
_LONGEST = 2_000


def fold(newest_first: Iterable[SeenRequest]) -> tuple[list[dict[str, Any]], int]:
    """Return a line for each request, and how many requests share the line of a newer one.

    Successful GETs of one address share a line, until a request of another kind is between them: a change, or an error.
    """
    lines: list[dict[str, Any]] = []
    folding: dict[str, dict[str, Any]] = {}
    folded = 0
    for seen in newest_first:
        text = f"{seen.method} {_short(seen.path)}{f'?{seen.query}' if seen.query else ''}"
        is_poll = seen.method == "GET" and seen.status is not None and seen.status < 400
        if is_poll and text in folding:
            folding[text]["times"] += 1
            folded += 1
            continue
        line = {"at": round(seen.at, 1), "status": seen.status, "text": text, "times": 1}
        lines.append(line)
        if is_poll:
            folding[text] = line
        else:
            folding.clear()
    return lines, folded


def _short(path: str) -> str:
    """Return the path below the project, which is the same for all requests."""
    return "/".join(path.split("/")[4:]) if path.startswith("/v1/projects/") and path.count("/") > 3 else path


def describe(plan: Fault | Behaviour) -> dict[str, str]:
    """Return a planned fault or behaviour as a mark and a phrase."""
    if isinstance(plan, Behaviour):
        return {"mark": "job", "text": _describe_behaviour(plan)}
    which = _next(plan.times, "request") + (
        f" that match{'es' if plan.times == 1 else ''} {plan.match}" if plan.match else ""
    )
    after = [f"Retry-After {value}" for name, value in plan.headers.items() if name == "Retry-After"]
    if plan.delay >= HANG_SECONDS:
        return {"mark": "hang", "text": f"no response to {which}"}
    if plan.delay:
        after.insert(0, f"{plan.delay:g} s late")
    if plan.cut:
        when = {"before": "before it is read", "after": "after it is carried out", "mid-body": "within the response"}
        return {"mark": "cut", "text": ", ".join([f"the connection of {which}, {when[plan.cut]}", *after])}
    if plan.status is None:
        return {"mark": "late", "text": ", ".join([f"the response to {which}", *after])}
    return {"mark": str(plan.status), "text": ", ".join([f"to {which}", *after])}


def _describe_behaviour(plan: Behaviour) -> str:
    table = f" into {plan.table}" if plan.table else ""
    does = {
        "complete": "complete",
        "fail": f"fail after {plan.at:.0%} of the rows",
        "hang": f"hang after {plan.at:.0%} of the rows",
        "flap": "change between running and unknown, then complete",
    }[plan.kind]
    return f"{_next(plan.times, 'job')}{table}: {does}".replace("%", " %")


def _next(times: int, what: str) -> str:
    return f"the next {what}" if times == 1 else f"the next {times:,} {what}s"


@functools.cache
def _content(name: str) -> bytes:
    return (Path(__file__).parent / name).read_bytes()


def _job(job: StoredJob) -> dict[str, Any]:
    body, status = job.body, str(job.status)
    wish = body.get("desiredExecutionStatus")
    source = body.get("source")
    files = source.get("fileList") if isinstance(source, dict) else None
    reason = _reason(job)
    note = ", ".join(map(str, files)) if isinstance(files, list) else ""
    if status == "pending" and not job.is_run:
        note = "not run here: it waits until a test changes it"
    return {
        "id": str(body.get("id")),
        "type": str(body.get("type")),
        "table": dig(body, ("target", "tableName")),
        "status": status,
        "wish": wish if wish in ("canceled", "suspended") and wish != status and status not in OVER else None,
        "is_read": job.is_run and status not in OVER and not reason,
        "progress": round(job.progress, 3),
        "health": dig(body, ("health", "status")),
        "reason": reason,
        "note": note,
        "counters": counters_of((job.metrics or {}).get("totals")),
        "began": body.get("startedTimestamp") or body.get("createdTimestamp"),
        "ended": body.get("completedTimestamp") or (body.get("lastUpdatedTimestamp") if status in OVER else None),
    }


def _reason(job: StoredJob) -> str:
    """Return why the job is not in order; an empty text if it is."""
    health = job.body.get("health")
    if not isinstance(health, dict) or health.get("status") == "ok":
        return ""
    code = str(health.get("code") or health.get("status") or "")
    message = str(health.get("message") or dig(health, ("log", "message")))
    at = f" at {job.progress:.0%}".replace("%", " %") if health.get("status") == "error" and job.progress else ""
    return f"{code}{at}" + (f": {message}" if message else "")


def counters_of(totals: Any) -> str:
    """Return counters in words: ``23,988 in, 5 in part, 7 lost``."""
    if not isinstance(totals, Mapping):
        return ""
    shown = [
        f"{totals[name]:,} {word}"
        for name, word in _COUNTERS.items()
        if isinstance(totals.get(name), int) and (totals[name] or word == "in")
    ]
    return ", ".join(shown)


def _table(table: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": table["name"], "availability": str(table["availability"]), "rows": table.get("totalRows")}


def _shortened(value: Any) -> Any:
    """Return JSON with its long texts cut."""
    if isinstance(value, dict):
        return {name: _shortened(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_shortened(part) for part in value]
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[:_LONGEST]}… ({len(value):,} characters)"
    return value
