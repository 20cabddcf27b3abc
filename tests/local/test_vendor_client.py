"""The vendor's own client works with the local Polaris, and knows no status, health or type that the provider lacks."""

from __future__ import annotations

import asyncio
import gzip
import inspect
from datetime import datetime, timezone

import pytest

from airflow_provider_polaris.api.models import WARNING_CODES, ExecutionStatus, HealthStatus, JobType
from airflow_provider_polaris.gate.options import Gate
from airflow_provider_polaris.local import LocalPolaris
from tests.support.local_calls import caller_of
from tests.support.specs import S3, SQL, STREAMING, T, rows, spec_of, uploaded

sdk = pytest.importorskip("polaris.sdk.client", reason="a test dependency: make test installs it")
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError  # noqa: E402
from azure.core.pipeline.transport import AsyncioRequestsTransport  # noqa: E402
from polaris.sdk import async_client  # noqa: E402
from polaris.sdk.project_api import models  # noqa: E402
from polaris.sdk.project_api._serialization import Model  # noqa: E402

pytestmark = [
    # The aio client's upload does not await its read. No response can change that.
    pytest.mark.filterwarnings("ignore:coroutine 'AsyncHttpResponseImpl.read' was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*AsyncHttpResponseImpl.read:pytest.PytestUnraisableExceptionWarning"),
]

#: Options that read the body at once: the aio client's upload does not await it.
WHOLE = {"stream": False}
NOWHERE = "00000000-0000-4000-8000-000000000000"
CANCEL = {"desiredExecutionStatus": "canceled"}


@pytest.fixture(scope="module")
def world():
    """Yield a local Polaris for all tests of this module, with the table cities."""
    with LocalPolaris(rows_per_second=None) as polaris:
        polaris.add_table("cities")
        yield polaris


def sync_client(polaris, key=None):
    def call(group, name, *args, **kwargs):
        with sdk.ProjectClient.from_endpoint(polaris.project_id, polaris.url, key or polaris.api_key) as client:
            return getattr(getattr(client, group), name)(*args, **kwargs)

    return call


def aio_client(polaris, key=None):
    def call(group, name, *args, **kwargs):
        async def run():
            async with async_client.ProjectClient.from_endpoint(
                polaris.project_id, polaris.url, key or polaris.api_key, transport=AsyncioRequestsTransport()
            ) as client:
                return await getattr(getattr(client, group), name)(*args, **kwargs)

        return asyncio.run(run())

    return call


CLIENTS = pytest.mark.parametrize("client", [sync_client, aio_client], ids=["sync", "aio"])


def lacking(model, path="") -> list[str]:
    """Return the paths of the required fields that a model lacks, nested ones included."""
    found = []
    for name, value in vars(model).items():
        here = f"{path}.{name}"
        if model._validation.get(name, {}).get("required") and value is None:
            found.append(here)
        for part in value if isinstance(value, list) else [value]:
            found += lacking(part, here) if isinstance(part, Model) else []
    return found


def fresh(polaris, **fields):
    """Add a job with all fields that the client requires, and return its id."""
    spec = {
        "type": fields.get("type", "batch"),
        "target": {"type": "table", "tableName": "cities"},
        "source": S3["source"],
    }
    body = {"spec": spec, "target": spec["target"], "source": {**S3["source"], "inputSchema": []}, **fields}
    return polaris.add_job(metrics={"numRowsProcessed": 1}, **body)


def staged(polaris):
    """Upload a file, and return its name."""
    name = f"staged-{len(polaris.requests)}.json"
    assert caller_of(polaris)("POST", "files", files={"file": (name, b"{}")}).status_code == 201
    return name


def connected(polaris):
    """Create a connection, and return its name."""
    name = f"connected-{len(polaris.requests)}"
    body = {"type": "push_streaming", "name": name}
    assert caller_of(polaris)("POST", "connections", json=body).status_code == 201
    return name


#: For each call: its arguments, the class of its response, and the arguments for which it fails, if there are some.
CALLS = {
    ("jobs", "list_jobs"): (lambda _: ((), {"sort_column": "created_date_time"}), "JobListResponse", None),
    ("jobs", "create_job"): (lambda _: ((spec_of(rows({"timestamp": T})),), {}), "BatchJobResponse", ({"type": "x"},)),
    ("jobs", "describe_job"): (lambda p: ((fresh(p),), {}), "BatchJobResponse", (NOWHERE,)),
    ("jobs", "update_job"): (
        lambda p: ((fresh(p, executionStatus="running"), CANCEL), {}),
        "BatchJobResponse",
        (NOWHERE, CANCEL),
    ),
    ("jobs", "describe_job_status"): (lambda p: ((fresh(p),), {}), "JobStatusResponse", (NOWHERE,)),
    ("jobs", "update_job_status"): (
        lambda p: ((fresh(p, executionStatus="running"), CANCEL), {}),
        "JobStatusResponse",
        (NOWHERE, CANCEL),
    ),
    ("jobs", "describe_job_metrics"): (lambda p: ((fresh(p),), {}), "JobMetricsResponse", (NOWHERE,)),
    ("jobs", "describe_job_logs"): (lambda p: ((fresh(p),), {}), "JobLogsResponse", (NOWHERE,)),
    ("jobs", "describe_job_overall_progress"): (lambda p: ((fresh(p),), {}), "JobProgressResponse", (NOWHERE,)),
    ("jobs", "reset_job"): (lambda p: ((fresh(p, type="streaming"),), {}), "NoneType", (NOWHERE,)),
    ("files", "upload_file"): (
        lambda p: (
            ({"file": (f"new-{len(p.requests)}.json.gz", gzip.compress(b"{}"))},),
            {"data_format": "nd-json", **WHOLE},
        ),
        "FileMetadata",
        ({"other": ("x", b"")},),
    ),
    ("files", "list_files"): (lambda _: ((), {}), "FileListResponse", None),
    ("files", "get_file_metadata"): (lambda p: ((staged(p),), {}), "FileMetadata", ("none",)),
    ("files", "delete_file"): (lambda p: ((staged(p),), {}), "NoneType", ("none",)),
    ("connections", "list_connections"): (lambda p: ((), {}), "ConnectionListResponse", None),
    ("connections", "create_connection"): (
        lambda p: (({"type": "push_streaming", "name": f"new-{len(p.requests)}"},), {}),
        "PushStreamingConnectionResponse",
        ({"type": "push_streaming", "name": "a b"},),
    ),
    ("connections", "get_connection"): (lambda p: ((connected(p),), {}), "PushStreamingConnectionResponse", ("none",)),
    ("connections", "update_connection"): (
        lambda p: ((connected(p), {"type": "push_streaming", "description": "x"}), {}),
        "PushStreamingConnectionResponse",
        ("none", {"type": "push_streaming"}),
    ),
    ("connections", "delete_connection"): (lambda p: ((connected(p),), {}), "NoneType", ("none",)),
    ("tables", "list_tables"): (lambda _: ((), {}), "TableListResponse", None),
    ("tables", "describe_table"): (lambda _: (("cities",), {}), "DetailTablePayload", ("none",)),
    ("tables", "create_table"): (
        lambda p: (({"type": "detail", "name": f"new-{len(p.requests)}", "version": 0},), {}),
        "DetailTablePayload",
        ({"type": "view", "name": "x", "version": 0},),
    ),
    ("tables", "update_table"): (
        lambda p: (("cities", caller_of(p)("GET", "tables/cities").json()), {}),
        "DetailTablePayload",
        ("none", {"type": "detail", "name": "none", "version": 0}),
    ),
}


@CLIENTS
@pytest.mark.parametrize(("group", "name"), CALLS, ids=[name for _, name in CALLS])
def test_each_call_and_its_error_have_all_fields(world, client, group, name):
    right, expected, wrong = CALLS[group, name]
    arguments, options = right(world)
    answer = client(world)(group, name, *arguments, **options)
    assert type(answer).__name__ == expected
    assert not isinstance(answer, Model) or lacking(answer) == []
    if wrong:
        error = client(world)(group, name, *wrong, **(WHOLE if name == "upload_file" else {}))
        assert isinstance(error, models.ErrorResponse)
        assert lacking(error) == []
        assert error.target
    with pytest.raises(ClientAuthenticationError):
        client(world, "wrong")(group, name, *arguments, **options)


@CLIENTS
@pytest.mark.parametrize(("group", "name"), [("jobs", "list_jobs"), ("files", "list_files")])
def test_an_invalid_list_request_is_an_error_response(world, client, group, name):
    error = client(world)(group, name, sort_column="x")
    assert (error.code, error.target) == ("BadRequest", "sortColumn")


@pytest.mark.parametrize("client", [sdk.ProjectClient, async_client.ProjectClient], ids=["sync", "aio"])
def test_the_calls_are_all_calls_on_jobs_and_files(world, client):
    it = client.from_endpoint(
        "p",
        "http://localhost",
        "k",
        **({"transport": AsyncioRequestsTransport()} if client is async_client.ProjectClient else {}),
    )
    for group in ("jobs", "files"):
        there = {name for name, _ in inspect.getmembers(getattr(it, group), callable) if not name.startswith("_")}
        assert there - {"models"} == {name for its, name in CALLS if its == group}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ExecutionStatus.known, models.JobExecutionStatusV2),
        (ExecutionStatus.known, models.JobResponseExecutionStatus),
        (HealthStatus.known, models.JobHealthStatusV2),
        (JobType.known, models.JobTypeV2),
    ],
    ids=["status", "status in an answer", "health", "type"],
)
def test_the_vendor_knows_no_value_that_the_provider_lacks(ours, theirs):
    assert {value.value for value in theirs} - {"unknown"} == ours - {"unknown"}


def test_the_default_warnings_that_refuse_are_codes_of_the_vendor():
    assert {code.value for code in models.JobWarningCodeV2} == WARNING_CODES
    assert Gate().fail_on_warnings <= WARNING_CODES


@CLIENTS
@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (spec_of(rows({"timestamp": T})), "Batch"),
        (S3, "Batch"),
        (SQL, "Sql"),
        ({**STREAMING, "replaceRunning": True}, "Streaming"),
        ({"type": "delete_data", "deleteAll": True, "target": S3["target"]}, "DeleteData"),
        ({"type": "restore_data", "interval": "2026-11-01/2026-11-02", "target": S3["target"]}, "RestoreData"),
        ({"type": "drop_table", "target": {"type": "table", "tableName": "dropped"}}, "DropTable"),
    ],
    ids=["inline", "s3", "sql", "streaming", "delete_data", "restore_data", "drop_table"],
)
def test_a_job_of_each_type_has_all_fields_alone_and_in_the_list(world, client, spec, kind):
    call = client(world)
    if kind == "DropTable":
        # A table of its own: the job of the other client may still drop the other table.
        spec = {**spec, "target": {"type": "table", "tableName": f"dropped by {client.__name__}"}}
        world.add_table(spec["target"]["tableName"])
    else:
        world.next_job("hang")  # the client reads no code of the health "warn", which other jobs have
    created = call("jobs", "create_job", spec)
    assert type(created).__name__ == f"{kind}JobResponse"
    assert lacking(created) == lacking(call("jobs", "describe_job", created.id)) == []
    listed = call("jobs", "list_jobs", type=[spec["type"]], search_string=created.id).values
    assert [(one.id, type(one).__name__) for one in listed] == [(created.id, f"{kind}JobSummaryResponse")]
    assert lacking(listed[0]) == []


@CLIENTS
def test_the_client_follows_a_load_from_the_upload_to_the_table(world, client, wait_until):
    call = client(world)
    name = f"{client.__name__}.json.gz"
    call("files", "upload_file", {"file": (name, gzip.compress(rows({"timestamp": T}).encode()))}, **WHOLE)
    created = call("jobs", "create_job", uploaded(name, target={"type": "table", "tableName": name}))
    assert wait_until(lambda: call("jobs", "describe_job_status", created.id).execution_status == "completed")
    job = call("jobs", "describe_job", created.id)
    assert (job.health.status, job.spec.type, job.started_timestamp <= job.completed_timestamp) == ("ok", "batch", True)
    assert call("jobs", "describe_job_metrics", created.id).totals.num_rows_processed == 1
    assert call("jobs", "describe_job_overall_progress", created.id).overall_progress == 1.0
    table = call("tables", "describe_table", name)
    assert (table.availability, table.total_rows) == ("available", 1)
    with pytest.raises(ResourceExistsError):
        call("files", "upload_file", {"file": (name, b"")}, **WHOLE)


@CLIENTS
def test_the_client_reads_why_a_job_failed(world, client, wait_until):
    call = client(world)
    created = call("jobs", "create_job", spec_of("no row\n", maxParseExceptions=0))
    assert wait_until(lambda: call("jobs", "describe_job_status", created.id).execution_status == "failed")
    health = call("jobs", "describe_job", created.id).health
    assert (health.status, health.code) == ("error", "cannot_parse_source")
    assert "maxParseExceptions is 0" in health.message
    (entry,) = call("jobs", "describe_job_logs", created.id).logs
    assert (entry.code, entry.message) == (health.log.code, health.log.message) == (health.code, health.message)


@CLIENTS
def test_an_update_of_a_job_that_is_over_is_an_error(world, client):
    over = fresh(world, executionStatus="completed")
    assert client(world)("jobs", "update_job", over, CANCEL).code == "BadRequest"
    with pytest.raises(HttpResponseError):  # the client models no 400 there
        client(world)("jobs", "update_job_status", over, CANCEL)


@CLIENTS
def test_the_client_does_not_read_the_code_of_a_warning(world, client, wait_until):
    call = client(world)
    created = call("jobs", "create_job", spec_of(rows({"timestamp": T}, "broken")))
    assert wait_until(lambda: call("jobs", "describe_job_status", created.id).execution_status == "completed")
    health = call("jobs", "describe_job", created.id).health
    assert (type(health).__name__, hasattr(health, "code")) == ("JobHealthV2", False)


@CLIENTS
def test_the_client_queries_the_rows_that_it_loaded(world, client, wait_until):
    call = client(world)
    spec = spec_of(rows({"timestamp": T, "count": 1}), target={"type": "table", "tableName": "queried"})
    spec |= {"ingestionMode": "replace", "replaceAll": True}
    created = call("jobs", "create_job", spec)
    assert wait_until(lambda: call("jobs", "describe_job_status", created.id).execution_status == "completed")
    request = models.SqlRequest(query="SELECT __time, ? AS n FROM queried", parameters=[{"type": "BIGINT", "value": 5}])
    assert call("query", "query_sync", request) == [{"__time": "2026-11-01T00:00:00.000Z", "n": 5}]
    failure = call("query", "query_sync", models.SqlRequest(query="SELECT typo FROM queried"))
    assert (failure.category, failure.error_message) == ("INVALID_INPUT", "There is no column 'typo'")


@CLIENTS
def test_the_client_runs_an_asynchronous_query(world, client, wait_until):
    call = client(world)
    accepted = call("query", "query_async", models.SqlRequest(query="SELECT COUNT(*) AS n FROM cities"))
    assert (type(accepted).__name__, accepted.schema[0]["name"]) == ("SqlStatus", "n")
    assert wait_until(lambda: call("query", "query_async_status", accepted.query_id).state == "SUCCESS")
    status = call("query", "query_async_status", accepted.query_id, detail=True)
    assert [(page.id, page.num_rows) for page in status.result.pages] == [(0, 1)]
    assert list(call("query", "query_async_results", accepted.query_id, page=0)[0]) == ["n"]
    assert call("query", "query_async_cancel", accepted.query_id) is None
    assert call("query", "query_async_results", "query-none").category == "INVALID_INPUT"
    assert call("query", "query_async", models.SqlRequest(query="SELECT typo FROM cities")).state == "FAILED"


@CLIENTS
def test_the_client_pushes_events_into_a_stream(world, client, wait_until):
    call = client(world)
    name = connected(world)
    target = {"type": "table", "tableName": name}
    source = {**S3["source"], "type": "connection", "connectionName": name}
    spec = {**STREAMING, "target": target, "source": source, "mappings": S3["mappings"], "readFromPoint": "earliest"}
    created = call("jobs", "create_job", spec)
    assert type(created).__name__ == "StreamingJobResponse"
    now = datetime.now(timezone.utc).isoformat()
    assert call("events", "push_events_using_connection", name, rows({"timestamp": now}).encode()) is None
    count = models.SqlRequest(query=f'SELECT COUNT(*) AS n FROM "{name}"')  # noqa: S608 - a name of this test
    assert wait_until(lambda: call("query", "query_sync", count) == [{"n": 1}])
    assert call("jobs", "describe_job_metrics", created.id).totals.num_rows_processed == 1
