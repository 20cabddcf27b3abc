"""Moments, ISO 8601 intervals, and the partitions of a table by time. All in UTC, in milliseconds since the year 1."""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timezone
from typing import Any

import pendulum

#: A start and an end, the end excluded.
Span = tuple[int, int]

DAY = 86_400_000
#: The first moment of the year 1, and the end of the year 9999.
BEGIN = DAY
END = (date.max.toordinal() + 1) * DAY
#: 1970-01-01.
EPOCH = date(1970, 1, 1).toordinal() * DAY
#: The most intervals that one job may replace or delete.
MAX_INTERVALS = 10_000

#: The length of the partitions of each granularity, in milliseconds.
WIDTHS: Mapping[str, int] = {
    "second": 1_000,
    "minute": 60_000,
    "five_minute": 300_000,
    "ten_minute": 600_000,
    "fifteen_minute": 900_000,
    "thirty_minute": 1_800_000,
    "hour": 3_600_000,
    "six_hour": 21_600_000,
    "eight_hour": 28_800_000,
    "day": DAY,
}
_LONG_YEAR = re.compile(r"\+?\d{5,}-")
_MONTHS: Mapping[str, int] = {"month": 1, "quarter": 3, "year": 12}
#: The values of ``partitionedBy`` and of a table's ``partitioningGranularity``.
GRANULARITIES = (*WIDTHS, *_MONTHS, "all")


def moment_of(value: Any) -> datetime | None:
    """Return the moment of an ISO 8601 text, as TIME_PARSE reads it, in UTC; ``None`` for any other value.

    The result has no time zone.
    """
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
            return datetime(parsed.year, parsed.month, parsed.day) if isinstance(parsed, date) else None  # noqa: DTZ001
        moment = parsed
    if moment.tzinfo is None:
        return moment
    try:
        return moment.astimezone(timezone.utc).replace(tzinfo=None)
    except (ValueError, OverflowError):  # an offset of a day, or a day before the first or after the last
        return None


def milliseconds_of(moment: datetime) -> int:
    """Return a moment in UTC as milliseconds since the year 1."""
    seconds = (moment.toordinal() * 24 + moment.hour) * 3600 + moment.minute * 60 + moment.second
    return seconds * 1000 + moment.microsecond // 1000


def spans_of(intervals: Iterable[str]) -> list[Span]:
    """Return ISO 8601 intervals as spans, sorted and merged.

    :raises ValueError: if an interval is invalid or empty.
    """
    return merged(span_of(interval) for interval in intervals)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return spans sorted, those that overlap or touch as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def span_of(interval: str) -> Span:
    """Return an ISO 8601 interval as a span: ``START/END``, ``START/PERIOD`` or ``PERIOD/END``.

    :raises ValueError: if the interval is invalid or empty.
    """
    start, slash, end = interval.partition("/")
    if start.startswith("P"):
        second = _moment_in(end)
        first = shifted(second, start, -1)
    else:
        first = _moment_in(start)
        second = shifted(first, end, 1) if end.startswith("P") else _moment_in(end)
    if not slash or first >= second:
        raise ValueError(f"{interval!r} is no interval")
    return first, second


def _moment_in(text: str) -> int:
    """Return one end of an interval. A year before 1 or after 9999 counts as the first or last moment."""
    if text.startswith("-"):
        return BEGIN
    if _LONG_YEAR.match(text):
        return END
    moment = moment_of(text)
    if moment is None:
        raise ValueError(f"{text!r} is no moment")
    return milliseconds_of(moment)


def shifted(moment: int, period: str, sign: int) -> int:
    """Return the moment that an ISO 8601 period is after a moment, or before it if the sign is negative.

    :raises ValueError: for a text that is no period, and for a moment before the year 1 or after 9999.
    """
    days, rest = divmod(moment, DAY)
    try:
        length = pendulum.parse(period, exact=True)
        start = pendulum.instance(datetime.fromordinal(days), tz="UTC")
        if not isinstance(length, pendulum.Duration):
            raise TypeError
        moved = start + length if sign > 0 else start - length
        return milliseconds_of(moved) + rest
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{period!r} is no period") from None


def within(spans: list[Span], moment: int) -> bool:
    """Return whether a moment is in one of the spans that :func:`spans_of` returned."""
    place = bisect_right(spans, (moment, sys.maxsize)) - 1
    return place >= 0 and moment < spans[place][1]


def overlap(spans: list[Span], span: Span) -> bool:
    """Return whether a span has a moment in common with the spans that :func:`spans_of` returned."""
    place = bisect_right(spans, (span[1] - 1, sys.maxsize)) - 1
    return place >= 0 and span[0] < spans[place][1]


def contains(spans: list[Span], span: Span) -> bool:
    """Return whether a span lies within one of the spans that :func:`spans_of` returned."""
    place = bisect_right(spans, (span[0], sys.maxsize)) - 1
    return place >= 0 and span[1] <= spans[place][1]


def partition_of(moment: int, granularity: str) -> Span:
    """Return the partition of a moment. A granularity that is unknown counts as ``day``."""
    if granularity == "all":
        return BEGIN, END
    if granularity in _MONTHS:
        day, months = date.fromordinal(min(moment // DAY, date.max.toordinal())), _MONTHS[granularity]
        first = day.month - 1 - (day.month - 1) % months
        return _month(day.year, first), _month(day.year, first + months)
    width = WIDTHS.get(granularity, DAY)
    start = moment // width * width
    return start, start + width


def _month(year: int, months: int) -> int:
    year, month = year + months // 12, months % 12 + 1
    return END if year > date.max.year else date(year, month, 1).toordinal() * DAY


def is_aligned(span: Span, granularity: str) -> bool:
    """Return whether a span consists of whole partitions."""
    return all(moment == END or moment == partition_of(moment, granularity)[0] for moment in span)
