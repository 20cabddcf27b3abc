"""PolarisHook: its Airflow connection, its connection test and its public names."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_provider_polaris._compat import BaseHook
from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.errors import PolarisConnectionMissing
from airflow_provider_polaris.hooks.polaris import PolarisHook, load_connection

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_a_new_hook_does_not_look_its_connection_up(monkeypatch):
    monkeypatch.setattr(PolarisHook, "get_connection", lambda *_: pytest.fail("looked up"))
    PolarisHook("some_connection")


def test_many_calls_look_the_connection_up_once(polaris, hook, monkeypatch):
    looked_up = []
    get_connection = PolarisHook.get_connection
    monkeypatch.setattr(PolarisHook, "get_connection", lambda *a: looked_up.append(a) or get_connection(a[-1]))
    job_id = polaris.add_job()
    for _ in range(5):
        hook.get_job(job_id)
    assert len(looked_up) == 1


def test_a_rotated_key_is_looked_up_again(polaris, hook, monkeypatch):
    job_id = polaris.add_job()
    assert hook.get_job(job_id)
    polaris.api_key = "pok_rotated"
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", polaris.connection_json)
    assert hook.get_job(job_id)


def test_an_undefined_connection_raises_connection_missing(airflow_db):
    with pytest.raises(PolarisConnectionMissing, match="no_such_connection"):
        PolarisHook("no_such_connection").get_job("a")


def test_test_connection_returns_a_message(polaris, hook, monkeypatch):
    assert hook.test_connection()[0] is True
    polaris.fail_next(1, status=403)
    ok, message = hook.test_connection()
    assert not ok
    assert "ManageIngestionJobs" in message
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", '{"conn_type": "imply_polaris", "host": "x"}')
    ok, message = PolarisHook().test_connection()
    assert not ok
    assert "project id" in message


def test_all_threads_of_a_shared_hook_use_a_rotated_key(polaris, hook, monkeypatch):
    job_id = polaris.add_job()
    hook.get_job(job_id)
    polaris.api_key = "pok_rotated"
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", polaris.connection_json)
    polaris.delay_next(8, seconds=0.1)  # all threads get a 401 before one of them has read the new key
    with ThreadPoolExecutor(8) as pool:
        assert {job.id for job in pool.map(hook.get_job, [job_id] * 8)} == {job_id}


def test_load_connection_returns_the_checked_connection(polaris):
    connection = load_connection("polaris_default", "another-project")
    assert connection == PolarisHook(project_id="another-project").connection
    assert (connection.host, connection.project_id) == (polaris.url, "another-project")


def test_get_conn_returns_the_hook_itself_and_checks_the_connection(hook, airflow_db):
    assert hook.get_conn() is hook
    with pytest.raises(PolarisConnectionMissing):
        PolarisHook("no_such_connection").get_conn()


def public_names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_docs_list_every_public_name_of_client_and_hook():
    documented = set(re.findall(r"^\| `(\w+)", (DOCS / "reference" / "api.md").read_text(), re.MULTILINE))
    client = public_names(PolarisClient)
    hook = public_names(PolarisHook) - public_names(BaseHook) - client
    assert client <= documented
    # Airflow reads these four to show the connection type.
    assert hook - {"conn_name_attr", "default_conn_name", "conn_type", "hook_name"} == {"test_connection"}
    assert "test_connection" in documented
    assert {"polaris_conn_id", "project_id"} == {
        name for name in vars(PolarisHook()) if not name.startswith("_") and name not in vars(BaseHook())
    }
