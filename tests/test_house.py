"""The rules of the package: its imports, its pinned versions, its comparisons of statuses, and its wheel."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version

import pytest

from tests.support.airflow_versions import AIRFLOW_3
from tests.support.coverage_report import files_below
from tests.support.imports import (
    LEVELS,
    PACKAGE,
    ROOT,
    circles,
    import_graph,
    imported_names,
    path_of,
    reachable,
    room_of,
)

SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("series", ["2.11", "3.0", "3.1", "3.2", "3.3"])
def test_constraint_files_hold_names_and_versions_only(series):
    lines = (ROOT / "constraints" / f"airflow-{series}.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][A-Za-z0-9.+!]*", line)] == []
    names = [line.partition("==")[0] for line in lines]
    assert len(names) == len(set(names))
    assert {"apache-airflow", "requests", "pendulum", "tenacity", "starlette", "pytest"} <= set(names)


def test_the_tests_run_on_the_pinned_versions():
    pinned = (ROOT / "constraints" / f"airflow-{'3.3' if AIRFLOW_3 else '2.11'}.txt").read_text().splitlines()
    assert f"apache-airflow=={version('apache-airflow')}" in pinned
    assert f"requests=={version('requests')}" in pinned


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_file_opens_with_a_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
#: Neither these nor anything that they import inside the package may import Airflow.
WITHOUT_AIRFLOW = {"api", "gate", "clock", "local", "pytest_plugin"}
#: The local Polaris shares only the package's version with the other modules.
SHARED_WITH_LOCAL = {"__init__"}

GRAPH = import_graph()
IMPORTS = {(module, other) for module, imported in GRAPH.items() for other in imported}


def test_each_folder_has_a_level():
    assert {room_of(module) for module in GRAPH} - {"local"} <= set(LEVEL_OF)


def test_imports_go_downwards():
    inside = {pair for pair in IMPORTS if "local" not in map(room_of, pair)}
    assert not {pair for pair in inside if LEVEL_OF[room_of(pair[1])] < LEVEL_OF[room_of(pair[0])]}


def test_no_modules_import_each_other():
    assert circles(GRAPH) == set()


def test_modules_without_airflow_import_nothing_of_airflow():
    pure = {module for module in GRAPH if room_of(module) in WITHOUT_AIRFLOW}
    needed = pure | {other for module in pure for other in reachable(GRAPH, module)}
    names = {(module, name) for module in needed for name in imported_names(path_of(module))}
    assert not {(module, name) for module, name in names if name.split(".")[0] == "airflow"}
    assert not {(module, other) for module, other in IMPORTS if module in pure and other == "_compat"}


def test_the_local_polaris_shares_no_code_with_the_rest():
    pairs = {(module, other) for module, other in IMPORTS if "local" in {room_of(module), room_of(other)}}
    into = {module for module, other in pairs if room_of(module) != "local"}
    out_of = {other for module, other in pairs if room_of(other) != "local"}
    assert into == {"pytest_plugin"}
    assert out_of <= SHARED_WITH_LOCAL


def test_the_import_graph_contains_lazy_typing_and_relative_imports(tmp_path):
    package = tmp_path / "house"
    for name, text in {
        "__init__.py": "",
        "plain.py": "import os\nimport house.room.door\nimport household",
        "lazy.py": "def f():\n    from house.room import door, handle",
        "typing_only.py": "if TYPE_CHECKING:\n    from house.plain import Name",
        "version.py": "from house import __version__, lazy",
        "room/__init__.py": "from .door import Door\nfrom ..lazy import f",
        "room/door.py": "from . import handle\nfrom .. import plain",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    graph = import_graph(package)
    assert graph == {
        "__init__": set(),
        "plain": {"room.door"},
        "lazy": {"room.door", "room"},
        "typing_only": {"plain"},
        "version": {"__init__", "lazy"},
        "room": {"room.door", "lazy"},
        "room.door": {"room", "plain"},
    }
    assert circles(graph) == {frozenset({"plain", "room", "room.door", "lazy"})}
    assert circles({"a": {"a"}, "b": {"a"}}) == {frozenset({"a"})}


TESTS = ROOT / "tests"


def from_test_modules(names):
    """Return the imported names that a test module or a conftest defines."""
    parts = {name: name.split(".") for name in names}
    return {
        name
        for name, (first, *rest) in parts.items()
        if first == TESTS.name and any(part == "conftest" or part.startswith("test_") for part in rest)
    }


def test_no_test_module_imports_another():
    found = {path: from_test_modules(imported_names(path, TESTS)) for path in TESTS.rglob("*.py")}
    assert {str(path.relative_to(TESTS)): names for path, names in found.items() if names} == {}


def test_an_import_of_a_test_module_is_found(tmp_path):
    path = tmp_path / "tests" / "room" / "test_new.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import tests.test_a\nfrom ..conftest import b\nfrom tests.support.c import d\nfrom . import test_e"
    )
    found = from_test_modules(imported_names(path, tmp_path / "tests"))
    assert found == {"tests.test_a", "tests.conftest.b", "tests.room.test_e"}


#: Rooms in which no object writes an attribute of another object.
ROOMS = ("gate", "polling", "submission", "waiting", "operators", "sensors", "triggers")


def foreign_writes(source):
    """Return every assignment to an attribute of another object than ``self`` or ``cls``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in filter(None, targets):
            for part in ast.walk(target):
                if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
                    owner = ast.unparse(part.value)
                    found.extend([ast.unparse(part)] if owner not in {"self", "cls"} else [])
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path.relative_to(PACKAGE).parts[0] in ROOMS],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_object_writes_an_attribute_of_another(path):
    assert foreign_writes(path.read_text()) == []


def test_a_write_to_an_attribute_of_another_object_is_found():
    source = "self.a = 1\nself.b.c = 2\nd.e += 3\nfor f.g in h: pass\n(self.i, j.k) = l"
    assert foreign_writes(source) == ["self.b.c", "d.e", "f.g", "j.k"]


#: The classes that calls return, and the classes of their words.
RETURNED = {
    "Job",
    "JobMetrics",
    "Health",
    "LogEntry",
    "Table",
    "ExecutionStatus",
    "File",
    "QueryResult",
    "QueryColumn",
    "Statement",
    "StatementPage",
    "HealthStatus",
    "JobType",
}


def test_models_exports_every_class_that_a_call_returns():
    from airflow_provider_polaris import models

    assert set(models.__all__) == RETURNED
    assert {name for name in RETURNED if f":class:`{name}`" in models.__doc__} == RETURNED
    assert {getattr(models, name).__module__ for name in RETURNED} == {"airflow_provider_polaris.api.models"}


#: Only this file compares a job's status, health or type with a word. Every other file asks a property of the job.
COMPARES_STATUSES = PACKAGE / "api" / "models.py"
#: Some words of the service have a second meaning. A comparison with one of these names is about that second meaning.
OTHER_MEANINGS = {
    "wait_for",  # an option of a gate
    "outcome",  # of a trigger's event
    "state",  # of a SubmissionNote, of a table, of Airflow's task instance
}


def name_of(node):
    """Return the last name of an expression, or ``None``: ``status`` for ``job.health.status``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def is_status_word(node):
    """Whether an expression is or contains a word of the service: a text, a constant of a class, or a collection."""
    from airflow_provider_polaris.models import ExecutionStatus, HealthStatus, JobType

    if isinstance(node, ast.Constant):
        return node.value in ExecutionStatus.known | HealthStatus.known | JobType.known
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return any(is_status_word(element) for element in node.elts)
    if isinstance(node, ast.Call):
        return any(is_status_word(argument) for argument in node.args)
    return isinstance(node, ast.Attribute) and name_of(node.value) in {"ExecutionStatus", "HealthStatus", "JobType"}


def status_comparisons(source):
    """Return every expression that compares a status, health status or job type, or reads a property of one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            compares = any(map(is_status_word, sides)) and not OTHER_MEANINGS.intersection(map(name_of, sides))
        elif isinstance(node, ast.MatchValue):
            compares = is_status_word(node.value)
        else:
            is_property = isinstance(node, ast.Attribute) and node.attr in {"is_over", "is_streaming", "is_deletion"}
            compares = is_property and name_of(node.value) in {"execution_status", "status", "type"}
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
def test_the_search_finds_a_new_comparison_of_statuses(comparison):
    assert status_comparisons(f"if {comparison}:\n    pass") == [comparison]
    assert status_comparisons(f"def f(job):\n    return [1 for _ in () if not ({comparison})]") == [comparison]


def test_the_search_finds_a_new_match_of_a_status():
    assert status_comparisons("match status:\n    case 'failed':\n        pass") == ["'failed'"]


def test_the_search_ignores_comparisons_with_another_meaning():
    assert status_comparisons("if gate.wait_for == 'completed' and note.state == 'failed' and job.is_over: pass") == []


def test_the_wheel_contains_only_the_package(tmp_path):
    """The build needs no network: the build backend is a dependency of the tests."""
    pytest.importorskip("hatchling", reason="a test dependency: make test installs it")
    program = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / run.stdout.strip().splitlines()[-1]) as wheel:
        names = wheel.namelist()
        (metadata,) = (wheel.read(name).decode() for name in names if name.endswith("/METADATA"))
        (entry_points,) = (wheel.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"airflow_provider_polaris"}
    assert {"airflow_provider_polaris/py.typed", "airflow_provider_polaris/local/server.py"} <= set(names)
    assert {f"airflow_provider_polaris/local/http/page.{kind}" for kind in ("html", "css", "js")} <= set(names)
    assert not [name for name in names if "/test" in name or name.endswith(".pyc")]
    in_wheel = {name for name in names if name.startswith("airflow_provider_polaris/example_dags/")}
    assert in_wheel == {f"airflow_provider_polaris/{path.relative_to(ROOT)}" for path in ROOT.glob("example_dags/*.py")}
    assert "[apache_airflow_provider]" in entry_points
    assert "[pytest11]\npolaris_local = airflow_provider_polaris.pytest_plugin\n" in entry_points
    for requirement in ("apache-airflow>=2.11", "requests", "pendulum", "tenacity", "starlette"):
        assert f"Requires-Dist: {requirement}" in metadata
    assert "License-Expression: Apache-2.0" in metadata


def test_a_test_run_names_the_files_with_little_coverage():
    shares = {"package/api/a.py": 94.99, "package/b.py": 95.0, "package/c.py": 0.0}
    report = {"files": {file: {"summary": {"percent_covered": share}} for file, share in shares.items()}}
    assert files_below(report, 95) == "Files below 95 %: c.py (0 %), api/a.py (94 %)"
    assert files_below({"files": {}}, 95) == "Files below 95 %: none"


def test_the_changelog_has_an_entry_for_this_version():
    from airflow_provider_polaris import __version__

    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
