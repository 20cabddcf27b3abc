"""A job is created once, across retries and clears: the job of an earlier try is found, and no verdict gets lost."""

from __future__ import annotations

import json

import pytest

from airflow_provider_polaris.api.errors import PolarisUnreachable
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.submission.submission_record import KEY
from airflow_provider_polaris.submission.submit_once import (
    IN_FLIGHT_SECONDS,
    MOST_SENDS,
    SEARCH_PAUSE_SECONDS,
    SEARCHED_JOBS,
)
from tests.support.airflow_versions import FakeTaskInstance
from tests.support.create_tasks import LONG, FakeStore, Running, Task, arrived, jobs_of, posts
from tests.support.run_task import both_modes, outcome_of
from tests.support.specs import SPEC, SQL, query_into_a_new_table, rows_into_a_new_table, spec_into_a_new_table

ROWS = {"numRowsProcessed": 5, "numRowsSkippedByError": 1}
MARKER = f"airflow-provider-polaris {'0a' * 16} {'1b' * 8}"

pytestmark = pytest.mark.usefixtures("moved_clock")


class TestARetryOn33:
    """A retry or a cleared task finds the job of an earlier try by its note, on Airflow 3.3 and later."""

    def lost(self, polaris, task, state="running", **options):
        """Let a try end without a verdict, then set the state of its job. Return the id of the job."""
        polaris.next_job("hang", table="by_sql")
        outcome = task.run(timeout=60, **options)
        assert outcome.kind == "PolarisJobTimeout"
        polaris.set_status(outcome.pushed["job_id"], state)
        return outcome.pushed["job_id"]

    @both_modes
    def test_a_retry_continues_with_the_running_job(self, polaris, deferrable):
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
    def test_a_retry_gives_the_missing_verdict_and_a_clear_loads_again(self, polaris, state, owed):
        task = Task()
        self.lost(polaris, task, state)
        assert task.run().kind == owed
        task = Task()
        self.lost(polaris, task, state)
        task.clear()
        polaris.next_job("complete")
        assert task.run().kind == "success"

    def test_a_retry_after_a_failed_job_loads_again(self, polaris):
        task = Task()
        polaris.next_job("fail")
        assert task.run().kind == "PolarisJobFailed"
        polaris.next_job("complete")
        assert task.run().kind == "success"
        assert len(posts(polaris)) == 2

    @pytest.mark.parametrize("options", [{}, {"min_rows_processed": 99}], ids=["passed", "refused"])
    def test_a_verdict_lost_in_a_crash_is_given_again_and_a_clear_loads_again(self, polaris, options):
        task = Task()
        polaris.next_job("complete", metrics=ROWS)
        first = task.run(**options)
        again = task.run(**options)  # Airflow retries here only if a worker was lost after the verdict
        assert again.kind == first.kind
        assert again.pushed["job_id"] == first.pushed["job_id"]
        assert len(posts(polaris)) == 1
        task.clear()
        polaris.next_job("complete", metrics=ROWS)
        assert task.run(**options).pushed["job_id"] != first.pushed["job_id"]

    def test_a_job_that_polaris_no_longer_has_is_reported(self, polaris):
        task = Task()
        polaris.remove_job(self.lost(polaris, task))
        outcome = task.run()
        assert outcome.kind == "PolarisJobLost"
        assert "no longer has it" in str(outcome.error)

    def test_an_unreadable_note_does_not_stop_a_first_try(self, polaris):
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

    def test_a_failing_store_prevents_the_post_and_does_not_end_the_wait_after_it(self, polaris, monkeypatch):
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


@pytest.mark.parametrize("kind", ["sql", "batch"])
@pytest.mark.parametrize("store", [True, False], ids=["3.3", "before 3.3"])
class TestALostResponseToASpecWithAMarker:
    """A spec whose response was lost is sent again only if no job with its marker appears."""

    @pytest.mark.parametrize("fault", ["after", "before", "mid-body", 503, 500])
    def test_the_data_is_loaded_once_in_the_same_try(self, polaris, hook, kind, store, fault):
        table, spec = spec_into_a_new_table(kind)
        if isinstance(fault, int):
            polaris.fail_next(1, status=fault, match="POST")
        else:
            polaris.drop_next(when=fault, match="POST")
        polaris.next_job("complete", table=table)
        outcome = Task(store=store).run(spec)
        assert outcome.kind == "success", outcome.error
        assert [job.id for job in jobs_of(hook, table)] == [outcome.xcom["job_id"]]
        assert len(posts(polaris)) == (1 if fault == "after" else 2)

    @pytest.mark.parametrize("step", ["before", "after"])
    def test_a_worker_that_is_lost_while_it_sends_the_spec_never_loads_twice(
        self, polaris, hook, monkeypatch, kind, store, step
    ):
        class Sigkill(BaseException):
            pass

        table, spec = spec_into_a_new_table(kind)
        task, right = Task(store=store), PolarisHook.create_job

        def die(hook, spec):
            if step == "after":
                right(hook, spec)
            raise Sigkill

        monkeypatch.setattr(PolarisHook, "create_job", die)
        polaris.next_job("complete", table=table)
        with pytest.raises(Sigkill):
            task.run(spec)
        monkeypatch.setattr(PolarisHook, "create_job", right)
        outcome = task.run(spec)
        assert outcome.kind == "success", outcome.error
        assert [job.id for job in jobs_of(hook, table)] == [outcome.xcom["job_id"]]
        assert len(posts(polaris)) == 1

    def test_a_job_that_appears_late_is_found(self, polaris, hook, moved_clock, sent, kind, store):
        table, spec = spec_into_a_new_table(kind)
        polaris.fail_next(1, status=503, match="POST")
        start = moved_clock.time

        def arrive():
            if moved_clock.time - start > IN_FLIGHT_SECONDS / 2 and not jobs_of(hook, table):
                polaris.set_status(arrived(polaris, sent[0]), "completed")

        moved_clock.on_sleep = arrive
        assert Task(store=store).run(spec).kind == "success"
        assert len(posts(polaris)) == 1

    def test_a_job_of_the_first_send_is_found_after_the_second(self, polaris, hook, moved_clock, sent, kind, store):
        table, spec = spec_into_a_new_table(kind)
        polaris.fail_next(2, status=503, match="POST")

        def arrive():
            if len(posts(polaris)) == 2 and not jobs_of(hook, table):
                polaris.set_status(arrived(polaris, sent[0]), "completed")

        moved_clock.on_sleep = arrive
        assert Task(store=store).run(spec).kind == "success"
        assert len(posts(polaris)) == 2

    def test_two_jobs_with_the_marker_are_reported(self, polaris, moved_clock, sent, kind, store):
        """A gateway may repeat a request, and return an error for the second."""
        _, spec = spec_into_a_new_table(kind)
        polaris.fail_next(1, status=503, match="POST")
        jobs = []

        def arrive():
            if len(jobs) < 2:
                jobs.extend(arrived(polaris, sent[0]) for _ in range(2))

        moved_clock.on_sleep = arrive
        outcome = Task(store=store).run(spec)
        assert outcome.kind == "PolarisJobLost"
        assert "may be loaded twice" in str(outcome.error)
        assert all(job_id in str(outcome.error) for job_id in jobs)
        assert len(posts(polaris)) == 1

    def test_a_spec_is_sent_at_most_three_times_and_a_retry_sends_it_again(self, polaris, hook, kind, store):
        table, spec = spec_into_a_new_table(kind)
        task = Task(store=store)
        polaris.fail_next(MOST_SENDS, status=503, match="POST")
        outcome = task.run(spec)
        assert outcome.kind == "PolarisUnreachable"
        assert f"No job was created for table '{table}'. Each of 3 responses to the spec was lost" in str(outcome.error)
        assert "Look for the job" not in str(outcome.error)
        assert len(posts(polaris)) == MOST_SENDS
        polaris.next_job("complete", table=table)
        assert task.run(spec).kind == "success"
        assert len(jobs_of(hook, table)) == 1

    def test_an_outage_during_the_search_does_not_end_the_search(self, polaris, hook, kind, store):
        table, spec = spec_into_a_new_table(kind)
        polaris.add_table(table)
        polaris.drop_next(when="after", match="POST")
        polaris.next_job("complete", table=table)
        polaris.fail_next(12, status=503, match=f"GET .*/jobs{'' if kind == 'sql' else '/'}")
        assert Task(store=store).run(spec).kind == "success"
        assert len(posts(polaris)) == 1

    def test_an_outage_until_the_end_of_the_search_is_retried_without_a_second_job(self, polaris, hook, kind, store):
        table, spec = spec_into_a_new_table(kind)
        task = Task(store=store)
        polaris.drop_next(when="after", match="POST")
        polaris.fail_next(10_000, status=503, match="GET .*/jobs.*" if kind == "sql" else "GET .*/jobs/")
        outcome = task.run(spec)
        polaris.clear_faults()
        assert outcome.kind == "PolarisUnreachable"
        assert "its response was lost" in str(outcome.error)
        assert "The search for the job failed" in str(outcome.error)
        polaris.set_status(jobs_of(hook, table)[0].id, "completed")
        assert task.run(spec).kind == "success"
        assert len(posts(polaris)) == 1

    def test_a_user_who_kills_the_task_during_the_search_stops_the_second_send(
        self, polaris, moved_clock, state, kind, store
    ):
        _, spec = spec_into_a_new_table(kind)
        state.value = "failed"
        running = Running(polaris, moved_clock, job_spec=spec)
        running.task.store = running.store if store else None
        polaris.fail_next(1, status=503, match="POST")
        moved_clock.on_sleep = lambda: running.kill() if len(moved_clock.slept) == 2 else None
        context = running.task.context()
        assert outcome_of(lambda: running.operator.execute(context), context["ti"]).kind == "PolarisTaskKilled"
        assert len(posts(polaris)) == 1


def test_a_try_that_airflow_counts_as_lost_does_not_send_its_spec_again(polaris, hook, moved_clock):
    """Airflow starts the next try when it hears nothing from the worker, which may still run."""
    table, spec = spec_into_a_new_table("batch")
    task, outcomes = Task(), []
    polaris.fail_next(1, status=503, match="POST")
    polaris.next_job("complete", table=table)

    def start_another_try():
        moved_clock.on_sleep = None
        outcomes.append(task.run(spec))

    moved_clock.on_sleep = start_another_try
    assert task.run(spec).kind == "PolarisTaskKilled"
    assert outcomes[0].kind == "success", outcomes[0].error
    assert len(jobs_of(hook, table)) == 1
    assert task.store.get(KEY)["state"] == "passed"


class TestALostResponse:
    """A POST that may have been received is not sent again while its job may appear."""

    @pytest.mark.parametrize("spec", [SQL, SPEC], ids=["sql", "batch"])
    def test_a_retry_sends_a_spec_again_that_polaris_cannot_have_received(self, polaris, monkeypatch, spec):
        task = Task()
        right = polaris.connection_json
        monkeypatch.setenv(
            "AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps({**json.loads(right), "host": "http://127.0.0.1:9"})
        )
        assert isinstance(task.run(spec).error, PolarisUnreachable)
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", right)
        polaris.next_job("complete")
        assert task.run(spec, poll_interval=1, timeout=10**8).kind == "success"

    def test_jobs_without_the_marker_are_requested_once_and_old_jobs_never(self, polaris, moved_clock):
        """The search is repeated until the spec can no longer arrive."""
        table, spec = query_into_a_new_table()
        target = {"type": "table", "tableName": table}
        old = polaris.add_job(type="sql", target=target, createdTimestamp="2020-01-01T00:00:00Z")
        other = polaris.add_job(type="sql", target=target, executionStatus="completed")
        polaris.requests.clear()
        polaris.fail_next(MOST_SENDS, status=503, match="POST")
        assert Task().run(spec).kind == "PolarisUnreachable"
        searches = [request for request in polaris.requests if request.path.endswith("/jobs") and request.query]
        assert len(searches) > IN_FLIGHT_SECONDS / SEARCH_PAUSE_SECONDS
        paths = [request.path for request in polaris.requests]
        assert sum(path.endswith(other) for path in paths) == 1
        assert not any(path.endswith(old) for path in paths)

    def test_a_job_that_completes_although_it_is_being_canceled_is_not_loaded_again(self, polaris, moved_clock):
        table, spec = query_into_a_new_table()
        task = Task(store=False)
        polaris.cancel_checks = 99
        polaris.next_job("hang", table=table)
        job_id = task.run(spec, timeout=60, cancel_on_timeout=True).pushed["job_id"]
        moved_clock.on_sleep = lambda: polaris.set_status(job_id, "completed")
        assert task.run(spec).xcom["job_id"] == job_id
        assert len(posts(polaris)) == 1

    def test_an_unknown_project_is_named_as_the_likely_fault(self, polaris):
        polaris.fail_next(1, status=404, match="POST")
        outcome = Task().run()
        assert outcome.kind == "PolarisNotFound"
        assert "No job was created for table 'by_sql'" in str(outcome.error)
        assert "Check the project id" in str(outcome.error)

    def test_a_connection_that_disappears_while_the_spec_is_sent_does_not_count_as_a_sent_spec(
        self, polaris, monkeypatch, airflow_db
    ):
        """Polaris rejects the key, and the lookup of a new key finds no connection."""
        right = PolarisHook.create_job

        def create_job(hook, spec):
            monkeypatch.delenv("AIRFLOW_CONN_POLARIS_DEFAULT")
            return right(hook, spec)

        monkeypatch.setattr(PolarisHook, "create_job", create_job)
        polaris.fail_next(1, status=401, match="POST")
        task = Task()
        assert task.run().kind == "PolarisConnectionMissing"
        assert task.store.get(KEY)["state"] == "failed"

    def test_a_retry_sends_a_spec_again_that_polaris_rejected(self, polaris):
        task = Task()
        polaris.fail_next(1, status=400, match="POST")
        assert task.run().kind == "PolarisBadRequest"
        polaris.next_job("complete")
        assert task.run().kind == "success"


class TestARetryBefore33:
    """Without a store the job of a query is found by its marker, and any other retry fails with a reason."""

    @pytest.mark.parametrize("kind", ["sql", "batch"])
    def test_a_retry_finds_the_job_by_its_marker_and_a_clear_loads_again(self, polaris, kind):
        _, spec = spec_into_a_new_table(kind)
        task = Task(store=False)
        polaris.next_job("hang")
        job_id = task.run(spec, timeout=60).pushed["job_id"]
        polaris.set_status(job_id, "completed")
        assert task.run(spec).xcom["job_id"] == job_id
        task.clear()
        polaris.next_job("complete")
        assert task.run(spec).xcom["job_id"] != job_id
        assert len(posts(polaris)) == 2

    def test_a_retry_that_finds_no_job_loads(self, polaris):
        task = Task(store=False)
        polaris.fail_next(1, status=400, match="POST")
        task.run()
        polaris.next_job("complete")
        assert task.run().kind == "success"

    @pytest.mark.parametrize("options", [{}, {"mark_jobs": False}], ids=["marked", "not marked"])
    def test_a_retry_after_a_failed_job_loads_again(self, polaris, options):
        table, spec = spec_into_a_new_table("batch")
        task = Task(store=False)
        polaris.next_job("fail", table=table)
        assert task.run(spec, **options).kind == "PolarisJobFailed"
        polaris.next_job("complete", table=table)
        assert task.run(spec, **options).kind == "success"

    def test_a_retry_after_a_failed_job_does_not_wait_for_a_spec_on_its_way(self, polaris, moved_clock):
        table, spec = spec_into_a_new_table("batch")
        task = Task(store=False)
        polaris.next_job("fail", table=table)
        task.run(spec)
        began = moved_clock.time
        polaris.next_job("complete", table=table)
        assert task.run(spec, deferrable=False, poll_interval=1).kind == "success"
        assert moved_clock.time - began < IN_FLIGHT_SECONDS

    @pytest.mark.parametrize("kind", ["sql", "batch"])
    def test_a_retry_waits_for_a_spec_on_its_way_after_an_earlier_try_failed(
        self, polaris, hook, moved_clock, monkeypatch, kind
    ):
        """The job of the first try failed. The worker of the second was lost when it had sent its spec."""

        class Sigkill(BaseException):
            pass

        table, spec = spec_into_a_new_table(kind)
        task, on_its_way, right = Task(store=False), [], PolarisHook.create_job
        polaris.next_job("fail", table=table)
        assert task.run(spec).kind == "PolarisJobFailed"

        def die(_, spec):
            on_its_way.append(spec)
            raise Sigkill

        monkeypatch.setattr(PolarisHook, "create_job", die)
        with pytest.raises(Sigkill):
            task.run(spec)
        monkeypatch.setattr(PolarisHook, "create_job", right)

        def arrive():
            if on_its_way:
                arrived(polaris, on_its_way.pop(), executionStatus="completed")

        moved_clock.on_sleep = arrive
        outcome = task.run(spec)
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["job_id"] == jobs_of(hook, table)[-1].id
        assert len(jobs_of(hook, table)) == 2

    def test_a_retry_without_a_marker_fails_if_the_table_has_a_new_job_and_a_clear_loads(self, polaris):
        table, spec = spec_into_a_new_table("batch")
        task = Task(store=False)
        polaris.next_job("hang", table=table)
        job_id = task.run(spec, mark_jobs=False, timeout=60).pushed["job_id"]
        outcome = task.run(spec, mark_jobs=False)
        assert outcome.kind == "PolarisJobLost"
        assert "Before Airflow 3.3 a task cannot store the id of its job" in str(outcome.error)
        assert f"It may be job {job_id}" in str(outcome.error)
        task.clear()
        polaris.next_job("complete", table=table)
        assert task.run(spec, mark_jobs=False).kind == "success"

    def test_a_retry_does_not_trust_the_absence_of_a_marker_if_the_task_sent_none_before(self, polaris, hook):
        """Somebody changes ``mark_jobs`` between two tries, and other tasks mark their jobs."""
        table, spec = spec_into_a_new_table("batch")
        polaris.next_job("complete", table=table)
        assert Task(store=False).run(spec).kind == "success"
        task = Task(store=False)
        polaris.next_job("hang", table=table)
        task.run(spec, mark_jobs=False, timeout=60)
        assert task.run(spec).kind == "PolarisJobLost"
        assert len(jobs_of(hook, table)) == 2

    def test_each_task_instance_has_its_own_marker(self):
        from airflow_provider_polaris.submission.submission_record import SubmissionRecord

        def marker(**changes):
            ti = FakeTaskInstance()
            vars(ti).update(changes)
            return SubmissionRecord({"ti": ti}, 0).marker

        others = [{"map_index": 3}, {"run_id": "x"}, {"task_id": "x"}, {"dag_id": "x"}, {"max_tries": 1}]
        assert len({marker(), *(marker(**other) for other in others)}) == 6


def test_a_retry_fails_for_another_retry_while_the_job_is_still_being_canceled(polaris, hook):
    task = Task()
    polaris.next_job("hang")
    polaris.cancel_checks = 99
    job_id = task.run(cancel_on_timeout=True).pushed["job_id"]
    assert task.run().kind == "PolarisJobTimeout"
    polaris.set_status(job_id, "completed")
    assert task.run().xcom["job_id"] == job_id, "the job completed in the same second, and its data is there"
    assert len(posts(polaris)) == 1


class TestAJobIsNotCreatedTwice:
    @pytest.mark.parametrize(("newer", "kind"), [(SEARCHED_JOBS - 1, "success"), (SEARCHED_JOBS, "PolarisJobLost")])
    def test_a_job_behind_many_newer_jobs_is_found_or_reported_as_lost(self, polaris, moved_clock, newer, kind):
        table, spec = query_into_a_new_table()
        task = Task(store=False)
        polaris.next_job("hang", table=table)
        polaris.set_status(task.run(spec, timeout=60).pushed["job_id"], "completed")
        for _ in range(newer):
            polaris.add_job(type="sql", target={"type": "table", "tableName": table}, executionStatus="completed")
        polaris.next_job("complete", table=table)
        assert task.run(spec).kind == kind
        assert len(posts(polaris)) == 1

    def test_the_search_for_a_job_starts_when_its_spec_was_last_sent(self, polaris, hook, moved_clock, sent):
        """The spec is sent after two minutes of 429. Its response is cut, and the job appears a little later."""
        table, spec = query_into_a_new_table()
        task = Task()
        polaris.fail_next(4, status=429, retry_after=30, match="POST")
        polaris.fail_next(1, status=503, match="POST")

        def arrive():
            if moved_clock.slept[-1] == 15 and not jobs_of(hook, table):  # the first search has found nothing
                where = {"type": "table", "tableName": table}
                polaris.add_job(type="sql", query=sent[0]["query"], target=where, executionStatus="completed")

        moved_clock.on_sleep = arrive
        assert task.run(spec).kind == "success"
        assert len(jobs_of(hook, table)) == 1

    def test_the_job_of_a_worker_that_was_lost_while_sending_is_found(self, polaris, hook, moved_clock):
        table, spec = query_into_a_new_table()
        task = Task()
        note = {
            "state": "sending",
            "clear_generation": 1,
            "at": moved_clock.time,
            "marker": MARKER,
        }
        task.store.set(KEY, note)
        task.try_number = 1
        moved_clock.time += 130  # longer than a spec takes to arrive, and shorter than 429s may delay it
        query = f'INSERT INTO "{table}" SELECT 1\n/* {MARKER} */'

        def arrive():
            if not jobs_of(hook, table):
                where = {"type": "table", "tableName": table}
                polaris.add_job(type="sql", query=query, target=where, executionStatus="completed")

        moved_clock.on_sleep = arrive
        assert task.run(spec).kind == "success"
        assert not posts(polaris)

    @pytest.mark.parametrize(("before", "after", "is_query"), [(5, 2, True), (5, 2, False), (2, 5, True)])
    def test_a_dag_file_may_change_its_retries_between_two_tries(self, polaris, moved_clock, before, after, is_query):
        spec = query_into_a_new_table()[1] if is_query else rows_into_a_new_table()
        task = Task(store=False, retries=before)
        polaris.next_job("hang")
        task.run(spec, timeout=60)
        task.retries = after  # max_tries does not change, as in Airflow's database
        polaris.next_job("complete")
        assert task.run(spec, **LONG).kind == "PolarisJobLost"
        assert len(posts(polaris)) == 1

    def test_a_dag_file_may_change_its_retries_before_the_first_try(self, polaris, moved_clock):
        task = Task(store=False, retries=2)
        task.retries = 5
        assert task.run(rows_into_a_new_table(), **LONG).kind == "success"

    @pytest.mark.parametrize("what", ["unhealthy", "canceled"])
    def test_a_verdict_that_could_not_be_pushed_is_given_again(self, polaris, hook, moved_clock, monkeypatch, what):
        table, spec = query_into_a_new_table()
        task = Task()
        polaris.next_job("hang", table=table)
        unhealthy = {"executionStatus": "running", "health": {"status": "error", "code": "c"}}
        bad = unhealthy if what == "unhealthy" else {"executionStatus": "canceled"}
        moved_clock.on_sleep = lambda: polaris.set_fields(jobs_of(hook, table)[-1].id, **bad)
        right = FakeTaskInstance.xcom_push

        def push(self, key, value, **options):
            if key == "metrics":
                raise ConnectionError("the API server is gone")
            right(self, key, value, **options)

        monkeypatch.setattr(FakeTaskInstance, "xcom_push", push)
        assert task.run(spec, deferrable=False, fail_on_unhealthy=True).kind == "ConnectionError"
        monkeypatch.setattr(FakeTaskInstance, "xcom_push", right)
        again = task.run(spec, deferrable=False, fail_on_unhealthy=True)
        assert again.kind == ("PolarisGateRefused" if what == "unhealthy" else "PolarisJobCanceled")
        assert len(posts(polaris)) == 1

    def test_a_clear_continues_with_a_job_that_was_refused_while_it_ran(self, polaris, hook, moved_clock):
        table, spec = query_into_a_new_table()
        task = Task()
        polaris.next_job("hang", table=table)
        bad = {"executionStatus": "running", "health": {"status": "error", "code": "c"}}
        moved_clock.on_sleep = lambda: polaris.set_fields(jobs_of(hook, table)[-1].id, **bad)
        assert task.run(spec, fail_on_unhealthy=True, deferrable=False).kind == "PolarisGateRefused"
        task.clear()
        assert task.run(spec, fail_on_unhealthy=True, deferrable=False).kind == "PolarisGateRefused"
        assert len(posts(polaris)) == 1, "two jobs would load at the same time"

    @pytest.mark.parametrize(
        "garbage", ["x", {"state": "paused", "clear_generation": 1, "at": 1.0, "job_id": "j"}], ids=str
    )
    def test_a_retry_that_cannot_read_its_note_does_not_load_again(self, polaris, moved_clock, garbage):
        _, spec = query_into_a_new_table()
        task = Task()
        polaris.next_job("hang")
        polaris.set_status(task.run(spec, timeout=60).pushed["job_id"], "completed")
        task.store.set(KEY, garbage)
        assert task.run(spec).kind == "success"
        task.store.set(KEY, garbage)
        polaris.add_job(type="batch", target={"type": "table", "tableName": "unread"}, executionStatus="completed")
        other_spec = {**SPEC, "target": {"type": "table", "tableName": "unread"}}
        assert task.run(other_spec).kind == "PolarisJobLost"
        assert len(posts(polaris)) == 1

    def test_a_job_that_an_unknown_user_canceled_is_not_loaded_again(self, polaris, moved_clock):
        table, spec = query_into_a_new_table()
        task = Task(store=False)
        polaris.next_job("hang", table=table)
        job_id = task.run(spec, timeout=60).pushed["job_id"]
        polaris.set_fields(job_id, executionStatus="canceled", createdBy=None, lastModifiedBy=None)
        assert task.run(spec).kind == "PolarisJobCanceled"
        assert len(posts(polaris)) == 1


class TestAClearedTaskMayHaveAnotherSpec:
    @pytest.mark.parametrize("kind", ["sql", "batch"])
    def test_a_task_that_is_cleared_with_another_spec_loads_the_new_spec(self, polaris, hook, moved_clock, kind):
        (old, old_spec), (new, new_spec) = spec_into_a_new_table(kind), spec_into_a_new_table(kind)
        task = Task()
        polaris.next_job("hang", table=old)
        first = task.run(old_spec, timeout=60)
        task.clear()
        running_yet = task.run(new_spec)
        assert running_yet.kind == "PolarisJobStillRunning"
        assert "from another spec" in str(running_yet.error)
        assert first.pushed["job_id"] in str(running_yet.error)
        polaris.set_status(first.pushed["job_id"], "completed")
        task.clear()
        polaris.next_job("complete", table=new)
        assert task.run(new_spec).kind == "success"
        assert len(jobs_of(hook, new)) == 1

    def test_a_cleared_task_fails_if_the_response_to_its_old_spec_was_lost(self, polaris, moved_clock):
        task = Task()
        task.store.set(
            KEY, {"state": "sending", "clear_generation": 1, "at": moved_clock.time, "spec": "of something else"}
        )
        task.try_number = 1
        task.clear()
        assert task.run(query_into_a_new_table()[1]).kind == "PolarisJobLost"
        assert not posts(polaris)


class TestFailuresAroundASubmission:
    def test_a_retry_without_a_store_loads_a_failed_query_again(self, polaris, moved_clock):
        table, spec = query_into_a_new_table()
        task = Task(store=False)
        polaris.next_job("fail", table=table)
        polaris.next_job("complete", table=table)
        assert task.run(spec).kind == "PolarisJobFailed"
        assert task.run(spec).kind == "success"

    def test_a_missing_connection_does_not_count_as_a_sent_spec(self, polaris, moved_clock, monkeypatch):
        task, spec, right = Task(), rows_into_a_new_table(), polaris.connection_json
        monkeypatch.delenv("AIRFLOW_CONN_POLARIS_DEFAULT")
        assert task.run(spec).kind == "PolarisConnectionMissing"
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", right)
        assert task.run(spec, **LONG).kind == "success"

    def test_a_clear_loads_again_when_the_job_is_gone(self, polaris, moved_clock):
        task = Task()
        polaris.next_job("hang")
        polaris.remove_job(task.run(timeout=60).pushed["job_id"])
        assert "clear this task to load again" in str(task.run().error)
        task.clear()
        polaris.next_job("complete")
        assert task.run().kind == "success"

    def test_one_404_does_not_prove_that_a_job_is_gone(self, polaris, moved_clock):
        task = Task()
        polaris.next_job("hang")
        task.run(timeout=60)
        polaris.fail_next(1, status=404, match="GET .*/jobs/")
        assert task.run(timeout=60).kind == "PolarisJobTimeout"

    @pytest.mark.parametrize("broken", ["canceling", "failed"])
    def test_a_failing_store_does_not_hide_the_error_of_the_job(self, polaris, moved_clock, monkeypatch, broken):
        task, right = Task(), FakeStore.set

        def note(self, key, value):
            if value["state"] == broken:
                raise OSError("the API server is gone")
            right(self, key, value)

        monkeypatch.setattr(FakeStore, "set", note)
        if broken == "failed":
            polaris.fail_next(1, status=400, match="POST")
            assert task.run(rows_into_a_new_table()).kind == "PolarisBadRequest"
        else:
            polaris.next_job("hang")
            assert task.run(timeout=60, cancel_on_timeout=True).kind == "PolarisJobTimeout"
