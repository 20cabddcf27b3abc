"""A watcher whose triggerer is killed with SIGKILL at any step loses no event, and repeats only the last interval."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from airflow_provider_polaris.local import LocalPolaris
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.local_calls import add_load, connection_without_page
from tests.support.real_airflow import running_airflow, wait_for
from tests.support.step_triggerer import SHORTEST_INTERVAL_SECONDS, StepTriggerer

pytestmark = pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2.11 has no event-driven schedules")

DAG_FILE = """
from datetime import datetime, timezone

from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_polaris.triggers.loads import PolarisLoadsTrigger

trigger = PolarisLoadsTrigger("orders", polaris_conn_id="polaris_stored", poll_interval=1, max_rows_skipped_by_error=0)
loaded = Asset("orders_loaded", watchers=[AssetWatcher(name="orders", trigger=trigger)])

with DAG("on_load", schedule=[loaded], start_date=datetime(2026, 11, 1, tzinfo=timezone.utc)):
    pass
"""
#: At the first start: no poll has succeeded, or nothing of it is stored.
FIRST_STEPS = [
    "after the state is written",
    "before the list request",
    "after the list request",
    "after the list response",
]
#: No event of the load is in the database when the triggerer is killed.
EARLY_STEPS = [
    "before the state is read",
    "after the state is read",
    "before the list request",
    "after the list request",
    "after the list response",
    "before the judgement",
    "after the job request",
    "after the job response",
    "before the metrics request",
    "after the metrics request",
    "after the metrics response",
    "before the event",
    "after the event is fired",
    "before the event is written",
]
#: The event is in the database when the triggerer is killed, and how many events the load has in the end.
LATE_STEPS = {
    "after the event is written": 2,
    "before the store": 2,
    "before the state is written": 2,
    "after the state is written": 1,
    "after the store": 1,
}


class Watched:
    """The loads of the watched table, their events, and the triggerer that fires the events."""

    def __init__(self, airflow, polaris, triggerer):
        self.airflow = airflow
        self.polaris = polaris
        self.triggerer = triggerer
        #: The loads, and how many events each has.
        self.expected = Counter()

    def load(self, events=1):
        """Add a load that completes now.

        :param events: how many events the load will have.
        """
        self.expected[add_load(self.polaris, "orders")] = events

    def start(self):
        self.airflow.execute("update trigger set triggerer_id = null")  # before its triggerer counts as dead
        self.triggerer.start()

    def start_until(self, step):
        """Start a triggerer that is killed at the step."""
        self.triggerer.kill_at(step)
        self.start()
        self.triggerer.wait_for_end()

    def fired(self):
        """Return how many events each load has."""
        rows = self.airflow.query("select extra from asset_event")
        extras = [json.loads(extra) if isinstance(extra, str) else extra for (extra,) in rows]
        return Counter(extra["payload"]["job_id"] for extra in extras)

    def wait_for_events(self):
        wait_for(lambda: self.fired() == self.expected, "the events", lambda: f"{self.fired()}, not {self.expected}")

    def settle(self):
        """Let a triggerer run until its stored state has all loads."""
        if not self.triggerer.is_running:
            self.start()
        wait_for(lambda: self.airflow.query("select 1 from asset_state_store"), "the first start")
        self.load()
        self.wait_for_events()
        last = list(self.expected)[-1]
        state = "select 1 from asset_state_store where cast(value as text) like %s"
        wait_for(lambda: self.airflow.query(state, f"%{last}%"), "the state with the last load")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    home = tmp_path_factory.mktemp("airflow")
    with (
        LocalPolaris() as polaris,
        running_airflow(home, DAG_FILE, polaris_stored=connection_without_page(polaris)) as airflow,
    ):
        wait_for(lambda: airflow.query("select 1 from trigger"), "the trigger of the asset")
        for process in ("triggerer", "scheduler", "dag-processor", "api-server"):
            airflow.stop(process)  # the events need only the database
        airflow.execute("delete from asset_state_store")
        triggerer = StepTriggerer(airflow.env, home)
        try:
            yield Watched(airflow, polaris, triggerer)
        finally:
            triggerer.close()


def test_a_kill_before_the_event_is_stored_loses_no_event(watched):
    watched.start_until("before the state is written")
    watched.load(events=0)  # nothing says that there was a first start
    for step in FIRST_STEPS:
        watched.start_until(step)
        watched.load()
    for step in EARLY_STEPS:
        watched.start_until(step)
        assert not watched.fired(), step
        watched.load()
    watched.start()
    watched.wait_for_events()


@pytest.mark.parametrize(("step", "events"), LATE_STEPS.items())
def test_a_kill_after_the_event_is_stored_repeats_only_the_last_interval(watched, step, events):
    watched.settle()
    watched.triggerer.kill_at(step)
    watched.load(events)
    watched.triggerer.wait_for_end()
    watched.load()
    watched.start()
    watched.wait_for_events()


def test_a_kill_after_the_main_loop_of_the_triggerer_has_hung_loses_no_event(watched):
    watched.settle()
    watched.triggerer.block()
    watched.polaris.requests.clear()
    watched.load()
    judged = lambda: any(seen.path.endswith("/metrics") for seen in watched.polaris.requests)  # noqa: E731
    wait_for(judged, "the judgement of the load")
    time.sleep(2 * SHORTEST_INTERVAL_SECONDS)  # the next poll would store the state
    watched.triggerer.kill_at("after the state is written")
    watched.triggerer.unblock()
    watched.triggerer.wait_for_end()
    watched.start()
    watched.wait_for_events()
