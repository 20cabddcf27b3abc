"""The jobs, files and tables of a local Polaris, and how a job moves from state to state."""

from __future__ import annotations

import tempfile
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_polaris.local.engine.behaviours import FLAPPING, Behaviour, Behaviours
from airflow_provider_polaris.local.engine.queries import target_of
from airflow_provider_polaris.local.engine.specs import READ_HERE
from airflow_provider_polaris.local.engine.tables import Tables
from airflow_provider_polaris.local.engine.timestamps import timestamp

USER = {"username": "local-polaris", "userId": "00000000-0000-4000-8000-000000000000"}
OVER = ("completed", "failed", "canceled")
#: A summary, as the list gives it, has every field of a job but these, and of the source only the head.
NOT_IN_SUMMARY = {"spec", "mappings", "query", "context", "parameters"}
#: What of a source its summary keeps; the vendor's client requires them there.
IN_SOURCE_SUMMARY = ("type", "data", "connectionName", "tableName")
#: So much of inline data a summary shows, in characters.
SUMMARY_DATA = 1_000
#: What of a job's spec the job itself shows too.
_SHOWN = {
    "type", "target", "source", "ingestionMode", "mappings", "query", "context", "parameters", "maxParseExceptions",
    "filterExpression", "readFromPoint", "interval", "deleteAll", "versions",
}  # fmt: skip


@dataclass
class StoredFile:
    """An uploaded file: where it lies, and what the API says of it."""

    path: Path
    metadata: dict[str, Any]


@dataclass(eq=False)
class StoredJob:
    """A job: what the API answers for it, kept in the API's own form."""

    body: dict[str, Any]
    metrics: dict[str, Any] | None = None
    logs: list[dict[str, Any]] = field(default_factory=list)
    progress: float = 0.0
    #: Whether a worker does what it says; any other is moved on by its script, or by nobody.
    is_run: bool = False
    #: How it was asked to behave.
    behaviour: Behaviour | None = None
    #: Of a job that nothing runs: how many looks at it its cancellation still takes.
    looks_until_canceled: int = 0
    canceled: threading.Event = field(default_factory=threading.Event)
    #: Changes of fields still to come, one for each further look at the job.
    script: list[dict[str, Any]] = field(default_factory=list)
    #: What the next looks at it see instead of its status.
    masks: list[str] = field(default_factory=list)

    @property
    def status(self) -> Any:
        """Its ``executionStatus``: a test may have set it to anything."""
        return self.body.get("executionStatus")

    @property
    def is_restless(self) -> bool:
        """Whether a look at it moves it on, or sees something else than its body."""
        return bool(self.script or self.masks or self.canceled.is_set())


class Store:
    """All state of one project, behind one lock.

    :param cancel_looks: how many looks a scripted job survives after its cancellation was taken.
    :param available_after: how many seconds after a job completed its rows can be queried.
    """

    def __init__(self, *, cancel_looks: int = 1, available_after: float = 0.0) -> None:
        self.lock = threading.RLock()
        self.jobs: dict[str, StoredJob] = {}
        self.files: dict[str, StoredFile] = {}
        self.tables = Tables(USER, available_after)
        self.behaviours = Behaviours()
        self.cancel_looks = cancel_looks
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Forget all of it."""
        if self._folder:
            self._folder.cleanup()

    def new_file_path(self) -> Path:
        """Return where a file may be written; its name tells nothing of the name it is uploaded under."""
        with self.lock:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="local-polaris-")
        return Path(self._folder.name) / uuid.uuid4().hex

    def add_job(self, body: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> StoredJob:
        """Store a job as the API would show it; fields that are missing get what a new job has."""
        now = timestamp()
        full = {
            "type": "batch",
            "id": str(uuid.uuid4()),
            "target": {"type": "table", "tableName": "table"},
            "desiredExecutionStatus": "running",
            "createdBy": USER,
            "lastModifiedBy": USER,
            "executionStatus": "pending",
            "health": {"status": "ok"},
            "createdTimestamp": now,
            "lastUpdatedTimestamp": now,
            **body,
        }
        job = StoredJob(full, metrics=None if metrics is None else {"totals": dict(metrics)})
        with self.lock:
            self.jobs[full["id"]] = job
        return job

    def submit(self, spec: Mapping[str, Any]) -> StoredJob:
        """Store the job that a spec asks for, and its table if it makes one."""
        is_sql = spec["type"] == "sql"
        target: Any = {"type": "table", "tableName": target_of(spec["query"])} if is_sql else spec["target"]
        shown = {key: value for key, value in spec.items() if key in _SHOWN}
        with self.lock:
            job = self.add_job({**shown, "target": target, "spec": dict(spec)})
            job.is_run = spec["type"] in ("delete_data", "drop_table") or (
                spec["type"] == "batch" and spec["source"]["type"] in READ_HERE
            )
            if spec.get("createTableIfNotExists") is True:
                aggregates = any(mapping.get("isAggregation") for mapping in spec.get("mappings") or [])
                self.tables.add(target["tableName"], **({"type": "aggregate"} if aggregates else {}))
            job.behaviour = self.behaviours.take(target["tableName"])
            self._prepare(job)
        return job

    def _prepare(self, job: StoredJob) -> None:
        if job.behaviour and job.behaviour.kind == "flap":
            job.masks = list(FLAPPING)
        if job.is_run:
            return
        if job.behaviour:
            job.metrics = {"totals": dict(job.behaviour.metrics)}
            job.script = job.behaviour.life(job.body["type"])
        else:
            message = "The local Polaris does not do what this job asks for: it waits to be scripted"
            job.logs = [{"timestamp": timestamp(), "healthStatus": "ok", "message": message}]

    def update(self, job: StoredJob, **changes: Any) -> None:
        """Change fields of a job's body. Of a job that is over, only scripts may."""
        now = timestamp()
        with self.lock:
            was, status = job.status, changes.get("executionStatus", job.status)
            is_new = status in OVER and was not in OVER
            if status == "running":
                job.body.setdefault("startedTimestamp", now)
            job.body.update({"lastUpdatedTimestamp": now} | ({"completedTimestamp": now} if is_new else {}) | changes)
            if is_new and status == "completed":
                job.progress = 1.0
                self._load_scripted(job)

    def override(self, job: StoredJob, **changes: Any) -> None:
        """Change a job from outside: one that is over by that stays so, whatever it was to become."""
        with self.lock:
            if changes.get("executionStatus") in OVER:
                job.script.clear()
                job.masks.clear()
                if job.is_run:
                    job.canceled.set()  # whoever reads for it may stop
            self.update(job, **changes)

    def _load_scripted(self, job: StoredJob) -> None:
        """Put the rows that a job counts into its table, where nothing read them."""
        totals = (job.metrics or {}).get("totals") or {}
        rows = sum(totals.get(name) or 0 for name in ("numRowsProcessed", "numRowsProcessedWithWarning"))
        table = job.body["target"].get("tableName") if isinstance(job.body.get("target"), dict) else None
        if table and not job.is_run and job.body.get("type") in ("batch", "sql"):
            self.tables.load(table, {0: rows} if rows else {}, 0, replaced=None)

    def cancel(self, job: StoredJob) -> None:
        """Take the wish to cancel; the job ends later."""
        with self.lock:
            self.update(job, desiredExecutionStatus="canceled", lastModifiedBy=USER)
            job.canceled.set()
            job.looks_until_canceled = self.cancel_looks

    def end_canceled(self, job: StoredJob) -> None:
        """Let a job be over because a user wanted it."""
        health = {"status": "error", "code": "canceled", "message": "The job was canceled by a user"}
        self.update(job, executionStatus="canceled", health=health)

    def look(self, job: StoredJob) -> dict[str, Any]:
        """Return the job's body as of now; a scripted job moves on, look by look."""
        with self.lock:
            if job.script and (changes := job.script.pop(0)):
                self.update(job, **changes)
            if job.canceled.is_set() and not job.is_run and job.status not in OVER:
                job.looks_until_canceled -= 1
                if job.looks_until_canceled < 0:
                    job.script.clear()
                    self.end_canceled(job)
            if not job.masks:
                return dict(job.body)
            body = {**job.body, "executionStatus": job.masks.pop(0), "health": {"status": "ok"}}
            body.pop("completedTimestamp", None)
            return body


def summary_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job as the list shows it."""
    summary = {key: value for key, value in body.items() if key not in NOT_IN_SUMMARY}
    source = summary.get("source")
    if isinstance(source, dict):
        head = {key: source[key] for key in IN_SOURCE_SUMMARY if key in source}
        if isinstance(head.get("data"), str):
            head["data"] = head["data"][:SUMMARY_DATA]
        summary["source"] = head
    return summary
