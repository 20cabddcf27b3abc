"""The local Polaris reads the table that a query writes to by itself, as Druid does."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.api.job_spec import sql_target
from airflow_provider_polaris.local.engine.sql.queries import target_of
from tests.support.specs import SQL


@pytest.mark.parametrize(
    ("query", "table"),
    [
        ("INSERT INTO plain SELECT 1", "plain"),
        ('INSERT INTO "quoted" SELECT 1', "quoted"),
        ('INSERT INTO "quo""ted" SELECT 1', 'quo"ted'),
        ('INSERT INTO "with.dot" SELECT 1', "with.dot"),
        ("insert into druid.named SELECT 1", "named"),
        ('INSERT INTO "druid"."named" SELECT 1', "named"),
        ("INSERT INTO druid . named SELECT 1", "named"),
        ("INSERT INTO t(a) SELECT 1", "t"),
        ("INSERT INTO /* x */ t SELECT 1", "t"),
        ("INSERT INTO -- x\n t SELECT 1", "t"),
        ('INSERT/**/INTO"t"SELECT 1', "t"),
        ("/* a /* b */ -- c\n\treplace  into t OVERWRITE ALL SELECT 1", "t"),
        ('INSERT INTO "insert" SELECT 1', "insert"),
        ("INSERT INTO größe SELECT 1", "größe"),
        ("INSERT INTO t", "t"),
    ],
)
def test_the_local_polaris_reads_the_same_target_as_the_provider(query, table):
    assert target_of(query) == table
    if " . " not in query:  # the provider reads no blanks around the dot
        assert sql_target(query) == table


@pytest.mark.parametrize(
    "query",
    [
        None,
        1,
        "",
        "SELECT 1",
        "INSERT",
        "INSERT INTO",
        "INSERT t",
        "INSERTINTO t",
        "-- INSERT INTO t",
        "/* INSERT INTO t",
        "INSERT INTO /* t",
        "INSERT INTO SELECT 1",
        'INSERT INTO "" SELECT 1',
        'INSERT INTO "t SELECT 1',
        "INSERT INTO 't' SELECT 1",
        "INSERT INTO 1t SELECT 1",
        '"INSERT" INTO t SELECT 1',
        "INSERT INTO sys.servers SELECT 1",
        "INSERT INTO druid.a.b SELECT 1",
    ],
)
def test_a_query_that_writes_to_no_table_has_no_target(query):
    assert target_of(query) is None


@pytest.mark.parametrize(
    ("query", "table"),
    [
        ("INSERT INTO plain SELECT 1", "plain"),
        ('/* a /* comment */ -- and another\n replace  into "quo""ted" OVERWRITE ALL SELECT 1', 'quo"ted'),
        ("  insert into druid.named SELECT 1", "named"),
    ],
)
def test_an_sql_job_shows_the_target_of_its_query(hook, query, table):
    assert hook.create_job({"type": "sql", "createTableIfNotExists": True, "query": query}).table == table


@pytest.mark.parametrize("target", ["foo", {"x": 1}, {"type": "table", "tableName": [1]}, {"tableName": "other"}])
def test_an_sql_job_ignores_a_target_beside_its_query(own_polaris, target):
    _, call = own_polaris
    job = call("POST", "jobs", json={**SQL, "target": target}).json()
    assert job["target"] == {"type": "table", "tableName": "by_sql"}
    assert call("GET", "tables/other").status_code == 404
