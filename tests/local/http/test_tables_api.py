"""Tables are listed, created and updated."""

from __future__ import annotations

import pytest

from tests.support.local_calls import caller_of
from tests.support.specs import T, load_of

DAY = {"type": "dimension", "name": "day", "dataType": "string"}
HITS = {"type": "measure", "name": "hits", "dataType": "long"}
RETAINED = {"retain": {"type": "period", "period": "P3M"}, "cached": None}


def detail(name, **fields):
    return {"type": "detail", "name": name, **fields}


def aggregate(name, **fields):
    return {"type": "aggregate", "name": name, **fields}


def column(name, kind="string"):
    return {"name": name, "dataType": kind}


@pytest.fixture
def tables(call):
    """Return a function that creates a table of a local Polaris, and raw requests to it."""

    def create(body):
        answer = call("POST", "tables", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return create, call


@pytest.mark.parametrize("query", ["partitioningGranularity=Day", "segmentCount=-1", "segmentCount=x"])
def test_an_invalid_filter_of_the_tables_is_a_400(call, query):
    answer = call("GET", f"tables?{query}")
    assert (answer.status_code, answer.json()["target"]) == (400, query.partition("=")[0])


def test_a_table_is_created_with_its_fields_and_their_defaults(tables):
    create, call = tables
    answer = call("POST", "tables", json=detail("plain/a"))
    assert answer.headers["Location"].endswith("/tables/plain%2Fa")
    table = answer.json()
    assert table == call("GET", "tables/plain%2Fa").json()
    chosen = ("version", "schemaMode", "partitioningGranularity", "schema", "queryableSchema", "totalRows")
    assert [table[name] for name in chosen] == [0, "flexible", "day", [], [], 0]
    body = aggregate(
        "hits",
        description="Hits by day",
        schemaMode="strict",
        partitioningGranularity="month",
        clusteringColumns=["day"],
        schema=[{"type": "dimension", "name": "__time", "dataType": "timestamp"}, DAY, HITS],
        storagePolicy=RETAINED,
        timeResolution="hour",
    )
    assert body.items() <= create(body).items()
    summary = next(one for one in call("GET", "tables").json()["values"] if one["name"] == "hits")
    assert (summary["schemaMode"], summary["storagePolicy"]) == ("strict", RETAINED)


def test_a_second_table_of_a_name_is_a_409(tables):
    create, call = tables
    create(detail("twice"))
    answer = call("POST", "tables", json=aggregate("twice"))
    assert (answer.status_code, answer.json()["code"]) == (409, "Conflict")
    assert call("GET", "tables/twice").json()["type"] == "detail"


FAULTS = [
    ({}, "type"),
    ([], ""),
    (detail(""), "name"),
    (detail("x" * 256), "name"),
    ({"type": "detail"}, "name"),
    ({"type": "view", "name": "x"}, "type"),
    (detail("x", version=1), "version"),
    (detail("x", description="d" * 1001), "description"),
    (detail("x", schemaMode="loose"), "schemaMode"),
    (detail("x", partitioningGranularity="week"), "partitioningGranularity"),
    (detail("x", partitioningGranularity="Day"), "partitioningGranularity"),
    (detail("x", schema=[{"name": "a"}]), "schema[0].dataType"),
    (detail("x", schema=[column("a", "text")]), "schema[0].dataType"),
    (detail("x", schema=[column("a"), column("a")]), "schema[1].name"),
    (detail("x", schema=[column("a", "timestamp")]), "schema[0].dataType"),
    (detail("x", schema=[column("__time", "string")]), "schema[0].dataType"),
    (detail("x", clusteringColumns=["none"]), "clusteringColumns[0]"),
    (aggregate("x", schema=[column("a")]), "schema[0].type"),
    (aggregate("x", schema=[{**HITS, "dataType": "json"}]), "schema[0].dataType"),
    (aggregate("x", schema=[HITS], clusteringColumns=["hits"]), "clusteringColumns[0]"),
    (aggregate("x", timeResolution="decade"), "timeResolution"),
    (aggregate("x", timeResolution="all"), "timeResolution"),
    (aggregate("x", queryGranularity={"type": "period", "period": "1 day"}), "queryGranularity.period"),
    (
        aggregate("x", queryGranularity={"type": "period", "period": "P1D", "timeZone": "Asia/Tokyo"}),
        "queryGranularity.timeZone",
    ),
    (detail("x", storagePolicy={"retain": {"type": "period"}}), "storagePolicy.retain.period"),
    (detail("x", storagePolicy={"cached": {"type": "period", "period": "3M"}}), "storagePolicy.cached.period"),
    (
        detail("x", storagePolicy={"retain": {"type": "intervals", "intervals": ["2026-11-01"]}}),
        "storagePolicy.retain.intervals[0]",
    ),
]


@pytest.mark.parametrize(("body", "target"), FAULTS, ids=[f"{n}-{target}" for n, (_, target) in enumerate(FAULTS)])
def test_a_table_that_is_invalid_is_a_400_and_is_not_created(tables, body, target):
    _, call = tables
    answer = call("POST", "tables", json=body)
    assert (answer.status_code, answer.json().get("target", "")) == (400, target)
    assert call("GET", "tables").json() == {"values": []}


def test_tables_are_json_and_need_a_permission_of_their_own(own_polaris):
    polaris, call = own_polaris
    assert call("POST", "tables", data="x", headers={"Content-Type": "text/plain"}).status_code == 415
    polaris.permissions = ("ViewTables",)
    assert call("GET", "tables/cities").status_code == 200
    for method, path in (("POST", "tables"), ("PUT", "tables/cities")):
        answer = call(method, path, json=detail("cities", version=0))
        assert (answer.status_code, "ManageTables" in answer.json()["message"]) == (403, True)


def test_an_update_needs_the_version_that_the_table_has(tables):
    create, call = tables
    created = create(detail("moving", description="old", clusteringColumns=[]))
    assert call("PUT", "tables/moving", json=detail("moving")).json()["target"] == "version"
    changed = call("PUT", "tables/moving", json={**created, "description": "new"}).json()
    assert (changed["version"], changed["description"], changed["id"]) == (1, "new", created["id"])
    late = call("PUT", "tables/moving", json={**created, "description": "late"})
    assert (late.status_code, late.json()["target"]) == (409, "version")
    again = call("PUT", "tables/moving", json=detail("moving", version=1)).json()
    assert (again["version"], "description" in again) == (2, False)  # the whole payload counts
    assert call("PUT", "tables/none", json=detail("none", version=0)).status_code == 404


@pytest.mark.parametrize(
    ("change", "target"),
    [({"name": "other"}, "name"), ({"type": "aggregate"}, "type"), ({"partitioningGranularity": "week"}, None)],
)
def test_name_and_type_of_a_table_cannot_be_changed(tables, change, target):
    create, call = tables
    answer = call("PUT", "tables/fixed", json={**create(detail("fixed")), **change})
    assert (answer.status_code, answer.json()["target"]) == (400, target or "partitioningGranularity")


def test_columns_can_be_added_at_any_time_and_changed_only_while_the_table_is_empty(tables, wait_until):
    create, call = tables
    table = create(detail("cities2", schema=[column("city"), column("note")]))
    changed = call("PUT", "tables/cities2", json={**table, "schema": [column("city"), column("note", "long")]})
    assert changed.json()["schema"][1] == column("note", "long")
    job = call("POST", "jobs", json=load_of("cities2", {"timestamp": T, "city": "Oslo"}, city='"city"')).json()
    assert wait_until(lambda: call("GET", f"jobs/{job['id']}/status").json()["executionStatus"] == "completed")
    table = call("GET", "tables/cities2").json()
    for schema, message in (
        ([column("city")], "'note' can be removed only"),
        ([column("city"), column("note")], "'note' can be changed only"),
    ):
        answer = call("PUT", "tables/cities2", json={**table, "schema": schema})
        assert (answer.status_code, message in answer.json()["message"]) == (400, True)
    more = [*table["schema"], column("more", "double")]
    answer = call("PUT", "tables/cities2", json={**table, "schema": more})
    assert (answer.json()["schema"], answer.json()["totalRows"]) == (more, 1)
    found = call("POST", "query/sql", json={"query": 'SELECT "city", "note", "more" FROM "cities2"'})
    assert found.json() == [{"city": "Oslo", "note": None, "more": None}]


def test_a_job_that_is_not_over_keeps_the_columns_as_they_are(own_polaris):
    polaris, call = own_polaris
    table = call("POST", "tables", json=detail("busy", schema=[column("city")])).json()
    polaris.add_job(executionStatus="running", target={"type": "table", "tableName": "busy"})
    answer = call("PUT", "tables/busy", json={**table, "schema": []})
    assert (answer.status_code, answer.json()["target"]) == (400, "schema")


def test_two_servers_do_not_share_the_defaults_of_a_table(own_polaris, polaris):
    _, call = own_polaris
    call("POST", "tables", json=detail("mine", schema=[column("city")], clusteringColumns=["city"]))
    other = caller_of(polaris)("POST", "tables", json=detail("others")).json()
    assert (other["schema"], other["clusteringColumns"]) == ([], [])
