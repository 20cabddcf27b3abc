"""Run the DAG of a file with Airflow's OpenLineage provider, and read the events that the provider has written.

python -m tests.support.lineage_run FILE
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.imports import ROOT

#: What stands before the DAG of a test.
HEAD = """
from datetime import datetime, timezone
try:
    from airflow.sdk import DAG, Asset, AssetAlias, task
except ImportError:
    from airflow import DAG
    from airflow.datasets import Dataset as Asset
    from airflow.decorators import task
from airflow_provider_polaris.assets.uris import PolarisTable
from airflow_provider_polaris.operators.checks import PolarisColumnCheckOperator, PolarisTableCheckOperator
from airflow_provider_polaris.operators.polaris import *
from airflow_provider_polaris.sensors.polaris import *
dag = DAG("lineage", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False)
dag.__enter__()
"""


def events_of(folder: Path, tasks: str) -> dict[str, dict[str, Any]]:
    """Run tasks in a process of their own. Return the last event of each task, by its id.

    :param tasks: the body of a DAG.
    """
    file, events = folder / "lineage_dag.py", folder / "events.json"
    file.write_text(HEAD + tasks)
    env = {
        **os.environ,
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "file", "log_file_path": str(events), "append": True}),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
        "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "60",
    }
    program = [sys.executable, "-m", "tests.support.lineage_run", str(file)]
    run = subprocess.run(program, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert events.exists(), run.stdout[-3000:] + run.stderr[-3000:]
    found = {}
    for line in events.read_text().splitlines():
        event = json.loads(line)
        task_id = event["job"]["name"].removeprefix("lineage.")
        if event["eventType"] != "START" and task_id != "lineage":
            found[task_id] = {**event, "log": run.stdout + run.stderr}
    return found


def main(file: str) -> None:
    """Run the DAG of the file."""
    from tests.support.airflow_versions import run_dag

    run_dag(runpy.run_path(file)["dag"])


if __name__ == "__main__":
    main(sys.argv[1])
