"""The functions of Druid SQL that the local Polaris carries out, each as an expression of DuckDB.

The meaning of each function is that of Druid's documentation ("All Druid SQL functions", "SQL scalar functions" and
"SQL aggregation functions"), with SQL-compatible nulls, which is Druid's default.
``tests/local/engine/sql/test_druid_functions.py`` has a result for each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: By the name of a function and the number of its arguments: an expression of DuckDB. ``{0}`` is the first argument.
Templates = Mapping[str, Mapping[int, str]]


def _one(template: str) -> Mapping[int, str]:
    """Return the templates of a function that takes so many arguments as its template has."""
    return {len(set(re.findall(r"\{\d\}", template))): template}


_LENGTH = "len({0}) + len(regexp_replace({0}, '[\\x{{0}}-\\x{{FFFF}}]', '', 'g'))"

SCALARS: Templates = {
    # Numbers
    "ABS": _one("abs({0})"),
    "ACOS": _one("CASE WHEN abs({0}) > 1 THEN CAST('NaN' AS DOUBLE) ELSE acos({0}) END"),
    "ASIN": _one("CASE WHEN abs({0}) > 1 THEN CAST('NaN' AS DOUBLE) ELSE asin({0}) END"),
    "ATAN": _one("atan({0})"),
    "ATAN2": _one("atan2({0}, {1})"),
    "BITWISE_AND": _one("({0} & {1})"),
    "BITWISE_COMPLEMENT": _one("(~{0})"),
    "BITWISE_OR": _one("({0} | {1})"),
    "BITWISE_XOR": _one("xor({0}, {1})"),
    "CEIL": _one("ceil({0})"),
    "COS": _one("cos({0})"),
    "COT": _one("cot({0})"),
    "DEGREES": _one("degrees({0})"),
    "DIV": _one("({0} // nullif({1}, 0))"),
    "EXP": _one("exp({0})"),
    "FLOOR": _one("floor({0})"),
    "LN": _one(
        "CASE WHEN {0} < 0 THEN CAST('NaN' AS DOUBLE) WHEN {0} = 0 THEN CAST('-inf' AS DOUBLE) ELSE ln({0}) END"
    ),
    "LOG10": _one(
        "CASE WHEN {0} < 0 THEN CAST('NaN' AS DOUBLE) WHEN {0} = 0 THEN CAST('-inf' AS DOUBLE) ELSE log10({0}) END"
    ),
    "MOD": _one("({0} % nullif({1}, 0))"),
    "PI": {0: "pi()"},
    "POWER": _one("power({0}, {1})"),
    "RADIANS": _one("radians({0})"),
    "ROUND": {1: "round({0})", 2: "round({0}, CAST({1} AS INTEGER))"},
    "SAFE_DIVIDE": _one("({0} / nullif({1}, 0))"),
    "SIN": _one("sin({0})"),
    "SQRT": _one("CASE WHEN {0} < 0 THEN CAST('NaN' AS DOUBLE) ELSE sqrt({0}) END"),
    "TAN": _one("tan({0})"),
    "TRUNC": {1: "trunc({0})", 2: "trunc({0}, CAST({1} AS INTEGER))"},
    # Texts
    "BTRIM": {1: "trim({0}, ' ')", 2: "trim({0}, {1})"},
    "CONTAINS_STRING": _one("contains({0}, {1})"),
    "DECODE_BASE64_UTF8": _one("TRY(decode(from_base64({0})))"),
    "ICONTAINS_STRING": _one("contains(lower({0}), lower({1}))"),
    "LEFT": _one("left({0}, CAST({1} AS INTEGER))"),
    "LENGTH": {1: f"({_LENGTH})"},
    "LOWER": _one("lower({0})"),
    "LPAD": {
        2: "druid_lpad({0}, {1}, ' ')",
        3: "druid_lpad({0}, {1}, {2})",
    },
    "LTRIM": {1: "ltrim({0}, ' ')", 2: "ltrim({0}, {1})"},
    "PARSE_LONG": _one("CASE WHEN regexp_full_match({0}, '[+-]?[0-9]+') THEN TRY_CAST({0} AS BIGINT) END"),
    "REPEAT": _one("druid_repeat({0}, {1})"),
    "REPLACE": _one("druid_replace({0}, {1}, {2})"),
    "REVERSE": _one("reverse({0})"),
    "RIGHT": _one("right({0}, CAST({1} AS INTEGER))"),
    "RPAD": {
        2: "druid_rpad({0}, {1}, ' ')",
        3: "druid_rpad({0}, {1}, {2})",
    },
    "RTRIM": {1: "rtrim({0}, ' ')", 2: "rtrim({0}, {1})"},
    "STRPOS": _one("strpos({0}, {1})"),
    "SUBSTRING": {2: "substring({0}, {1})", 3: "substring({0}, {1}, {2})"},
    "TEXTCAT": _one("druid_concat({0}, {1})"),
    "UPPER": _one("upper({0})"),
    # Time
    "MILLIS_TO_TIMESTAMP": _one("make_timestamp(CAST({0} AS BIGINT) * 1000)"),
    "TIMESTAMP_TO_MILLIS": _one("epoch_ms(CAST({0} AS TIMESTAMP))"),
    # Conditions
    "NULLIF": _one("nullif({0}, {1})"),
    "NVL": _one("coalesce({0}, {1})"),
    # Arrays
    "ARRAY_APPEND": _one("list_append({0}, {1})"),
    "ARRAY_CONCAT": _one("list_concat({0}, {1})"),
    "ARRAY_LENGTH": _one("len({0})"),
    "ARRAY_OFFSET": _one("CASE WHEN {1} >= 0 THEN {0}[{1} + 1] END"),
    "ARRAY_ORDINAL": _one("CASE WHEN {1} >= 1 THEN {0}[{1}] END"),
    "ARRAY_OVERLAP": _one("list_has_any({0}, {1})"),
    "ARRAY_PREPEND": _one("list_prepend({0}, {1})"),
    "ARRAY_TO_STRING": _one("array_to_string({0}, {1})"),
    # JSON
    "JSON_KEYS": _one("json_keys({0}, {1})"),
    "JSON_QUERY": _one("json_extract({0}, {1})"),
    "PARSE_JSON": _one("CAST({0} AS JSON)"),
    "TO_JSON_STRING": _one("CAST(to_json({0}) AS VARCHAR)"),
    "TRY_PARSE_JSON": _one("TRY_CAST({0} AS JSON)"),
}

#: The functions that take two arguments or more.
VARIADIC: Mapping[str, str] = {"COALESCE": "coalesce", "GREATEST": "greatest", "LEAST": "least"}

#: ``@`` is the place of a FILTER, which is otherwise the end. An average of whole numbers is a whole number, as in
#: Druid. Distinct values are counted exactly, also by the functions that are approximate in Druid.
AGGREGATES: Templates = {
    "ANY_VALUE": {1: "first({0})", 2: "first({0})", 3: "first({0})"},
    "APPROX_COUNT_DISTINCT": _one("count(DISTINCT {0})"),
    "APPROX_COUNT_DISTINCT_BUILTIN": _one("count(DISTINCT {0})"),
    "APPROX_COUNT_DISTINCT_DS_HLL": {1: "count(DISTINCT {0})", 2: "count(DISTINCT {0})", 3: "count(DISTINCT {0})"},
    "APPROX_COUNT_DISTINCT_DS_THETA": {1: "count(DISTINCT {0})", 2: "count(DISTINCT {0})"},
    "APPROX_QUANTILE_DS": {2: "quantile_cont({0}, {1})", 3: "quantile_cont({0}, {1})"},
    "ARRAY_AGG": {1: "list({0})", 2: "list({0})"},
    "AVG": _one("(sum({0})@ / nullif(count({0})@, 0))"),
    "BIT_AND": _one("bit_and({0})"),
    "BIT_OR": _one("bit_or({0})"),
    "BIT_XOR": _one("bit_xor({0})"),
    "COUNT": _one("count({0})"),
    "EARLIEST_BY": {2: "arg_min({0}, {1})", 3: "arg_min({0}, {1})"},
    "LATEST_BY": {2: "arg_max({0}, {1})", 3: "arg_max({0}, {1})"},
    "MAX": _one("max({0})"),
    "MIN": _one("min({0})"),
    "STDDEV_POP": _one("stddev_pop({0})"),
    "STDDEV_SAMP": _one("stddev_samp({0})"),
    "STRING_AGG": {2: "string_agg({0}, {1})", 3: "string_agg({0}, {1})"},
    "SUM": _one("sum({0})"),
    "VAR_POP": _one("var_pop({0})"),
    "VAR_SAMP": _one("var_samp({0})"),
}
TAKE_DISTINCT = {"COUNT", "ARRAY_AGG", "STRING_AGG"}

#: Other names of functions.
ALIASES: Mapping[str, str] = {
    "CEILING": "CEIL",
    "CHARACTER_LENGTH": "LENGTH",
    "CHAR_LENGTH": "LENGTH",
    "LISTAGG": "STRING_AGG",
    "POW": "POWER",
    "STDDEV": "STDDEV_SAMP",
    "STRLEN": "LENGTH",
    "SUBSTR": "SUBSTRING",
    "TRUNCATE": "TRUNC",
    "VARIANCE": "VAR_SAMP",
}

#: Functions of Druid that the local Polaris does not carry out. Any other name that it does not know is no function.
_NOT_CARRIED_OUT = """
APPROX_QUANTILE APPROX_QUANTILE_FIXED_BUCKETS ARRAY_CONCAT_AGG ARRAY_OFFSET_OF ARRAY_ORDINAL_OF ARRAY_SLICE
ARRAY_TO_MV BITWISE_CONVERT_DOUBLE_TO_LONG_BITS BITWISE_CONVERT_LONG_BITS_TO_DOUBLE BITWISE_SHIFT_LEFT
BITWISE_SHIFT_RIGHT BLOOM_FILTER BLOOM_FILTER_TEST CUME_DIST DECODE_BASE64_COMPLEX DENSE_RANK DS_CDF
DS_GET_QUANTILE DS_GET_QUANTILES DS_HISTOGRAM DS_HLL DS_QUANTILE_SUMMARY DS_QUANTILES_SKETCH DS_RANK DS_THETA
DS_TUPLE_DOUBLES DS_TUPLE_DOUBLES_INTERSECT DS_TUPLE_DOUBLES_METRICS_SUM_ESTIMATE DS_TUPLE_DOUBLES_NOT
DS_TUPLE_DOUBLES_UNION FIRST_VALUE GROUPING HLL_SKETCH_ESTIMATE HLL_SKETCH_ESTIMATE_WITH_ERROR_BOUNDS
HLL_SKETCH_TO_STRING HLL_SKETCH_UNION HUMAN_READABLE_BINARY_BYTE_FORMAT HUMAN_READABLE_DECIMAL_BYTE_FORMAT
HUMAN_READABLE_DECIMAL_FORMAT IPV4_MATCH IPV4_PARSE IPV4_STRINGIFY IPV6_MATCH JSON_MERGE JSON_OBJECT JSON_PATHS
JSON_QUERY_ARRAY LAG LAST_VALUE LEAD LOOKUP MV_APPEND MV_CONCAT MV_CONTAINS MV_FILTER_NONE MV_FILTER_ONLY
MV_FILTER_PREFIX MV_FILTER_REGEX MV_LENGTH MV_OFFSET MV_OFFSET_OF MV_ORDINAL MV_ORDINAL_OF MV_OVERLAP MV_PREPEND
MV_SLICE MV_TO_STRING NTILE PERCENT_RANK RANK ROW_NUMBER SCALAR_IN_ARRAY SPECTATOR_COUNT SPECTATOR_HISTOGRAM
SPECTATOR_PERCENTILE STRING_FORMAT STRING_TO_ARRAY STRING_TO_MV TABLE_APPEND TDIGEST_GENERATE_SKETCH
TDIGEST_QUANTILE THETA_SKETCH_ESTIMATE THETA_SKETCH_ESTIMATE_WITH_ERROR_BOUNDS THETA_SKETCH_INTERSECT
THETA_SKETCH_NOT THETA_SKETCH_UNION UNNEST
"""
NOT_CARRIED_OUT = frozenset(_NOT_CARRIED_OUT.split())
