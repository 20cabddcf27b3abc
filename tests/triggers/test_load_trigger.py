"""PolarisLoadTrigger: its stored arguments, its one event, and one poll for all triggers of a connection."""

from __future__ import annotations

import asyncio
import json
import pkgutil
from datetime import datetime, timezone
from pathlib import Path

import pytest

from airflow_provider_polaris.triggers.polaris import PolarisLoadTrigger
from airflow_provider_polaris.waiting.crossing import LoadsSeen, WaitEvent
from tests.support.airflow_versions import event_through_the_database, trigger_through_the_database
from tests.support.run_task import all_events, one_event
from tests.support.virtual_time import EPOCH

GOLDEN = json.loads((Path(__file__).parent / "golden" / "deferred_for_a_load.json").read_text())

pytestmark = pytest.mark.usefixtures("moved_clock")


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(EPOCH + seconds, timezone.utc).isoformat()


def stamp(seconds: float) -> str:
    return moment(seconds).replace("+00:00", "Z")


def trigger(table="orders", **options):
    defaults = {
        "polaris_conn_id": "polaris_default",
        "project_id": None,
        "poll_interval": 60.0,
        "deadline": EPOCH + 3600,
        "max_unreachable": 600.0,
        "table": table,
        "completed_after": moment(0),
        "job_types": ["batch", "sql"],
        "read_from": moment(0),
    }
    return PolarisLoadTrigger(**{**defaults, **options})


def load(polaris, table="orders", completed=10.0, **body):
    return polaris.add_job(
        type="batch",
        target={"type": "table", "tableName": table},
        **{"executionStatus": "completed", "createdTimestamp": stamp(completed - 5), **body},
        completedTimestamp=stamp(completed),
    )


class TestArguments:
    def test_a_task_that_the_first_release_deferred_continues_under_a_later_release(self):
        """The class path and the names of the arguments are frozen. New arguments need defaults."""
        after = trigger_through_the_database(PolarisLoadTrigger(**GOLDEN["kwargs"]))
        assert type(after) is PolarisLoadTrigger
        assert after.serialize() == (GOLDEN["classpath"], GOLDEN["kwargs"])
        assert pkgutil.resolve_name(GOLDEN["classpath"]) is PolarisLoadTrigger

    @pytest.mark.parametrize("name", ["table", "completed_after", "job_types", "deadline", "poll_interval"])
    def test_a_missing_argument_is_reported_in_the_event_with_the_table(self, name):
        event = one_event(PolarisLoadTrigger(**{**GOLDEN["kwargs"], name: None})).payload
        assert event["outcome"] == "error"
        assert event["error"]["message"].startswith(f"Table {None if name == 'table' else 'Koalas Subset'!r}: ")
        assert f"{name!r} must be" in event["error"]["message"]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("running", "x"),
            ("running", [1]),
            ("loads", []),
            ("loads", {"passed_over": []}),
            ("loads", {"refused": "1"}),
        ],
        ids=str,
    )
    def test_an_argument_of_a_wrong_type_is_reported_in_the_event(self, name, value):
        event = one_event(PolarisLoadTrigger(**{**GOLDEN["kwargs"], name: value})).payload
        assert event["outcome"] == "error"

    @pytest.mark.parametrize(
        "name", ["read_from", "running", "loads", "failing", "max_wait", "exponential_backoff", "waiting_since"]
    )
    def test_an_optional_argument_may_be_missing(self, name):
        stored = {key: value for key, value in GOLDEN["kwargs"].items() if key != name}
        assert PolarisLoadTrigger(**stored).serialize()[1].keys() == GOLDEN["kwargs"].keys()

    def test_an_event_comes_back_through_airflow(self):
        loads = LoadsSeen(datetime(2026, 11, 26, tzinfo=timezone.utc), {"j": 5.5}, 2, "lost 3 rows")
        event = WaitEvent(outcome="timeout", deadline=9.0, loads=loads)
        from airflow.triggers.base import TriggerEvent

        assert WaitEvent.from_dict(event_through_the_database(TriggerEvent(event.to_dict()))) == event


class TestWait:
    def test_the_event_has_the_load_that_completed_first(self, polaris):
        load(polaris, completed=20)
        first = load(polaris, completed=10)
        event = one_event(trigger()).payload
        assert event["outcome"] == "job"
        assert event["job"]["id"] == first

    def test_a_refused_load_does_not_end_the_wait_again(self, polaris):
        refused, good = load(polaris, completed=10), load(polaris, completed=20)
        loads = {"after": moment(5), "passed_over": {refused: EPOCH + 10}, "refused": 1, "last_refusal": "lost 3 rows"}
        event = one_event(trigger(loads=loads)).payload
        assert event["job"]["id"] == good
        assert event["loads"] == loads

    def test_a_fault_of_our_own_ends_in_an_event(self, polaris, monkeypatch):
        def broken(*args, **kwargs):
            raise ZeroDivisionError("a fault")

        monkeypatch.setattr("airflow_provider_polaris.polling.loads_plan.LoadsWait.heard", broken)
        event = one_event(trigger()).payload
        assert event["outcome"] == "error"
        assert "Table 'orders': the trigger failed: ZeroDivisionError: a fault" in event["error"]["message"]

    def test_the_poll_ends_with_its_last_trigger(self, polaris, moved_clock):
        async def run():
            waits = [asyncio.create_task(all_events(trigger())) for _ in range(3)]
            await asyncio.sleep(200)
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            sent = len(polaris.requests)
            await asyncio.sleep(600)
            return sent, len(polaris.requests)

        polaris.requests.clear()
        before, after = asyncio.run(run())
        assert 3 <= before <= 6
        assert after == before


@pytest.mark.parametrize("count", [2, 300])
def test_all_sensors_of_a_connection_share_one_request_for_the_list(polaris, moved_clock, count):
    """Each of its own table. One load completes in the middle, and the others at the end."""
    tables = [f"table-{n}" for n in range(count)]
    added = {}

    def on_sleep():
        if moved_clock.time >= EPOCH + 900 and not added:
            added[tables[0]] = load(polaris, tables[0], 900.0)
        if moved_clock.time >= EPOCH + 1800 and len(added) == 1:
            added.update({table: load(polaris, table, 1800.0) for table in tables[1:]})

    moved_clock.on_sleep = on_sleep
    polaris.requests.clear()

    async def run():
        return await asyncio.gather(*(all_events(trigger(table)) for table in tables))

    events = asyncio.run(run())
    assert [event.payload["job"]["id"] for (event,) in events] == [added[table] for table in tables]
    assert {request.path.rpartition("/")[2] for request in polaris.requests} == {"jobs"}
    assert 1800 / 60 <= len(polaris.requests) <= 1800 / 54 + 8, "one request for each interval"
