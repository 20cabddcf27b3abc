"""PolarisQueryOperator runs one query, waits for it, and returns its rows, the same on a worker and deferred."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_polaris._compat import AirflowFailException
from airflow_provider_polaris.assets.lineage import TaskLineage
from airflow_provider_polaris.local.engine.query import statements
from airflow_provider_polaris.operators.polaris import PolarisQueryOperator
from airflow_provider_polaris.submission.query_record import KEY
from airflow_provider_polaris.waiting import query_wait
from tests.support.airflow_versions import AirflowTaskTimeout, a_dag
from tests.support.queries import PATH, QueryTask, requests_of
from tests.support.run_task import both_modes, outcome_of, run_task

pytestmark = pytest.mark.usefixtures("moved_clock")

ROWS = [[1, "a"], [2, "b"]]


@both_modes
def test_a_query_returns_its_rows_and_pushes_its_columns(polaris, queries, moved_clock, deferrable):
    moved_clock.on_sleep = queries.run
    outcome = QueryTask().run(deferrable=deferrable)
    assert (outcome.kind, outcome.xcom, outcome.deferrals) == ("success", ROWS, deferrable), outcome.error
    assert outcome.pushed == {"query_id": queries.ids[0], "columns": ["n", "city"]}
    assert len(requests_of(polaris, "POST")) == 1


@both_modes
def test_a_query_without_rows_has_its_columns(queries, moved_clock, deferrable):
    moved_clock.on_sleep = queries.run
    outcome = QueryTask().run("SELECT 1 AS n WHERE 1 = 2", deferrable=deferrable)
    assert (outcome.kind, outcome.xcom, outcome.pushed["columns"]) == ("success", [], ["n"]), outcome.error


@both_modes
def test_the_first_polls_come_soon_and_later_ones_at_the_interval(polaris, queries, moved_clock, deferrable):
    began = moved_clock.time

    def later():
        if moved_clock.time > began + 300:
            queries.run()

    moved_clock.on_sleep = later
    assert QueryTask().run(deferrable=deferrable).kind == "success"
    assert moved_clock.slept[0] <= query_wait.FIRST_PAUSE_SECONDS
    polls = requests_of(polaris, "GET", queries.ids[0])
    assert 10 <= len(polls) <= 14
    assert max(moved_clock.slept) <= 60


@both_modes
def test_a_query_that_is_over_at_once_needs_no_deferral(polaris, queries, deferrable, monkeypatch):
    monkeypatch.setattr(queries, "submit", lambda run: (queries.queries.append(run.__self__), run()))
    body = {"queryId": "query-1", "state": "SUCCESS"}
    headers = {"Content-Type": "application/json"}
    polaris.answer_next(1, body=json.dumps(body), headers=headers, match="POST")
    status = {**body, "schema": [{"name": "n"}], "result": {"numTotalRows": 1}}
    polaris.answer_next(2, body=json.dumps(status), headers=headers, match="GET .*query-1$")
    polaris.answer_next(1, body="[7]\n\n", headers={"Content-Type": "text/plain"}, match="GET .*results")
    outcome = QueryTask().run(deferrable=deferrable)
    assert (outcome.xcom, outcome.deferrals, outcome.pushed["columns"]) == ([[7]], 0, ["n"]), outcome.error


def test_parameters_are_sent_apart_and_cannot_change_the_query(polaris, queries, moved_clock):
    moved_clock.on_sleep = queries.run
    sql = "SELECT 1 AS n WHERE ? = 'a'"
    assert QueryTask().run(sql, parameters=["a"]).xcom == [[1]]
    for text in ("b' OR '1' = '1", "a'; DROP TABLE cities --"):
        assert QueryTask().run(sql, parameters=[text]).xcom == []
        assert requests_of(polaris, "POST")[-1].body["parameters"] == [{"type": "VARCHAR", "value": text}]
    moment = datetime(2026, 11, 1, 13, tzinfo=timezone(timedelta(hours=2)))
    QueryTask().run("SELECT ? AS t", parameters=(moment,), context={"sqlTimeZone": "UTC"})
    sent = requests_of(polaris, "POST")[-1].body
    assert sent["parameters"] == [{"type": "TIMESTAMP", "value": "2026-11-01 11:00:00.000"}]
    assert sent["context"] == {"sqlTimeZone": "UTC"}


@pytest.mark.parametrize(
    "options",
    [
        {"sql": ""}, {"sql": None}, {"parameters": "text"}, {"parameters": {"a": 1}}, {"parameters": [b"x"]},
        {"context": "UTC"}, {"poll_interval": 0}, {"timeout": -1}, {"max_unreachable": "1h"}, {"max_rows": -1},
        {"max_rows": True}, {"max_rows": "10"}, {"context": {"x": {1}}},
    ],
    ids=str,
)  # fmt: skip
@both_modes
def test_an_invalid_option_is_refused_before_anything_is_sent(polaris, deferrable, options):
    task = QueryTask()
    outcome = task.run(**options, deferrable=deferrable)
    assert (outcome.kind, polaris.requests, dict(task.store)) == ("PolarisOptionInvalid", [], {})


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        ("RUNTIME_FAILURE", "PolarisQueryFailed"),
        ("CAPACITY_EXCEEDED", "PolarisQueryFailed"),
        ("TIMEOUT", "PolarisQueryFailed"),
        ("INVALID_INPUT", "PolarisQueryRefused"),
        ("UNSUPPORTED", "PolarisQueryRefused"),
        ("CANCELED", "PolarisQueryRefused"),
    ],
)
@both_modes
def test_the_category_of_a_failure_decides_whether_airflow_retries(
    polaris, queries, moved_clock, deferrable, category, kind
):
    moved_clock.on_sleep = lambda: queries.fail(category, "a reason")
    task = QueryTask()
    outcome = task.run(deferrable=deferrable)
    assert outcome.kind == kind
    assert isinstance(outcome.error, AirflowFailException) is (kind == "PolarisQueryRefused")
    assert str(outcome.error) == f"Query {queries.ids[0]} failed: {category}: a reason"
    assert outcome.error.category == category
    assert requests_of(polaris, "DELETE") == []
    moved_clock.on_sleep = queries.run
    assert task.run(deferrable=deferrable).xcom == ROWS, "the next try starts another query"
    assert len(queries.ids) == 2


@both_modes
def test_a_query_that_polaris_refuses_fails_before_it_waits(polaris, queries, moved_clock, deferrable):
    outcome = QueryTask().run("SELECT typo FROM cities", deferrable=deferrable)
    assert (outcome.kind, outcome.pushed, moved_clock.slept) == ("PolarisQueryRefused", {}, [])
    assert "INVALID_INPUT" not in str(outcome.error)
    assert outcome.error.status == 400


@both_modes
def test_a_timeout_cancels_the_query_and_names_it(polaris, queries, moved_clock, deferrable):
    began = moved_clock.time
    moved_clock.on_sleep = queries.set_running
    task = QueryTask()
    outcome = task.run(deferrable=deferrable, timeout=timedelta(minutes=10))
    assert outcome.kind == "PolarisQueryTimeout"
    assert not isinstance(outcome.error, AirflowFailException)
    assert 600 <= moved_clock.time - began <= 660
    assert queries.stopped == queries.ids
    message = str(outcome.error)
    assert "Timeout: the query was RUNNING after 600 s (timeout)" in message
    assert "Polaris accepted the cancellation of the query" in message
    assert queries.ids[0] in message
    assert task.store.get(KEY)["state"] == "canceling"
    moved_clock.on_sleep = queries.run
    assert task.run(deferrable=deferrable).xcom == ROWS
    assert len(queries.ids) == 2, "a retry runs the query again"


@both_modes
def test_a_timeout_whose_cancellation_fails_says_so(polaris, queries, deferrable):
    polaris.fail_next(99, match="DELETE")
    outcome = QueryTask().run(deferrable=deferrable)
    assert outcome.kind == "PolarisQueryTimeout"
    assert "could not be canceled, and may still be running" in str(outcome.error)


def test_an_execution_timeout_on_a_worker_cancels_the_query(queries, moved_clock, task_log):
    def alarm():
        if len(moved_clock.slept) == 2:
            raise AirflowTaskTimeout("Timeout")

    moved_clock.on_sleep = alarm
    outcome = QueryTask().run(deferrable=False, execution_timeout=timedelta(seconds=60))
    assert outcome.kind == "execution_timeout"
    assert queries.stopped == queries.ids
    assert "after 60 s (execution_timeout)" in " ".join(task_log())


def test_an_execution_timeout_of_a_deferred_task_cancels_the_query(queries, moved_clock):
    began = moved_clock.time
    outcome = QueryTask().run(deferrable=True, execution_timeout=timedelta(seconds=100))
    assert outcome.kind == "execution_timeout"
    assert moved_clock.time - began <= 100
    assert queries.stopped == queries.ids


@both_modes
@pytest.mark.parametrize(
    "fault",
    [
        lambda polaris: polaris.fail_next(5, match="GET"),
        lambda polaris: polaris.fail_next(5, status=429, retry_after=100, match="GET"),
        lambda polaris: polaris.answer_next(5, body="<html>", match="GET"),
        lambda polaris: polaris.answer_next(5, body="<html>", status=404, match="GET"),
        lambda polaris: polaris.drop_next(5, when="mid-body", match="GET"),
        lambda polaris: polaris.fail_next(3, status=401, match="GET"),
        lambda polaris: polaris.fail_next(5, match="GET .*/results"),
        lambda polaris: polaris.fail_next(1, status=404, match="GET"),
    ],
    ids=["503", "429", "HTML", "gateway's 404", "cut", "401", "503 of the result", "one 404"],
)
def test_an_outage_does_not_end_the_wait(polaris, queries, moved_clock, deferrable, fault):
    moved_clock.on_sleep = queries.run
    fault(polaris)
    outcome = QueryTask().run(deferrable=deferrable, timeout=3600)
    assert (outcome.kind, outcome.xcom) == ("success", ROWS), outcome.error
    assert len(queries.ids) == 1


@both_modes
def test_an_outage_while_the_result_is_read_goes_back_to_the_wait(polaris, queries, moved_clock, deferrable):
    moved_clock.on_sleep = queries.run
    polaris.fail_next(6, match="GET .*/results")  # more than one read sends
    outcome = QueryTask().run(deferrable=deferrable)
    assert (outcome.kind, outcome.xcom) == ("success", ROWS), outcome.error
    assert outcome.deferrals == (2 if deferrable else 0)


def test_an_outage_while_the_result_is_read_is_counted_across_deferrals(polaris, queries, moved_clock):
    moved_clock.on_sleep = queries.run
    polaris.fail_next(10**6, match="GET .*/results")
    began = moved_clock.time
    outcome = QueryTask().run(deferrable=True, max_unreachable=100)
    polaris.clear_faults()
    assert outcome.kind == "PolarisUnreachable", outcome.error
    assert 100 <= moved_clock.time - began <= 400


@both_modes
def test_an_outage_that_lasts_ends_the_wait_and_the_next_try_continues(polaris, queries, moved_clock, deferrable):
    polaris.fail_next(10**6, match="GET")
    task = QueryTask()
    began = moved_clock.time
    outcome = task.run(deferrable=deferrable, max_unreachable=300, timeout=9000)
    assert outcome.kind == "PolarisUnreachable"
    assert 300 <= moved_clock.time - began <= 430
    assert "Polaris was unreachable for" in str(outcome.error)
    assert "clear the task to wait for the same job" not in str(outcome.error)
    assert queries.ids[0] in str(outcome.error)
    assert queries.stopped == []
    polaris.clear_faults()
    moved_clock.on_sleep = queries.run
    assert task.run(deferrable=deferrable).xcom == ROWS
    assert len(queries.ids) == 1


@both_modes
@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_of_the_service_ends_the_wait_at_once(polaris, queries, moved_clock, deferrable, status):
    polaris.fail_next(99, status=status, match="GET")
    outcome = QueryTask().run(deferrable=deferrable)
    assert outcome.kind == {400: "PolarisBadRequest", 403: "PolarisForbidden"}[status]
    assert queries.ids[0] in str(outcome.error)
    assert len(requests_of(polaris, "GET")) <= 2


@both_modes
def test_a_query_that_is_gone_fails_after_a_second_404(polaris, queries, moved_clock, deferrable):
    moved_clock.on_sleep = queries.forget
    task = QueryTask()
    outcome = task.run(deferrable=deferrable)
    assert outcome.kind == "PolarisQueryNotFound"
    assert "Polaris no longer has the query" in str(outcome.error)
    assert queries.ids[0] in str(outcome.error)
    assert len(requests_of(polaris, "GET")) == 2
    moved_clock.on_sleep = queries.run
    assert task.run(deferrable=deferrable).xcom == ROWS
    assert len(queries.ids) == 2


@both_modes
def test_a_result_that_is_gone_fails_after_a_second_404(polaris, queries, moved_clock, deferrable):
    moved_clock.on_sleep = queries.run
    polaris.fail_next(99, status=404, match="GET .*/results")
    outcome = QueryTask().run(deferrable=deferrable)
    polaris.clear_faults()
    assert outcome.kind in {"PolarisQueryNotFound"}, outcome.error


@both_modes
def test_a_result_with_more_rows_than_max_rows_is_not_read(polaris, queries, moved_clock, deferrable):
    moved_clock.on_sleep = queries.run
    outcome = QueryTask().run(deferrable=deferrable, max_rows=1)
    assert outcome.kind == "PolarisResultTooLarge"
    assert isinstance(outcome.error, AirflowFailException)
    assert str(outcome.error).startswith("The result has 2 rows, max_rows is 1\n")
    assert requests_of(polaris, "GET", "/results") == []
    assert QueryTask().run(deferrable=deferrable, max_rows=2).xcom == ROWS
    assert QueryTask().run(deferrable=deferrable, max_rows=None).xcom == ROWS


def test_a_result_whose_size_is_not_reported_has_no_more_rows_than_max_rows(polaris, queries, moved_clock):
    moved_clock.on_sleep = queries.run
    task = QueryTask()

    def between():
        queries.run()
        body = json.dumps({"queryId": queries.ids[0], "state": "SUCCESS"})
        headers = {"Content-Type": "application/json"}
        polaris.answer_next(3, body=body, headers=headers, match=f"GET .*{queries.ids[0]}$")

    outcome = task.run(between=between, deferrable=True, max_rows=1)
    assert (outcome.kind, len(requests_of(polaris, "GET", "/results"))) == ("PolarisResultTooLarge", 1)


@both_modes
def test_a_result_of_several_pages_is_whole(polaris, queries, moved_clock, monkeypatch, deferrable):
    monkeypatch.setattr(statements, "ROWS_PER_PAGE", 1)
    moved_clock.on_sleep = queries.run
    polaris.answer_next(1, body="", headers={"Content-Type": "text/plain"}, match="GET .*page=1")
    polaris.drop_next(1, when="mid-body", match="GET .*/results")
    assert QueryTask().run(deferrable=deferrable).xcom == ROWS


def test_a_task_that_pushes_nothing_reads_no_result(polaris, queries, moved_clock):
    moved_clock.on_sleep = queries.run
    outcome = QueryTask().run(do_xcom_push=False, max_rows=0)
    assert (outcome.kind, outcome.xcom, outcome.pushed) == ("success", None, {})
    assert requests_of(polaris, "GET", "/results") == []


def test_rows_in_xcom_are_json_that_each_database_accepts(polaris, queries, moved_clock):
    moved_clock.on_sleep = queries.run
    body = '[NaN,Infinity,-Infinity,"a\\u0000b","\\ud83d",[1,NaN],null,true]\n\n'

    def answer():
        queries.run()
        query = queries.queries[0]
        query.names, query.kinds = [f"c{n}" for n in range(8)], ["BIGINT"] * 8
        query._pages = [{"id": 0, "numRows": 1, "sizeInBytes": 1}]

    moved_clock.on_sleep = answer
    polaris.answer_next(1, body=body, headers={"Content-Type": "text/plain"}, match="GET .*/results")
    outcome = QueryTask().run()
    assert outcome.xcom == [["NaN", "Infinity", "-Infinity", "a�b", "?", [1, "NaN"], None, True]], outcome.error
    json.dumps(outcome.xcom, allow_nan=False)


def test_the_log_has_a_line_for_each_state(queries, moved_clock, task_log):
    actions = [queries.set_running, lambda: None, queries.run]
    moved_clock.on_sleep = lambda: actions.pop(0)() if actions else None
    QueryTask().run(deferrable=False)
    said = "\n".join(task_log())
    for line in ("Started query", "is RUNNING", "is SUCCESS", "returned 2 rows. Polled 3 times"):
        assert said.count(line) == 1, line


def test_the_log_of_an_outage_has_one_line_for_its_beginning_and_one_for_its_end(
    polaris, queries, moved_clock, task_log
):
    polaris.fail_next(5, match="GET")
    moved_clock.on_sleep = queries.run
    QueryTask().run(deferrable=False)
    said = "\n".join(task_log())
    assert said.count("The wait continues after a failed poll") == 1
    assert said.count("Polaris responds again. Query") == 1
    assert "6 times, 5 of them failed" in said


def test_an_event_that_cannot_be_read_names_the_releases():
    operator = QueryTask().make()
    context = QueryTask().context()
    for event in (None, {}, {"outcome": "over"}, {"outcome": "brand new"}, {"outcome": "error"}):
        outcome = outcome_of(lambda: operator.execute_complete(context, event), context["ti"])  # noqa: B023
        assert outcome.kind == "PolarisError"
        assert "may run different releases of this provider" in str(outcome.error)


def test_a_parameter_that_ends_like_a_file_is_no_file(tmp_path):
    """Airflow loads a file for each text of a list that ends like one, when it parses a DAG file."""
    (tmp_path / "a.sql").write_text("SELECT 1")
    with a_dag(template_searchpath=[str(tmp_path)]):
        operator = PolarisQueryOperator(task_id="query", sql="a.sql", parameters=["a.sql"])
    operator.resolve_template_files()
    assert (operator.sql, operator.parameters) == ("SELECT 1", ("a.sql",))


#: What happens to a query after the first poll, and the outcome of its task.
ENDS = {
    "success": (lambda polaris, queries: queries.run(), "success"),
    "failed": (lambda polaris, queries: queries.fail("RUNTIME_FAILURE"), "PolarisQueryFailed"),
    "refused": (lambda polaris, queries: queries.fail("UNSUPPORTED"), "PolarisQueryRefused"),
    "timeout": (lambda polaris, queries: queries.set_running(), "PolarisQueryTimeout"),
    "gone": (lambda polaris, queries: queries.forget(), "PolarisQueryNotFound"),
    "forbidden": (lambda polaris, queries: polaris.fail_next(99, status=403, match="GET"), "PolarisForbidden"),
}


@both_modes
@pytest.mark.parametrize(("act", "kind"), ENDS.values(), ids=ENDS)
def test_a_task_knows_the_tables_and_the_id_of_its_query_however_the_query_ends(
    polaris, queries, moved_clock, deferrable, act, kind
):
    polaris.add_table("orders")
    moved_clock.on_sleep = lambda: act(polaris, queries)
    task, made = QueryTask(), []

    def make():
        made.append(task.make("SELECT COUNT(*) FROM orders", deferrable=deferrable))
        return made[-1]

    outcome = run_task(make, context=task.context())
    assert outcome.kind == kind, outcome.error
    sent = len(polaris.requests)
    known = made[-1].known_lineage()
    host = polaris.url.partition("://")[2]
    assert [(one.id.namespace, one.id.name) for one in known.inputs] == [
        (f"polaris://{host}", f"{polaris.project_id}.orders")
    ]
    assert (known.outputs, known.external_id) == ((), queries.ids[0])
    assert len(polaris.requests) == sent


def test_a_task_whose_query_was_never_started_has_no_lineage(polaris, queries):
    operator = QueryTask().make("SELECT typo FROM cities")
    outcome = outcome_of(lambda: operator.execute(QueryTask().context()), QueryTask().context()["ti"])
    assert outcome.kind == "PolarisQueryRefused"
    assert operator.known_lineage() == TaskLineage()


def test_a_query_goes_to_the_statements_of_the_project(polaris, queries, moved_clock):
    moved_clock.on_sleep = queries.run
    QueryTask().run()
    assert polaris.requests[0].path.endswith(f"/{polaris.project_id}{PATH}")
    assert [request.method for request in polaris.requests][:2] == ["POST", "GET"]
