"""Run jobs: read their data into a table, or delete rows of a table."""

from __future__ import annotations

import io
import math
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import IO, Any

from airflow_provider_polaris.local.engine.rows import EDITIONS, Counters, JobFailure, Row, RowReader, lines_of
from airflow_provider_polaris.local.engine.store import OVER, Store, StoredJob
from airflow_provider_polaris.local.engine.timestamps import timestamp

#: How many rows a worker reads between two checks for a cancellation.
BATCH = 500
#: How often per second a job with a limited speed reads some rows.
STEPS_PER_SECOND = 5


class Runner:
    """Two workers, each of which runs one job after the other.

    :param rows_per_second: the most rows that a job reads per second; ``None`` for no limit.
    :param counters: the edition of the documentation that lists the counters of a job, ``newer`` or ``older``.
    """

    def __init__(self, store: Store, *, rows_per_second: float | None = None, counters: str = "newer") -> None:
        self.counters = counters
        self.rows_per_second = rows_per_second
        self.store = store
        self._workers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="local-polaris-ingest")
        self._stopping = threading.Event()
        self._started: list[StoredJob] = []  # the store may remove a job while it runs

    @property
    def rows_per_second(self) -> float | None:
        """The most rows per second that a job reads, ``None`` for no limit."""
        return self._rows_per_second

    @rows_per_second.setter
    def rows_per_second(self, speed: float | None) -> None:
        if speed is not None and not 0 < speed < math.inf:
            raise ValueError(f"rows_per_second must be more than 0, or None, not {speed!r}")
        self._rows_per_second = speed

    @property
    def counters(self) -> str:
        """The edition of the documentation that lists the counters of a job."""
        return self._counters

    @counters.setter
    def counters(self, edition: str) -> None:
        if edition not in EDITIONS:
            raise ValueError(f"counters must be {' or '.join(EDITIONS)}, not {edition!r}")
        self._counters = edition

    def close(self) -> None:
        """Stop all jobs that run."""
        self._stopping.set()
        for job in list(self._started):
            job.canceled.set()  # its worker stops waiting
        self._workers.shutdown(wait=True, cancel_futures=True)

    def start(self, job: StoredJob) -> None:
        """Run a job as soon as a worker is free."""
        if job.is_run:
            self._started.append(job)
            run = self._workers.submit(self._run, job, job.body["spec"])
            run.add_done_callback(lambda _: self._started.remove(job))

    def _run(self, job: StoredJob, spec: Mapping[str, Any]) -> None:
        aggregates = any(mapping.get("isAggregation") for mapping in spec.get("mappings") or [])
        counters = Counters(is_partial=aggregates or bool(spec.get("filterExpression")))
        try:
            if not job.canceled.is_set():
                self.store.update(job, executionStatus="running")
            failure = self._failure_of(job, spec, counters)
            with self.store.lock:
                if spec["type"] == "batch":
                    job.metrics = {"totals": counters.totals(self.counters)}
                self._end(job, spec, counters, failure)
        except Exception as error:  # noqa: BLE001 - a job must end after any error
            with self.store.lock:
                if job.status not in OVER:
                    self._fail(job, _failure("internal_error", f"{type(error).__name__}: {error}"))

    def _failure_of(self, job: StoredJob, spec: Mapping[str, Any], counters: Counters) -> dict[str, Any] | None:
        """Read the data of a batch job. Return the health of a failed job, ``None`` if the job does not fail."""
        try:
            if spec["type"] == "batch":
                return _Ingestion(self, job, spec, counters).read()
        except JobFailure as error:
            return _failure(error.code, str(error))
        except (OSError, EOFError, ValueError, zlib.error) as error:  # an invalid gzip, or a file that was deleted
            return _failure("cannot_parse_source", f"{type(error).__name__}: {error}")
        return job.behaviour.final_health if job.behaviour and job.behaviour.kind == "fail" else None

    def _end(self, job: StoredJob, spec: Mapping[str, Any], counters: Counters, failure: dict[str, Any] | None) -> None:
        if job.status in OVER:
            return  # a test has ended the job
        if job.canceled.is_set() or self._stopping.is_set():
            self.store.end_canceled(job)
        elif failure:
            self._fail(job, failure)
        elif job.behaviour and job.behaviour.kind == "hang":
            job.is_run = False  # the job stays running without a worker until it is canceled
        else:
            self._complete(job, spec, counters)

    def _fail(self, job: StoredJob, health: dict[str, Any]) -> None:
        """End a failed job. Only streaming jobs log each row that cannot be parsed; batch jobs do not."""
        entry = _log_entry("error", health.get("code"), str(health.get("message", "")))
        job.logs = [entry]
        self.store.update(job, executionStatus="failed", health={**health, "log": entry})

    def _complete(self, job: StoredJob, spec: Mapping[str, Any], counters: Counters) -> None:
        tables, table, intervals = self.store.tables, spec["target"]["tableName"], spec["target"].get("intervals")
        health: dict[str, Any] = job.behaviour.final_health if job.behaviour else {"status": "ok"}
        if spec["type"] == "drop_table":
            tables.drop(table)
        elif spec["type"] == "delete_data":
            if tables.delete(table, intervals or []) == 0 and health == {"status": "ok"}:
                health = _warning("no_rows_found", "There was no row to delete")
        else:
            replaced = (intervals or []) if spec.get("ingestionMode") == "replace" else None
            rows = None if counters.is_partial else counters.partitions(job.granularity)
            tables.load(table, rows, counters.bytes, replaced=replaced)
            if health == {"status": "ok"}:
                health = _health_of(counters)
        job.logs = [health["log"]] if "log" in health else []
        self.store.update(job, executionStatus="completed", health=health)

    def may_continue(self, job: StoredJob, seconds: float = 0.0) -> bool:
        """Wait. Return whether the job may continue after that."""
        return not job.canceled.wait(max(0.0, seconds)) and not self._stopping.is_set()


class _Ingestion:
    """Reads one job's data, until the data or the job ends."""

    def __init__(self, runner: Runner, job: StoredJob, spec: Mapping[str, Any], counters: Counters) -> None:
        self._runner = runner
        self._store = runner.store
        self._job = job
        self._spec = spec
        self._counters = counters
        self._reader = RowReader(spec, job.settings or {}, job.granularity)
        self._position = 0.0  # the share of the bytes that is read

    def read(self) -> dict[str, Any] | None:
        """Read all rows. Return the health of a failed job, ``None`` if the job does not fail."""
        behaviour, counters, speed = self._job.behaviour, self._counters, self._runner.rows_per_second
        ends_early = behaviour is not None and behaviour.kind in ("fail", "hang")
        # Counting reads the data twice. Otherwise progress is the share of bytes, which grows in large steps.
        total = sum(1 for _ in self._rows(Counters())) if ends_early or speed else None
        last = math.ceil(round(behaviour.at * (total or 0), 9)) if behaviour and ends_early else math.inf
        most = self._spec.get("maxParseExceptions", 2147483647)
        rows = self._rows(counters)
        started = time.monotonic()
        step = max(1, min(BATCH, int(speed / STEPS_PER_SECOND))) if speed else BATCH
        while counters.read < last:
            before = counters.read
            self._reader.count(islice(rows, int(min(step, last - before))), counters)
            if counters.read == before:
                break
            if counters.skipped_by_error > most:
                many = f"{counters.skipped_by_error} rows could not be parsed, and maxParseExceptions is {most}"
                return _failure("cannot_parse_source", many)
            self._job.metrics = {"totals": counters.totals(self._runner.counters)}
            self._job.progress = min(0.99, counters.read / total if total else self._position)
            ahead = counters.read / speed - (time.monotonic() - started) if speed else 0.0
            if not self._runner.may_continue(self._job, ahead):
                return None
        if behaviour and behaviour.kind == "fail":
            return behaviour.final_health
        return None

    def _rows(self, counters: Counters) -> Iterator[Row | None]:
        """Yield the rows of all files, one after the other."""
        source = self._spec["source"]
        if source["type"] == "inline":
            data = source["data"].encode()
            yield from self._rows_of(io.BytesIO(data), len(data), 0, gzipped=False, counters=counters)
            return
        with self._store.lock:
            if missing := [name for name in source["fileList"] if name not in self._store.files]:
                raise FileNotFoundError(f"{missing[0]} was deleted")
            files = [self._store.files[name] for name in source["fileList"]]
        size = sum(file.metadata["sizeBytes"] for file in files)
        before = 0
        for file in files:
            gzipped = file.metadata["compressionFormat"] == "gz"
            with file.path.open("rb") as data_file:
                yield from self._rows_of(data_file, size, before, gzipped=gzipped, counters=counters)
            before += file.metadata["sizeBytes"]

    def _rows_of(
        self, data: IO[bytes], size: int, before: int, *, gzipped: bool, counters: Counters
    ) -> Iterator[Row | None]:
        def may_continue() -> bool:
            self._position = (before + data.tell()) / size if size else 0.0
            return self._runner.may_continue(self._job)

        return self._reader.rows_of(lines_of(data, gzipped=gzipped, counters=counters, may_continue=may_continue))


def _health_of(counters: Counters) -> dict[str, Any]:
    """Return the health of a job that read all its data."""
    if counters.processed + counters.with_warning == 0:
        code, message = "no_rows_found", "The input has no row that could be ingested"
    elif counters.skipped_by_error or counters.with_warning:
        lost, part = counters.skipped_by_error, counters.with_warning
        code, message = "invalid_rows_found", f"{lost} rows were skipped, {part} ingested in part"
    else:
        return {"status": "ok"}
    return _warning(code, message)


def _warning(code: str, message: str) -> dict[str, Any]:
    """Return the health of a job that completes with a warning."""
    return {"status": "warn", "code": code, "log": _log_entry("warn", code, message)}


def _failure(code: str, message: str) -> dict[str, Any]:
    """Return the health of a job that fails."""
    return {"status": "error", "code": code, "message": message}


def _log_entry(status: str, code: str | None, message: str) -> dict[str, Any]:
    return {"timestamp": timestamp(), "healthStatus": status, "code": code, "message": message}
