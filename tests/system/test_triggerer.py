"""A real triggerer: it stops and starts, people clear and kill waiting tasks, keys are rotated, and waits end right."""

from __future__ import annotations

import json
import signal

import pytest

from airflow_provider_polaris.local import LocalPolaris
from tests.airflow_versions import AIRFLOW_3
from tests.system.processes import RealAirflow, wait_for

DAG_FILE = """
from datetime import datetime, timezone

try:
    from airflow.sdk import DAG
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:
    from airflow import DAG
    from airflow.operators.empty import EmptyOperator

from airflow_provider_polaris.sensors.polaris import PolarisJobSensor

with DAG("waits", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False):
    gate = PolarisJobSensor(
        task_id="gate",
        job_id="{{ dag_run.conf['job_id'] }}",
        polaris_conn_id="polaris_stored",
        deferrable=True,
        poke_interval=1,
        timeout=300,
    )
    gate >> EmptyOperator(task_id="after")
"""
only_3 = pytest.mark.skipif(not AIRFLOW_3, reason="2.11 is held to defer, restart and resume; the rest is 3.x's API")


@pytest.fixture(scope="module")
def polaris():
    with LocalPolaris() as polaris:
        yield polaris


@pytest.fixture(scope="module")
def airflow(polaris, tmp_path_factory):
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    (dags / "waits.py").write_text(DAG_FILE)
    real = RealAirflow(home, dags)
    try:
        real.start_all()
        real.airflow("connections", "add", "polaris_stored", "--conn-json", polaris.connection_json)
        yield real
    finally:
        real.stop_all()


@pytest.fixture
def job_id(polaris):
    polaris.requests.clear()
    return polaris.add_job(executionStatus="running", metrics={"numRowsProcessed": 7})


def polls_of(polaris, job_id):
    return sum(request.path.endswith(job_id) for request in polaris.requests)


def wait_until_the_triggerer_polls(airflow, polaris, run_id, job_id):
    airflow.wait_for_state(run_id, "deferred")
    before = polls_of(polaris, job_id)
    wait_for(lambda: polls_of(polaris, job_id) >= before + 3, "the triggerer to poll")


def nothing_was_canceled(polaris):
    return {request.method for request in polaris.requests} == {"GET"}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_wait_outlives_the_triggerer(airflow, polaris, job_id, how):
    run_id, refused = f"outlives_{how.name}", f"refused_{how.name}"
    bad_job = polaris.add_job(executionStatus="running")
    airflow.run("waits", refused, {"job_id": bad_job})
    airflow.run("waits", run_id, {"job_id": job_id})
    wait_until_the_triggerer_polls(airflow, polaris, refused, bad_job)
    wait_until_the_triggerer_polls(airflow, polaris, run_id, job_id)
    airflow.stop("triggerer", how)
    polled = polls_of(polaris, job_id)
    polaris.set_status(job_id, "completed")
    polaris.set_status(bad_job, "failed", health={"status": "error", "code": "row_too_large"})
    assert airflow.state(run_id) == airflow.state(refused) == "deferred"
    airflow.start("triggerer")
    assert airflow.wait_for_state(run_id, "success", "failed") == "success"
    assert airflow.wait_for_state(refused, "success", "failed") == "failed"
    assert airflow.wait_for_state(run_id, "success", "failed", "skipped", task_id="after") == "success"
    assert airflow.wait_for_state(refused, "success", "upstream_failed", task_id="after") == "upstream_failed"
    assert polls_of(polaris, job_id) == polled + 1, (
        "one look found it over; only the counters were asked for after that"
    )
    assert nothing_was_canceled(polaris)
    rows = airflow.query("select key from xcom where run_id = ? and task_id = 'gate' order by key", run_id)
    assert [key for (key,) in rows if not key.startswith("_")] == ["metrics", "return_value"]


@only_3
def test_clearing_a_waiting_task_leaves_the_job_alone(airflow, polaris, job_id):
    airflow.run("waits", "cleared", {"job_id": job_id})
    wait_until_the_triggerer_polls(airflow, polaris, "cleared", job_id)
    (first,) = airflow.query("select id from task_instance where run_id = 'cleared' and task_id = 'gate'")
    airflow.clear("waits", "cleared", "gate")
    wait_for(
        lambda: airflow.query("select id from task_instance where run_id = 'cleared' and task_id = 'gate'") != [first],
        "a second try",
    )
    wait_until_the_triggerer_polls(airflow, polaris, "cleared", job_id)
    assert nothing_was_canceled(polaris)
    polaris.set_status(job_id, "completed")
    assert airflow.wait_for_state("cleared", "success", "failed") == "success"


@only_3
def test_marking_a_waiting_task_failed_leaves_the_job_alone(airflow, polaris, job_id):
    airflow.run("waits", "marked", {"job_id": job_id})
    wait_until_the_triggerer_polls(airflow, polaris, "marked", job_id)
    airflow.mark_failed("waits", "marked", "gate")
    airflow.wait_for_state("marked", "failed")
    seen: list[int] = []

    def is_quiet():
        seen.append(polls_of(polaris, job_id))
        return len(set(seen[-25:])) == 1 and len(seen) >= 25  # looked at 25 times in 5 s, at a poll a second

    wait_for(is_quiet, "the triggerer to let go")
    assert nothing_was_canceled(polaris)


@only_3
def test_a_key_that_is_rotated_in_the_database_in_mid_wait(airflow, polaris, job_id):
    airflow.run("waits", "rotated", {"job_id": job_id})
    wait_until_the_triggerer_polls(airflow, polaris, "rotated", job_id)
    polaris.api_key = "pok_rotated_in_mid_wait"
    refused = polls_of(polaris, job_id)
    wait_for(lambda: polls_of(polaris, job_id) > refused + 1, "polls that are turned away")
    assert airflow.state("rotated") == "deferred", "a wait that had worked looks again for a while"
    connection = json.loads(polaris.connection_json)
    airflow.api(
        "PATCH",
        "connections/polaris_stored?update_mask=password",
        {"connection_id": "polaris_stored", "conn_type": "imply_polaris", "password": connection["password"]},
    )
    polaris.set_status(job_id, "completed")
    assert airflow.wait_for_state("rotated", "success", "failed") == "success"
