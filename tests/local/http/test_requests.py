"""The local Polaris answers bad requests, keys and projects with errors in the service's shape."""

from __future__ import annotations

import json
import re
import socket

import pytest
import requests

from airflow_provider_polaris.local.http.answers import MAX_JSON
from tests.support.specs import SPEC


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
def test_an_invalid_body_is_a_400_and_breaks_nothing(call, body):
    answer = call("POST", "jobs", data=body.encode("latin-1"), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert call("GET", "jobs").status_code == 200


def test_a_body_that_is_too_large_is_refused_while_it_arrives(call):
    def endless():
        while True:
            yield b" " * 1_000_000

    try:
        status = call("POST", "jobs", data=endless(), headers={"Content-Type": "application/json"}).status_code
    except requests.ConnectionError:  # the response arrived, and the connection was closed, before all was sent
        status = 413
    assert status == 413
    large = " " * (MAX_JSON - 10) + "{}"
    assert call("POST", "jobs", data=large, headers={"Content-Type": "application/json"}).json()["target"] == "type"


def test_a_body_that_never_arrives_delays_no_other_request(polaris, call, monkeypatch):

    monkeypatch.setattr("airflow_provider_polaris.local.http.answers.MAX_BODY_PAUSE_SECONDS", 0.2)
    host, port = polaris.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        head = (
            f"POST /v1/projects/{polaris.project_id}/jobs HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Basic {polaris.api_key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        line.sendall(head.encode())
        assert call("GET", "jobs").status_code == 200
        assert b" 408 " in line.recv(1000)


@pytest.mark.parametrize(
    ("method", "path", "kwargs", "status", "code"),
    [
        ("GET", "jobs", {"headers": {"Authorization": "Basic wrong"}}, 401, "Unauthorized"),
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
def test_each_error_has_the_shape_of_the_service(call, method, path, kwargs, status, code):
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
def test_a_key_may_do_only_what_its_permissions_allow(polaris, call, monkeypatch, permissions, allowed):
    monkeypatch.setattr(polaris, "permissions", permissions)
    for path in ("jobs", "files", "tables"):
        answer = call("GET", path)
        assert answer.status_code == (200 if path in allowed else 403)
        assert path in allowed or re.search(r"lacks the permission \w+", answer.json()["message"])


def test_another_project_is_a_404(polaris):
    answer = requests.get(
        f"{polaris.url}/v1/projects/other/jobs", headers={"Authorization": f"Basic {polaris.api_key}"}, timeout=5
    )
    assert (answer.status_code, answer.json()["target"]) == (404, "projectId")


def test_the_key_is_refused_as_a_bearer_token(polaris, call):
    assert call("GET", "jobs", headers={"Authorization": f"Bearer {polaris.api_key}"}).status_code == 401


def test_only_the_last_requests_are_kept(own_polaris, monkeypatch):
    monkeypatch.setattr("airflow_provider_polaris.local.http.shell.REMEMBERED", 3)
    polaris, call = own_polaris
    for number in range(7):
        call("GET", f"jobs/{number}")
    assert [seen.path[-1] for seen in polaris.requests] == ["3", "4", "5", "6"]


@pytest.mark.odd_answers("no call of the document has a 500")
def test_a_fault_of_the_local_polaris_itself_is_a_500(own_polaris, monkeypatch):
    polaris, call = own_polaris
    monkeypatch.setattr(polaris._store, "tables", None)
    answer = call("GET", "tables")
    assert (answer.status_code, answer.json()["code"]) == (500, "InternalError")
