"""Queries of Druid SQL: what they return, and what they are refused for."""

from __future__ import annotations

import json

import pytest

from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.local.engine.query import querying, results
from tests.support.local_calls import caller_of, status_of
from tests.support.specs import SPEC, rows, spec_of

ORDERS = rows(
    {"timestamp": "2026-11-01T10:00:00Z", "count": 3, "amount": 1.5},
    {"timestamp": "2026-11-01T11:00:00Z", "count": 1, "amount": None},
    {"timestamp": "2026-11-02T10:00:00.5Z", "count": 3, "amount": 2.5},
)
TIME = SPEC["mappings"][0]
JOINED = """
    SELECT a."count", b.n FROM orders AS a
    JOIN (SELECT "count", COUNT(*) AS n FROM orders GROUP BY 1) AS b ON a."count" = b."count" WHERE a."amount" IS NULL
"""
COLUMNS_OF_ORDERS = """
    SELECT COLUMN_NAME AS c, DATA_TYPE AS t, ORDINAL_POSITION AS n FROM INFORMATION_SCHEMA.COLUMNS
    WHERE TABLE_NAME = 'orders' ORDER BY ORDINAL_POSITION
"""


def loaded(call, wait_until):
    """Load orders (three rows). Return a function that sends a query."""
    columns = [TIME, *({"columnName": name, "expression": f'"{name}"'} for name in ("count", "amount"))]
    spec = spec_of(ORDERS, mappings=columns, target={"type": "table", "tableName": "orders"})
    job_id = call("POST", "jobs", json=spec).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "completed")

    def send(text, *parameters, **body):
        if parameters:
            body["parameters"] = [dict(zip(("type", "value"), parameter, strict=True)) for parameter in parameters]
        return call("POST", "query/sql", json={"query": text, **body})

    return send


@pytest.fixture(scope="module")
def query(same_polaris, wait_until):
    """Return a function that sends a query to a Polaris with the tables orders (three rows) and cities (no row)."""
    return loaded(same_polaris[1], wait_until)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('SELECT * FROM "orders" WHERE "amount" = 2.5',
         [{"__time": "2026-11-02T10:00:00.500Z", "count": 3, "amount": 2.5}]),
        ("SELECT COUNT(*) FROM druid.orders", [{"EXPR$0": 3}]),
        ('SELECT SUM("count") AS n, AVG("count") AS a, MAX("amount") AS m FROM orders', [{"n": 7, "a": 2, "m": 2.5}]),
        (
            'SELECT FLOOR(__time TO DAY) AS "day", COUNT(*) AS n FROM orders GROUP BY 1 ORDER BY 1 DESC',
            [{"day": "2026-11-02T00:00:00.000Z", "n": 1}, {"day": "2026-11-01T00:00:00.000Z", "n": 2}],
        ),
        ('SELECT "amount" FROM orders ORDER BY "amount"', [{"amount": None}, {"amount": 1.5}, {"amount": 2.5}]),
        ('SELECT "amount" FROM orders ORDER BY "amount" DESC LIMIT 2 OFFSET 1', [{"amount": 1.5}, {"amount": None}]),
        ('SELECT "count", COUNT(*) AS n FROM orders GROUP BY "count" HAVING COUNT(*) > 1', [{"count": 3, "n": 2}]),
        ('SELECT DISTINCT "count" FROM orders ORDER BY "count"', [{"count": 1}, {"count": 3}]),
        ('SELECT o."count" FROM orders AS o WHERE o."count" < 2', [{"count": 1}]),
        ('SELECT n FROM (SELECT COUNT(*) AS n FROM orders) AS s', [{"n": 3}]),
        ('WITH s AS (SELECT "count" AS c FROM orders), t AS (SELECT MAX(c) AS m FROM s) SELECT m FROM t', [{"m": 3}]),
        ('SELECT 1 AS a UNION ALL SELECT COUNT(*) FROM orders', [{"a": 1}, {"a": 3}]),
        (
            JOINED,
            [{"count": 1, "n": 1}],
        ),
        ('SELECT o."count" FROM orders o LEFT JOIN cities c ON o.__time = c.__time WHERE o."count" = 1',
         [{"count": 1}]),
        ('SELECT COUNT(*) AS n FROM orders WHERE "count" IN (SELECT MAX("count") FROM orders)', [{"n": 2}]),
        ('SELECT (SELECT MIN("count") FROM orders) AS m', [{"m": 1}]),
        ("SELECT * FROM cities", []),
        ("SELECT COUNT(*) AS n FROM cities", [{"n": 0}]),
        ("SELECT ARRAY['a', 'b'] AS x, 1 = 1 AS y, LN(0) AS z", [{"x": '["a","b"]', "y": True, "z": "-Infinity"}]),
        ('SELECT LATEST("count") AS c FROM orders', [{"c": 3}]),
        ("SELECT TABLE_NAME AS t FROM INFORMATION_SCHEMA.TABLES ORDER BY 1", [{"t": "cities"}, {"t": "orders"}]),
        (
            COLUMNS_OF_ORDERS,
            [
                {"c": "__time", "t": "TIMESTAMP", "n": 1},
                {"c": "count", "t": "BIGINT", "n": 2},
                {"c": "amount", "t": "DOUBLE", "n": 3},
            ],
        ),
        ("SELECT COUNT(*) AS n FROM INFORMATION_SCHEMA.SCHEMATA", [{"n": 2}]),
        ("SELECT COUNT(*) AS n FROM orders -- a comment", [{"n": 3}]),
    ],
)  # fmt: skip
def test_a_query_returns_rows(query, text, result):
    answer = query(text)
    assert answer.status_code == 200, answer.text
    assert answer.json() == result


def test_the_sample_of_the_documentation_returns_its_groups(own_polaris, wait_until):
    _, call = own_polaris
    data = rows(*({"timestamp": "2026-11-01", "city": city, "n": n} for city in ("Perth", "Bern") for n in range(10)))
    spec = spec_of(data, target={"type": "table", "tableName": "groups"})
    spec["source"]["inputSchema"] = [
        {"name": name, "dataType": kind} for name, kind in (("timestamp", "string"), ("city", "string"), ("n", "long"))
    ]  # fmt: skip
    spec["mappings"] = [
        TIME,
        {"columnName": "city", "expression": '"city"'},
        {"columnName": "most", "expression": 'MAX("n")', "isAggregation": True},
        {"columnName": "__count", "expression": "COUNT(*)", "isAggregation": True},
    ]
    job_id = call("POST", "jobs", json=spec).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "completed")
    found = call("POST", "query/sql", json={"query": 'SELECT city, most, "__count" FROM groups ORDER BY city'}).json()
    assert found == [{"city": "Bern", "most": 9, "__count": 10}, {"city": "Perth", "most": 9, "__count": 10}]


@pytest.mark.parametrize(
    ("parameters", "result"),
    [
        ([("BIGINT", 2), ("VARCHAR", "it's ? -- ")], {"n": 2, "t": "it's ? -- "}),
        ([("TIMESTAMP", "2026-11-01 10:00:00"), ("DATE", "2026-11-01")],
         {"n": "2026-11-01T10:00:00.000Z", "t": "2026-11-01T00:00:00.000Z"}),
        ([("TIMESTAMP", 1000), ("BOOLEAN", True)], {"n": "1970-01-01T00:00:01.000Z", "t": True}),
        ([("DOUBLE", "1.5"), ("VARCHAR", None)], {"n": 1.5, "t": None}),
    ],
)  # fmt: skip
def test_a_parameter_has_the_place_of_a_question_mark(query, parameters, result):
    answer = query("SELECT ? AS n, ? AS t -- really?", *parameters)
    assert answer.json() == [result]
    assert query("SELECT '?' AS n").json() == [{"n": "?"}]


SELECT = 'SELECT "count" AS "c d", "amount" AS a FROM orders WHERE "count" = 1'


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, '[{"c d":1,"a":null}]\n'),
        ({"resultFormat": "array"}, "[[1,null]]\n"),
        ({"resultFormat": "objectLines"}, '{"c d":1,"a":null}\n\n'),
        ({"resultFormat": "arrayLines"}, "[1,null]\n\n"),
        ({"resultFormat": "csv"}, "1,\n\n"),
        ({"header": True}, '[{"c d":null,"a":null},{"c d":1,"a":null}]\n'),
        ({"header": True, "typesHeader": True, "resultFormat": "objectLines"},
         '{"c d":{"type":"LONG"},"a":{"type":"DOUBLE"}}\n{"c d":1,"a":null}\n\n'),
        ({"header": True, "sqlTypesHeader": True, "resultFormat": "array"},
         '[["c d","a"],["BIGINT","DOUBLE"],[1,null]]\n'),
        ({"header": True, "typesHeader": True, "sqlTypesHeader": True, "resultFormat": "csv"},
         "c d,a\nLONG,DOUBLE\nBIGINT,DOUBLE\n1,\n\n"),
    ],
)  # fmt: skip
def test_each_format_ends_as_documented(query, body, text):
    answer = query(SELECT, **body)
    assert answer.text == text
    kinds = {"csv": "text/csv", "objectLines": "text/plain", "arrayLines": "text/plain"}
    assert answer.headers["Content-Type"].startswith(kinds.get(body.get("resultFormat"), "application/json"))
    assert ("X-Druid-SQL-Header-Included" in answer.headers) == bool(body.get("header"))


def test_a_result_without_rows_is_complete_too(query):
    ends = {"object": "[]\n", "array": "[]\n", "objectLines": "\n", "arrayLines": "\n", "csv": "\n"}
    for result_format, text in ends.items():
        assert query("SELECT 1 AS a FROM cities", resultFormat=result_format).text == text


@pytest.mark.parametrize(
    ("text", "category", "message"),
    [
        ("SELECT", "INVALID_INPUT", "needs a column"),
        ("SELECT (", "INVALID_INPUT", "syntax error"),
        ("SELECT 1 FROM orders AS o (a, b, c)", "UNSUPPORTED", "is not carried out"),
        ("SELECT 1 FROM a.druid.orders", "UNSUPPORTED", "is not carried out"),
        ("", "INVALID_INPUT", "one query"),
        ("SELECT 1; SELECT 2", "INVALID_INPUT", "one query"),
        ("DROP TABLE orders", "INVALID_INPUT", "Only SELECT"),
        ("INSERT INTO orders SELECT 1", "INVALID_INPUT", "Only SELECT"),
        ("SET memory_limit = '1GB'", "INVALID_INPUT", "Only SELECT"),
        ("PRAGMA version", "INVALID_INPUT", ""),
        ("COPY orders TO '/tmp/x'", "INVALID_INPUT", "Only SELECT"),
        ("ATTACH '/tmp/x'", "INVALID_INPUT", ""),
        ("SELECT * FROM none", "INVALID_INPUT", "no table 'none'"),
        ("SELECT * FROM \"Orders\"", "INVALID_INPUT", "no table 'Orders'"),
        ("SELECT * FROM sys.segments", "INVALID_INPUT", "no table 'sys.segments'"),
        ("SELECT * FROM duckdb_settings()", "UNSUPPORTED", "is not carried out"),
        ("SELECT * FROM '/etc/passwd'", "INVALID_INPUT", "no table '/etc/passwd'"),
        ("SELECT * FROM read_csv('/etc/passwd')", "UNSUPPORTED", "is not carried out"),
        ("SELECT typo FROM orders", "INVALID_INPUT", "no column 'typo'"),
        ("SELECT x.__time FROM orders", "INVALID_INPUT", "no table 'x'"),
        ("SELECT o.typo FROM orders o", "INVALID_INPUT", "no column 'o.typo'"),
        ("SELECT __time FROM orders a JOIN orders b ON a.__time = b.__time", "INVALID_INPUT", "more than one table"),
        ("SELECT 1 FROM orders, orders", "INVALID_INPUT", "Two tables have the name"),
        ("SELECT 1 FROM orders a LEFT JOIN orders b", "INVALID_INPUT", "needs ON"),
        ("SELECT 1 FROM orders a INNER JOIN orders b", "INVALID_INPUT", "needs ON"),
        ("SELECT NOW()", "INVALID_INPUT", "no function 'NOW'"),
        ("SELECT *", "INVALID_INPUT", "needs a table"),
        ('SELECT "count", COUNT(*) FROM orders', "INVALID_INPUT", "must appear in the GROUP BY"),
        ("SELECT 1 FROM orders ORDER BY 2", "INVALID_INPUT", "no column number 2"),
        ("SELECT 1 FROM orders WHERE COUNT(*) > 1", "INVALID_INPUT", "cannot contain an aggregation"),
        ("SELECT ABS('x')", "INVALID_INPUT", "The SQL has a fault"),
        ("SELECT 1 FROM orders LIMIT -1", "INVALID_INPUT", "LIMIT takes a whole number"),
        ("SELECT a FROM (SELECT 1 AS a UNION ALL SELECT 2) AS s", "INVALID_INPUT", "only at the top level"),
        ("SELECT 1 UNION SELECT 2", "INVALID_INPUT", "only UNION ALL"),
        ("SELECT 1 UNION ALL SELECT 1, 2", "INVALID_INPUT", "same number of columns"),
        ("SELECT ? AS a", "INVALID_INPUT", "1 question marks, and 0 parameters"),
        ("SELECT SUM(1) OVER ()", "UNSUPPORTED", "is not carried out"),
        ("SELECT 1 FROM orders TABLESAMPLE (1)", "UNSUPPORTED", "is not carried out"),
        ('SELECT "count" * 9223372036854775807 FROM orders', "RUNTIME_FAILURE", "Overflow"),
    ],
)  # fmt: skip
def test_a_query_without_a_result_says_why(query, text, category, message):
    answer = query(text)
    body = answer.json()
    assert (body["category"], answer.status_code) == (
        category, {"INVALID_INPUT": 400, "UNSUPPORTED": 501, "RUNTIME_FAILURE": 500}[category]
    )  # fmt: skip
    assert set(body) == {"error", "errorCode", "persona", "category", "errorMessage", "context"}
    assert message in body["errorMessage"]
    assert "6f7264657273" not in body["errorMessage"], "names are those of Druid, not those of DuckDB"
    assert "\n" not in body["errorMessage"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "an object with a query"),
        ({"query": 1}, "an object with a query"),
        ({"query": "SELECT 1", "resultFormat": "xml"}, "resultFormat must be one of object, array"),
        ({"query": "SELECT 1", "header": "yes"}, "true or false"),
        ({"query": "SELECT 1", "typesHeader": True}, "need header"),
        ({"query": "SELECT 1", "context": []}, "context must be an object"),
        ({"query": "SELECT ?", "parameters": [1]}, "parameters must be a list"),
        ({"query": "SELECT ?", "parameters": [{"type": "BIGINT", "value": "x"}]}, "'x' is no BIGINT"),
    ],
)
def test_an_invalid_request_is_refused(same_polaris, body, message):
    _, call = same_polaris
    answer = call("POST", "query/sql", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["errorMessage"]


def test_a_key_without_the_permission_gets_a_403(own_polaris):
    polaris, call = own_polaris
    polaris.permissions = polaris.permissions - {"AccessQueries"}
    assert call("POST", "query/sql", json={"query": "SELECT 1"}).status_code == 403


def test_rows_that_only_a_script_has_counted_are_not_faked(own_polaris, wait_until):
    polaris, call = own_polaris
    polaris.next_job("complete", metrics={"numRowsPersisted": 7})
    job_id = call("POST", "jobs", json={"type": "sql", "query": "INSERT INTO cities SELECT 1"}).json()["id"]
    assert wait_until(lambda: call("GET", f"jobs/{job_id}").json()["executionStatus"] == "completed")
    answer = call("POST", "query/sql", json={"query": "SELECT COUNT(*) FROM cities"})
    assert (answer.status_code, answer.json()["category"]) == (501, "UNSUPPORTED")
    assert "whose rows a script or a test has counted" in answer.json()["errorMessage"]


def test_a_query_that_takes_too_long_ends(query, monkeypatch):
    monkeypatch.setattr(querying, "LIMIT_SECONDS", 0.3)
    crossed = ", ".join(f"orders o{number}" for number in range(25))
    answer = query(f'SELECT SUM(o0."count") FROM {crossed}')  # noqa: S608 - a query of the test
    assert (answer.status_code, answer.json()["category"]) == (504, "TIMEOUT")
    assert query("SELECT 1 AS a").json() == [{"a": 1}]


def test_a_deletion_deletes_the_rows_of_the_query_too(own_polaris, wait_until):
    polaris, call = own_polaris
    query = loaded(call, wait_until)
    target = {"type": "table", "tableName": "orders", "intervals": ["2026-11-01/P1D"]}
    job_id = call("POST", "jobs", json={"type": "delete_data", "target": target}).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "completed")
    assert query("SELECT COUNT(*) AS n FROM orders").json() == [{"n": 1}]
    polaris.remove_table("orders")
    assert query("SELECT COUNT(*) AS n FROM orders").status_code == 400


@pytest.mark.parametrize("result_format", results.FORMATS)
def test_a_large_result_is_sent_in_parts(result_format):
    rows = [(number,) for number in range(30_000)]
    parts = list(results.written(rows, ["n"], ["BIGINT"], result_format, results.Header()))
    assert 2 < len(parts) < 10
    assert all(len(part) >= results.PART for part in parts[:-1])


def test_a_large_result_arrives_complete(query):
    crossed = ", ".join(f"orders o{number}" for number in range(10))
    answer = query(f'SELECT o0."count" AS c FROM {crossed}', resultFormat="objectLines")  # noqa: S608 - as above
    lines = answer.text.split("\n")
    assert len(lines) == 3**10 + 2
    assert json.loads(lines[0]).keys() == {"c"}
    assert lines[-2:] == ["", ""]


def test_a_table_that_is_dropped_during_a_query_is_still_read(own_polaris, wait_until, monkeypatch):
    polaris, call = own_polaris
    query = loaded(call, wait_until)
    source_of = querying.source_of

    def drop_then(*args):
        source = source_of(*args)
        polaris.remove_table("orders")
        return source

    monkeypatch.setattr(querying, "source_of", drop_then)
    assert query("SELECT COUNT(*) AS n FROM orders").json() == [{"n": 3}]


def test_a_query_that_needs_more_memory_than_there_is_says_so(wait_until):
    with LocalPolaris(memory="50MB") as polaris:
        polaris.add_table("cities")
        query = loaded(caller_of(polaris), wait_until)
        crossed = ", ".join(f"orders o{number}" for number in range(14))
        answer = query(f"SELECT ARRAY_AGG(o0.__time) AS a FROM {crossed}")  # noqa: S608 - a query of the test
        assert (answer.status_code, answer.json()["category"]) == (429, "CAPACITY_EXCEEDED")
        assert query("SELECT COUNT(*) AS n FROM orders").json() == [{"n": 3}]
