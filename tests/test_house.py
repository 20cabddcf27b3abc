"""What is shipped, what is pinned, and the rules of the house."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.airflow_versions import AIRFLOW_3

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "airflow_provider_polaris"
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("series", ["2.11", "3.0", "3.1", "3.2", "3.3"])
def test_constraint_files_hold_names_and_versions_only(series):
    lines = (ROOT / "constraints" / f"airflow-{series}.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][A-Za-z0-9.+!]*", line)] == []
    names = [line.partition("==")[0] for line in lines]
    assert len(names) == len(set(names))
    assert {"apache-airflow", "requests", "pendulum", "tenacity", "starlette", "pytest"} <= set(names)


def test_these_tests_run_on_what_is_pinned():
    pinned = (ROOT / "constraints" / f"airflow-{'3.3' if AIRFLOW_3 else '2.11'}.txt").read_text().splitlines()
    assert f"apache-airflow=={version('apache-airflow')}" in pinned
    assert f"requests=={version('requests')}" in pinned


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_opens_with_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


#: Of Airflow, ``PolarisHook`` and ``_compat`` these import nothing.
WITHOUT_AIRFLOW = {"api", "gate", "clock.py", "local", "models.py", "pytest_plugin.py"}
ROOMS = {"hooks", "waiting", "polling", "submission"}


def imported_by(path):
    """Return every module that a file imports, also inside functions and for type checkers."""
    return {
        name
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else []
        )
    }  # fmt: skip


#: What a call returns, and the words in it.
RETURNED = {"Job", "JobMetrics", "Health", "LogEntry", "Table", "ExecutionStatus", "HealthStatus", "JobType"}


def test_models_exports_every_class_that_a_call_returns():
    from airflow_provider_polaris import models

    assert set(models.__all__) == RETURNED
    assert {name for name in RETURNED if f":class:`{name}`" in models.__doc__} == RETURNED
    assert {getattr(models, name).__module__ for name in RETURNED} == {"airflow_provider_polaris.api.models"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = path.relative_to(PACKAGE).parts
    forbidden = {"airflow_provider_polaris.local"} if own[0] not in {"local", "pytest_plugin.py"} else set()
    if own[0] in WITHOUT_AIRFLOW:
        forbidden |= {"airflow.", "airflow_provider_polaris._compat", "airflow_provider_polaris.hooks"}
    if own[0] in ROOMS | {"triggers"}:
        forbidden |= {"airflow_provider_polaris.sensors", "airflow_provider_polaris.operators"}
    # task_base makes the trigger with which a task defers; trigger_kill knows whose on_kill it is.
    if own[0] in ROOMS and own[-1] not in {"task_base.py", "trigger_kill.py"}:
        forbidden |= {"airflow_provider_polaris.triggers"}
    assert not [name for name in imported_by(path) if name.startswith(tuple(forbidden))]


#: Only this file compares a job's status, health or type with a word. Every other file asks a property of the job.
COMPARES_STATUSES = PACKAGE / "api" / "models.py"
#: Some words of the service have a second meaning. A comparison with one of these names is about that second meaning.
OTHER_MEANINGS = {
    "wait_for",  # an option of a gate
    "outcome",  # of a trigger's event
    "state",  # of a SubmissionNote, of a table, of Airflow's task instance
}


def name_of(node):
    """Return the last name of an expression, ``None`` if it has none: ``status`` of ``job.health.status``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def is_status_word(node):
    """Whether an expression is, or holds, a word of the service: a text, a constant of a class, or a collection."""
    from airflow_provider_polaris.models import ExecutionStatus, HealthStatus, JobType

    if isinstance(node, ast.Constant):
        return node.value in ExecutionStatus.known | HealthStatus.known | JobType.known
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return any(is_status_word(element) for element in node.elts)
    if isinstance(node, ast.Call):
        return any(is_status_word(argument) for argument in node.args)
    return isinstance(node, ast.Attribute) and name_of(node.value) in {"ExecutionStatus", "HealthStatus", "JobType"}


def status_comparisons(source):
    """Return every expression in which a status, health status or job type is compared, or asked for what it means."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            compares = any(map(is_status_word, sides)) and not OTHER_MEANINGS.intersection(map(name_of, sides))
        elif isinstance(node, ast.MatchValue):
            compares = is_status_word(node.value)
        else:
            asked = isinstance(node, ast.Attribute) and node.attr in {"is_over", "is_streaming", "is_deletion"}
            compares = asked and name_of(node.value) in {"execution_status", "status", "type"}
        if compares:
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path != COMPARES_STATUSES and "local" not in path.relative_to(PACKAGE).parts],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_only_the_models_compare_statuses(path):
    assert status_comparisons(path.read_text()) == []


@pytest.mark.parametrize(
    "comparison",
    [
        "status == 'failed'",
        "'failed' != status",
        "job.execution_status in ('failed', 'canceled')",
        "'canceled' in (job.execution_status, job.desired_execution_status)",
        "job.execution_status not in {'completed', ExecutionStatus.FAILED}",
        "job.type == JobType.STREAMING",
        "spec['type'] == 'streaming'",
        "job.health.status == models.HealthStatus('warn')",
        "job.get('executionStatus') in frozenset(['failed'])",
        "job.execution_status.is_over",
        "job.type.is_deletion",
    ],
)
def test_a_new_comparison_of_statuses_is_found(comparison):
    assert status_comparisons(f"if {comparison}:\n    pass") == [comparison]
    assert status_comparisons(f"def f(job):\n    return [1 for _ in () if not ({comparison})]") == [comparison]


def test_a_new_match_of_a_status_is_found():
    assert status_comparisons("match status:\n    case 'failed':\n        pass") == ["'failed'"]


def test_a_comparison_of_another_meaning_is_not_found():
    assert status_comparisons("if gate.wait_for == 'completed' and note.state == 'failed' and job.is_over: pass") == []


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    """Built without a network: hatchling is at hand where the tests run, or the build front end is not asked for it."""
    pytest.importorskip("hatchling", reason="a test dependency: make test installs it")
    program = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / run.stdout.strip().splitlines()[-1]) as wheel:
        names = wheel.namelist()
        (metadata,) = (wheel.read(name).decode() for name in names if name.endswith("/METADATA"))
        (entry_points,) = (wheel.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"airflow_provider_polaris"}
    assert {"airflow_provider_polaris/py.typed", "airflow_provider_polaris/local/server.py"} <= set(names)
    assert not [name for name in names if "/test" in name or name.endswith(".pyc")]
    assert "[apache_airflow_provider]" in entry_points
    assert "[pytest11]\npolaris_local = airflow_provider_polaris.pytest_plugin\n" in entry_points
    for requirement in ("apache-airflow>=2.11", "requests", "pendulum", "tenacity", "starlette"):
        assert f"Requires-Dist: {requirement}" in metadata
    assert "License-Expression: Apache-2.0" in metadata


def test_the_changelog_tells_of_this_version():
    from airflow_provider_polaris import __version__

    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
