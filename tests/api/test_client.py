"""The calls of PolarisClient, over HTTP, with and without Airflow at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_polaris.api import transport
from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import (
    PolarisBadRequest,
    PolarisInvalidResponse,
    PolarisNotFound,
    PolarisResponseTooLarge,
    PolarisUnauthorized,
    PolarisUnreachable,
    PolarisUsageError,
)
from airflow_provider_polaris.api.models import JOB_FIELDS, Job
from tests.support.specs import SPEC


def connection_to(polaris, **values) -> PolarisConnection:
    values = {"host": polaris.url, "project_id": polaris.project_id, "api_key": polaris.api_key, **values}
    return PolarisConnection.from_values(**values)


@pytest.fixture
def client(polaris):
    client = PolarisClient(connection_to(polaris))
    yield client
    client.close()


def test_a_created_job_can_be_followed_to_its_end(polaris, client, wait_until):
    job = client.create_job(SPEC)
    assert job.type == "batch"
    assert job.table == "cities"
    assert wait_until(lambda: client.get_job(job.id).execution_status.is_over)
    assert client.get_job_status(job.id) == "completed"
    assert client.get_job(job.id).health.status == "ok"
    assert client.get_job_metrics(job.id).rows_processed == 2
    assert client.get_job_logs(job.id) == []
    assert client.get_job_progress(job.id) == 1.0
    assert client.latest_job("cities").id == job.id


def test_list_jobs_reads_all_pages_and_yields_each_job_once(polaris, client):
    ids = {polaris.add_job(target={"type": "table", "tableName": "paged"}) for _ in range(25)}
    polaris.requests.clear()
    listed = [job.id for job in client.list_jobs(target_table_name="paged", page_size=10)]
    assert set(listed) == ids
    assert len(listed) == 25
    assert len(polaris.requests) == 3


def test_list_jobs_yields_a_job_once_that_moves_to_the_next_page(polaris, client):
    for _ in range(4):
        polaris.add_job(target={"type": "table", "tableName": "moving"})
    listed = client.list_jobs(target_table_name="moving", page_size=2, sort_order="DESC")
    first = [next(listed), next(listed)]
    polaris.add_job(target={"type": "table", "tableName": "moving"})  # moves the other jobs down by one
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
        (
            {"target_table_id": "00000000-0000-4000-8000-000000000001"},
            "targetTableId=00000000-0000-4000-8000-000000000001",
        ),
        ({"search_string": "x&y"}, "searchString=x%26y"),
    ],
)
def test_list_jobs_sends_filters_under_the_names_of_the_api(polaris, client, filters, query):
    list(client.list_jobs(**filters))
    assert query in polaris.requests[0].query
    assert "paginationLimit=1000" in polaris.requests[0].query
    assert "sortColumn=created_date_time&sortOrder=ASC" in polaris.requests[0].query


def test_list_jobs_matches_any_value_of_a_filter_and_all_filters(polaris, client):
    target = {"type": "table", "tableName": "filtered"}
    jobs = {
        (status, kind): polaris.add_job(executionStatus=status, type=kind, target=target)
        for status in ("running", "idle", "failed")
        for kind in ("batch", "streaming")
    }
    found = client.list_jobs(execution_status=["running", "idle"], type="streaming", target_table_name="filtered")
    assert {job.id for job in found} == {jobs["running", "streaming"], jobs["idle", "streaming"]}


def test_latest_job_returns_the_job_that_was_created_last(polaris, client):
    for number, (table, kind) in enumerate([("t1", "batch"), ("t1", "sql"), ("t2", "batch"), ("t1", "batch")]):
        polaris.add_job(
            id=f"job-{number}",
            type=kind,
            target={"type": "table", "tableName": table},
            createdTimestamp=f"2026-11-01T00:00:0{number}Z",
        )
    assert client.latest_job("t1").id == "job-3"
    assert client.latest_job("t1", job_type="sql").id == "job-1"
    assert client.latest_job("t3") is None
    with pytest.raises(PolarisUsageError):
        client.latest_job("")


def test_a_canceled_job_ends_after_cancel_job_returned(polaris, client):
    job_id = polaris.add_job(executionStatus="running")
    job = client.cancel_job(job_id)
    assert (job.desired_execution_status, job.execution_status) == ("canceled", "running")
    assert polaris.requests[-1].method == "PUT"
    assert polaris.requests[-1].body == {"desiredExecutionStatus": "canceled"}
    assert [client.get_job(job_id).execution_status for _ in range(2)] == ["running", "canceled"]


def test_update_job_suspends_and_resumes_a_streaming_job(polaris, client):
    job_id = polaris.add_job(type="streaming", executionStatus="running")
    assert client.update_job(job_id, "suspended").execution_status == "suspended"
    assert client.update_job(job_id, "running").execution_status == "running"
    with pytest.raises(PolarisUsageError):
        client.update_job(job_id, "stopped")


def test_an_invalid_spec_is_refused_with_the_path_of_the_invalid_field(polaris, client):
    with pytest.raises(PolarisBadRequest, match=r"target\.tableName"):
        client.create_job({**SPEC, "target": {"type": "table"}})
    with pytest.raises(PolarisUsageError):
        client.create_job("{}")


def test_a_job_is_not_created_twice_if_the_response_was_lost(polaris, client, moved_clock):
    polaris.drop_next(1, when="after")
    with pytest.raises(PolarisUnreachable, match="may have created the job"):
        client.create_job({**SPEC, "target": {"type": "table", "tableName": "once"}})
    assert len(list(client.list_jobs(target_table_name="once"))) == 1


def test_a_response_about_another_job_is_not_accepted(polaris, client, moved_clock):
    polaris.answer_next(99, body='{"id": "another", "executionStatus": "completed", "health": {"status": "ok"}}')
    with pytest.raises(PolarisInvalidResponse, match="returned job another"):
        client.get_job("mine", retry=False)


def test_a_missing_job_raises_not_found(polaris, client):
    with pytest.raises(PolarisNotFound, match="no such job"):
        client.get_job("00000000-0000-4000-8000-000000000000")


@pytest.mark.parametrize("call", ["get_job_status", "get_job_logs", "get_job_progress"])
@pytest.mark.parametrize("body", ["null", "[]", "{}", '{"executionStatus": 7, "logs": {}, "overallProgress": "half"}'])
def test_a_response_of_a_wrong_shape_is_not_accepted(polaris, client, call, body):
    polaris.answer_next(99, body=body)
    with pytest.raises(PolarisInvalidResponse):
        getattr(client, call)("some-job")


@pytest.mark.parametrize("body", ["null", "[]", "{}", '{"values": {}}', '{"values": [7]}'])
def test_a_list_of_a_wrong_shape_is_not_accepted(polaris, client, body):
    polaris.answer_next(99, body=body)
    with pytest.raises(PolarisInvalidResponse):
        list(client.list_jobs())


@pytest.mark.parametrize("job_id", [None, "", "None", "a/b", "..", "a b", "{{ x }}"])
@pytest.mark.parametrize("call", ["get_job", "get_job_metrics", "get_job_logs", "cancel_job", "get_job_status"])
def test_an_invalid_job_id_is_never_sent(polaris, client, call, job_id):
    with pytest.raises(PolarisUsageError):
        getattr(client, call)(job_id)
    assert not polaris.requests


def test_a_list_that_never_ends_raises(polaris, client):
    page = '{"values": [{"id": "j", "executionStatus": "running"}], "moreResultsAvailable": true}'
    polaris.answer_next(9999, body=page)
    with pytest.raises(PolarisInvalidResponse, match="no further job"):
        list(client.list_jobs())


def test_a_table_name_with_spaces_and_slashes_is_one_segment(polaris, client):
    polaris.add_table("Koalas / Subset?")
    table = client.get_table("Koalas / Subset?")
    assert (table.name, table.availability, table.total_rows) == ("Koalas / Subset?", "available", 0)


@pytest.mark.parametrize("name", [".", "..", "", "x" * 256, None])
def test_an_invalid_table_name_is_never_sent(polaris, client, name):
    with pytest.raises(PolarisUsageError):
        client.get_table(name)
    assert not polaris.requests


@pytest.mark.parametrize("body", ['{"values": [{}]}', '{"values": [7]}', '{"values": {}}', "[]"])
def test_list_active_does_not_accept_a_list_of_a_wrong_shape(polaris, client, body):
    polaris.answer_next(99, body=body)
    with pytest.raises(PolarisInvalidResponse, match="invalid"):
        client.list_active({"j"}, retry=False)


def test_list_active_returns_the_wanted_rows_and_counts_all(polaris, client):
    wanted, other = polaris.add_job(executionStatus="running"), polaris.add_job(executionStatus="pending")
    polaris.add_job(executionStatus="completed")
    page = client.list_active({wanted.lower()})
    assert list(page.rows) == [wanted.lower()]
    assert page.rows[wanted.lower()]["executionStatus"] == "running"
    assert (page.size, page.more) == (2, False)
    assert other not in page.rows


def test_list_ended_returns_the_wanted_rows_the_job_that_a_user_has_updated_last_first(polaris, client):
    ended = [polaris.add_job(executionStatus="running") for _ in range(4)]
    still_running, other = polaris.add_job(executionStatus="running"), polaris.add_job(executionStatus="failed")
    polaris.set_status(ended[3], "completed")
    polaris.set_status(ended[2], "failed")
    polaris.set_status(ended[1], "completed")
    client.cancel_job(ended[0])
    polaris.set_status(ended[0], "canceled")
    page = client.list_ended({*ended, still_running}, limit=3)
    assert list(page.rows) == [ended[0], ended[3]]
    assert (page.size, page.more) == (3, True), f"job {other} is counted"
    rest = client.list_ended({*ended, still_running}, 3)
    assert list(rest.rows) == [ended[2], ended[1]]
    assert not rest.more
    assert Job.from_api(page.rows[ended[0]]) == client.get_job(ended[0])
    assert polaris.requests[-2].query == (
        "executionStatus=canceled&executionStatus=completed&executionStatus=failed&"
        "sortColumn=last_updated_date_time&sortOrder=DESC&paginationLimit=1000&paginationOffset=3"
    )


def test_a_row_of_list_active_has_all_that_a_job_has_and_no_more(polaris, client):
    wanted, other = (
        polaris.add_job(
            executionStatus="running", health={"status": "warn", "code": "no_rows_found", "log": {"code": "x"}}
        )
        for _ in range(2)
    )
    row = client.list_active({wanted.lower()}).rows[wanted.lower()]
    assert Job.from_api(row) == client.get_job(wanted)
    assert set(row) <= set(JOB_FIELDS)
    assert "source" in client.get_job(wanted).raw
    assert client.list_active({wanted.lower(), other.lower()}).size == 2


def test_rows_of_list_active_share_equal_parts(polaris, client):
    wanted = [polaris.add_job(executionStatus="running") for _ in range(2)]
    first, second = client.list_active(set(wanted)).rows.values()
    assert first["createdBy"] is second["createdBy"] is first["lastModifiedBy"]
    assert first["target"] is second["target"]
    assert first["id"] != second["id"]


def test_a_closed_client_opens_new_connections(polaris, client):
    job_id = polaris.add_job()
    client.get_job(job_id)
    client.close()
    client.close()
    assert client.get_job(job_id).id == job_id


def test_a_fixed_connection_is_not_used_again_after_a_401(polaris, client):
    polaris.fail_next(9, status=401)
    with pytest.raises(PolarisUnauthorized):
        client.get_job("some-job")
    assert len(polaris.requests) == 1


def test_a_connection_from_a_function_is_looked_up_at_the_first_call_and_after_a_401(polaris):
    job_id = polaris.add_job()
    looked_up = []

    def look_up():
        looked_up.append(polaris.api_key)
        return connection_to(polaris)

    client = PolarisClient(look_up)
    assert looked_up == []
    client.get_job(job_id)
    client.get_job(job_id)
    assert len(looked_up) == 1
    polaris.api_key = "pok_rotated"
    client.get_job(job_id)
    assert looked_up[1:] == ["pok_rotated"]
    client.close()


def test_threads_look_the_connection_up_once(polaris):
    job_id = polaris.add_job()
    looked_up = []
    client = PolarisClient(lambda: looked_up.append(1) or connection_to(polaris))
    with ThreadPoolExecutor(8) as pool:
        assert {job.id for job in pool.map(client.get_job, [job_id] * 8)} == {job_id}
    assert len(looked_up) == 1
    client.close()


#: A finder that refuses every import of Airflow stands in for an environment without Airflow.
WITHOUT_AIRFLOW = """
import sys

class NoAirflow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "airflow":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NoAirflow())

from airflow_provider_polaris.api import transport
from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import (
    PolarisUnauthorized,
    PolarisConnectionInvalid,
    PolarisNotFound,
    PolarisUnreachable,
    PolarisUsageError,
)
from airflow_provider_polaris.local import LocalPolaris

def raised(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except Exception as error:
        return type(error).__name__
    return None

with LocalPolaris() as polaris:
    job_id = polaris.add_job(executionStatus="completed", target={"type": "table", "tableName": "orders"})
    values = {"host": polaris.url, "project_id": polaris.project_id, "api_key": polaris.api_key}
    client = PolarisClient(PolarisConnection.from_values(**values))
    print([job.id for job in client.list_jobs()] == [job_id], client.get_job(job_id).table)
    print(raised(client.get_job, "no-such-job"), raised(client.get_job, "a/b"))
    print(raised(PolarisClient(PolarisConnection.from_values(**{**values, "api_key": "pok_wrong"})).get_job, job_id))
    print(raised(PolarisConnection.from_values, **{**values, "host": ""}))
    client.close()
nobody = PolarisClient(PolarisConnection.from_values(host="http://127.0.0.1:1", project_id="p", api_key="k"))
print(raised(nobody.get_job, job_id, retry=False))
print([name for name in sys.modules if name.partition(".")[0] == "airflow"])
"""


def test_the_client_works_without_airflow():
    run = subprocess.run([sys.executable, "-c", WITHOUT_AIRFLOW], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n") == [
        "True orders",
        "PolarisNotFound PolarisUsageError",
        "PolarisUnauthorized",
        "PolarisConnectionInvalid",
        "PolarisUnreachable",
        "[]",
        "",
    ]


def test_a_page_of_active_jobs_that_would_delay_a_triggerer_is_not_read(polaris, client):
    for _ in range(5):
        polaris.add_job(createdBy={"username": "x" * 1_000_000})
    assert len(list(client.list_jobs())) == 5
    with pytest.raises(PolarisResponseTooLarge, match="more than 4,194,304 bytes"):
        client.list_active(set())
    assert client.list_active(set(), limit=3).size == 3


class TestResponsesThatAreTooLarge:
    """The limit is lowered; ``createdBy`` makes a job large in the list too."""

    @pytest.fixture(autouse=True)
    def limit(self, monkeypatch):
        monkeypatch.setattr(transport, "MAX_BODY", 20_000)

    def test_a_job_can_be_canceled_and_its_status_requested(self, polaris, client):
        job_id = polaris.add_job(executionStatus="running", query="x" * 30_000)
        with pytest.raises(PolarisResponseTooLarge):
            client.get_job(job_id)
        job = client.cancel_job(job_id)
        assert (job.id, job.is_being_canceled, job.is_over) == (job_id, True, False)
        assert client.get_job_status(job_id) == "canceled"

    def test_a_created_job_is_known_by_the_location_of_the_response(self, polaris, client):
        rows = SPEC["source"]["data"] * 500
        job = client.create_job({**SPEC, "source": {**SPEC["source"], "data": rows}})
        assert [job.id] == list(polaris._store.jobs)
        assert (job.execution_status, job.type, job.table) == ("unknown", "batch", "cities")

    @pytest.mark.parametrize("location", [None, "", "/", "https://elsewhere/a b", "/jobs/.."])
    def test_a_created_job_without_a_location_may_exist(self, polaris, client, location):
        headers = {} if location is None else {"Location": location}
        polaris.answer_next(1, body="x" * 30_000, status=201, headers=headers, match="POST")
        with pytest.raises(PolarisInvalidResponse, match=r"more than 20,000 bytes.*may have created the job") as caught:
            client.create_job(SPEC)
        assert caught.value.received
        assert len(polaris.requests) == 1

    def test_a_list_is_read_in_smaller_pages(self, polaris, client):
        ids = [polaris.add_job(createdBy={"username": "x" * 1_500}) for _ in range(40)]
        polaris.requests.clear()
        assert [job.id for job in client.list_jobs()] == ids
        assert len(polaris.requests) < 20

    def test_a_list_with_a_job_that_fills_more_than_a_page_cannot_be_read(self, polaris, client):
        polaris.add_job(createdBy={"username": "x" * 30_000})
        with pytest.raises(PolarisResponseTooLarge):
            list(client.list_jobs(page_size=4))
        assert [json.loads(r.query.partition("paginationLimit=")[2].partition("&")[0]) for r in polaris.requests] == [
            4,
            2,
            1,
        ]
