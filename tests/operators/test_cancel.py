"""The cancel operator reports how the job really ended, in every case."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator
from tests.support.run_task import run_task

pytestmark = pytest.mark.usefixtures("moved_clock")


@pytest.fixture(params=[False, True], ids=["on the worker", "deferred"])
def cancel(request):
    """Run the operator to its end, on a worker or deferred."""

    def run(job_id, **options):
        options = {"deferrable": request.param, **options}
        return run_task(lambda: PolarisCancelJobOperator(task_id="cancel", job_id=job_id, **options))

    run.deferrable = request.param
    return run


def methods(polaris):
    return [request.method for request in polaris.requests]


def test_the_operator_waits_until_the_job_is_over(polaris, cancel, moved_clock):
    job_id = polaris.add_job(executionStatus="running", metrics={"numRowsProcessed": 5})
    outcome = cancel(job_id, poll_interval=7)
    assert outcome.kind == "success"
    assert outcome.xcom["execution_status"] == "canceled"
    assert outcome.xcom["metrics"]["numRowsProcessed"] == 5
    assert outcome.pushed == {"metrics": outcome.xcom["metrics"]}
    assert methods(polaris) == ["GET", "PUT", "GET", "GET", "GET"]
    if cancel.deferrable:  # the trigger polls at once, and its pauses are a little shorter
        assert outcome.deferrals == 1
        assert 6.3 <= sum(moved_clock.slept) <= 7
    else:
        assert moved_clock.slept == [7, 7]


def test_an_operator_that_does_not_wait_never_defers(polaris, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    job_id = polaris.add_job(executionStatus="running")
    assert PolarisCancelJobOperator(task_id="t", job_id=job_id).deferrable is True
    outcome = run_task(lambda: PolarisCancelJobOperator(task_id="t", job_id=job_id, wait_for_completion=False))
    assert (outcome.kind, outcome.deferrals) == ("success", 0)


def test_an_execution_timeout_ends_a_deferred_wait(polaris, moved_clock):
    job_id = polaris.add_job(executionStatus="running")
    polaris.cancel_checks = 99
    limit = timedelta(seconds=60)
    outcome = run_task(
        lambda: PolarisCancelJobOperator(task_id="t", job_id=job_id, deferrable=True, execution_timeout=limit)
    )
    assert outcome.kind == "execution_timeout"
    assert job_id in str(outcome.error)


@pytest.mark.parametrize("status", [403, 404])
def test_a_final_response_ends_the_wait(polaris, cancel, moved_clock, status):
    job_id = polaris.add_job(executionStatus="running")
    polaris.delay_next(2, seconds=0)  # the first GET and the PUT
    polaris.fail_next(99, status=status)
    outcome = cancel(job_id)
    assert outcome.kind == {403: "PolarisForbidden", 404: "PolarisJobNotFound"}[status]
    assert job_id in str(outcome.error)
    assert "running" in str(outcome.error)


def test_the_operator_does_not_wait_with_wait_for_completion_false(polaris, cancel, moved_clock):
    job_id = polaris.add_job(executionStatus="running")
    outcome = cancel(job_id, wait_for_completion=False)
    assert outcome.kind == "success"
    assert outcome.xcom["execution_status"] == "running"
    assert not moved_clock.slept


@pytest.mark.parametrize("status", ["completed", "failed", "canceled"])
def test_a_job_that_is_over_is_not_canceled(polaris, cancel, status):
    job_id = polaris.add_job(executionStatus=status)
    outcome = cancel(job_id)
    assert outcome.kind == "success"
    assert outcome.xcom["execution_status"] == status
    assert "PUT" not in methods(polaris)
    outcome = cancel(job_id, fail_if_finished=True)
    if status == "canceled":  # an earlier try of this task may have canceled it
        assert outcome.kind == "success"
    else:
        assert outcome.kind == "PolarisJobAlreadyOver"
        assert status in str(outcome.error)


def test_a_job_that_completes_in_the_same_second_is_reported_as_completed(polaris, cancel):
    job_id = polaris.add_job(executionStatus="running")
    polaris.script(job_id, {}, {"executionStatus": "completed"})
    polaris.fail_next(1, status=400, match="PUT")
    assert cancel(job_id).xcom["execution_status"] == "completed"
    job_id = polaris.add_job(executionStatus="running")
    polaris.script(job_id, {}, {"executionStatus": "completed"})
    polaris.fail_next(1, status=400, match="PUT")
    assert cancel(job_id, fail_if_finished=True).kind == "PolarisJobAlreadyOver"


def test_a_cancellation_that_is_refused_while_the_job_runs_is_an_error(polaris, cancel):
    job_id = polaris.add_job(executionStatus="running")
    polaris.fail_next(1, status=400, match="PUT")
    outcome = cancel(job_id)
    assert outcome.kind == "PolarisBadRequest"
    assert "is running" in str(outcome.error)
    assert "was not canceled" in str(outcome.error)


@pytest.mark.parametrize("kind", ["delete_data", "drop_table"])
def test_a_deletion_cannot_be_canceled(polaris, cancel, kind):
    job_id = polaris.add_job(executionStatus="running", type=kind)
    outcome = cancel(job_id)
    assert outcome.kind == "PolarisOptionInvalid"
    assert kind in str(outcome.error)
    assert "PUT" not in methods(polaris)


def test_a_job_that_is_not_over_in_time_is_a_retryable_error(polaris, cancel, moved_clock):
    job_id = polaris.add_job(executionStatus="running")
    polaris.cancel_checks = 99
    start = moved_clock.time
    outcome = cancel(job_id, timeout=100, poll_interval=30)
    assert outcome.kind == "PolarisCancelTimeout"
    assert "was running" in str(outcome.error)
    assert moved_clock.time - start == pytest.approx(100)
    names = {base.__name__ for base in type(outcome.error).__mro__}
    assert "AirflowException" in names
    assert "AirflowFailException" not in names


@pytest.mark.parametrize("job_id", [None, "", "None"])
def test_a_task_without_a_job_id_is_skipped(polaris, cancel, job_id):
    outcome = cancel(job_id)
    assert outcome.kind == "skipped"
    assert "There is no job to cancel" in str(outcome.error)
    assert not polaris.requests


@pytest.mark.parametrize("job_id", ["a b", "a/b", "..", "{{ x }}"])
def test_an_invalid_job_id_is_never_sent(polaris, cancel, job_id):
    assert cancel(job_id).kind == "PolarisOptionInvalid"
    assert not polaris.requests


def test_a_redirect_does_not_count_as_a_cancellation(polaris, cancel):
    job_id = polaris.add_job(executionStatus="running")
    polaris.answer_next(99, status=302, body="", headers={"Location": polaris.url}, match="PUT")
    outcome = cancel(job_id)
    assert outcome.kind == "PolarisInvalidResponse"
    assert "not the Polaris API" in str(outcome.error)


def test_a_cancellation_is_sent_again_if_its_response_was_lost(polaris, cancel):
    job_id = polaris.add_job(executionStatus="running")
    polaris.drop_next(1, when="after", match="PUT")
    outcome = cancel(job_id)
    assert (outcome.kind, outcome.xcom["execution_status"]) == ("success", "canceled")
    assert methods(polaris).count("PUT") == 2


@pytest.mark.usefixtures("no_reports")
def test_an_outage_during_the_wait_is_tolerated(polaris, cancel, moved_clock):
    job_id = polaris.add_job(executionStatus="running")

    def go_down():
        moved_clock.on_sleep = None
        polaris.fail_next(20, status=503, match="GET")

    moved_clock.on_sleep = go_down  # the first GET and the PUT succeed
    outcome = cancel(job_id, poll_interval=10)
    assert (outcome.kind, outcome.xcom["execution_status"]) == ("success", "canceled")
    assert len(moved_clock.slept) in {21, 22}


def test_a_cancellation_is_sent_again_after_a_transient_error(polaris, cancel):
    job_id = polaris.add_job(executionStatus="running")
    polaris.fail_next(1, match="PUT", status=503)
    polaris.drop_next(1, match="PUT")
    assert cancel(job_id).xcom["execution_status"] == "canceled"


@pytest.mark.parametrize(
    ("status", "kind", "puts"),
    [
        (302, "PolarisInvalidResponse", 5),
        (400, "PolarisBadRequest", 1),
        (403, "PolarisForbidden", 1),
        (404, "PolarisNotFound", 1),
        (409, "PolarisConflict", 1),
        (503, "PolarisUnreachable", 5),
    ],
)
def test_a_cancellation_that_fails_reports_the_state_of_the_job(polaris, cancel, status, kind, puts):
    job_id = polaris.add_job(executionStatus="running")
    polaris.fail_next(99, status=status, match="PUT")
    outcome = cancel(job_id)
    assert outcome.kind == kind
    assert methods(polaris).count("PUT") == puts
    assert job_id in str(outcome.error)
    assert str(status) in str(outcome.error)
    assert "running" in str(outcome.error)


@pytest.mark.parametrize("status", [400, 409])
def test_a_cancellation_that_comes_too_late_reports_the_outcome_of_the_job(polaris, cancel, status):
    job_id = polaris.add_job(executionStatus="running")
    polaris.script(job_id, {}, {"executionStatus": "completed"})
    polaris.fail_next(1, status=status, match="PUT")
    outcome = cancel(job_id)
    assert (outcome.kind, outcome.xcom["execution_status"]) == ("success", "completed")


def test_a_cancellation_succeeds_if_the_counters_cannot_be_read(polaris, cancel):
    job_id = polaris.add_job(executionStatus="running")
    polaris.fail_next(99, status=503, match="metrics")
    outcome = cancel(job_id)
    assert outcome.kind == "success"
    assert set(outcome.xcom["metrics"].values()) == {None}


def test_do_xcom_push_false_pushes_nothing(polaris, cancel):
    assert cancel(polaris.add_job(executionStatus="completed"), do_xcom_push=False).pushed == {}


def test_times_may_be_timedeltas(polaris, cancel, moved_clock):
    job_id = polaris.add_job(executionStatus="running")
    assert cancel(job_id, timeout=timedelta(minutes=5), poll_interval=timedelta(seconds=3)).kind == "success"
    assert max(moved_clock.slept) <= 3


@pytest.mark.parametrize("job_id", [["a"], {}, 7])
def test_an_id_of_a_wrong_type_is_a_usage_error(polaris, cancel, job_id):
    assert cancel(job_id).kind == "PolarisOptionInvalid"


def test_the_job_and_the_connection_are_templated():
    assert PolarisCancelJobOperator.template_fields == ("job_id", "polaris_conn_id", "project_id")
