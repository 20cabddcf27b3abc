"""Fixtures for the tests of submissions and kills."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.submission import trigger_kill, worker_kill
from tests.support.create_tasks import Running
from tests.support.queries import held


@pytest.fixture
def state(monkeypatch):
    """Airflow's responses about the task: its state (an exception is raised, a function called) and its try."""
    told = SimpleNamespace(value="running", asked=0, current_try=1)

    def task_state(_ti):
        told.asked += 1
        if isinstance(told.value, Exception):
            raise told.value
        return told.value() if callable(told.value) else told.value

    monkeypatch.setattr(worker_kill, "task_state", task_state)
    monkeypatch.setattr(trigger_kill, "task_state", task_state)
    monkeypatch.setattr(trigger_kill, "current_try", lambda *_: told.current_try)
    monkeypatch.setattr(worker_kill, "SUBMISSION_SECONDS", 1.0)
    yield told
    # A thread that outlives its test would send requests to the local Polaris of the next test.
    for thread in threading.enumerate():
        if thread.name == worker_kill.THREAD_NAME:
            thread.join(10)
            assert not thread.is_alive(), "the thread of on_kill ends"


@pytest.fixture
def running(polaris, moved_clock, state):
    polaris.next_job("hang")
    return Running(polaris, moved_clock)


@pytest.fixture
def sent(monkeypatch):
    """The specs that tasks have sent, also those that the local Polaris has not read."""
    specs, right = [], PolarisHook.create_job
    monkeypatch.setattr(PolarisHook, "create_job", lambda hook, spec: specs.append(spec) or right(hook, spec))
    return specs


@pytest.fixture
def queries(polaris, monkeypatch):
    """Hold the asynchronous queries of the local Polaris until the test ends them."""
    with held(polaris, monkeypatch) as queries:
        yield queries
