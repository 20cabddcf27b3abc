"""The rules of the house: what imports what, what is pinned, and what is shipped."""

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
#: The local Polaris shares no code with the rest, but for the package's version.
SHARED_WITH_LOCAL = {"__init__"}

#: Groups of modules that still import each other.
KNOWN_CIRCLES = {
    # The poller, its waits and its client name each other's types.
    frozenset(f"polling.{name}" for name in ("by_id", "job_poller", "list_policy", "shared_client", "subscription")),
    # The trigger of a job cancels a killed job with a function that takes the trigger.
    frozenset({"triggers.polaris", "submission.trigger_kill"}),
}
#: Imports that still go upwards, as pairs of the importing and the imported module.
KNOWN_UPWARD = {
    # The rooms send requests with the hook, since no client without Airflow is there yet.
    ("polling.shared_client", "hooks.polaris"),
    ("submission.submit_once", "hooks.polaris"),
    ("waiting.job_wait", "hooks.polaris"),
    ("waiting.task_base", "hooks.polaris"),
    # The base class of the waiting tasks makes the trigger with which a task defers, and adds the link to the job.
    ("waiting.task_base", "triggers.base"),
    ("waiting.task_base", "triggers.polaris"),
    ("waiting.task_base", "links.polaris"),
    # The cancellation of a killed job takes the trigger itself.
    ("submission.trigger_kill", "triggers.polaris"),
    # The rooms raise exceptions that users meet.
    ("submission.submit_once", "exceptions"),
    ("submission.worker_kill", "exceptions"),
    ("waiting.deferral", "exceptions"),
    ("waiting.task_base", "exceptions"),
}

GRAPH = import_graph()
IMPORTS = {(module, other) for module, imported in GRAPH.items() for other in imported}


def test_each_room_has_a_level():
    assert {room_of(module) for module in GRAPH} - {"local"} <= set(LEVEL_OF)


def test_imports_go_downwards_but_for_the_known_ones():
    inside = {pair for pair in IMPORTS if "local" not in map(room_of, pair)}
    assert {pair for pair in inside if LEVEL_OF[room_of(pair[1])] < LEVEL_OF[room_of(pair[0])]} == KNOWN_UPWARD


def test_no_modules_import_each_other_but_for_the_known_ones():
    assert circles(GRAPH) == KNOWN_CIRCLES


def test_api_and_gate_import_nothing_of_airflow():
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


def test_the_import_graph_has_lazy_typing_and_relative_imports(tmp_path):
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


def test_the_wheel_has_the_package_and_nothing_else(tmp_path):
    """The wheel is built without a network: the build backend is one of the tests' dependencies."""
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


def test_a_run_names_the_files_with_little_coverage():
    shares = {"package/api/a.py": 94.99, "package/b.py": 95.0, "package/c.py": 0.0}
    report = {"files": {file: {"summary": {"percent_covered": share}} for file, share in shares.items()}}
    assert files_below(report, 95) == "Files below 95 %: c.py (0 %), api/a.py (94 %)"
    assert files_below({"files": {}}, 95) == "Files below 95 %: none"


def test_the_changelog_has_an_entry_for_this_version():
    from airflow_provider_polaris import __version__

    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
