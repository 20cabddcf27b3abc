"""The Python code of README and docs runs as it stands there, on both Airflows, with the local Polaris.

Each page is a story: its blocks run one after another. A comment that the reader does not see checks the result
(``invisible-code-block``), or gives the reason why a block does not run (``skip: next "reason"``).
"""

from __future__ import annotations

import re
import sys
from types import ModuleType

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from tests.support.airflow_versions import AIRFLOW_3, run_dag
from tests.support.imports import ROOT
from tests.support.local_calls import caller_of

pytestmark = [
    pytest.mark.usefixtures("airflow_db"),
    # Airflow's own runner has warnings of its own here. All other tests turn warnings into errors.
    pytest.mark.filterwarnings("ignore"),
]

DOCS = ROOT / "docs"
#: A test of test_docs.py runs the files of this page in a process of their own.
ELSEWHERE = DOCS / "how-to" / "test-your-dags.md"
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    if "```python" in page.read_text() and page != ELSEWHERE and "--8<--" not in page.read_text()
]
PARSERS = [PythonCodeBlockParser(), SkipParser()]


@pytest.fixture
def sdk(monkeypatch):
    """Define ``airflow.sdk`` on Airflow 2.11, with the imports that the page on releases gives for 2.11."""
    if AIRFLOW_3:
        return
    page = (DOCS / "reference" / "releases.md").read_text()
    table = page.partition("## Names on Airflow 2.11")[2].partition("\n## ")[0]
    module = ModuleType("airflow.sdk")
    for line in re.findall(r"\| `(from .*)` \|", table):
        exec(line, vars(module))  # noqa: S102 - a line of our own documentation
    monkeypatch.setitem(sys.modules, "airflow.sdk", module)


@pytest.fixture
def story(polaris, hook, monkeypatch, tmp_path, sdk):
    """The names that the invisible blocks of a page use."""
    monkeypatch.chdir(tmp_path)

    def run(dag):
        """Run a DAG. Return the state of each task."""
        for one in dag.tasks:
            one.retries = 0  # dag.test() waits for retry_delay
            for option in ("poke_interval", "poll_interval"):
                if hasattr(one, option):
                    setattr(one, option, 0.1)
        return run_dag(dag).tasks

    return {
        "AIRFLOW_3": AIRFLOW_3,
        "polaris": polaris,
        "run": run,
        "query": lambda sql: [list(row) for row in hook.query(sql).rows],
        "rows_of": lambda table: caller_of(polaris)("GET", f"tables/{table}").json()["totalRows"],
        "statuses": lambda: [job.status for job in polaris._store.jobs.values()],
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page, story):
    document = Sybil(parsers=PARSERS, pattern="*.md").parse(page)
    document.namespace.update(story)
    for example in document.examples():
        example.evaluate()


def test_code_that_does_not_run_has_its_reason():
    skipped = [
        (page.name, reason)
        for page in PAGES
        for reason in re.findall(r"<!--+ *skip: *(.*?) *--+>", page.read_text(), re.DOTALL)
    ]
    reasoned = r'next ("[^"]{10,}"|if\(not AIRFLOW_3, reason="[^"]{10,}"\))'
    assert all(re.fullmatch(reasoned, reason) for _, reason in skipped), skipped
