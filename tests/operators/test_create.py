"""PolarisCreateJobOperator creates one job, waits for it, and reports its verdict."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from airflow_provider_polaris.submission.submission_record import KEY
from tests.support.airflow_versions import AIRFLOW_3, AirflowFailException
from tests.support.create_tasks import LONG, Task, jobs_of, posts
from tests.support.run_task import both_modes, outcome_of
from tests.support.specs import DELETE, S3, SPEC, SQL, STREAMING, load_of, spec_into_a_new_table

ROWS = {"numRowsProcessed": 5, "numRowsSkippedByError": 1}


@pytest.fixture(autouse=True)
def _moved(moved_clock):
    """Move the clock instead of waiting."""


@both_modes
def test_a_good_load_is_sent_once_and_pushes_its_xcom(polaris, deferrable):
    polaris.next_job("complete", metrics=ROWS)
    outcome = Task().run(deferrable=deferrable, min_rows_processed=5)
    assert outcome.kind == "success", outcome.error
    assert outcome.deferrals == deferrable
    assert outcome.xcom["execution_status"] == "completed"
    assert outcome.xcom["table"] == "by_sql"
    assert outcome.pushed == {"job_id": outcome.xcom["job_id"], "metrics": outcome.xcom["metrics"]}
    assert len(posts(polaris)) == 1


@both_modes
def test_the_rows_of_a_spec_are_loaded(polaris, deferrable, wait_until):
    spec = {**SPEC, "target": {"type": "table", "tableName": f"read-{deferrable}"}}
    outcome = Task().run(spec, deferrable=deferrable, timeout=3600 * 24 * 365, poll_interval=1)
    assert outcome.kind == "success", outcome.error
    assert outcome.xcom["metrics"]["numRowsProcessed"] == 2


@both_modes
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
    assert not [request for request in polaris.requests if request.method == "PUT"], "no option asks for a cancellation"
    assert ("metrics" in outcome.pushed) == (kind not in {"PolarisJobTimeout", "execution_timeout"})


@both_modes
@pytest.mark.parametrize(("stored", "says"), [(0, "Polaris stored no rows"), (7, "The loaded rows are in the table")])
def test_a_refusal_says_whether_rows_are_in_the_table(polaris, deferrable, stored, says):
    polaris.next_job("complete", metrics={"numRowsProcessed": 0, "numRowsPersisted": stored})
    outcome = Task().run(deferrable=deferrable, min_rows_processed=8)
    assert outcome.kind == "PolarisGateRefused"
    assert says in str(outcome.error)


@both_modes
def test_a_job_that_a_person_canceled_is_not_loaded_again(polaris, hook, moved_clock, deferrable):
    polaris.next_job("hang")
    polaris.cancel_checks = 0
    moved_clock.on_sleep = lambda: hook.cancel_job(jobs_of(hook)[-1].id) if moved_clock.slept == [60] else None
    outcome = Task().run(deferrable=deferrable, between=lambda: hook.cancel_job(jobs_of(hook)[-1].id))
    assert outcome.kind == "PolarisJobCanceled"
    assert isinstance(outcome.error, AirflowFailException), "Airflow does not retry it"


@both_modes
def test_the_operator_waits_for_a_streaming_job_until_it_runs(polaris, deferrable):
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
        ({**SPEC, "ingestionMode": "replace", "replaceAll": "false"}, "replaceAll must be true or false, not 'false'"),
        ({**DELETE, "deleteAll": "false"}, "deleteAll must be true or false, not 'false'"),
        ({**SQL, "createTableIfNotExists": "True"}, "createTableIfNotExists must be true or false, not 'True'"),
        ({"type": "sql", "query": "SELECT 1"}, "query must be an INSERT INTO"),
        ({"type": "restore_data", "target": SPEC["target"]}, "interval is required"),
        ({**SPEC, "note": {1, 2}}, "cannot be written as JSON"),
        ({**SPEC, "note": float("nan")}, "cannot be written as JSON"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_an_invalid_spec_is_rejected_with_its_fields_before_anything_is_sent(polaris, spec, says):
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
def test_invalid_options_are_rejected_before_anything_is_sent(polaris, spec, options):
    assert Task().run(spec, **options).kind == "PolarisOptionInvalid"
    assert not polaris.requests


def test_a_spec_may_be_json_text_whose_values_keep_their_types(polaris):
    polaris.next_job("complete", table="by_sql")
    assert Task().run(json.dumps({**SQL, "context": {"maxParseExceptions": 10}})).kind == "success"
    assert posts(polaris)[0]["context"] == {"maxParseExceptions": 10}


@pytest.mark.parametrize("kind", ["sql", "batch"])
def test_a_job_shows_which_task_created_it(polaris, hook, monkeypatch, kind):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    monkeypatch.setenv("AIRFLOW__WEBSERVER__BASE_URL", "https://airflow.example")
    table, spec = spec_into_a_new_table(kind)
    polaris.next_job("complete", table=table)
    task = Task()
    context = task.context()
    context["ti"].log_url = "https://airflow.example/dags/dag/runs/r?try_number=1"
    operator = PolarisCreateJobOperator(task_id="load", job_spec=spec, retries=2)
    assert outcome_of(lambda: operator.execute(context), context["ti"]).kind == "success"
    job = hook.latest_job(table)
    raw = hook.get_job(job.id).raw
    about = raw["context"]["airflow"] if kind == "batch" else json.loads(raw["query"].split("/* airflow ")[1][:-3])
    assert about.pop("marker").startswith("airflow-provider-polaris ")
    assert about == {
        "dag_id": "dag",
        "run_id": task.run_id,
        "task_id": "task",
        "map_index": -1,
        "try_number": 1,
        "url": "https://airflow.example/dags/dag/runs/r?try_number=1",
    }
    assert polaris.api_key not in json.dumps(raw)


@pytest.mark.parametrize("kind", ["sql", "batch"])
def test_a_spec_is_sent_as_it_is_with_mark_jobs_false(polaris, kind):
    table, spec = spec_into_a_new_table(kind)
    polaris.next_job("complete", table=table)
    assert Task().run(spec, mark_jobs=False).kind == "success"
    assert posts(polaris) == [spec]


@pytest.mark.parametrize("spec", [STREAMING, {**S3, "context": {"airflow": "mine"}}], ids=["streaming", "a user's key"])
def test_a_spec_without_a_place_for_a_marker_is_sent_as_it_is(polaris, spec):
    polaris.next_job("complete")
    assert Task().run(spec).kind == "success"
    assert posts(polaris) == [spec]


def test_a_task_that_does_not_wait_ends_when_polaris_has_accepted_the_spec(polaris):
    task = Task()
    outcome = task.run(wait_for_completion=False, deferrable=True)
    assert (outcome.kind, outcome.deferrals, outcome.xcom["execution_status"]) == ("success", 0, "pending")
    task.clear()
    assert task.run(wait_for_completion=False).xcom["job_id"] != outcome.xcom["job_id"]


@both_modes
@pytest.mark.parametrize("taken", [True, False])
def test_cancel_on_timeout_cancels_the_job_and_reports_the_result(polaris, hook, deferrable, taken):
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
        assert (again.kind, again.xcom["job_id"] != job_id) == ("success", True), "the canceled job has loaded nothing"


@both_modes
def test_an_event_of_an_unknown_shape_fails_the_task(polaris, deferrable):
    operator = PolarisCreateJobOperator(task_id="load", job_spec=SQL)
    for event in (None, {}, {"outcome": "job", "job": {}}, {"outcome": "new", "job": {"id": "j"}}, "x"):
        with pytest.raises(Exception, match="event of the trigger"):
            operator.execute_complete(Task().context(), event)


def test_a_large_spec_is_sent_and_appears_in_no_xcom_and_no_message(polaris, task_log):
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


def test_airflow_has_the_task_state_store_under_the_name_that_these_tests_use():
    """The other tests bring their own store, under the key that Airflow uses in its context."""
    if not AIRFLOW_3:
        pytest.skip("3.3 brought it")
    from airflow.sdk.definitions.context import Context

    assert "task_state_store" in Context.__annotations__


def test_xcom_stays_small_after_a_large_response(polaris, moved_clock):
    polaris.next_job("complete", table="by_sql", health={"status": "warn", "code": "x" * 300_000})
    assert len(json.dumps(Task().run().xcom)) < 4096


@both_modes
def test_the_log_says_at_once_that_the_local_polaris_does_not_run_a_job(polaris, task_log, deferrable):
    spec = {"type": "sql", "createTableIfNotExists": True, "query": "INSERT INTO waits SELECT 1 PARTITIONED BY ALL"}
    Task().run(spec, deferrable=deferrable)
    reason = "Waits for a test to change it. The local Polaris does not run it: The query reads no data"
    (created,) = [line for line in task_log() if ": created" in line]
    assert f"into table 'waits': created, health warn, unable_to_proceed: {reason}" in created


FIRST, SECOND = "2026-11-01", "2026-11-02"


def day_of(day, *cities):
    """Return the rows of a day, one for each city."""
    return [{"timestamp": f"{day}T{hour:02}:00:00Z", "city": city} for hour, city in enumerate(cities)]


def load_days(*rows, **changes):
    """Return the spec of a job that loads rows into the table days."""
    return {**load_of("days", *rows, city='"city"'), "createTableIfNotExists": True, **changes}


def days_of(hook):
    """Return the cities in the table, by their day."""
    days = {}
    for time, city in hook.query("SELECT __time, city FROM days ORDER BY __time, city").rows:
        days.setdefault(time[:10], []).append(city)
    return days


@both_modes
def test_a_day_that_is_loaded_twice_has_each_row_once(polaris, hook, deferrable):
    spec = load_days(*day_of(FIRST, "Oslo", "Bern"), *day_of(SECOND, "Rome"))
    for _ in range(2):
        interval = f"{FIRST} 00:00:00+00:00/{SECOND} 00:00:00+00:00"
        outcome = Task().run(spec, interval=interval, deferrable=deferrable, **LONG)
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["metrics"]["numRowsProcessed"] == 2
        assert days_of(hook) == {FIRST: ["Oslo", "Bern"]}, "the row of the other day is left out"
    sent, _ = posts(polaris)
    assert sent["target"]["intervals"] == [f"{FIRST}T00:00:00Z/{SECOND}T00:00:00Z"]


def test_a_replaced_day_leaves_the_other_days_as_they_are(polaris, hook):
    spec = load_days(*day_of(FIRST, "Oslo", "Bern"), *day_of(SECOND, "Rome"))
    for day in (SECOND, FIRST):
        assert Task().run(spec, interval=f"{day}/P1D", **LONG).kind == "success"
    corrected = load_days(*day_of(FIRST, "Paris"), *day_of(SECOND, "Rome", "Rome", "Rome"))
    assert Task().run(corrected, interval=f"P1D/{SECOND}", **LONG).kind == "success"
    assert days_of(hook) == {FIRST: ["Paris"], SECOND: ["Rome"]}


def test_the_filter_of_the_spec_applies_to_the_interval(polaris, hook):
    spec = load_days(
        *day_of(FIRST, "Oslo", "Bern"), *day_of(SECOND, "Oslo"), filterExpression="\"city\" = 'Oslo' -- or"
    )
    assert Task().run(spec, interval=f"{FIRST}/P1D", **LONG).kind == "success"
    assert days_of(hook) == {FIRST: ["Oslo"]}


def test_a_row_without_a_valid_time_still_fails_the_job(polaris):
    spec = load_days(*day_of(FIRST, "Oslo"), {"timestamp": "yesterday", "city": "Bern"})
    outcome = Task().run(spec, interval=f"{FIRST}/P1D", **LONG)
    assert outcome.kind == "PolarisJobFailed"
    assert "null_timestamp" in str(outcome.error)


def test_an_interval_without_a_row_is_empty_then_and_is_refused(polaris, hook):
    assert Task().run(load_days(*day_of(FIRST, "Oslo")), interval=f"{FIRST}/P1D", **LONG).kind == "success"
    outcome = Task().run(load_days(*day_of(SECOND, "Rome")), interval=f"{FIRST}/P1D", **LONG)
    assert outcome.kind == "PolarisGateRefused"
    assert "no_rows_found" in str(outcome.error)
    assert days_of(hook) == {}


@pytest.mark.parametrize(
    ("spec", "interval", "says"),
    [
        (SQL, f"{FIRST}/P1D", "interval is only for batch jobs"),
        (SPEC, f"{FIRST}/P1D", "ingestionMode is 'append'"),
        (load_days(), f"{FIRST}/{FIRST}", "has no length"),
        (load_days(), "", "without a value"),
        (load_days(partitionedBy="month"), f"{FIRST}/P1D", "does not align with partitionedBy 'month'"),
    ],
    ids=["sql", "append", "one moment", "empty", "not aligned"],
)
def test_an_interval_that_cannot_be_replaced_is_rejected_before_anything_is_sent(polaris, spec, interval, says):
    task = Task()
    outcome = task.run(spec, interval=interval)
    assert (outcome.kind, says in str(outcome.error)) == ("PolarisOptionInvalid", True), outcome.error
    assert not polaris.requests
    assert KEY not in task.store


def test_an_interval_that_rendered_to_none_is_rejected(polaris):
    operator = PolarisCreateJobOperator(task_id="load", job_spec=load_days(), interval="{{ nothing }}")
    operator.interval = None
    context = Task().context()
    outcome = outcome_of(lambda: operator.execute(context), context["ti"])
    assert (outcome.kind, str(outcome.error)[:40]) == (
        "PolarisOptionInvalid",
        "interval was given, and rendered to None",
    )
    assert not polaris.requests


@pytest.mark.parametrize("mark_jobs", [True, False], ids=["marked", "not marked"])
def test_a_lost_response_to_a_replacement_creates_no_second_job(polaris, hook, mark_jobs):
    """The search compares the jobs with the spec as it was sent, and not with the spec that was given."""
    polaris.drop_next(1, when="after", match="POST .*/jobs")
    spec = load_days(*day_of(FIRST, "Oslo"))
    outcome = Task().run(spec, interval=f"{FIRST}/P1D", mark_jobs=mark_jobs, **LONG)
    assert outcome.kind == "success", outcome.error
    assert len(posts(polaris)) == 1
    assert days_of(hook) == {FIRST: ["Oslo"]}
