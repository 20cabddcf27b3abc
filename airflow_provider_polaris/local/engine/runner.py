"""Run jobs: read their data into a table, or delete rows of a table."""

from __future__ import annotations

import io
import math
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_polaris.local.engine.intervals import spans_of
from airflow_provider_polaris.local.engine.rows import EDITIONS, BatchReader, Counters, JobFailure, lines_of
from airflow_provider_polaris.local.engine.store import OVER, Store, StoredJob
from airflow_provider_polaris.local.engine.timestamps import timestamp

if TYPE_CHECKING:
    import duckdb

#: How many rows a worker reads at most between two checks for a cancellation.
BATCH = 20_000
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
        try:
            if not job.canceled.is_set():
                self.store.update(job, executionStatus="running")
            if spec["type"] == "batch":
                with self.store.database.cursor() as cursor:
                    self._load(job, spec, cursor)
            else:
                self._delete(job, spec)
        except Exception as error:  # noqa: BLE001 - a job must end after any error
            with self.store.lock:
                if job.status not in OVER:
                    self._fail(job, _failure("internal_error", f"{type(error).__name__}: {error}"))

    def _load(self, job: StoredJob, spec: Mapping[str, Any], cursor: duckdb.DuckDBPyConnection) -> None:
        """Read the data of a batch job, and add the rows to the table if the job completes."""
        counters, table = Counters(), spec["target"]["tableName"]
        ingestion = _Ingestion(self, job, spec, counters, cursor)
        failure = ingestion.read()
        replaced = (spec["target"].get("intervals") or []) if spec.get("ingestionMode") == "replace" else None
        with self.store.database.writing:
            if not failure and not self._is_stopped(job):
                ingestion.store(table, replaced)
            with self.store.lock:
                job.metrics = {"totals": counters.totals(self.counters)}
                if self._may_complete(job, failure):
                    cursor.commit()
                    self.store.tables.load(
                        table, counters.partitions, counters.bytes, replaced=replaced, columns=ingestion.columns
                    )
                    self._complete(job, _health_of(counters))

    def _delete(self, job: StoredJob, spec: Mapping[str, Any]) -> None:
        """Delete rows of a table, or the table."""
        table, intervals = spec["target"]["tableName"], spec["target"].get("intervals") or []
        failure = job.behaviour.final_health if job.behaviour and job.behaviour.kind == "fail" else None
        tables, database = self.store.tables, self.store.database
        with database.writing, self.store.lock:
            if not self._may_complete(job, failure):
                return
            health: dict[str, Any] = {"status": "ok"}
            if spec["type"] == "drop_table":
                self.store.drop_table(table)
            else:
                database.delete_partitions(table, tables.partitions_in(table, intervals))
                if tables.delete(table, intervals) == 0:
                    health = _warning("no_rows_found", "There was no row to delete")
            self._complete(job, health)

    def _is_stopped(self, job: StoredJob) -> bool:
        return job.canceled.is_set() or self._stopping.is_set()

    def _may_complete(self, job: StoredJob, failure: dict[str, Any] | None) -> bool:
        """Return whether the job completes now. End the job in another way otherwise. A caller holds the lock."""
        if job.status in OVER:
            return False  # a test has ended the job
        if self._is_stopped(job):
            self.store.end_canceled(job)
        elif failure:
            self._fail(job, failure)
        elif job.behaviour and job.behaviour.kind == "hang":
            job.is_run = False  # the job stays running without a worker until it is canceled
        else:
            return True
        return False

    def _complete(self, job: StoredJob, health: dict[str, Any]) -> None:
        """End a job that did all its work, with its health or with that of its behaviour."""
        if job.behaviour and job.behaviour.final_health != {"status": "ok"}:
            health = job.behaviour.final_health
        job.logs = [health["log"]] if "log" in health else []
        self.store.update(job, executionStatus="completed", health=health)

    def _fail(self, job: StoredJob, health: dict[str, Any]) -> None:
        """End a failed job. Only streaming jobs log each row that cannot be parsed; batch jobs do not."""
        entry = _log_entry("error", health.get("code"), str(health.get("message", "")))
        job.logs = [entry]
        self.store.update(job, executionStatus="failed", health={**health, "log": entry})

    def may_continue(self, job: StoredJob, seconds: float = 0.0) -> bool:
        """Wait. Return whether the job may continue after that."""
        return not job.canceled.wait(max(0.0, seconds)) and not self._stopping.is_set()


class _Ingestion:
    """Reads one job's data, until the data or the job ends, and stores the rows."""

    def __init__(
        self,
        runner: Runner,
        job: StoredJob,
        spec: Mapping[str, Any],
        counters: Counters,
        cursor: duckdb.DuckDBPyConnection,
    ) -> None:
        self._runner = runner
        self._store = runner.store
        self._job = job
        self._spec = spec
        self._counters = counters
        self._cursor = cursor
        self._settings = job.settings or {}
        # The imports take a fifth of a second, which only a local Polaris that loads rows needs.
        from airflow_provider_polaris.local.engine.plan import STORED_AS, Planner
        from airflow_provider_polaris.local.engine.stage import Stage

        with self._store.lock:
            measures = self._store.tables.measures(spec["target"]["tableName"])
        plan = Planner(cursor, spec, measures).plan()
        #: The columns that the job writes: the name, the type of Druid, and whether it is aggregated.
        self.columns = [(one.name, one.kind, one.is_aggregation) for one in plan.columns]
        self._stored = [(name, STORED_AS[kind] if name != "__time" else "TIMESTAMP") for name, kind, _ in self.columns]
        self._stage = Stage(cursor, plan, spec, self._settings)
        self._position = 0.0  # the share of the bytes that is read

    def read(self) -> dict[str, Any] | None:
        """Read all rows. Return the health of a failed job, ``None`` if the job does not fail."""
        try:
            return self._read()
        except JobFailure as error:
            return _failure(error.code, str(error))
        except (OSError, EOFError, ValueError, zlib.error) as error:  # an invalid gzip, or a file that was deleted
            return _failure("cannot_parse_source", f"{type(error).__name__}: {error}")

    def _read(self) -> dict[str, Any] | None:
        behaviour, counters, speed = self._job.behaviour, self._counters, self._runner.rows_per_second
        ends_early = behaviour is not None and behaviour.kind in ("fail", "hang")
        # Counting reads the data twice. Otherwise progress is the share of bytes, which grows in large steps.
        total = self._count() if ends_early or speed else None
        last = math.ceil(round(behaviour.at * (total or 0), 9)) if behaviour and ends_early else math.inf
        most = self._spec.get("maxParseExceptions", 2147483647)
        started = time.monotonic()
        step = max(1, min(BATCH, int(speed / STEPS_PER_SECOND))) if speed else BATCH
        for reader in self._readers(counters):
            while (limit := int(min(step, last - counters.read))) > 0 and (batch := reader.next(limit)) is not None:
                self._stage.add(batch, counters)
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

    def store(self, table: str, replaced: list[str] | None) -> None:
        """Change the rows of the table, in a transaction that the caller ends.

        :param replaced: the intervals that the job replaces; an empty list for all data, ``None`` to append.
        """
        rows = self._stage.roll_up(self._job.granularity, self._counters)
        self._cursor.begin()
        database = self._store.database
        if replaced is not None:
            database.delete(self._cursor, table, spans_of(replaced))
        if rows is not None:
            database.insert(self._cursor, table, self._stored, rows)

    def _count(self) -> int:
        total = 0
        for reader in self._readers(Counters()):
            while (batch := reader.next(BATCH)) is not None:
                total += batch.lines + batch.bad
        return total

    def _readers(self, counters: Counters) -> Iterator[BatchReader]:
        """Yield a reader for each file, one after the other."""
        source = self._spec["source"]
        if source["type"] == "inline":
            data = source["data"].encode()
            yield self._reader(io.BytesIO(data), len(data), 0, gzipped=False, counters=counters)
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
                yield self._reader(data_file, size, before, gzipped=gzipped, counters=counters)
            before += file.metadata["sizeBytes"]

    def _reader(self, data: IO[bytes], size: int, before: int, *, gzipped: bool, counters: Counters) -> BatchReader:
        def may_continue() -> bool:
            self._position = (before + data.tell()) / size if size else 0.0
            return self._runner.may_continue(self._job)

        lines = lines_of(data, gzipped=gzipped, counters=counters, may_continue=may_continue)
        return BatchReader(lines, self._settings)


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
