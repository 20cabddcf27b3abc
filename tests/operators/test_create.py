"""PolarisCreateJobOperator: one load, and its verdict; never two by mistake."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest

from airflow_provider_polaris.api.errors import PolarisUnreachable, PolarisUsageError
from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from airflow_provider_polaris.submission.submission_record import KEY
from airflow_provider_polaris.submission.submit_once import IN_FLIGHT_SECONDS
from tests.hooks.test_polaris_hook import SPEC
from tests.support.airflow_versions import AIRFLOW_3, AirflowFailException, FakeTaskInstance, context_of
from tests.support.run_task import run_task

SQL = {"type": "sql", "createTableIfNotExists": True, "query": 'INSERT INTO "by_sql" SELECT 1 PARTITIONED BY ALL'}
STREAMING = {
    "type": "streaming",
    "createTableIfNotExists": True,
    "target": {"type": "table", "tableName": "clicks"},
    "source": {"type": "connection", "connectionName": "kafka"},
}
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
ROWS = {"numRowsProcessed": 5, "numRowsSkippedByError": 1}


class FakeStore(dict):
    """As much of Airflow 3.3's task state store as is touched; JSON only, as there."""

    def set(self, key, value):
        self[key] = json.dumps(value)

    def get(self, key, default=None):
        return json.loads(self[key]) if key in self else default


class Task:
    """One task instance over its tries, as Airflow counts them."""

    def __init__(self, *, store=True, retries=2):
        self.retries = retries
        self.run_id = f"run-{uuid.uuid4()}"
        self.store = FakeStore() if store else None
        self.try_number = 0
        self.max_tries = retries

    def clear(self, *, running=False):
        """As a user does. One that runs becomes ``restarting``, and its next try counts as a retry."""
        if not running:
            self.max_tries = self.try_number + self.retries

    def context(self):
        self.try_number += 1
        ti = FakeTaskInstance()
        ti.try_number, ti.max_tries, ti.run_id = self.try_number, self.max_tries, self.run_id
        return {**context_of(ti), **({} if self.store is None else {"task_state_store": self.store})}

    def run(self, spec=SQL, between=None, **options):
        def make():
            return PolarisCreateJobOperator(
                task_id="load", job_spec=spec, retries=self.retries, **{"poll_interval": 60, "timeout": 600, **options}
            )

        return run_task(make, between=between, context=self.context())


@pytest.fixture(autouse=True)
def _moved(moved_clock):
    """Nothing here waits."""


def posts(polaris):
    return [request.body for request in polaris.requests if (request.method, request.path[-5:]) == ("POST", "/jobs")]


def jobs_of(hook, table="by_sql"):
    return list(hook.list_jobs(target_table_name=table))


@BOTH
def test_one_load_and_its_xcom(polaris, deferrable):
    polaris.next_job("complete", metrics=ROWS)
    outcome = Task().run(deferrable=deferrable, min_rows_processed=5)
    assert outcome.kind == "success", outcome.error
    assert outcome.deferrals == deferrable
    assert outcome.xcom["execution_status"] == "completed"
    assert outcome.xcom["table"] == "by_sql"
    assert outcome.pushed == {"job_id": outcome.xcom["job_id"], "metrics": outcome.xcom["metrics"]}
    assert len(posts(polaris)) == 1


@BOTH
def test_data_that_is_read_is_loaded(polaris, deferrable, wait_until):
    spec = {**SPEC, "target": {"type": "table", "tableName": f"read-{deferrable}"}}
    outcome = Task().run(spec, deferrable=deferrable, timeout=3600 * 24 * 365, poll_interval=1)
    assert outcome.kind == "success", outcome.error
    assert outcome.xcom["metrics"]["numRowsProcessed"] == 2


@BOTH
@pytest.mark.parametrize(
    ("asked", "options", "kind"),
    [
        ({"kind": "fail"}, {}, "PolarisJobFailed"),
        ({"kind": "complete"}, {"min_rows_processed": 6}, "PolarisGateRefused"),
        ({"kind": "complete", "health": {"status": "warn", "code": "no_rows_found"}}, {}, "PolarisGateRefused"),
        ({"kind": "hang"}, {}, "PolarisJobTimeout"),
        ({"kind": "hang"}, {"execution_timeout": timedelta(seconds=300)}, "execution_timeout"),
    ],
)
def test_a_load_that_is_not_good_fails_the_task(polaris, deferrable, asked, options, kind):
    if "execution_timeout" in options and not deferrable:
        pytest.skip("on a worker Airflow itself sees to that")
    polaris.next_job(metrics=ROWS, **asked)
    outcome = Task().run(deferrable=deferrable, **options)
    assert outcome.kind == kind
    job_id = outcome.pushed["job_id"]
    assert job_id in str(outcome.error)
    assert not [request for request in polaris.requests if request.method == "PUT"], "nothing cancels unasked"
    assert ("metrics" in outcome.pushed) == (kind not in {"PolarisJobTimeout", "execution_timeout"})


@BOTH
@pytest.mark.parametrize(("stored", "says"), [(0, "Polaris stored no rows"), (7, "The loaded rows are in the table")])
def test_a_refusal_says_what_is_in_the_table(polaris, deferrable, stored, says):
    polaris.next_job("complete", metrics={"numRowsProcessed": 0, "numRowsPersisted": stored})
    outcome = Task().run(deferrable=deferrable, min_rows_processed=8)
    assert outcome.kind == "PolarisGateRefused"
    assert says in str(outcome.error)


@BOTH
def test_a_job_that_a_person_canceled_is_not_loaded_again(polaris, hook, moved_clock, deferrable):
    polaris.next_job("hang")
    polaris.cancel_looks = 0
    moved_clock.on_sleep = lambda: hook.cancel_job(jobs_of(hook)[-1].id) if moved_clock.slept == [60] else None
    outcome = Task().run(deferrable=deferrable, between=lambda: hook.cancel_job(jobs_of(hook)[-1].id))
    assert outcome.kind == "PolarisJobCanceled"
    assert isinstance(outcome.error, AirflowFailException), "Airflow does not retry it"


@BOTH
def test_a_streaming_job_is_waited_for_until_it_runs(polaris, deferrable):
    polaris.next_job("complete")
    outcome = Task().run(STREAMING, deferrable=deferrable)
    assert (outcome.kind, outcome.xcom["execution_status"]) == ("success", "running")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, "type must be one of"),
        ([], "must be a dict or a JSON object, not list"),
        ("{", "job_spec is not JSON"),
        ('["a"]', "must be a dict or a JSON object, not list"),
        ({**SPEC, "type": "bulk"}, "type must be one of .* not 'bulk'"),
        ({**SPEC, "target": None}, "target is required"),
        (
            {**SPEC, "target": {"type": "topic", "tableName": ""}},
            "target.type must be 'table'.*; target.tableName must",
        ),
        ({**SPEC, "source": {}}, "source.type is required"),
        ({"type": "streaming", "target": SPEC["target"]}, "source is required"),
        ({"type": "sql", "query": "SELECT 1"}, "query must be an INSERT INTO"),
        ({"type": "restore_data", "target": SPEC["target"]}, "interval is required"),
        ({**SPEC, "note": {1, 2}}, "cannot be written as JSON"),
        ({**SPEC, "note": float("nan")}, "cannot be written as JSON"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_wrong_spec_names_its_fields_before_anything_is_sent(polaris, spec, says):
    task = Task()
    with pytest.raises(PolarisUsageError, match=says):
        raise task.run(spec).error
    assert not polaris.requests
    assert KEY not in task.store


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (SQL, {"min_rows_processed": "x"}),
        (SQL, {"max_unreachable": -1}),
        (SQL, {"poll_interval": 0}),
        (SQL, {"timeout": -5}),
        (STREAMING, {"min_rows_processed": 1}),
    ],
)
def test_options_that_make_no_sense_are_said_before_anything_is_sent(polaris, spec, options):
    assert Task().run(spec, **options).kind == "PolarisOptionError"
    assert not polaris.requests


def test_a_json_text_will_do_and_values_keep_their_types(polaris):
    polaris.next_job("complete", table="by_sql")
    assert Task().run(json.dumps({**SQL, "context": {"maxParseExceptions": 10}})).kind == "success"
    assert posts(polaris)[0]["context"] == {"maxParseExceptions": 10}


def test_without_waiting_it_is_done_when_polaris_has_taken_the_spec(polaris):
    task = Task()
    outcome = task.run(wait_for_completion=False, deferrable=True)
    assert (outcome.kind, outcome.deferrals, outcome.xcom["execution_status"]) == ("success", 0, "pending")
    task.clear()
    assert task.run(wait_for_completion=False).xcom["job_id"] != outcome.xcom["job_id"]


@BOTH
@pytest.mark.parametrize("taken", [True, False])
def test_cancel_on_timeout(polaris, hook, deferrable, taken):
    task = Task()
    polaris.next_job("hang")
    if not taken:
        polaris.fail_next(9, status=403, match="PUT")
    outcome = task.run(deferrable=deferrable, cancel_on_timeout=True)
    assert outcome.kind == "PolarisJobTimeout"
    assert ("Polaris accepted the cancellation" if taken else "could not be canceled") in str(outcome.error)
    job_id = outcome.pushed["job_id"]
    assert (hook.get_job(job_id).desired_execution_status == "canceled") == taken
    if taken:
        polaris.set_status(job_id, "canceled")
        polaris.next_job("complete")
        again = task.run()
        assert (again.kind, again.xcom["job_id"] != job_id) == ("success", True), "it has loaded nothing"


def test_a_retry_while_the_job_is_still_being_canceled_comes_back_later(polaris, hook):
    task = Task()
    polaris.next_job("hang")
    polaris.cancel_looks = 99
    job_id = task.run(cancel_on_timeout=True).pushed["job_id"]
    assert task.run().kind == "PolarisJobTimeout"
    polaris.set_status(job_id, "completed")
    assert task.run().xcom["job_id"] == job_id, "it completed in the same second: its data is there"
    assert len(posts(polaris)) == 1


class TestTries:
    """What a try makes of the ones before it, on Airflow 3.3 and later."""

    def lost(self, polaris, task, state="running", **options):
        """Let a try end without a verdict, its job in that state later; return the job's id."""
        polaris.next_job("hang", table="by_sql")
        outcome = task.run(timeout=60, **options)
        assert outcome.kind == "PolarisJobTimeout"
        polaris.set_status(outcome.pushed["job_id"], state)
        return outcome.pushed["job_id"]

    @BOTH
    def test_a_retry_goes_on_with_the_job_that_still_runs(self, polaris, deferrable):
        task = Task()
        job_id = self.lost(polaris, task)
        polaris.script(job_id, {}, {}, {"executionStatus": "completed"})
        outcome = task.run(deferrable=deferrable)
        assert (outcome.kind, outcome.xcom["job_id"], outcome.pushed["job_id"]) == ("success", job_id, job_id)
        assert len(posts(polaris)) == 1

    @pytest.mark.parametrize("clear", [False, True], ids=["retry", "clear"])
    def test_a_job_that_completed_meanwhile_is_not_loaded_again(self, polaris, clear):
        task = Task()
        job_id = self.lost(polaris, task, "completed")
        if clear:
            task.clear()
        assert task.run().xcom["job_id"] == job_id
        assert len(posts(polaris)) == 1

    @pytest.mark.parametrize(("state", "owed"), [("failed", "PolarisJobFailed"), ("canceled", "PolarisJobCanceled")])
    def test_a_retry_gives_the_verdict_that_was_owed_and_a_clear_loads_again(self, polaris, state, owed):
        task = Task()
        self.lost(polaris, task, state)
        assert task.run().kind == owed
        task = Task()
        self.lost(polaris, task, state)
        task.clear()
        polaris.next_job("complete")
        assert task.run().kind == "success"

    def test_after_a_job_that_failed_a_retry_loads_again(self, polaris):
        task = Task()
        polaris.next_job("fail")
        assert task.run().kind == "PolarisJobFailed"
        polaris.next_job("complete")
        assert task.run().kind == "success"
        assert len(posts(polaris)) == 2

    @pytest.mark.parametrize("options", [{}, {"min_rows_processed": 99}], ids=["passed", "refused"])
    def test_a_verdict_that_a_crash_swallowed_is_given_again_and_a_clear_loads_again(self, polaris, options):
        task = Task()
        polaris.next_job("complete", metrics=ROWS)
        first = task.run(**options)
        again = task.run(**options)  # only a worker that was lost after the verdict gets Airflow to try again
        assert again.kind == first.kind
        assert again.pushed["job_id"] == first.pushed["job_id"]
        assert len(posts(polaris)) == 1
        task.clear()
        polaris.next_job("complete", metrics=ROWS)
        assert task.run(**options).pushed["job_id"] != first.pushed["job_id"]

    def test_a_job_that_is_gone_is_said(self, polaris):
        task = Task()
        polaris.remove_job(self.lost(polaris, task))
        outcome = task.run()
        assert outcome.kind == "PolarisJobLost"
        assert "no longer has it" in str(outcome.error)

    def test_rubbish_in_the_store_is_as_nothing(self, polaris):
        task = Task()
        for rubbish in (
            "x",
            {"state": "odd"},
            {"state": "waiting", "clear_generation": "1"},
            {"state": "waiting", "clear_generation": 1, "at": 0},
        ):
            task.store.set(KEY, rubbish)
            polaris.next_job("complete")
            assert task.run().kind == "success"

    def test_a_store_that_fails_before_the_post_sends_nothing_and_after_it_ends_nothing(self, polaris, monkeypatch):
        task = Task()
        noted = []

        def note(self, key, value):
            noted.append(value["state"])
            if value["state"] in broken:
                raise OSError("the API server is gone")
            FakeStore.set_(self, key, value)

        FakeStore.set_ = FakeStore.set
        monkeypatch.setattr(FakeStore, "set", note)
        broken = {"sending"}
        assert task.run().kind == "OSError"
        assert not posts(polaris)
        broken = {"waiting"}
        polaris.next_job("complete")
        assert task.run().kind == "success"
        assert noted[-1] == "passed"


class TestLostAnswers:
    """A POST that may have been received is not sent again."""

    @pytest.mark.parametrize("fault", ["after", "mid-body", 503, 500])
    def test_of_a_query_the_job_is_found_by_its_marker(self, polaris, fault):
        if fault == "after":
            polaris.drop_next(when="after", match="POST")
            polaris.next_job("complete")
            outcome = Task().run()
            assert outcome.kind == "success", outcome.error
        else:
            if isinstance(fault, int):
                polaris.fail_next(1, status=fault, match="POST")
            else:
                polaris.drop_next(when=fault, match="POST")
            outcome = Task().run()
            assert outcome.kind == "PolarisUnreachable", "there is no job, and a retry may send the spec again"
        assert len(posts(polaris)) <= 1

    def test_a_job_that_comes_late_is_found_too(self, polaris, moved_clock):
        polaris.fail_next(1, status=503, match="POST")
        task = Task()
        marker = []

        def arrive():
            if moved_clock.time - start > IN_FLIGHT_SECONDS / 2 and not marker:
                marker.append(f"{SQL['query']} /* {task.store.get(KEY)['marker']} */")
                polaris.add_job(type="sql", query=marker[0], target={"type": "table", "tableName": "by_sql"},
                                executionStatus="completed")  # fmt: skip

        start = moved_clock.time
        moved_clock.on_sleep = arrive
        assert task.run().kind == "success"

    @pytest.mark.parametrize("store", [True, False], ids=["3.3", "before 3.3"])
    @pytest.mark.parametrize("fault", ["after", 503])
    def test_of_any_other_spec_the_task_fails_and_says_where_to_look(self, polaris, hook, store, fault):
        spec = {**SPEC, "target": {"type": "table", "tableName": f"lost-{store}-{fault}"}}
        if fault == "after":
            polaris.drop_next(when="after", match="POST")
        else:
            polaris.fail_next(1, status=fault, match="POST")
        task = Task(store=store)
        outcome = task.run(spec)
        assert outcome.kind == "PolarisJobLost"
        assert f"table '{spec['target']['tableName']}'" in str(outcome.error)
        assert "The spec was sent at 20" in str(outcome.error)
        assert len(jobs_of(hook, spec["target"]["tableName"])) == (fault == "after")
        task.clear()
        assert task.run(spec, poll_interval=1, timeout=10**8).kind == "success", "whoever clears it wants another load"

    @pytest.mark.parametrize("spec", [SQL, SPEC], ids=["sql", "batch"])
    def test_what_cannot_have_been_received_is_sent_again_by_a_retry(self, polaris, monkeypatch, spec):
        task = Task()
        right = polaris.connection_json
        monkeypatch.setenv(
            "AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps({**json.loads(right), "host": "http://127.0.0.1:9"})
        )
        assert isinstance(task.run(spec).error, PolarisUnreachable)
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", right)
        polaris.next_job("complete")
        assert task.run(spec, poll_interval=1, timeout=10**8).kind == "success"

    def test_a_spec_that_polaris_refuses_is_no_job(self, polaris):
        task = Task()
        polaris.fail_next(1, status=400, match="POST")
        assert task.run().kind == "PolarisBadRequest"
        polaris.next_job("complete")
        assert task.run().kind == "success"


class TestBefore33:
    """Without a store: a query's job is found by its marker, and any other retry fails, saying why."""

    def test_a_retry_finds_the_job_of_a_query(self, polaris):
        task = Task(store=False)
        polaris.next_job("hang")
        job_id = task.run(timeout=60).pushed["job_id"]
        polaris.set_status(job_id, "completed")
        assert task.run().xcom["job_id"] == job_id
        task.clear()
        polaris.next_job("complete")
        assert task.run().xcom["job_id"] != job_id
        assert len(posts(polaris)) == 2

    def test_a_retry_that_finds_none_loads(self, polaris):
        task = Task(store=False)
        polaris.fail_next(1, status=400, match="POST")
        task.run()
        polaris.next_job("complete")
        assert task.run().kind == "success"

    def test_a_retry_of_any_other_spec_fails_and_a_clear_loads(self, polaris):
        task = Task(store=False)
        spec = {**SPEC, "target": {"type": "table", "tableName": "before"}}
        polaris.next_job("fail", table="before")
        assert task.run(spec, poll_interval=1, timeout=10**8).kind == "PolarisJobFailed"
        outcome = task.run(spec)
        assert outcome.kind == "PolarisJobLost"
        assert "Before Airflow 3.3 a task cannot store which" in str(outcome.error)
        task.clear()
        assert task.run(spec, poll_interval=1, timeout=10**8).kind == "success"

    def test_another_tasks_marker_is_another(self):
        from airflow_provider_polaris.submission.submission_record import SubmissionRecord

        def marker(**changes):
            ti = FakeTaskInstance()
            vars(ti).update(changes)
            return SubmissionRecord({"ti": ti}, 0).marker

        others = [{"map_index": 3}, {"run_id": "x"}, {"task_id": "x"}, {"dag_id": "x"}, {"max_tries": 1}]
        assert len({marker(), *(marker(**other) for other in others)}) == 6


@BOTH
def test_an_event_of_an_unknown_shape_fails_the_task(polaris, deferrable):
    operator = PolarisCreateJobOperator(task_id="load", job_spec=SQL)
    for event in (None, {}, {"outcome": "job", "job": {}}, {"outcome": "new", "job": {"id": "j"}}, "x"):
        with pytest.raises(Exception, match="event of the trigger"):
            operator.execute_complete(Task().context(), event)


def test_a_large_spec_is_sent_and_is_nowhere_else(polaris, task_log):
    word = "Wortschwall"
    data = "".join(json.dumps({"timestamp": "2026-11-01", "city": f"{word} {n}"}) + "\n" for n in range(90_000))
    spec = {**SPEC, "source": {**SPEC["source"], "data": data}, "target": {"type": "table", "tableName": "large"}}
    assert len(json.dumps(spec)) > 5_000_000
    task = Task()
    deferred = []
    outcome = task.run(
        spec, deferrable=True, poll_interval=0.5, timeout=10**8, between=lambda: deferred.append(task.store[KEY])
    )
    assert outcome.kind == "success", outcome.error
    assert outcome.xcom["metrics"]["numRowsProcessed"] == 90_000
    assert word not in json.dumps([outcome.xcom, outcome.pushed, outcome.event, task.store, deferred])
    assert not [line for line in task_log() if word in line]


def test_a_version_without_a_store_is_what_it_is():
    """The tests above bring their own store; this holds that the context's key is what Airflow calls it."""
    if not AIRFLOW_3:
        pytest.skip("3.3 brought it")
    from airflow.sdk.definitions.context import Context

    assert "task_state_store" in Context.__annotations__
