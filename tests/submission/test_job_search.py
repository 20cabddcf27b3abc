"""A spec without a marker: the new jobs of the table show whether Polaris has received the spec."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_polaris.submission import job_search
from airflow_provider_polaris.submission.job_search import KNOWN_JOBS, SEARCHED_JOBS
from airflow_provider_polaris.submission.submission_record import KEY, SubmissionRecord
from tests.support.airflow_versions import FakeTaskInstance
from tests.support.create_tasks import Task, arrived, jobs_of, posts
from tests.support.specs import DELETE, SQL, STREAMING, spec_into_a_new_table

pytestmark = pytest.mark.usefixtures("moved_clock")

OTHER_USER = {"username": "someone-else", "userId": "1"}
FOREIGN = f"airflow-provider-polaris {'ab' * 16} {'cd' * 8}"


def with_marker(spec, marker=FOREIGN):
    return {**spec, "context": {"airflow": {"dag_id": "other", "marker": marker}}}


def other_spec(spec):
    return {**spec, "filterExpression": "\"city\" = 'Perth'"}


def run_unmarked(polaris, moved_clock, spec, *arrivals, task=None, **options):
    """Run a task whose first response is lost, without a marker. During its search, jobs of these specs arrive."""
    polaris.fail_next(1, status=503, match="POST")
    arriving = list(arrivals)

    def arrive():
        while arriving:
            spec_of_job, fields = arriving.pop(0)
            arrived(polaris, spec_of_job, **{"executionStatus": "completed", **fields})

    moved_clock.on_sleep = arrive
    return (task or Task()).run(spec, mark_jobs=False, **options)


@pytest.mark.parametrize("kind", ["sql", "batch", "streaming"])
class TestWithoutAMarker:
    def test_the_spec_is_sent_again_if_the_table_has_no_new_job(self, polaris, hook, moved_clock, kind):
        table, spec = spec_into_a_new_table(kind)
        arrived(polaris, spec, executionStatus="completed")
        polaris.next_job("complete", table=table)
        outcome = run_unmarked(polaris, moved_clock, spec)
        assert outcome.kind == "success", outcome.error
        assert len(posts(polaris)) == 2
        assert len(jobs_of(hook, table)) == 2

    def test_the_task_continues_with_the_only_new_job_of_its_spec(self, polaris, hook, moved_clock, kind):
        table, spec = spec_into_a_new_table(kind)
        arrived(polaris, spec, executionStatus="completed")
        status = "running" if kind == "streaming" else "completed"
        outcome = run_unmarked(polaris, moved_clock, spec, (spec, {"executionStatus": status}))
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["job_id"] == jobs_of(hook, table)[-1].id
        assert len(posts(polaris)) == 1

    def test_the_next_try_continues_with_the_only_new_job_of_the_spec(self, polaris, hook, kind):
        """The worker is lost after the request, and before the response."""
        table, spec = spec_into_a_new_table(kind)
        arrived(polaris, spec, executionStatus="completed")
        task = Task()
        polaris.drop_next(when="after", match="POST")
        polaris.fail_next(10_000, status=503, match="GET .*/jobs/")  # the search fails, as on a worker that is lost
        assert task.run(spec, mark_jobs=False).kind == "PolarisUnreachable"
        polaris.clear_faults()
        assert task.store.get(KEY)["marker"] is None
        job_id = jobs_of(hook, table)[-1].id
        polaris.set_status(job_id, "running" if kind == "streaming" else "completed")
        assert task.run(spec, mark_jobs=False).xcom["job_id"] == job_id
        assert len(posts(polaris)) == 1


@pytest.mark.parametrize(
    ("jobs", "kind", "sent"),
    [
        ([(other_spec, {})], "PolarisJobLost", 1),
        ([(dict, {}), (dict, {})], "PolarisJobLost", 1),
        ([(dict, {}), (other_spec, {})], "PolarisJobLost", 1),
        ([(dict, {}), (with_marker, {})], "success", 1),
        ([(with_marker, {})], "PolarisJobTimeout", 2),  # the own job, which nothing runs
        ([(dict, {"spec": None})], "PolarisJobLost", 1),
        ([(dict, {"executionStatus": "failed"})], "PolarisJobFailed", 1),
        ([(dict, {"createdBy": OTHER_USER})], "success", 1),
    ],
    ids=[
        "a job of another spec",
        "two jobs of the spec",
        "one job of the spec, one of another",
        "one job of the spec, one of another task",
        "a job of another task",
        "a job that does not show its spec",
        "a failed job of the spec",
        "a job of the spec by an unknown user",
    ],
)
def test_a_new_job_of_the_table_decides(polaris, moved_clock, jobs, kind, sent):
    _, spec = spec_into_a_new_table("batch")
    outcome = run_unmarked(polaris, moved_clock, spec, *((change(spec), fields) for change, fields in jobs), timeout=60)
    assert outcome.kind == kind, outcome.error
    assert len(posts(polaris)) == sent


def test_the_job_of_another_user_is_left_alone_if_the_own_user_is_known(polaris, hook, moved_clock):
    table, spec = spec_into_a_new_table("batch")
    polaris.next_job("complete", table=table)
    assert Task().run(spec, mark_jobs=False).kind == "success"
    outcome = run_unmarked(polaris, moved_clock, spec, (spec, {"createdBy": OTHER_USER}), timeout=60)
    assert outcome.kind == "PolarisJobTimeout"
    assert jobs_of(hook, table)[-1].id == outcome.pushed["job_id"]


def test_a_lost_job_is_named_in_the_message(polaris, hook, moved_clock):
    table, spec = spec_into_a_new_table("batch")
    outcome = run_unmarked(polaris, moved_clock, spec, (spec, {}), (spec, {}), (spec, {}), (spec, {}))
    assert outcome.kind == "PolarisJobLost"
    named = [job.id for job in jobs_of(hook, table) if f"job {job.id} or" in str(outcome.error)]
    assert (len(jobs_of(hook, table)), len(named)) == (4, 3)


def test_a_retry_of_a_lost_task_fails_again_and_a_clear_loads(polaris, moved_clock):
    """The worker is lost after the note, and before Airflow knows that the task must not be retried."""
    table, spec = spec_into_a_new_table("batch")
    task = Task()
    assert run_unmarked(polaris, moved_clock, spec, (spec, {}), (spec, {}), task=task).kind == "PolarisJobLost"
    assert task.run(spec).kind == "PolarisJobLost"
    task.clear()
    polaris.next_job("complete", table=table)
    assert task.run(spec).kind == "success"


@pytest.mark.parametrize("known", [KNOWN_JOBS - 1, KNOWN_JOBS, SEARCHED_JOBS])
def test_jobs_that_were_there_before_are_never_the_job_of_the_spec(polaris, moved_clock, known):
    _, spec = spec_into_a_new_table("batch")
    for _ in range(known):
        arrived(polaris, spec, executionStatus="completed")
    outcome = run_unmarked(polaris, moved_clock, spec, (spec, {}))
    assert outcome.kind == "success", outcome.error
    assert len(posts(polaris)) == 1
    by_id = [seen.path for seen in polaris.requests if seen.method == "GET" and not seen.query]
    assert all(outcome.xcom["job_id"] in path for path in by_id), "only the new job is requested by id"


def test_more_new_jobs_than_a_search_reads_are_reported(polaris, moved_clock):
    _, spec = spec_into_a_new_table("batch")
    new = [(with_marker(spec), {})] * (SEARCHED_JOBS + 1)
    outcome = run_unmarked(polaris, moved_clock, spec, *new)
    assert outcome.kind == "PolarisJobLost"
    assert f"more than {SEARCHED_JOBS} newer jobs" in str(outcome.error)


def test_a_list_that_cannot_be_read_does_not_stop_the_first_send(polaris, moved_clock):
    """Without the list, a job of the same spec may be older than the lost spec."""
    table, spec = spec_into_a_new_table("batch")
    polaris.next_job("complete", table=table)
    polaris.fail_next(1, status=403, match="GET .*/jobs$")
    assert Task().run(spec, mark_jobs=False).kind == "success"
    polaris.fail_next(1, status=403, match="GET .*/jobs$")
    assert run_unmarked(polaris, moved_clock, spec, (spec, {})).kind == "PolarisJobLost"


class TestAServiceThatDropsTheMarker:
    @pytest.fixture(autouse=True)
    def _drops(self, polaris, monkeypatch):
        right = polaris._store.submit
        monkeypatch.setattr(
            polaris._store,
            "submit",
            lambda spec, **how: right({key: spec[key] for key in spec if key != "context"}, **how),
        )

    def test_the_job_is_found_by_its_spec(self, polaris, hook):
        table, spec = spec_into_a_new_table("batch")
        polaris.drop_next(when="after", match="POST")
        polaris.next_job("complete", table=table)
        outcome = Task().run(spec)
        assert outcome.kind == "success", outcome.error
        assert len(jobs_of(hook, table)) == 1

    def test_a_retry_before_airflow_33_does_not_load_again(self, polaris, hook):
        table, spec = spec_into_a_new_table("batch")
        task = Task(store=False)
        polaris.next_job("hang", table=table)
        task.run(spec, timeout=60)
        assert task.run(spec).kind == "PolarisJobLost"
        assert len(jobs_of(hook, table)) == 1


class TestAServiceThatRefusesTheMarker:
    REFUSALS = (
        {"code": "BadRequest", "message": "Unknown key", "target": "context.airflow"},
        {"code": "BadRequest", "message": "The spec is invalid", "details": [{"code": "x", "message": "Bad context"}]},
        {"code": "InvalidContext", "message": "No"},
    )

    def refuse(self, polaris, body=REFUSALS[0]):
        headers = {"Content-Type": "application/json"}
        polaris.answer_next(1, body=json.dumps(body), status=400, headers=headers, match="POST")

    @pytest.mark.parametrize("body", REFUSALS, ids=["target", "details", "code"])
    def test_the_spec_is_sent_once_more_and_never_with_a_marker_again(self, polaris, sent, body):
        table, spec = spec_into_a_new_table("batch")
        polaris.next_job("complete", table=table, times=2)
        self.refuse(polaris, body)
        task = Task()
        assert task.run(spec).kind == "success"
        assert [("context" in spec) for spec in sent] == [True, False]
        assert Task().run(spec).kind == "success"
        assert [("context" in spec) for spec in sent] == [True, False, False]

    def test_the_note_says_that_the_spec_had_no_marker(self, polaris, moved_clock, sent):
        _, spec = spec_into_a_new_table("batch")
        self.refuse(polaris)
        task, markers = Task(), []
        right = task.store.set
        task.store.set = lambda key, value: (markers.append((value["state"], value["marker"])), right(key, value))
        task.run(spec, timeout=60)
        (marked, first), (unmarked, second), *_ = markers
        assert (marked, unmarked, second) == ("sending", "sending", None)
        assert first == sent[0]["context"]["airflow"]["marker"]

    @pytest.mark.parametrize("fault", ["after", 503])
    def test_a_lost_response_is_resolved_by_the_jobs_of_the_table(self, polaris, hook, fault):
        table, spec = spec_into_a_new_table("batch")
        arrived(polaris, spec, executionStatus="completed")
        self.refuse(polaris)
        if fault == "after":
            polaris.drop_next(when="after", match="POST")
        else:
            polaris.fail_next(1, status=fault, match="POST")
        polaris.next_job("complete", table=table)
        outcome = Task().run(spec)
        assert outcome.kind == "success", outcome.error
        assert len(jobs_of(hook, table)) == 2

    def test_a_refusal_that_does_not_name_the_context_is_final(self, polaris, sent):
        _, spec = spec_into_a_new_table("batch")
        polaris.fail_next(1, status=400, match="POST")
        assert Task().run(spec).kind == "PolarisBadRequest"
        assert len(sent) == 1

    def test_a_spec_that_is_refused_for_another_reason_is_marked_again(self, polaris, sent):
        """The context of the user is wrong, and not the marker in it."""
        table, spec = spec_into_a_new_table("batch")
        self.refuse(polaris)
        self.refuse(polaris)
        assert Task().run({**spec, "context": {"limit": "x"}}).kind == "PolarisBadRequest"
        assert [spec["context"].keys() for spec in sent] == [{"limit", "airflow"}, {"limit"}]
        polaris.next_job("complete", table=table)
        assert Task().run(spec).kind == "success"
        assert "airflow" in sent[-1]["context"]

    def test_a_refused_query_is_not_sent_without_its_comment(self, polaris, sent):
        self.refuse(polaris)
        assert Task().run(SQL).kind == "PolarisBadRequest"
        assert len(sent) == 1


class TestOtherTypes:
    def test_a_deletion_that_finds_no_rows_is_refused_with_advice(self, polaris):
        table = f"deleted-{uuid.uuid4()}"
        polaris.add_table(table)
        outcome = Task().run({**DELETE, "target": {"type": "table", "tableName": table}})
        assert outcome.kind == "PolarisGateRefused"
        assert "fail_on_warnings=() accepts a deletion that finds no rows" in str(outcome.error)
        assert "loaded rows" not in str(outcome.error)

    @pytest.mark.parametrize("fault", ["after", 503])
    def test_a_deletion_is_sent_once(self, polaris, hook, fault):
        table = f"deleted-{uuid.uuid4()}"
        polaris.add_table(table)
        spec = {**DELETE, "target": {"type": "table", "tableName": table}}
        if fault == "after":
            polaris.drop_next(when="after", match="POST")
        else:
            polaris.fail_next(1, status=fault, match="POST")
        outcome = Task().run(spec, fail_on_warnings=())  # there is no row to delete
        assert outcome.kind == "success", outcome.error
        assert len(jobs_of(hook, table)) == 1

    def test_a_second_send_that_is_rejected_finds_the_job_of_the_first(self, polaris, hook, moved_clock, sent):
        """A table has one streaming job: the service rejects a second one."""
        table = f"stream-{uuid.uuid4()}"
        spec = {**STREAMING, "target": {"type": "table", "tableName": table}}
        polaris.fail_next(1, status=503, match="POST")
        polaris.fail_next(1, status=400, match="POST")

        def arrive():
            if len(sent) == 2 and not jobs_of(hook, table):
                arrived(polaris, spec, executionStatus="running")

        moved_clock.on_sleep = arrive
        outcome = Task().run(spec)
        assert outcome.kind == "success", outcome.error
        assert len(sent) == 2
        assert outcome.xcom["job_id"] == jobs_of(hook, table)[0].id

    def test_a_second_send_that_is_rejected_for_good_creates_no_job(self, polaris, hook, moved_clock, sent):
        table, spec = spec_into_a_new_table("streaming")
        polaris.fail_next(1, status=503, match="POST")
        polaris.fail_next(1, status=400, match="POST")
        outcome = Task().run(spec)
        assert outcome.kind == "PolarisBadRequest"
        assert "No job was created" in str(outcome.error)
        assert not jobs_of(hook, table)


class TestCopiedSpecs:
    """A person copies the JSON of a job, with the marker in it."""

    def test_a_copied_marker_in_a_spec_is_replaced(self, polaris, sent):
        table, spec = spec_into_a_new_table("batch")
        polaris.next_job("complete", table=table)
        assert Task().run(with_marker(spec)).kind == "success"
        assert sent[0]["context"]["airflow"]["marker"] != FOREIGN
        assert sent[0]["context"]["airflow"]["dag_id"] == "dag"

    @pytest.mark.parametrize("kind", ["sql", "batch"])
    def test_a_task_with_a_copied_spec_does_not_wait_for_the_job_of_the_original(self, polaris, hook, sent, kind):
        """Before Airflow 3.3, the original task's retry must not continue with the copy's job either."""
        table, spec = spec_into_a_new_table(kind)
        original, copy = Task(store=False), Task(store=False)
        polaris.next_job("hang", table=table, times=2)
        first = original.run(spec, timeout=60).pushed["job_id"]
        copied = {key: sent[0][key] for key in sent[0]}
        second = copy.run(copied, timeout=60).pushed["job_id"]
        for job_id in (first, second):
            polaris.set_status(job_id, "completed")
        assert copy.run(copied).xcom["job_id"] == second
        assert original.run(spec).xcom["job_id"] == first
        assert len(jobs_of(hook, table)) == 2

    @pytest.mark.parametrize("kind", ["sql", "batch"])
    def test_a_copied_spec_without_a_marker_of_its_own_is_still_compared(self, polaris, hook, moved_clock, sent, kind):
        table, spec = spec_into_a_new_table(kind)
        polaris.next_job("complete", table=table)
        Task().run(spec)
        copied = sent[0]
        outcome = run_unmarked(polaris, moved_clock, copied, (copied, {}))
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["job_id"] == jobs_of(hook, table)[-1].id
        assert len(posts(polaris)) == 2

    @pytest.mark.parametrize("by", ["another user", "the same user"])
    def test_a_copy_that_a_person_submits_is_not_taken_for_the_job_of_the_task(self, polaris, hook, sent, by):
        table, spec = spec_into_a_new_table("batch")
        task = Task(store=False)
        polaris.next_job("hang", table=table)
        job_id = task.run(spec, timeout=60).pushed["job_id"]
        polaris.set_status(job_id, "completed")
        fields = {"createdBy": OTHER_USER} if by == "another user" else {}
        copy = arrived(polaris, sent[0], executionStatus="completed", **fields)
        outcome = task.run(spec)
        if by == "another user":
            assert outcome.xcom["job_id"] == job_id
        else:
            assert outcome.kind == "PolarisJobLost"
            assert job_id in str(outcome.error)
            assert copy in str(outcome.error)


class TestMarkersOfOtherTasks:
    @pytest.mark.parametrize(
        "changes",
        [{}, {"map_index": 3}, {"run_id": "x"}, {"task_id": "x"}, {"dag_id": "x"}, {"max_tries": 3}],
        ids=lambda changes: next(iter(changes), "the same"),
    )
    def test_a_retry_continues_only_with_a_job_of_its_own_task_instance(self, polaris, hook, changes):
        """Also not with the job of an earlier clear generation (``max_tries``)."""
        table, spec = spec_into_a_new_table("batch")
        task = Task(store=False, retries=2)
        other = FakeTaskInstance()
        vars(other).update({"run_id": task.run_id, "max_tries": 2} | changes)
        marker = f"{SubmissionRecord({'ti': other}, 2).marker} {'cd' * 8}"
        job_id = arrived(polaris, with_marker(spec, marker), executionStatus="completed")
        task.try_number = 1  # the next try is a retry
        polaris.next_job("complete", table=table)
        outcome = task.run(spec)
        assert outcome.kind == "success", outcome.error
        assert (outcome.xcom["job_id"] == job_id) == (not changes)
        assert len(posts(polaris)) == bool(changes)

    def test_a_run_that_was_created_again_has_another_marker_on_211(self):
        def marker(**run):
            return SubmissionRecord({"ti": FakeTaskInstance(), "dag_run": SimpleNamespace(**run)}, 0).marker

        assert marker(id=1) != marker(id=2)
        assert marker(start_date=1) == marker(start_date=2), "Airflow sets a new start when a task is cleared"

    def test_a_job_of_an_earlier_run_of_the_same_name_is_not_a_second_job(self, polaris, moved_clock):
        """Airflow 3.0 to 3.2 gives a run no number: the start of the run decides."""
        table, spec = spec_into_a_new_table("batch")
        task = Task(store=False)
        polaris.next_job("complete", table=table)
        assert task.run(spec).kind == "success"
        moved_clock.time += 3600
        began = datetime.fromtimestamp(moved_clock.time, timezone.utc)
        again = Task(store=False)
        again.run_id, again.run_began = task.run_id, began
        polaris.next_job("hang", table=table)
        job_id = again.run(spec, timeout=60).pushed["job_id"]
        polaris.set_status(job_id, "completed")
        assert again.run(spec).xcom["job_id"] == job_id


def test_facts_are_kept_for_each_connection(hook):
    job_search.facts_about(hook.connection).note_refusal()
    assert job_search.facts_about(replace(hook.connection)).refuses_marker
    for changes in ({"base_url": "https://other"}, {"api_key": "other"}):
        assert not job_search.facts_about(replace(hook.connection, **changes)).refuses_marker
