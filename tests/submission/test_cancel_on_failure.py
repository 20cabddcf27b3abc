"""``cancel_on_failure``: a task that fails for good leaves no job behind, and no other end of a try cancels its job."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from airflow_provider_polaris.submission.submission_record import KEY
from tests.support.airflow_versions import AirflowTaskTimeout
from tests.support.create_tasks import Running, Task, puts
from tests.support.run_task import both_modes, outcome_of
from tests.support.specs import SQL, STREAMING

pytestmark = pytest.mark.usefixtures("moved_clock")

with_or_without_store = pytest.mark.parametrize("store", [True, False], ids=["store", "no store"])


@both_modes
@with_or_without_store
def test_a_timeout_cancels_the_job_in_the_last_try_only(polaris, deferrable, store):
    task = Task(store=store, retries=2)
    polaris.next_job("hang")
    for this_try in (1, 2, 3):
        outcome = task.run(deferrable=deferrable, cancel_on_failure=True)
        assert outcome.kind == "PolarisJobTimeout"
        assert len(puts(polaris)) == (this_try == 3)
    assert "Polaris accepted the cancellation of the job" in str(outcome.error)


@both_modes
def test_without_the_option_the_job_keeps_running(polaris, deferrable):
    polaris.next_job("hang")
    outcome = Task(retries=0).run(deferrable=deferrable)
    assert outcome.kind == "PolarisJobTimeout"
    assert "The job was not canceled" in str(outcome.error)
    assert not puts(polaris)


@both_modes
def test_the_first_try_after_a_clear_is_not_the_last(polaris, deferrable):
    task = Task(retries=1)
    polaris.next_job("hang")
    for _ in range(2):
        task.run(deferrable=deferrable)
    task.clear()
    task.run(deferrable=deferrable, cancel_on_failure=True)
    assert not puts(polaris)
    task.run(deferrable=deferrable, cancel_on_failure=True)
    assert len(puts(polaris)) == 1


@both_modes
@pytest.mark.parametrize("retries", [0, 5])
def test_a_refusal_of_a_running_job_cancels_it_since_it_is_never_retried(polaris, monkeypatch, deferrable, retries):
    def turn_unhealthy():
        (job,) = polaris._store.jobs
        polaris.set_status(job, "running", health={"status": "error", "code": "internal_error"})

    task = Task(retries=retries)
    options = {"fail_on_unhealthy": True, "cancel_on_failure": True}
    if not deferrable:
        right = PolarisHook.create_job
        monkeypatch.setattr(PolarisHook, "create_job", lambda *args: (right(*args), turn_unhealthy())[0])
    outcome = task.run(STREAMING, between=turn_unhealthy, deferrable=deferrable, **options)
    assert outcome.kind == "PolarisGateRefused"
    assert str(outcome.error).splitlines()[-1] == "Polaris accepted the cancellation of the job"
    assert len(puts(polaris)) == 1


@both_modes
@pytest.mark.parametrize("retries", [0, 1])
def test_an_outage_cancels_the_job_in_the_last_try_as_soon_as_polaris_responds(polaris, deferrable, retries, task_log):
    polaris.next_job("hang")

    def break_down():
        polaris.fail_next(200, status=503, match=r"GET .*/jobs/")

    task = Task(retries=retries)
    options = {"deferrable": deferrable, "cancel_on_failure": True, "max_unreachable": 120, "timeout": 86_400}
    if not deferrable:
        break_down()
    outcome = task.run(between=break_down, **options)
    assert outcome.kind == "PolarisUnreachable"
    assert len(puts(polaris)) == (retries == 0)
    said = " ".join(task_log())
    assert ("This task fails for good. Polaris accepted the cancellation of the job" in said) == (retries == 0)


@both_modes
def test_a_cancellation_that_polaris_does_not_take_hides_no_error(polaris, deferrable, task_log):
    polaris.next_job("hang")
    polaris.fail_next(99, status=403, match="PUT")
    outcome = Task(retries=0).run(deferrable=deferrable, cancel_on_failure=True)
    assert outcome.kind == "PolarisJobTimeout"
    assert "The job could not be canceled: " in str(outcome.error)


@both_modes
@pytest.mark.parametrize("end", ["completed", "failed", "canceled"])
def test_a_job_that_is_over_is_not_canceled(polaris, deferrable, end):
    health = {"status": "error", "code": "internal_error"}

    def finish():
        (job,) = polaris._store.jobs
        polaris.set_status(job, end, health=health)

    if deferrable:
        polaris.next_job("hang")
    else:
        polaris.next_job("fail" if end == "failed" else "complete", health=health)
    outcome = Task(retries=0).run(between=finish, deferrable=deferrable, cancel_on_failure=True)
    assert outcome.kind != "success"
    assert not puts(polaris)


@both_modes
def test_a_job_that_completes_is_not_canceled(polaris, deferrable):
    polaris.next_job("complete")
    outcome = Task(retries=0).run(deferrable=deferrable, cancel_on_failure=True)
    assert outcome.kind == "success"
    assert not puts(polaris)


@pytest.mark.parametrize("retries", [0, 1])
def test_execution_timeout_on_a_worker_cancels_the_job_in_the_last_try_only(polaris, moved_clock, retries, task_log):
    polaris.next_job("hang")
    running = Running(polaris, moved_clock, cancel_on_failure=True)
    running.task.max_tries = retries

    def alarm():
        if len(moved_clock.slept) == 2:
            raise AirflowTaskTimeout("Timeout")

    moved_clock.on_sleep = alarm
    context = running.task.context()
    assert outcome_of(lambda: running.operator.execute(context), context["ti"]).kind == "execution_timeout"
    assert len(puts(polaris)) == (retries == 0)
    assert running.store.get(KEY)["state"] == ("waiting" if retries else "canceling")


class TestEndOfTheDeferralByAirflow:
    """Airflow itself ends a deferral if the trigger failed, or if no triggerer ran for too long."""

    @pytest.fixture
    def deferred(self, polaris):
        """Return a function that defers a task, and one that lets Airflow fail it."""
        polaris.next_job("hang")

        def run(task, meanwhile=lambda: None, **options):
            def make():
                return PolarisCreateJobOperator(
                    task_id="load", job_spec=SQL, retries=task.retries, poll_interval=60, timeout=600,
                    deferrable=True, cancel_on_failure=True, **options,
                )  # fmt: skip

            context = task.context()
            ti = context["ti"]
            ti.xcom_pull = lambda task_ids, key, map_indexes: ti.pushed.get(key)
            assert outcome_of(lambda: make().execute(context), ti).kind == "deferred"
            meanwhile()
            return outcome_of(lambda: make().resume_execution("__fail__", {"error": "Trigger timeout"}, context), ti)

        return run

    @with_or_without_store
    @pytest.mark.parametrize("retries", [0, 1])
    def test_the_job_is_canceled_in_the_last_try_only(self, polaris, deferred, store, retries):
        outcome = deferred(Task(store=store, retries=retries))
        assert outcome.kind.startswith("TaskDeferral")
        assert len(puts(polaris)) == (retries == 0)

    def test_a_job_that_completed_in_the_meantime_is_not_canceled(self, polaris, deferred):
        def complete():
            (job,) = polaris._store.jobs
            polaris.set_status(job, "completed")

        assert deferred(Task(retries=0), complete).kind.startswith("TaskDeferral")
        assert not puts(polaris)

    def test_a_fault_of_the_cancellation_hides_no_error(self, polaris, deferred, task_log):
        outcome = deferred(Task(retries=0), lambda: polaris.fail_next(999, status=403, match="jobs"))
        assert outcome.kind.startswith("TaskDeferral")
        assert "The job could not be canceled" in " ".join(task_log())

    def test_a_job_that_is_not_known_keeps_running(self, polaris, deferred):
        """The task has neither a store nor XCom."""
        outcome = deferred(Task(retries=0, store=False), do_xcom_push=False)
        assert outcome.kind.startswith("TaskDeferral")
        assert not puts(polaris)

    def test_an_event_that_cannot_be_read_cancels_the_job_of_the_last_try(self, polaris):
        polaris.next_job("hang")
        task = Task(retries=0)

        def make():
            return PolarisCreateJobOperator(task_id="load", job_spec=SQL, deferrable=True, cancel_on_failure=True)

        context = task.context()
        assert outcome_of(lambda: make().execute(context), context["ti"]).kind == "deferred"
        outcome = outcome_of(lambda: make().execute_complete(context, {"outcome": "?"}), context["ti"])
        assert outcome.kind == "PolarisError"
        assert len(puts(polaris)) == 1


def test_a_try_that_another_has_overtaken_does_not_cancel_the_job_of_the_other(polaris, moved_clock):
    polaris.next_job("hang")
    task = Task(retries=0)
    operator = PolarisCreateJobOperator(
        task_id="load", job_spec=SQL, poll_interval=60, timeout=600, deferrable=False, cancel_on_failure=True,
        max_unreachable=60,
    )  # fmt: skip
    context = task.context()

    def overtaken():
        if len(moved_clock.slept) == 1:
            task.store.set(KEY, {**task.store.get(KEY), "at": moved_clock.time})
            polaris.fail_next(99, status=503, match="GET .*/jobs/")

    moved_clock.on_sleep = overtaken
    assert outcome_of(lambda: operator.execute(context), context["ti"]).kind == "PolarisUnreachable"
    assert not puts(polaris)
