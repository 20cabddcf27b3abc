"""Reading data as an ingestion job does: row by row, in bounded memory, counting what came of each row."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, cast

import pendulum

#: A longer line is no row; it is skipped without being held in memory whole, in bytes.
MAX_LINE = 10 * 1024 * 1024

_PLAIN_COLUMN = re.compile(r'"([^"]+)"')
_TIME_PARSE = re.compile(r'TIME_PARSE\(\s*"([^"]+)"\s*\)', re.IGNORECASE)
_NUMERIC = {"long": int, "float": float, "double": float}


@dataclass
class Counters:
    """What came of the rows so far.

    :param aggregated: whether the table rolls up. Nothing rolls up here, so what it would keep is not reported.
    """

    aggregated: bool = False
    processed: int = 0
    with_warning: int = 0
    skipped_by_error: int = 0
    bytes: int = 0

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
    """Judges rows by a job spec's ``inputSchema`` and ``mappings``.

    A row is bad when it is not a JSON object or has no readable timestamp; it has a warning when a column that the
    schema calls a number holds none. Of the mappings' expressions, plain columns and ``TIME_PARSE("column")`` are
    understood; any other is taken as given.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._numbers = {
            column["name"]: _NUMERIC[column["dataType"]]
            for column in spec["source"].get("inputSchema") or []
            if column.get("dataType") in _NUMERIC
        }
        self._time_column: str | None = None
        for mapping in spec.get("mappings") or []:
            if mapping.get("columnName") == "__time":
                expression = str(mapping.get("expression") or "").strip()
                match = _TIME_PARSE.fullmatch(expression) or _PLAIN_COLUMN.fullmatch(expression)
                self._time_column = match.group(1) if match else None

    def count(self, line: bytes, counters: Counters) -> None:
        """Add one line to the counters."""
        if not line.strip():
            return
        row = self._row(line)
        if row is None:
            counters.skipped_by_error += 1
        elif all(_is_number(row.get(name), kind) for name, kind in self._numbers.items()):
            counters.processed += 1
        else:
            counters.with_warning += 1

    def _row(self, line: bytes) -> dict[str, Any] | None:
        """Return the row, ``None`` if it is a bad one."""
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(row, dict):
            return None
        if self._time_column is not None and not is_timestamp(row.get(self._time_column)):
            return None
        return row


def _is_number(value: Any, kind: Callable[[Any], Any]) -> bool:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return True
    try:
        kind(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def is_timestamp(value: Any) -> bool:
    """Whether TIME_PARSE would read it: ISO 8601 text."""
    if not isinstance(value, str):
        return False
    try:
        datetime.fromisoformat(value.replace("Z", "+00:00") if value.endswith("Z") else value)
    except ValueError:
        try:
            return isinstance(pendulum.parse(value), datetime)  # nanoseconds, and other ISO forms
        except ValueError:
            return False
    return True


def lines_of(data: IO[bytes], *, gzipped: bool) -> Iterator[bytes]:
    """Yield the lines of a file; one that is too long is cut short, which no parser takes for a row."""
    stream = cast("IO[bytes]", gzip.GzipFile(fileobj=data)) if gzipped else data
    with closing(stream):
        while line := stream.readline(MAX_LINE):
            yield line


def inline_lines(text: str) -> Iterator[bytes]:
    """Yield the lines of an ``inline`` source."""
    return lines_of(io.BytesIO(text.encode()), gzipped=False)
