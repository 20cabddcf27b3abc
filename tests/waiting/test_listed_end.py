"""A job that ends together with many others: a list ends its wait in the trigger, and the worker confirms the end."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator, PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from tests.support.airflow_versions import event_through_the_database, trigger_through_the_database
from tests.support.create_tasks import Task
from tests.support.run_task import all_events, one_event, outcome_of
from tests.support.specs import SQL
from tests.support.triggers import trigger

pytestmark = pytest.mark.usefixtures("no_reports")

RUNNING = {"executionStatus": "running"}
OTHERS = 15


@pytest.fixture
def polaris(monkeypatch):
    """Yield a local Polaris for one test: other active jobs would matter here."""
    with LocalPolaris() as polaris:
        polaris.cancel_checks = 99
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", polaris.connection_json)
        yield polaris


class Deferred:
    """A task that has deferred, beside many triggers that wait for other jobs."""

    def __init__(self, polaris, moved_clock, kind, **options):
        self.polaris = polaris
        self.clock = moved_clock
        self.context = Task().context()
        if kind == "create":
            self.make = lambda: PolarisCreateJobOperator(task_id="t", job_spec=SQL, deferrable=True, **options)
        else:
            job_id = polaris.add_job(**RUNNING)
            operator = {"sensor": PolarisJobSensor, "cancel": PolarisCancelJobOperator}[kind]
            self.make = lambda: operator(task_id="t", job_id=job_id, deferrable=True, **options)
        self.outcome = self._outcome_of(lambda: self.make().execute(self.context))
        self.job_id = self.trigger.args.job_id
        self.others = [polaris.add_job(**RUNNING) for _ in range(OTHERS)]

    @property
    def trigger(self):
        assert self.outcome.kind == "deferred", self.outcome
        return trigger_through_the_database(self.outcome.error.trigger)

    def _outcome_of(self, run):
        return outcome_of(run, self.context["ti"])

    def end_with_the_others(self, status="completed"):
        """Let all jobs end at once. Return the event of the task's trigger."""

        def end():
            if len(self.clock.slept) == 3:
                for job_id in (self.job_id, *self.others):
                    self.polaris.set_status(job_id, status)

        async def run():
            self.clock.on_sleep = end
            waits = [all_events(self.trigger), *(all_events(trigger(job_id)) for job_id in self.others)]
            return (await asyncio.gather(*waits))[0][0]

        self.clock.slept.clear()
        event = event_through_the_database(asyncio.run(run()))
        self.clock.on_sleep = None
        self.polaris.requests.clear()
        return event

    def resume(self, event):
        method = self.outcome.error.method_name
        self.outcome = self._outcome_of(lambda: self.make().resume_execution(method, {"event": event}, self.context))
        return self.outcome

    @property
    def asked(self):
        """How often the job was requested by id."""
        return sum(one.path.endswith(f"/jobs/{self.job_id}") for one in self.polaris.requests)


@pytest.mark.parametrize(("kind", "status"), [("sensor", "completed"), ("create", "completed"), ("cancel", "canceled")])
def test_the_worker_confirms_with_one_request_what_the_list_has_shown(polaris, moved_clock, kind, status):
    task = Deferred(polaris, moved_clock, kind)
    event = task.end_with_the_others(status)
    assert (event["outcome"], event["is_listed"]) == ("job", True)
    assert not Job.from_api(event["job"]).is_over, "the job before its end, which only the worker confirms"
    outcome = task.resume(event)
    assert (outcome.kind, task.asked) == ("success", 1)
    assert outcome.xcom["execution_status"] == status


@pytest.mark.parametrize("kind", ["sensor", "create", "cancel"])
def test_a_task_waits_on_by_id_if_the_list_was_wrong(polaris, moved_clock, kind):
    task = Deferred(polaris, moved_clock, kind)
    event = task.end_with_the_others()
    polaris.script(task.job_id, RUNNING, RUNNING, RUNNING, {"executionStatus": "failed"})
    outcome = task.resume(event)
    assert (outcome.kind, task.asked, task.trigger.args.takes_list) == ("deferred", 1, False)
    event = event_through_the_database(one_event(task.trigger))
    assert (event["is_listed"], event["job"]["executionStatus"]) == (False, "failed")
    ends = {"sensor": "PolarisGateRefused", "create": "PolarisJobFailed", "cancel": "success"}
    assert task.resume(event).kind == ends[kind]


def test_a_second_wrong_list_does_not_send_the_task_to_a_worker_again(polaris, moved_clock):
    task = Deferred(polaris, moved_clock, "sensor")
    event = task.end_with_the_others()
    polaris.script(task.job_id, RUNNING)
    assert task.resume(event).kind == "deferred"
    task.others = [polaris.add_job(**RUNNING) for _ in range(OTHERS)]
    event = task.end_with_the_others()
    assert not event["is_listed"]
    assert task.resume(event).kind == "success"


def test_a_task_that_cannot_confirm_the_list_counts_a_failed_poll_and_waits_on_by_id(polaris, moved_clock):
    task = Deferred(polaris, moved_clock, "sensor")
    event = task.end_with_the_others()
    polaris.fail_next(1, status=503)
    assert task.resume(event).kind == "deferred"
    assert not task.trigger.args.takes_list
    assert task.trigger.args.failing
    event = event_through_the_database(one_event(task.trigger))
    assert not event["is_listed"]
    assert task.resume(event).kind == "success"


@pytest.mark.parametrize("kind", ["sensor", "create", "cancel"])
def test_a_key_that_is_being_rotated_does_not_end_the_wait(polaris, moved_clock, kind):
    task = Deferred(polaris, moved_clock, kind)
    event = task.end_with_the_others("canceled" if kind == "cancel" else "completed")
    polaris.fail_next(1, status=401)
    assert task.resume(event).kind == "deferred"


@pytest.mark.parametrize("status", [404, 429, 503])
def test_the_worker_sends_one_request_before_the_deadline_and_does_not_sleep(polaris, moved_clock, status):
    task = Deferred(polaris, moved_clock, "sensor", timeout=600)
    event = task.end_with_the_others()
    moved_clock.slept.clear()
    polaris.fail_next(99, status=status, retry_after=30)
    assert task.resume(event).kind == "deferred"
    assert (task.asked, moved_clock.slept) == (1, [])


@pytest.mark.parametrize("status", [403, 401])
def test_a_final_response_ends_the_wait_and_names_the_job(polaris, moved_clock, status):
    task = Deferred(polaris, moved_clock, "sensor")
    event = task.end_with_the_others()
    if status == 401:  # the key has been wrong for five minutes
        event["failing"] = {
            "at": moved_clock.time,
            "unreachable_since": None,
            "unauthorized_since": moved_clock.time - 301,
        }
    polaris.fail_next(99, status=status)
    outcome = task.resume(event)
    assert outcome.kind == {401: "PolarisUnauthorized", 403: "PolarisForbidden"}[status]
    assert task.job_id in str(outcome.error)


def test_counters_that_cannot_be_read_after_the_list_begin_an_outage(polaris, moved_clock):
    task = Deferred(polaris, moved_clock, "sensor", min_rows_processed=1)
    event = task.end_with_the_others()
    polaris.fail_next(99, status=503, match="/metrics")
    assert task.resume(event).kind == "deferred"
    assert task.trigger.args.failing["unreachable_since"] is not None


@pytest.mark.parametrize("kind", ["sensor", "create"])
def test_one_failed_request_after_the_deadline_does_not_fail_a_job_that_completed_in_time(polaris, moved_clock, kind):
    task = Deferred(polaris, moved_clock, kind, timeout=600)
    event = task.end_with_the_others()
    moved_clock.time = event["deadline"] + 1  # the task has waited for a worker
    polaris.fail_next(1, status=503)
    assert task.resume(event).kind == "success"


def test_a_wrong_list_does_not_prevent_the_cancellation_at_a_timeout(polaris, moved_clock):
    task = Deferred(polaris, moved_clock, "create", timeout=600, cancel_on_timeout=True)
    event = task.end_with_the_others()
    polaris.set_status(task.job_id, "running")  # the list was wrong
    moved_clock.time = event["deadline"] + 1
    polaris.fail_next(99, status=503, match=f"GET .*/jobs/{task.job_id}")
    assert "Timeout: " in str(task.resume(event).error)
    assert [one.method for one in polaris.requests if one.method != "GET"] == ["PUT"]


def test_a_task_that_an_earlier_release_deferred_gets_no_event_from_a_list(polaris, moved_clock):
    """Its worker may still run that release, which ignores ``is_listed``."""
    task = Deferred(polaris, moved_clock, "sensor")
    task.outcome.error.trigger = type(task.trigger)(**{**task.trigger.args.to_dict(), "takes_list": False})
    event = task.end_with_the_others()
    assert (event["outcome"], event["is_listed"], event["job"]["executionStatus"]) == ("job", False, "completed")


def test_a_list_that_responds_ends_an_outage(polaris, moved_clock):
    task = Deferred(polaris, moved_clock, "sensor")
    failing = {"at": moved_clock.time, "unreachable_since": moved_clock.time - 500, "unauthorized_since": None}
    task.outcome.error.trigger = type(task.trigger)(**{**task.trigger.args.to_dict(), "failing": failing})
    event = task.end_with_the_others()
    assert (event["is_listed"], event["failing"]) == (True, None)


def test_the_gate_judges_what_the_worker_finds_and_not_the_list(polaris, moved_clock):
    task = Deferred(polaris, moved_clock, "sensor")
    event = task.end_with_the_others()
    polaris.script(task.job_id, {"executionStatus": "canceled"})
    outcome = task.resume(event)
    assert outcome.kind == "PolarisGateRefused"
    assert "canceled" in str(outcome.error)


def test_an_event_of_an_earlier_release_needs_no_request_for_the_job(polaris, moved_clock):
    task = Deferred(polaris, moved_clock, "sensor")
    event = task.end_with_the_others()
    del event["is_listed"]
    event["job"]["executionStatus"] = "completed"
    assert (task.resume(event).kind, task.asked) == ("success", 0)
