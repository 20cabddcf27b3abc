"""Each function of Druid that the local Polaris carries out has the result that Druid's documentation gives."""

from __future__ import annotations

import datetime
import math

import pytest

from airflow_provider_polaris.local.engine.data.database import Database
from airflow_provider_polaris.local.engine.sql.druid_functions import (
    AGGREGATES,
    ALIASES,
    NOT_CARRIED_OUT,
    SCALARS,
    VARIADIC,
)
from airflow_provider_polaris.local.engine.sql.druid_names import SqlFault, physical
from airflow_provider_polaris.local.engine.sql.druid_sql import _SPECIAL, SqlNotCarriedOut, translate_expression


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


#: The columns of two rows, each as DuckDB writes it.
COLUMNS = {
    "a": ("7", "1"),
    "d": ("CAST(2.5 AS DOUBLE)", "CAST(-0.5 AS DOUBLE)"),
    "s": ("'Zürich'", "'Bern'"),
    "n": ("CAST(NULL AS VARCHAR)", "CAST(NULL AS VARCHAR)"),
    "t": ("TIMESTAMP '2026-11-17 10:20:30.456'", "TIMESTAMP '2026-11-01 00:00:00'"),
    "j": ("""CAST('{"a": {"b": [1, 2]}}' AS JSON)""", "CAST('{}' AS JSON)"),
    "City": ("'upper'", "'upper'"),
    "city": ("'lower'", "'lower'"),
    "__time": ("TIMESTAMP '2026-11-17 00:00:00'", "TIMESTAMP '2026-11-18 00:00:00'"),
}


@pytest.fixture(scope="module")
def value_of(tmp_path_factory):
    """Return a function that evaluates an expression for the first row, or aggregates both rows."""
    folder = tmp_path_factory.mktemp("database")
    database = Database(lambda: folder)
    rows = " UNION ALL ".join(
        "SELECT " + ", ".join(f'{values[row]} AS "{physical(name)}"' for name, values in COLUMNS.items())
        for row in (0, 1)
    )
    with database.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE two AS {rows}")

        def evaluate(text):
            translation = translate_expression(text, COLUMNS)
            query = f"SELECT {translation.sql} FROM two LIMIT 1"  # noqa: S608 - translated
            return cursor.execute(query).fetchall()[0][0]

        yield evaluate
    database.close()


SCALAR_RESULTS = {
    "ABS": [("ABS(-27)", 27)],
    "ACOS": [("ACOS(1)", 0.0), ("ACOS(2)", math.nan)],
    "ASIN": [("ASIN(0)", 0.0)],
    "ATAN": [("ATAN(0)", 0.0)],
    "ATAN2": [("ATAN2(0, 1)", 0.0)],
    "ARRAY_APPEND": [("ARRAY_APPEND(ARRAY[1], 2)", [1, 2])],
    "ARRAY_CONCAT": [("ARRAY_CONCAT(ARRAY[1], ARRAY[2])", [1, 2])],
    "ARRAY_CONTAINS": [
        ("ARRAY_CONTAINS(ARRAY[1, 2], 2)", True),
        ("ARRAY_CONTAINS(ARRAY[1, 2], ARRAY[1, 2])", True),
        ("ARRAY_CONTAINS(ARRAY[1, 2], ARRAY[3])", False),
    ],
    "ARRAY_LENGTH": [("ARRAY_LENGTH(ARRAY['a', 'b'])", 2)],
    "ARRAY_OFFSET": [("ARRAY_OFFSET(ARRAY[5, 6], 1)", 6), ("ARRAY_OFFSET(ARRAY[5, 6], 2)", None)],
    "ARRAY_ORDINAL": [("ARRAY_ORDINAL(ARRAY[5, 6], 1)", 5), ("ARRAY_ORDINAL(ARRAY[5, 6], 0)", None)],
    "ARRAY_OVERLAP": [("ARRAY_OVERLAP(ARRAY[1], ARRAY[1, 2])", True)],
    "ARRAY_PREPEND": [("ARRAY_PREPEND(1, ARRAY[2])", [1, 2])],
    "ARRAY_TO_STRING": [("ARRAY_TO_STRING(ARRAY['a', 'b'], '-')", "a-b")],
    "BITWISE_AND": [("BITWISE_AND(12, 10)", 8)],
    "BITWISE_COMPLEMENT": [("BITWISE_COMPLEMENT(0)", -1)],
    "BITWISE_OR": [("BITWISE_OR(12, 10)", 14)],
    "BITWISE_XOR": [("BITWISE_XOR(12, 10)", 6)],
    "BTRIM": [("BTRIM('  a ')", "a"), ("BTRIM('xax', 'x')", "a")],
    "CEIL": [("CEIL(21.25)", 22), ('CEIL("t" TO HOUR)', at("2026-11-17T11:00"))],
    "COALESCE": [("COALESCE(\"n\", 'x')", "x")],
    "CONCAT": [("CONCAT(\"s\", '-', 1)", "Zürich-1"), ('CONCAT("s", "n")', None)],
    "CONTAINS_STRING": [("CONTAINS_STRING(\"s\", 'ü')", True), ("CONTAINS_STRING(\"s\", 'z')", False)],
    "COS": [("COS(0)", 1.0)],
    "COT": [("COT(1)", 0.6420926159343306)],
    "DATE_TRUNC": [
        ("DATE_TRUNC('month', \"t\")", at("2026-11-01")),
        ("DATE_TRUNC('quarter', \"t\")", at("2026-10-01")),
        ("DATE_TRUNC('week', \"t\")", at("2026-11-16")),
        ("DATE_TRUNC('decade', \"t\")", at("2020-01-01")),
    ],
    "DECODE_BASE64_UTF8": [("DECODE_BASE64_UTF8('WsO8cmljaA==')", "Zürich"), ("DECODE_BASE64_UTF8('*')", None)],
    "DEGREES": [("DEGREES(PI)", 180.0), ("DEGREES(PI())", 180.0)],
    "DIV": [("DIV(7, 2)", 3), ("DIV(7, 0)", None)],
    "EXP": [("EXP(1)", 2.718281828459045)],
    "FLOOR": [("FLOOR(21.25)", 21), ('FLOOR("t" TO DAY)', at("2026-11-17"))],
    "GREATEST": [("GREATEST(1, 3, 2)", 3)],
    "ICONTAINS_STRING": [("ICONTAINS_STRING(\"s\", 'ZÜ')", True)],
    "JSON_KEYS": [("JSON_KEYS(\"j\", '$.a')", ["b"])],
    "JSON_QUERY": [("JSON_QUERY(\"j\", '$.a')", '{"b":[1,2]}')],
    "LEAST": [("LEAST(3, 1, 2)", 1)],
    "LEFT": [('LEFT("s", 2)', "Zü")],
    "LENGTH": [('LENGTH("s")', 6), ("LENGTH('😀a')", 3), ("LENGTH('')", 0)],
    "LN": [("LN(76)", 4.330733340286331), ("LN(0)", -math.inf), ("LN(-1)", math.nan)],
    "LOG10": [("LOG10(76)", 1.8808135922807914)],
    "LOWER": [("LOWER('AÜ')", "aü")],
    "LPAD": [
        ("LPAD('abc', 5)", "  abc"),
        ("LPAD('abc', 2, 'x')", "ab"),
        ("LPAD('abc', 5, '')", "abc"),
        ("LPAD('abc', 5, 'xy')", "xyabc"),
    ],
    "LTRIM": [("LTRIM(' a ')", "a "), ("LTRIM('xax', 'x')", "ax")],
    "MILLIS_TO_TIMESTAMP": [("MILLIS_TO_TIMESTAMP(1000)", at("1970-01-01T00:00:01"))],
    "MOD": [("MOD(78, 10)", 8), ("MOD(78, 0)", None)],
    "MV_TO_ARRAY": [('MV_TO_ARRAY(\'["a", "b"]\')', ["a", "b"]), ('MV_TO_ARRAY("s")', ["Zürich"])],
    "NULLIF": [('NULLIF("a", 7)', None), ('NULLIF("a", 8)', 7)],
    "NVL": [("NVL(\"n\", 'x')", "x")],
    "PARSE_JSON": [("PARSE_JSON('{\"a\": 1}')", '{"a": 1}')],
    "PARSE_LONG": [("PARSE_LONG('12')", 12), ("PARSE_LONG('1.5')", None)],
    "PI": [("PI()", math.pi)],
    "POWER": [("POWER(5, 2)", 25.0), ("POW(5, 2)", 25.0)],
    "RADIANS": [("RADIANS(180)", math.pi)],
    "REGEXP_EXTRACT": [
        ("REGEXP_EXTRACT('ab12', '([a-z]+)([0-9]+)', 2)", "12"),
        ("REGEXP_EXTRACT('ab12', '[0-9]+')", "12"),
        ("REGEXP_EXTRACT('ab', '[0-9]')", None),
    ],
    "REGEXP_LIKE": [("REGEXP_LIKE('ab12', '[0-9]')", True), ("REGEXP_LIKE('ab12', '^[0-9]')", False)],
    "REGEXP_REPLACE": [
        ("REGEXP_REPLACE('ab12', '([a-z]+)([0-9]+)', '$2-$1')", "12-ab"),
        ("REGEXP_REPLACE('a.a', '[.]', '\\$')", "a$a"),
    ],
    "REPEAT": [("REPEAT('ab', 2)", "abab")],
    "REPLACE": [("REPLACE('a.b', '.', '-')", "a-b")],
    "REVERSE": [("REVERSE('abc')", "cba")],
    "RIGHT": [('RIGHT("s", 2)', "ch")],
    "ROUND": [("ROUND(-73.9377670288086, 0)", -74.0), ("ROUND(15, -1)", 20), ("ROUND(2.5)", 3.0)],
    "RPAD": [("RPAD('abc', 5)", "abc  "), ("RPAD('abc', 5, '')", "abc"), ("RPAD('abc', 5, 'xy')", "abcxy")],
    "RTRIM": [("RTRIM(' a ')", " a"), ("RTRIM('xax', 'x')", "xa")],
    "SAFE_DIVIDE": [("SAFE_DIVIDE(7, 0)", None), ("SAFE_DIVIDE(7, 2)", 3)],
    "SIN": [("SIN(0)", 0.0)],
    "SQRT": [("SQRT(25)", 5.0), ("SQRT(-1)", math.nan)],
    "STRPOS": [("STRPOS(\"s\", 'r')", 3), ("STRPOS(\"s\", 'x')", 0)],
    "SUBSTRING": [
        ('SUBSTRING("s", 2, 3)', "üri"),
        ('SUBSTR("s", 5)', "ch"),
        ('SUBSTRING("s" FROM 2 FOR 1)', "ü"),
    ],
    "TAN": [("TAN(0)", 0.0)],
    "TEXTCAT": [("TEXTCAT('a', 'b')", "ab")],
    "TIMESTAMPADD": [('TIMESTAMPADD(DAY, -1, "t")', at("2026-11-16T10:20:30.456"))],
    "TIMESTAMPDIFF": [
        ("TIMESTAMPDIFF(HOUR, TIMESTAMP '2026-11-17 00:00:00', \"t\")", 10),
        ("TIMESTAMPDIFF(DAY, \"t\", TIMESTAMP '2026-11-18 00:00:00')", 0),
    ],
    "TIMESTAMP_TO_MILLIS": [('TIMESTAMP_TO_MILLIS("t")', 1_794_910_830_456)],
    "TIME_CEIL": [
        ("TIME_CEIL(\"t\", 'P1M')", at("2026-12-01")),
        ("TIME_CEIL(TIMESTAMP '2026-11-01 00:00:00', 'P1M')", at("2026-11-01")),
    ],
    "TIME_EXTRACT": [
        ("TIME_EXTRACT(\"t\", 'HOUR')", 10),
        ('EXTRACT(DOW FROM "t")', 2),
        ('EXTRACT(MILLISECOND FROM "t")', 456),
        ('EXTRACT(EPOCH FROM "t")', 1_794_910_830),
        ('EXTRACT(WEEK FROM "t")', 47),
    ],
    "TIME_FLOOR": [
        ("TIME_FLOOR(\"t\", 'PT15M')", at("2026-11-17T10:15")),
        ("TIME_FLOOR(\"t\", 'P1W')", at("2026-11-16")),
        ("TIME_FLOOR(\"t\", 'P3M')", at("2026-10-01")),
        ("TIME_FLOOR(\"t\", 'P1Y', NULL)", at("2026-01-01")),
        ("TIME_FLOOR(TIMESTAMP '1969-12-31 23:00:00', 'P1D')", at("1969-12-31")),
    ],
    "TIME_FORMAT": [
        ('TIME_FORMAT("t")', "2026-11-17T10:20:30.456Z"),
        ("TIME_FORMAT(\"t\", 'dd/MM/yyyy ''at'' HH:mm')", "17/11/2026 at 10:20"),
    ],
    "TIME_IN_INTERVAL": [
        ("TIME_IN_INTERVAL(\"t\", '2026-11-01/P1M')", True),
        ("TIME_IN_INTERVAL(\"t\", '2026-11-01/2026-11-17')", False),
    ],
    "TIME_PARSE": [
        ("TIME_PARSE('2026-11-01T10:00:00Z')", at("2026-11-01T10:00")),
        ("TIME_PARSE('2026-11-01 10:00:00.123456789')", at("2026-11-01T10:00:00.123")),
        ("TIME_PARSE('2026-11-01T10:00:00,5+02:00')", at("2026-11-01T08:00:00.5")),
        ("TIME_PARSE('2026-11-01T10')", at("2026-11-01T10:00")),
        ("TIME_PARSE('2026')", at("2026-01-01")),
        ("TIME_PARSE('2026-02-30')", None),
        ("TIME_PARSE('10:00')", None),
        ("TIME_PARSE('17/11/2026', 'dd/MM/yyyy')", at("2026-11-17")),
        ("TIME_PARSE('x', 'yyyy')", None),
    ],
    "TIME_SHIFT": [("TIME_SHIFT(\"t\", 'P1M', -1)", at("2026-10-17T10:20:30.456"))],
    "TO_JSON_STRING": [('TO_JSON_STRING("j")', '{"a":{"b":[1,2]}}')],
    "TRUNC": [("TRUNCATE(-73.9377670288086, 1)", -73.9), ("TRUNC(-1.9)", -1.0)],
    "TRY_PARSE_JSON": [("TRY_PARSE_JSON('{')", None), ("TRY_PARSE_JSON('[1]')", "[1]")],
    "UPPER": [("UPPER('aü')", "AÜ")],
}
AGGREGATE_RESULTS = {
    "ANY_VALUE": [('ANY_VALUE("City")', "upper"), ('ANY_VALUE("s", 10)', "Zürich")],
    "APPROX_COUNT_DISTINCT": [('APPROX_COUNT_DISTINCT("City")', 1)],
    "APPROX_COUNT_DISTINCT_BUILTIN": [('APPROX_COUNT_DISTINCT_BUILTIN("s")', 2)],
    "APPROX_COUNT_DISTINCT_DS_HLL": [('APPROX_COUNT_DISTINCT_DS_HLL("s")', 2)],
    "APPROX_COUNT_DISTINCT_DS_THETA": [('APPROX_COUNT_DISTINCT_DS_THETA("s")', 2)],
    "APPROX_QUANTILE_DS": [('APPROX_QUANTILE_DS("a", 0.5)', 4.0)],
    "ARRAY_AGG": [('ARRAY_AGG("a")', [7, 1]), ('ARRAY_AGG(DISTINCT "City")', ["upper"])],
    "AVG": [('AVG("a")', 4), ('AVG("d")', 1.0), ('AVG("a") FILTER (WHERE "a" > 1)', 7)],
    "BIT_AND": [('BIT_AND("a")', 1)],
    "BIT_OR": [('BIT_OR("a")', 7)],
    "BIT_XOR": [('BIT_XOR("a")', 6)],
    "COUNT": [
        ("COUNT(*)", 2),
        ('COUNT("n")', 0),
        ('COUNT(DISTINCT "City")', 1),
        ("COUNT(*) FILTER (WHERE \"s\" = '@{}')", 0),
    ],
    "EARLIEST": [('EARLIEST("s")', "Zürich")],
    "EARLIEST_BY": [('EARLIEST_BY("s", "t")', "Bern")],
    "LATEST": [('LATEST("s", 128)', "Bern")],
    "LATEST_BY": [('LATEST_BY("s", "t", 128)', "Zürich")],
    "MAX": [('MAX("a")', 7), ('MAX("t")', at("2026-11-17T10:20:30.456"))],
    "MIN": [('MIN("d")', -0.5)],
    "STDDEV_POP": [('STDDEV_POP("a")', 3.0)],
    "STDDEV_SAMP": [('STDDEV("a")', 4.242640687119285)],
    "STRING_AGG": [("STRING_AGG(\"s\", ', ')", "Zürich, Bern"), ("STRING_AGG(DISTINCT \"City\", ',')", "upper")],
    "SUM": [('SUM("a")', 8), ('SUM("d")', 2.0)],
    "VAR_POP": [('VAR_POP("a")', 9.0)],
    "VAR_SAMP": [('VARIANCE("a")', 18.0)],
}
OTHER_RESULTS = [
    ('"a" / 2', 3),
    ('"a" / 2.0', 3.5),
    ('"a" / 0', None),
    ('"a" % 4', 3),
    ("1 + 2147483647", 2147483648),
    ('-"a" - 1', -8),
    ('"s" || "a"', "Zürich7"),
    ('"City" || "city"', "upperlower"),
    ('"a" IN (1, 7)', True),
    ('"a" BETWEEN 1 AND 6', False),
    ('"a" <> 7 OR NOT "a" < 7 AND TRUE', True),
    ('"n" IS NULL', True),
    ('"n" IS NOT DISTINCT FROM NULL', True),
    ("\"s\" LIKE 'Z%'", True),
    ("'50%' LIKE '50!%' ESCAPE '!'", True),
    ("CASE WHEN \"a\" > 1 THEN 'x' ELSE 'y' END", "x"),
    ("CASE \"a\" WHEN 1 THEN 'x' END", None),
    ('"t" >= TIMESTAMP \'2026-11-17 00:00:00\'', True),
    ('"t" - INTERVAL \'1\' DAY', at("2026-11-16T10:20:30.456")),
    ("CURRENT_TIMESTAMP > \"t\" - INTERVAL '99' YEAR", True),
    ('CURRENT_DATE <= CURRENT_TIMESTAMP', True),
    ("CAST('3.7' AS BIGINT)", 3),
    ("CAST(-3.7 AS BIGINT)", -3),
    ("CAST('9007199254740993' AS BIGINT)", 9007199254740993),
    ("CAST('foo' AS BIGINT)", None),
    ('CAST("t" AS BIGINT)', 1_794_910_830_456),
    ('CAST("t" AS DATE)', at("2026-11-17")),
    ('CAST("a" AS VARCHAR)', "7"),
    ('CAST("a" AS DOUBLE) / 2', 3.5),
    ("CAST('2026-11-01 10:00:00' AS TIMESTAMP)", at("2026-11-01T10:00")),
    ("CAST(1000 AS TIMESTAMP)", at("1970-01-01T00:00:01")),
    ("TRIM(BOTH 'x' FROM 'xax')", "a"),
    ("TRIM(LEADING 'x' FROM 'xax')", "ax"),
    ("TRIM(' a ')", "a"),
    ("POSITION('r' IN \"s\")", 3),
    ("JSON_VALUE(\"j\", '$.a.b[1]')", "2"),
    ("JSON_VALUE(\"j\", '$.a.b[1]' RETURNING BIGINT)", 2),
    ("JSON_VALUE(\"j\", '$.none')", None),
    ('"a" -- a comment', 7),
    ("'it''s; -- \"quoted\"'", "it's; -- \"quoted\""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        *(one for results in SCALAR_RESULTS.values() for one in results),
        *(one for results in AGGREGATE_RESULTS.values() for one in results),
        *OTHER_RESULTS,
    ],
    ids=str,
)
def test_an_expression_has_the_result_of_druid(value_of, expression, result):
    value = value_of(expression)
    if isinstance(result, float):
        assert value == pytest.approx(result, nan_ok=True)
    else:
        assert value == result
        assert (value is None) == (result is None)


def test_each_function_has_a_result():
    """A function without a result here would be a promise that nobody has checked."""
    assert set(SCALAR_RESULTS) == (set(SCALARS) | set(VARIADIC) | set(_SPECIAL)) - {"EARLIEST", "LATEST"}
    assert set(AGGREGATE_RESULTS) == set(AGGREGATES) | {"EARLIEST", "LATEST"}
    assert set(ALIASES.values()) <= set(SCALARS) | set(AGGREGATES)
    assert not NOT_CARRIED_OUT & (set(SCALARS) | set(AGGREGATES) | set(VARIADIC) | set(_SPECIAL) | set(ALIASES))


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("NOT SQL ((", "syntax error near '('"),
        ("MAX(", "syntax error"),
        ("", "It must be one SQL expression, not ''"),
        ('"a"; DROP TABLE x', "one SQL expression"),
        ('"a", "d"', "one SQL expression"),
        ('"a" AS b', "one SQL expression"),
        ("*", "one SQL expression"),
        ('"a" FROM two', "one SQL expression"),
        ('"typo"', "no column 'typo'"),
        ('"CITY"', "no column 'CITY'"),
        ('"two"."a"', "no table 'two'"),
        ('NO_SUCH_FN("city")', "no function 'NO_SUCH_FN'"),
        ('MAX("a", "d")', "MAX takes 1 arguments, not 2"),
        ("COALESCE()", "no arguments"),
        ('SUM(SUM("a"))', "cannot contain an aggregation"),
        ('SUM("a") FILTER (WHERE SUM("a") > 1)', "cannot contain an aggregation"),
        ('ABS("a") FILTER (WHERE TRUE)', "FILTER belongs to an aggregation"),
        ('SUM(DISTINCT "a")', "SUM takes no DISTINCT"),
        ("TIME_IN_INTERVAL(\"t\", 'x')", "no ISO 8601 interval"),
        ("REGEXP_REPLACE('a', 'a', '$')", "number of a group"),
        ("'a\0b'", "null byte"),
        ("(" * 400 + "1" + ")" * 400, "nested too deeply"),
        ("1 + " * 20_000 + "1", "nested too deeply"),
        ("1" * 200_000, "at most 100,000 characters"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_expression_is_a_fault(expression, message):
    with pytest.raises(SqlFault) as caught:
        translate_expression(expression, COLUMNS)
    assert message in str(caught.value)
    assert not isinstance(caught.value, SqlNotCarriedOut)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "expression",
    [
        'DS_HLL("a")',
        "LOOKUP(\"s\", 'x')",
        "(SELECT 1)",
        '"a" IN (SELECT 1)',
        "?",
        'SUM("a") OVER ()',
        'CAST("a" AS VARCHAR ARRAY)',
        "TIME_FLOOR(\"t\", 'P1D', NULL, 'America/Los_Angeles')",
        "TIME_FLOOR(\"t\", 'P2W')",
        "TIME_FLOOR(\"t\", 'P1DT1M1')",
        'TIME_FLOOR("t", "s")',
        "TIME_PARSE(\"s\", 'QQ')",
        'REGEXP_LIKE("s", "s")',
        'EXTRACT(CENTURY FROM "t")',
    ],
)
def test_an_expression_that_is_not_carried_out_says_so(expression):
    with pytest.raises(SqlNotCarriedOut, match=r"is not carried out by the local Polaris$"):
        translate_expression(expression, COLUMNS)


@pytest.mark.parametrize(
    "expression",
    [
        "read_csv('/etc/passwd')",
        "read_text('/etc/passwd')",
        "getenv('HOME')",
        "current_setting('memory_limit')",
        "(FROM duckdb_settings())",
        "EXISTS (SELECT * FROM '/etc/passwd')",
        "pg_read_file('/etc/passwd')",
        "COLUMNS(*)",
        "set_bit('1', 1, 1)",
        "nextval('x')",
        "query('SELECT 1')",
        '"a" COLLATE NOCASE',
        "$1",
        "@a",
        "x -> x",
        "{'a': 1}",
        "TRY_CAST('1' AS INTEGER)",
        "'1'::DATE[]",
        "current_user",
        "version()",
    ],
)
def test_duckdb_never_sees_what_this_project_does_not_know(expression):
    with pytest.raises(SqlFault):
        translate_expression(expression, COLUMNS)
