"""The checks of a table need one scan, and end as those of Airflow do."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.operators.checks import PolarisColumnCheckOperator, PolarisTableCheckOperator
from tests.support.local_calls import caller_of
from tests.support.run_task import run_task
from tests.support.specs import load_of

# On 2.11 Airflow's search for the hook imports flask_appbuilder, which raises warnings.
pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = [
    {"timestamp": "2026-11-01T10:00:00Z", "city": "Bern", "count": 1},
    {"timestamp": "2026-11-01T11:00:00Z", "city": "Oslo", "count": 5},
    {"timestamp": "2026-11-02T10:00:00Z", "city": None, "count": 9},
]


@pytest.fixture(scope="module")
def server(wait_until):
    """Yield a local Polaris with the table cities of three rows, and the empty table nothing."""
    with LocalPolaris() as polaris:
        call = caller_of(polaris)
        for name, rows in (("cities", ROWS), ("nothing", [])):
            polaris.add_table(name)
            job = call("POST", "jobs", json=load_of(name, *rows, city='"city"', n='"count"')).json()
            assert wait_until(lambda: call("GET", f"jobs/{job['id']}").json()["executionStatus"] == "completed")  # noqa: B023
        yield polaris


@pytest.fixture
def polaris(server, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", server.connection_json)
    server.requests.clear()
    return server


def queries(polaris):
    return [request.body["query"] for request in polaris.requests if request.path.endswith("/query/sql")]


def check_columns(mapping, table="cities", **options):
    return run_task(lambda: PolarisColumnCheckOperator(task_id="check", table=table, column_mapping=mapping, **options))


def check_table(checks, table="cities", **options):
    checks = {name: {"check_statement": check} if isinstance(check, str) else check for name, check in checks.items()}
    return run_task(lambda: PolarisTableCheckOperator(task_id="check", table=table, checks=checks, **options))


def test_all_checks_of_columns_are_one_query(polaris):
    mapping = {
        "city": {"null_check": {"equal_to": 1}, "distinct_check": {"equal_to": 2}, "unique_check": {"equal_to": 0}},
        "n": {"min": {"geq_to": 1}, "max": {"less_than": 10}, "null_check": {"equal_to": 0}},
    }
    outcome = check_columns(mapping)
    assert outcome.kind == "success", outcome.error
    assert len(queries(polaris)) == 1
    assert "UNION" not in queries(polaris)[0]


@pytest.mark.parametrize(
    ("check", "options", "passes"),
    [
        ("null_check", {"equal_to": 0}, False),
        ("null_check", {"leq_to": 1}, True),
        ("distinct_check", {"greater_than": 2}, False),
        ("distinct_check", {"equal_to": 1, "partition_clause": "n = 1"}, True),
    ],
)
def test_a_check_of_a_column_fails_the_task_if_its_value_is_wrong(polaris, check, options, passes):
    outcome = check_columns({"city": {check: options}, "n": {"min": {"equal_to": 1}}})
    assert outcome.kind == ("success" if passes else "AirflowException"), outcome.error
    if not passes:
        assert "Column: city" in str(outcome.error)
        assert "Column: n" not in str(outcome.error)
    assert len(queries(polaris)) == (2 if "partition_clause" in options else 1)


def test_the_condition_of_all_checks_limits_the_rows(polaris):
    day = "__time >= TIMESTAMP '2026-11-02' OR n = 5"
    own = {"equal_to": 9, "partition_clause": "city IS NULL"}
    outcome = check_columns({"n": {"min": {"equal_to": 5}, "max": own}}, partition_clause=day)
    assert outcome.kind == "success", outcome.error


def test_all_checks_of_a_table_are_one_query(polaris):
    outcome = check_table(
        {
            "rows": "COUNT(*) = 3",
            "all_positive": "n > 0",
            "sum": "SUM(n) BETWEEN 10 AND 20",
            "a_name": "city IS NULL OR city <> 'COUNT(*)'",
        }
    )
    assert outcome.kind == "success", outcome.error
    assert len(queries(polaris)) == 1


@pytest.mark.parametrize("statement", ["COUNT(*) > 3", "n > 1", "city IS NOT NULL", "max(n) < 9"])
def test_a_check_of_a_table_fails_the_task_if_it_does_not_hold(polaris, statement):
    outcome = check_table({"good": "COUNT(*) > 0", "bad": statement})
    assert outcome.kind == "AirflowException"
    assert "Check: bad" in str(outcome.error)
    assert "Check: good" not in str(outcome.error)


def test_a_condition_of_a_check_makes_a_further_query(polaris):
    outcome = check_table({"rows": "COUNT(*) = 3", "named": {"check_statement": "n < 9", "partition_clause": "n < 6"}})
    assert (outcome.kind, len(queries(polaris))) == ("success", 2)


@pytest.mark.parametrize(("accepts", "kind"), [(True, "success"), (False, "AirflowException")])
def test_an_empty_table(polaris, accepts, kind):
    assert check_table({"positive": "n > 0"}, table="nothing", accept_none=accepts).kind == kind
    assert check_table({"rows": "COUNT(*) = 0"}, table="nothing", accept_none=accepts).kind == "success"
    mapping = {"n": {"min": {"equal_to": 0}}}
    assert check_columns(mapping, table="nothing", accept_none=accepts).kind == kind


@pytest.mark.parametrize(("statement", "kind"), [("COUNT(*) = 3", "success"), ("COUNT(*) = 4", "AirflowException")])
def test_a_table_is_checked_also_if_airflow_has_no_option_accept_none(polaris, statement, kind):
    """The constraint files of Airflow 3.0 and 3.1 have common-sql before 2.0."""
    task = PolarisTableCheckOperator(task_id="check", table="cities", checks={"rows": {"check_statement": statement}})
    del task.accept_none
    assert run_task(lambda: task).kind == kind


def test_a_wrong_argument_is_refused_as_by_airflow(polaris):
    with pytest.raises(Exception, match="Invalid column check: typo"):
        PolarisColumnCheckOperator(task_id="check", table="t", column_mapping={"n": {"typo": {"equal_to": 1}}})
    outcome = check_table({"bad": "typo > 0"})
    assert (outcome.kind, "There is no column 'typo'" in str(outcome.error)) == ("PolarisQueryFailed", True)


def test_a_template_in_a_condition_is_rendered(polaris):
    task = PolarisTableCheckOperator(
        task_id="check", table="cities", checks={"rows": {"check_statement": "COUNT(*) = 2"}},
        partition_clause="__time < TIMESTAMP '{{ ds }}'",
    )  # fmt: skip
    task.render_template_fields({"ds": "2026-11-02"})
    rows = "SELECT CASE WHEN COUNT(*) = 2 THEN 1 ELSE 0 END AS check_0 FROM cities"
    assert task.sql == [f"{rows} WHERE (__time < TIMESTAMP '2026-11-02')"]
