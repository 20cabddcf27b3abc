"""Every example DAG runs with OpenLineage in each mode: each dataset is found, with the rows that Polaris counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest
import requests

from airflow_provider_polaris.local.engine.project import store
from scripts.run_dag import EXAMPLES
from tests.support.lineage_run import MODES
from tests.support.local_calls import API_KEY

pytest.importorskip("airflow.providers.openlineage", reason="make lineage installs Airflow's OpenLineage provider")

DAYS = ["orders-2026-11-01.json.gz", "orders-2026-11-02.json.gz"]
#: An hour whose rows are in the files of the pipeline example, and the end of the hour and of the day.
HOUR, HOUR_IS_OVER = "2026-11-01T10", datetime(2026, 11, 1, 11, tzinfo=timezone.utc)
DAY_IS_OVER = datetime(2026, 11, 2, tzinfo=timezone.utc)
COMPLETED = {"executionStatus": "completed", "health": {"status": "ok"}}


def upload_days(polaris, hook, folder):
    for name in DAYS:
        hook.upload_file(EXAMPLES / "data" / name, name)


def write_hour(polaris, hook, folder):
    row = {"timestamp": f"{HOUR}:15:00Z", "country": "CH", "amount": 9.5}
    (folder / "a.json").write_text(f"{json.dumps(row)}\n" * 5)


def add_load(table, **options):
    """Return a function that adds a job which another tool has started. Some requests see the job running."""

    def prepare(polaris, hook, folder):
        target = {"type": "table", "tableName": table}
        metrics = {"numRowsProcessed": 4, "numRowsPersisted": 3}
        job_id = polaris.add_job(type="batch", executionStatus="running", metrics=metrics, target=target, **options)
        polaris.script(job_id, {}, {}, {**COMPLETED, "completedTimestamp": "2099-01-01T00:00:00Z"})

    return prepare


def add_stream(polaris, hook, folder):
    job_id = polaris.add_job(type="streaming", target={"type": "table", "tableName": "clicks"})
    polaris.script(job_id, {}, {}, {}, {"executionStatus": "running"})


def add_connection(polaris, hook, folder):
    requests.post(
        f"{polaris.url}/v1/projects/{polaris.project_id}/connections",
        json={"type": "push_streaming", "name": "clicks"},
        headers={"Authorization": f"Basic {API_KEY}"},
        timeout=5,
    )


@dataclass(frozen=True)
class Example:
    """What an example DAG needs, and what its tasks report.

    :param inputs: the inputs of each task that has any, by its id. ``{folder}`` stands for the folder of the test.
    :param outputs: the outputs of each task that has any.
    :param rows: the rows of the table of each task that waits for a job: a number for each job.
    :param prepare: sets the local Polaris and the folder up.
    :param conf: the params of the DAG run.
    :param moment: the logical date, by default now.
    """

    inputs: dict[str, set[str]] = field(default_factory=dict)
    outputs: dict[str, set[str]] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=dict)
    prepare: Callable[..., None] = lambda polaris, hook, folder: None
    conf: dict[str, Any] = field(default_factory=dict)
    moment: datetime | None = None


EXAMPLE_RUNS = {
    "polaris_backfill": Example(
        inputs={
            "upload": {f"file {EXAMPLES}/data/{DAYS[0]}"},
            "load": {f"PROJECT/files/orders/2026-11-01/{DAYS[0]}"},
            "check": {"PROJECT.orders_by_day"},
        },
        outputs={"upload": {f"PROJECT/files/orders/2026-11-01/{DAYS[0]}"}, "load": {"PROJECT.orders_by_day"}},
        rows={"load": [11_997]},
        conf={"folder": str(EXAMPLES / "data")},
        moment=DAY_IS_OVER,
    ),
    "polaris_cancel": Example(
        outputs={"create_job": {"PROJECT.cities"}, "gate": {"PROJECT.cities"}, "cancel": {"PROJECT.cities"}},
        rows={"gate": [1000], "cancel": [1000]},
    ),
    "polaris_create": Example(
        inputs={"load": {f"PROJECT/files/{name}" for name in DAYS}},
        outputs={"load": {"PROJECT.orders"}},
        rows={"load": [23_993]},
        prepare=upload_days,
    ),
    "polaris_gate": Example(
        outputs={"create_job": {"PROJECT.orders"}, "gate": {"PROJECT.orders"}},
        rows={"gate": [23_993]},
        prepare=upload_days,
    ),
    "polaris_latest": Example(outputs={"gate": {"PROJECT.orders"}}, rows={"gate": [3]}, prepare=add_load("orders")),
    "polaris_maintenance": Example(outputs={"start": {"PROJECT.clicks_by_minute"}}, prepare=add_connection),
    "polaris_mapped": Example(
        outputs={"create_jobs": {"PROJECT.visits"}, "gate": {"PROJECT.visits"}}, rows={"gate": [10, 10, 10]}
    ),
    "polaris_pipeline": Example(
        inputs={
            "upload": {"file {folder}/a.json"},
            "load": {"PROJECT/files/orders/20261101T100000/a.json"},
            "check": {"PROJECT.orders_by_hour"},
        },
        outputs={
            "upload": {"PROJECT/files/orders/20261101T100000/a.json"},
            "load": {"PROJECT.orders_by_hour"},
        },
        rows={"load": [5]},
        prepare=write_hour,
        conf={"source": "{folder}/*.json"},
        moment=HOUR_IS_OVER,
    ),
    "polaris_streaming": Example(outputs={"gate": {"PROJECT.clicks"}}, prepare=add_stream),
    "polaris_table": Example(outputs={"gate": {"PROJECT.orders"}}, rows={"gate": [3]}, prepare=add_load("orders")),
}
#: The examples whose tasks do not wait for a job.
WITHOUT_WAIT = {"polaris_maintenance"}


def names_of(polaris, events, kind):
    """Return the datasets of each task that has any: ``PROJECT…`` for those of the project."""
    namespace = f"polaris://{polaris.url.partition('://')[2]}"
    found: dict[str, set[str]] = {}
    for task_id, events_of_task in events.items():
        for event in events_of_task:
            for one in event[kind]:
                in_project = one["namespace"] == namespace
                name = one["name"].replace(polaris.project_id, "PROJECT") if in_project else None
                found.setdefault(task_id, set()).add(name or f"{one['namespace']} {one['name']}")
    return found


def job_of(polaris, event):
    """Return the job of a local Polaris that an event names."""
    return polaris._store.jobs[event["run"]["facets"]["externalQuery"]["externalQueryId"]]


def rows_of(event):
    (table,) = event["outputs"]
    return table["outputFacets"]["outputStatistics"]["rowCount"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dag_id", EXAMPLE_RUNS)
def test_an_example_reports_every_dataset_and_the_rows_that_polaris_counted(
    polaris, hook, lineage, tmp_path, monkeypatch, dag_id, mode
):
    example = EXAMPLE_RUNS[dag_id]
    monkeypatch.setattr(store, "FLAPPING", ("running", "running"))
    polaris.next_job("flap", times=9)  # so that no wait ends with its first poll
    example.prepare(polaris, hook, tmp_path)
    fill = {"folder": str(tmp_path)}
    conf = {name: value.format(**fill) if isinstance(value, str) else value for name, value in example.conf.items()}
    seen = lineage.run_example(
        dag_id, mode, conf, example.moment, poke_interval=0.1, poll_interval=0.1, wait_until_available=False
    )
    assert set(seen.states.values()) == {"success"}, seen.log[-5000:]
    inputs = {task: {name.format(**fill) for name in names} for task, names in example.inputs.items()}
    assert names_of(polaris, seen.events, "inputs") == inputs
    assert names_of(polaris, seen.events, "outputs") == example.outputs
    for task_id, rows in example.rows.items():
        counted = [job_of(polaris, event).metrics["totals"]["numRowsPersisted"] for event in seen.events[task_id]]
        assert [rows_of(event) for event in seen.events[task_id]] == counted == rows
    assert ("in the triggerer" in seen.log) == (mode == "deferred" and dag_id not in WITHOUT_WAIT)
    has_sensor = "gate" in seen.states
    assert ("marking task as UP_FOR_RESCHEDULE" in seen.log) == (mode == "reschedule" and has_sensor)


def test_every_example_runs_with_openlineage():
    assert set(EXAMPLE_RUNS) == {path.stem for path in EXAMPLES.glob("*.py")}
