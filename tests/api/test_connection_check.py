"""The check beside the connection test: what the key lacks, and whether the project runs, in five seconds at most."""

from __future__ import annotations

import json
import socket
import time

import pytest

from airflow_provider_polaris.api import connection_check
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.connection_check import findings, organisation_url
from airflow_provider_polaris.hooks.polaris import PolarisHook


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("https://acme.us-east-1.aws.api.imply.io", "https://acme.api.imply.io"),
        ("https://acme.api.imply.io", "https://acme.api.imply.io"),
        ("https://acme.api.imply.io:8443", "https://acme.api.imply.io:8443"),
        ("https://api.imply.io.example.com", "https://api.imply.io.example.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://[::1]:8080", "https://[::1]:8080"),
        ("https://polaris.example.com", "https://polaris.example.com"),
    ],
)
def test_the_organisation_has_a_host_of_its_own_at_imply_only(host, url):
    assert organisation_url(PolarisConnection(f"{host}/v1/projects/p", "p", "k")) == url


@pytest.fixture
def permissions(polaris):
    before = polaris.permissions
    yield lambda *names: setattr(polaris, "permissions", names)
    polaris.permissions = before
    polaris.project_state = "running"


ALL = ("ManageIngestionJobs", "ManageTables")


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (ALL, []),
        (("ManageIngestionJobs", "ViewTables"), []),
        (("ManageIngestionJobs",), ["ViewTables or ManageTables, which wait_until_available needs"]),
        (("ManageTables",), ["lacks the permission ManageIngestionJobs"]),
        ((), ["lacks the permission ManageIngestionJobs", "ViewTables or ManageTables"]),
    ],
)
def test_the_check_names_the_permissions_that_the_key_lacks(hook, permissions, names, missing):
    permissions(*names)
    found = findings(hook.connection)
    assert len(found) == len(missing)
    assert all(part in sentence for part, sentence in zip(missing, found, strict=True))


@pytest.mark.parametrize("state", ["paused", "stopped", "resuming", "brand_new"])
def test_the_check_names_the_state_of_a_project_that_does_not_run(polaris, hook, permissions, state):
    permissions(*ALL)
    polaris.project_state = state
    assert findings(hook.connection) == [f"The project is {state}: its jobs may stay pending"]


@pytest.mark.parametrize("state", ["running", "updating", "balancing"])
def test_the_check_finds_nothing_in_a_project_that_runs(polaris, hook, permissions, state):
    permissions(*ALL)
    polaris.project_state = state
    assert findings(hook.connection) == []


@pytest.mark.parametrize(
    "body",
    ["null", "[]", "{}", '{"permissions": null, "status": 3}', '{"permissions": "x", "status": {"state": 1}}', "<"],
)
@pytest.mark.parametrize("status", [200, 401, 404, 503])
def test_an_answer_that_is_not_as_documented_is_no_finding(polaris, hook, body, status):
    polaris.answer_next(2, status=status, body=body)
    assert findings(hook.connection) == []
    assert len(polaris.requests) == 2


def test_the_check_never_takes_longer_than_its_limit(polaris, hook, monkeypatch):
    monkeypatch.setattr(connection_check, "LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1) or [])  # a DNS lookup has no timeout
    connection = hook.connection
    began = time.monotonic()
    assert findings(connection) == []
    assert time.monotonic() - began < 0.8
    time.sleep(1)  # the threads end before the next test


def test_the_connection_test_names_what_is_missing(polaris, hook, permissions):
    assert hook.test_connection() == (
        True,
        "Polaris responds, and the API key can read this project's jobs",
    )
    permissions("ManageIngestionJobs")
    polaris.project_state = "paused"
    works, message = hook.test_connection()
    assert works
    for part in ("Polaris responds", "lacks ViewTables or ManageTables", "The project is paused"):
        assert part in message
    assert "\n" not in message
    permissions()
    works, message = hook.test_connection()
    assert not works
    for part in ("refuses (403)", "lacks the permission ManageIngestionJobs", "lacks ViewTables or ManageTables"):
        assert part in message


def test_the_connection_test_passes_without_the_further_answers(polaris, hook):
    polaris.answer_next(9, status=404, body="", match="/v1/apikeyinfo$|/v1/projects/[^/]+$")
    works, message = hook.test_connection()
    assert works
    assert message.startswith("Polaris responds")


def test_the_connection_test_says_that_an_access_token_expires(polaris, monkeypatch, moved_clock):
    token = polaris.new_access_token()
    connection = {"conn_type": "imply_polaris", "host": polaris.url, "password": token}
    monkeypatch.setenv(
        "AIRFLOW_CONN_POLARIS_DEFAULT",
        json.dumps({**connection, "extra": {"project_id": polaris.project_id, "auth": "bearer"}}),
    )
    works, message = PolarisHook().test_connection()
    assert works, message
    assert "five minutes only" in message
    moved_clock.time += 301
    works, message = PolarisHook().test_connection()
    assert not works
    for part in ("(401)", "may have expired", "use an API key"):
        assert part in message
    assert token not in message
