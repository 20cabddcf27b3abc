"""Run streaming jobs: one thread loads the events that were pushed to their connections."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris.local.engine.data.connections import StoredConnection
from airflow_provider_polaris.local.engine.data.rows import BatchReader, Counters, lines_of
from airflow_provider_polaris.local.engine.intervals import BEGIN, END, EPOCH, Span, shifted
from airflow_provider_polaris.local.engine.jobs.loading import Loaded
from airflow_provider_polaris.local.engine.jobs.reading import BATCH, failure
from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.project.stored import OVER, StoredJob, log_entry
from airflow_provider_polaris.local.engine.timestamps import now

if TYPE_CHECKING:
    import duckdb

#: How long the thread waits for events, in seconds. A job that is canceled ends after it.
PAUSE_SECONDS = 0.1
#: How many entries the log of a job has.
MAX_LOG = 1_000
#: The periods in which a job takes rows by default, as the API documents them.
_LATE, _EARLY = "P30D", "P2000D"


@dataclass(eq=False)
class _Stream:
    """A streaming job that runs."""

    job: StoredJob
    connection: StoredConnection
    counters: Counters = field(default_factory=Counters)
    #: When the job has last read events, on the monotonic clock.
    last_read: float = field(default_factory=time.monotonic)

    @property
    def position(self) -> int:
        """The place of the next event. A job goes on where the previous one of its table ended."""
        point = self.job.body["spec"].get("readFromPoint", "latest")
        return self.connection.positions.setdefault(self.job.table, self.connection.start_of(point))

    @contextmanager
    def moved_to(self, position: int) -> Iterator[None]:
        """Go on from another place, if the block does not fail."""
        before = self.position
        self.connection.positions[self.job.table] = position
        try:
            yield
        except BaseException:
            self.connection.positions[self.job.table] = before
            raise


class StreamRunner:
    """Runs the streaming jobs of push streaming connections.

    :param idle_after: seconds without an event after which a job is ``idle``.
    """

    def __init__(self, store: Store, idle_after: float) -> None:
        self.idle_after = idle_after
        self._store = store
        self._streams: list[_Stream] = []
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, job: StoredJob) -> None:
        """Run a job until it is canceled."""
        with self._store.lock:
            connection = self._store.connections[job.body["source"]["connectionName"]]
            stream = _Stream(job, connection, Counters.of_streaming_totals((job.metrics or {}).get("totals") or {}))
            _ = stream.position  # events that are pushed from now on belong to the job
            self._store.save_connection(connection)
            self._streams.append(stream)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="local-polaris-stream", daemon=True)
                self._thread.start()
        self.wake()

    def wake(self) -> None:
        """Look for events and for changes of jobs at once."""
        self._changed.set()

    def reset(self, job: StoredJob) -> None:
        """Let a job read from its ``readFromPoint`` on. A caller holds the store's lock."""
        for stream in self._streams:
            if stream.job is job:
                stream.connection.positions.pop(job.table, None)
                _ = stream.position
                self._store.save_connection(stream.connection)

    def close(self) -> None:
        """Stop all jobs where they are."""
        self._stopping.set()
        self._changed.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            have_read = [self._step(stream) for stream in list(self._streams)]
            if not any(have_read):
                self._changed.wait(PAUSE_SECONDS if self._streams else None)
                self._changed.clear()

    def _step(self, stream: _Stream) -> bool:
        """Read some events of a job. Return whether there may be more."""
        job, store = stream.job, self._store
        with store.lock:
            if job.canceled.is_set() and job.status not in OVER:
                store.end_canceled(job)
            if job.status in OVER:
                self._streams.remove(stream)
                return False
            if job.status == "suspended":
                stream.last_read = time.monotonic()
                return False
            if job.status == "pending":
                store.update(job, executionStatus="running")
            position = stream.position
        try:
            data = stream.connection.read(position)
            if data:
                self._load(stream, position, data)
                stream.last_read = time.monotonic()
        except Exception as error:  # noqa: BLE001 - a job must end after any error
            self._fail(job, failure("internal_error", f"{type(error).__name__}: {error}"))
            return False
        if not data:
            is_silent = time.monotonic() - stream.last_read >= self.idle_after
            with store.lock:
                if is_silent and job.status == "running" and not job.canceled.is_set():
                    store.update(job, executionStatus="idle")
        return bool(data)

    def _load(self, stream: _Stream, position: int, data: bytes) -> None:
        """Add some events to the table of their job, and go on behind them, in one step."""
        job, store, counters = stream.job, self._store, Counters()
        spec = job.body["spec"]
        with store.database.cursor() as cursor:
            loaded = self._rows(job, cursor, data, counters)
            with store.database.writing:
                cursor.begin()
                loaded.write(store, cursor, job.table)
                with store.lock:
                    if job.canceled.is_set() or job.status in ("suspended", *OVER) or stream.position != position:
                        cursor.rollback()
                        return
                    stream.counters.add(counters)
                    with store.committing(cursor, job.table, job), stream.moved_to(position + len(data)):
                        loaded.count_rows(store, job.table, counters, at_once=True)
                        store.save_connection(stream.connection)
                        job.metrics = {"totals": stream.counters.streaming_totals()}
                        if counters.skipped_by_error:
                            self._warn(job, counters.skipped_by_error)
                        store.update(job, executionStatus="running")
        most = spec.get("maxParseExceptions")
        if most is not None and stream.counters.skipped_by_error > most:
            many = f"{stream.counters.skipped_by_error} rows could not be parsed"
            self._fail(job, failure("cannot_parse_source", f"{many}, and maxParseExceptions is {most}"))

    def _rows(self, job: StoredJob, cursor: duckdb.DuckDBPyConnection, data: bytes, counters: Counters) -> Loaded:
        """Make rows of events, and count them."""
        # The imports take a fifth of a second, which only a local Polaris that loads rows needs.
        from airflow_provider_polaris.local.engine.jobs.stage import Stage
        from airflow_provider_polaris.local.engine.project.plan import Planner

        spec, settings = job.body["spec"], job.settings or {}
        with self._store.lock:
            columns = self._store.tables.columns(job.table)
        plan = Planner(cursor, spec, columns).plan()
        stage = Stage(cursor, plan, spec, settings, accepted=_accepted(spec))
        reader = BatchReader(lines_of(io.BytesIO(data), gzipped=False, counters=counters), settings)
        while (batch := reader.next(BATCH)) is not None:
            stage.add(batch, counters)
        return Loaded(plan.columns, stage.roll_up(job.granularity, counters), None)

    def _warn(self, job: StoredJob, rows: int) -> None:
        """Note rows that could not be parsed, in the log and in the health of a job. A caller holds the lock."""
        entry = log_entry("warn", "invalid_rows_found", f"{rows} rows could not be parsed")
        job.logs = [*job.logs, entry][-MAX_LOG:]
        self._store.update(job, health={"status": "warn", "code": "invalid_rows_found", "log": entry})

    def _fail(self, job: StoredJob, health: dict[str, Any]) -> None:
        with self._store.lock:
            if job.status not in OVER:
                self._store.end_failed(job, health)


def _accepted(spec: Any) -> Span:
    """Return the span of time of the rows that a job takes now."""
    moment = int(now() * 1000) + EPOCH
    first, last = BEGIN, END
    with suppress(ValueError):  # a period longer than all of time
        first = shifted(moment, spec.get("lateMessageRejectionPeriod", _LATE), -1)
    with suppress(ValueError):
        last = shifted(moment, spec.get("earlyMessageRejectionPeriod", _EARLY), 1)
    return first, last
