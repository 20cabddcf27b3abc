"""Queries: typed parameters, whole results, and errors whose category decides on another try."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.dbapi import Connection
from airflow_provider_polaris.api.errors import (
    PolarisForbidden,
    PolarisInvalidResponse,
    PolarisQueryFailed,
    PolarisResponseTooLarge,
    PolarisUnreachable,
    PolarisUsageError,
)
from airflow_provider_polaris.local import LocalPolaris
from tests.support.specs import load_of

ROWS = [
    {"timestamp": "2026-11-01T10:00:00Z", "city": "Zürich", "count": 1},
    {"timestamp": "2026-11-01T11:00:00Z", "city": 'a "quote", a\nbreak', "count": 2},
    {"timestamp": "2026-11-02T10:00:00Z", "city": None, "count": 3},
]
QUERY = "POST .*/query/sql"


@pytest.fixture(scope="module")
def polaris():
    """Yield a local Polaris with the table cities."""
    with LocalPolaris() as polaris:
        yield polaris


@pytest.fixture(scope="module")
def connection(polaris):
    return PolarisConnection.from_values(host=polaris.url, project_id=polaris.project_id, api_key=polaris.api_key)


@pytest.fixture(scope="module", autouse=True)
def _loaded(polaris, connection, wait_until):
    polaris.add_table("cities")
    client = PolarisClient(connection)
    job = client.create_job(load_of("cities", *ROWS, city='"city"', n='"count"'))
    assert wait_until(lambda: client.get_job(job.id).execution_status.is_over)
    client.close()


@pytest.fixture
def client(polaris, connection, moved_clock):
    client = PolarisClient(connection)
    polaris.requests.clear()
    yield client
    polaris.clear_faults()
    client.close()


def test_a_result_has_columns_types_and_rows(client):
    result = client.query('SELECT __time, "city", "n", "n" / 2.0 AS half FROM "cities" ORDER BY __time')
    assert [(column.name, column.sql_type) for column in result.columns] == [
        ("__time", "TIMESTAMP"), ("city", "VARCHAR"), ("n", "BIGINT"), ("half", "DOUBLE")
    ]  # fmt: skip
    assert list(result) == [
        ("2026-11-01T10:00:00.000Z", "Zürich", 1, 0.5),
        ("2026-11-01T11:00:00.000Z", 'a "quote", a\nbreak', 2, 1.0),
        ("2026-11-02T10:00:00.000Z", None, 3, 1.5),
    ]
    assert len(result) == 3
    assert result.dicts()[0] == {"__time": "2026-11-01T10:00:00.000Z", "city": "Zürich", "n": 1, "half": 0.5}


def test_a_result_without_rows_has_its_columns(client):
    result = client.query('SELECT "city" FROM "cities" WHERE "n" > ?', [100])
    assert (len(result), result.columns[0].name, result.dicts()) == (0, "city", [])


@pytest.mark.parametrize(
    ("condition", "parameters", "found"),
    [
        ('"city" = ?', ["Zürich"], [1]),
        ('"city" = ?', ['a "quote", a\nbreak'], [2]),
        ('"city" = ?', ["' OR '1' = '1"], []),
        ('"city" = ?', ['Zürich"; DROP TABLE cities --'], []),
        ('"n" >= ? AND "n" < ?', [2, 3.5], [2, 3]),
        ('"n" = ?', [Decimal("3")], [3]),
        ("? = TRUE", [True], [1, 2, 3]),
        ("__time >= ?", [datetime(2026, 11, 1, 11)], [2, 3]),  # noqa: DTZ001 - without a time zone, it is UTC
        ("__time >= ?", [datetime(2026, 11, 1, 13, tzinfo=timezone(timedelta(hours=2)))], [2, 3]),
        ("__time >= ?", [date(2026, 11, 2)], [3]),
        ("\"city\" = COALESCE(?, 'Zürich')", [None], [1]),
        ('"n" = ?', [{"type": "INTEGER", "value": 2}], [2]),
    ],
)
def test_parameters_have_the_type_of_their_value_and_no_text_is_sql(client, condition, parameters, found):
    result = client.query(f'SELECT "n" FROM "cities" WHERE {condition} ORDER BY 1', parameters)  # noqa: S608
    assert [row[0] for row in result] == found


@pytest.mark.parametrize("parameters", ["text", {"a": 1}, 7, [object()], [float("nan")], [float("inf")], [b"x"], [[1]]])
def test_a_parameter_without_a_type_is_refused_before_anything_is_sent(polaris, client, parameters):
    with pytest.raises(PolarisUsageError):
        client.query("SELECT ?", parameters)
    for sql in ("", " ", None, 7):
        with pytest.raises(PolarisUsageError):
            client.query(sql)
    assert polaris.requests == []


def test_the_context_is_sent(polaris, client):
    client.query("SELECT 1", context={"sqlTimeZone": "UTC"})
    assert polaris.requests[-1].body["context"] == {"sqlTimeZone": "UTC"}


def test_an_invalid_query_fails_at_once_with_its_category(polaris, client):
    with pytest.raises(PolarisQueryFailed, match="There is no column 'typo'") as caught:
        client.query('SELECT "typo" FROM "cities"')
    assert (caught.value.category, caught.value.status, len(polaris.requests)) == ("INVALID_INPUT", 400, 1)
    with pytest.raises(PolarisQueryFailed, match="not carried out") as caught:
        client.query("SELECT DS_HLL(n) FROM cities")
    assert (caught.value.category, caught.value.status) == ("UNSUPPORTED", 501)


def sql_error(category):
    return json.dumps({"error": "druidException", "errorCode": "x", "category": category, "errorMessage": "why"})


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("category", "status", "tries"),
    [
        ("CAPACITY_EXCEEDED", 429, 2),
        ("CAPACITY_EXCEEDED", 503, 2),
        ("CAPACITY_EXCEEDED", 400, 2),
        ("TIMEOUT", 504, 1),
        ("RUNTIME_FAILURE", 500, 1),
        ("CANCELED", 500, 1),
        ("UNCATEGORIZED", 500, 1),
    ],
)
def test_the_category_of_an_error_decides_whether_the_query_is_sent_again(
    polaris, client, category, status, tries, nested
):
    body = sql_error(category)
    body = json.dumps({"error": json.loads(body)}) if nested else body
    polaris.answer_next(1, body=body, status=status, headers={"Content-Type": "application/json"}, match=QUERY)
    if tries == 2:
        assert len(client.query("SELECT 1")) == 1
    else:
        with pytest.raises(PolarisQueryFailed, match="why") as caught:
            client.query("SELECT 1")
        assert caught.value.category == category
    assert len(polaris.requests) == tries


def test_an_outage_is_tried_again_and_ends_in_an_error(polaris, client):
    polaris.fail_next(2, match=QUERY)
    assert len(client.query("SELECT 1")) == 1
    polaris.fail_next(9, match=QUERY)
    with pytest.raises(PolarisUnreachable):
        client.query("SELECT 1")
    polaris.clear_faults()
    polaris.requests.clear()
    polaris.fail_next(1, match=QUERY)
    with pytest.raises(PolarisUnreachable):
        client.query("SELECT 1", retry=False)
    assert len(polaris.requests) == 1


HEAD = '["n"]\n["LONG"]\n["BIGINT"]\n'


@pytest.mark.parametrize(
    "body", ["", "\n", HEAD, f"{HEAD}[1]\n[2]", f"{HEAD}[1]\n[2]\n", f"{HEAD}[1]\n[2\n\n", f'{HEAD}["a\n\n']
)
def test_a_result_that_was_cut_is_never_returned(polaris, client, body):
    polaris.answer_next(1, body=body, headers={"Content-Type": "text/plain"}, match=QUERY)
    assert list(client.query("SELECT 1 AS x")) == [(1,)]
    polaris.answer_next(9, body=body, headers={"Content-Type": "text/plain"}, match=QUERY)
    with pytest.raises(PolarisInvalidResponse):
        client.query("SELECT 1")


@pytest.mark.parametrize(
    "body", [f"{HEAD}[1,2]\n\n", f"{HEAD}7\n\n", '{"n": 1}\n\n', "<html></html>\n\n", "[]\n\n", '["n"]\n\n']
)
def test_a_result_of_another_shape_is_an_invalid_response(polaris, client, body):
    polaris.answer_next(9, body=body, headers={"Content-Type": "text/plain"}, match=QUERY)
    with pytest.raises(PolarisInvalidResponse):
        client.query("SELECT 1")


def test_a_result_that_is_too_large_says_what_to_do(polaris, client, monkeypatch):
    from airflow_provider_polaris.api import query_calls

    monkeypatch.setattr(query_calls, "MAX_RESULT", 100)
    polaris.answer_next(1, body=f"{HEAD}{'[1]' * 100}", headers={"Content-Type": "text/plain"}, match=QUERY)
    with pytest.raises(PolarisResponseTooLarge, match="Let the query return fewer rows"):
        client.query("SELECT 1")


def test_a_key_without_the_permission_is_told_which_one(polaris, client):
    all_of_them = polaris.permissions
    polaris.permissions = ("ManageIngestionJobs",)
    try:
        with pytest.raises(PolarisForbidden, match="give the API key the permission AccessQueries"):
            client.query("SELECT 1")
    finally:
        polaris.permissions = all_of_them


def test_a_cursor_reads_a_result_in_parts(client):
    connection = Connection(client)
    cursor = connection.cursor()
    assert (cursor.description, cursor.rowcount) == (None, -1)
    with pytest.raises(PolarisUsageError):
        cursor.fetchone()
    cursor.execute('SELECT "n" FROM "cities" WHERE "n" > ? ORDER BY 1', [0])
    assert ([one[:2] for one in cursor.description], cursor.rowcount) == ([("n", "BIGINT")], 3)
    assert (cursor.fetchone(), cursor.fetchmany(1), cursor.fetchall(), cursor.fetchone()) == (
        (1,),
        [(2,)],
        [(3,)],
        None,
    )
    assert list(cursor.execute('SELECT "n" FROM "cities" ORDER BY 1')) == [(1,), (2,), (3,)]
    cursor.close()
    connection.commit()
    connection.rollback()
    connection.close()
