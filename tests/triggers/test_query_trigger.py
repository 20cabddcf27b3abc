"""The trigger that waits for an asynchronous query fires one event of plain JSON, and never raises."""

from __future__ import annotations

import asyncio
import json
import pkgutil
from pathlib import Path

import pytest

from airflow_provider_polaris.api.errors import PolarisError
from airflow_provider_polaris.polling.shared_client import SharedClient
from airflow_provider_polaris.triggers.queries import PolarisQueryTrigger
from airflow_provider_polaris.waiting.query_crossing import QueryEvent, QueryTriggerArgs
from tests.support.airflow_versions import event_through_the_database, trigger_through_the_database
from tests.support.queries import held, query_trigger, requests_of
from tests.support.run_task import all_events, one_event

GOLDEN = json.loads((Path(__file__).parent / "golden" / "deferred_for_a_query.json").read_text())
REQUIRED = ["query_id", "polaris_conn_id", "project_id", "poll_interval", "deadline", "max_unreachable"]

pytestmark = pytest.mark.usefixtures("moved_clock")


@pytest.fixture
def queries(polaris, monkeypatch):
    with held(polaris, monkeypatch) as queries:
        yield queries


@pytest.fixture
def query_id(hook, queries):
    return hook.start_query("SELECT 1 AS a").id


def event_of(trigger):
    """Return what a worker reads of the event that a trigger from the database fires."""
    return QueryEvent.from_dict(event_through_the_database(one_event(trigger_through_the_database(trigger))))


def test_stored_arguments_of_the_first_release_are_read_and_written_alike():
    kind = pkgutil.resolve_name(GOLDEN["classpath"])
    assert kind is PolarisQueryTrigger
    assert trigger_through_the_database(kind(**GOLDEN["kwargs"])).serialize() == (GOLDEN["classpath"], GOLDEN["kwargs"])
    assert QueryEvent.from_dict(GOLDEN["event"]).to_dict() == GOLDEN["event"]


def test_arguments_and_keys_of_a_newer_release_are_ignored():
    trigger = PolarisQueryTrigger(**GOLDEN["kwargs"], brand_new={"x": 1})
    assert trigger.args == QueryTriggerArgs.from_dict(GOLDEN["kwargs"])
    assert QueryEvent.from_dict({**GOLDEN["event"], "brand_new": 1}).outcome == "over"


@pytest.mark.parametrize("name", REQUIRED)
def test_a_trigger_reports_a_missing_argument_in_its_event(name):
    event = event_of(PolarisQueryTrigger(**{key: value for key, value in GOLDEN["kwargs"].items() if key != name}))
    assert event.outcome == "error"
    assert f"{name!r} is missing" in str(event.error)


@pytest.mark.parametrize(
    ("name", "value"),
    [("query_id", 7), ("deadline", "soon"), ("poll_interval", True), ("failing", []), ("cancel_on_kill", 1),
     ("logical_date", "yesterday")],
)  # fmt: skip
def test_a_trigger_reports_an_argument_of_a_wrong_type_in_its_event(name, value):
    event = event_of(PolarisQueryTrigger(**{**GOLDEN["kwargs"], name: value}))
    assert f"{name!r} must be" in str(event.error)


@pytest.mark.parametrize(("outcome", "key"), [("over", "query_id"), ("over", "deadline"), ("timeout", "query_id"),
                                              ("timeout", "deadline"), ("error", "error")])  # fmt: skip
def test_an_event_names_the_key_that_it_lacks(outcome, key):
    fired = {**GOLDEN["event"], "error": {"type": "PolarisError", "message": "x"}, "outcome": outcome, key: None}
    with pytest.raises(PolarisError, match=f"outcome is '{outcome}', and '{key}' is missing"):
        QueryEvent.from_dict(fired)


@pytest.mark.parametrize("ends", ["run", "fail"])
def test_a_query_that_is_over_ends_the_wait(queries, query_id, moved_clock, ends):
    moved_clock.on_sleep = getattr(queries, ends)
    event = event_of(query_trigger(query_id))
    assert (event.outcome, event.query_id, event.polls) == ("over", query_id, 1)
    assert event.state == {"run": "SUCCESS", "fail": "FAILED"}[ends]


def test_the_deadline_ends_the_wait_after_a_last_poll(polaris, queries, query_id, moved_clock):
    began = moved_clock.time
    event = event_of(query_trigger(query_id, deadline=began + 200))
    assert (event.outcome, event.state, event.deadline) == ("timeout", "ACCEPTED", began + 200)
    assert moved_clock.time == began + 200


def test_a_deadline_that_has_passed_sends_no_request(polaris, query_id, moved_clock):
    polaris.requests.clear()
    assert event_of(query_trigger(query_id, deadline=moved_clock.time - 1)).outcome == "timeout"
    assert polaris.requests == []


def test_an_outage_of_the_worker_continues_in_the_trigger(polaris, query_id, moved_clock):
    failing = {"at": moved_clock.time, "unreachable_since": moved_clock.time - 250, "unauthorized_since": None}
    polaris.fail_next(10**6, match="GET")
    event = event_of(query_trigger(query_id, failing=failing, max_unreachable=300))
    assert (event.outcome, type(event.error).__name__) == ("error", "PolarisUnreachable")
    assert query_id in str(event.error)
    assert moved_clock.slept[0] > 50, "the poll before has just failed"
    assert len(requests_of(polaris, "GET")) == 1


def test_a_query_that_is_gone_ends_the_wait_at_the_second_404(polaris, queries, query_id, moved_clock):
    queries.forget()
    event = event_of(query_trigger(query_id))
    assert (event.outcome, type(event.error).__name__) == ("error", "PolarisQueryNotFound")
    assert len(requests_of(polaris, "GET")) == 2


def test_a_service_that_hangs_does_not_delay_the_deadline(polaris, query_id, moved_clock, monkeypatch):
    async def never(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(SharedClient, "get_statement", never)
    began = moved_clock.time
    event = event_of(query_trigger(query_id, deadline=began + 100))
    assert event.outcome == "timeout"
    assert moved_clock.time - began < 200
    assert "No response before the deadline" in event.trouble


def test_a_fault_of_the_trigger_itself_ends_in_its_event(query_id, monkeypatch):
    async def broken(*_):
        raise ValueError("a bug")

    monkeypatch.setattr(SharedClient, "get_statement", broken)
    event = event_of(query_trigger(query_id))
    assert event.outcome == "error"
    assert "the trigger failed: ValueError: a bug" in str(event.error)


def test_a_missing_connection_ends_in_the_event(query_id, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_POLARIS_DEFAULT")
    event = event_of(query_trigger(query_id))
    assert type(event.error).__name__ == "PolarisConnectionMissing"


def test_triggers_share_one_client(polaris, hook, queries, moved_clock):
    ids = [hook.start_query("SELECT 1 AS a").id for _ in range(5)]
    moved_clock.on_sleep = queries.run

    async def all_of_them():
        return await asyncio.gather(*(all_events(query_trigger(one)) for one in ids))

    events = [event for (event,) in asyncio.run(all_of_them())]
    assert [event.payload["query_id"] for event in events] == ids
    assert {event.payload["outcome"] for event in events} == {"over"}


def test_the_arguments_hold_no_secret_and_not_the_query(polaris, query_id):
    stored = json.dumps(query_trigger(query_id).serialize())
    assert polaris.api_key not in stored
    assert "SELECT" not in stored
