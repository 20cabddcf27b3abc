"""Jobs fill, replace and empty tables."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.local import LocalPolaris
from tests.support.local_calls import caller_of
from tests.support.specs import rows, spec_of


def test_a_table_may_have_a_slash_in_its_name(own_polaris):
    polaris, call = own_polaris
    polaris.add_table("a/b")
    assert call("GET", "tables/a%2Fb").json()["name"] == "a/b"


@pytest.fixture
def loads():
    """Yield a local Polaris, raw requests to it, and a function that loads days and returns the table."""
    with LocalPolaris() as polaris:
        call = caller_of(polaris)

        def load(*days, mode="append", wait_until, **changes):
            spec = spec_of(rows(*({"timestamp": day} for day in days)), ingestionMode=mode, **changes)
            job = call("POST", "jobs", json=spec).json()
            assert "id" in job, job
            over = ("completed", "failed")
            assert wait_until(lambda: call("GET", f"jobs/{job['id']}/status").json()["executionStatus"] in over)
            return call("GET", "tables/cities").json()

        yield polaris, call, load


def replacing(*intervals):
    return {"type": "table", "tableName": "cities", "intervals": list(intervals)}


def test_jobs_append_replace_and_delete_rows(loads, wait_until):
    _, call, load = loads
    assert call("GET", "tables/cities").status_code == 404
    assert load("2026-11-01", "2026-11-01", "2026-11-02", wait_until=wait_until)["totalRows"] == 3
    table = load("2026-11-03", wait_until=wait_until)
    assert (table["totalRows"], table["segmentCount"], table["availability"]) == (4, 3, "available")
    one_day = replacing("2026-11-01T00:00:00Z/2026-11-02T00:00:00Z")
    assert load("2026-11-01", mode="replace", target=one_day, wait_until=wait_until)["totalRows"] == 3
    assert load("2026-12-01", mode="replace", replaceAll=True, wait_until=wait_until)["totalRows"] == 1
    for spec, left in (
        ({"type": "delete_data", "target": replacing("2026-11-01/2026-12-01")}, 1),
        ({"type": "delete_data", "target": replacing("2026-12-01/2026-12-02")}, 0),
        ({"type": "drop_table", "target": {"type": "table", "tableName": "cities"}}, None),
    ):
        job = call("POST", "jobs", json=spec).json()
        assert wait_until(lambda: call("GET", f"jobs/{job['id']}").json()["executionStatus"] == "completed")  # noqa: B023
        assert call("GET", "tables/cities").json().get("totalRows") == left


def test_a_job_that_fails_leaves_the_table_as_it_was(loads, wait_until):
    _, _, load = loads
    load("2026-11-01", wait_until=wait_until)
    assert load("2026-11-01", "soon", maxParseExceptions=0, wait_until=wait_until)["totalRows"] == 1


def test_rows_can_be_queried_some_time_after_their_job_is_over(wait_until):
    with LocalPolaris(available_after=0.3) as polaris:
        call = caller_of(polaris)
        polaris.add_table("cities")

        def table():
            seen = call("GET", "tables/cities").json()
            return seen["availability"], seen["totalRows"]

        assert table() == ("available", 0)
        call("POST", "jobs", json=spec_of(rows({"timestamp": "2026-11-01"})))
        assert wait_until(lambda: table() == ("unavailable", 0))
        assert wait_until(lambda: table() == ("available", 1))


def test_a_scripted_table_changes_with_each_request(loads):
    polaris, call, _ = loads
    polaris.add_table("scripted", partitioningGranularity="hour")
    polaris.script_table("scripted", {"availability": "unavailable"}, {}, {"availability": "available", "totalRows": 9})
    looks = [call("GET", "tables/scripted").json() for _ in range(4)]
    assert [look["availability"] for look in looks] == ["unavailable", "unavailable", "available", "available"]
    polaris.set_table("scripted", availability="deleting")
    assert call("GET", "tables/scripted").json()["availability"] == "deleting"
    listed = call("GET", "tables?partitioningGranularity=hour").json()["values"]
    assert [table["name"] for table in listed] == ["scripted"]
    polaris.remove_table("scripted")
    assert call("GET", "tables").json() == {"values": []}
