"""Hostile SQL reads no file and no setting, changes nothing, and takes neither the server's memory nor its time."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.local.engine.data.database import Database


@pytest.mark.parametrize(
    "text",
    [
        "REPEAT('x', 2000000000)",
        "REPEAT('x', 1000000000000)",
        "REPEAT(REPEAT('x', 30000), 30000)",
        "LPAD('a', 2000000000, 'b')",
        "RPAD('a', 2000000000)",
        "REPLACE(REPEAT('a', 100000), 'a', REPEAT('b', 100000))",
        "REPEAT('a', 4000000) || 'b'",
        "CONCAT(REPEAT('a', 4000000), 'b')",
        "TEXTCAT(REPEAT('a', 4000000), 'b')",
    ],
)
def test_an_expression_makes_no_very_long_text(own_polaris, text):
    _, call = own_polaris
    answer = call("POST", "query/sql", json={"query": f"SELECT LENGTH({text}) AS n"})
    assert "more than 4,000,000 characters" in answer.json()["errorMessage"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/hostile.csv'",
        "ATTACH '/tmp/hostile.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET memory_limit = '9GB'",
        "RESET memory_limit",
    ],
)
def test_the_database_itself_reaches_nothing_either(tmp_path, statement):
    """Should a text of a user ever reach DuckDB, it still finds the doors closed."""
    import duckdb

    database = Database(lambda: tmp_path)
    with database.cursor() as cursor, pytest.raises(duckdb.Error):
        cursor.execute(statement)
    database.close()
