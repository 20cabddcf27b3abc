"""The options that all waiting tasks share reach them in each of Airflow's ways to give an option."""

from __future__ import annotations

import inspect

import pytest

from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator, PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from airflow_provider_polaris.waiting.task_base import THRESHOLDS, GatedTask
from tests.support.airflow_versions import a_dag

GATED = [(PolarisJobSensor, {"job_id": "j"}), (PolarisCreateJobOperator, {"job_spec": {}})]
ALL = [*GATED, (PolarisCancelJobOperator, {"job_id": "j"})]
gated_tasks = pytest.mark.parametrize(("kind", "own"), GATED, ids=["sensor", "create"])
all_tasks = pytest.mark.parametrize(("kind", "own"), ALL, ids=["sensor", "create", "cancel"])
#: Each option of a gate, with a value that is not its default.
GATE = {
    "fail_on_warnings": True,
    "fail_on_unhealthy": True,
    "min_rows_processed": 1,
    "max_rows_skipped_by_error": 2,
    "max_rows_with_warning": 3,
    "max_error_ratio": 0.4,
    "max_unreachable": 5,
    "wait_until_available": True,
    "partition_key": "2026-11-01",
}
SHARED = {"polaris_conn_id": "another", "project_id": "p", "deferrable": True}


def values(task, names):
    return {name: getattr(task, name) for name in names}


def test_the_table_of_options_is_complete():
    declared = set(inspect.signature(GatedTask).parameters) - {"kwargs"}
    assert declared == set(GATE) | set(SHARED)


@gated_tasks
def test_the_gates_options_are_taken_as_arguments(kind, own):
    assert values(kind(task_id="t", **own, **GATE), GATE) == GATE


@gated_tasks
def test_the_gates_options_are_taken_from_default_args_of_the_dag(kind, own):
    with a_dag(default_args=GATE):
        task = kind(task_id="t", **own)
        other = kind(task_id="u", **own, max_unreachable=6)
    assert values(task, GATE) == GATE
    assert other.max_unreachable == 6, "an argument takes precedence"


@all_tasks
def test_the_shared_options_are_taken_from_default_args_of_the_dag(kind, own):
    with a_dag(default_args=SHARED):
        task = kind(task_id="t", **own)
    assert values(task, SHARED) == SHARED


@gated_tasks
def test_the_gates_options_are_taken_from_default_args_of_the_task(kind, own):
    assert values(kind(task_id="t", **own, default_args=GATE), GATE) == GATE


@gated_tasks
def test_the_gates_options_can_be_partial_and_mapped(kind, own):
    fixed = {name: value for name, value in GATE.items() if name != "min_rows_processed"}
    with a_dag(default_args={"max_unreachable": 60}):
        mapped = kind.partial(task_id="t", **own, **{**fixed, "max_unreachable": 5}).expand(min_rows_processed=[1, 2])
        by_default = kind.partial(task_id="u", **own).expand(min_rows_processed=[1])
    assert mapped.partial_kwargs["max_error_ratio"] == 0.4
    assert values(mapped.unmap({"min_rows_processed": 1}), GATE) == GATE
    assert by_default.unmap({"min_rows_processed": 1}).max_unreachable == 60


@all_tasks
def test_an_unknown_option_is_refused(kind, own):
    with pytest.raises(Exception, match="min_row_processed"):
        kind(task_id="t", **own, min_row_processed=1)
    with a_dag(), pytest.raises(Exception, match="min_row_processed"):
        kind.partial(task_id="t", **own, min_row_processed=1)


def test_the_cancel_operator_has_no_gate():
    with pytest.raises(Exception, match="min_rows_processed"):
        PolarisCancelJobOperator(task_id="t", job_id="j", min_rows_processed=1)


@all_tasks
def test_help_shows_each_option_with_its_type_and_default(kind, own):
    shown = inspect.signature(kind).parameters
    assert set(own) | set(SHARED) <= set(shown)
    assert shown["polaris_conn_id"].default == "polaris_default"
    assert shown["timeout"].default != inspect.Parameter.empty
    if kind is not PolarisCancelJobOperator:
        assert set(GATE) <= set(shown)
        assert shown["max_unreachable"].default is None  # the configuration gives the default
        assert shown["max_unreachable"].annotation == "float | None"


@all_tasks
def test_the_thresholds_are_templated(kind, own):
    assert (set(THRESHOLDS) <= set(kind.template_fields)) == (kind is not PolarisCancelJobOperator)
