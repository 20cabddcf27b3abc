"""Connections: which values are accepted, and the message for each invalid value."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from airflow_provider_polaris.api.connection import PolarisConnection, check_id
from airflow_provider_polaris.api.errors import PolarisConnectionInvalid, PolarisUsageError

KEY = "pok_secret-key"
PROJECT = "4bd7330d-cb6d-489b-aa7b-22653f237f9d"


def conn(host="acme.us-east-1.aws.api.imply.io", password=KEY, extra=None, port=None, schema=None):
    extra = {"project_id": PROJECT, **(extra or {})} if not isinstance(extra, str) else extra
    return SimpleNamespace(
        conn_id="polaris_default",
        host=host,
        password=password,
        port=port,
        schema=schema,
        extra=extra if isinstance(extra, str) else json.dumps(extra),
    )


@pytest.mark.parametrize(
    ("fields", "base"),
    [
        ({}, "https://acme.us-east-1.aws.api.imply.io"),
        ({"host": "https://acme.us-east-1.aws.api.imply.io"}, "https://acme.us-east-1.aws.api.imply.io"),
        ({"host": " https://ACME.us-east-1.aws.api.imply.io/ "}, "https://acme.us-east-1.aws.api.imply.io"),
        ({"host": "gw.example.com:8443"}, "https://gw.example.com:8443"),
        ({"host": "gw.example.com", "port": 8443}, "https://gw.example.com:8443"),
        ({"host": "gw.example.com", "port": 0}, "https://gw.example.com"),
        ({"host": "http://127.0.0.1:8181"}, "http://127.0.0.1:8181"),
        ({"host": "http://[::1]:8181"}, "http://[::1]:8181"),
        ({"host": "http://localhost:8181"}, "http://localhost:8181"),
        ({"host": "localhost", "port": 8181, "schema": "http"}, "http://localhost:8181"),
        ({"host": "localhost"}, "https://localhost"),
        ({"host": "http://gw.example.com", "extra": {"allow_http": True}}, "http://gw.example.com"),
        ({"host": "http://gw.example.com", "extra": {"allow_http": "true"}}, "http://gw.example.com"),
    ],
)
def test_every_form_of_a_host_becomes_one_url(fields, base):
    assert PolarisConnection.from_airflow(conn(**fields)).base_url == f"{base}/v1/projects/{PROJECT}"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"host": ""}, "no host"),
        ({"host": None}, "no host"),
        ({"host": "  "}, "no host"),
        ({"host": "acme.app.imply.io"}, "is the console. Use the API endpoint"),
        ({"host": "https://acme.us-east-1.aws.app.imply.io/"}, "is the console. Use the API endpoint"),
        ({"host": "acme.api.imply.io/v1"}, "has a path"),
        ({"host": "https://acme.api.imply.io/v1/projects/x"}, "has a path"),
        ({"host": "acme.api.imply.io?x=1"}, "has a path"),
        ({"host": "http://gw.example.com"}, "unencrypted"),
        ({"host": "http://127.0.0.1.example.com"}, "unencrypted"),
        ({"host": "ftp://acme.api.imply.io"}, "not a host name"),
        ({"host": "acme api imply"}, "not a host name"),
        ({"host": "acme.api.imply.io:port"}, "not a host name"),
        ({"host": "https://"}, "not a host name"),
        ({"host": "http://[::1].evil.com"}, "not a host name"),
        ({"host": "https://[v1.abc]"}, "not a host name"),
        ({"host": "a" * 64 + ".imply.io"}, "not a host name"),
        ({"host": "a..imply.io"}, "not a host name"),
        ({"port": 99999}, "port"),
        ({"port": -1}, "port"),
        ({"port": "abc"}, "not a host name"),
        ({"extra": {"timeout": "9" * 400}}, "'timeout'"),
        ({"extra": {"project_id": ["a"]}}, "must be text"),
        ({"host": f"https://{KEY}@acme.api.imply.io"}, "holds credentials"),
        ({"schema": "v1"}, "schema"),
        ({"password": None}, "no API key"),
        ({"password": ""}, "no API key"),
        ({"password": f"{KEY}\n"}, "not an API key"),
        ({"password": f"Basic {KEY}"}, "not an API key"),
        ({"password": f"{KEY}é"}, "not an API key"),
        ({"extra": "{"}, "not JSON"),
        ({"extra": "[]"}, "JSON object"),
        ({"extra": {"project_id": None}}, "no project id"),
        ({"extra": {"project_id": ""}}, "no project id"),
        ({"extra": {"project_id": 7}}, "must be text"),
        ({"extra": {"project_id": "a/b"}}, "must be a Polaris id"),
        ({"extra": {"project_id": ".."}}, "must be a Polaris id"),
        ({"extra": {"auth": "oauth"}}, "'auth'"),
        ({"extra": {"auth": 1}}, "must be text"),
        ({"extra": {"timeout": "soon"}}, "'timeout'"),
        ({"extra": {"timeout": 0}}, "'timeout'"),
        ({"extra": {"timeout": -1}}, "'timeout'"),
        ({"extra": {"timeout": True}}, "'timeout'"),
        ({"extra": {"timeout": [1]}}, "'timeout'"),
        ({"extra": {"verify": 3}}, "'verify'"),
        ({"extra": {"verify": {}}}, "'verify'"),
        ({"extra": {"allow_http": "maybe"}}, "'allow_http'"),
        ({"extra": {"allow_http": 1}}, "'allow_http'"),
        ({"extra": {"job_url_template": 1}}, "must be text"),
    ],
    ids=repr,
)
def test_an_invalid_connection_names_the_value_and_shows_no_key(fields, told):
    with pytest.raises(PolarisUsageError) as caught:
        PolarisConnection.from_airflow(conn(**fields))
    assert told in str(caught.value)
    assert "polaris_default" in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_missing_project_id_has_a_message_that_explains_the_change():
    with pytest.raises(PolarisUsageError, match="September 2024"):
        PolarisConnection.from_airflow(conn(extra="{}"))


@pytest.mark.parametrize("project", ["", "None", "{{ var.value.project }}", "a b", "../x"])
def test_an_invalid_project_id_of_a_task_is_not_replaced_by_that_of_the_connection(project):
    with pytest.raises(PolarisUsageError):
        PolarisConnection.from_airflow(conn(), project)


def test_the_project_id_of_a_task_overrides_that_of_the_connection():
    assert PolarisConnection.from_airflow(conn(), "other").base_url.endswith("/v1/projects/other")


@pytest.mark.parametrize(
    ("extra", "field", "value"),
    [
        ({}, "timeout", 30),
        ({"timeout": "5"}, "timeout", 5),
        ({"timeout": 2.5}, "timeout", 2.5),
        ({}, "verify", True),
        ({"verify": False}, "verify", False),
        ({"verify": "false"}, "verify", False),
        ({"verify": "/etc/ca.pem"}, "verify", "/etc/ca.pem"),
        ({"verify": ""}, "verify", True),
        ({"verify": " "}, "verify", True),
        ({"auth": "basic"}, "auth", "basic"),
        ({"auth": None}, "auth", "api_key"),
        ({"job_url_template": "https://x/{job_id}"}, "job_url_template", "https://x/{job_id}"),
    ],
)
def test_each_extra_is_read(extra, field, value):
    assert getattr(PolarisConnection.from_airflow(conn(extra=extra)), field) == value


def test_each_form_of_authentication():
    plain = PolarisConnection.from_airflow(conn())
    basic = PolarisConnection.from_airflow(conn(extra={"auth": "basic"}))
    bearer = PolarisConnection.from_airflow(conn(extra={"auth": "bearer"}))
    assert bearer.authorization == f"Bearer {KEY}"
    assert plain.authorization == f"Basic {KEY}"
    assert basic.authorization == "Basic cG9rX3NlY3JldC1rZXk6"
    assert KEY not in repr(plain)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "None",
        "{{ ti.xcom_pull('create') }}",
        "a b",
        " a",
        "a/b",
        "..",
        "a.b",
        "a?b",
        "a%2Fb",
        "é",
        "a" * 129,
        7,
    ],
    ids=repr,
)
def test_an_invalid_id_is_rejected(value):
    with pytest.raises(PolarisUsageError, match="job_id"):
        check_id(value, "job_id")


VALUES = {"host": "acme.us-east-1.aws.api.imply.io", "project_id": PROJECT, "api_key": KEY}


def test_plain_values_make_the_connection_that_airflow_makes():
    settings = {"auth": "basic", "timeout": 5, "verify": "/etc/ca.pem", "job_url_template": "https://x/{job_id}"}
    from_airflow = PolarisConnection.from_airflow(conn(extra=settings))
    from_values = PolarisConnection.from_values(**VALUES, **settings)
    assert replace(from_values, conn_id="polaris_default") == from_airflow
    assert PolarisConnection.from_values(**VALUES).timeout == 30
    local = PolarisConnection.from_values(**{**VALUES, "host": "http://gw.example.com"}, allow_http=True)
    assert local.host == "http://gw.example.com"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"host": ""}, "no host"),
        ({"host": None}, "no host"),
        ({"host": "http://gw.example.com"}, "unencrypted"),
        ({"host": "acme.api.imply.io/v1"}, "has a path"),
        ({"project_id": ""}, "no project id"),
        ({"project_id": None}, "no project id"),
        ({"project_id": "a/b"}, "must be a Polaris id"),
        ({"api_key": ""}, "no API key"),
        ({"api_key": f"{KEY}\n"}, "not an API key"),
        ({"auth": "oauth"}, "'auth'"),
        ({"timeout": 601}, "'timeout'"),
        ({"verify": ""}, "'verify'"),
        ({"verify": 1}, "'verify'"),
        ({"allow_http": "maybe"}, "'allow_http'"),
        ({"job_url_template": "x"}, "'job_url_template'"),
    ],
    ids=repr,
)
def test_an_invalid_plain_value_is_named_and_shows_no_key(values, told):
    with pytest.raises(PolarisConnectionInvalid) as caught:
        PolarisConnection.from_values(**{**VALUES, **values})
    assert told in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_label_names_the_airflow_connection():
    assert PolarisConnection.from_airflow(conn()).label == "the connection 'polaris_default'"
    assert PolarisConnection.from_values(**VALUES).label == "this connection"
