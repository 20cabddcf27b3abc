"""Moments, intervals and partitions by time."""

from __future__ import annotations

from datetime import datetime

import pytest

from airflow_provider_polaris.local.engine.intervals import (
    BEGIN,
    DAY,
    END,
    GRANULARITIES,
    contains,
    is_aligned,
    milliseconds_of,
    moment_of,
    overlap,
    partition_of,
    span_of,
    spans_of,
    within,
)


def at(text):
    return milliseconds_of(datetime.fromisoformat(text))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T23:59:59Z", "2026-01-01T23:59:59"),
        ("2026-01-01T23:59:59.999999999Z", "2026-01-01T23:59:59.999999"),
        ("2026-01-01T23:30:00-05:00", "2026-01-02T04:30:00"),
        ("2026-01-01 00:00:00", "2026-01-01"),
        ("20260101", "2026-01-01"),
        ("2026-W01-4", "2026-01-01"),
        ("2026", "2026-01-01"),
        ("0001-01-01T00:00:00+14:00", None),
        ("", None),
        ("soon", None),
        (20260101, None),
        (None, None),
    ],
)
def test_a_moment_is_read_in_utc(text, moment):
    assert moment_of(text) == (moment and datetime.fromisoformat(moment))


@pytest.mark.parametrize(
    ("interval", "start", "end"),
    [
        ("2026-11-01/2026-11-02", "2026-11-01", "2026-11-02"),
        ("2026-11-01/P1D", "2026-11-01", "2026-11-02"),
        ("P1D/2026-11-01", "2026-10-31", "2026-11-01"),
        ("2026-01-31/P1M", "2026-01-31", "2026-02-28"),
        ("2026-11-01T12:00/P1M", "2026-11-01T12:00", "2026-12-01T12:00"),
        ("2026-11-01/PT36H", "2026-11-01", "2026-11-02T12:00"),
        ("2026-11-01T00:00+02:00/PT8H", "2026-10-31T22:00", "2026-11-01T06:00"),
        ("2026/2027", "2026-01-01", "2027-01-01"),
    ],
)
def test_an_interval_has_two_ends_or_an_end_and_a_period(interval, start, end):
    assert span_of(interval) == (at(start), at(end))


def test_a_year_out_of_range_is_the_first_or_the_last_moment():
    assert span_of("-1000-01-01T00:00:00.000Z/5000-01-01") == (BEGIN, at("5000-01-01"))
    assert span_of("-146136543-09-08T08:23:32.096Z/146140482-04-24T15:36:27.903Z") == (BEGIN, END)


@pytest.mark.parametrize(
    "interval",
    ["", "/", "a/b", "2026-11-01", "2026-11-01/", "now/P1D", "2026-11-01/2026-11-01", "2026-11-02/P-1D",
     "2026-11-01/P0D", "2026-11-01/P99999999D", "2026-11-01/P", "P1D/P1D", "2026-11-01/2026-11-02/2026-11-03",
     "P1D/0001-01-01"],
)  # fmt: skip
def test_an_invalid_interval_is_an_error(interval):
    with pytest.raises(ValueError, match=r".*"):
        span_of(interval)


def test_overlapping_intervals_are_merged():
    spans = spans_of(
        ["2026-01-04/2026-01-06", "2026-01-01/2026-01-03", "2026-01-02/2026-01-04", "2026-02-01/2026-02-02"]
    )
    assert len(spans) == 2
    first = spans[0][0]
    assert [day for day in range(-1, 40) if within(spans, first + day * DAY)] == [0, 1, 2, 3, 4, 31]


def test_a_span_overlaps_or_is_contained():
    spans = spans_of(["2026-01-02/P1D", "2026-01-05/P2D"])

    def seen(interval):
        span = span_of(interval)
        return overlap(spans, span), contains(spans, span)

    assert seen("2026-01-01/P1D") == (False, False)
    assert seen("2026-01-02/PT1H") == (True, True)
    assert seen("2026-01-01T23:00/PT2H") == (True, False)
    assert seen("2026-01-03/2026-01-05") == (False, False)
    assert seen("2026-01-05/2026-01-07") == (True, True)
    assert seen("2026-01-01/2026-01-09") == (True, False)


@pytest.mark.parametrize(
    ("granularity", "start", "end"),
    [
        ("minute", "2026-11-17T13:45", "2026-11-17T13:46"),
        ("fifteen_minute", "2026-11-17T13:45", "2026-11-17T14:00"),
        ("six_hour", "2026-11-17T12:00", "2026-11-17T18:00"),
        ("eight_hour", "2026-11-17T08:00", "2026-11-17T16:00"),
        ("day", "2026-11-17", "2026-11-18"),
        ("month", "2026-11-01", "2026-12-01"),
        ("quarter", "2026-10-01", "2027-01-01"),
        ("year", "2026-01-01", "2027-01-01"),
        ("week", "2026-11-17", "2026-11-18"),
    ],
)
def test_a_partition_has_the_length_of_its_granularity(granularity, start, end):
    span = partition_of(at("2026-11-17T13:45:10"), granularity)
    assert span == (at(start), at(end))
    assert is_aligned(span, granularity)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_last_partition_ends_with_the_year_9999(granularity):
    span = partition_of(END - 1, granularity)
    assert span[1] == END
    assert is_aligned(span, granularity)
    assert is_aligned((BEGIN, END), granularity)
