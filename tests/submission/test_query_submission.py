"""A query is never sent twice by mistake, whatever was lost, and a retry continues with the query of an earlier try."""

from __future__ import annotations

import pytest

from airflow_provider_polaris._compat import AirflowFailException
from airflow_provider_polaris.submission.query_record import KEY
from tests.support.queries import SQL, QueryTask, requests_of
from tests.support.run_task import both_modes, outcome_of

pytestmark = pytest.mark.usefixtures("moved_clock")

ROWS = [[1, "a"], [2, "b"]]


class WorkerLost(BaseException):
    """The process of a worker ends."""


def lose_worker(task, moved_clock, **options):
    """Run a try on a worker that is lost while it waits for its query."""

    def die():
        raise WorkerLost

    moved_clock.on_sleep = die
    with pytest.raises(WorkerLost):
        task.make(**{"deferrable": False, **options}).execute(task.context())
    moved_clock.on_sleep = None


@both_modes
@pytest.mark.parametrize("when", ["before", "after", "mid-body"])
@pytest.mark.parametrize("store", [True, False], ids=["3.3", "before 3.3"])
def test_a_query_whose_response_was_lost_fails_and_is_not_retried(
    polaris, queries, moved_clock, deferrable, when, store
):
    polaris.drop_next(1, when=when, match="POST")
    task = QueryTask(store=store)
    outcome = task.run(deferrable=deferrable)
    assert outcome.kind == "PolarisQueryLost"
    assert isinstance(outcome.error, AirflowFailException)
    lines = str(outcome.error).splitlines()
    assert lines[:3] == [
        "Polaris may be running the query: its response was lost",
        "The query changes nothing, but Polaris bills it",
        "Clear the task to run the query again",
    ]
    assert (outcome.pushed, len(queries.ids)) == ({}, int(when == "after"))
    sent = len(queries.ids)
    task.clear()
    moved_clock.on_sleep = queries.run
    assert task.run(deferrable=deferrable).xcom == ROWS
    assert len(queries.ids) == sent + 1


def test_a_worker_that_is_lost_while_it_sends_leaves_a_note_that_stops_the_retry(polaris, queries, moved_clock):
    task = QueryTask()
    noting = task.store.set

    def die(key, value):
        if value["state"] == "waiting":
            raise WorkerLost
        noting(key, value)

    task.store.set = die
    with pytest.raises(WorkerLost):
        task.make().execute(task.context())
    task.store.set = noting
    outcome = task.run()
    assert outcome.kind == "PolarisQueryLost"
    assert "an earlier try sent it at 2027-01-15 08:00:00 UTC, and noted no response" in str(outcome.error)
    assert "Clear the task to run the query again" in str(outcome.error)
    assert len(queries.ids) == 1
    assert task.run("SELECT 1 AS other").kind == "PolarisQueryLost", "also with another query"
    task.clear()
    moved_clock.on_sleep = queries.run
    assert task.run().xcom == ROWS
    assert len(queries.ids) == 2


@both_modes
@pytest.mark.parametrize("is_over", [False, True])
def test_a_retry_continues_with_the_query_of_a_lost_worker(polaris, queries, moved_clock, deferrable, is_over):
    task = QueryTask()
    lose_worker(task, moved_clock)
    if is_over:
        queries.run()
    moved_clock.on_sleep = queries.run
    outcome = task.run(deferrable=deferrable)
    assert (outcome.kind, outcome.xcom) == ("success", ROWS), outcome.error
    assert outcome.pushed["query_id"] == queries.ids[0]
    assert len(requests_of(polaris, "POST")) == 1


def test_a_worker_that_is_lost_after_its_success_makes_the_retry_read_the_result_again(polaris, queries, moved_clock):
    task = QueryTask()
    moved_clock.on_sleep = queries.run
    assert task.run().xcom == ROWS
    assert task.run().xcom == ROWS
    assert len(queries.ids) == 1


def test_before_airflow_3_3_a_retry_after_a_lost_worker_sends_its_query_again(queries, moved_clock):
    task = QueryTask(store=False)
    lose_worker(task, moved_clock)
    moved_clock.on_sleep = queries.run
    assert task.run().xcom == ROWS
    assert len(queries.ids) == 2


@both_modes
def test_a_clear_runs_the_query_again(queries, moved_clock, deferrable):
    task = QueryTask()
    moved_clock.on_sleep = queries.run
    task.run(deferrable=deferrable)
    task.clear()
    assert task.run(deferrable=deferrable).xcom == ROWS
    assert len(queries.ids) == 2


def test_a_clear_cancels_the_query_of_a_lost_worker_and_runs_it_again(queries, moved_clock):
    task = QueryTask()
    lose_worker(task, moved_clock)
    task.clear()
    moved_clock.on_sleep = queries.run
    assert task.run().xcom == ROWS
    assert (len(queries.ids), queries.stopped) == (2, queries.ids[:1])


@pytest.mark.parametrize(
    "changes",
    [{"sql": "SELECT 3 AS n"}, {"parameters": [1]}, {"context": {"sqlTimeZone": "UTC"}}, {"project_id": "other"}],
    ids=str,
)
def test_a_retry_with_another_query_does_not_take_the_result_of_the_old_one(polaris, queries, moved_clock, changes):
    task = QueryTask()
    lose_worker(task, moved_clock, sql="SELECT 1 AS n")
    moved_clock.on_sleep = queries.run
    outcome = task.run(**{"sql": "SELECT 1 AS n", **changes})
    if "project_id" in changes:
        assert outcome.kind == "PolarisNotFound", "the local Polaris has one project"
        return
    assert outcome.kind in {"success", "PolarisQueryRefused"}, "the query has no place for the parameter"
    assert requests_of(polaris, "POST")[-1].body != requests_of(polaris, "POST")[0].body
    assert queries.stopped == queries.ids[:1]


@pytest.mark.parametrize("how", ["failed", "canceled", "gone"])
def test_a_retry_whose_old_query_has_no_result_starts_another(queries, moved_clock, how):
    task = QueryTask()
    lose_worker(task, moved_clock)
    if how == "gone":
        queries.forget()
    else:
        queries.fail("CANCELED" if how == "canceled" else "RUNTIME_FAILURE")
    moved_clock.on_sleep = queries.run
    assert task.run().xcom == ROWS
    assert len(queries.ids) == 2


@both_modes
def test_a_retry_during_an_outage_waits_for_the_old_query(polaris, queries, moved_clock, deferrable):
    task = QueryTask()
    lose_worker(task, moved_clock)
    polaris.fail_next(8, match="GET")
    moved_clock.on_sleep = queries.run
    outcome = task.run(deferrable=deferrable)
    assert (outcome.kind, outcome.xcom, len(queries.ids)) == ("success", ROWS, 1), outcome.error


def test_one_404_of_the_old_query_does_not_count(polaris, queries, moved_clock):
    task = QueryTask()
    lose_worker(task, moved_clock)
    polaris.fail_next(1, status=404, match="GET")
    moved_clock.on_sleep = queries.run
    assert task.run().xcom == ROWS
    assert len(queries.ids) == 1


@pytest.mark.parametrize("fault", ["no host", "busy", "rejected"])
def test_a_query_that_polaris_has_not_started_is_sent_by_the_retry(polaris, queries, moved_clock, monkeypatch, fault):
    task = QueryTask()
    if fault == "no host":
        with monkeypatch.context() as patch:
            patch.setenv(
                "AIRFLOW_CONN_POLARIS_DEFAULT",
                '{"conn_type": "imply_polaris", "host": "http://127.0.0.1:1", "password": "k",'
                ' "extra": {"project_id": "p"}}',
            )
            outcome = task.run()
    else:
        polaris.fail_next(9, status={"busy": 429, "rejected": 403}[fault], match="POST")
        outcome = task.run()
        polaris.clear_faults()
    assert outcome.kind == ("PolarisForbidden" if fault == "rejected" else "PolarisUnreachable")
    assert task.store.get(KEY)["state"] == "over"
    moved_clock.on_sleep = queries.run
    assert task.run().xcom == ROWS
    assert len(queries.ids) == 1


def test_a_missing_connection_does_not_count_as_a_query_that_was_sent(polaris, queries, moved_clock, monkeypatch):
    task = QueryTask()
    with monkeypatch.context() as patch:
        patch.delenv("AIRFLOW_CONN_POLARIS_DEFAULT")
        assert task.run().kind == "PolarisConnectionMissing"
    assert not task.store
    moved_clock.on_sleep = queries.run
    assert task.run().xcom == ROWS


def test_a_store_that_refuses_the_first_note_stops_the_query(polaris, queries):
    task = QueryTask()

    def refuse(*_):
        raise RuntimeError("no store")

    task.store.set = refuse
    assert task.run().kind == "RuntimeError"
    assert requests_of(polaris, "POST") == []


def test_a_store_that_refuses_a_later_note_does_not_end_the_wait(queries, moved_clock, task_log):
    task = QueryTask()
    noting = task.store.set

    def refuse(key, value):
        if value["state"] != "sending":
            raise RuntimeError("no store")
        noting(key, value)

    task.store.set = refuse
    moved_clock.on_sleep = queries.run
    assert task.run().xcom == ROWS
    assert "could not be stored for a retry: RuntimeError: no store" in " ".join(task_log())


@pytest.mark.parametrize(
    "stored",
    [{}, {"state": "brand new", "clear_generation": 1, "at": 1.0}, {"state": "waiting"}, 7,
     {"state": "waiting", "clear_generation": 1, "at": 1.0, "query_id": 7}],
    ids=str,
)  # fmt: skip
def test_a_note_that_cannot_be_read_counts_as_none(queries, moved_clock, stored):
    task = QueryTask()
    task.store.set(KEY, stored)
    moved_clock.on_sleep = queries.run
    assert task.run().xcom == ROWS


@pytest.mark.parametrize("retries", [0, 5])
def test_a_changed_number_of_retries_does_not_look_like_a_clear(polaris, queries, moved_clock, retries):
    """Airflow derives the clear generation from the option. Otherwise the query would be sent again."""
    task = QueryTask(retries=2)
    task.store.set(KEY, {"state": "sending", "clear_generation": 1, "at": 1.0, "query_id": None, "query": None})
    task.try_number, task.retries = 1, retries
    assert task.run().kind == "PolarisQueryLost"
    assert requests_of(polaris, "POST") == []


def test_a_mapped_or_parallel_task_has_its_own_query(queries, moved_clock):
    moved_clock.on_sleep = queries.run
    first, second = QueryTask().run(SQL), QueryTask().run(SQL)
    assert first.pushed["query_id"] != second.pushed["query_id"]


def test_a_try_that_ends_in_mid_post_has_noted_that_it_sends(polaris, queries, monkeypatch):
    task = QueryTask()
    context = task.context()
    seen = []
    right = queries.submit
    monkeypatch.setattr(queries, "submit", lambda run: (seen.append(task.store.get(KEY)["state"]), right(run)))
    outcome_of(lambda: task.make(deferrable=True).execute(context), context["ti"])
    assert seen == ["sending"]
