"""A job spec is read and checked before it is sent."""

from __future__ import annotations

import math
import types
from datetime import datetime, timezone

import pytest

from airflow_provider_polaris.api.job_spec import sql_target
from tests.support.create_tasks import Task
from tests.support.specs import SPEC, SQL


def test_a_large_spec_is_in_no_message():
    for spec in ({"type": "x" * 5_000_000}, {**SPEC, "target": {"type": ["x" * 5_000_000], "tableName": "t"}}):
        assert len(str(Task().run(spec).error)) < 1000


@pytest.mark.parametrize("bad", [{1, 2}, datetime(2026, 1, 1, tzinfo=timezone.utc), math.nan, -math.inf], ids=str)
def test_a_value_that_json_does_not_know_is_named_by_its_path(bad):
    outcome = Task().run({**SQL, "context": {"limits": [1, bad]}})
    assert outcome.kind == "PolarisOptionInvalid"
    assert "context.limits[1]" in str(outcome.error)


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
