"""The docs' examples run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from scripts.diagram import PICTURE, draw
from tests.support.imports import import_graph

DOCS = Path(__file__).parent.parent / "docs"


def test_the_picture_of_the_house_shows_the_imports_of_today():
    assert PICTURE.read_text() == draw(import_graph()), "make docs-diagram draws it anew"


def test_the_test_of_a_users_dag(tmp_path):
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
