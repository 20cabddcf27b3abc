"""Read the rows of files in batches: the lines of nd-json, and the values of csv."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal, NamedTuple, cast, get_args

from airflow_provider_polaris.local.engine.intervals import Span

#: The longest line that is a row, in bytes. A longer line is skipped, and never held in memory.
MAX_LINE = 1024 * 1024
#: How many bytes are read at once.
CHUNK = 256 * 1024
#: A batch ends with the line that reaches so many bytes.
BATCH_BYTES = 1024 * 1024
#: The sets of counters that the documentation lists for batch jobs: its newer pages, and its older sample.
Edition = Literal["newer", "older"]
EDITIONS: tuple[str, ...] = get_args(Edition)


class JobFailure(Exception):
    """A row that fails its job, and is not skipped.

    :param code: the code of the job's health.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Counters:
    """The counters of the rows that were read."""

    processed: int = 0
    with_warning: int = 0
    skipped_by_error: int = 0
    skipped_by_filter: int = 0
    bytes: int = 0
    #: How many rows were stored; ``None`` until the job has stored its rows.
    persisted: int | None = None
    #: How many rows were stored in each partition.
    partitions: dict[Span | None, int] = field(default_factory=dict)

    @property
    def read(self) -> int:
        """How many rows were read, good or bad."""
        return self.processed + self.with_warning + self.skipped_by_error + self.skipped_by_filter

    def add(self, other: Counters) -> None:
        """Add the rows of other counters, but not their partitions."""
        self.processed += other.processed
        self.with_warning += other.with_warning
        self.skipped_by_error += other.skipped_by_error
        self.skipped_by_filter += other.skipped_by_filter
        self.bytes += other.bytes

    @classmethod
    def of_streaming_totals(cls, totals: Mapping[str, int]) -> Counters:
        """Return the counters that :meth:`streaming_totals` has reported; zeros without any."""
        return cls(
            processed=totals.get("numRowsProcessed", 0),
            with_warning=totals.get("numRowsProcessedWithWarning", 0),
            skipped_by_filter=totals.get("numRowsSkippedByFilter", 0),
            skipped_by_error=totals.get("numRowsSkippedByError", 0),
        )

    def streaming_totals(self) -> dict[str, int]:
        """Return the API's ``totals`` of a streaming job. Both editions of the documentation list them."""
        return self.totals("older")

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
        return {
            "numRowsProcessed": self.processed,
            "numRowsSkippedByError": self.skipped_by_error,
            "numRowsPersisted": self.persisted or 0,
        }


class Batch(NamedTuple):
    """Some lines of one file.

    :param text: the lines, each a row, with a line break between two.
    :param lines: how many lines the text has.
    :param bad: how many further lines are no rows.
    :param columns: the names of the columns of csv, ``None`` for JSON.
    :param separator: between two values of csv.
    :param is_odd: whether DuckDB may take a line of the text as JSON that is none.
    """

    text: str
    lines: int
    bad: int
    columns: Sequence[str] | None = None
    separator: str = ","
    is_odd: bool = False

    def shown(self, n: int, name: str) -> str:
        """Return a value for a message.

        :param n: the number of the row in the batch, from 1.
        """
        line = self.text.split("\n")[n - 1]
        row = (
            json.loads(line)
            if self.columns is None
            else dict(zip(self.columns, line.split(self.separator), strict=False))
        )
        return "null" if row.get(name) is None else repr(row[name])


class BatchReader:
    """Makes batches of the lines of one file. Empty lines are no rows.

    As in Druid, a short row of csv lacks its last columns, and further values of a long row are ignored. A quoted value
    cannot hold a line break here: each line is a row.

    :param lines: lists of lines, ``None`` for a line that is too long.
    """

    def __init__(self, lines: Iterator[list[bytes | None]], settings: Mapping[str, Any]) -> None:
        self._lists = lines
        self._next: list[bytes | None] = []  # lines that belong to no batch yet
        self._is_json = settings["format"] == "nd-json"
        self._blank = None if self._is_json else b"\r"  # of what an empty line consists: any whitespace, for JSON
        delimiter = settings.get("delimiter") or ","
        self._delimiter = "\t" if delimiter == r"\t" else delimiter
        self._columns: list[str] | None = settings.get("columns") or None
        self._to_skip = 0 if self._is_json else settings.get("skipHeaderRows") or 0

    def next(self, most: int) -> Batch | None:
        """Return the next batch, with so many rows at most; ``None`` at the end of the file."""
        lines: list[bytes] = []
        size = bad = 0
        while (missing := most - len(lines) - bad) > 0 and size < BATCH_BYTES:
            if not self._next and not self._fill():
                break
            taken, self._next = self._next[:missing], self._next[missing:]
            rows = [line for line in taken if line is not None and line.strip(self._blank)]
            bad += taken.count(None)
            size += sum(map(len, rows))
            lines += rows
        if not lines and not bad:
            return None
        return self._batch(lines, bad)

    def _fill(self) -> bool:
        """Get lines behind the header. Return false at the end of the file."""
        for lines in self._lists:
            skipped = min(self._to_skip, len(lines))
            self._to_skip -= skipped
            self._next = lines[skipped:]
            if not self._is_json and self._columns is None:
                self._read_names()
            if self._next:
                return True
        return False

    def _read_names(self) -> None:
        """Read the names of the columns from the first line that is not empty."""
        for place, line in enumerate(self._next, 1):
            if line is None or line.strip(self._blank):
                self._columns = (None if line is None else _values(line, self._delimiter)) or []
                self._next = self._next[place:]
                return
        self._next = []

    def _batch(self, lines: Sequence[bytes], bad: int) -> Batch:
        data = b"\n".join(lines)
        count = len(lines)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            texts = [decoded for line in lines if (decoded := _text(line)) is not None]
            text, count = "\n".join(texts), len(texts)
            bad += len(lines) - count
        if self._is_json:
            return Batch(text, count, bad, is_odd=_is_odd(data))
        if b'"' not in data:
            text = text.replace("\r\n", "\n").removesuffix("\r")
            return Batch(text, count, bad, self._columns, self._delimiter)
        rows = [row for row in (_split(line, self._delimiter) for line in text.split("\n")) if row is not None]
        separator = _unused(rows)
        bad += count - len(rows)
        return Batch("\n".join(separator.join(row) for row in rows), len(rows), bad, self._columns, separator)


#: DuckDB takes some lines as JSON that are none: with a comma before a bracket, with NaN or with Infinity.
_COMMA_AT_THE_END = re.compile(rb",[ \t\r]*[}\]]")


def _is_odd(data: bytes) -> bool:
    """Return whether lines may have what DuckDB takes as JSON and is none. A text in quotes may have it, too."""
    lower = data.lower()
    return b"nan" in lower or b"inf" in lower or _COMMA_AT_THE_END.search(data) is not None


def _text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _unused(rows: Iterable[Sequence[str]]) -> str:
    """Return a character that no value has."""
    used = {letter for row in rows for value in row for letter in value}
    return next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in used)


def _values(line: bytes, delimiter: str) -> list[str] | None:
    text = _text(line)
    return None if text is None else _split(text, delimiter)


def _split(text: str, delimiter: str) -> list[str] | None:
    """Return the values of a line of csv, ``None`` if it is none."""
    text = text.removesuffix("\r")
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True)) if '"' in text else text.split(delimiter)
    except csv.Error:
        return None


def lines_of(
    data: IO[bytes], *, gzipped: bool, counters: Counters, may_continue: Callable[[], bool] = lambda: True
) -> Iterator[list[bytes | None]]:
    """Yield lists of the next lines of a file, with ``None`` for a line that is too long. Count the uncompressed bytes.

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
        lines: list[bytes | None] = [*chunk.split(b"\n")]
        head = cast("bytes", lines[0])
        lines[0] = None if rest is None or len(rest) + len(head) > MAX_LINE else rest + head
        rest = lines.pop()
        if lines:
            yield lines
    if rest is None or rest:
        yield [rest]
