"""Asynchronous queries: each is sent once, its result is whole, and a failure has its category."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from airflow_provider_polaris.api import statement_calls
from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisForbidden,
    PolarisInvalidResponse,
    PolarisNotFound,
    PolarisQueryFailed,
    PolarisResponseTooLarge,
    PolarisUnauthorized,
    PolarisUnreachable,
    PolarisUsageError,
)
from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.local.engine.query import statements
from airflow_provider_polaris.models import Statement
from tests.support.queries import PATH, held, requests_of
from tests.support.specs import load_of

ROWS = [{"timestamp": f"2026-11-0{n}T10:00:00Z", "city": city, "count": n} for n, city in enumerate("abcde", 1)]
TEXT = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def polaris():
    """Yield a local Polaris with the table cities."""
    with LocalPolaris() as polaris:
        yield polaris


@pytest.fixture(scope="module")
def connection(polaris):
    return PolarisConnection.from_values(host=polaris.url, project_id=polaris.project_id, api_key=polaris.api_key)


@pytest.fixture(scope="module", autouse=True)
def _loaded(polaris, connection, wait_until):
    polaris.add_table("cities")
    client = PolarisClient(connection)
    job = client.create_job(load_of("cities", *ROWS, city='"city"', n='"count"'))
    assert wait_until(lambda: client.get_job(job.id).execution_status.is_over)
    client.close()


@pytest.fixture
def client(polaris, connection, moved_clock):
    client = PolarisClient(connection)
    polaris.requests.clear()
    yield client
    polaris.clear_faults()
    client.close()


@pytest.fixture
def queries(polaris, monkeypatch):
    with held(polaris, monkeypatch) as queries:
        yield queries


@pytest.fixture
def ended(client, queries):
    """Return a function that starts a query, runs it to its end, and returns its id."""

    def run(sql='SELECT "n", "city" FROM "cities" ORDER BY 1', parameters=None):
        query_id = client.start_query(sql, parameters).id
        queries.run()
        return query_id

    return run


def test_a_query_has_its_states_and_its_whole_result(polaris, client, queries):
    sql = 'SELECT __time, "city", "n" FROM "cities" WHERE "n" < ? ORDER BY __time'
    statement = client.start_query(sql, [3], context={"sqlTimeZone": "UTC"})
    assert (statement.state, statement.is_over, statement.total_rows) == ("ACCEPTED", False, None)
    assert polaris.requests[-1].body == {
        "query": sql, "parameters": [{"type": "BIGINT", "value": 3}], "context": {"sqlTimeZone": "UTC"}
    }  # fmt: skip
    queries.set_running()
    assert client.get_statement(statement.id).state == "RUNNING"
    queries.run()
    statement = client.get_statement(statement.id)
    assert (statement.has_succeeded, statement.is_over, statement.total_rows, statement.error) == (True, True, 2, None)
    assert statement.duration_seconds >= 0
    result = client.statement_results(statement.id)
    assert [column[:2] for column in result.columns] == [
        ("__time", "TIMESTAMP"), ("city", "VARCHAR"), ("n", "BIGINT")
    ]  # fmt: skip
    assert list(result) == [("2026-11-01T10:00:00.000Z", "a", 1), ("2026-11-02T10:00:00.000Z", "b", 2)]


@pytest.mark.parametrize("rows_per_page", [1, 2, 5, 9])
def test_a_result_has_the_rows_of_all_pages(polaris, client, ended, monkeypatch, rows_per_page):
    monkeypatch.setattr(statements, "ROWS_PER_PAGE", rows_per_page)
    result = client.statement_results(ended())
    assert list(result) == [(n, city) for n, city in enumerate("abcde", 1)]
    assert len(requests_of(polaris, "GET", "/results")) == -(-5 // rows_per_page)


def test_a_result_without_rows_has_its_columns(client, ended):
    result = client.statement_results(ended('SELECT "n" FROM "cities" WHERE "n" > 100'))
    assert (len(result), result.columns[0].name) == (0, "n")


@pytest.mark.parametrize("value", ["' OR '1' = '1", 'a"; DROP TABLE cities --', "a' UNION ALL SELECT 1 --"])
def test_no_parameter_can_change_the_query(client, ended, value):
    assert len(client.statement_results(ended('SELECT "n" FROM "cities" WHERE "city" = ?', [value]))) == 0
    assert len(client.statement_results(ended())) == 5


def test_a_moment_is_a_typed_parameter(client, ended):
    moment = datetime(2026, 11, 4)  # noqa: DTZ001 - without a time zone, it is UTC
    assert len(client.statement_results(ended('SELECT "n" FROM "cities" WHERE __time > ?', [moment]))) == 2


@pytest.mark.parametrize(
    ("sql", "parameters", "context"),
    [("", None, None), (None, None, None), ("SELECT 1", "text", None), ("SELECT ?", [object()], None),
     ("SELECT 1", None, "UTC"), ("SELECT 1", None, ["sqlTimeZone"]), ("SELECT 1", None, {"x": {1}}),
     ("SELECT ?", [{"type": "DOUBLE", "value": float("nan")}], None)],
)  # fmt: skip
def test_an_invalid_argument_is_refused_before_anything_is_sent(polaris, client, sql, parameters, context):
    with pytest.raises(PolarisUsageError):
        client.start_query(sql, parameters, context=context)
    assert polaris.requests == []


@pytest.mark.parametrize("query_id", ["", None, "a/b", "..", "{{ x }}"])
def test_an_invalid_id_is_refused_before_anything_is_sent(polaris, client, query_id):
    for call in (client.get_statement, client.statement_results, client.cancel_query):
        with pytest.raises(PolarisUsageError):
            call(query_id)
    assert polaris.requests == []


def test_an_invalid_query_fails_at_once_with_its_category(polaris, client, queries):
    with pytest.raises(PolarisQueryFailed, match="There is no column 'typo'") as caught:
        client.start_query('SELECT "typo" FROM "cities"')
    assert (caught.value.category, caught.value.status, len(polaris.requests)) == ("INVALID_INPUT", 400, 1)


@pytest.mark.parametrize("when", ["before", "after", "mid-body"])
def test_a_query_whose_response_was_lost_is_not_sent_again(polaris, client, queries, when):
    polaris.drop_next(1, when=when, match="POST")
    with pytest.raises(PolarisUnreachable, match=r"Polaris may be running the query.*is not sent again") as caught:
        client.start_query("SELECT 1 AS a")
    assert caught.value.received
    assert len(requests_of(polaris, "POST")) <= 1
    assert len(queries.ids) == (when == "after")


@pytest.mark.parametrize(
    ("body", "headers"),
    [("<html>", {}), ("{}", JSON), ('{"queryId": "../x", "state": "RUNNING"}', JSON), ("", JSON), ("[]", JSON),
     ('{"queryId": "q", "state": null}', JSON), ('{"queryId": "q", "state": "RUNNING", "schema": 7}', JSON)],
)  # fmt: skip
def test_a_response_without_an_id_counts_as_lost(polaris, client, body, headers):
    polaris.answer_next(1, body=body, headers=headers, match="POST")
    with pytest.raises(PolarisInvalidResponse, match="may be running the query"):
        client.start_query("SELECT 1 AS a")
    assert len(polaris.requests) == 1


def test_a_response_that_is_too_large_counts_as_lost(polaris, client, monkeypatch):
    from airflow_provider_polaris.api import transport

    monkeypatch.setattr(transport, "MAX_BODY", 100)
    polaris.answer_next(1, body=json.dumps({"queryId": "q", "state": "RUNNING", "x": "x" * 100}), match="POST")
    with pytest.raises(PolarisInvalidResponse, match="may be running the query"):
        client.start_query("SELECT 1 AS a")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_an_error_of_the_service_may_come_after_the_query(polaris, client, queries, status):
    polaris.fail_next(1, status=status, match="POST")
    with pytest.raises(PolarisUnreachable, match="may be running the query"):
        client.start_query("SELECT 1 AS a")
    assert len(polaris.requests) == 1


def failure(category, nested):
    error = {"error": "druidException", "errorCode": "x", "category": category, "errorMessage": "why"}
    return json.dumps({"state": "FAILED", "error": error} if nested else error)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("status", [429, 503, 400])
def test_a_query_that_a_busy_project_refuses_is_sent_again(polaris, client, queries, status, nested):
    body = failure("CAPACITY_EXCEEDED", nested)
    polaris.answer_next(2, body=body, status=status, headers=JSON, match="POST")
    assert client.start_query("SELECT 1 AS a").id == queries.ids[0]
    assert len(polaris.requests) == 3


@pytest.mark.parametrize(
    ("category", "status", "may_run"),
    [("TIMEOUT", 504, True), ("RUNTIME_FAILURE", 500, True), ("UNCATEGORIZED", 500, True), ("UNSUPPORTED", 501, False),
     ("INVALID_INPUT", 400, False), ("RUNTIME_FAILURE", 400, False)],
)  # fmt: skip
def test_a_query_may_run_after_an_error_of_the_service_that_is_not_about_the_query(
    polaris, client, category, status, may_run
):
    polaris.answer_next(1, body=failure(category, nested=True), status=status, headers=JSON, match="POST")
    with pytest.raises(PolarisUnreachable if may_run else PolarisQueryFailed, match="why") as caught:
        client.start_query("SELECT 1 AS a")
    assert ("may be running" in str(caught.value)) is may_run
    assert len(polaris.requests) == 1


@pytest.mark.parametrize("category", ["TIMEOUT", "RUNTIME_FAILURE", "CAPACITY_EXCEEDED", "UNCATEGORIZED"])
def test_a_status_that_cannot_be_read_says_nothing_about_the_query(polaris, client, queries, category):
    query_id = client.start_query("SELECT 1 AS a").id
    polaris.answer_next(1, body=failure(category, nested=False), status=500, headers=JSON, match="GET")
    with pytest.raises(PolarisUnreachable):
        client.get_statement(query_id, retry=False)
    polaris.answer_next(2, body=failure(category, nested=False), status=500, headers=JSON, match="GET")
    assert client.get_statement(query_id).state == "ACCEPTED"


def test_a_429_without_a_category_is_sent_again(polaris, client, queries):
    polaris.fail_next(2, status=429, match="POST")
    client.start_query("SELECT 1 AS a")
    assert (len(polaris.requests), len(queries.ids)) == (3, 1)


def test_a_project_that_stays_busy_has_started_no_query(polaris, client):
    polaris.answer_next(9, body=failure("CAPACITY_EXCEEDED", nested=True), status=503, headers=JSON, match="POST")
    with pytest.raises(PolarisUnreachable) as caught:
        client.start_query("SELECT 1 AS a")
    assert not caught.value.received
    assert "may be running" not in str(caught.value)


def test_a_host_that_cannot_be_reached_has_started_no_query(connection, moved_clock):
    gone = PolarisConnection.from_values(host="http://127.0.0.1:1", project_id="p", api_key="k")
    with pytest.raises(PolarisUnreachable) as caught:
        PolarisClient(gone).start_query("SELECT 1")
    assert not caught.value.received
    assert "may be running" not in str(caught.value)


def test_a_query_that_has_failed_says_why(client, queries):
    query_id = client.start_query("SELECT 1 AS a").id
    queries.fail("RUNTIME_FAILURE", "a worker was lost")
    statement = client.get_statement(query_id)
    assert (statement.has_failed, statement.is_over, statement.was_canceled) == (True, True, False)
    assert (statement.category, statement.error) == ("RUNTIME_FAILURE", "a worker was lost")
    with pytest.raises(PolarisQueryFailed, match="RUNTIME_FAILURE: a worker was lost") as caught:
        client.statement_results(query_id)
    assert caught.value.category == "RUNTIME_FAILURE"


def test_a_failure_without_a_reason_says_so(polaris, client, queries):
    query_id = client.start_query("SELECT 1 AS a").id
    polaris.answer_next(1, body=json.dumps({"queryId": query_id, "state": "FAILED"}), headers=JSON, match="GET")
    with pytest.raises(PolarisQueryFailed, match="Polaris gives no reason"):
        client.statement_results(query_id)


def test_a_query_that_runs_has_no_result_yet(client, queries):
    query_id = client.start_query("SELECT 1 AS a").id
    with pytest.raises(PolarisApiError, match="is ACCEPTED, and has no result yet"):
        client.statement_results(query_id)


def test_a_state_that_is_new_is_not_over():
    statement = Statement.from_api({"queryId": "q", "state": "PAUSED"})
    assert (statement.state, statement.is_over, statement.has_failed, statement.columns) == ("PAUSED", False, False, [])


def test_a_query_is_canceled_and_a_second_cancellation_is_no_error(client, queries):
    query_id = client.start_query("SELECT 1 AS a").id
    client.cancel_query(query_id)
    assert queries.stopped == [query_id]
    queries.run()
    assert client.get_statement(query_id).was_canceled
    client.cancel_query(query_id)


def test_a_query_that_is_gone_is_a_404_and_needs_no_cancellation(polaris, client):
    with pytest.raises(PolarisNotFound) as caught:
        client.get_statement("query-none")
    assert caught.value.status == 404
    client.cancel_query("query-none")
    assert len(polaris.requests) == 2


def test_a_cancellation_is_sent_again_after_an_outage(polaris, client, queries):
    query_id = client.start_query("SELECT 1 AS a").id
    polaris.fail_next(2, match="DELETE")
    client.cancel_query(query_id)
    assert len(requests_of(polaris, "DELETE")) == 3
    polaris.fail_next(1, match="DELETE")
    with pytest.raises(PolarisUnreachable):
        client.cancel_query(query_id, retry=False)


@pytest.mark.parametrize("body", ["", "[1,", '[1,"a"]', '[1,"a"]\n', '[1,"a"]\n\n', "\n", "[1]\n[2\n\n"])
def test_a_page_that_was_cut_is_never_returned(polaris, client, ended, monkeypatch, body):
    """A page that ends well, and has less rows than the status says, was cut as well."""
    monkeypatch.setattr(statements, "ROWS_PER_PAGE", 3)
    query_id = ended()
    polaris.answer_next(1, body=body, headers=TEXT, match="GET .*/results")
    assert len(client.statement_results(query_id)) == 5
    assert len(requests_of(polaris, "GET", "/results")) == 3
    polaris.answer_next(9, body=body, headers=TEXT, match="GET .*/results")
    with pytest.raises(PolarisInvalidResponse):
        client.statement_results(query_id)


@pytest.mark.parametrize("when", ["before", "after", "mid-body"])
def test_a_page_whose_connection_was_cut_is_requested_again(polaris, client, ended, when):
    query_id = ended()
    polaris.drop_next(1, when=when, match="GET .*/results")
    assert len(client.statement_results(query_id)) == 5


@pytest.mark.parametrize("body", ['[1,"a",2]\n\n', "7\n\n", '{"n": 1}\n\n', "[[1]]\n\n"])
def test_a_page_of_another_shape_is_an_invalid_response(polaris, client, ended, body):
    query_id = ended('SELECT "n", "city" FROM "cities" LIMIT 1')
    polaris.answer_next(9, body=body, headers=TEXT, match="GET .*/results")
    with pytest.raises(PolarisInvalidResponse):
        client.statement_results(query_id)


def status(query_id, **result):
    return json.dumps({"queryId": query_id, "state": "SUCCESS", "result": result})


def test_a_status_without_pages_has_its_result_in_one_response(polaris, client, ended):
    query_id = ended()
    polaris.answer_next(1, body=status(query_id, numTotalRows=5), headers=JSON, match=f"GET .*{query_id}$")
    assert len(client.statement_results(query_id)) == 5
    assert [one.query for one in requests_of(polaris, "GET", "/results")] == ["resultFormat=arrayLines"]
    polaris.answer_next(1, body=status(query_id), headers=JSON, match=f"GET .*{query_id}$")
    assert len(client.statement_results(query_id)) == 5


def test_a_result_that_lacks_a_page_is_never_returned(polaris, client, ended):
    query_id = ended()
    body = status(query_id, numTotalRows=6, pages=[{"id": 0}])
    polaris.answer_next(1, body=body, headers=JSON, match=f"GET .*{query_id}$")
    with pytest.raises(PolarisInvalidResponse, match="5 of the 6 rows"):
        client.statement_results(query_id)


@pytest.mark.parametrize("pages", [7, [7], [{}], [{"id": "x"}], [{"id": -1}]])
def test_an_invalid_page_in_the_status_is_an_invalid_response(pages):
    with pytest.raises(PolarisInvalidResponse):
        Statement.from_api({"queryId": "q", "state": "SUCCESS", "result": {"pages": pages}})


def test_the_status_of_another_query_is_an_invalid_response(polaris, client, queries):
    query_id = client.start_query("SELECT 1 AS a").id
    polaris.answer_next(9, body=status("query-other"), headers=JSON, match="GET")
    with pytest.raises(PolarisInvalidResponse, match="query-other instead of"):
        client.get_statement(query_id)


def test_all_pages_of_a_result_share_one_limit(client, ended, monkeypatch):
    monkeypatch.setattr(statements, "ROWS_PER_PAGE", 2)
    size = len('[1,"a"]\n') * 5 + 3  # each page ends with an empty line
    query_id = ended()
    monkeypatch.setattr(statement_calls, "MAX_RESULT", size)
    assert len(client.statement_results(query_id)) == 5
    monkeypatch.setattr(statement_calls, "MAX_RESULT", size - 1)
    with pytest.raises(PolarisResponseTooLarge, match="Let the query return fewer rows"):
        client.statement_results(query_id)


@pytest.mark.parametrize("missing", ["AccessQueries", "ManageIngestionJobs"])
def test_a_key_without_a_permission_is_told_which_it_needs(polaris, client, missing):
    all_of_them = polaris.permissions
    polaris.permissions = [one for one in all_of_them if one != missing]
    try:
        with pytest.raises(PolarisForbidden, match="AccessQueries, and also ManageIngestionJobs, in this project"):
            client.start_query("SELECT 1 AS a")
    finally:
        polaris.permissions = all_of_them


def test_a_query_is_sent_with_a_rotated_key(polaris, connection, queries):
    stale = PolarisConnection.from_values(host=polaris.url, project_id=polaris.project_id, api_key="stale")
    known = [stale, connection]
    client = PolarisClient(lambda: known.pop(0))
    assert client.start_query("SELECT 1 AS a").id == queries.ids[0]
    with pytest.raises(PolarisUnauthorized):
        PolarisClient(stale).start_query("SELECT 1 AS a")
    assert len(queries.ids) == 1


def test_a_query_is_one_path_segment(polaris, client, queries):
    query_id = client.start_query("SELECT 1 AS a").id
    client.get_statement(query_id)
    assert polaris.requests[-1].path.endswith(f"{PATH}/{query_id}")
