"""The query of a killed task is canceled, on a worker and in the triggerer. Else, the query keeps running."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from airflow_provider_polaris.submission import worker_kill
from airflow_provider_polaris.submission.query_record import KEY
from tests.support.airflow_versions import AIRFLOW_3, FakeTaskInstance, context_of
from tests.support.queries import QueryTask, query_trigger, requests_of
from tests.support.run_task import outcome_of

pytestmark = pytest.mark.usefixtures("moved_clock")

#: The states in which Airflow has a task that a user has killed.
KILLED = ["failed", "success", "skipped", "restarting", "removed", None]
ROWS = [[1, "a"], [2, "b"]]


class RunningQuery:
    """A task on a worker that is killed at its second pause."""

    def __init__(self, queries, clock, **options):
        self.task = QueryTask()
        self.operator = self.task.make(**{"deferrable": False, **options})
        self.clock, self.queries = clock, queries

    def run(self, kill_at=2):
        def on_sleep():
            if len(self.clock.slept) == kill_at:
                self.operator.on_kill()
                for query in self.queries.queries:
                    if query._is_stopped:
                        query.run()

        self.clock.on_sleep = on_sleep
        context = self.task.context()
        return outcome_of(lambda: self.operator.execute(context), context["ti"])


@pytest.fixture
def running(queries, moved_clock, state):
    return RunningQuery(queries, moved_clock)


@pytest.mark.parametrize("told", KILLED)
def test_a_user_who_kills_the_task_cancels_its_query(running, queries, state, told, task_log):
    state.value = told
    outcome = running.run()
    assert outcome.kind == "PolarisQueryRefused", "Airflow 3 lets the task run on after on_kill"
    assert queries.stopped == queries.ids
    said = " ".join(task_log())
    assert f"The task was killed: its state is {told}. Canceling its query" in said
    assert f"Polaris accepted the cancellation of query {queries.ids[0]}" in said


@pytest.mark.parametrize("told", sorted(worker_kill.CONTINUES))
def test_a_worker_that_is_shut_down_leaves_the_query_running(running, queries, polaris, state, told, task_log):
    state.value = told
    running.clock.on_sleep = None
    running.run(kill_at=2)
    assert f"Query {queries.ids[0]} is left running" in " ".join(task_log())
    assert len(requests_of(polaris, "DELETE")) == 1, "only the timeout cancels the query"


def test_cancel_on_kill_false_leaves_the_query_running(queries, polaris, moved_clock, state):
    state.value = "failed"
    RunningQuery(queries, moved_clock, cancel_on_kill=False).run()
    assert not state.asked


def test_a_task_that_is_killed_before_it_begins_sends_no_query(running, polaris, state):
    state.value = "failed"
    running.operator.on_kill()
    outcome = running.run(kill_at=None)
    assert (outcome.kind, polaris.requests) == ("PolarisTaskKilled", [])
    assert "before it sent its query" in str(outcome.error)
    assert not running.task.store


def test_a_task_that_is_killed_before_it_sent_its_query_does_not_send_it(running, polaris, state):
    state.value = "failed"
    right = running.task.store.get
    running.task.store.get = lambda *args: (running.operator.on_kill(), right(*args))[1]
    assert running.run(kill_at=None).kind == "PolarisTaskKilled"
    assert polaris.requests == []


def test_a_query_that_is_being_sent_is_canceled_when_its_id_is_known(running, queries, polaris, state, wait_until):
    state.value = "failed"
    polaris.delay_next(1, seconds=0.5, match="POST")

    def kill_in_mid_post():
        wait_until(lambda: requests_of(polaris, "POST"))
        running.operator.on_kill()

    killer = threading.Thread(target=kill_in_mid_post)
    killer.start()
    running.run(kill_at=None)
    killer.join()
    assert wait_until(lambda: queries.stopped == queries.ids)


def test_a_kill_after_a_lost_response_has_no_query_to_cancel(running, queries, polaris, state, task_log):
    state.value = "failed"
    polaris.drop_next(1, when="after", match="POST")
    assert running.run(kill_at=None).kind == "PolarisQueryLost"
    running.operator.on_kill()
    assert requests_of(polaris, "DELETE") == []
    assert running.task.store.get(KEY)["state"] == "sending"


def test_a_kill_after_the_task_has_ended_cancels_nothing(running, queries, polaris, state, moved_clock):
    moved_clock.on_sleep = queries.run
    context = running.task.context()
    assert running.operator.execute(context) == ROWS
    state.value = "success"
    running.operator.on_kill()
    assert requests_of(polaris, "DELETE") == []


def test_a_kill_after_a_timeout_does_not_cancel_again(running, queries, polaris, state):
    outcome = running.run(kill_at=None)
    assert outcome.kind == "PolarisQueryTimeout"
    state.value = "failed"
    running.operator.on_kill()
    assert len(requests_of(polaris, "DELETE")) == 1


def test_a_task_that_is_cleared_while_it_runs_starts_another_query(running, queries, state, moved_clock):
    state.value = "restarting"
    running.run()
    running.task.clear(running=True)
    moved_clock.on_sleep = lambda: [query.run() for query in queries.queries if not query.is_over]
    outcome = running.task.run()
    assert (outcome.kind, outcome.xcom, len(queries.ids)) == ("success", ROWS, 2), outcome.error


def test_a_process_that_ends_right_after_the_cancellation_has_noted_it(running, queries, state, moved_clock):
    class Sigkill(BaseException):
        pass

    def kill_and_die():
        running.operator.on_kill()
        raise Sigkill

    state.value = "failed"
    moved_clock.on_sleep = kill_and_die
    with pytest.raises(Sigkill):
        running.operator.execute(running.task.context())
    assert running.task.store.get(KEY)["state"] == "canceling"
    assert queries.stopped == queries.ids


def test_a_rejected_cancellation_is_logged(running, polaris, state, task_log):
    state.value = "failed"
    polaris.fail_next(9, status=400, match="DELETE")
    running.run()
    polaris.clear_faults()
    assert "could not be canceled, and may still be running" in " ".join(task_log())


def waiting(query_id, **options):
    """Return a trigger as it runs in a triggerer."""
    running = query_trigger(query_id, **{"cancel_on_kill": True, **options})
    # The setter of Airflow 3 would look for the templates of the task.
    running.__dict__["_task_instance" if AIRFLOW_3 else "task_instance"] = FakeTaskInstance()
    return running


@pytest.fixture
def query_id(hook, queries):
    return hook.start_query("SELECT 1 AS a").id


@pytest.mark.parametrize("told", KILLED)
def test_the_query_of_a_killed_deferred_task_is_canceled(queries, state, query_id, told):
    state.value = told
    asyncio.run(waiting(query_id).on_kill())
    assert queries.stopped == [query_id]


@pytest.mark.parametrize(("current_try", "stops"), [(1, False), (2, True), (None, False)])
def test_the_query_of_a_cleared_deferred_task_is_canceled_because_of_its_new_try(
    queries, state, query_id, current_try, stops
):
    state.value, state.current_try = "scheduled", current_try
    asyncio.run(waiting(query_id).on_kill())
    assert queries.stopped == ([query_id] if stops else [])


@pytest.mark.parametrize("told", ["deferred", "running", "up_for_retry", "of a later release", RuntimeError("no API")])
def test_the_query_keeps_running_if_no_user_killed_its_deferred_task(queries, state, query_id, told):
    state.value = told
    asyncio.run(waiting(query_id).on_kill())
    assert queries.stopped == []


def test_the_query_keeps_running_without_cancel_on_kill_or_after_the_deadline(queries, state, query_id, moved_clock):
    state.value = "failed"
    asyncio.run(waiting(query_id, cancel_on_kill=False).on_kill())
    asyncio.run(waiting(query_id, deadline=moved_clock.time - 1).on_kill())
    assert queries.stopped == []


def test_the_cancellation_of_a_deferred_query_is_sent_again_after_an_outage(polaris, queries, state, query_id):
    state.value = "failed"
    polaris.fail_next(2, match="DELETE")
    asyncio.run(waiting(query_id).on_kill())
    assert queries.stopped == [query_id]


def test_a_query_that_is_gone_or_over_needs_no_cancellation(queries, state, query_id):
    state.value = "failed"
    queries.run()
    asyncio.run(waiting(query_id).on_kill())
    asyncio.run(waiting("query-none").on_kill())
    assert queries.stopped == []


def test_a_trigger_that_cannot_read_its_arguments_survives_a_kill():
    from airflow_provider_polaris.triggers.queries import PolarisQueryTrigger

    asyncio.run(PolarisQueryTrigger(query_id="q").on_kill())


@pytest.mark.parametrize("asked", [True, False])
def test_the_operator_stores_cancel_on_kill_and_the_logical_date_with_its_trigger(queries, moved_clock, asked):
    from datetime import datetime, timezone

    ti, day = FakeTaskInstance(), datetime(2026, 11, 1, 10, tzinfo=timezone.utc)
    context = {**context_of(ti), "dag_run": SimpleNamespace(logical_date=day)}
    operator = QueryTask().make(deferrable=True, **({} if asked else {"cancel_on_kill": False}))
    stored = outcome_of(lambda: operator.execute(context), ti).error.trigger.serialize()[1]
    assert stored["cancel_on_kill"] is asked
    assert stored["logical_date"] == ("2026-11-01T10:00:00+00:00" if asked else None)
