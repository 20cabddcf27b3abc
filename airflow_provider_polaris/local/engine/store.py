"""The jobs, files and tables of a local Polaris, and how a job changes its status."""

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
#: A summary, as the list of jobs has it, lacks these fields, and has only some of the source.
NOT_IN_SUMMARY = {"spec", "mappings", "query", "context", "parameters"}
#: The fields of a source that its summary has. The vendor's client requires them there.
IN_SOURCE_SUMMARY = ("type", "data", "connectionName", "tableName")
#: How much of inline data a summary has, in characters.
SUMMARY_DATA = 1_000
#: The fields of a spec that the job has too.
_SHOWN = {
    "type", "target", "source", "ingestionMode", "mappings", "query", "context", "parameters", "maxParseExceptions",
    "filterExpression", "readFromPoint", "interval", "deleteAll", "versions",
}  # fmt: skip


@dataclass
class StoredFile:
    """An uploaded file: its path, and its metadata as the API has it."""

    path: Path
    metadata: dict[str, Any]


@dataclass(eq=False)
class StoredJob:
    """A job, kept in the API's own form."""

    body: dict[str, Any]
    metrics: dict[str, Any] | None = None
    logs: list[dict[str, Any]] = field(default_factory=list)
    progress: float = 0.0
    #: Whether a worker runs the job. Any other job changes only by its script or by a test.
    is_run: bool = False
    #: The behaviour that a test has set.
    behaviour: Behaviour | None = None
    #: How many requests still see a job running that is being canceled and that nothing runs.
    checks_until_canceled: int = 0
    canceled: threading.Event = field(default_factory=threading.Event)
    #: Changes of fields to make, one for each further request for the job.
    script: list[dict[str, Any]] = field(default_factory=list)
    #: The job's changes of status and health, in words and with their time, for the page.
    changes: list[dict[str, str]] = field(default_factory=list)
    #: The statuses that the next requests see instead of the job's own.
    masks: list[str] = field(default_factory=list)

    @property
    def status(self) -> Any:
        """The ``executionStatus``. A test may have set it to any value."""
        return self.body.get("executionStatus")

    @property
    def is_restless(self) -> bool:
        """Whether a request for the job changes it, or sees something else than its body."""
        return bool(self.script or self.masks or self.canceled.is_set())

    def note_change(self, at: str) -> None:
        """Note the job's status and health if they have changed."""
        wish, health = self.body.get("desiredExecutionStatus"), self.body.get("health")
        parts = [str(self.status)]
        if wish == "canceled" and self.status not in OVER:
            parts.append("to be canceled")
        if isinstance(health, dict) and health.get("status") != "ok":
            parts.append(f"health {health.get('status')}")
        if not self.changes or self.changes[-1]["text"] != ", ".join(parts):
            self.changes.append({"at": at, "text": ", ".join(parts)})


class Store:
    """All state of one project, behind one lock.

    :param cancel_checks: how many requests still see a scripted job running after its cancellation was accepted.
    :param available_after: seconds from a job's end until its rows can be queried.
    """

    def __init__(self, *, cancel_checks: int = 1, available_after: float = 0.0) -> None:
        self.lock = threading.RLock()
        self.jobs: dict[str, StoredJob] = {}
        self.files: dict[str, StoredFile] = {}
        self.tables = Tables(USER, available_after)
        self.behaviours = Behaviours()
        self.cancel_checks = cancel_checks
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Remove the uploaded files."""
        if self._folder:
            self._folder.cleanup()

    def new_file_path(self) -> Path:
        """Return a path for a new file. It does not depend on the name under which the file is uploaded."""
        with self.lock:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="local-polaris-")
        return Path(self._folder.name) / uuid.uuid4().hex

    def add_job(self, body: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> StoredJob:
        """Store a job as the API would have it. A field that is missing gets the value of a new job."""
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
        job.note_change(now)
        with self.lock:
            self.jobs[full["id"]] = job
        return job

    def submit(self, spec: Mapping[str, Any]) -> StoredJob:
        """Store the job of a spec, and the job's table if the job creates one."""
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
            job.script = job.behaviour.states(job.body["type"])
        else:
            message = "The local Polaris does not run jobs of this kind: this job stays pending until a test changes it"
            job.logs = [{"timestamp": timestamp(), "healthStatus": "ok", "message": message}]

    def update(self, job: StoredJob, **changes: Any) -> None:
        """Change fields of a job's body. Only scripts may change a job that is over."""
        now = timestamp()
        with self.lock:
            was, status = job.status, changes.get("executionStatus", job.status)
            is_new = status in OVER and was not in OVER
            if status == "running":
                job.body.setdefault("startedTimestamp", now)
            job.body.update({"lastUpdatedTimestamp": now} | ({"completedTimestamp": now} if is_new else {}) | changes)
            job.note_change(now)
            if is_new and status == "completed":
                job.progress = 1.0
                self._load_scripted(job)

    def override(self, job: StoredJob, **changes: Any) -> None:
        """Change a job for a test. If the new status is final, the job's script and worker end."""
        with self.lock:
            if changes.get("executionStatus") in OVER:
                job.script.clear()
                job.masks.clear()
                if job.is_run:
                    job.canceled.set()  # its worker stops reading
            self.update(job, **changes)

    def _load_scripted(self, job: StoredJob) -> None:
        """Add the rows that a job counts to its table if no worker read them."""
        totals = (job.metrics or {}).get("totals") or {}
        rows = sum(totals.get(name) or 0 for name in ("numRowsProcessed", "numRowsProcessedWithWarning"))
        table = job.body["target"].get("tableName") if isinstance(job.body.get("target"), dict) else None
        if table and not job.is_run and job.body.get("type") in ("batch", "sql"):
            self.tables.load(table, {0: rows} if rows else {}, 0, replaced=None)

    def cancel(self, job: StoredJob) -> None:
        """Accept a cancellation. The job ends later."""
        with self.lock:
            self.update(job, desiredExecutionStatus="canceled", lastModifiedBy=USER)
            job.canceled.set()
            job.checks_until_canceled = self.cancel_checks

    def end_canceled(self, job: StoredJob) -> None:
        """End a job that a user canceled."""
        health = {"status": "error", "code": "canceled", "message": "The job was canceled by a user"}
        self.update(job, executionStatus="canceled", health=health)

    def poll(self, job: StoredJob) -> dict[str, Any]:
        """Return the job's body for a request. A scripted job changes with each request."""
        with self.lock:
            if job.script and (changes := job.script.pop(0)):
                self.update(job, **changes)
            if job.canceled.is_set() and not job.is_run and job.status not in OVER:
                job.checks_until_canceled -= 1
                if job.checks_until_canceled < 0:
                    job.script.clear()
                    self.end_canceled(job)
            if not job.masks:
                return dict(job.body)
            body = {**job.body, "executionStatus": job.masks.pop(0), "health": {"status": "ok"}}
            body.pop("completedTimestamp", None)
            return body


def summary_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job as the list of jobs has it."""
    summary = {key: value for key, value in body.items() if key not in NOT_IN_SUMMARY}
    source = summary.get("source")
    if isinstance(source, dict):
        head = {key: source[key] for key in IN_SOURCE_SUMMARY if key in source}
        if isinstance(head.get("data"), str):
            head["data"] = head["data"][:SUMMARY_DATA]
        summary["source"] = head
    return summary
