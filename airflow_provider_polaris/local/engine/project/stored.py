"""The jobs and files of a local Polaris, each in the API's own form."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_polaris.local.engine.project.behaviours import Behaviour
from airflow_provider_polaris.local.engine.project.specs import DEFAULT_GRANULARITY
from airflow_provider_polaris.local.engine.timestamps import timestamp

USER = {"username": "local-polaris", "userId": "00000000-0000-4000-8000-000000000000"}
OVER = ("completed", "failed", "canceled")
#: The fields of a source that its summary has. The vendor's client requires them there.
IN_SOURCE_SUMMARY = ("type", "data", "connectionName", "tableName")
#: How much of inline data a summary has, in characters.
SUMMARY_DATA = 1_000
#: The fields of a spec that the job has too.
SHOWN = {
    "type", "target", "source", "ingestionMode", "mappings", "query", "context", "parameters", "maxParseExceptions",
    "filterExpression", "readFromPoint", "interval", "deleteAll", "versions", "dimensionExclusions",
    "useSchemaDiscovery", "lateMessageRejectionPeriod", "earlyMessageRejectionPeriod",
}  # fmt: skip
#: A summary, as the list of jobs has it, has only these of them, and only some of the source.
_IN_SUMMARY = {"type", "target", "source"}


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
    #: The format settings of the data that a worker reads.
    settings: Mapping[str, Any] | None = None
    #: The granularity of the partitions that the job writes.
    granularity: str = DEFAULT_GRANULARITY
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
    def table(self) -> str:
        """The name of the target table, an empty text if the job has none. A test may have set it to any value."""
        target = self.body.get("target")
        return str(target.get("tableName") or "") if isinstance(target, dict) else ""

    @property
    def is_restless(self) -> bool:
        """Whether a request for the job changes it, or sees something else than its body."""
        return bool(self.script or self.masks or self.canceled.is_set())

    def snapshot(self) -> Mapping[str, Any]:
        """Return what the end of a job changes, for :meth:`restore`."""
        return {
            "body": dict(self.body),
            "metrics": self.metrics,
            "logs": list(self.logs),
            "progress": self.progress,
            "changes": list(self.changes),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Undo the changes since a snapshot."""
        vars(self).update(snapshot)

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


def log_entry(status: str, code: str | None, message: str) -> dict[str, Any]:
    """Return an entry of the log of a job."""
    return {"timestamp": timestamp(), "healthStatus": status, "code": code, "message": message}


def summary_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job as the list of jobs has it."""
    summary = {key: value for key, value in body.items() if key != "spec" and (key in _IN_SUMMARY or key not in SHOWN)}
    source = summary.get("source")
    if isinstance(source, dict):
        head = {key: source[key] for key in IN_SOURCE_SUMMARY if key in source}
        if isinstance(head.get("data"), str):
            head["data"] = head["data"][:SUMMARY_DATA]
        summary["source"] = head
    return summary
