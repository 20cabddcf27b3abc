"""Jobs fill, replace and empty tables."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.local import LocalPolaris
from tests.support.local_calls import caller_of
from tests.support.specs import S3, rows, spec_of


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


def finished(call, spec, wait_until):
    """Run a job to its end, and return it."""
    answer = call("POST", "jobs", json=spec)
    assert answer.status_code == 201, answer.text
    path = f"jobs/{answer.json()['id']}"
    assert wait_until(lambda: call("GET", path).json()["executionStatus"] in {"completed", "failed"})
    return call("GET", path).json()


def deleting(*intervals):
    return {"type": "delete_data", "target": replacing(*intervals)}


def test_hours_are_replaced_and_deleted_if_the_job_partitions_by_hour(loads, wait_until):
    _, call, load = loads
    table = load(*(f"2026-11-01T0{hour}:30" for hour in range(4)), partitionedBy="hour", wait_until=wait_until)
    assert (table["partitioningGranularity"], table["totalRows"], table["segmentCount"]) == ("hour", 4, 4)
    two_hours = replacing("2026-11-01T00/PT2H")
    table = load("2026-11-01T01:59:59.999Z", mode="replace", target=two_hours, wait_until=wait_until)
    assert (table["totalRows"], table["segmentCount"]) == (3, 3)
    table = load("2026-11-01T02:00", mode="replace", target=two_hours, wait_until=wait_until)
    assert table["totalRows"] == 3, "a row outside of the intervals fails the job"
    finished(call, deleting("2026-11-01T02:10/PT1M"), wait_until)
    assert call("GET", "tables/cities").json()["totalRows"] == 2


@pytest.mark.parametrize(
    ("granularity", "left"), [(None, 2), ("hour", 3), ("month", 0), ("all", 0)], ids=["day", "hour", "month", "all"]
)
def test_a_deletion_takes_whole_partitions(loads, wait_until, granularity, left):
    _, call, load = loads
    asked = {"partitionedBy": granularity} if granularity else {}
    days = ("2026-11-01T01:00", "2026-11-01T08:00", "2026-11-02", "2026-11-30")
    load(*days, **asked, wait_until=wait_until)
    job = finished(call, deleting("2026-11-01T01:00/PT10M"), wait_until)
    assert job["health"] == {"status": "ok"}
    assert call("GET", "tables/cities").json()["totalRows"] == left


@pytest.mark.parametrize("spec", [deleting("2026-12-01/P1D"), {**deleting(), "deleteAll": True}])
def test_a_deletion_of_nothing_has_a_warning(loads, wait_until, spec):
    polaris, call, load = loads
    polaris.add_table("cities")
    if not spec.get("deleteAll"):
        load("2026-11-01", wait_until=wait_until)
    job = finished(call, spec, wait_until)
    assert (job["executionStatus"], job["health"]["status"], job["health"]["code"]) == (
        "completed",
        "warn",
        "no_rows_found",
    )


def test_a_table_has_no_number_of_rows_if_a_job_cannot_be_counted(loads, wait_until):
    polaris, call, load = loads

    def counted():
        table = call("GET", "tables/cities").json()
        assert ("totalRows" in table) == ("segmentCount" in table)
        return table.get("totalRows")

    def complete(spec, **metrics):
        polaris.next_job("complete", metrics=metrics)
        finished(call, spec, wait_until)

    insert = {"type": "sql", "query": "INSERT INTO cities SELECT 1"}
    load("2026-11-01", wait_until=wait_until)
    for uncounted in (
        lambda: complete(insert),
        lambda: complete({**insert, "query": "REPLACE INTO cities OVERWRITE ALL SELECT 1"}, numRowsProcessed=5),
        lambda: complete({"type": "restore_data", "target": replacing(), "interval": "2026-11-01/P1D"}),
        lambda: load(
            mode="replace", target=replacing("2026-11-01T00/PT1H"), partitionedBy="hour", wait_until=wait_until
        ),
    ):
        assert counted() == 1
        uncounted()
        assert counted() is None
        listed = call("GET", "tables").json()["values"][0]
        assert listed["totalRows"] >= 1, "the list has what was counted: the document requires the field"
        load("2026-11-01", mode="replace", replaceAll=True, wait_until=wait_until)  # the only rows are known again
    complete(insert, numRowsProcessed=2, numRowsProcessedWithWarning=1)
    assert counted() == 4
    complete(insert, numRowsProcessed=2, numRowsPersisted=1)
    assert counted() == 5
    finished(call, deleting("2026-11-01/P1D"), wait_until)
    assert counted() is None, "the local Polaris does not know the time of the query's rows"
    complete({**S3, "ingestionMode": "replace", "replaceAll": True}, numRowsPersisted=7)
    assert counted() == 7


@pytest.mark.parametrize(
    ("query", "granularity"),
    [
        ('INSERT INTO "new" SELECT 1 PARTITIONED BY MONTH CLUSTERED BY "a"', "month"),
        ('INSERT INTO "new" SELECT 1 partitioned by all time', "all"),
        ("INSERT INTO \"new\" SELECT 1 PARTITIONED BY TIME_FLOOR(__time, 'PT6H')", "day"),
        ('INSERT INTO "new" SELECT 1', "day"),
    ],
)
def test_a_query_that_creates_a_table_chooses_its_partitioning(loads, query, granularity):
    _, call, _ = loads
    call("POST", "jobs", json={"type": "sql", "createTableIfNotExists": True, "query": query})
    assert call("GET", "tables/new").json()["partitioningGranularity"] == granularity


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
