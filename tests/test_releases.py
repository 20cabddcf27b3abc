"""The page on releases, the workflows and the hooks agree with the Makefile, pyproject.toml and the scripts."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import yaml

from scripts.release_check import ReleaseError, check_tag
from tests.support.imports import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
PAGE = (ROOT / "docs" / "reference" / "releases.md").read_text()
#: Each row of the table: the series, its oldest and newest Python, the tested version, and which tests run.
ROWS = re.findall(r"^\| (\d\.\d+) \| (3\.\d+) to (3\.\d+) \| (\S+) \| (all|the demo) \|$", PAGE, re.MULTILINE)
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").iterdir()}


def pythons(oldest, newest):
    """Return every Python from the oldest to the newest: ``3.10``, ``3.11`` …"""
    return [f"3.{minor}" for minor in range(int(oldest.split(".")[1]), int(newest.split(".")[1]) + 1)]


def pairs(rows):
    return {(series, python) for series, oldest, newest, *_ in rows for python in pythons(oldest, newest)}


def test_the_table_has_the_versions_of_the_makefile():
    versions = dict(re.findall(r"^AIRFLOW_VERSION_(\S+) *:= (\S+)$", MAKEFILE, re.MULTILINE))
    assert {series: version for series, _, _, version, _ in ROWS} == versions
    (tested,) = re.findall(r"^TESTED := (.*)$", MAKEFILE, re.MULTILINE)
    assert [series for series, *_, tests in ROWS if tests == "all"] == tested.split()


def test_the_table_has_the_pythons_of_the_package():
    project = (ROOT / "pyproject.toml").read_text()
    assert sorted({python for _, python in pairs(ROWS)}) == re.findall(
        r'"Programming Language :: Python :: (3\.\d+)"', project
    )
    assert {oldest for _, oldest, *_ in ROWS} == set(
        re.findall(r'^requires-python = ">=(\S+)"$', project, re.MULTILINE)
    )


@pytest.mark.parametrize("minor", range(9, 15))
@pytest.mark.parametrize(("series", "oldest", "newest"), [row[:3] for row in ROWS], ids=[row[0] for row in ROWS])
def test_an_environment_takes_only_the_pythons_of_the_table(series, oldest, newest, minor, tmp_path):
    """A Python that reports another version than its own stands for the Pythons that this machine does not have."""
    python = tmp_path / "python"
    program = f"import sys; sys.version_info = (3, {minor}, 0); exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}" "$2"\n')
    python.chmod(0o755)
    run = subprocess.run(
        [ROOT / "scripts" / "python.sh", series],
        cwd=ROOT,
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    if f"3.{minor}" in pythons(oldest, newest):
        assert (run.returncode, run.stdout.strip()) == (0, str(python))
    else:
        assert run.returncode == 1
        assert f"Airflow {series} needs Python {oldest} to {newest} with venv, not {python}" in run.stderr


def matrix_of(job):
    """Return the pairs of Airflow and Python in the matrix of a job of tests.yml."""
    matrix = WORKFLOWS["tests"]["jobs"][job]["strategy"]["matrix"]
    excluded = {(one["airflow"], one["python"]) for one in matrix["exclude"]}
    return {(airflow, python) for airflow in matrix["airflow"] for python in matrix["python"]} - excluded


@pytest.mark.parametrize(("job", "tests"), [("tests", "all"), ("demo", "the demo")])
def test_the_workflow_has_a_job_for_each_pair_of_the_table(job, tests):
    assert matrix_of(job) == pairs(row for row in ROWS if row[4] == tests)


def test_the_workflow_runs_each_command_of_the_gate():
    gate = set(re.findall(r"^\s*make ([a-z-]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    # The vendor's OpenAPI document is not public. The jobs tests and demo have a matrix of their own.
    commands = WORKFLOWS["tests"]["jobs"]["checks"]["strategy"]["matrix"]["command"]
    assert gate - {"conformance", "smoke", "test"} == set(commands)


def test_make_lineage_runs_each_file_whose_tests_need_openlineage():
    (listed,) = re.findall(r"^LINEAGE_TESTS := (.*)$", MAKEFILE, re.MULTILINE)
    skips = re.compile(r"importorskip\(\s*\"(airflow\.providers\.)?openlineage")
    needing = {path for path in (ROOT / "tests").rglob("test_*.py") if skips.search(path.read_text())}
    assert {ROOT / name for name in listed.split()} == needing


def test_each_make_command_of_a_workflow_exists():
    used = {
        name
        for path in (ROOT / ".github").rglob("*.yml")
        for name in re.findall(r"run: make ([a-z-]+)", path.read_text())
    }
    assert used
    assert used <= set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))


def test_the_hooks_run_the_commands_of_make_lint():
    recipe = MAKEFILE.partition("\nlint: ")[2].partition("\n\n")[0]
    commands = {
        line.strip() for line in recipe.replace("$(NEWBIN)", ".venv/3.3/bin").splitlines() if line.startswith("\t")
    }
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    entries = {hook["entry"] for repo in config["repos"] for hook in repo["hooks"]}

    def checked(command):
        """A hook fixes the files of a commit where make lint checks every file."""
        return re.sub(r" (--fix|--check|\.)(?= |$)", "", command)

    assert {checked(command) for command in commands} == {checked(entry) for entry in entries}


def test_a_release_accepts_the_tag_of_its_version():
    check_tag("v1.2.3", "1.2.3", "# Changelog\n\n## 1.2.3 (2027-01-31)\n")


@pytest.mark.parametrize(
    ("tag", "changelog", "message"),
    [
        ("v1.2.4", "## 1.2.3 (2027-01-31)", "The tag is v1.2.4, and the version of the package is 1.2.3"),
        ("1.2.3", "## 1.2.3 (2027-01-31)", "The tag is 1.2.3, and"),
        ("v1.2.3", "## 1.2.3 (unreleased)", r"CHANGELOG.md needs the heading: ## 1.2.3 \(YYYY-MM-DD\)"),
        ("v1.2.3", "## 1.2.2 (2027-01-31)", "CHANGELOG.md needs the heading"),
        ("v1.2.3", "## 1x2.3 (2027-01-31)", "CHANGELOG.md needs the heading"),
    ],
    ids=["another version", "no v", "no date", "no entry", "another name"],
)
def test_a_release_refuses_a_tag_that_does_not_match(tag, changelog, message):
    with pytest.raises(ReleaseError, match=message):
        check_tag(tag, "1.2.3", changelog)
