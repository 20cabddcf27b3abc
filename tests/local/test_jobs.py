"""The local Polaris answers the Jobs calls as the service does."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest
import requests

from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.local.http.answers import MAX_JSON
from tests.conftest import API_KEY
from tests.local.conftest import T, caller_of, rows, spec_of
from tests.support.job_specs import SPEC

SQL = {"type": "sql", "createTableIfNotExists": True, "query": 'INSERT INTO "by_sql" SELECT 1 PARTITIONED BY ALL'}
STREAMING = {
    "type": "streaming",
    "createTableIfNotExists": True,
    "target": {"type": "table", "tableName": "clicks"},
    "source": {"type": "connection", "connectionName": "kafka"},
}
S3 = {
    **SPEC,
    "source": {
        **{key: SPEC["source"][key] for key in ("formatSettings", "inputSchema")},
        "type": "s3",
        "connectionName": "lake",
        "prefixes": ["day=1/"],
    },
}


@pytest.mark.parametrize("spec", [SQL, STREAMING, S3], ids=lambda spec: spec["type"])
def test_a_job_that_nothing_runs_waits_says_so_and_can_be_canceled(hook, spec):
    job_id = hook.create_job(spec).id
    assert hook.get_job(job_id).execution_status == "pending"
    assert "waits to be scripted" in hook.get_job_logs(job_id)[0].message
    hook.cancel_job(job_id)
    assert [hook.get_job(job_id).execution_status for _ in range(2)] == ["pending", "canceled"]


def test_a_streaming_job_is_suspended_resumed_reset_and_idle(polaris, hook, call):
    job_id = hook.create_job(STREAMING).id
    polaris.set_status(job_id, "running")
    for wish in ("suspended", "running"):
        assert hook.update_job(job_id, wish).execution_status == wish
        assert hook.get_job(job_id).desired_execution_status == wish
    polaris.set_status(job_id, "idle")
    assert hook.get_job(job_id).execution_status == "idle"
    answer = call("POST", f"jobs/{job_id}/reset")
    assert (answer.status_code, answer.content) == (200, b"")
    assert call("GET", f"jobs/{job_id}/progress").status_code == 400
    hook.cancel_job(job_id)
    assert call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "running"}).status_code == 400
    batch = polaris.add_job(executionStatus="running")
    assert call("POST", f"jobs/{batch}/reset").json()["target"] == "jobId"


def test_it_stops_at_once_though_a_job_reads_slowly(wait_until):
    with LocalPolaris(rows_per_second=10) as slow:
        call = caller_of(slow)
        call("POST", "jobs", json=spec_of(rows(*[{"timestamp": T}] * 5000)))
        assert wait_until(lambda: "startedTimestamp" in call("GET", "jobs").json()["values"][0])
        start = time.monotonic()
    assert time.monotonic() - start < 100, "reading on to the end takes 500 s"


@pytest.mark.parametrize(
    "body",
    [
        '{"type": ["sql"]}',
        '{"type": "batch", "target": NaN}',
        '{"type": "sql", "query": "\\ud800"}',
        json.dumps({**SPEC, "source": {**SPEC["source"], "inputSchema": [{"name": "a", "dataType": ["long"]}]}}),
        json.dumps({**SPEC, "source": {**SPEC["source"], "formatSettings": {"format": ["csv"]}}}),
        json.dumps({**SPEC, "target": {"type": "table", "tableName": "t", "intervals": {"a": 1}}}),
        "[" * 100_000,
        "1" * 1_000_000,
        "",
        "\xff",
    ],
    ids=lambda body: body[:40],
)
def test_a_body_that_makes_no_sense_is_a_400_and_breaks_nothing(call, body):
    answer = call("POST", "jobs", data=body.encode("latin-1"), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert call("GET", "jobs").status_code == 200


def test_a_body_that_is_too_large_is_turned_away_while_it_comes(call):
    def endless():
        while True:
            yield b" " * 1_000_000

    try:
        status = call("POST", "jobs", data=endless(), headers={"Content-Type": "application/json"}).status_code
    except requests.ConnectionError:  # the answer came, and the line was closed, before all was sent
        status = 413
    assert status == 413
    large = " " * (MAX_JSON - 10) + "{}"
    assert call("POST", "jobs", data=large, headers={"Content-Type": "application/json"}).json()["target"] == "type"


def test_a_body_that_never_comes_holds_nobody_up(polaris, call, monkeypatch):
    import socket

    monkeypatch.setattr("airflow_provider_polaris.local.http.answers.MAX_SILENCE", 0.2)
    host, port = polaris.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        head = (
            f"POST /v1/projects/{polaris.project_id}/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {API_KEY}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        line.sendall(head.encode())
        assert call("GET", "jobs").status_code == 200
        assert b" 408 " in line.recv(1000)


@pytest.mark.parametrize("wish", [["canceled"], "x", None, 1])
def test_a_wish_that_makes_no_sense_is_a_400(polaris, call, wish):
    job_id = polaris.add_job(executionStatus="running")
    for method, path in (("PUT", f"jobs/{job_id}"), ("POST", f"jobs/{job_id}/status")):
        answer = call(method, path, json={"desiredExecutionStatus": wish})
        assert (answer.status_code, answer.json()["target"]) == (400, "desiredExecutionStatus")


def test_it_listens_on_ipv6_too():
    with LocalPolaris(host="::1") as other:
        assert caller_of(other)("GET", "jobs").status_code == 200


SOURCE, TARGET = SPEC["source"], SPEC["target"]
SCHEMA = [{"name": "a", "dataType": "string"}]
DELETION = {"type": "delete_data", "target": TARGET}


@pytest.mark.parametrize(
    ("spec", "target"),
    [
        ([1], None),
        ({**SPEC, "type": "brand_new"}, "type"),
        ({**SPEC, "target": None}, "target.type"),
        ({**SPEC, "target": {"type": "table", "tableName": ""}}, "target.tableName"),
        ({**SPEC, "target": {"type": "table", "tableName": "x" * 256}}, "target.tableName"),
        (
            {**SPEC, "createTableIfNotExists": False, "target": {"type": "table", "tableName": "none"}},
            "target.tableName",
        ),
        ({**SPEC, "source": None}, "source"),
        ({**SPEC, "source": {"type": "ftp"}}, "source.type"),
        ({**SPEC, "source": {"type": "s3"}}, "source.connectionName"),
        ({**SPEC, "source": {"type": "azure", "connectionName": "lake"}}, "source.inputSchema"),
        ({**SPEC, "source": {"type": "table"}}, "source.tableName"),
        ({**SPEC, "source": {**SOURCE, "formatSettings": {"format": "orc"}}}, "source.formatSettings.format"),
        ({**SPEC, "source": {**SOURCE, "formatSettings": None}}, "source.formatSettings.format"),
        (
            {**SPEC, "source": {**SOURCE, "formatSettings": {"format": "csv", "delimiter": "ab"}}},
            "source.formatSettings.delimiter",
        ),
        (
            {**SPEC, "source": {**SOURCE, "formatSettings": {"format": "csv", "columns": [1]}}},
            "source.formatSettings.columns",
        ),
        (
            {**SPEC, "source": {**SOURCE, "formatSettings": {"format": "csv", "skipHeaderRows": "1"}}},
            "source.formatSettings.skipHeaderRows",
        ),
        ({**SPEC, "source": {**SOURCE, "inputSchema": "x"}}, "source.inputSchema"),
        ({**SPEC, "source": {**SOURCE, "inputSchema": [*SCHEMA, 1]}}, "source.inputSchema[1]"),
        ({**SPEC, "source": {**SOURCE, "inputSchema": [*SCHEMA, {"name": "b"}]}}, "source.inputSchema[1].dataType"),
        ({**SPEC, "source": {**SOURCE, "data": None}}, "source.data"),
        ({**SPEC, "source": {**SOURCE, "type": "uploaded", "fileList": ["no-such"]}}, "source.fileList[0]"),
        ({**SPEC, "source": {**SOURCE, "type": "uploaded", "fileList": []}}, "source.fileList"),
        ({**SPEC, "source": {**SOURCE, "type": "uploaded", "fileList": [["a"]]}}, "source.fileList[0]"),
        ({**SPEC, "mappings": []}, "mappings"),
        ({**SPEC, "mappings": None}, "mappings"),
        ({**SPEC, "mappings": [1]}, "mappings[0]"),
        ({**SPEC, "mappings": [*SPEC["mappings"], {"columnName": "a"}]}, "mappings[1].expression"),
        (
            {**SPEC, "mappings": [*SPEC["mappings"], {"columnName": "a", "expression": '"typo"'}]},
            "mappings[1].expression",
        ),
        ({**SPEC, "maxParseExceptions": -1}, "maxParseExceptions"),
        ({**SPEC, "maxParseExceptions": True}, "maxParseExceptions"),
        ({**SPEC, "ingestionMode": "merge"}, "ingestionMode"),
        ({**SPEC, "replaceAll": True}, "ingestionMode"),
        ({**SPEC, "ingestionMode": "replace"}, "replaceAll"),
        (
            {
                **SPEC,
                "ingestionMode": "replace",
                "replaceAll": True,
                "target": {**TARGET, "intervals": ["2026-11-01/2026-11-02"]},
            },
            "replaceAll",
        ),
        *(
            ({**SPEC, "ingestionMode": "replace", "target": {**TARGET, "intervals": [interval]}}, "target.intervals")
            for interval in (
                "2026-11-01",
                "2026-11-02/2026-11-01",
                "2026-11-01T00:00:00Z/2026-11-01T08:00:00Z",
                "a/b",
                1,
            )
        ),
        ({"type": "sql"}, "query"),
        ({"type": "sql", "query": "SELECT 1"}, "query"),
        ({"type": "sql", "query": "-- INSERT INTO a\nSELECT 1"}, "query"),
        ({"type": "sql", "query": "INSERT INTO nowhere SELECT 1"}, "query"),
        ({**STREAMING, "source": SOURCE}, "source.type"),
        ({**STREAMING, "source": {"type": "connection"}}, "source.connectionName"),
        ({**DELETION, "target": {"type": "table", "tableName": "none"}, "deleteAll": True}, "target.tableName"),
        (DELETION, "target.intervals"),
        ({**DELETION, "type": "restore_data"}, "interval"),
    ],
    ids=lambda value: str(value)[-60:],
)
def test_a_wrong_spec_names_the_wrong_field(polaris, call, spec, target):
    polaris.add_table("cities")
    answer = call("POST", "jobs", json=spec)
    assert answer.status_code == 400
    assert answer.json().get("target") == target


def test_a_spec_with_several_faults_names_all_of_them(call):
    error = call("POST", "jobs", json={**SPEC, "maxParseExceptions": -1, "mappings": None}).json()
    assert [fault["target"] for fault in error["details"]] == ["maxParseExceptions", "mappings"]
    assert {key: error[key] for key in ("code", "message", "target")} == error["details"][0]


@pytest.mark.parametrize(
    ("query", "table"),
    [
        ("INSERT INTO plain SELECT 1", "plain"),
        ('/* a /* comment */ -- and another\n replace  into "quo""ted" OVERWRITE ALL SELECT 1', 'quo"ted'),
        ("  insert into druid.named SELECT 1", "named"),
    ],
)
def test_the_target_of_a_query(hook, query, table):
    assert hook.create_job({"type": "sql", "createTableIfNotExists": True, "query": query}).table == table


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
        ("GET", "jobs?targetTableName=", {}, 400, "BadRequest"),
        ("POST", "files", {"data": "x"}, 400, "BadRequest"),
    ],
)
def test_errors_have_the_services_shape(call, method, path, kwargs, status, code):
    answer = call(method, path, **kwargs)
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert answer.json()["message"]


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        ((), set()),
        (("ManageIngestionJobs",), {"jobs"}),
        (("ManageFiles",), {"files"}),
        (("ViewTables",), {"tables"}),
        (("ManageTables",), {"tables"}),
    ],
)
def test_a_key_may_do_what_its_permissions_say(polaris, call, monkeypatch, permissions, allowed):
    monkeypatch.setattr(polaris, "permissions", permissions)
    for path in ("jobs", "files", "tables"):
        answer = call("GET", path)
        assert answer.status_code == (200 if path in allowed else 403)
        assert path in allowed or re.search(r"lacks the permission \w+", answer.json()["message"])


def test_no_such_permission():
    with pytest.raises(ValueError, match="ManageEverything"):
        LocalPolaris(permissions=["ManageEverything"])


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
    assert answer.json()["executionStatus"] == "pending"


def test_summaries_lack_what_is_large(polaris, call):
    call("POST", "jobs", json={**SPEC, "source": {**SOURCE, "data": ""}})
    for row in call("GET", "jobs").json()["values"]:
        assert not {"spec", "mappings"} & set(row)
        assert not {"inputSchema", "formatSettings"} & set(row.get("source", ()))
        assert {"executionStatus", "desiredExecutionStatus", "health", "target", "type", "createdTimestamp"} <= set(row)


def test_timestamps_have_nanoseconds_and_come_as_the_job_goes_on(polaris, call):
    job_id = polaris.add_job()
    names = ("startedTimestamp", "completedTimestamp")
    for status, known in (("pending", []), ("running", names[:1]), ("unknown", names[:1]), ("completed", names)):
        polaris.set_status(job_id, status)
        job = call("GET", f"jobs/{job_id}").json()
        stamps = {name: text for name, text in job.items() if name.endswith("Timestamp")}
        assert [name for name in names if name in stamps] == list(known)
        for text in stamps.values():
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", text)


def test_the_list_is_filtered_sorted_and_paged(polaris, hook, call):
    names = [f"list-{number}" for number in range(7)]
    for number, name in enumerate(names):
        polaris.add_table(name)
        polaris.add_job(
            target={"type": "table", "tableName": name},
            executionStatus="running" if number % 2 else "completed",
            health={"status": "warn" if number == 2 else "ok"},
            type="streaming" if number == 3 else "batch",
            source={"type": "s3", "connectionName": f"lake-{number}"},
        )

    def tables(query):
        answer = call("GET", f"jobs?searchString=list-&sortColumn=target_table_name&sortOrder=ASC&{query}").json()
        return [job["target"]["tableName"] for job in answer["values"]], answer["moreResultsAvailable"]

    assert tables("") == (names, False)
    assert tables("paginationLimit=3") == (names[:3], True)
    assert tables("paginationLimit=3&paginationOffset=6") == (names[6:], False)
    assert tables("paginationLimit=3&paginationOffset=4") == (names[4:], False)
    assert tables("executionStatus=running")[0] == names[1::2]
    assert tables("executionStatus=running&executionStatus=completed")[0] == names
    assert tables("executionStatus=completed&healthStatus=warn")[0] == [names[2]]
    assert tables("type=streaming")[0] == [names[3]]
    assert tables("connectionName=lake-4&connectionName=lake-5")[0] == names[4:6]
    assert tables("targetTableName=list-6")[0] == [names[6]]
    table_id = call("GET", "tables/list-5").json()["id"]
    assert tables(f"targetTableId={table_id}")[0] == [names[5]]
    assert tables("targetTableId=none")[0] == []


def test_a_job_that_reads_is_canceled_while_it_reads(wait_until):
    with LocalPolaris(rows_per_second=100) as slow:
        call = caller_of(slow)
        spec = spec_of(rows(*[{"timestamp": T}] * 5000))
        job = f"jobs/{call('POST', 'jobs', json=spec).json()['id']}"

        def look(path=""):
            return call("GET", job + path).json()

        assert wait_until(lambda: look()["executionStatus"] == "running")
        assert wait_until(lambda: 0 < look("/progress")["overallProgress"] < 1)
        assert look("/metrics")["totals"]["numRowsProcessed"] > 0
        answer = call("PUT", job, json={"desiredExecutionStatus": "canceled"}).json()
        assert (answer["desiredExecutionStatus"], answer["executionStatus"]) == ("canceled", "running")
        assert wait_until(lambda: look()["executionStatus"] == "canceled")
        assert look()["health"]["code"] == "canceled"
        assert look("/metrics")["totals"]["numRowsProcessed"] < 5000


def test_a_job_that_is_over_cannot_be_updated(polaris, call):
    for body in (polaris.add_job(executionStatus="completed"), polaris.add_job(type="drop_table")):
        assert call("PUT", f"jobs/{body}", json={"desiredExecutionStatus": "canceled"}).status_code == 400
    running = polaris.add_job(executionStatus="running")
    assert call("PUT", f"jobs/{running}", json={"desiredExecutionStatus": "suspended"}).status_code == 400


def test_nothing_is_left_running():
    def own():
        return {thread for thread in threading.enumerate() if "local-polaris" in thread.name}

    before = own()
    with LocalPolaris() as other:
        url = other.url
        assert requests.get(url, timeout=5).status_code == 401
        assert own() > before
    assert own() == before
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)
