"""What Airflow renders and maps for the operator that creates a job, in DAG runs."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from importlib import import_module

import pytest
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from tests.support.airflow_versions import AIRFLOW_3, a_dag, run_dag
from tests.support.create_tasks import posts
from tests.support.specs import SPEC, SQL, load_of, query_into_a_new_table, spec_into_a_new_table

pytestmark = [
    pytest.mark.usefixtures("airflow_db"),
    pytest.mark.filterwarnings("ignore"),  # warnings of Airflow itself while it runs a DAG
]


def run_load(spec, dag_options=None, **options):
    with a_dag(**(dag_options or {})) as dag:
        PolarisCreateJobOperator(task_id="load", job_spec=spec, **{"poll_interval": 0.1, **options})
    return run_dag(dag).tasks["load"]


@pytest.mark.parametrize("there", [False, True])
def test_a_name_in_a_spec_may_end_like_a_file(polaris, tmp_path, there):
    if there:
        (tmp_path / "orders-2.json").write_text('{"timestamp": "2026-11-01"}\n')
    source = {**SPEC["source"], "type": "uploaded", "fileList": ["orders-{{ 1 + 1 }}.json"]}
    run_load({**SPEC, "source": source}, {"template_searchpath": [str(tmp_path)]})
    assert [body["source"]["fileList"] for body in posts(polaris)] == [["orders-2.json"]]


def test_a_spec_may_be_the_path_of_a_file(polaris, tmp_path):
    _, spec = query_into_a_new_table()
    (tmp_path / "spec.json").write_text(json.dumps({**spec, "context": {"limit": "{{ 1 + 1 }}"}}))
    polaris.next_job("complete")
    assert run_load("spec.json", {"template_searchpath": [str(tmp_path)]}) == "success"
    assert posts(polaris)[0]["context"] == {"limit": "2"}


def test_a_job_has_the_address_of_its_task(polaris, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    monkeypatch.setenv("AIRFLOW__WEBSERVER__BASE_URL", "https://airflow.example")
    table, spec = spec_into_a_new_table("batch")
    polaris.next_job("complete", table=table)
    assert run_load(spec) == "success"
    (body,) = posts(polaris)
    about = body["context"]["airflow"]
    assert about["url"].startswith(f"https://airflow.example/dags/{about['dag_id']}/")
    assert (about["task_id"], about["map_index"], about["try_number"]) == ("load", -1, 1)


@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_a_mapped_threshold_that_is_none_fails_the_task(polaris, kind):
    job_id = polaris.add_job(executionStatus="completed", metrics={"numRowsProcessed": 0})
    polaris.next_job("complete", metrics={"numRowsProcessed": 0})
    task = import_module("airflow.sdk" if AIRFLOW_3 else "airflow.decorators").task

    @task
    def least():
        return [None]

    with a_dag() as dag:
        if kind == "operator":
            mapped = PolarisCreateJobOperator.partial(task_id="gate", job_spec=SQL, poll_interval=0.1)
        else:
            mapped = PolarisJobSensor.partial(task_id="gate", job_id=job_id, poke_interval=0.1, project_id=None)
        mapped.expand(min_rows_processed=least())
    assert run_dag(dag).tasks["gate"] == "failed"
    assert not posts(polaris)


def test_a_partial_threshold_that_is_none_counts_as_not_set(polaris):
    job_ids = [polaris.add_job(executionStatus="completed", metrics={"numRowsProcessed": 0}) for _ in range(2)]
    with a_dag() as dag:
        PolarisJobSensor.partial(task_id="gate", poke_interval=0.1, min_rows_processed=None).expand(job_id=job_ids)
    assert run_dag(dag).tasks["gate"] == "success"


@pytest.mark.skipif(not AIRFLOW_3, reason="2.11 has no references to assets")
def test_an_outlet_that_airflow_does_not_know_does_not_fail_the_load(polaris):
    from airflow.sdk import Asset

    polaris.next_job("complete", table="by_sql")
    assert run_load(SQL, outlets=[Asset.ref(uri=f"x://{uuid.uuid4().hex}")]) == "success"


DATA_INTERVAL = "{{ data_interval_start }}/{{ data_interval_end }}"


def yesterday():
    """Return the last day that is over, as an interval."""
    today = datetime.now(timezone.utc).date()
    return f"{today - timedelta(days=1)}T00:00:00Z/{today}T00:00:00Z"


@pytest.mark.parametrize(
    ("schedule", "interval"),
    [
        (CronDataIntervalTimetable("@daily", timezone="UTC"), DATA_INTERVAL),
        (CronDataIntervalTimetable("@daily", timezone="UTC"), "{{ data_interval_start.date() }}/P1D"),
        (CronDataIntervalTimetable("@daily", timezone="UTC"), "P1D/{{ data_interval_end }}"),
        ("@daily", "P1D/{{ data_interval_end.start_of('day') }}"),
    ],
    ids=["start and end", "start and a period", "a period before the end", "a schedule without data intervals"],
)
def test_the_interval_of_a_run_is_replaced(polaris, schedule, interval):
    day = yesterday()
    row = {"timestamp": day[:20], "city": "Oslo"}
    spec = {**load_of(f"t-{uuid.uuid4()}", row), "createTableIfNotExists": True, "partitionedBy": "day"}
    assert run_load(spec, {"schedule": schedule}, interval=interval) == "success"
    (sent,) = posts(polaris)
    assert sent["target"]["intervals"] in ([day], [yesterday()]), "midnight may pass during the test"


def test_a_cron_schedule_without_data_intervals_is_refused_and_the_log_says_why(polaris, task_log):
    """On Airflow 2.11 a cron schedule has data intervals."""
    spec = {**load_of(f"t-{uuid.uuid4()}"), "createTableIfNotExists": True}
    run_load(spec, {"schedule": "@daily"}, interval=DATA_INTERVAL)
    refused = [line for line in task_log() if "a cron schedule of Airflow 3 has no data intervals" in line]
    assert bool(refused) == AIRFLOW_3
    assert len(posts(polaris)) == (not AIRFLOW_3)


def test_a_mapped_interval_that_is_none_fails_the_task(polaris):
    task = import_module("airflow.sdk" if AIRFLOW_3 else "airflow.decorators").task

    @task
    def intervals():
        return [None]

    with a_dag() as dag:
        PolarisCreateJobOperator.partial(task_id="load", job_spec=SPEC, poll_interval=0.1).expand(interval=intervals())
    assert run_dag(dag).tasks["load"] == "failed"
    assert not posts(polaris)


def test_tasks_can_be_mapped_over_intervals(polaris):
    spec = {**load_of(f"t-{uuid.uuid4()}"), "createTableIfNotExists": True}
    days = ["2026-11-01/P1D", "2026-11-02/P1D"]
    with a_dag() as dag:
        load = PolarisCreateJobOperator.partial(task_id="load", job_spec=spec, poll_interval=0.1, fail_on_warnings=())
        load.expand(interval=days)
    assert run_dag(dag).tasks["load"] == "success"
    assert {body["target"]["intervals"][0][:10] for body in posts(polaris)} == {"2026-11-01", "2026-11-02"}
