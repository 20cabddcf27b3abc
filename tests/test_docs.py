"""The docs match the code: their examples run, the messages that they quote exist, their picture is of today."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.diagram import PICTURE, draw
from tests.support.imports import PACKAGE, import_graph
from tests.support.messages import Messages, quotations, templates

DOCS = Path(__file__).parent.parent / "docs"
SOURCES = [path for path in PACKAGE.rglob("*.py") if "local" not in path.parts]
QUOTATIONS = list(quotations((DOCS / "troubleshooting.md").read_text()))


def test_the_picture_of_the_house_shows_the_imports_of_today():
    assert PICTURE.read_text() == draw(import_graph()), "make docs-diagram draws it anew"


@pytest.fixture(scope="module")
def messages():
    return Messages(templates(SOURCES))


@pytest.mark.parametrize("quotation", QUOTATIONS)
def test_a_quoted_message_exists_in_the_code(messages, quotation):
    assert messages.has(quotation)


def test_the_troubleshooting_page_names_classes_that_exist():
    named = set(re.findall(r"`(Polaris[A-Z]\w+)`", (DOCS / "troubleshooting.md").read_text()))
    assert named <= set(re.findall(r"^class (\w+)", "\n".join(path.read_text() for path in SOURCES), re.MULTILINE))


@pytest.mark.parametrize(
    "quotation", ["… returned 404: …", "The spec was sent at …", "Give the API key the permission …"]
)
def test_a_quotation_that_differs_by_a_word_from_the_code_is_found(messages, quotation):
    words = quotation.split()
    assert quotation in QUOTATIONS
    for place, word in enumerate(words):
        if word.isalpha():
            assert not messages.has(" ".join([*words[:place], "ostrich", *words[place + 1 :]]))


def test_only_the_first_column_of_a_table_of_messages_quotes():
    page = (
        "`no table` |\n\n| message | what |\n| --- | --- |\n| `a b`, `c …`, `d` | `e f` |\n| of Airflow: `g h` | |\n"
        "\n| option | what |\n| --- | --- |\n| `i j` | |\n"
    )
    assert list(quotations(page)) == ["a b", "c …"]


def test_a_message_has_values_between_its_constants(tmp_path):
    source = tmp_path / "source.py"
    source.write_text(
        '"""A docstring is no message."""\n'
        'raise E(f"job {job_id!r} has {n:,} rows" + f" of {table}" + more)\n'
        'log.info("Canceling job %s after %.1f s", job_id, seconds)\n'
    )
    known = templates([source])
    assert {("job ", " has ", " rows of ", "", ""), ("Canceling job ", " after ", " s")} <= known
    messages = Messages(known)
    for quotation in ("job … has 7 rows of cities", "… rows of …", "Canceling job …", "has … rows of"):
        assert messages.has(quotation)
    for quotation in ("job … has no day", "job a b has 7 rows", "Canceling the job", "A docstring is", "…"):
        assert not messages.has(quotation)


def test_the_dag_and_its_test_from_the_docs_pass(tmp_path):
    files = re.findall(r"```python\n# (\S+)\n(.*?)```", (DOCS / "testing.md").read_text(), re.DOTALL)
    assert [name for name, _ in files] == ["dags/load_orders.py", "tests/conftest.py", "tests/test_load_orders.py"]
    for name, text in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTEST_"))}
    env = {**kept, "TMPDIR": str(tmp_path), "AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY": "True"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "tests"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert run.returncode == 0, run.stdout[-5000:]
    assert "4 passed" in run.stdout
