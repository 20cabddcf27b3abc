"""Asynchronous queries: their states, their pages, and how they end."""

from __future__ import annotations

import json

import pytest

from airflow_provider_polaris.local.engine.query import statements
from airflow_provider_polaris.local.engine.query.querying import Query
from tests.support.local_calls import status_of
from tests.support.specs import rows, spec_of

PATH = "query/sql/statements"
SLOW = f"SELECT COUNT(*) AS n FROM {', '.join(f'cities c{number}' for number in range(25))}"  # noqa: S608 - a query of the tests


@pytest.fixture(scope="module")
def call(same_polaris, wait_until):
    """Return a function that sends requests to a Polaris with a table of five rows."""
    _, call = same_polaris
    data = rows(*({"timestamp": f"2026-11-0{number}", "count": number} for number in range(1, 6)))
    columns = [{"columnName": "__time", "expression": 'TIME_PARSE("timestamp")'},
               {"columnName": "count", "expression": '"count"'}]  # fmt: skip
    spec = spec_of(data, mappings=columns)
    job_id = call("POST", "jobs", json=spec).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "completed")
    return call


@pytest.fixture
def run(call, wait_until):
    """Return a function that runs a query to its end, and returns its last status."""

    def run(text, **body):
        answer = call("POST", PATH, json={"query": text, **body})
        assert answer.status_code == 200, answer.text
        query_id = answer.json()["queryId"]
        assert wait_until(lambda: call("GET", f"{PATH}/{query_id}").json()["state"] in ("SUCCESS", "FAILED"))
        return call("GET", f"{PATH}/{query_id}").json()

    return run


def test_a_status_describes_the_result(call, run):
    answer = call("POST", PATH, json={"query": 'SELECT __time, "count" FROM cities ORDER BY 2 LIMIT 2'}).json()
    schema = [
        {"name": "__time", "type": "TIMESTAMP", "nativeType": "LONG"},
        {"name": "count", "type": "BIGINT", "nativeType": "LONG"},
    ]
    assert (answer["state"], answer["schema"], answer["durationMs"]) == ("ACCEPTED", schema, -1)
    assert "result" not in answer
    status = run('SELECT __time, "count" FROM cities ORDER BY 2 LIMIT ?', parameters=[{"type": "BIGINT", "value": 2}])
    assert (status["state"], status["schema"]) == ("SUCCESS", schema)
    assert status["durationMs"] >= 0
    sample = [["2026-11-01T00:00:00.000Z", 1], ["2026-11-02T00:00:00.000Z", 2]]
    size = sum(len(f"{json.dumps(row)}\n") for row in sample)
    assert status["result"] == {
        "numTotalRows": 2,
        "totalSizeInBytes": size,
        "dataSource": "__query_select",
        "sampleRecords": sample,
        "pages": [{"id": 0, "numRows": 2, "sizeInBytes": size}],
    }


def test_a_result_has_pages_and_all_formats(call, run, monkeypatch):
    monkeypatch.setattr(statements, "ROWS_PER_PAGE", 2)
    status = run('SELECT "count" FROM cities ORDER BY 1')
    assert [(page["id"], page["numRows"]) for page in status["result"]["pages"]] == [(0, 2), (1, 2), (2, 1)]
    results = f"{PATH}/{status['queryId']}/results"
    assert call("GET", results).json() == [{"count": number} for number in range(1, 6)]
    assert call("GET", results, params={"page": 1}).json() == [{"count": 3}, {"count": 4}]
    assert call("GET", results, params={"page": 2, "resultFormat": "csv"}).text == "5\n\n"
    assert call("GET", results, params={"resultFormat": "arrayLines"}).text == "[1]\n[2]\n[3]\n[4]\n[5]\n\n"


def test_a_result_of_exactly_one_page_has_one_page(run, monkeypatch):
    monkeypatch.setattr(statements, "ROWS_PER_PAGE", 5)
    assert len(run('SELECT "count" FROM cities')["result"]["pages"]) == 1


def test_a_result_without_rows_has_an_empty_first_page(call, run):
    status = run('SELECT "count" FROM cities WHERE "count" > 5')
    assert (status["result"]["numTotalRows"], status["result"]["pages"]) == (0, [])
    assert call("GET", f"{PATH}/{status['queryId']}/results", params={"page": 0}).json() == []


def test_a_result_can_be_saved_as_a_file(call, run):
    results = f"{PATH}/{run('SELECT 1 AS a')['queryId']}/results"
    answer = call("GET", results, params={"filename": "cities today.csv"})
    assert answer.headers["Content-Disposition"] == "attachment; filename=cities%20today.csv"
    for name in ("", "a/b", "x" * 256, "a\nb"):
        assert call("GET", results, params={"filename": name}).status_code == 400


@pytest.mark.parametrize("params", [{"page": 1}, {"page": "-1"}, {"page": "x"}, {"resultFormat": "xml"}])
def test_an_invalid_request_for_results_is_refused(call, run, params):
    answer = call("GET", f"{PATH}/{run('SELECT 1 AS a')['queryId']}/results", params=params)
    assert (answer.status_code, answer.json()["category"]) == (400, "INVALID_INPUT")


@pytest.mark.parametrize(
    ("body", "category"),
    [
        ({"query": "SELECT typo FROM cities"}, "INVALID_INPUT"),
        ({"query": "SELECT \"count\" + TIMESTAMP '2026-11-01 00:00:00' FROM cities"}, "INVALID_INPUT"),
        ({"query": "INSERT INTO cities SELECT 1 PARTITIONED BY ALL"}, "INVALID_INPUT"),
        ({"query": "SELECT THETA_SKETCH_ESTIMATE(1)"}, "UNSUPPORTED"),
        ([], "INVALID_INPUT"),
    ],
)
def test_an_invalid_query_is_refused_at_once(call, body, category):
    answer = call("POST", PATH, json=body)
    assert (answer.status_code, answer.json()["state"]) == (400, "FAILED")
    assert answer.json()["error"]["category"] == category


def test_a_query_that_fails_says_why(call, run):
    status = run("SELECT REPEAT('x', 5000000) AS a FROM cities")
    assert (status["state"], status["errorDetails"]["category"]) == ("FAILED", "INVALID_INPUT")
    assert "4,000,000 characters" in status["errorDetails"]["errorMessage"]
    answer = call("GET", f"{PATH}/{status['queryId']}/results")
    assert (answer.status_code, answer.json()["category"]) == (404, "INVALID_INPUT")


@pytest.mark.parametrize("rows_per_page", [1, 3, 5])
def test_a_result_that_is_too_large_fails_and_leaves_no_file(same_polaris, run, monkeypatch, rows_per_page):
    monkeypatch.setattr(statements, "ROWS_PER_PAGE", rows_per_page)
    monkeypatch.setattr(statements, "MAX_RESULT", len("[1]\n") * 4)
    status = run('SELECT "count" FROM cities')
    assert status["errorDetails"]["category"] == "CAPACITY_EXCEEDED"
    polaris, _ = same_polaris
    assert not list(polaris._store.statement_folder().glob(f"{status['queryId']}*"))
    monkeypatch.setattr(statements, "MAX_RESULT", len("[1]\n") * 5)
    assert run('SELECT "count" FROM cities')["state"] == "SUCCESS"


def test_a_query_that_runs_or_waits_can_be_canceled(call, wait_until):
    ids = [call("POST", PATH, json={"query": SLOW}).json()["queryId"] for _ in range(statements.WORKERS + 1)]
    state = lambda query_id: call("GET", f"{PATH}/{query_id}").json()["state"]  # noqa: E731
    assert wait_until(lambda: [state(one) for one in ids] == ["RUNNING"] * statements.WORKERS + ["ACCEPTED"])
    assert call("GET", f"{PATH}/{ids[0]}/results").status_code == 404
    for query_id in reversed(ids):
        assert call("DELETE", f"{PATH}/{query_id}").status_code == 202
    for query_id in ids:
        assert wait_until(lambda: state(query_id) == "FAILED")  # noqa: B023
        assert call("GET", f"{PATH}/{query_id}").json()["errorDetails"]["category"] == "CANCELED"
        assert call("DELETE", f"{PATH}/{query_id}").status_code == 200


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("GET", "/results")])
def test_an_unknown_query_is_a_404(call, method, path):
    answer = call(method, f"{PATH}/query-none{path}")
    assert (answer.status_code, answer.json()["errorMessage"]) == (404, "There is no query query-none")


def test_details_are_empty(call, run):
    query_id = run("SELECT 1 AS a")["queryId"]
    details = call("GET", f"{PATH}/{query_id}", params={"detail": "true"}).json()
    assert (details["stages"], details["counters"], details["warnings"]) == ({}, {}, {})


@pytest.mark.parametrize("missing", ["AccessQueries", "ManageIngestionJobs"])
def test_a_key_needs_both_permissions(own_polaris, missing):
    polaris, call = own_polaris
    polaris.permissions = polaris.permissions - {missing}
    answer = call("POST", PATH, json={"query": "SELECT 1 AS a"})
    assert answer.status_code == 403
    assert missing in answer.json()["message"]


@pytest.fixture
def busy(own_polaris, wait_until):
    """Return a Polaris with a table of ten rows, whose threads for queries are busy, and the ids of these queries."""
    polaris, call = own_polaris
    spec = spec_of(rows(*({"timestamp": "2026-11-01"} for _ in range(10))))
    job_id = call("POST", "jobs", json=spec).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "completed")
    ids = [call("POST", PATH, json={"query": SLOW}).json()["queryId"] for _ in range(statements.WORKERS)]
    state = lambda query_id: call("GET", f"{PATH}/{query_id}").json()["state"]  # noqa: E731
    assert wait_until(lambda: all(state(query_id) == "RUNNING" for query_id in ids))
    return polaris, call, ids


def test_a_result_is_of_the_moment_of_its_request(busy, wait_until):
    polaris, call, ids = busy
    query_id = call("POST", PATH, json={"query": "SELECT COUNT(*) AS n FROM cities"}).json()["queryId"]
    polaris.remove_table("cities")
    assert call("GET", f"{PATH}/{query_id}").json()["state"] == "ACCEPTED"
    for slow in ids:
        call("DELETE", f"{PATH}/{slow}")
    assert wait_until(lambda: call("GET", f"{PATH}/{query_id}").json()["state"] == "SUCCESS")
    assert call("GET", f"{PATH}/{query_id}/results").json() == [{"n": 10}]


def test_a_server_that_stops_ends_its_queries(busy):
    polaris, call, _ = busy
    call("POST", PATH, json={"query": SLOW})
    threads = polaris._statements._workers._threads
    polaris._statements.close()
    assert not any(thread.is_alive() for thread in threads)


def test_a_query_that_has_just_ended_can_be_stopped(same_polaris):
    polaris, _ = same_polaris
    query = Query(polaris._store, "SELECT 1 AS a", [])
    list(query.run().rows)
    query.stop()
