"""A real Airflow with DAG runs to look at in a browser: a good load, and four ways in which a gate fails."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_provider_polaris.local import LocalPolaris
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.real_airflow import RealAirflow, running_airflow, wait_for

#: The ids of the jobs, by the name of their story. They are fixed, so that two runs give the same pictures.
JOBS = {
    "refused": "721aad36-bcef-48be-a50e-2fb6210bab76",
    "timeout": "0b6f4d1c-7a52-4a6e-9f0d-3c2f8f5a1e07",
    "outage": "5d3e9c80-64b1-4f7a-8d25-b1a7c4e6f912",
    "lost": "c8a1f2d3-90e4-4b5c-a6d7-e8f901234567",
    "loaded": "3f2b8c4e-1d5a-4e6f-8a9b-0c1d2e3f4a5b",
}
PROJECT_ID = "24374b3f-e03a-4731-9c4d-0a5a0c0f6b1e"
DAG_FILE = """
from datetime import datetime, timezone

try:
    from airflow.sdk import DAG, Asset
except ImportError:
    from airflow import DAG
    from airflow.datasets import Dataset as Asset

from airflow_provider_polaris.sensors.polaris import PolarisJobSensor

JOBS = {jobs!r}
OPTIONS = {{
    "refused": {{"max_rows_skipped_by_error": 0}},
    "timeout": {{"timeout": 3}},
    "outage": {{"max_unreachable": 3}},
    "lost": {{}},
    "loaded": {{"outlets": [Asset("polaris://orders")], "max_rows_skipped_by_error": 10}},
}}

for name, job_id in JOBS.items():
    start = datetime(2026, 11, 1, tzinfo=timezone.utc)
    with DAG(f"load_orders_{{name}}", schedule=None, start_date=start, catchup=False):
        PolarisJobSensor(task_id="gate", job_id=job_id, poke_interval=1, **OPTIONS[name])
"""
COUNTERS = {"numRowsProcessed": 23_988, "numRowsSkippedByError": 7, "numRowsPersisted": 23_988}
#: A job that is over, with times that are the same in each run.
COMPLETED = {
    "executionStatus": "completed",
    "createdTimestamp": "2026-11-01T06:00:00Z",
    "startedTimestamp": "2026-11-01T06:00:08Z",
    "completedTimestamp": "2026-11-01T06:04:20Z",
    "lastUpdatedTimestamp": "2026-11-01T06:04:20Z",
}
LOST_ROWS = {"status": "warn", "code": "invalid_rows_found", "message": "7 rows could not be parsed"}


def run_of(name: str) -> str:
    """Return the id of a story's DAG run."""
    return f"2026-11-01_{name}"


class Story:
    """A real Airflow, its local Polaris, and the address of Airflow's pages."""

    def __init__(self, airflow: RealAirflow, polaris: LocalPolaris) -> None:
        self.airflow = airflow
        self.polaris = polaris
        self.url = f"http://localhost:{airflow.port}"

    def task_page(self, name: str, tab: str = "logs") -> str:
        """Return the address of a page of the story's task: its ``logs``, or its ``xcom``."""
        dag_id, run_id = f"load_orders_{name}", run_of(name)
        if AIRFLOW_3:
            page = f"{self.url}/dags/{dag_id}/runs/{run_id}/tasks/gate"
            return page if tab == "logs" else f"{page}/{tab}"
        return f"{self.url}/dags/{dag_id}/grid?dag_run_id={run_id}&task_id=gate&tab={tab}"


def _tell(story: Story) -> None:
    """Run each DAG to its end."""
    airflow, polaris = story.airflow, story.polaris
    body: dict[str, Any] = {"type": "batch", "target": {"type": "table", "tableName": "orders"}}
    for name, job_id in JOBS.items():
        is_over = name in {"refused", "loaded"}
        polaris.add_job(
            id=job_id,
            **body,
            **(COMPLETED if is_over else {"executionStatus": "running"}),
            health=LOST_ROWS if is_over else {"status": "ok"},
            metrics=COUNTERS,
        )
    for name in JOBS:
        airflow.run(f"load_orders_{name}", run_of(name), {})
    for name, fault in (
        ("outage", lambda job_id: polaris.fail_next(10**6, status=503, match=job_id)),
        ("lost", polaris.remove_job),
    ):
        wait_for(partial(_was_polled, polaris, JOBS[name]), f"the first poll of {name}")
        fault(JOBS[name])
    for name in JOBS:
        airflow.assert_ends(run_of(name), "success" if name == "loaded" else "failed")
    polaris.clear_faults()


def _was_polled(polaris: LocalPolaris, job_id: str) -> bool:
    return any(request.path.endswith(job_id) for request in polaris.requests)


@contextmanager
def story():
    """Yield the story, and stop its processes at the end."""
    with TemporaryDirectory(prefix="polaris-browser-") as folder, LocalPolaris(project_id=PROJECT_ID) as polaris:
        dag_file, connection = DAG_FILE.format(jobs=JOBS), polaris.connection_json
        with running_airflow(Path(folder), dag_file, with_pages=True, polaris_default=connection) as airflow:
            told = Story(airflow, polaris)
            _tell(told)
            yield told
