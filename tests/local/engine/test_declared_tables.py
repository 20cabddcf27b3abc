"""Jobs load tables that a user has declared: with a schema, a time resolution or a storage policy."""

from __future__ import annotations

import pytest

from tests.support.local_calls import status_of
from tests.support.specs import T, load_of

ROW = {"timestamp": T, "city": "Oslo", "count": 7}
HOURS = [{"timestamp": f"2026-11-01T10:{minute}:00Z", "city": "Oslo", "count": 1} for minute in (10, 20, 50)]


def columns(**kinds):
    return [{"name": name, "dataType": kind} for name, kind in kinds.items()]


def roles(**roles):
    """Return the schema of an aggregate table."""
    return [{"type": role, "name": name, "dataType": kind} for name, (role, kind) in roles.items()]


@pytest.fixture
def tables(call, wait_until):
    """Return functions that create a table, run a job to its end, and query."""

    def create(name, kind="detail", **fields):
        answer = call("POST", "tables", json={"name": name, "type": kind, **fields})
        assert answer.status_code == 201, answer.text

    def run(spec):
        answer = call("POST", "jobs", json=spec)
        if answer.status_code == 400:
            return answer.json()
        job_id = answer.json()["id"]
        assert wait_until(lambda: status_of(call, job_id) in ("completed", "failed"))
        return call("GET", f"jobs/{job_id}").json()

    def query(text):
        return call("POST", "query/sql", json={"query": text}).json()

    return create, run, query, call


def test_a_strict_table_takes_only_its_columns(tables):
    create, run, query, call = tables
    create("strict", schemaMode="strict", schema=columns(city="string"))
    refused = run(load_of("strict", ROW, city='"city"', town='"city"'))
    assert refused["target"] == "mappings[2].expression"
    assert refused["message"] == "The table is strict, and its schema has no column 'town'"
    assert run(load_of("strict", ROW, city='"city"'))["executionStatus"] == "completed"
    assert query('SELECT * FROM "strict"') == [{"__time": "2026-11-01T00:00:00.000Z", "city": "Oslo"}]
    insert = 'INSERT INTO "strict" SELECT __time, city AS town FROM "strict" PARTITIONED BY DAY'
    job = call("POST", "jobs", json={"type": "sql", "query": insert}).json()
    assert job["executionStatus"] == "pending"
    assert "its schema has no column 'town'" in job["health"]["log"]["message"]


def test_a_flexible_table_discovers_further_columns(tables):
    create, run, _, call = tables
    create("flexible", schema=columns(city="string"))
    assert run(load_of("flexible", ROW, city='"city"', number='"count"'))["executionStatus"] == "completed"
    table = call("GET", "tables/flexible").json()
    assert table["schema"] == columns(city="string")
    found = {column["name"]: (column["dataType"], column["isDiscovered"]) for column in table["queryableSchema"]}
    assert found == {"city": ("string", False), "__time": ("timestamp", False), "number": ("long", True)}
    strict = call("PUT", "tables/flexible", json={**table, "schemaMode": "strict"})
    assert strict.json()["message"] == "The table has columns that its schema lacks: number"
    run({"type": "delete_data", "deleteAll": True, "target": {"type": "table", "tableName": "flexible"}})
    left = [column["name"] for column in call("GET", "tables/flexible").json()["queryableSchema"]]
    assert left == ["city", "__time"]


@pytest.mark.parametrize(
    ("kind", "expression", "stored"),
    [
        ("double", '"count"', 7.0),
        ("float", '"count"', 7.0),
        ("string", '"count"', "7"),
        ("long", '"count" * 1.3', 9),
        ("long", "NULL", None),
        ("bigint", '"count"', 7),
        ("varchar", '"city"', "Oslo"),
        ("long", '"city"', "has the type long, and the value is a string"),
        ("json", '"city"', "has the type json, and the value is a string"),
    ],
)
def test_a_value_gets_the_type_of_its_declared_column_or_is_refused(tables, kind, expression, stored):
    create, run, query, _ = tables
    create("typed", schema=columns(value=kind))
    job = run(load_of("typed", ROW, value=expression))
    if "message" in job:
        assert str(stored) in job["message"]
    else:
        assert query('SELECT "value" FROM "typed"') == [{"value": stored}]


def test_the_types_of_an_emptied_table_may_change(tables):
    create, run, query, call = tables
    create("reborn", schema=columns(value="long"))
    run(load_of("reborn", ROW, value='"count"'))
    run({"type": "delete_data", "deleteAll": True, "target": {"type": "table", "tableName": "reborn"}})
    table = call("GET", "tables/reborn").json()
    assert call("PUT", "tables/reborn", json={**table, "schema": columns(value="string")}).status_code == 200
    assert query('SELECT "value" FROM "reborn"') == []
    run(load_of("reborn", ROW, value='"city"'))
    assert query('SELECT "value" FROM "reborn"') == [{"value": "Oslo"}]


@pytest.mark.parametrize(
    "resolution",
    [
        {"timeResolution": "thirty_minute"},
        {"queryGranularity": {"type": "simple", "granularity": "thirty_minute"}},
        {"queryGranularity": {"type": "period", "period": "PT30M", "timeZone": "UTC"}, "timeResolution": "day"},
    ],
    ids=["timeResolution", "simple", "period"],
)
def test_an_aggregate_table_cuts_its_timestamps(tables, resolution):
    create, run, query, _ = tables
    create("halves", "aggregate", schema=roles(city=("dimension", "string"), hits=("measure", "long")), **resolution)
    job = run(load_of("halves", *HOURS, city='"city"', hits='SUM("count")'))
    assert job["executionStatus"] == "completed", job
    found = query('SELECT TIME_FORMAT(__time, \'HH:mm\') AS t, "hits" FROM "halves" ORDER BY 1')
    assert found == [{"t": "10:00", "hits": 2}, {"t": "10:30", "hits": 1}]


def test_an_aggregate_table_without_measures_rolls_up(tables):
    create, run, query, _ = tables
    create("places", "aggregate", timeResolution="hour")
    run(load_of("places", *HOURS, city='"city"'))
    assert query('SELECT COUNT(*) AS n FROM "places"') == [{"n": 1}]


def test_a_dimension_cannot_be_aggregated(tables):
    create, run, _, _ = tables
    create("typed", "aggregate", schema=roles(city=("dimension", "string")))
    spec = load_of("typed", ROW, city='MAX("city")')
    spec["mappings"][1]["isAggregation"] = True
    assert run(spec)["message"] == "The column 'city' of the table is no measure"


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        ({"type": "period", "period": "P30D"}, ["2026-11-01", "2027-01-01"]),
        ({"type": "period", "period": "P9999Y"}, ["2020-01-01", "2026-11-01", "2027-01-01"]),
        ({"type": "intervals", "intervals": ["2020-01-01/2020-02-01"]}, ["2020-01-01", "2027-01-01"]),
        (
            {"type": "intervals", "intervals": ["2020-01-01/2020-02-01"], "period": "P30D"},
            ["2020-01-01", "2026-11-01", "2027-01-01"],
        ),
        (None, ["2020-01-01", "2026-11-01", "2027-01-01"]),
    ],
    ids=["period", "long period", "intervals", "both", "none"],
)
def test_rows_that_no_policy_retains_are_dropped_and_only_a_query_says_so(tables, moved_clock, policy, left):
    moved_clock.time = 1_794_700_800.0  # 2026-11-15
    create, run, query, call = tables
    create("kept", storagePolicy={"retain": policy})
    days = ("2020-01-01", "2026-11-01", "2027-01-01")
    job = run(load_of("kept", *({"timestamp": day} for day in days)))
    assert (job["executionStatus"], job["health"]) == ("completed", {"status": "ok"})
    totals = call("GET", f"jobs/{job['id']}/metrics").json()["totals"]
    assert totals == {"numRowsProcessed": 3, "numRowsSkippedByError": 0, "numRowsPersisted": 3}
    found = query("SELECT TIME_FORMAT(__time, 'yyyy-MM-dd') AS d FROM \"kept\" ORDER BY 1")
    assert [row["d"] for row in found] == left
    assert call("GET", "tables/kept").json()["totalRows"] == len(left)


def test_rows_expire_as_time_passes_and_do_not_come_back(tables, moved_clock):
    moved_clock.time = 1_794_700_800.0  # 2026-11-15
    create, run, query, call = tables
    create("kept", storagePolicy={"retain": {"type": "period", "period": "P30D"}})
    run(load_of("kept", ROW))
    count = 'SELECT COUNT(*) AS n FROM "kept"'
    assert query(count) == [{"n": 1}]
    moved_clock.time += 17 * 86400
    assert query(count) == [{"n": 0}]
    table = call("GET", "tables/kept").json()
    assert (table["totalRows"], table["availability"]) == (0, "available")
    longer = {**table, "storagePolicy": {"retain": {"type": "period", "period": "P1Y"}}}
    assert call("PUT", "tables/kept", json=longer).status_code == 200
    assert query(count) == [{"n": 0}]


def test_a_partition_is_dropped_as_a_whole(tables, moved_clock):
    moved_clock.time = 1_794_700_800.0  # 2026-11-15
    create, run, query, _ = tables
    policy = {"retain": {"type": "period", "period": "P10D"}}
    create("months", partitioningGranularity="month", storagePolicy=policy)
    create("days", partitioningGranularity="day", storagePolicy=policy)
    for name in ("months", "days"):
        run(load_of(name, ROW))
    counts = [query(f'SELECT COUNT(*) AS n FROM "{name}"') for name in ("months", "days")]  # noqa: S608
    assert counts == [[{"n": 1}], [{"n": 0}]]
