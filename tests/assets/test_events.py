"""The loads behind asset events: of tasks and of watchers alike, each job once."""

from __future__ import annotations

from types import SimpleNamespace

from airflow_provider_polaris.assets.events import polaris_loads


def outlet(job_id):
    return SimpleNamespace(extra={"polaris_job": {"job_id": job_id, "table": "orders"}})


def watcher(job_id):
    return SimpleNamespace(extra={"from_trigger": True, "payload": {"job_id": job_id, "table": "orders"}})


def ids(events):
    return [load["job_id"] for load in polaris_loads(events)]


def test_events_of_outlets_and_of_watchers_are_read_alike():
    assert ids({"orders": [outlet("a"), watcher("b")], "customers": [outlet("c")]}) == ["a", "b", "c"]


def test_a_job_is_returned_once_whoever_fired_its_events():
    assert ids({"orders": [watcher("a"), watcher("a"), outlet("a"), watcher("b")]}) == ["a", "b"]


def test_events_of_other_systems_are_left_out():
    others = [
        SimpleNamespace(extra=None),
        SimpleNamespace(extra={}),
        SimpleNamespace(extra={"from_trigger": True, "payload": "a message"}),
        SimpleNamespace(extra={"from_trigger": True, "payload": {"job_id": 5}}),
        SimpleNamespace(extra={"polaris_job": {"table": "orders"}}),
        SimpleNamespace(),
    ]
    assert ids({"orders": [*others, outlet("a")]}) == ["a"]


def test_the_events_of_one_asset_may_be_a_list():
    assert ids([outlet("a"), outlet("b")]) == ["a", "b"]


def test_a_run_without_events_has_no_loads():
    assert polaris_loads(None) == polaris_loads({}) == polaris_loads([]) == []
