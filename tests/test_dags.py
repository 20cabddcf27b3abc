"""Rows of the parity table and the example DAGs run through a real Airflow: database, task runner, triggers, XCom."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import requests

from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from scripts.run_dag import EXAMPLES, load_dag
from tests.support.airflow_versions import AIRFLOW_3, DAG, EmptyOperator, run_dag
from tests.support.local_calls import API_KEY

pytestmark = [
    pytest.mark.usefixtures("airflow_db"),
    # Airflow's own runner has warnings of its own here. All other tests turn warnings into errors.
    pytest.mark.filterwarnings("ignore"),
]


def gate_dag(dag_id: str, job_id: str, **options):
    with DAG(dag_id, schedule=None, start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False) as dag:
        gate = PolarisJobSensor(task_id="gate", job_id=job_id, poke_interval=0.1, **options)
        gate >> EmptyOperator(task_id="after")
    return dag


OK, BAD = {"status": "ok"}, {"status": "error", "code": "internal_error", "message": "It broke"}
COMPLETED = {"executionStatus": "completed", "health": OK}
UNHEALTHY = {"executionStatus": "completed", "health": BAD}
FAILED = {"executionStatus": "failed", "health": BAD}
CANCELED = {"executionStatus": "canceled", "health": {"status": "error", "code": "canceled"}}
NO_ROWS = {"executionStatus": "completed", "health": {"status": "warn", "code": "no_rows_found"}}
OPEN = {"gate": "success", "after": "success"}
REFUSED = {"gate": "failed", "after": "upstream_failed"}
SKIPPED = {"gate": "skipped", "after": "skipped"}

ROWS = {
    "poke, completed": ({}, [COMPLETED], OPEN),
    "poke, completed later": ({}, [{}, {}, COMPLETED], OPEN),
    "poke, failed": ({}, [{}, FAILED], REFUSED),
    "poke, failed, soft_fail": ({"soft_fail": True}, [FAILED], SKIPPED),
    "poke, failed, never_fail": ({"never_fail": True}, [FAILED], SKIPPED),
    "first poll, completed": ({"deferrable": True}, [COMPLETED], OPEN),
    "first poll, canceled": ({"deferrable": True}, [CANCELED], REFUSED),
    "first poll, failed, soft_fail": ({"deferrable": True, "soft_fail": True}, [FAILED], SKIPPED),
    "deferred, completed": ({"deferrable": True}, [{}, {}, {}, COMPLETED], OPEN),
    "deferred, completed but unhealthy": ({"deferrable": True}, [{}, {}, UNHEALTHY], REFUSED),
    "deferred, no rows": ({"deferrable": True}, [{}, {}, NO_ROWS], REFUSED),
    "deferred, no rows are allowed": ({"deferrable": True, "fail_on_warnings": ()}, [{}, {}, NO_ROWS], OPEN),
    "deferred, canceled": ({"deferrable": True}, [{}, {}, CANCELED], REFUSED),
    "deferred, failed, soft_fail": ({"deferrable": True, "soft_fail": True}, [{}, {}, FAILED], SKIPPED),
    "deferred, failed, never_fail": (
        {"deferrable": True, "never_fail": True},
        [{}, {}, FAILED],
        SKIPPED if AIRFLOW_3 else REFUSED,  # 2.11 applies never_fail only to pokes
    ),
    "deferred, timeout": ({"deferrable": True, "timeout": 0.5}, [{}], REFUSED),
    "deferred, timeout, soft_fail": ({"deferrable": True, "timeout": 0.5, "soft_fail": True}, [{}], SKIPPED),
    "deferred, an invalid option": ({"deferrable": True, "min_rows_processed": "x"}, [{}], REFUSED),
}


@pytest.mark.parametrize(("options", "script", "states"), ROWS.values(), ids=ROWS)
def test_a_row_of_the_parity_table_has_the_same_outcome_in_airflow(polaris, request, options, script, states):
    job_id = polaris.add_job(executionStatus="running", metrics={"numRowsProcessed": 7})
    polaris.script(job_id, *script)
    result = run_dag(gate_dag(f"gate_{list(ROWS.values()).index((options, script, states))}", job_id, **options))
    assert result.tasks == states
    final = script[-1].get("executionStatus")
    assert (result.xcom("gate") or {}).get("execution_status") == (final if states is OPEN else None)
    assert (result.xcom("gate", "metrics") or {}).get("numRowsProcessed") == (7 if final else None)


def test_a_mapped_gate_waits_for_each_job(polaris):
    job_ids = [polaris.add_job(executionStatus="completed") for _ in range(3)]
    with DAG("mapped", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False) as dag:
        PolarisJobSensor.partial(task_id="gate", deferrable=True).expand(job_id=job_ids)
    assert run_dag(dag).state == "success"
    assert all(any(job_id in request.path for request in polaris.requests) for job_id in job_ids)


def test_templates_give_the_job_id_and_the_thresholds(polaris):
    job_id = polaris.add_job(executionStatus="completed", metrics={"numRowsProcessed": 7})
    gate = {"job_id": "{{ params.job }}", "min_rows_processed": "{{ params.rows }}", "deferrable": True}
    for rows, state in (("7", "success"), ("8", "failed")):
        dag = gate_dag("templated", **gate)
        dag.params.update({"job": job_id, "rows": rows})
        assert run_dag(dag).tasks["gate"] == state


def test_no_log_or_file_of_airflow_contains_the_key(polaris, airflow_db, capfd):
    job_id = polaris.add_job(executionStatus="running")
    polaris.script(job_id, {}, {}, FAILED)
    run_dag(gate_dag("secret", job_id, deferrable=True))
    out, err = capfd.readouterr()
    assert job_id in out + err
    assert API_KEY not in out + err
    for path in airflow_db.rglob("*"):
        if path.is_file():
            assert API_KEY.encode() not in path.read_bytes(), path


@pytest.fixture
def uploaded(polaris):
    for path in sorted((EXAMPLES / "data").glob("*.json.gz")):
        requests.post(
            f"{polaris.url}/v1/projects/{polaris.project_id}/files",
            files={"file": (path.name, path.read_bytes())},
            headers={"Authorization": f"Basic {API_KEY}"},
            timeout=10,
        )
    return polaris


@pytest.mark.parametrize(("max_skipped", "opens"), [(10, True), (7, True), (6, False), (0, False)])
def test_the_gate_example_opens_if_its_threshold_allows_the_lost_rows(uploaded, max_skipped, opens):
    dag = load_dag("polaris_gate")
    result = run_dag(dag, {"max_rows_skipped_by_error": max_skipped})
    assert result.tasks == {
        "create_job": "success",
        "gate": "success" if opens else "failed",
        "report": "success" if opens else "upstream_failed",
    }
    metrics = result.xcom("gate", "metrics")
    assert (metrics["numRowsProcessed"], metrics["numRowsSkippedByError"]) == (23_988, 7)
    assert metrics["numRowsPersisted"] == 23_993, "five rows are ingested in part"
    if opens:
        assert "orders: 23,988 rows in, 7 lost" in result.xcom("report")


def test_the_create_example_starts_a_dag_that_is_scheduled_on_the_load(uploaded):
    result = run_dag(load_dag("polaris_create"))
    assert result.tasks == {"load": "success"}, "one task creates the job and waits for it"
    job = result.xcom("load")
    assert result.xcom("load", "job_id") == job["job_id"]
    report = run_dag(load_dag("polaris_report"))
    assert report.xcom("report") == [f"orders: 23,988 rows in, 7 lost, after {job['duration_seconds']} s"]
    refused = run_dag(load_dag("polaris_create"), {"max_rows_skipped_by_error": 0})
    assert refused.tasks == {"load": "failed"}
    assert run_dag(load_dag("polaris_report")).xcom("report") == report.xcom("report"), "a refused load has no event"


def test_the_cancel_example_cancels_nothing_if_the_load_completes(polaris):
    result = run_dag(load_dag("polaris_cancel"))
    assert result.tasks == {"create_job": "success", "gate": "success", "cancel": "success"}
    assert result.xcom("cancel")["execution_status"] == "completed"


def test_the_cancel_example_cancels_the_load_if_the_gate_times_out(polaris, monkeypatch):
    monkeypatch.setattr(polaris, "rows_per_second", 50)
    dag = load_dag("polaris_cancel")
    dag.get_task("gate").timeout = 1
    result = run_dag(dag)
    assert result.tasks == {"create_job": "success", "gate": "failed", "cancel": "success"}
    assert result.xcom("cancel")["execution_status"] == "canceled"


def test_a_teardown_does_not_fail_after_a_failed_submit(polaris):
    polaris.fail_next(99, status=400, match="POST")
    result = run_dag(load_dag("polaris_cancel"))
    assert result.tasks["create_job"] == "failed"
    assert result.tasks["cancel"] in {"skipped", "upstream_failed"}


def test_an_empty_id_skips_the_cancellation(polaris):
    with DAG("empty", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False) as dag:
        PolarisCancelJobOperator(task_id="cancel", job_id="{{ ti.xcom_pull(task_ids='nothing') }}")
    assert run_dag(dag).tasks == {"cancel": "skipped"}


def test_the_streaming_example_queries_a_healthy_stream(polaris):
    job_id = polaris.add_job(type="streaming", target={"type": "table", "tableName": "clicks"})
    polaris.script(job_id, {}, {"executionStatus": "running"})
    result = run_dag(load_dag("polaris_streaming"))
    assert result.tasks == {"find": "success", "gate": "success", "query": "success"}
    assert result.xcom("query") == "clicks is running, health ok"


def test_the_mapped_example_waits_for_all_days(polaris):
    result = run_dag(load_dag("polaris_mapped"))
    assert result.state == "success"
    assert result.xcom("total") == 30


def test_the_latest_example_waits_for_the_newest_job_of_its_table(polaris):
    for number, table in enumerate(["others", "orders", "others"]):
        polaris.add_job(
            executionStatus="completed",
            metrics={"numRowsProcessed": 1},
            target={"type": "table", "tableName": f"{table}_by_hand"},
            createdTimestamp=f"2026-11-01T00:00:0{number}Z",
            completedTimestamp="2026-11-01T00:00:09Z",
        )
    result = run_dag(load_dag("polaris_latest"), {"table": "orders_by_hand"})
    assert result.tasks == {"find": "success", "gate": "success", "report": "success"}
    assert result.xcom("report") == "orders_by_hand was loaded at 2026-11-01T00:00:09Z"


def test_the_table_example_waits_for_the_load_of_its_day(polaris):
    polaris.add_job(
        executionStatus="completed",
        type="batch",
        metrics={"numRowsProcessed": 1},
        target={"type": "table", "tableName": "orders_by_night"},
        completedTimestamp="2099-01-01T00:00:00Z",  # after the moment of the run, whenever that is
    )
    result = run_dag(load_dag("polaris_table"), {"table": "orders_by_night"})
    assert result.tasks == {"gate": "success", "report": "success"}
    assert result.xcom("report").startswith("orders_by_night was loaded at 2")


def run_pipeline(folder):
    """Run the example with the files of a folder."""
    dag = load_dag("polaris_pipeline")
    dag.get_task("load").wait_until_available = False  # it would take 30 s
    return run_dag(dag, {"source": f"{folder}/*.json"})


@pytest.mark.parametrize("amount", [9.5, 0.0], ids=["good", "refused by the check"])
def test_the_pipeline_example_loads_checks_and_cleans_up(polaris, tmp_path, amount):
    """The test may run at the end of an hour, so that the files have rows of three hours."""
    hour = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    for number in range(-1, 2):
        row = {"timestamp": f"{hour + timedelta(hours=number):%Y-%m-%dT%H:%M:%SZ}", "country": "CH", "amount": amount}
        (tmp_path / f"{number}.json").write_text(f"{json.dumps(row)}\n" * 5)
    for _ in range(2):  # the second run replaces the rows of the first
        result = run_pipeline(tmp_path)
        check = "success" if amount else "failed"
        assert result.tasks == {"upload": "success", "load": "success", "check": check, "clean_up": "success"}
        metrics = result.xcom("load", "metrics")
        assert (metrics["numRowsPersisted"], metrics["numRowsProcessed"]) == (5, 5)
    assert not [name for name in polaris._store.files if name.startswith("orders/")]


def run_day(folder, day, **params):
    """Run the example for a day of November 2026, with the files of a folder."""
    dag = load_dag("polaris_backfill")
    dag.get_task("load").wait_until_available = False  # it would take 30 s
    moment = datetime(2026, 11, day + 1, tzinfo=timezone.utc)
    return run_dag(dag, {"folder": str(folder), **params}, moment)


def rows_by_day(hook):
    query = "SELECT TIME_FLOOR(__time, 'P1D'), COUNT(*) FROM orders_by_day GROUP BY 1 ORDER BY 1"
    return {row[0][:10]: row[1] for row in hook.query(query).rows}


ALL_PASS = {"upload": "success", "load": "success", "check": "success", "clean_up": "success"}


def test_the_backfill_example_loads_days_in_any_order_and_a_day_twice(polaris, hook):
    loaded = {}
    for day in (2, 1, 2):
        result = run_day(EXAMPLES / "data", day)
        assert result.tasks == ALL_PASS
        loaded[f"2026-11-{day:02}"] = result.xcom("load", "metrics")["numRowsPersisted"]
        assert rows_by_day(hook) == loaded
    assert loaded == {"2026-11-01": 11_997, "2026-11-02": 11_996}
    jobs = [job for job in polaris._store.jobs.values() if job.table == "orders_by_day"]
    assert len(jobs) == 3, "the second run of a day loads the day again"
    assert not polaris._store.files


def test_the_backfill_example_takes_only_the_rows_of_its_day(polaris, hook, tmp_path):
    rows = [{"timestamp": f"2026-11-0{day}T10:00:00Z", "order_id": f"o-{day}"} for day in (1, 2, 3)]
    text = gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode())
    for day in (1, 2):
        (tmp_path / f"orders-2026-11-0{day}-late.json.gz").write_bytes(text)
        assert run_day(tmp_path, day).tasks == ALL_PASS
    assert rows_by_day(hook) == {"2026-11-01": 1, "2026-11-02": 1}


def test_the_backfill_example_refuses_a_day_that_lost_rows(polaris):
    result = run_day(EXAMPLES / "data", 1, max_rows_skipped_by_error=0)
    assert result.tasks == {"upload": "success", "load": "failed", "check": "upstream_failed", "clean_up": "success"}
    assert not polaris._store.files


def test_the_backfill_example_needs_the_files_of_its_day(polaris, tmp_path):
    dag = load_dag("polaris_backfill")
    dag.get_task("upload").retries = 0
    moment = datetime(2026, 11, 2, tzinfo=timezone.utc)
    result = run_dag(dag, {"folder": str(tmp_path)}, moment)
    assert (result.tasks["upload"], result.tasks["load"]) == ("failed", "upstream_failed")
    assert not polaris._store.jobs


def test_a_load_that_fails_in_the_pipeline_example_still_cleans_up(polaris, tmp_path):
    (tmp_path / "a.json").write_text('{"timestamp": "2020-01-01"}\n')
    result = run_pipeline(tmp_path)
    assert result.tasks["load"] == "failed"
    assert (result.tasks["check"], result.tasks["clean_up"]) == ("upstream_failed", "success")
    assert not [name for name in polaris._store.files if name.startswith("orders/")]


def test_the_maintenance_example_starts_one_stream_and_resumes_it(polaris):
    base = f"{polaris.url}/v1/projects/{polaris.project_id}"
    headers = {"Authorization": f"Basic {API_KEY}"}
    connection = {"type": "push_streaming", "name": "clicks"}
    requests.post(f"{base}/connections", json=connection, headers=headers, timeout=5)
    for _ in range(2):
        result = run_dag(load_dag("polaris_maintenance"))
        assert set(result.tasks.values()) == {"success"}
        assert result.xcom("maintain") == "clicks_by_minute is available"
        assert result.xcom("suspend")["execution_status"] == "suspended"
        assert result.xcom("resume")["execution_status"] == "running"
    streams = [job for job in polaris._store.jobs.values() if job.table == "clicks_by_minute"]
    assert len(streams) == 1


@pytest.mark.parametrize("name", ["polaris_latest", "polaris_streaming"])
def test_an_example_without_a_job_to_wait_for_skips_its_tasks(polaris, name):
    result = run_dag(load_dag(name), {"table": "empty"})
    assert (result.state, result.tasks.pop("find")) == ("success", "success")
    assert set(result.tasks.values()) == {"skipped"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_explains_itself_in_airflow(path):
    dag = load_dag(path.stem)
    assert dag.description
    assert dag.doc_md.strip()
    assert {"example", "polaris"} <= dag.tags if isinstance(dag.tags, set) else set(dag.tags)
    for name in dag.params:
        assert dag.params.get_param(name).schema["title"]


def test_each_example_has_a_test_in_this_file():
    source = Path(__file__).read_text()
    assert all(f'"{path.stem}"' in source for path in EXAMPLES.glob("*.py"))
