"""The docs match the code: examples, links, quoted messages, options, and the picture of the imports."""

from __future__ import annotations

import ast
import html
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_polaris import exceptions
from airflow_provider_polaris._compat import AirflowFailException
from airflow_provider_polaris.operators.polaris import (
    PolarisCancelJobOperator,
    PolarisCreateJobOperator,
    PolarisQueryOperator,
)
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from scripts.demo import EXPECTED
from scripts.diagram import PICTURE, draw
from scripts.screenshots import DEMO, PICTURES
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.imports import PACKAGE, ROOT, import_graph
from tests.support.messages import Messages, quotations, templates

DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
SOURCES = [path for path in PACKAGE.rglob("*.py") if "local" not in path.parts]
QUOTATIONS = list(quotations((DOCS / "reference" / "troubleshooting.md").read_text()))


def test_the_picture_of_the_house_shows_the_current_imports():
    assert PICTURE.read_text() == draw(import_graph()), "make docs-diagram draws it again"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts build them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_of_a_page_leads_to_a_file_and_a_heading(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_a_command_makes_each_picture():
    shown = {name for page in PAGES for name in re.findall(r"!\[[^\]]+\]\((?:\S*/)?(\S+)\)", page.read_text())}
    made = {PICTURE.name, DEMO.name, "waits.svg", "scale.svg", *(picture.path.name for picture in PICTURES)}
    assert shown == made
    assert {path.name for path in (DOCS / "pictures").iterdir()} == made


def test_the_picture_of_the_demo_shows_the_expected_result():
    text = html.unescape(re.sub(r"<[^>]+>", "", DEMO.read_text())).replace("\N{NO-BREAK SPACE}", " ")
    assert EXPECTED in text
    assert all(f"{step}. " in text for step in range(1, 6))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_python_example_imports_names_that_exist(page):
    for example in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("airflow_provider_polaris"):
                if str(node.module) == "airflow_provider_polaris.triggers.loads" and not AIRFLOW_3:
                    continue  # tests/test_compat.py has the message that 2.11 gives
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a page's prose: paragraphs, list items and table cells, without code blocks and links."""
    text = re.sub(r"^```.*?^```|<!--.*?-->|^#.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"\n\s*\n|\n(?=- |\d+\. |\|)|\|", text)
    return [" ".join(one.split()) for part in parts for one in re.split(r"(?<=[.?!:;])\s+(?=[A-Z`*\"])", part)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_sentence_of_a_page_has_more_than_30_words(page):
    assert [one for one in sentences_of(page.read_text()) if len(one.split()) > 30] == []


#: Idioms and metaphors that a reader of English as a second language may not know.
IDIOMS = re.compile(
    r"\b(but for|in vain|put up with|held up|comes of|likewise|patience|witness|heed|bear in mind|keep in mind"
    r"|as it were|out of the box|under the hood|boils down|on the fly|rule of thumb|at the end of the day)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("text", [*PAGES, *sorted(PACKAGE.rglob("*.py"))], ids=lambda path: str(path.relative_to(ROOT)))
def test_docs_and_code_use_no_idiom(text):
    assert IDIOMS.findall(text.read_text()) == []


def options_of(section: str) -> set[str]:
    """Return the options in the tables of a section of docs/reference/tasks.md, up to the next heading."""
    text = (DOCS / "reference" / "tasks.md").read_text().partition(f"\n## {section}\n")[2].partition("\n#")[0]
    rows = [row for table in re.findall(r"\| option .*\n((?:\|.*\n)+)", text) for row in table.splitlines()]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}


def own_options(task: type) -> set[str]:
    """Return the options that the class of a task, or a base of it in this package, declares."""
    inside = [base for base in task.__mro__ if base.__module__.startswith("airflow_provider_polaris")]
    names = {name for base in inside for name in inspect.signature(base.__init__).parameters}
    return names - {"self", "args", "kwargs"}


@pytest.mark.parametrize(
    ("task", "sections"),
    [
        (PolarisCreateJobOperator, ["Load data", "Options of the gate"]),
        (PolarisJobSensor, ["Wait for a job", "Options of the gate"]),
        (PolarisCancelJobOperator, ["Cancel a job"]),
        (PolarisQueryOperator, ["Run a query"]),
    ],
    ids=["create", "sensor", "cancel", "query"],
)
def test_the_page_on_tasks_lists_every_option_of_a_task(task, sections):
    listed = set().union(*map(options_of, sections))
    shared = {"polaris_conn_id", "project_id"}  # the tables of options of the gate list them for all tasks
    assert listed - shared == own_options(task) - shared


#: The modules from which users import.
FACES = [
    f"airflow_provider_polaris.{name}"
    for name in (
        "hooks.polaris", "sensors.polaris", "operators.polaris", "triggers.polaris", "triggers.queries",
        "links.polaris", "assets.uris", "exceptions", "models", "local", "pytest_plugin",
    )
]  # fmt: skip


def public_names(module_name: str) -> set[str]:
    """Return ``__all__``, or else the classes that the module defines."""
    module = importlib.import_module(module_name)
    classes = {name for name, value in inspect.getmembers(module, inspect.isclass) if value.__module__ == module_name}
    return set(getattr(module, "__all__", classes))


@pytest.mark.parametrize("module", FACES)
def test_the_site_documents_every_public_name(module):
    shown = {name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)}
    names = public_names(module)
    assert names
    assert {f"{module}.{name}" for name in names} <= shown


def test_the_page_of_exceptions_says_what_the_module_and_its_classes_say():
    page = (DOCS / "reference" / "exceptions.md").read_text()
    on_the_page = re.findall(r"^\| `(\w+)`(?:, base of .*)? \| (.*) \| (yes|no) \|$", page, re.MULTILINE)
    row = r"^[:`a-z]*(\w+)`+(?:, base of:)?  +(\S.*?)  +(yes|no)$"
    in_the_module = re.findall(row, str(exceptions.__doc__), re.MULTILINE)
    assert [(name, text, retried) for name, text, retried in on_the_page] == [
        (name, text.replace("``", "`"), retried) for name, text, retried in in_the_module
    ]
    bases = {"PolarisError", "PolarisApiError"}  # no task raises one of these
    assert {name for name, *_ in on_the_page if name.startswith("Polaris")} == set(exceptions.__all__) - bases
    for name, _, retried in on_the_page:
        if name.startswith("Polaris"):
            assert (retried == "no") == issubclass(getattr(exceptions, name), AirflowFailException), name


@pytest.fixture(scope="module")
def messages():
    return Messages(templates(SOURCES))


@pytest.mark.parametrize("quotation", QUOTATIONS)
def test_a_quoted_message_exists_in_the_code(messages, quotation):
    assert messages.has(quotation)


def test_the_troubleshooting_page_names_classes_that_exist():
    named = set(re.findall(r"`(Polaris[A-Z]\w+)`", (DOCS / "reference" / "troubleshooting.md").read_text()))
    assert named <= set(re.findall(r"^class (\w+)", "\n".join(path.read_text() for path in SOURCES), re.MULTILINE))


@pytest.mark.parametrize("quotation", ["HTTP 404: …", "The spec was sent at …", "give the API key the permission …"])
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


def test_a_message_is_found_by_its_constants_and_its_values(tmp_path):
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


def test_the_dag_and_its_tests_from_the_docs_pass(tmp_path):
    files = re.findall(r"```python\n# (\S+)\n(.*?)```", (DOCS / "how-to" / "test-your-dags.md").read_text(), re.DOTALL)
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
