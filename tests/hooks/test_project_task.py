"""The options that select the Polaris project, in every task that has them."""

from __future__ import annotations

import inspect
import re

import pytest

from airflow_provider_polaris.operators.polaris import (
    PolarisCancelJobOperator,
    PolarisCreateJobOperator,
    PolarisDeleteFilesOperator,
    PolarisQueryOperator,
    PolarisStreamOperator,
    PolarisUpdateJobOperator,
    PolarisUploadOperator,
)
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor, PolarisTableSensor
from tests.support.run_task import run_task
from tests.support.specs import SPEC

#: Each task, with valid options of its own.
TASKS = {
    PolarisJobSensor: {"job_id": "j"},
    PolarisTableSensor: {"table": "orders", "completed_after": "2026-11-01"},
    PolarisCreateJobOperator: {"job_spec": SPEC},
    PolarisCancelJobOperator: {"job_id": "j"},
    PolarisUploadOperator: {"source": __file__},
    PolarisDeleteFilesOperator: {"names": ["a.json"]},
    PolarisQueryOperator: {"sql": "SELECT 1"},
    PolarisStreamOperator: {"action": "suspend", "table": "orders"},
    PolarisUpdateJobOperator: {"job_id": "j", "desired_status": "suspended"},
}
each_task = pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.__name__)


@pytest.mark.parametrize("option", ["project_id", "polaris_conn_id"])
@each_task
def test_a_task_is_refused_if_an_option_that_selects_its_project_renders_to_none(polaris, kind, option):
    """The task would change the project of the connection, or of the default connection, instead."""

    def make():
        task = kind(task_id="t", **TASKS[kind], **{option: "{{ none }}"})
        setattr(task, option, None)
        return task

    outcome = run_task(make)
    assert outcome.kind == "PolarisOptionInvalid"
    assert f"{option} was given, and rendered to None" in str(outcome.error)
    assert not polaris.requests


@each_task
def test_help_shows_each_option_and_the_docstring_describes_it(kind):
    shown = inspect.signature(kind).parameters
    assert {*TASKS[kind], "polaris_conn_id", "project_id"} <= set(shown)
    described = re.findall(r":param (\w+):", inspect.getdoc(kind))
    assert sorted(described) == sorted(name for name in shown if name != "kwargs")


@each_task
def test_the_options_are_templated(kind):
    assert {"polaris_conn_id", "project_id"} <= set(kind.template_fields)
