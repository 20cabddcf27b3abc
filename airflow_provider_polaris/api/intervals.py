"""Intervals of time, as ISO 8601 and Airflow's templates write them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.parsing import clip

#: The length of a partition in seconds, for each granularity that divides a day.
_SECONDS: Mapping[str, int] = {
    "second": 1,
    "minute": 60,
    "five_minute": 300,
    "ten_minute": 600,
    "fifteen_minute": 900,
    "thirty_minute": 1800,
    "hour": 3600,
    "six_hour": 6 * 3600,
    "eight_hour": 8 * 3600,
    "day": 24 * 3600,
}
_MONTHS: Mapping[str, int] = {"month": 1, "quarter": 3, "year": 12}
#: What a template renders for a value that is missing.
_NOTHING = {"", "None"}


class Interval(NamedTuple):
    """A span of time in UTC, the end excluded."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        """Return the interval as Polaris takes it, such as ``2026-11-26T00:00:00Z/2026-11-27T00:00:00Z``."""
        return "/".join(map(_text_of, self))

    def aligns_with(self, granularity: str) -> bool:
        """Whether the interval consists of whole partitions. An unknown granularity is left to Polaris."""
        return all(_starts_partition(moment, granularity) for moment in self)


def read_interval(given: Any) -> Interval:
    """Return the interval of a text.

    :param given: ``START/END``, ``START/PERIOD`` or ``PERIOD/END`` in ISO 8601. A space may be in the place of the
        ``T``, as in a rendered ``{{ data_interval_start }}``. A moment without an offset is in UTC.
    :raises PolarisUsageError: if the text is no interval, or if the interval has no length.
    """
    if not isinstance(given, str):
        raise PolarisUsageError(f"interval must be text such as 2026-11-26/P1D, not {type(given).__name__}")
    first, slash, last = (part.strip() for part in given.partition("/"))
    if first in _NOTHING or (slash and last in _NOTHING):
        raise PolarisUsageError(
            f"interval is {clip(repr(given), 100)}, without a value: the run may have no data interval. Trigger the "
            "DAG with a logical date, or name the interval, such as 2026-11-26/P1D"
        )
    interval = _parsed(first, last) if slash and "/" not in last else None
    if interval is None:
        raise PolarisUsageError(
            "interval must be START/END, START/PERIOD or PERIOD/END in ISO 8601, such as 2026-11-26/P1D, not "
            f"{clip(repr(given), 100)}"
        )
    if interval.start == interval.end:
        raise PolarisUsageError(
            f"interval is the moment {_text_of(interval.start)}, and has no length: a cron schedule of Airflow 3 has "
            "no data intervals. Use the schedule CronDataIntervalTimetable, or the interval "
            "P1D/{{ data_interval_end.start_of('day') }}"
        )
    if interval.start > interval.end:
        raise PolarisUsageError(f"interval {interval} ends before it starts: exchange START and END")
    return interval


def _parsed(first: str, last: str) -> Interval | None:
    """Return the interval between two texts, one of which may be a period; ``None`` if there is none."""
    try:
        if first.startswith("P"):
            end = _moment(last)
            return Interval(end - _period(first), end)
        start = _moment(first)
        return Interval(start, start + _period(last) if last.startswith("P") else _moment(last))
    except (ValueError, TypeError, OverflowError):  # pendulum raises all three
        return None


def _moment(text: str) -> Any:
    """Return the moment of a text as a datetime of pendulum, in UTC."""
    import pendulum

    if not (text[:1].isdigit() and text.isascii()):  # pendulum also takes the word now
        raise ValueError(text)
    found = pendulum.parse(text, exact=True, tz="UTC")
    if isinstance(found, pendulum.DateTime):
        return found.in_timezone("UTC")
    if isinstance(found, pendulum.Date):
        return pendulum.datetime(found.year, found.month, found.day)
    raise TypeError(text)


def _period(text: str) -> Any:
    """Return the period of a text as a duration of pendulum."""
    import pendulum

    found = pendulum.parse(text, exact=True)
    if not isinstance(found, pendulum.Duration) or isinstance(found, pendulum.Interval):
        raise TypeError(text)
    return found


def _text_of(moment: datetime) -> str:
    """Return a moment as Polaris takes it, with milliseconds only if there are any."""
    text = moment.replace(tzinfo=None).isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return f"{text}Z"


def _starts_partition(moment: datetime, granularity: str) -> bool:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if granularity in _MONTHS:
        return moment == midnight.replace(day=1) and (moment.month - 1) % _MONTHS[granularity] == 0
    if granularity in _SECONDS:
        passed = moment - midnight
        return passed.microseconds == 0 and passed.seconds % _SECONDS[granularity] == 0
    return True
