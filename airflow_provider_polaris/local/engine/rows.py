"""Read data as an ingestion job does: row by row, in bounded memory, with a counter for each result."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Literal, cast, get_args

from airflow_provider_polaris.local.engine.intervals import (
    BEGIN,
    DAY,
    END,
    EPOCH,
    WIDTHS,
    Span,
    milliseconds_of,
    moment_of,
    partition_of,
    spans_of,
    within,
)
from airflow_provider_polaris.local.engine.specs import column_in

#: The longest line that is a row, in bytes. A longer line is skipped, and never held in memory.
MAX_LINE = 1024 * 1024
#: How many bytes are read at once.
CHUNK = 256 * 1024
#: How much of a row's value a message has, in characters.
MAX_VALUE = 100
#: The sets of counters that the documentation lists for batch jobs: its newer pages, and its older sample.
Edition = Literal["newer", "older"]
EDITIONS: tuple[str, ...] = get_args(Edition)

#: Instead of the period of a row that the job's filter leaves out.
_FILTERED = -1
_NUMERIC: Mapping[str, Callable[[Any], Any]] = {"bigint": int, "long": int, "float": float, "double": float}
_TEXTS = ("string", "varchar")

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

    :param is_partial: whether the job filters or aggregates rows. The local Polaris does not, so it does not know how
        many rows the service would store.
    """

    is_partial: bool = False
    processed: int = 0
    with_warning: int = 0
    skipped_by_error: int = 0
    skipped_by_filter: int = 0
    bytes: int = 0
    #: How many rows were ingested for each period of a reader, by its start; ``None`` if the time is unknown.
    periods: dict[int | None, int] = field(default_factory=dict)

    @property
    def read(self) -> int:
        """How many rows were read, good or bad."""
        return self.processed + self.with_warning + self.skipped_by_error + self.skipped_by_filter

    def totals(self, edition: str) -> dict[str, int]:
        """Return the API's ``totals``, with the counters that an edition of the documentation lists for batch jobs.

        :param edition: one of :data:`EDITIONS`.
        """
        if edition == "older":
            return {
                "numRowsProcessed": self.processed,
                "numRowsProcessedWithWarning": self.with_warning,
                "numRowsSkippedByFilter": self.skipped_by_filter,
                "numRowsSkippedByError": self.skipped_by_error,
            }
        totals = {"numRowsProcessed": self.processed, "numRowsSkippedByError": self.skipped_by_error}
        return totals if self.is_partial else totals | {"numRowsPersisted": self.processed + self.with_warning}

    def partitions(self, granularity: str) -> dict[Span | None, int]:
        """Return the number of rows that were ingested into each partition; ``None`` is an unknown partition."""
        found: dict[Span | None, int] = {}
        for period, count in self.periods.items():
            partition = None if period is None else partition_of(period, granularity)
            found[partition] = found.get(partition, 0) + count
        return found


class RowReader:
    """Checks rows against a job spec's format, ``inputSchema`` and ``mappings``.

    A row is skipped if its format cannot be read. A row without a valid timestamp fails the job: the vendor's page
    "Timestamp expressions" says so. A row has a warning if a column of a numeric type has no number. Of the mappings'
    expressions, plain columns and ``TIME_PARSE("column")`` are evaluated; any other counts as valid.

    :param settings: the ``formatSettings``.
    :param granularity: the granularity of the partitions that the job writes.
    """

    def __init__(self, spec: Mapping[str, Any], settings: Mapping[str, Any], granularity: str) -> None:
        self._settings = settings
        #: The length in milliseconds of the periods by which rows are counted: a partition, or a day if that is longer.
        self.period = WIDTHS.get(granularity, DAY)
        mappings = spec.get("mappings") or []
        columns = {column["name"]: column["dataType"] for column in spec["source"]["inputSchema"]}
        mapped = {column_in(mapping["expression"]) for mapping in mappings}
        self._numbers = [(name, _NUMERIC[kind]) for name, kind in columns.items() if kind in _NUMERIC]
        time_expression = next((mapping["expression"] for mapping in mappings if mapping["columnName"] == "__time"), "")
        self._time_column = column_in(time_expression)
        mapped.discard(self._time_column)  # a text with a null byte is no timestamp
        self._texts = [name for name, kind in columns.items() if kind in _TEXTS and name in mapped]
        is_plain = time_expression.strip().startswith('"')
        self._takes_milliseconds = is_plain and columns.get(self._time_column or "") in ("bigint", "long")
        self._bounds = spans_of(spec["target"].get("intervals") or [])
        self._filters = bool(spec.get("filterExpression"))
        self._aggregates = any(mapping.get("isAggregation") for mapping in mappings)
        has_lists = self._aggregates and settings["format"] == "csv"
        self._list_delimiter = (settings.get("listDelimiter") or "\x01") if has_lists else None

    def rows_of(self, lines: Iterable[bytes | None]) -> Iterator[Row | None]:
        """Yield the rows of one file, ``None`` for each that cannot be read. Empty lines are no rows."""
        if self._settings["format"] == "nd-json":
            return _json_rows(lines)
        return _delimited_rows(lines, self._settings)

    def count(self, rows: Iterable[Row | None], counters: Counters) -> None:
        """Add rows to the counters.

        :raises JobFailure: at a row for which the service fails the job.
        """
        periods = counters.periods
        for row in rows:
            if row is None:
                counters.skipped_by_error += 1
                continue
            period = None if self._time_column is None else self._period_of(row, counters)
            if period == _FILTERED:
                counters.skipped_by_filter += 1
                continue
            for name in self._texts:
                value = row.get(name)
                if type(value) is str:
                    if "\0" in value or (self._list_delimiter and self._list_delimiter in value):
                        raise self._text_failure(name, value, counters)
                elif self._aggregates and type(value) is list:
                    raise self._text_failure(name, value, counters)
            periods[period] = periods.get(period, 0) + 1
            for name, kind in self._numbers:
                value = row.get(name)
                if value is None or type(value) is int or type(value) is float:
                    continue
                if not _parses(value, kind):
                    counters.with_warning += 1
                    break
            else:
                counters.processed += 1

    def _period_of(self, row: Row, counters: Counters) -> int:
        """Return the start of the row's period, :data:`_FILTERED` if the job's filter leaves out the row.

        The local Polaris evaluates no filter. A filter leaves out exactly the rows that would fail the job here.
        """
        value = row.get(self._time_column or "")
        if self._takes_milliseconds:
            moment = _since_epoch(value)
        elif (parsed := moment_of(value)) is None:
            moment = None
        elif self.period == DAY:
            moment = parsed.toordinal() * DAY  # much faster than to the millisecond
        else:
            moment = milliseconds_of(parsed)
        if moment is not None and (not self._bounds or within(self._bounds, moment)):
            return moment - moment % self.period
        if self._filters:
            return _FILTERED
        seen = f"{self._time_column!r} is {repr(value)[:MAX_VALUE]}"
        if moment is None:
            raise JobFailure("null_timestamp", f"Row {counters.read + 1} has no valid timestamp: {seen}")
        raise JobFailure("timestamp_out_of_bounds", f"Row {counters.read + 1} is outside target.intervals: {seen}")

    def _text_failure(self, name: str, value: Any, counters: Counters) -> JobFailure:
        row = f"Row {counters.read + 1}, column {name!r}"
        if isinstance(value, str) and "\0" in value:
            return JobFailure("invalid_null_byte", f"{row}: the text has a null byte")
        message = f"{row}: the row has several values, and the job aggregates. Use MV_TO_ARRAY() in the mapping"
        return JobFailure("cannot_parse_multi_value_dimension", message)


def _parses(value: Any, kind: Callable[[Any], Any]) -> bool:
    if value == "":
        return True  # empty is null
    try:
        kind(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def _since_epoch(value: Any) -> int | None:
    """Return milliseconds since 1970 as a moment, ``None`` if they are none."""
    try:
        moment = EPOCH + int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if BEGIN <= moment < END else None


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
    """Read one file of csv. A quoted value cannot hold a line break here: each line is a row.

    As in Druid, a short row lacks its last columns, and further values of a long row are ignored.
    """
    delimiter = settings.get("delimiter") or ","
    delimiter = "\t" if delimiter == r"\t" else delimiter
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
        else:
            yield None if values is None else dict(zip(columns, values, strict=False))


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
