"""The tables that a query reads are found among its words."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.assets.sql_tables import tables_read

QUERIES = {
    "SELECT 1": [],
    "SELECT * FROM orders": ["orders"],
    'select * from "Koalas ""all"" Subset"': ['Koalas "all" Subset'],
    'SELECT * FROM druid.orders o, "druid"."users" AS u': ["orders", "users"],
    "SELECT * FROM a JOIN b ON a.x = b.x LEFT OUTER JOIN c USING (x)": ["a", "b", "c"],
    "SELECT * FROM a CROSS JOIN b, c WHERE a.x IN (SELECT x FROM d)": ["a", "b", "c", "d"],
    "SELECT * FROM (SELECT * FROM a UNION ALL SELECT * FROM b) JOIN (c JOIN d USING (x)) USING (x)": [
        "a",
        "b",
        "c",
        "d",
    ],
    "SELECT (SELECT MAX(x) FROM a), f(x, y) FROM b GROUP BY x, y": ["a", "b"],
    "WITH a AS (SELECT * FROM b), c AS (SELECT * FROM a) SELECT * FROM c, d": ["b", "d"],
    'WITH "a" AS (SELECT 1) SELECT * FROM a': [],
    "INSERT INTO t SELECT * FROM a PARTITIONED BY DAY CLUSTERED BY x, y": ["a"],
    "REPLACE INTO t OVERWRITE WHERE __time >= TIMESTAMP '2026-11-01' SELECT * FROM a WHERE x > 1 PARTITIONED BY DAY": [
        "a"
    ],
    "SELECT EXTRACT(DAY FROM __time), TRIM(LEADING ' ' FROM x), SUBSTRING(x FROM 2) FROM a": ["a"],
    "SELECT x IS DISTINCT FROM y, x IS NOT DISTINCT FROM z FROM a": ["a"],
    "SELECT * FROM a -- JOIN b\n /* , c */ WHERE x = 'FROM d' OR y = 'it''s FROM e'": ["a"],
    "SELECT * FROM TABLE(EXTERN('{}', '{}')) EXTEND (a VARCHAR, b VARCHAR)": [],
    "INSERT INTO t SELECT * FROM TABLE(S3(uris => ARRAY['s3://a/b'], format => 'csv')) PARTITIONED BY ALL": [],
    "SELECT * FROM a, UNNEST(MV_TO_ARRAY(a.tags)) AS u (tag), LATERAL (SELECT * FROM b)": ["a", "b"],
    "SELECT * FROM INFORMATION_SCHEMA.TABLES, sys.segments, lookup.country": [],
    "SELECT * FROM a, a AS b": ["a"],
    'SELECT from_, x."from" FROM a ORDER BY 1, 2 LIMIT 3': ["a"],
    "SELECT x, COUNT(*) FILTER (WHERE y) FROM a HAVING COUNT(*) > 1 WINDOW w AS (ORDER BY x)": ["a"],
    "EXPLAIN PLAN FOR SELECT * FROM a": ["a"],
    "SELECT * FROM": [],
    "SELECT * FROM a))) , b": ["a", "b"],
    "((((": [],
    "": [],
}


@pytest.mark.parametrize(("query", "tables"), QUERIES.items())
def test_the_tables_of_a_query_are_found(query, tables):
    assert tables_read(query) == tables


def test_a_long_query_is_read_in_a_moment():
    columns, values = "x, " * 50_000, ", ".join(["1"] * 50_000)
    query = " ".join(["SELECT", columns, "1 FROM a WHERE y IN (", values, ") AND z = '", "z" * 100_000, "'"])
    assert tables_read(query) == ["a"]
