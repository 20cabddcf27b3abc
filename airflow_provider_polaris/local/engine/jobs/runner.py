"""Run jobs: read their data into a table, or delete rows of a table."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris.local.engine.data.rows import EDITIONS, Counters, JobFailure
from airflow_provider_polaris.local.engine.jobs.loading import Loaded
from airflow_provider_polaris.local.engine.jobs.reading import SourceReader, failure
from airflow_provider_polaris.local.engine.jobs.streams import StreamRunner
from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.project.stored import OVER, StoredJob, log_entry

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_polaris.local.engine.jobs.stage import Stage

#: After how many seconds without an event a streaming job is idle.
IDLE_SECONDS = 5.0
#: How many rows may fail to be parsed if a batch job does not say it.
ANY_NUMBER = 2147483647


class Runner:
    """Two workers, each of which runs one job after the other, and a thread that runs all streaming jobs.

    :param rows_per_second: the most rows that a job reads per second; ``None`` for no limit.
    :param counters: the edition of the documentation that lists the counters of a job, ``newer`` or ``older``.
    :param idle_after: seconds without an event after which a streaming job is ``idle``.
    """

    def __init__(
        self,
        store: Store,
        *,
        rows_per_second: float | None = None,
        counters: str = "newer",
        idle_after: float = IDLE_SECONDS,
    ) -> None:
        self.streams = StreamRunner(store, idle_after)
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
        self.streams.close()

    def start(self, job: StoredJob) -> None:
        """Run a job as soon as a worker is free."""
        if job.is_run and job.body["type"] == "streaming":
            self.streams.start(job)
        elif job.is_run:
            self._started.append(job)
            run = self._workers.submit(self._run, job, job.body["spec"])
            run.add_done_callback(lambda _: self._started.remove(job))

    def _run(self, job: StoredJob, spec: Mapping[str, Any]) -> None:
        try:
            if not job.canceled.is_set():
                self.store.update(job, executionStatus="running")
            self.store.drop_expired()
            if spec["type"] in ("batch", "sql"):
                with self.store.database.cursor() as cursor:
                    (self._load if spec["type"] == "batch" else self._query)(job, spec, cursor)
            else:
                self._delete(job, spec)
        except Exception as error:  # noqa: BLE001 - a job must end after any error
            with self.store.lock:
                if job.status not in OVER:
                    self.store.end_failed(job, failure("internal_error", f"{type(error).__name__}: {error}"))

    def _load(self, job: StoredJob, spec: Mapping[str, Any], cursor: duckdb.DuckDBPyConnection) -> None:
        """Read the data of a batch job, and add the rows to the table if the job completes."""
        # The imports take a fifth of a second, which only a local Polaris that loads rows needs.
        from airflow_provider_polaris.local.engine.jobs.stage import Stage
        from airflow_provider_polaris.local.engine.project.plan import Planner

        counters, table, settings = Counters(), spec["target"]["tableName"], job.settings or {}
        with self.store.lock:
            columns = self.store.tables.columns(table)
        plan = Planner(cursor, spec, columns).plan()
        stage = Stage(cursor, plan, spec, settings)
        most_errors = spec.get("maxParseExceptions", ANY_NUMBER)
        failed = self._read(job, spec["source"], settings, stage, counters, most_errors)
        replaced = (spec["target"].get("intervals") or []) if spec.get("ingestionMode") == "replace" else None
        rows = None if failed or self._is_stopped(job) else stage.roll_up(job.granularity, counters)
        self._end_load(job, cursor, counters, Loaded(plan.columns, rows, replaced), failed)

    def _read(
        self,
        job: StoredJob,
        source: Mapping[str, Any],
        settings: Mapping[str, Any],
        stage: Stage,
        counters: Counters,
        most_errors: int,
    ) -> dict[str, Any] | None:
        """Read a source into its stage. Return the health of a failed job, ``None`` if the job does not fail."""
        reader = SourceReader(
            self.store, job, self, source, settings, add=stage.add, counters=counters, most_errors=most_errors
        )
        return reader.read()

    def _query(self, job: StoredJob, spec: Mapping[str, Any], cursor: duckdb.DuckDBPyConnection) -> None:
        """Run the query of an SQL job, and add its rows to the table if the job completes."""
        from airflow_provider_polaris.local.engine.jobs.sql_jobs import RESULT, SqlJob, interrupted_by

        counters, failed = Counters(), None
        loaded = Loaded([], None, None)
        sql = SqlJob(self.store, cursor, spec)
        errors = (spec.get("context") or {}).get("maxParseExceptions", 0)  # the default of Druid
        most_errors = errors if isinstance(errors, int) and errors >= 0 else ANY_NUMBER
        for source, settings, stage in sql.external:
            failed = failed or self._read(job, source, settings, stage, counters, most_errors)
        if not failed and not self._is_stopped(job):
            try:
                with interrupted_by(job.canceled, cursor):
                    columns = sql.make_rows(counters)
                rows = f"SELECT * FROM {RESULT}" if counters.persisted else None  # noqa: S608 - a name of ours
                loaded = Loaded(columns, rows, sql.replaced)
            except JobFailure as error:
                failed = failure(error.code, str(error))
            except Exception:
                if not self._is_stopped(job):
                    raise
                with suppress(Exception):  # there is no transaction if the rows were being counted
                    cursor.rollback()
        self._end_load(job, cursor, counters, loaded, failed)

    def _end_load(
        self,
        job: StoredJob,
        cursor: duckdb.DuckDBPyConnection,
        counters: Counters,
        loaded: Loaded,
        failed: dict[str, Any] | None,
    ) -> None:
        """End a job that has read its data. Its rows are in the table if it completes."""
        with self.store.database.writing:
            cursor.begin()
            if not failed:
                loaded.write(self.store, cursor, job.table)
            with self.store.lock:
                job.metrics = {"totals": counters.totals(self.counters)}
                if self._may_complete(job, failed):
                    with self.store.committing(cursor, job.table, job):
                        loaded.count_rows(self.store, job.table, counters)
                        self._complete(job, _health_of(counters))

    def _delete(self, job: StoredJob, spec: Mapping[str, Any]) -> None:
        """Delete rows of a table, or the table."""
        table, intervals = spec["target"]["tableName"], spec["target"].get("intervals") or []
        failure = job.behaviour.final_health if job.behaviour and job.behaviour.kind == "fail" else None
        tables, database = self.store.tables, self.store.database
        with database.writing, self.store.lock:
            if not self._may_complete(job, failure):
                return
            with self.store.transaction(table, job) as cursor:
                health: dict[str, Any] = {"status": "ok"}
                if spec["type"] == "drop_table":
                    self.store.forget_table(cursor, table)
                else:
                    if partitions := tables.partitions_in(table, intervals):
                        database.delete(cursor, table, partitions)
                    if tables.delete(table, intervals) == 0:
                        health = _warning("no_rows_found", "There was no row to delete")
                self._complete(job, health)

    def _is_stopped(self, job: StoredJob) -> bool:
        return job.canceled.is_set() or self._stopping.is_set()

    def _may_complete(self, job: StoredJob, failure: dict[str, Any] | None) -> bool:
        """Return whether the job completes now. End the job in another way otherwise. A caller holds the lock."""
        if job.status in OVER or self._stopping.is_set():
            return False  # a test has ended the job, or the next server runs it again
        if job.canceled.is_set():
            self.store.end_canceled(job)
        elif failure:
            self.store.end_failed(job, failure)
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

    def may_continue(self, job: StoredJob, seconds: float = 0.0) -> bool:
        """Wait. Return whether the job may continue after that."""
        return not job.canceled.wait(max(0.0, seconds)) and not self._stopping.is_set()


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
    return {"status": "warn", "code": code, "log": log_entry("warn", code, message)}
