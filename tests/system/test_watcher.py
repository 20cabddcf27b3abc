"""An asset that a PolarisLoadsTrigger watches starts its DAG for each load. test_watcher_kills.py has each step."""

from __future__ import annotations

import json
import signal
from functools import partial

import pytest

from airflow_provider_polaris.local import LocalPolaris
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.local_calls import add_load, connection_without_page
from tests.support.real_airflow import running_airflow, wait_for

pytestmark = pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2.11 has no event-driven schedules")

DAG_FILE = """
from datetime import datetime, timezone

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_polaris.triggers.loads import PolarisLoadsTrigger

trigger = PolarisLoadsTrigger("orders", polaris_conn_id="polaris_stored", poll_interval=1, max_rows_skipped_by_error=0)
loaded = Asset("orders_loaded", watchers=[AssetWatcher(name="orders", trigger=trigger)])

with DAG("on_load", schedule=[loaded], start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False):

    @task
    def count(triggering_asset_events=None):
        from airflow_provider_polaris.assets.events import polaris_loads

        return [load["job_id"] for load in polaris_loads(triggering_asset_events)]

    count()
"""


@pytest.fixture(scope="module")
def polaris():
    with LocalPolaris() as polaris:
        yield polaris


@pytest.fixture(scope="module")
def airflow(polaris, tmp_path_factory):
    home, connection = tmp_path_factory.mktemp("airflow"), connection_without_page(polaris)
    with running_airflow(home, DAG_FILE, polaris_stored=connection) as airflow:
        yield airflow


load = partial(add_load, table="orders")


def events(airflow):
    """Return what each event of the asset carries."""
    rows = airflow.query("select extra from asset_event order by id")
    return [json.loads(extra) if isinstance(extra, str) else extra for (extra,) in rows]


def fired(airflow):
    return [event["payload"]["job_id"] for event in events(airflow)]


def seen_by_the_consumer(airflow):
    rows = airflow.query("select value from xcom where key = 'return_value' and dag_id = 'on_load'")
    return {job for (value,) in rows for job in (json.loads(value) if isinstance(value, str) else value)}


def test_a_killed_triggerer_loses_no_event_and_a_paused_dag_catches_up(airflow, polaris):
    load(polaris, ago=3600.0)  # before the first start: no event
    wait_for(lambda: sum(request.path.endswith("/jobs") for request in polaris.requests) >= 2, "the trigger to poll")
    jobs = [load(polaris)]
    wait_for(lambda: fired(airflow) == jobs, "the first event")
    load(polaris, lost=1)  # refused: no event
    jobs.append(load(polaris))
    airflow.stop("triggerer", signal.SIGKILL)
    jobs.append(load(polaris))
    airflow.start("triggerer")
    wait_for(lambda: set(jobs) <= set(fired(airflow)), "the events of the loads")
    assert set(fired(airflow)) == set(jobs), "no event is of a refused load, or of one before the first start"
    assert all(event["from_trigger"] for event in events(airflow))

    # Without an active consumer, Airflow deletes the trigger. The state of the asset stays.
    airflow.api("PATCH", "dags/on_load", {"is_paused": True})
    wait_for(lambda: not airflow.query("select 1 from trigger"), "Airflow to delete the trigger")
    jobs.append(load(polaris))
    airflow.api("PATCH", "dags/on_load", {"is_paused": False})
    wait_for(lambda: jobs[-1] in fired(airflow), "the load during the pause")
    wait_for(lambda: seen_by_the_consumer(airflow) >= set(jobs), "the consumer to see each load")
