"""Read the data of a job: the rows of a source in batches, at the speed that a test chooses, until the job ends."""

from __future__ import annotations

import io
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from airflow_provider_polaris.local.engine.data.parquet import lines_of_parquet
from airflow_provider_polaris.local.engine.data.rows import Batch, BatchReader, Counters, JobFailure, lines_of
from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.project.stored import StoredJob

#: How many rows a worker reads at most between two checks for a cancellation.
BATCH = 20_000
#: How often per second a job with a limited speed reads some rows.
STEPS_PER_SECOND = 5


class Pace(Protocol):
    """How fast jobs read, and whether they may continue."""

    @property
    def rows_per_second(self) -> float | None:
        """The most rows per second that a job reads, ``None`` for no limit."""

    @property
    def counters(self) -> str:
        """The edition of the documentation that lists the counters of a job."""

    def may_continue(self, job: StoredJob, seconds: float = 0.0) -> bool:
        """Wait. Return whether the job may continue after that."""


class SourceReader:
    """Reads the data of one source of a job, until the data or the job ends.

    :param source: as a job spec has it, ``inline`` or ``uploaded``.
    :param settings: the ``formatSettings``.
    :param add: takes each batch of rows, and counts the rows.
    :param most_errors: the job fails if more rows cannot be parsed.
    """

    def __init__(
        self,
        store: Store,
        job: StoredJob,
        pace: Pace,
        source: Mapping[str, Any],
        settings: Mapping[str, Any],
        *,
        add: Callable[[Batch, Counters], None],
        counters: Counters,
        most_errors: int,
    ) -> None:
        self._store = store
        self._job = job
        self._pace = pace
        self._source = source
        self._settings = settings
        self._add = add
        self._counters = counters
        self._most_errors = most_errors
        self._position = 0.0  # the share of the bytes that is read

    def read(self) -> dict[str, Any] | None:
        """Read all rows. Return the health of a failed job, ``None`` if the job does not fail."""
        try:
            return self._read()
        except JobFailure as error:
            return failure(error.code, str(error))
        except (OSError, EOFError, ValueError, zlib.error) as error:  # an invalid gzip, or a file that was deleted
            return failure("cannot_parse_source", f"{type(error).__name__}: {error}")

    def _read(self) -> dict[str, Any] | None:
        behaviour, counters, speed = self._job.behaviour, self._counters, self._pace.rows_per_second
        ends_early = behaviour is not None and behaviour.kind in ("fail", "hang")
        # Counting reads the data twice. Otherwise progress is the share of bytes, which grows in large steps.
        total = self._count() if ends_early or speed else None
        last = math.ceil(round(behaviour.at * (total or 0), 9)) if behaviour and ends_early else math.inf
        started = time.monotonic()
        step = max(1, min(BATCH, int(speed / STEPS_PER_SECOND))) if speed else BATCH
        for reader in self._readers(counters):
            while (limit := int(min(step, last - counters.read))) > 0 and (batch := reader.next(limit)) is not None:
                self._add(batch, counters)
                if counters.skipped_by_error > self._most_errors:
                    many = f"{counters.skipped_by_error} rows could not be parsed"
                    return failure("cannot_parse_source", f"{many}, and maxParseExceptions is {self._most_errors}")
                self._job.metrics = {"totals": counters.totals(self._pace.counters)}
                self._job.progress = min(0.99, counters.read / total if total else self._position)
                ahead = counters.read / speed - (time.monotonic() - started) if speed else 0.0
                if not self._pace.may_continue(self._job, ahead):
                    return None
        if behaviour and behaviour.kind == "fail":
            return behaviour.final_health
        return None

    def _count(self) -> int:
        total = 0
        for reader in self._readers(Counters()):
            while (batch := reader.next(BATCH)) is not None:
                total += batch.lines + batch.bad
        return total

    def _readers(self, counters: Counters) -> Iterator[BatchReader]:
        """Yield a reader for each file, one after the other."""
        source = self._source
        if source["type"] == "inline":
            data = source["data"].encode()
            yield self._reader(io.BytesIO(data), len(data), 0, gzipped=False, counters=counters)
            return
        files = self._store.files_of(source)
        size = sum(file.metadata["sizeBytes"] for file in files)
        before = 0
        for file in files:
            own = file.metadata["sizeBytes"]
            if self._settings["format"] == "parquet":
                yield self._parquet_reader(file.path, size, before, own, counters)
            else:
                gzipped = file.metadata["compressionFormat"] == "gz"
                with file.path.open("rb") as data_file:
                    yield self._reader(data_file, size, before, gzipped=gzipped, counters=counters)
            before += own

    def _reader(self, data: IO[bytes], size: int, before: int, *, gzipped: bool, counters: Counters) -> BatchReader:
        def may_continue() -> bool:
            self._position = (before + data.tell()) / size if size else 0.0
            return self._pace.may_continue(self._job)

        lines = lines_of(data, gzipped=gzipped, counters=counters, may_continue=may_continue)
        return BatchReader(lines, self._settings)

    def _parquet_reader(self, path: Path, size: int, before: int, own: int, counters: Counters) -> BatchReader:
        def may_continue(read: float) -> bool:
            self._position = (before + own * read) / size if size else 0.0
            return self._pace.may_continue(self._job)

        return BatchReader(lines_of_parquet(path, self._settings, counters, may_continue), {"format": "nd-json"})


def failure(code: str, message: str) -> dict[str, Any]:
    """Return the health of a job that fails."""
    return {"status": "error", "code": code, "message": message}
