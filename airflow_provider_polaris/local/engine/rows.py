"""Read data as an ingestion job does: row by row, in bounded memory, with a counter for each result."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from typing import IO, Any, cast

import pendulum

from airflow_provider_polaris.local.engine.specs import column_in, day_bounds, within

#: The longest line that is a row, in bytes. A longer line is skipped, and never held in memory.
MAX_LINE = 1024 * 1024
#: How many bytes are read at once.
CHUNK = 256 * 1024
#: How much of a row's value a message has, in characters.
MAX_VALUE = 100
#: The day of rows whose ``__time`` has an expression that the local Polaris does not evaluate.
UNKNOWN_DAY = 0

_NUMERIC: Mapping[str, Callable[[Any], Any]] = {"long": int, "float": float, "double": float}

Row = Mapping[str, Any]


class JobFailure(Exception):
    """A row that fails its job, and is not skipped.

    :param code: the code of the job's health.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Counters:
    """The counters of the rows that were read.

    :param aggregated: whether the job aggregates rows. The local Polaris does not, so it reports no persisted rows.
    """

    aggregated: bool = False
    processed: int = 0
    with_warning: int = 0
    skipped_by_error: int = 0
    bytes: int = 0
    #: How many rows were ingested for each day, by the day's ordinal.
    days: dict[int, int] = field(default_factory=dict)

    @property
    def read(self) -> int:
        """How many rows were read, good or bad."""
        return self.processed + self.with_warning + self.skipped_by_error

    def totals(self) -> dict[str, int]:
        """Return the API's ``totals``."""
        totals = {
            "numRowsProcessed": self.processed,
            "numRowsProcessedWithWarning": self.with_warning,
            "numRowsSkippedByFilter": 0,
            "numRowsSkippedByError": self.skipped_by_error,
            "numBytesProcessed": self.bytes,
        }
        return totals if self.aggregated else totals | {"numRowsPersisted": self.processed + self.with_warning}


class RowReader:
    """Checks rows against a job spec's format, ``inputSchema`` and ``mappings``.

    A row is skipped if its format cannot be read (no JSON object, another number of values than the header has). A row
    without a valid timestamp fails the job: the vendor's page "Timestamp expressions" says so. A row has a warning if a
    column of a numeric type has no number. Of the mappings' expressions, plain columns and ``TIME_PARSE("column")`` are
    evaluated; any other counts as valid.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        source = spec["source"]
        self._settings: Mapping[str, Any] = source["formatSettings"]
        self._numbers = [
            (column["name"], _NUMERIC[column["dataType"]])
            for column in source["inputSchema"]
            if column["dataType"] in _NUMERIC
        ]
        self._time_column = next(
            (
                column_in(mapping["expression"])
                for mapping in spec.get("mappings") or []
                if mapping["columnName"] == "__time"
            ),
            None,
        )
        self._bounds = day_bounds(spec["target"].get("intervals") or [])

    def rows_of(self, lines: Iterable[bytes | None]) -> Iterator[Row | None]:
        """Yield the rows of one file, ``None`` for each that cannot be read. Empty lines are no rows."""
        if self._settings["format"] == "nd-json":
            return _json_rows(lines)
        return _delimited_rows(lines, self._settings)

    def count(self, rows: Iterable[Row | None], counters: Counters) -> None:
        """Add rows to the counters.

        :raises JobFailure: at a row without a valid timestamp, or outside the intervals that the job replaces.
        """
        days = counters.days
        for row in rows:
            if row is None:
                counters.skipped_by_error += 1
                continue
            day = self._day(row)
            if day is None:
                value = repr(row.get(self._time_column or ""))[:MAX_VALUE]
                message = f"Row {counters.read + 1} has no valid timestamp: {self._time_column!r} is {value}"
                raise JobFailure("null_timestamp", message)
            if self._bounds and not within(self._bounds, day):
                outside = f"The input has a row of {date.fromordinal(day or 1)}, outside target.intervals"
                raise JobFailure("timestamp_out_of_bounds", outside)
            days[day] = days.get(day, 0) + 1
            for name, kind in self._numbers:
                value = row.get(name)
                if value is None or type(value) is int or type(value) is float:
                    continue
                if not _parses(value, kind):
                    counters.with_warning += 1
                    break
            else:
                counters.processed += 1

    def _day(self, row: Row) -> int | None:
        """Return the ordinal of the row's day in UTC, ``None`` if it has no valid timestamp."""
        if self._time_column is None:
            return UNKNOWN_DAY
        return day_of(row.get(self._time_column))


def _parses(value: Any, kind: Callable[[Any], Any]) -> bool:
    if value == "":
        return True  # empty is null
    try:
        kind(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def day_of(value: Any) -> int | None:
    """Return the ordinal of the day in UTC of an ISO 8601 text, as TIME_PARSE reads it; ``None`` for another value."""
    if not isinstance(value, str) or not value.isascii() or not value[:1].isdigit() or "/" in value:
        return None
    try:
        moment = datetime.fromisoformat(value[:-1] if value.endswith("Z") else value)
    except ValueError:
        try:
            parsed: Any = pendulum.parse(value, exact=True)  # nanoseconds, and other ISO forms
        except (ValueError, TypeError, OverflowError):  # pendulum raises the latter two for some texts
            return None
        if not isinstance(parsed, datetime):
            return parsed.toordinal() if isinstance(parsed, date) else None
        moment = parsed
    if moment.tzinfo is None:
        return moment.toordinal()
    try:
        return moment.astimezone(timezone.utc).toordinal()
    except (ValueError, OverflowError):  # an offset of a day, or a day before the first or after the last
        return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decode_json = json.JSONDecoder(parse_constant=_no_constant).decode


def _json_rows(lines: Iterable[bytes | None]) -> Iterator[Row | None]:
    for line in lines:
        if line is not None and not line.strip():
            continue
        try:
            row = None if line is None else _decode_json(line.decode())
        except (ValueError, RecursionError):
            row = None
        yield row if isinstance(row, dict) else None


def _delimited_rows(lines: Iterable[bytes | None], settings: Mapping[str, Any]) -> Iterator[Row | None]:
    """Read one file of csv or tsv. A quoted value cannot hold a line break here: each line is a row."""
    delimiter = settings.get("delimiter") or ("\t" if settings["format"] == "tsv" else ",")
    columns: list[str] | None = settings.get("columns") or None
    to_skip = settings.get("skipHeaderRows") or 0
    for line in lines:
        if to_skip:
            to_skip -= 1
            continue
        if line is not None and not line.strip(b"\r"):
            continue
        values = None if line is None else _values(line, delimiter)
        if columns is None:
            columns = values or []  # the header
        elif values is None or len(values) != len(columns):
            yield None
        else:
            yield dict(zip(columns, values, strict=True))


def _values(line: bytes, delimiter: str) -> list[str] | None:
    try:
        text = line.decode().removesuffix("\r")
        return next(csv.reader([text], delimiter=delimiter, strict=True)) if '"' in text else text.split(delimiter)
    except (ValueError, csv.Error):
        return None


def lines_of(
    data: IO[bytes], *, gzipped: bool, counters: Counters, may_continue: Callable[[], bool] = lambda: True
) -> Iterator[bytes | None]:
    """Yield the lines of a file, ``None`` for a line that is too long. Count the uncompressed bytes.

    :param may_continue: called before each chunk. Reading ends if it returns false.
    :raises OSError, EOFError, zlib.error: for a file that is no valid gzip.
    """
    stream = cast("IO[bytes]", gzip.GzipFile(fileobj=data)) if gzipped else data
    rest: bytes | None = b""  # the start of an unfinished line; None if that is too long
    first = True
    while may_continue() and (chunk := stream.read(CHUNK)):
        counters.bytes += len(chunk)
        if first:
            chunk, first = chunk.removeprefix(b"\xef\xbb\xbf"), False  # a byte order mark is no data
        head, *tail = chunk.split(b"\n")
        rest = None if rest is None or len(rest) + len(head) > MAX_LINE else rest + head
        if tail:
            yield rest
            rest = tail.pop()
            yield from tail
    if rest is None or rest:
        yield rest
