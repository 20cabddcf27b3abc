"""Airflow's SQL operators run on a Polaris connection."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.sql.operators.sql import (
    SQLCheckOperator,
    SQLColumnCheckOperator,
    SQLExecuteQueryOperator,
    SQLIntervalCheckOperator,
    SQLTableCheckOperator,
    SQLThresholdCheckOperator,
    SQLValueCheckOperator,
)

from airflow_provider_polaris.hooks.sql import PolarisSqlHook
from airflow_provider_polaris.local import LocalPolaris
from tests.support.local_calls import caller_of
from tests.support.run_task import run_task
from tests.support.specs import load_of

# On 2.11 Airflow's search for the hook imports flask_appbuilder, which raises warnings.
pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = [
    {"timestamp": f"2026-11-0{day}T10:00:00Z", "city": city, "count": day}
    for day in (1, 2)
    for city in ("Bern", "Oslo")
]


@pytest.fixture(scope="module")
def polaris(wait_until):
    """Yield a local Polaris with two days of cities."""
    with LocalPolaris() as polaris:
        polaris.add_table("cities")
        call = caller_of(polaris)
        job = call("POST", "jobs", json=load_of("cities", *ROWS, city='"city"', n='"count"')).json()
        assert wait_until(lambda: call("GET", f"jobs/{job['id']}").json()["executionStatus"] == "completed")
        yield polaris


@pytest.fixture(autouse=True)
def _connection(polaris, monkeypatch):
    """Define a connection with extras, which Airflow's operators pass to the hook."""
    connection = json.loads(polaris.connection_json)
    connection["extra"] |= {"timeout": 30, "auth": "api_key"}
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))


def run(operator, **options):
    return run_task(lambda: operator(task_id="sql", conn_id="polaris_default", **options))


def test_a_query_returns_its_rows(task_log, polaris):
    query = 'SELECT "city", SUM("n") AS n FROM "cities" WHERE "city" = ? GROUP BY 1'
    outcome = run(SQLExecuteQueryOperator, sql=query, parameters=["Bern"])
    assert (outcome.kind, outcome.xcom) == ("success", [("Bern", 3)]), outcome.error
    assert not any(polaris.api_key in line for line in task_log())


@pytest.mark.parametrize(
    ("operator", "options", "kind"),
    [
        (SQLCheckOperator, {"sql": "SELECT COUNT(*) AS n FROM cities"}, "success"),
        (SQLCheckOperator, {"sql": "SELECT COUNT(*) AS n FROM cities WHERE n > 9"}, "AirflowException"),
        (SQLCheckOperator, {"sql": "SELECT MIN(n) > ? AS ok FROM cities", "parameters": [0]}, "success"),
        (SQLValueCheckOperator, {"sql": "SELECT SUM(n) AS n FROM cities", "pass_value": 6}, "success"),
        (SQLValueCheckOperator, {"sql": "SELECT SUM(n) AS n FROM cities", "pass_value": 7}, "AirflowException"),
        (
            SQLThresholdCheckOperator,
            {"sql": "SELECT MAX(n) AS n FROM cities", "min_threshold": 1, "max_threshold": "SELECT SUM(n) FROM cities"},
            "success",
        ),
        (
            SQLThresholdCheckOperator,
            {"sql": "SELECT MAX(n) AS n FROM cities", "min_threshold": 3, "max_threshold": 9},
            "AirflowException",
        ),
    ],
)
def test_a_check_passes_or_fails(operator, options, kind):
    outcome = run(operator, **options)
    assert outcome.kind == kind, outcome.error


@pytest.mark.parametrize(("threshold", "kind"), [(1.6, "AirflowException"), (2.1, "success")])
def test_a_day_is_compared_with_the_day_before(threshold, kind):
    """Sunday has twice the sum of Saturday. Airflow writes the days into the query."""
    task = SQLIntervalCheckOperator(
        task_id="task",
        conn_id="polaris_default",
        table="cities",
        metrics_thresholds={"SUM(n)": threshold},
        date_filter_column="TIME_FORMAT(__time, 'yyyy-MM-dd')",
        days_back=-1,
    )
    yesterday = "{{ macros.ds_add(ds, -1) }}"
    task.sql1 = task.sql1.replace("{{ ds }}", "2026-11-02")
    task.sql2 = task.sql2.replace(yesterday, "2026-11-01")
    outcome = run_task(lambda: task)
    assert outcome.kind == kind, outcome.error


@pytest.mark.parametrize(
    ("operator", "options"),
    [
        (SQLColumnCheckOperator, {"column_mapping": {"n": {"min": {"geq_to": 1}}}}),
        (SQLTableCheckOperator, {"checks": {"rows": {"check_statement": "COUNT(*) = 4"}}}),
    ],
)
def test_one_check_of_a_column_or_table_works_and_several_are_refused_as_by_druid(operator, options):
    assert run(operator, table="cities", **options).kind == "success"
    for name in ("column_mapping", "checks"):
        if name in options:
            (check,) = options[name].values()
            options[name] = {**options[name], "city" if name == "column_mapping" else "again": dict(check)}
    outcome = run(operator, table="cities", **options)
    assert (outcome.kind, "UNION ALL" in str(outcome.error)) == ("PolarisQueryFailed", True), outcome.error


def test_an_invalid_query_fails_with_its_reason():
    outcome = run(SQLExecuteQueryOperator, sql="SELECT typo FROM cities")
    assert (outcome.kind, "There is no column 'typo'" in str(outcome.error)) == ("PolarisQueryFailed", True)


def test_the_hook_works_by_itself(polaris):
    hook = PolarisSqlHook()
    assert hook.get_first('SELECT COUNT(*) FROM "cities"') == (4,)
    assert hook.get_records('SELECT "city" FROM "cities" WHERE "n" = ? ORDER BY 1', parameters=[1]) == [
        ("Bern",), ("Oslo",)
    ]  # fmt: skip
    assert hook.placeholder == "?"
    assert hook.test_connection()[0] is True
    assert hook.get_uri() == f"polaris://{polaris.url.partition('://')[2]}/{polaris.project_id}"
    assert PolarisSqlHook(project_id="other").get_uri().endswith("/other")


def test_the_hook_of_the_connection_is_the_sql_hook():
    from airflow_provider_polaris._compat import BaseHook

    hook = BaseHook.get_connection("polaris_default").get_hook()
    assert isinstance(hook, PolarisSqlHook)
