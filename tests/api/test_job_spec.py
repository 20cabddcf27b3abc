"""A job spec is read and checked before it is sent."""

from __future__ import annotations

import json
import math
import types
from datetime import datetime, timezone

import pytest

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.job_spec import (
    can_be_marked,
    comparable,
    marked,
    marker_of,
    read_spec,
    replacing,
    sql_target,
)
from tests.support.create_tasks import Task
from tests.support.specs import DELETE, DROP, SPEC, SQL, STREAMING


def test_a_large_spec_is_in_no_message():
    for spec in ({"type": "x" * 5_000_000}, {**SPEC, "target": {"type": ["x" * 5_000_000], "tableName": "t"}}):
        assert len(str(Task().run(spec).error)) < 1000


@pytest.mark.parametrize("bad", [{1, 2}, datetime(2026, 1, 1, tzinfo=timezone.utc), math.nan, -math.inf], ids=str)
def test_a_value_that_json_does_not_know_is_named_by_its_path(bad):
    outcome = Task().run({**SQL, "context": {"limits": [1, bad]}})
    assert outcome.kind == "PolarisOptionInvalid"
    assert "context.limits[1]" in str(outcome.error)


@pytest.mark.parametrize("spec", [DROP, DELETE], ids=["drop_table", "delete_data"])
@pytest.mark.parametrize("choice", [True, False, None, "true", 1, "left out"])
def test_a_deletion_must_say_whether_it_can_be_undone(polaris, spec, choice):
    polaris.add_table("cities")
    spec = {**spec, "softDelete": choice}
    if choice == "left out":
        del spec["softDelete"]
    outcome = Task().run(spec, wait_for_completion=False)
    if isinstance(choice, bool):
        assert outcome.kind == "success", outcome.error
    else:
        assert (outcome.kind, len(polaris.requests)) == ("PolarisOptionInvalid", 0)
        assert "softDelete must be true, so that the data can be restored for 30 days" in str(outcome.error)


def test_a_spec_that_is_nested_too_deep_is_rejected():
    assert Task().run("[" * 100_000 + "]" * 100_000).kind == "PolarisOptionInvalid"


@pytest.mark.parametrize(
    "query",
    [
        'INSERT INTO /* x */ "t" SELECT 1',
        'INSERT INTO -- x\n "t" SELECT 1',
        'INSERT/**/INTO "t" SELECT 1',
        'INSERT INTO"t" SELECT 1',
        "/* a */ -- b\n replace into t SELECT 1",
        'INSERT INTO "druid"."t" SELECT 1',
        "INSERT INTO druid.t SELECT 1",
    ],
)
def test_the_target_of_a_query_is_found_in_many_spellings(query):
    assert sql_target(query) == "t"


@pytest.mark.parametrize("query", ["INSERTINTO t", "INSERT t", "SELECT 1", "INSERT INTO", "", "-- INSERT INTO t", None])
def test_a_query_without_an_insert_has_no_target(query):
    assert sql_target(query) is None


def test_a_mapping_that_airflow_does_not_render_is_rejected(polaris):
    spec = types.MappingProxyType({**SPEC, "target": {"type": "table", "tableName": "t-{{ 1 + 1 }}"}})
    assert Task().run(spec).kind == "PolarisOptionInvalid"
    assert not polaris.requests


MARKER = f"airflow-provider-polaris {'0a' * 16} {'1b' * 8}"
OTHER = f"airflow-provider-polaris {'2c' * 16} {'3d' * 8}"
ABOUT = {"dag_id": "d", "run_id": "r", "map_index": -1, "url": "https://airflow.example/dags/d"}


@pytest.mark.parametrize("spec", [SQL, SPEC, {**SPEC, "context": None}], ids=["sql", "batch", "null"])
def test_a_marker_is_found_in_the_spec_that_has_it(spec):
    assert can_be_marked(spec)
    assert marker_of(spec) is None
    assert marker_of(marked(spec, MARKER, ABOUT)) == MARKER


def test_a_job_shows_its_marker_in_its_context_or_in_the_context_of_its_spec():
    spec = marked(SPEC, MARKER, ABOUT)
    assert marker_of({"type": "batch", "context": spec["context"]}) == MARKER
    assert marker_of({"type": "batch", "spec": spec}) == MARKER
    for job in ({"type": "batch", "spec": "x", "context": [1]}, {"type": "batch"}, {"type": "sql", "query": None}, {}):
        assert marker_of(job) is None


def test_the_context_of_a_user_stays():
    spec = {**SPEC, "context": {"maxNumTasks": 3}}
    assert marked(spec, MARKER, ABOUT)["context"] == {"maxNumTasks": 3, "airflow": {**ABOUT, "marker": MARKER}}
    assert spec["context"] == {"maxNumTasks": 3}


@pytest.mark.parametrize(
    "spec",
    [
        STREAMING,
        DELETE,
        {**SPEC, "context": "x"},
        {**SPEC, "context": {"airflow": "mine"}},
        {**SPEC, "context": {"airflow": {"marker": "mine"}}},
    ],
    ids=["streaming", "delete_data", "no object", "a user's key", "a user's marker"],
)
def test_a_spec_without_a_free_place_gets_no_marker(spec):
    assert not can_be_marked(spec)
    assert marker_of(spec) is None


@pytest.mark.parametrize("spec", [SQL, SPEC], ids=["sql", "batch"])
def test_a_copied_marker_does_not_count(spec):
    copied = marked(spec, OTHER, ABOUT)
    assert can_be_marked(copied)
    assert marker_of(marked(copied, MARKER, ABOUT)) == MARKER


@pytest.mark.parametrize("name", ["*/ DROP", "/* x", 'a"b', "a\nb", "ä\u2028", "--", "\\u002a/", OTHER])
def test_no_name_ends_the_comment_in_a_query_early(name):
    query = marked(SQL, MARKER, {**ABOUT, "dag_id": name, "run_id": f"{name}*"})["query"]
    comment = query.removeprefix(f"{SQL['query']}\n/* airflow ").removesuffix(" */")
    assert not {"*", "\n"} & set(comment)
    assert json.loads(comment) == {**ABOUT, "dag_id": name, "run_id": f"{name}*", "marker": MARKER}
    assert marker_of({"type": "sql", "query": query}) == MARKER


def test_specs_are_compared_without_marker_and_ignored_fields():
    plain = comparable(SPEC)
    assert comparable(marked({**SPEC, "desiredExecutionStatus": "running"}, MARKER, ABOUT)) == plain
    assert comparable({**SPEC, "context": {}}) == comparable({**SPEC, "context": None}) == plain
    assert comparable(marked({**SPEC, "context": {"a": 1}}, MARKER, ABOUT)) == comparable({**SPEC, "context": {"a": 1}})
    for other in ({**SPEC, "context": {"a": 1}}, {**SPEC, "context": {"airflow": 1}}, {**SPEC, "replaceAll": True}):
        assert comparable(other) != plain


#: A spec that may replace an interval, and the interval.
PLAIN = {name: value for name, value in SPEC.items() if name != "ingestionMode"}
DAY = "2026-11-01T00:00:00Z/2026-11-02T00:00:00Z"
OWN = f'((TIME_PARSE("timestamp")) IS NULL OR TIME_IN_INTERVAL(TIME_PARSE("timestamp"), \'{DAY}\'))'


@pytest.mark.parametrize(
    "given", [PLAIN, {**PLAIN, "ingestionMode": "replace", "replaceAll": False}, json.dumps(PLAIN)]
)
def test_a_spec_replaces_exactly_the_interval(given):
    before = read_spec(given)
    spec = replacing(given, "2026-11-01/P1D")
    assert spec == {
        **before,
        "ingestionMode": "replace",
        "target": {**SPEC["target"], "intervals": [DAY]},
        "filterExpression": OWN,
    }
    assert read_spec(given) == before, "the spec that was given is not changed"


@pytest.mark.parametrize(
    ("given", "combined"),
    [
        (None, OWN),
        ("", OWN),
        (" ", OWN),
        ("\"city\" = 'Oslo' OR 1 = 1", f"(\"city\" = 'Oslo' OR 1 = 1) AND {OWN}"),
        ("true -- all", f"(true -- all\n) AND {OWN}"),
    ],
    ids=["null", "empty", "a space", "an OR", "a comment"],
)
def test_a_filter_of_the_spec_still_applies(given, combined):
    assert replacing({**PLAIN, "filterExpression": given}, DAY)["filterExpression"] == combined


def mapped(expression, **more):
    return {**PLAIN, "mappings": [{"columnName": "__time", "expression": expression, **more}]}


def test_the_time_of_a_row_is_the_expression_of_its_mapping():
    spec = replacing(mapped('MILLIS_TO_TIMESTAMP("at") -- in UTC'), DAY)
    assert spec["filterExpression"] == (
        '((MILLIS_TO_TIMESTAMP("at") -- in UTC\n) IS NULL OR '
        f"TIME_IN_INTERVAL(MILLIS_TO_TIMESTAMP(\"at\") -- in UTC\n, '{DAY}'))"
    )


CANNOT_REPLACE = {
    "sql": (SQL, DAY, "interval is only for batch jobs: the query of a sql job names it, in REPLACE INTO"),
    "streaming": (STREAMING, DAY, "interval is only for batch jobs: a streaming job takes events as they arrive"),
    "delete_data": (DELETE, DAY, "a delete_data job has it in target.intervals of its spec"),
    "drop_table": (DROP, DAY, "Use delete_data with target.intervals"),
    "restore_data": (
        {"type": "restore_data", "target": SPEC["target"], "interval": DAY},
        DAY,
        "a restore_data job has it in the field interval of its spec",
    ),
    "append": (SPEC, DAY, "ingestionMode is 'append': leave ingestionMode out"),
    "replaceAll": ({**PLAIN, "replaceAll": True}, DAY, "and replaceAll all of it: leave one of them out"),
    "intervals": (
        {**PLAIN, "target": {**SPEC["target"], "intervals": [DAY]}},
        DAY,
        "both name what is replaced: leave target.intervals out",
    ),
    "no mappings": ({**PLAIN, "mappings": None}, DAY, "add a mapping of __time"),
    "no mapping of __time": ({**PLAIN, "mappings": [{"columnName": "city"}, 7]}, DAY, "add a mapping of __time"),
    "no expression": (mapped(" "), DAY, "add a mapping of __time"),
    "an aggregation": (mapped('MAX("at")', isAggregation=True), DAY, "with an expression that is no aggregation"),
    "a filter that is no text": ({**PLAIN, "filterExpression": ["a"]}, DAY, "filterExpression must be text, not list"),
    "a part of a partition": (
        {**PLAIN, "partitionedBy": "day"},
        "2026-11-01T01:00:00Z/PT1H",
        "interval 2026-11-01T01:00:00Z/2026-11-01T02:00:00Z does not align with partitionedBy 'day'",
    ),
    "a day of another time zone": (
        {**PLAIN, "partitionedBy": "day"},
        "2026-11-01T00:00:00+01:00/P1D",
        "does not align with partitionedBy 'day': let it start and end where a partition starts, in UTC",
    ),
    "the only partition": ({**PLAIN, "partitionedBy": "all"}, DAY, "partitionedBy 'all': use replaceAll"),
    "a part of a second": (PLAIN, "2026-11-01T00:00:00.5Z/PT1H", "let it start and end at a whole second"),
    "no interval": (PLAIN, "None/None", "without a value"),
}


@pytest.mark.parametrize(("spec", "interval", "says"), CANNOT_REPLACE.values(), ids=CANNOT_REPLACE)
def test_a_spec_that_cannot_replace_an_interval_is_rejected_in_one_line(spec, interval, says):
    with pytest.raises(PolarisUsageError) as caught:
        replacing(spec, interval)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("granularity", ["hour", "day", None, "fortnight", 5], ids=str)
def test_an_interval_that_may_align_is_left_to_polaris(granularity):
    assert replacing({**PLAIN, "partitionedBy": granularity}, DAY)["target"]["intervals"] == [DAY]
