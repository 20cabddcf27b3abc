"""Which loads of a table count, and in which order."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.load_choice import LoadChoice, read_job_types, read_moment, utc

MOMENT = datetime(2026, 11, 26, tzinfo=timezone.utc)
CHOICE = LoadChoice("orders", MOMENT, frozenset({"batch"}), frozenset({"refused"}))


def job(**body) -> Job:
    defaults = {
        "id": "j", "type": "batch", "executionStatus": "completed", "target": {"tableName": "orders"},
        "createdTimestamp": "2026-11-25T23:00:00Z", "lastUpdatedTimestamp": "2026-11-25T23:00:00Z",
        "completedTimestamp": "2026-11-26T00:00:00Z",
    }  # fmt: skip
    return Job.from_api({**defaults, **body})


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ({}, True),
        ({"completedTimestamp": "2026-11-25T23:59:59.999Z"}, False),
        ({"completedTimestamp": "2026-11-26T01:00:00+02:00"}, False),
        ({"target": {"tableName": "Orders"}}, False),
        ({"target": None}, False),
        ({"type": "sql"}, False),
        ({"type": None}, False),
        ({"id": "refused"}, False),
        ({"executionStatus": "failed"}, False),
        ({"executionStatus": "running"}, False),
        ({"executionStatus": "brand_new"}, False),
        ({"completedTimestamp": None}, False),
        ({"completedTimestamp": None, "lastUpdatedTimestamp": "2026-11-26T00:00:01Z"}, True),
        ({"completedTimestamp": "soon", "lastUpdatedTimestamp": None}, False),
    ],
    ids=str,
)
def test_a_load_counts_if_it_completed_in_time(body, counts):
    assert CHOICE.includes(job(**body)) == counts


@pytest.mark.parametrize(
    ("body", "awaited"),
    [
        ({"executionStatus": "running"}, True),
        ({"executionStatus": "brand_new"}, True),
        ({"executionStatus": "running", "type": "streaming"}, False),
        ({"executionStatus": "running", "target": {"tableName": "customers"}}, False),
        ({}, False),
        ({"executionStatus": "failed"}, False),
    ],
    ids=str,
)
def test_a_job_that_is_not_over_may_become_a_load(body, awaited):
    assert CHOICE.awaits(job(**body)) == awaited


def test_loads_are_in_the_order_of_their_completion_and_each_once():
    jobs = [
        job(id=name, completedTimestamp=f"2026-11-26T0{hour}:00:00Z") for name, hour in (("b", 2), ("a", 1), ("c", 3))
    ]
    assert [load.id for load in CHOICE.of([*jobs, *jobs])] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "value", ["2026-11-26", "2026-11-26 00:00:00+00:00", "2026-11-26T02:00:00+02:00", MOMENT], ids=str
)
def test_a_moment_may_be_text_or_a_datetime(value):
    assert read_moment("x", value) == MOMENT


def test_a_datetime_without_a_time_zone_is_utc():
    assert read_moment("x", datetime(2026, 11, 26)) == MOMENT  # noqa: DTZ001


@pytest.mark.parametrize(
    "value", ["", None, "None", "12:00", "2026", "P1D", 5, "2026-11-26/2026-11-27", "2026-02-31"], ids=repr
)
def test_anything_else_is_no_moment(value):
    with pytest.raises(PolarisUsageError, match=r"^x is .*\{\{ data_interval_end \}\}"):
        read_moment("x", value)


def test_job_types_may_be_one_name_or_several():
    assert read_job_types("batch") == {"batch"}
    assert read_job_types(["sql", "delete_data"]) == {"sql", "delete_data"}


def test_a_moment_is_shown_in_utc():
    assert utc(MOMENT.astimezone(timezone(timedelta(hours=5)))) == "2026-11-26 00:00:00 UTC"
