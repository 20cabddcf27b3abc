"""Streams are started once, suspended, resumed and reset, and a task that does it can be repeated."""

from __future__ import annotations

import pytest

from airflow_provider_polaris._compat import AirflowFailException
from airflow_provider_polaris.operators.polaris import PolarisStreamOperator, PolarisUpdateJobOperator
from tests.support.local_calls import caller_of
from tests.support.run_task import run_task
from tests.support.specs import stream_into

pytestmark = pytest.mark.usefixtures("moved_clock")


@pytest.fixture
def call(polaris):
    """Return a function that sends requests to a Polaris with the push streaming connection clicks."""
    call = caller_of(polaris)
    call("POST", "connections", json={"type": "push_streaming", "name": "clicks"})
    return call


def stream(action, **options):
    return run_task(lambda: PolarisStreamOperator(task_id="stream", action=action, **options))


def update(job_id, status):
    return run_task(lambda: PolarisUpdateJobOperator(task_id="update", job_id=job_id, desired_status=status))


def jobs(call, table="clicks_table"):
    return call("GET", f"jobs?targetTableName={table}").json()["values"]


SPEC = stream_into("clicks_table")


def test_a_stream_is_started_once(polaris, call):
    first = stream("start", job_spec=SPEC)
    assert (first.kind, first.xcom["job_type"], first.xcom["table"]) == ("success", "streaming", "clicks_table")
    again = stream("start", job_spec=SPEC)
    assert again.xcom["job_id"] == first.xcom["job_id"]
    assert len(jobs(call)) == 1


def test_a_suspended_stream_is_resumed_instead_of_started(call):
    job_id = stream("start", job_spec=SPEC).xcom["job_id"]
    assert stream("suspend", table="clicks_table").xcom["execution_status"] == "suspended"
    kept = stream("start", job_spec=SPEC)
    assert (kept.xcom["job_id"], kept.xcom["execution_status"]) == (job_id, "running")


def test_a_stream_is_replaced(call, wait_until):
    first = stream("start", job_spec=SPEC).xcom["job_id"]
    second = stream("start", job_spec=SPEC, if_running="replace").xcom["job_id"]
    assert second != first
    assert wait_until(lambda: call("GET", f"jobs/{first}").json()["executionStatus"] == "canceled")


@pytest.mark.parametrize("if_running", ["keep", "replace"])
def test_a_lost_response_starts_no_second_stream(polaris, call, if_running):
    if if_running == "replace":
        stream("start", job_spec=SPEC)
    polaris.drop_next(1, when="after", match="POST .*/jobs$")
    outcome = stream("start", job_spec=SPEC, if_running=if_running)
    assert outcome.kind == "success", outcome.error
    active = [job for job in jobs(call) if job["desiredExecutionStatus"] != "canceled"]
    assert [job["id"] for job in active] == [outcome.xcom["job_id"]]


def test_a_request_that_may_have_been_lost_is_repeated_by_the_next_try(polaris, call):
    polaris.drop_next(1, when="mid-body", match="POST .*/jobs$")
    assert stream("start", job_spec=SPEC).kind == "PolarisUnreachable"
    assert stream("start", job_spec=SPEC).kind == "success"
    assert len(jobs(call)) == 1


def test_another_client_that_starts_the_stream_at_the_same_time_is_no_error(polaris, call, monkeypatch):
    from airflow_provider_polaris.hooks.polaris import PolarisHook

    find, seen = PolarisHook.active_stream, []

    def too_early(self, table):
        seen.append(table)
        if len(seen) > 1:
            return find(self, table)
        assert call("POST", "jobs", json=SPEC).status_code == 201
        return None

    monkeypatch.setattr(PolarisHook, "active_stream", too_early)
    outcome = stream("start", job_spec=SPEC)
    assert (outcome.kind, outcome.xcom["job_id"]) == ("success", jobs(call)[0]["id"])


def test_a_spec_that_polaris_rejects_fails_the_task(call):
    outcome = stream("start", job_spec={**SPEC, "source": {"type": "inline"}})
    assert outcome.kind == "PolarisBadRequest"
    assert jobs(call) == []


def test_suspend_and_resume_can_be_repeated(call):
    stream("start", job_spec=SPEC)
    for action, status in (("suspend", "suspended"), ("resume", "running")):
        for _ in range(2):
            assert stream(action, table="clicks_table").xcom["execution_status"] == status


def test_the_task_waits_until_the_stream_is_suspended(polaris, call, moved_clock):
    job_id = polaris.add_job(type="streaming", executionStatus="running", target={"type": "table", "tableName": "slow"})
    for action, states, kind in (
        ("suspend", ["running", "running", "suspended"], "success"),
        ("resume", ["suspended"] * 99, "PolarisJobTimeout"),
    ):
        body = call("GET", f"jobs/{job_id}").text
        polaris.answer_next(1, body=body, headers={"Content-Type": "application/json"}, match="PUT")
        polaris.script(job_id, {}, *({"executionStatus": state} for state in states))
        outcome = stream(action, table="slow", timeout=60)
        assert outcome.kind == kind, outcome.error
    assert "is suspended and not running after 60 s" in str(outcome.error)
    assert set(moved_clock.slept) == {5.0}


def test_a_reset_is_sent_once(polaris, call):
    job_id = stream("start", job_spec=SPEC).xcom["job_id"]
    polaris.requests.clear()
    assert stream("reset", table="clicks_table").xcom["job_id"] == job_id
    resets = [request for request in polaris.requests if request.path.endswith("/reset")]
    assert [request.status for request in resets] == [200]
    polaris.drop_next(1, when="after", match="POST .*/reset")
    polaris.requests.clear()
    assert stream("reset", table="clicks_table").kind == "PolarisUnreachable"
    assert len([request for request in polaris.requests if request.path.endswith("/reset")]) == 1


@pytest.mark.parametrize("action", ["suspend", "resume", "reset"])
def test_a_table_without_a_stream_fails_the_task_and_is_tried_again(call, action):
    outcome = stream(action, table="nothing")
    assert (outcome.kind, str(outcome.error)) == ("PolarisNotFound", "No job streams into table 'nothing'")
    assert not isinstance(outcome.error, AirflowFailException)


@pytest.mark.parametrize(
    "options",
    [
        {"action": "stop", "table": "t"},
        {"action": "suspend"},
        {"action": "start"},
        {"action": "start", "job_spec": {**SPEC, "type": "batch"}},
        {"action": "start", "job_spec": {**SPEC, "target": {}}},
        {"action": "start", "job_spec": SPEC, "if_running": "ask"},
        {"action": "suspend", "table": "t", "timeout": -1},
    ],
)
def test_a_wrong_option_fails_the_task_without_retries(polaris, options):
    outcome = run_task(lambda: PolarisStreamOperator(task_id="stream", **options))
    assert outcome.kind == "PolarisOptionInvalid"
    assert polaris.requests == []


def test_a_job_is_updated(polaris):
    job_id = polaris.add_job(type="streaming", executionStatus="running")
    assert update(job_id, "suspended").xcom["execution_status"] == "suspended"
    assert update(job_id, "running").xcom["execution_status"] == "running"
    assert update(job_id, "canceled").kind == "success"
    assert update(None, "running").kind == "skipped"
    assert update(job_id, "completed").kind == "PolarisOptionInvalid"
    assert update(polaris.add_job(executionStatus="running"), "suspended").kind == "PolarisBadRequest"
