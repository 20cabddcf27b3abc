"""An interval is read in the forms of ISO 8601 and of Airflow's templates, and compared with partitions."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.intervals import read_interval

DAY = "2026-11-26T00:00:00Z/2026-11-27T00:00:00Z"
HOUR = "2026-11-26T05:00:00Z/2026-11-26T06:00:00Z"
READ = {
    "START/END": (DAY, DAY),
    "dates": ("2026-11-26/2026-11-27", DAY),
    "rendered datetimes": ("2026-11-26 00:00:00+00:00/2026-11-27 00:00:00+00:00", DAY),
    "ts": ("2026-11-26T05:00:00+00:00/PT1H", HOUR),
    "ts_nodash": ("20261126T050000/PT1H", HOUR),
    "ds_nodash": ("20261126/P1D", DAY),
    "a period": ("2026-11-26/P1D", DAY),
    "a period before": ("P1D/2026-11-27 00:00:00+00:00", DAY),
    "another offset": ("2026-11-26T06:00:00+01:00/2026-11-26 01:00:00-05:00", HOUR),
    "minutes": ("2026-11-26T05:00Z/2026-11-26T06:00Z", HOUR),
    "spaces": (" 2026-11-26T05:00:00Z / PT1H\n", HOUR),
    "a month": ("2026-02-01/P1M", "2026-02-01T00:00:00Z/2026-03-01T00:00:00Z"),
    "the month before": ("P1M/2026-03-01", "2026-02-01T00:00:00Z/2026-03-01T00:00:00Z"),
    "a long period": ("2026-11-26T05:00:00Z/P1WT30M", "2026-11-26T05:00:00Z/2026-12-03T05:30:00Z"),
    "the day of a change of clocks": ("2026-03-29/P1D", "2026-03-29T00:00:00Z/2026-03-30T00:00:00Z"),
    "milliseconds": ("2026-11-26T05:00:00.5Z/PT1S", "2026-11-26T05:00:00.500Z/2026-11-26T05:00:01.500Z"),
}


@pytest.mark.parametrize(("given", "normal"), READ.values(), ids=READ)
def test_an_interval_is_normalised_to_utc(given, normal):
    assert str(read_interval(given)) == normal
    assert str(read_interval(normal)) == normal


REJECTED = {
    "None": (None, "interval must be text such as 2026-11-26/P1D, not NoneType"),
    "a pair": (("2026-11-26", "2026-11-27"), "interval must be text such as 2026-11-26/P1D, not tuple"),
    "empty": ("", "interval is '', without a value: .* Trigger the DAG with a logical date"),
    "rendered to None": ("None", "interval is 'None', without a value"),
    "an end of None": ("2026-11-26/None", "interval is '2026-11-26/None', without a value"),
    "both None": ("None/None", "interval is 'None/None', without a value"),
    "no start": ("/2026-11-26", "interval is '/2026-11-26', without a value"),
    "no end": ("2026-11-26/", "interval is '2026-11-26/', without a value"),
    "one moment": ("2026-11-26", "interval must be START/END, .* not '2026-11-26'"),
    "no length": (
        "2026-11-26 03:04:05.678901+00:00/2026-11-26 03:04:05.678901+00:00",
        "interval is the moment 2026-11-26T03:04:05.678Z, and has no length: .* CronDataIntervalTimetable",
    ),
    "a period of nothing": ("2026-11-26/P0D", "interval is the moment 2026-11-26T00:00:00Z"),
    "from end to start": ("2026-11-27/2026-11-26", "ends before it starts"),
    "three parts": ("2026-11-26/P1D/P1D", "interval must be START/END"),
    "two periods": ("P1D/P1D", "interval must be START/END"),
    "the word now": ("now/PT1H", "interval must be START/END"),
    "no template": ("{{ ds }}/P1D", "interval must be START/END"),
    "a time alone": ("2026-11-26/12:00", "interval must be START/END"),
    "no such day": ("2026-02-30/P1D", "interval must be START/END"),
    "digits of another script": ("\N{FULLWIDTH DIGIT TWO}026-11-26/P1D", "interval must be START/END"),
    "the end of time": ("9999-12-31/P1D", "interval must be START/END"),
    "a period that is too long": ("2026-11-26/P99999999999999999999D", "interval must be START/END"),
    "very long": ("x" * 1_000_000, "interval must be START/END"),
}


@pytest.mark.parametrize(("given", "says"), REJECTED.values(), ids=REJECTED)
def test_a_value_that_is_no_interval_is_rejected_in_one_short_line(given, says):
    with pytest.raises(PolarisUsageError, match=says) as caught:
        read_interval(given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


ALIGNED = {
    "2026-11-26/P1D": {"day", "hour", "eight_hour", "six_hour", "minute", "second"},
    "2026-11-26T06:00:00Z/PT6H": {"six_hour", "hour", "thirty_minute", "fifteen_minute", "ten_minute"},
    "2026-11-26T08:00:00Z/PT8H": {"eight_hour", "hour", "five_minute"},
    "2026-11-26T05:15:00Z/PT15M": {"fifteen_minute", "five_minute", "minute"},
    "2026-11-01/P1M": {"month", "day"},
    "2026-10-01/P3M": {"quarter", "month", "day"},
    "2026-01-01/P1Y": {"year", "quarter", "month", "day"},
}
NOT_ALIGNED = {
    "2026-11-26/P1D": {"month", "quarter", "year"},
    "2026-11-26T06:00:00Z/PT6H": {"eight_hour", "day"},
    "2026-11-26T05:15:00Z/PT15M": {"ten_minute", "thirty_minute", "hour"},
    "2026-11-25T23:00:00Z/P1D": {"day"},
    "2026-11-01/P1M": {"quarter", "year"},
    "2026-11-15/P1M": {"month"},
    "2026-11-26T05:00:00.001Z/PT1H": {"second", "hour"},
    "2026-11-26T00:00:00.000001Z/P1D": {"day"},
}


@pytest.mark.parametrize("interval", ALIGNED)
def test_an_interval_of_whole_partitions_aligns(interval):
    assert [name for name in ALIGNED[interval] if not read_interval(interval).aligns_with(name)] == []


@pytest.mark.parametrize("interval", NOT_ALIGNED)
def test_an_interval_with_a_part_of_a_partition_does_not_align(interval):
    assert [name for name in NOT_ALIGNED[interval] if read_interval(interval).aligns_with(name)] == []


def test_a_granularity_that_is_unknown_is_left_to_polaris():
    assert read_interval("2026-11-26T05:00:00.001Z/PT1H").aligns_with("fortnight")
