"""The jobs and files of a local Polaris, and what becomes of them."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_provider_polaris.local.ingest import Counters, RowReader, inline_lines, lines_of

USER = {"username": "local-polaris", "userId": "00000000-0000-4000-8000-000000000000"}
OVER = {"completed", "failed", "canceled"}
#: A summary, as the list gives it, has every field of a job but these.
NOT_IN_SUMMARY = {"spec", "mappings", "source"}
#: Rows between two looks at the clock, and at whether the job is still wanted.
BATCH = 200


def timestamp() -> str:
    """Return the time as Polaris writes it: RFC 3339, UTC, nanoseconds."""
    nanoseconds = time.time_ns()
    seconds = datetime.fromtimestamp(nanoseconds // 10**9, tz=timezone.utc)
    return f"{seconds:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"


@dataclass
class StoredFile:
    """An uploaded file: where it lies, and what the API says of it."""

    path: Path
    metadata: dict[str, Any]


@dataclass
class StoredJob:
    """A job: what the API answers for it, kept in the API's own form."""

    body: dict[str, Any]
    metrics: dict[str, Any] | None = None
    logs: list[dict[str, Any]] = field(default_factory=list)
    progress: float = 0.0
    #: Whether a worker reads its data; any other is moved on by a test, or by nobody.
    is_run: bool = False
    #: Of a job that nothing runs: how many looks at it its cancellation still takes.
    looks_until_canceled: int = 0
    canceled: threading.Event = field(default_factory=threading.Event)
    #: Changes of fields still to come, one for each further look at the job.
    script: list[dict[str, Any]] = field(default_factory=list)


class Store:
    """All state of one project, behind one lock.

    :param rows_per_second: read no faster, so that there is something to wait for; ``None`` for full speed.
    :param cancel_looks: how many looks a scripted job survives after its cancellation was taken.
    """

    def __init__(self, *, rows_per_second: float | None = None, cancel_looks: int = 1) -> None:
        self.lock = threading.RLock()
        self.jobs: dict[str, StoredJob] = {}
        self.files: dict[str, StoredFile] = {}
        self.rows_per_second = rows_per_second
        self.cancel_looks = cancel_looks
        self._folder = tempfile.TemporaryDirectory(prefix="local-polaris-")
        self._workers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="local-polaris-ingest")
        self._stopping = threading.Event()

    def close(self) -> None:
        """Stop what runs, and forget all of it."""
        self._stopping.set()
        for job in list(self.jobs.values()):
            job.canceled.set()  # wakes the worker that reads for it
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._folder.cleanup()

    def new_file_path(self) -> Path:
        """Return where a file may be written; its name tells nothing of the name it is uploaded under."""
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
        """Store the job that a spec asks for, and run it if it reads data that is here."""
        shown = {
            key: value
            for key, value in spec.items()
            if key in {"type", "target", "source", "ingestionMode", "mappings"}
        }
        job = self.add_job({**shown, "spec": dict(spec)})
        if spec["type"] == "batch":
            job.is_run = True
            self._workers.submit(self._run, job, spec)
        return job

    def update(self, job: StoredJob, **changes: Any) -> None:
        """Change fields of a job's body. Of a job that is over, only scripts may."""
        with self.lock:
            job.body.update(changes, lastUpdatedTimestamp=timestamp())
            status = changes.get("executionStatus")
            if status == "running":
                job.body.setdefault("startedTimestamp", job.body["lastUpdatedTimestamp"])
            elif status in OVER:
                job.body["completedTimestamp"] = job.body["lastUpdatedTimestamp"]

    def cancel(self, job: StoredJob) -> None:
        """Take the wish to cancel; the job ends later."""
        with self.lock:
            self.update(job, desiredExecutionStatus="canceled", lastModifiedBy=USER)
            job.canceled.set()
            job.looks_until_canceled = self.cancel_looks

    def look(self, job: StoredJob) -> dict[str, Any]:
        """Return the job's body as of now; a scripted job that is being canceled gets there look by look."""
        with self.lock:
            if job.script:
                job.body.update(job.script.pop(0))
            body = dict(job.body)
            waits = job.canceled.is_set() and not job.is_run and body["executionStatus"] not in OVER
            if waits:
                job.looks_until_canceled -= 1
                if job.looks_until_canceled < 0:
                    self._end_canceled(job)
                    body = dict(job.body)
            return body

    def _end_canceled(self, job: StoredJob) -> None:
        health = {"status": "error", "code": "canceled", "message": "The job was canceled by a user"}
        self.update(job, executionStatus="canceled", health=health)

    def _run(self, job: StoredJob, spec: Mapping[str, Any]) -> None:
        counters = Counters(aggregated=any(mapping.get("isAggregation") for mapping in spec.get("mappings") or []))
        if not job.canceled.is_set():
            self.update(job, executionStatus="running")
        try:
            failure = self._read(job, spec, counters)
        except (OSError, EOFError, ValueError, zlib.error) as error:  # a file that is no gzip, damaged, or broken off
            failure = _failure("cannot_parse_source", f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - a job must end, whatever became of its file or its spec
            failure = _failure("internal_error", f"{type(error).__name__}: {error}")
        with self.lock:
            job.metrics = {"totals": counters.totals()}
            if job.canceled.is_set() or self._stopping.is_set():
                self._end_canceled(job)
            elif failure:
                # Batch jobs do not log each row that did not parse; only streaming ones do.
                entry = {"timestamp": timestamp(), "healthStatus": "error", **failure}
                job.logs = [{key: value for key, value in entry.items() if key != "status"}]
                self.update(job, executionStatus="failed", health=failure)
            else:
                job.progress = 1.0
                empty = counters.processed + counters.with_warning == 0
                health = {"status": "warn", "code": "no_rows_found"} if empty else {"status": "ok"}
                self.update(job, executionStatus="completed", health=health)

    def _read(self, job: StoredJob, spec: Mapping[str, Any], counters: Counters) -> dict[str, Any] | None:
        """Read every row; return the health with which the job fails, if it does."""
        reader = RowReader(spec)
        most = spec.get("maxParseExceptions", 2147483647)
        size = self._size(spec)
        started = time.monotonic()
        for number, line in enumerate(self._lines(spec), start=1):
            counters.bytes += len(line)
            reader.count(line, counters)
            if counters.skipped_by_error > most:
                return _failure(
                    "cannot_parse_source",
                    f"{counters.skipped_by_error} rows could not be parsed, and maxParseExceptions is {most}",
                )
            if number % BATCH == 0:
                job.metrics = {"totals": counters.totals()}
                job.progress = min(0.99, counters.bytes / size) if size else 0.0
                ahead = number / self.rows_per_second - (time.monotonic() - started) if self.rows_per_second else 0.0
                if job.canceled.wait(max(0.0, ahead)) or self._stopping.is_set():
                    break
        return None

    def _lines(self, spec: Mapping[str, Any]) -> Iterator[bytes]:
        source = spec["source"]
        if source["type"] == "inline":
            yield from inline_lines(source["data"])
            return
        for name in source["fileList"]:
            with self.lock:
                path = self.files[name].path
            with path.open("rb") as data:
                yield from lines_of(data, gzipped=name.endswith(".gz"))

    def _size(self, spec: Mapping[str, Any]) -> int:
        """Return about how many bytes there are to read: a gzip's own are a guess at what is in it."""
        source = spec["source"]
        if source["type"] == "inline":
            return len(source["data"])
        with self.lock:
            return sum(
                self.files[name].metadata["sizeBytes"] * (8 if name.endswith(".gz") else 1)
                for name in source["fileList"]
            )


def _failure(code: str, message: str) -> dict[str, Any]:
    """Return the health of a job that fails."""
    return {"status": "error", "code": code, "message": message}
