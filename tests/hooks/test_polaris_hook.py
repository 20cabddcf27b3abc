"""The hook's calls, over HTTP."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_polaris.api.errors import (
    PolarisBadRequest,
    PolarisConnectionMissing,
    PolarisNotFound,
    PolarisUnreachable,
    PolarisUsageError,
)
from airflow_provider_polaris.hooks.polaris import PolarisHook
from tests.support.job_specs import SPEC


def test_a_job_from_its_creation_to_its_end(polaris, hook, wait_until):
    job = hook.create_job(SPEC)
    assert job.type == "batch"
    assert job.table == "cities"
    assert wait_until(lambda: hook.get_job(job.id).execution_status.is_over)
    assert hook.get_job_status(job.id) == "completed"
    assert hook.get_job(job.id).health.status == "ok"
    assert hook.get_job_metrics(job.id).rows_processed == 2
    assert hook.get_job_logs(job.id) == []
    assert hook.get_job_progress(job.id) == 1.0
    assert hook.latest_job("cities").id == job.id


def test_making_a_hook_looks_nothing_up(monkeypatch):
    monkeypatch.setattr(PolarisHook, "get_connection", lambda *_: pytest.fail("looked up"))
    PolarisHook("some_connection")


def test_one_look_up_and_one_line_serve_many_calls(polaris, hook, monkeypatch):
    looked_up = []
    get_connection = PolarisHook.get_connection
    monkeypatch.setattr(PolarisHook, "get_connection", lambda *a: looked_up.append(a) or get_connection(a[-1]))
    job_id = polaris.add_job()
    for _ in range(5):
        hook.get_job(job_id)
    assert len(looked_up) == 1


def test_the_list_goes_through_all_pages_and_yields_each_job_once(polaris, hook):
    ids = {polaris.add_job(target={"type": "table", "tableName": "paged"}) for _ in range(25)}
    polaris.requests.clear()
    listed = [job.id for job in hook.list_jobs(target_table_name="paged", page_size=10)]
    assert set(listed) == ids
    assert len(listed) == 25
    assert len(polaris.requests) == 3


def test_a_job_that_moves_to_the_next_page_is_yielded_once(polaris, hook):
    for _ in range(4):
        polaris.add_job(target={"type": "table", "tableName": "moving"})
    listed = hook.list_jobs(target_table_name="moving", page_size=2, sort_order="DESC")
    first = [next(listed), next(listed)]
    polaris.add_job(target={"type": "table", "tableName": "moving"})  # pushes the others down by one
    rest = list(listed)
    assert len({job.id for job in first + rest}) == len(first + rest)


@pytest.mark.parametrize(
    ("filters", "query"),
    [
        ({"execution_status": "running"}, "executionStatus=running"),
        ({"execution_status": ["running", "idle"]}, "executionStatus=running&executionStatus=idle"),
        ({"health_status": ("warn", "error")}, "healthStatus=warn&healthStatus=error"),
        ({"type": "sql"}, "type=sql"),
        ({"connection_name": ["a b"]}, "connectionName=a+b"),
        ({"target_table_name": "t"}, "targetTableName=t"),
        ({"target_table_id": "i"}, "targetTableId=i"),
        ({"search_string": "x&y"}, "searchString=x%26y"),
    ],
)
def test_filters_travel_under_the_apis_names(polaris, hook, filters, query):
    list(hook.list_jobs(**filters))
    assert query in polaris.requests[0].query
    assert "paginationLimit=1000" in polaris.requests[0].query
    assert "sortColumn=created_date_time&sortOrder=ASC" in polaris.requests[0].query


def test_filters_of_one_name_are_alternatives_and_different_names_must_all_hold(polaris, hook):
    target = {"type": "table", "tableName": "filtered"}
    jobs = {
        (status, kind): polaris.add_job(executionStatus=status, type=kind, target=target)
        for status in ("running", "idle", "failed")
        for kind in ("batch", "streaming")
    }
    found = hook.list_jobs(execution_status=["running", "idle"], type="streaming", target_table_name="filtered")
    assert {job.id for job in found} == {jobs["running", "streaming"], jobs["idle", "streaming"]}


def test_the_latest_job_of_a_table(polaris, hook):
    for number, (table, kind) in enumerate([("t1", "batch"), ("t1", "sql"), ("t2", "batch"), ("t1", "batch")]):
        polaris.add_job(
            id=f"job-{number}",
            type=kind,
            target={"type": "table", "tableName": table},
            createdTimestamp=f"2026-11-01T00:00:0{number}Z",
        )
    assert hook.latest_job("t1").id == "job-3"
    assert hook.latest_job("t1", job_type="sql").id == "job-1"
    assert hook.latest_job("t3") is None
    with pytest.raises(PolarisUsageError):
        hook.latest_job("")


def test_canceling_asks_and_the_job_ends_later(polaris, hook):
    job_id = polaris.add_job(executionStatus="running")
    job = hook.cancel_job(job_id)
    assert (job.desired_execution_status, job.execution_status) == ("canceled", "running")
    assert polaris.requests[-1].method == "PUT"
    assert polaris.requests[-1].body == {"desiredExecutionStatus": "canceled"}
    assert [hook.get_job(job_id).execution_status for _ in range(2)] == ["running", "canceled"]


def test_updating_a_streaming_job(polaris, hook):
    job_id = polaris.add_job(type="streaming", executionStatus="running")
    assert hook.update_job(job_id, "suspended").execution_status == "suspended"
    assert hook.update_job(job_id, "running").execution_status == "running"
    with pytest.raises(PolarisUsageError):
        hook.update_job(job_id, "stopped")


def test_a_wrong_spec_is_refused_with_the_path_of_the_wrong_field(polaris, hook):
    with pytest.raises(PolarisBadRequest, match=r"target\.tableName"):
        hook.create_job({**SPEC, "target": {"type": "table"}})
    with pytest.raises(PolarisUsageError):
        hook.create_job("{}")


def test_a_job_whose_answer_was_lost_is_not_created_twice(polaris, hook, moved_clock):
    polaris.drop_next(1, when="after")
    with pytest.raises(PolarisUnreachable, match="may have made the job"):
        hook.create_job({**SPEC, "target": {"type": "table", "tableName": "once"}})
    assert len(list(hook.list_jobs(target_table_name="once"))) == 1


def test_a_key_that_was_rotated_is_read_again(polaris, hook, monkeypatch):
    job_id = polaris.add_job()
    assert hook.get_job(job_id)
    polaris.api_key = "pok_rotated"
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", polaris.connection_json)
    assert hook.get_job(job_id)


def test_an_answer_about_another_job_is_none(polaris, hook, moved_clock):
    polaris.answer_next(99, body='{"id": "another", "executionStatus": "completed", "health": {"status": "ok"}}')
    with pytest.raises(PolarisUnreachable, match="answered with job another"):
        hook.get_job("mine", retry=False)


def test_a_job_that_is_not_there(polaris, hook):
    with pytest.raises(PolarisNotFound, match="no such job"):
        hook.get_job("00000000-0000-4000-8000-000000000000")


@pytest.mark.parametrize("call", ["get_job_status", "get_job_logs", "get_job_progress"])
@pytest.mark.parametrize("body", ["null", "[]", "{}", '{"executionStatus": 7, "logs": {}, "overallProgress": "half"}'])
def test_answers_of_a_wrong_shape_are_none(polaris, hook, call, body):
    polaris.answer_next(99, body=body)
    with pytest.raises(PolarisUnreachable):
        getattr(hook, call)("some-job")


@pytest.mark.parametrize("body", ["null", "[]", "{}", '{"values": {}}', '{"values": [7]}'])
def test_a_list_of_a_wrong_shape_is_none(polaris, hook, body):
    polaris.answer_next(99, body=body)
    with pytest.raises(PolarisUnreachable):
        list(hook.list_jobs())


@pytest.mark.parametrize("job_id", [None, "", "None", "a/b", "..", "a b", "{{ x }}"])
@pytest.mark.parametrize("call", ["get_job", "get_job_metrics", "get_job_logs", "cancel_job", "get_job_status"])
def test_an_id_that_cannot_be_one_is_never_sent(polaris, hook, call, job_id):
    with pytest.raises(PolarisUsageError):
        getattr(hook, call)(job_id)
    assert not polaris.requests


def test_a_connection_that_is_not_defined(airflow_db):
    with pytest.raises(PolarisConnectionMissing, match="no_such_connection"):
        PolarisHook("no_such_connection").get_job("a")


def test_the_connection_test_answers_in_words(polaris, hook, monkeypatch):
    assert hook.test_connection()[0] is True
    polaris.fail_next(1, status=403)
    ok, message = hook.test_connection()
    assert not ok
    assert "ManageIngestionJobs" in message
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", '{"conn_type": "imply_polaris", "host": "x"}')
    ok, message = PolarisHook().test_connection()
    assert not ok
    assert "project id" in message


def test_threads_that_share_a_hook_all_go_on_with_a_rotated_key(polaris, hook, monkeypatch):
    job_id = polaris.add_job()
    hook.get_job(job_id)
    polaris.api_key = "pok_rotated"
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", polaris.connection_json)
    polaris.delay_next(8, seconds=0.1)  # so that all of them are turned away before one has read the new key
    with ThreadPoolExecutor(8) as pool:
        assert {job.id for job in pool.map(hook.get_job, [job_id] * 8)} == {job_id}


def test_a_list_that_never_ends_is_given_up(polaris, hook):
    page = '{"values": [{"id": "j", "executionStatus": "running"}], "moreResultsAvailable": true}'
    polaris.answer_next(9999, body=page)
    with pytest.raises(PolarisUnreachable, match="shows none"):
        list(hook.list_jobs())


def test_a_sql_operator_is_told_that_the_connection_does_not_serve_it(polaris, monkeypatch):
    """Its hook gets each extra of the connection as an argument."""
    from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

    connection = json.loads(polaris.connection_json)
    connection["extra"]["timeout"] = 30
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))
    query = SQLExecuteQueryOperator(task_id="query", conn_id="polaris_default", sql="SELECT 1")
    with pytest.raises(PolarisUsageError, match="does not serve Airflow's SQL operators yet") as caught:
        query.get_db_hook()
    assert "'polaris_default'" in str(caught.value)
    assert not polaris.requests
