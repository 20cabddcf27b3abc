"""The command ``check`` finds and names each fault of a connection."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support.local_calls import API_KEY


@pytest.fixture
def connect(polaris, monkeypatch):
    """Return a function that changes the connection polaris_default. A value of ``None`` removes a field."""

    def connect(extra=None, **changes):
        connection = json.loads(polaris.connection_json)
        connection |= changes
        connection["extra"] |= extra or {}
        connection["extra"] = {key: value for key, value in connection["extra"].items() if value is not None}
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))

    return connect


def no_connection(polaris, connect, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_POLARIS_DEFAULT")


def broken_json(polaris, connect, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", f'{{"password": "{API_KEY}"')


def closed_port(polaris, connect, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    connect(port=port)


def other_service(polaris, connect, monkeypatch):
    polaris.answer_next(9, body="<html>Welcome</html>")


def plain_http(polaris, connect, monkeypatch):
    connect(host="http://polaris.example.com")


def console(polaris, connect, monkeypatch):
    connect(host="https://acme.app.imply.io", port=None)


def wrong_key(polaris, connect, monkeypatch):
    connect(password="pok_wrong")


def no_key(polaris, connect, monkeypatch):
    connect(password=None)


def unknown_auth(polaris, connect, monkeypatch):
    connect({"auth": "oauth"})


def wrong_auth(polaris, connect, monkeypatch):
    connect({"auth": "bearer"})


def no_project(polaris, connect, monkeypatch):
    connect({"project_id": None})


def unknown_project(polaris, connect, monkeypatch):
    connect({"project_id": "another-project"})


def paused_project(polaris, connect, monkeypatch):
    monkeypatch.setattr(polaris._account, "state", "paused")


def no_job_permission(polaris, connect, monkeypatch):
    monkeypatch.setattr(polaris._gatekeeper, "permissions", frozenset({"ViewTables"}))


def no_query_permission(polaris, connect, monkeypatch):
    monkeypatch.setattr(polaris._gatekeeper, "permissions", frozenset({"ManageIngestionJobs", "ViewTables"}))


def no_table_permission(polaris, connect, monkeypatch):
    monkeypatch.setattr(polaris._gatekeeper, "permissions", frozenset({"ManageIngestionJobs"}))


def nothing(polaris, connect, monkeypatch):
    pass


def outage(polaris, connect, monkeypatch):
    polaris.fail_next(9, status=503)


FAULTS = [
    (no_connection, [], "connection", "The connection 'polaris_default' is not defined"),
    (broken_json, [], "connection", "Airflow cannot read the connection in AIRFLOW_CONN_POLARIS_DEFAULT"),
    (console, [], "connection", "its host is the console. Use the API endpoint"),
    (plain_http, [], "connection", "plain http:// would send the API key unencrypted"),
    (no_key, [], "connection", "no API key"),
    (unknown_auth, [], "connection", "'auth' must be one of api_key, basic, bearer"),
    (no_project, [], "connection", "no project id"),
    (closed_port, [], "host", "the host could not be reached"),
    (other_service, [], "host", "This host is not the Polaris API"),
    (outage, [], "host", "Polaris is not available now: HTTP 503"),
    (wrong_key, [], "key", "Polaris rejects the API key (401)"),
    (wrong_auth, [], "key", "Polaris accepts this key as auth=api_key, not as auth=bearer"),
    (no_job_permission, [], "permissions", "ManageIngestionJobs"),
    (unknown_project, [], "project", "can see no project another-project"),
    (paused_project, [], "project", "The project is paused"),
    (nothing, ["--table", "no_such_table"], "table", "The project has no table 'no_such_table'"),
    (no_table_permission, ["--table", "cities"], "table", "ViewTables or ManageTables"),
    (no_query_permission, ["--sql"], "sql", "AccessQueries"),
]


@pytest.mark.parametrize(("plant", "options", "about", "message"), FAULTS, ids=lambda one: getattr(one, "__name__", ""))
def test_check_finds_and_names_a_fault(airflow_db, polaris, connect, monkeypatch, run, plant, options, about, message):
    plant(polaris, connect, monkeypatch)
    ended = run("check", "--output", "json", *options)
    assert ended.code == 1
    result = json.loads(ended.out)
    assert result["ok"] is False
    (fault,) = [finding for finding in result["findings"] if finding["state"] == "fault"]
    assert fault["about"] == about
    assert message in fault["message"]
    assert API_KEY not in ended.out + ended.err


def test_check_of_a_good_connection_succeeds_and_names_the_project(polaris, run):
    polaris.add_table("cities")
    ended = run("check", "--table", "cities", "--sql")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(("ok", "fault", "warning"))] == [
        ["ok", about] for about in ("connection", "host", "key", "jobs", "table", "sql")
    ]
    assert polaris.project_id in ended.out
    assert max(map(len, lines)) <= 80


def test_a_key_that_cannot_read_tables_is_a_warning_unless_a_table_is_checked(polaris, connect, monkeypatch, run):
    no_table_permission(polaris, connect, monkeypatch)
    ended = run("check")
    assert ended.code == 0
    assert "warning permissions" in ended.out


def test_an_unknown_extra_is_a_warning(polaris, connect, run):
    connect({"projekt": "x"})
    ended = run("check")
    assert ended.code == 0
    assert "The extra projekt is not known" in ended.out
