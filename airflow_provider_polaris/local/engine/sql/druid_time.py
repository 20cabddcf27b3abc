"""The periods, intervals and time patterns of Druid, as DuckDB writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from airflow_provider_polaris.local.engine.intervals import BEGIN, END, EPOCH, Span, span_of


class TimeError(ValueError):
    """A period or a pattern that the local Polaris does not carry out."""


_PERIOD = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_EPOCH = "TIMESTAMP '1970-01-01'"
_FIRST_MONDAY = "TIMESTAMP '1970-01-05'"
#: The letters of Joda's patterns, by their number, as DuckDB's. The longest number is also for more letters.
_LETTERS = {
    "y": {1: "%Y", 2: "%y", 3: "%Y", 4: "%Y"}, "Y": {1: "%Y", 2: "%y", 3: "%Y", 4: "%Y"},
    "M": {1: "%-m", 2: "%m", 3: "%b", 4: "%B"}, "d": {1: "%-d", 2: "%d"}, "D": {3: "%j"},
    "E": {1: "%a", 2: "%a", 3: "%a", 4: "%A"}, "H": {1: "%-H", 2: "%H"}, "h": {1: "%-I", 2: "%I"}, "a": {1: "%p"},
    "m": {1: "%-M", 2: "%M"}, "s": {1: "%-S", 2: "%S"}, "S": {3: "%g"},
}  # fmt: skip
_PART = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']")


def duckdb_period(text: str) -> tuple[str, str]:
    """Return an ISO 8601 period as an interval, and the moment that its buckets are counted from.

    As in Druid, that is 1970-01-01, and for a week the first Monday after it.

    :raises TimeError: for a text that is no period, a mixed one, and several weeks.
    """
    match = _PERIOD.fullmatch(text)
    numbers = [int(number or 0) for number in match.groups()] if match else []
    if not any(numbers):
        raise TimeError(f"The period {text[:40]!r}")
    years, months, weeks, days, hours, minutes, seconds = numbers
    if calendar := years * 12 + months:
        if any(numbers[2:]):
            raise TimeError(f"The period {text[:40]!r}, of months and other units,")
        return f"INTERVAL '{calendar}' MONTH", _EPOCH
    if weeks:
        if weeks > 1 or any(numbers[3:]):
            raise TimeError(f"The period {text[:40]!r}, of more than a week,")
        return "INTERVAL '7' DAY", _FIRST_MONDAY
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return f"INTERVAL '{total}' SECOND", _EPOCH


def duckdb_time_format(pattern: str) -> str:
    """Return a pattern of Joda as one of DuckDB.

    :raises TimeError: for a letter that DuckDB has no equal for.
    """
    parts, end = [], 0
    for match in _PART.finditer(pattern):
        if match.start() != end:
            break
        end = match.end()
        letter = match[2]
        if letter is None:
            text = match[0] if match[1] is None else match[1].replace("''", "'") or "'"
            parts.append(text.replace("%", "%%"))
            continue
        forms = _LETTERS.get(letter, {})
        form = forms.get(min(len(match[0]), max(forms, default=0)))
        if form is None:
            raise TimeError(f"{match[0]!r} in a time pattern")
        parts.append(form)
    if end != len(pattern):
        raise TimeError(f"The time pattern {pattern[:40]!r}")
    return "".join(parts)


def span_as_sql(interval: str) -> tuple[str, str]:
    """Return the start and the end of an ISO 8601 interval as DuckDB writes timestamps.

    :raises ValueError: if the interval is invalid or empty.
    """
    start, end = span_of(interval)
    return timestamp_literal(start), timestamp_literal(end)


def within(column: str, spans: Iterable[Span]) -> str:
    """Return the condition of DuckDB that a column of timestamps is in one of these spans; any time without spans."""
    return (
        " OR ".join(
            f"({column} >= {timestamp_literal(first)} AND {column} < {timestamp_literal(last)})"
            for first, last in spans
        )
        or "true"
    )


def timestamp_literal(moment: int) -> str:
    """Return a moment, in milliseconds since the year 1, as DuckDB writes timestamps."""
    if moment <= BEGIN:
        return "TIMESTAMP '-infinity'"
    if moment >= END:
        return "TIMESTAMP 'infinity'"
    return f"make_timestamp({(moment - EPOCH) * 1000})"
