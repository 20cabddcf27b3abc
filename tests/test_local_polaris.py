"""The local Polaris reads what it is given, counts what came of it, and answers as the service does."""

from __future__ import annotations

import gzip
import json
import time

import pytest
import requests

from airflow_provider_polaris.local import LocalPolaris
from tests.conftest import API_KEY
from tests.test_hook import SPEC


def spec_of(data: str, **changes):
    source = {
        **SPEC["source"],
        "data": data,
        "inputSchema": [
            {"name": "timestamp", "dataType": "string"},
            {"name": "count", "dataType": "long"},
            {"name": "amount", "dataType": "double"},
        ],
    }
    return {**SPEC, "source": source, **changes}


def rows(*rows) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


@pytest.fixture
def ingest(hook, wait_until):
    def run(spec):
        job_id = hook.create_job(spec).id
        assert wait_until(lambda: hook.get_job(job_id).execution_status.is_over)
        return hook.get_job(job_id), hook.get_job_metrics(job_id)

    return run


@pytest.fixture
def call(polaris):
    """Send any request, with the right key unless told otherwise."""

    def send(method, path, **kwargs):
        headers = {"Authorization": f"Basic {API_KEY}", **kwargs.pop("headers", {})}
        base = f"{polaris.url}/v1/projects/{polaris.project_id}"
        return requests.request(method, f"{base}/{path}", headers=headers, timeout=10, **kwargs)

    return send


T = "2026-11-01T00:00:00Z"


@pytest.mark.parametrize(
    ("row", "counter"),
    [
        ({"timestamp": T}, "processed"),
        ({"timestamp": T, "count": 3, "amount": 1.5}, "processed"),
        ({"timestamp": T, "count": None}, "processed"),
        ({"timestamp": T, "count": "3"}, "processed"),
        ({"timestamp": "2026-11-01T00:00:00.123456789Z"}, "processed"),
        ({"timestamp": "2026-11-01"}, "processed"),
        ({"timestamp": T, "count": "N/A"}, "warned"),
        ({"timestamp": T, "amount": "12,50"}, "warned"),
        ({"timestamp": T, "count": True}, "warned"),
        ({"timestamp": T, "count": [1]}, "warned"),
        ({}, "skipped"),
        ({"timestamp": None}, "skipped"),
        ({"timestamp": "yesterday"}, "skipped"),
        ({"timestamp": 1}, "skipped"),
        ([1], "skipped"),
        ("null", "skipped"),
        ("{", "skipped"),
        ("<html>", "skipped"),
        ("[" * 50_000, "skipped"),
        ("", "nothing"),
        ("   ", "nothing"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_becomes_of_a_row(ingest, row, counter):
    job, metrics = ingest(spec_of(rows({"timestamp": T}, row)))
    assert job.execution_status == "completed"
    assert metrics.rows_processed == 1 + (counter == "processed")
    assert metrics.rows_processed_with_warning == (counter == "warned")
    assert metrics.rows_skipped_by_error == (counter == "skipped")
    assert metrics.rows_persisted == metrics.rows_processed + metrics.rows_processed_with_warning


def test_no_rows_is_a_warning(ingest):
    job, metrics = ingest(spec_of(""))
    assert (job.execution_status, job.health.status, job.health.code) == ("completed", "warn", "no_rows_found")
    assert metrics.rows_processed == 0


@pytest.mark.parametrize(("most", "status"), [(1, "failed"), (2, "completed")])
def test_max_parse_exceptions(ingest, most, status):
    job, metrics = ingest(spec_of(rows("{", "{", {"timestamp": T}), maxParseExceptions=most))
    assert job.execution_status == status
    assert metrics.rows_skipped_by_error == 2
    if status == "failed":
        assert (job.health.status, job.health.code) == ("error", "cannot_parse_source")
        assert "maxParseExceptions is 1" in job.health.message


def test_an_aggregating_job_does_not_say_what_it_stored(ingest):
    mappings = [*SPEC["mappings"], {"columnName": "__count", "expression": "COUNT(*)", "isAggregation": True}]
    _, metrics = ingest(spec_of(rows({"timestamp": T}), mappings=mappings))
    assert metrics.rows_persisted is None


@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz"])
def test_uploaded_files_are_read(ingest, call, name):
    data = rows({"timestamp": T}, {"timestamp": T}).encode()
    answer = call("POST", "files", files={"file": (name, gzip.compress(data) if name.endswith("gz") else data)})
    assert answer.status_code == 201
    assert answer.json()["name"] == name
    source = {**SPEC["source"], "type": "uploaded", "fileList": [name]}
    job, metrics = ingest({**SPEC, "source": source})
    assert (job.execution_status, metrics.rows_processed, metrics.bytes_processed) == ("completed", 2, len(data))
    assert call("POST", "files", files={"file": (name, b"")}).status_code == 409
    assert name in [one["name"] for one in call("GET", "files").json()["values"]]
    assert call("DELETE", f"files/{name}").status_code == 204
    assert call("GET", f"files/{name}").status_code == 404


def test_a_gzip_that_breaks_off_fails_the_job(ingest, call):
    whole = gzip.compress(rows(*({"timestamp": T, "n": n} for n in range(5000))).encode())
    call("POST", "files", files={"file": ("broken.json.gz", whole[:-2000])})
    job, _ = ingest({**SPEC, "source": {**SPEC["source"], "type": "uploaded", "fileList": ["broken.json.gz"]}})
    assert job.execution_status == "failed"
    assert job.health.code == "cannot_parse_source"


def test_a_job_ends_whatever_becomes_of_its_file(ingest, call, wait_until):
    whole = gzip.compress(rows(*({"timestamp": T, "n": n} for n in range(5000))).encode())
    call("POST", "files", files={"file": ("damaged.json.gz", whole[:500] + b"\xff" * 500 + whole[1000:])})
    job, _ = ingest({**SPEC, "source": {**SPEC["source"], "type": "uploaded", "fileList": ["damaged.json.gz"]}})
    assert (job.execution_status, job.health.code) == ("failed", "cannot_parse_source")


def test_a_file_that_is_deleted_while_its_job_waits_fails_the_job(hook, polaris, call, wait_until, monkeypatch):
    monkeypatch.setattr(polaris._store, "rows_per_second", 500)
    slow = [hook.create_job(spec_of(rows(*[{"timestamp": T}] * 900))).id for _ in range(2)]  # both workers are busy
    call("POST", "files", files={"file": ("gone.json", b"{}\n")})
    job_id = hook.create_job({**SPEC, "source": {**SPEC["source"], "type": "uploaded", "fileList": ["gone.json"]}}).id
    call("DELETE", "files/gone.json")
    assert wait_until(lambda: hook.get_job(job_id).execution_status.is_over)
    assert hook.get_job(job_id).health.code == "internal_error"
    assert len(slow) == 2


@pytest.mark.parametrize("kind", ["sql", "streaming"])
def test_a_scripted_job_that_was_created_can_be_canceled(hook, kind):
    job_id = hook.create_job({"type": kind}).id
    hook.cancel_job(job_id)
    assert [hook.get_job(job_id).execution_status for _ in range(2)] == ["pending", "canceled"]


def test_it_stops_at_once_though_a_job_reads_slowly(wait_until):
    with LocalPolaris(rows_per_second=10) as slow:
        base = f"{slow.url}/v1/projects/{slow.project_id}/jobs"
        headers = {"Authorization": f"Basic {slow.api_key}"}
        requests.post(base, json=spec_of(rows(*[{"timestamp": T}] * 5000)), headers=headers, timeout=5)
        assert wait_until(
            lambda: "startedTimestamp" in requests.get(base, headers=headers, timeout=5).json()["values"][0]
        )
        start = time.monotonic()
    assert time.monotonic() - start < 100, "reading on to the end takes 500 s"


@pytest.mark.parametrize(
    "body",
    [
        '{"type": ["sql"]}',
        '{"type": "batch", "target": NaN}',
        '{"type": "sql", "query": "\\ud800"}',
        json.dumps({**SPEC, "source": {**SPEC["source"], "inputSchema": [{"name": "a", "dataType": ["long"]}]}}),
        "[" * 100_000,
    ],
    ids=lambda body: body[:40],
)
def test_a_body_that_makes_no_sense_is_a_400_and_breaks_nothing(call, body):
    answer = call("POST", "jobs", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert call("GET", "jobs").status_code == 200


def test_a_wish_that_makes_no_sense_is_a_400(polaris, call):
    job_id = polaris.add_job(executionStatus="running")
    assert call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": ["canceled"]}).status_code == 400


def test_it_listens_on_ipv6_too():
    with LocalPolaris(host="::1") as other:
        assert requests.get(other.url, timeout=5).status_code == 404


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "a\x00b"])
def test_a_file_name_that_is_a_path_is_refused(call, name):
    body = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\nx\r\n--b--\r\n'
    answer = call("POST", "files", data=body.encode(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 400
    assert answer.json()["code"] == "BadRequest"


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"type": "brand_new"}, "type"),
        ({"target": None}, "target.type"),
        ({"target": {"type": "table", "tableName": ""}}, "target.tableName"),
        ({"source": None}, "source"),
        ({"source": {"type": "s3", "formatSettings": {"format": "nd-json"}, "inputSchema": []}}, "source.type"),
        ({"source": {**SPEC["source"], "formatSettings": {"format": "orc"}}}, "source.formatSettings.format"),
        ({"source": {**SPEC["source"], "inputSchema": "x"}}, "source.inputSchema"),
        ({"source": {**SPEC["source"], "data": None}}, "source.data"),
        ({"source": {**SPEC["source"], "type": "uploaded", "fileList": ["no-such"]}}, "source.fileList"),
        ({"source": {**SPEC["source"], "type": "uploaded", "fileList": []}}, "source.fileList"),
        ({"mappings": []}, "mappings"),
        ({"mappings": None}, "mappings"),
        ({"maxParseExceptions": -1}, "maxParseExceptions"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_spec_names_the_wrong_field(call, changes, target):
    answer = call("POST", "jobs", json={**SPEC, **changes})
    assert answer.status_code == 400
    assert answer.json()["target"] == target


@pytest.mark.parametrize(
    ("method", "path", "kwargs", "status", "code"),
    [
        ("GET", "jobs", {"headers": {"Authorization": "Basic wrong"}}, 401, "Unauthorized"),
        ("GET", "jobs", {"headers": {"Authorization": f"Bearer {API_KEY}"}}, 401, "Unauthorized"),
        ("GET", "jobs/none", {}, 404, "NotFound"),
        ("GET", "nowhere", {}, 404, "NotFound"),
        ("PATCH", "jobs", {}, 405, "MethodNotAllowed"),
        ("POST", "jobs", {"data": "{}"}, 415, "UnsupportedMediaType"),
        ("POST", "jobs", {"data": "{", "headers": {"Content-Type": "application/json"}}, 400, "BadRequest"),
        ("POST", "jobs", {"json": [1]}, 400, "BadRequest"),
        ("GET", "jobs?paginationLimit=0", {}, 400, "BadRequest"),
        ("GET", "jobs?paginationLimit=1001", {}, 400, "BadRequest"),
        ("GET", "jobs?paginationLimit=x", {}, 400, "BadRequest"),
        ("GET", "jobs?paginationOffset=-1", {}, 400, "BadRequest"),
        ("GET", "jobs?sortColumn=x", {}, 400, "BadRequest"),
        ("GET", "jobs?sortOrder=up", {}, 400, "BadRequest"),
        ("POST", "files", {"data": "x"}, 400, "BadRequest"),
    ],
)
def test_errors_have_the_services_shape(call, method, path, kwargs, status, code):
    answer = call(method, path, **kwargs)
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert answer.json()["message"]


def test_another_project_is_not_here(polaris):
    answer = requests.get(
        f"{polaris.url}/v1/projects/other/jobs", headers={"Authorization": f"Basic {API_KEY}"}, timeout=5
    )
    assert (answer.status_code, answer.json()["target"]) == (404, "projectId")


def test_a_new_job_has_a_location_and_its_spec(call):
    answer = call("POST", "jobs", json=SPEC)
    assert answer.status_code == 201
    assert answer.headers["Location"].endswith(f"/jobs/{answer.json()['id']}")
    assert answer.json()["spec"] == SPEC


def test_summaries_lack_what_is_large(polaris, call):
    call("POST", "jobs", json=SPEC)
    for row in call("GET", "jobs").json()["values"]:
        assert not {"spec", "mappings", "source"} & set(row)
        assert {"executionStatus", "desiredExecutionStatus", "health", "target", "type", "createdTimestamp"} <= set(row)


def test_a_job_that_reads_is_canceled_while_it_reads(wait_until):
    with LocalPolaris(rows_per_second=100) as slow:
        base = f"{slow.url}/v1/projects/{slow.project_id}/jobs"
        headers = {"Authorization": f"Basic {slow.api_key}"}
        spec = spec_of(rows(*[{"timestamp": T}] * 5000))
        job = f"{base}/{requests.post(base, json=spec, headers=headers, timeout=5).json()['id']}"

        def look(path=""):
            return requests.get(job + path, headers=headers, timeout=5).json()

        assert wait_until(lambda: look()["executionStatus"] == "running")
        assert wait_until(lambda: 0 < look("/progress")["overallProgress"] < 1)
        assert look("/metrics")["totals"]["numRowsProcessed"] > 0
        answer = requests.put(job, json={"desiredExecutionStatus": "canceled"}, headers=headers, timeout=5).json()
        assert (answer["desiredExecutionStatus"], answer["executionStatus"]) == ("canceled", "running")
        assert wait_until(lambda: look()["executionStatus"] == "canceled")
        assert look()["health"]["code"] == "canceled"
        assert look("/metrics")["totals"]["numRowsProcessed"] < 5000


def test_a_job_that_is_over_cannot_be_updated(polaris, call):
    for body in (polaris.add_job(executionStatus="completed"), polaris.add_job(type="drop_table")):
        assert call("PUT", f"jobs/{body}", json={"desiredExecutionStatus": "canceled"}).status_code == 400
    running = polaris.add_job(executionStatus="running")
    assert call("PUT", f"jobs/{running}", json={"desiredExecutionStatus": "x"}).status_code == 400
    assert call("PUT", f"jobs/{running}", json={"desiredExecutionStatus": "suspended"}).status_code == 400


def test_nothing_is_left_running():
    import threading

    def own():
        return {thread for thread in threading.enumerate() if "local-polaris" in thread.name}

    before = own()
    with LocalPolaris() as other:
        url = other.url
        assert requests.get(url, timeout=5).status_code == 404
        assert own() > before
    assert own() == before
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)
