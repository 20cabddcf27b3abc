"""The section [polaris] of Airflow's configuration: its defaults, and the tasks that take them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from airflow_provider_polaris import configuration
from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator, PolarisQueryOperator
from airflow_provider_polaris.polling.shared_client import shared_client
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor, PolarisTableSensor
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.run_task import one_event
from tests.support.specs import SQL
from tests.support.triggers import trigger

TASKS = {
    "create": lambda **options: PolarisCreateJobOperator(task_id="t", job_spec=SQL, **options),
    "job sensor": lambda **options: PolarisJobSensor(task_id="t", job_id="j", **options),
    "table sensor": lambda **options: PolarisTableSensor(task_id="t", table="orders", **options),
    "query": lambda **options: PolarisQueryOperator(task_id="t", sql="SELECT 1", **options),
}
each_task = pytest.mark.parametrize("kind", TASKS)


def interval_option(kind):
    return "poke_interval" if "sensor" in kind else "poll_interval"


@each_task
def test_without_a_section_a_task_has_the_documented_defaults(kind):
    task = TASKS[kind]()
    assert getattr(task, interval_option(kind)) == (10 if kind == "query" else 60)
    assert kind == "query" or task.grows, "from 5 s up to 60 s"
    assert task.max_unreachable == 3600
    if kind == "create":
        assert task.mark_jobs is True


@each_task
def test_the_section_gives_the_defaults_of_a_task(kind, monkeypatch):
    monkeypatch.setenv("AIRFLOW__POLARIS__POLL_INTERVAL", "12.5")
    monkeypatch.setenv("AIRFLOW__POLARIS__MAX_UNREACHABLE", "77")
    monkeypatch.setenv("AIRFLOW__POLARIS__MARK_JOBS", "False")
    task = TASKS[kind]()
    assert getattr(task, interval_option(kind)) == (10 if kind == "query" else 12.5)
    assert kind == "query" or not task.grows
    assert task.max_unreachable == 77
    if kind == "create":
        assert task.mark_jobs is False


@each_task
def test_an_argument_of_a_task_comes_before_the_section(kind, monkeypatch):
    monkeypatch.setenv("AIRFLOW__POLARIS__POLL_INTERVAL", "12.5")
    monkeypatch.setenv("AIRFLOW__POLARIS__MAX_UNREACHABLE", "77")
    monkeypatch.setenv("AIRFLOW__POLARIS__MARK_JOBS", "False")
    given = {interval_option(kind): 5, "max_unreachable": 0, **({"mark_jobs": True} if kind == "create" else {})}
    task = TASKS[kind](**given)
    assert {name: getattr(task, name) for name in given} == given


@pytest.mark.parametrize("count", ["1", "64"])
def test_the_section_sets_the_threads_of_a_triggerer(count, monkeypatch):
    monkeypatch.setenv("AIRFLOW__POLARIS__THREADS", count)

    async def slots():
        async with shared_client("a", None) as client:
            return client.slots

    assert asyncio.run(slots()) == int(count)


@pytest.mark.parametrize("count", ["0", "-1", "65"])
def test_a_number_of_threads_out_of_range_ends_a_wait_with_the_option(count, monkeypatch):
    monkeypatch.setenv("AIRFLOW__POLARIS__THREADS", count)
    event = one_event(trigger()).payload
    assert event["outcome"] == "error"
    assert event["error"]["message"] == f"[polaris] threads must be a number from 1 to 64; it is {count}"


def test_airflow_lists_the_section_with_its_defaults(airflow_db):
    """Airflow knows the section from the provider info."""
    command = [sys.executable, "-m", "airflow", "config", "list", "--section", "polaris", "--include-descriptions"]
    command += ["--show-values"] if AIRFLOW_3 else []
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout
    for name, option in configuration.declared()["polaris"]["options"].items():
        assert f"{name} = {option['default']}" in shown
        assert option["description"].split(",")[0] in shown.replace("\n# ", " ")
