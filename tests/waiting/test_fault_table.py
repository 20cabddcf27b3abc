"""The fault table: no answer of Polaris, or of a gateway, makes a task hang, pass wrongly, or send many requests.

The rows are answers. The columns are the tasks that get them, and the connection test. An answer comes when the task
has seen its job running.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass

import pytest

from airflow_provider_polaris.api import client, transport
from airflow_provider_polaris.api.client import MIN_PAGE_LIMIT, PAGE_LIMIT
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator, PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from tests.support.create_tasks import Task, posts
from tests.support.run_task import all_events, run_task
from tests.support.specs import SPEC, SQL
from tests.support.triggers import trigger

pytestmark = pytest.mark.usefixtures("moved_clock")

#: Fewer requests than this follow the last good answer, unless the answer is an outage.
MOST_REQUESTS = 30
LASTING = 10**6
#: The gate needs the counters, and the log names the warnings of the job.
GATE = {"max_rows_skipped_by_error": 5, "fail_on_warnings": ("no_rows_found",)}
WARNING = {"status": "warn", "code": "multiple"}
TASKS = ("poke", "deferred", "create", "create deferred", "cancel", "cancel deferred")
WAITS = TASKS[:4]


@dataclass(frozen=True)
class Ended:
    """How a task ended, and the requests that it sent after the last good answer."""

    kind: str
    message: str
    requests: list[str]
    xcom: object = None

    def sent(self, part: str) -> int:
        return sum(part in request for request in self.requests)


class Stage:
    """One job, one task that waits for it, and the answer that comes when the task has seen the job running."""

    def __init__(self, polaris, clock, monkeypatch):
        self.polaris = polaris
        self.clock = clock
        self.monkeypatch = monkeypatch
        self.job_id = ""

    def run(self, task: str, arm, **options) -> Ended:
        """Run a task to its end. ``arm`` is called with this stage when the task has seen its job running."""
        is_armed = []

        def arm_once():
            if not is_armed:
                is_armed.append(len(self.polaris.requests))
                self.job_id = self.job_id or next(reversed(self.polaris._store.jobs))
                self.clock.on_sleep = None
                arm(self)

        self.clock.on_sleep = arm_once
        kind, _, mode = task.partition(" ")
        deferrable = mode == "deferred" or kind == "deferred"
        if kind != "create":
            self.job_id = self.polaris.add_job(
                executionStatus="running", target={"tableName": "t"}, metrics={"numRowsSkippedByError": 0}
            )
        make = {"create": self._create, "cancel": self._cancel}.get(kind, self._sensor)
        outcome = run_task(
            lambda: make(deferrable=deferrable, **options),
            between=arm_once,
            most_deferrals=99,
            context=Task().context(),
        )
        assert is_armed, "the task ended before the answer came"
        requests = [f"{request.method} {request.path}" for request in self.polaris.requests[is_armed[0] :]]
        return Ended(outcome.kind, str(outcome.error), requests, outcome.xcom)

    def _sensor(self, interval=60, **options):
        options = {"poke_interval": interval, "timeout": 10**6, **GATE, **options}
        return PolarisJobSensor(task_id="t", job_id=self.job_id, **options)

    def _create(self, interval=60, **options):
        options = {"poll_interval": interval, "timeout": 10**6, **GATE, **options}
        return PolarisCreateJobOperator(task_id="t", job_spec=SQL, retries=2, **options)

    def _cancel(self, interval=10, **options):
        return PolarisCancelJobOperator(task_id="t", job_id=self.job_id, poll_interval=interval, **options)

    def complete(self, health=None, **metrics):
        """End the job, as the service does."""
        health = WARNING if health is None else health
        self.polaris.set_status(self.job_id, "completed", health=health)
        self.polaris.set_metrics(self.job_id, **(metrics or {"numRowsProcessed": 9, "numRowsSkippedByError": 0}))
        self.polaris.set_logs(self.job_id, {"code": "invalid_rows_found"})

    def answer(self, path: str, times: int, status: int, body: str):
        """Answer requests whose path ends so."""
        kind = {"Content-Type": "application/json"} if body.startswith("{") else {}
        self.polaris.answer_next(times, status=status, body=body, headers=kind, match=f"{path}$")


@pytest.fixture
def stage(polaris, moved_clock, monkeypatch):
    return Stage(polaris, moved_clock, monkeypatch)


ENVELOPES = {
    "flat": lambda status: {"code": f"Code{status}", "message": "why"},
    "nested": lambda status: {"error": {"code": f"Code{status}", "message": "why"}},
    "a numeric code": lambda status: {"code": status, "message": "why"},
    "a nested numeric code": lambda status: {"error": {"code": status, "message": "why"}},
    "SQL": lambda status: {"error": "druidException", "errorCode": f"Code{status}", "errorMessage": "why"},
}
GATEWAY = {
    "HTML": "<html><h1>Request blocked</h1></html>",
    "nothing": "",
    "a message alone": '{"message": "Forbidden"}',
}
each_envelope = pytest.mark.parametrize("envelope", ENVELOPES)
FINAL = {
    400: "PolarisBadRequest",
    401: "PolarisUnauthorized",
    403: "PolarisForbidden",
    404: "PolarisJobNotFound",
    409: "PolarisConflict",
}


@each_envelope
@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize("task", TASKS)
def test_a_lasting_refusal_of_the_job_ends_the_wait(stage, task, status, envelope):
    body = json.dumps(ENVELOPES[envelope](status))
    ended = stage.run(task, lambda stage: stage.answer("/jobs/[^/]+", LASTING, status, body), interval=30)
    assert ended.kind == FINAL[status]
    for part in (stage.job_id, "why", str(status)):
        assert part in ended.message
    assert len(ended.requests) < MOST_REQUESTS


@each_envelope
@pytest.mark.parametrize("status", [400, 403, 404, 409])
@pytest.mark.parametrize("path", ["metrics", "logs"])
@pytest.mark.parametrize("task", WAITS)
def test_a_lasting_refusal_of_counters_or_log_is_a_refusal_of_the_gate(stage, task, path, status, envelope):
    body = json.dumps(ENVELOPES[envelope](status))

    def arm(stage):
        stage.complete()
        stage.answer(path, LASTING, status, body)

    ended = stage.run(task, arm)
    assert ended.kind == "PolarisGateRefused"
    unchecked = {
        "metrics": "its counters could not be read, and max_rows_skipped_by_error could not be checked",
        "logs": "its logs, which should name the warnings, could not be read",
    }[path]
    for part in (unchecked, f"HTTP {status}: ", f"/{path})", "why"):
        assert part in ended.message
    assert len(ended.requests) < MOST_REQUESTS


@pytest.mark.parametrize("body", GATEWAY)
@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("path", ["metrics", "logs"])
@pytest.mark.parametrize("task", WAITS)
def test_a_gateway_that_refuses_only_counters_or_log_is_a_refusal_of_the_gate(stage, task, path, status, body):
    def arm(stage):
        stage.complete()
        stage.answer(path, LASTING, status, GATEWAY[body])

    ended = stage.run(task, arm)
    assert ended.kind == "PolarisGateRefused"
    assert f"HTTP {status}" in ended.message
    assert f"/{path})" in ended.message
    assert len(ended.requests) < MOST_REQUESTS


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
@pytest.mark.parametrize("path", ["metrics", "logs", "/jobs/[^/]+"])
@pytest.mark.parametrize("task", WAITS)
def test_an_answer_of_a_gateway_that_comes_once_changes_nothing(stage, task, path, status):
    def arm(stage):
        stage.complete()
        stage.answer(path, 1, status, GATEWAY["HTML"])

    ended = stage.run(task, arm)
    assert ended.kind == "success", ended.message
    assert ended.xcom["metrics"]["numRowsSkippedByError"] == 0
    assert len(ended.requests) < 12


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("task", TASKS)
def test_a_gateway_that_refuses_the_job_for_hours_is_an_outage(stage, task, status):
    ended = stage.run(task, lambda stage: stage.answer("/jobs/[^/]+", LASTING, status, GATEWAY["HTML"]))
    is_cancel = task.startswith("cancel")
    assert ended.kind == ("PolarisCancelTimeout" if is_cancel else "PolarisInvalidResponse")
    for part in (stage.job_id, f"HTTP {status}", "Request blocked"):
        assert part in ended.message
    assert "timeout" in ended.message if is_cancel else "was unreachable for 3,6" in ended.message
    assert len(ended.requests) <= 65


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("task", WAITS)
def test_a_gateway_that_refuses_everything_is_an_outage_and_no_refusal_of_the_gate(stage, task, status):
    """The outage begins when the job is over, and its counters are not read yet."""

    def arm(stage):
        stage.complete()
        stage.polaris.delay_next(1, seconds=0, match="/jobs/[^/]+$")  # this request is answered as usual
        stage.answer("/jobs/[^/]+(/metrics|/logs)?", LASTING, status, GATEWAY["HTML"])

    ended = stage.run(task, arm)
    assert ended.kind == "PolarisInvalidResponse"
    assert "was unreachable for 3,6" in ended.message


@pytest.mark.parametrize("answer", [(503, ENVELOPES["flat"](503)), (200, None)], ids=["503", "HTML with 200"])
@pytest.mark.parametrize("task", WAITS)
def test_an_outage_of_the_counters_ends_the_wait_after_max_unreachable_with_one_request_per_poll(stage, task, answer):
    status, body = answer

    def arm(stage):
        stage.complete()
        stage.answer("metrics", LASTING, status, json.dumps(body) if body else GATEWAY["HTML"])

    ended = stage.run(task, arm)
    assert ended.kind in ("PolarisUnreachable", "PolarisInvalidResponse")
    assert "was unreachable for 3,6" in ended.message
    assert ended.sent("/metrics") <= 60 + 10 + 1, "an hour of intervals, and the settling time of the first poll"
    assert ended.sent("") <= 2 * ended.sent("/metrics") + 1


@each_envelope
@pytest.mark.parametrize("path", ["metrics", "logs"])
@pytest.mark.parametrize("task", WAITS)
def test_a_401_for_counters_or_log_ends_the_wait_after_five_minutes(stage, task, path, envelope):
    def arm(stage):
        stage.complete()
        stage.answer(path, LASTING, 401, json.dumps(ENVELOPES[envelope](401)))

    began = stage.clock.time
    ended = stage.run(task, arm)
    assert ended.kind == "PolarisUnauthorized"
    for part in (stage.job_id, "why", "HTTP 401", f"/{path})"):
        assert part in ended.message
    assert len(ended.requests) < MOST_REQUESTS
    assert stage.clock.time - began < 300 + 3 * 60


@pytest.mark.parametrize("answer", ["flat", "SQL", "HTML", "nothing"])
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 503])
@pytest.mark.parametrize("task", ["cancel", "cancel deferred"])
def test_a_cancellation_needs_no_counters(stage, task, status, answer):
    body = json.dumps(ENVELOPES[answer](status)) if answer in ENVELOPES else GATEWAY[answer]
    ended = stage.run(task, lambda stage: stage.answer("(metrics|logs)", LASTING, status, body))
    assert ended.kind == "success"
    assert ended.xcom["execution_status"] == "canceled"
    assert ended.xcom["metrics"]["numRowsProcessed"] is None
    assert len(ended.requests) < MOST_REQUESTS


@pytest.mark.parametrize(
    ("counters", "kind", "part"),
    [
        ('"numRowsSkippedByError": 5.0', "success", ""),
        ('"numRowsSkippedByError": 5e0', "success", ""),
        ('"numRowsSkippedByError": 6.0', "PolarisGateRefused", "lost 6 rows, max_rows_skipped_by_error is 5"),
        ('"numRowsSkippedByError": 0.5', "PolarisGateRefused", "is not reported"),
        ('"numRowsSkippedByError": NaN', "PolarisGateRefused", "is not reported"),
        ('"numRowsSkippedByError": -Infinity', "PolarisGateRefused", "is not reported"),
        ('"numRowsSkippedByError": false', "PolarisGateRefused", "is not reported"),
        ('"numRowsSkippedByError": "0"', "PolarisGateRefused", "is not reported"),
        ('"numRowsSkippedByError": null', "PolarisGateRefused", "is not reported"),
        ("", "PolarisGateRefused", "is not reported"),
    ],
    ids=lambda value: str(value)[-12:],
)
@pytest.mark.parametrize("task", WAITS)
def test_a_counter_is_a_whole_number_however_it_is_written(stage, task, counters, kind, part):
    def arm(stage):
        stage.complete()
        stage.answer("metrics", LASTING, 200, f'{{"totals": {{{counters}}}}}')

    ended = stage.run(task, arm)
    assert ended.kind == kind
    assert part in ended.message
    assert len(ended.requests) < MOST_REQUESTS


@pytest.mark.parametrize("health", [None, {}], ids=["null", "without a status"])
@pytest.mark.parametrize("polls", [1, 2, LASTING], ids=["once", "twice", "for ever"])
@pytest.mark.parametrize("task", TASKS)
def test_a_completed_job_without_a_health_is_requested_again_before_the_gate_refuses(stage, task, polls, health):
    def arm(stage):
        body = {"id": stage.job_id, "executionStatus": "completed", "health": health}
        stage.answer("/jobs/[^/]+", polls, 200, json.dumps(body))
        stage.complete(health={"status": "ok"})

    began = stage.clock.time
    ended = stage.run(task, arm)
    is_bad = polls == LASTING and not task.startswith("cancel")
    assert ended.kind == ("PolarisGateRefused" if is_bad else "success"), ended.message
    assert not is_bad or "completed, and Polaris reports no health" in ended.message
    assert len(ended.requests) < MOST_REQUESTS
    assert stage.clock.time - began <= 60 + 30 + 60


@pytest.mark.parametrize("task", TASKS)
def test_a_job_whose_response_becomes_too_large_ends_a_wait_at_once_and_is_canceled_by_its_status(stage, task):
    def arm(stage):
        stage.monkeypatch.setattr(transport, "MAX_BODY", 20_000)
        stage.polaris.set_fields(stage.job_id, query="x" * 30_000)

    ended = stage.run(task, arm)
    if task == "cancel":
        assert ended.kind == "success"
        assert ended.xcom["execution_status"] == "canceled"
    else:
        assert ended.kind == "PolarisResponseTooLarge"
        for part in (stage.job_id, "more than 20,000 bytes", "inline data"):
            assert part in ended.message
        assert len(ended.requests) == 1


@pytest.mark.parametrize("deferrable", [False, True], ids=["on the worker", "deferred"])
def test_a_job_that_is_too_large_is_canceled(stage, polaris, monkeypatch, deferrable):
    job_id = polaris.add_job(executionStatus="running", query="x" * 30_000)
    monkeypatch.setattr(transport, "MAX_BODY", 20_000)
    outcome = run_task(lambda: PolarisCancelJobOperator(task_id="t", job_id=job_id, deferrable=deferrable))
    assert outcome.kind == "success", outcome.error
    assert outcome.xcom["execution_status"] == "canceled"
    assert polaris._store.jobs[job_id].body["executionStatus"] == "canceled"
    whole = [request for request in polaris.requests if request.path.endswith(job_id)]
    assert [request.method for request in whole] == ["GET", "PUT"], "the large response is requested once per call"
    assert len(polaris.requests) < 12


@pytest.mark.parametrize("deferrable", [False, True], ids=["on the worker", "deferred"])
@pytest.mark.parametrize("store", [False, True], ids=["without a store", "with a store"])
def test_a_job_that_is_too_large_is_created_once(stage, polaris, monkeypatch, deferrable, store):
    rows = SPEC["source"]["data"] * 500
    spec = {**SPEC, "source": {**SPEC["source"], "data": rows}}
    monkeypatch.setattr(transport, "MAX_BODY", 20_000)
    task = Task(store=store)
    outcome = task.run(spec, deferrable=deferrable)
    assert outcome.kind == "PolarisResponseTooLarge"
    (job_id,) = polaris._store.jobs
    assert job_id in str(outcome.error)
    assert outcome.pushed["job_id"] == job_id
    again = task.run(spec, deferrable=deferrable)
    assert again.kind == ("PolarisResponseTooLarge" if store else "PolarisJobLost")
    assert len(posts(polaris)) == 1


@each_envelope
@pytest.mark.parametrize("status", FINAL)
def test_a_spec_that_the_service_refuses_creates_no_job_and_is_sent_once(stage, polaris, status, envelope):
    polaris.answer_next(LASTING, status=status, body=json.dumps(ENVELOPES[envelope](status)), match="POST")
    outcome = Task().run(SPEC)
    assert outcome.kind == FINAL[status].replace("Job", "")
    for part in ("No job was created", "why"):
        assert part in str(outcome.error)
    assert len(posts(polaris)) == 1


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_spec_that_a_gateway_refuses_may_have_been_forwarded_and_is_looked_for(stage, polaris, status):
    polaris.answer_next(1, status=status, body=GATEWAY["HTML"], match="POST")
    outcome = Task().run(SQL, wait_for_completion=False)
    sent = [f"{request.method} {request.path}" for request in polaris.requests]
    assert sent[1].startswith("GET"), "the job is looked for before anything is sent again"
    assert outcome.kind in ("success", "PolarisInvalidResponse")
    assert len(polaris._store.jobs) == (outcome.kind == "success")


@pytest.mark.parametrize("times", [1, LASTING], ids=["once", "lasting"])
@pytest.mark.parametrize("status", [400, 403])
def test_a_cancellation_that_a_gateway_refuses_is_sent_again(stage, polaris, status, times):
    job_id = polaris.add_job(executionStatus="running")
    polaris.answer_next(times, status=status, body=GATEWAY["HTML"], match="PUT")
    outcome = run_task(lambda: PolarisCancelJobOperator(task_id="t", job_id=job_id, deferrable=False))
    assert outcome.kind == ("success" if times == 1 else "PolarisInvalidResponse")
    assert times == 1 or job_id in str(outcome.error)
    assert len(polaris.requests) < 12


@each_envelope
@pytest.mark.parametrize("status", FINAL)
def test_the_connection_test_says_what_the_service_refuses(polaris, hook, status, envelope):
    polaris.answer_next(LASTING, status=status, body=json.dumps(ENVELOPES[envelope](status)), match="/jobs$")
    works, message = hook.test_connection()
    assert not works
    expected = {
        401: "Check the API key",
        403: "permission ManageIngestionJobs",
        404: "can see no project",
    }
    for part in [expected[status]] if status in expected else ["why", f"HTTP {status}"]:
        assert part in message
    assert len(polaris.requests) <= 3


@pytest.mark.parametrize("body", GATEWAY)
@pytest.mark.parametrize("status", [200, 400, 403, 404])
def test_the_connection_test_says_that_a_gateway_answers(polaris, hook, status, body):
    polaris.answer_next(LASTING, status=status, body=GATEWAY[body])
    works, message = hook.test_connection()
    assert not works
    assert "is not the Polaris API, or a gateway responds" in message
    assert len(polaris.requests) == 1


def test_the_connection_test_passes_if_the_oldest_job_is_too_large(polaris, monkeypatch):
    polaris.add_job(executionStatus="running", query="x", source={"type": "inline", "data": "x" * 30_000})
    monkeypatch.setattr(transport, "MAX_BODY", 20_000)
    works, message = PolarisHook().test_connection()
    assert works, message


@pytest.mark.parametrize(
    ("row_size", "most_requests", "reads_list"),
    [
        pytest.param(300, 1, True, id="all pages can be read"),
        pytest.param(15_000, 6, True, id="small pages can be read"),
        pytest.param(30_000, 8, False, id="no page can be read"),
    ],
)
def test_deferred_waits_read_a_list_whose_pages_are_too_large_in_smaller_pages(
    polaris, moved_clock, monkeypatch, row_size, most_requests, reads_list
):
    """The list holds the data of inline jobs. Only jobs that nobody waits for are large here."""
    monkeypatch.setattr(client, "MAX_RAW_PAGE", 200_000)
    ids = [polaris.add_job(executionStatus="running") for _ in range(200)]
    for _ in range(10):
        polaris.add_job(executionStatus="running", createdBy={"username": "x" * row_size})

    def end_after_five_minutes():
        if moved_clock.moved > 300:
            for job_id in ids:
                polaris.set_status(job_id, "completed")

    async def run():
        return await asyncio.gather(*(all_events(trigger(job_id)) for job_id in ids))

    moved_clock.on_sleep = end_after_five_minutes
    events = asyncio.run(run())
    assert {event.payload["outcome"] for (event,) in events} == {"job"}
    asked = [int(limit) for r in polaris.requests for limit in re.findall(r"paginationLimit=(\d+)", r.query)]
    limits = list(dict.fromkeys(asked))
    halves = [1000, 500, 250, 125, 62, 31, 15, 10]
    assert limits == halves[: len(limits)]
    assert len(limits) <= most_requests
    by_id = [request for request in polaris.requests if not request.query]
    assert (len(by_id) < 3 * len(ids)) == reads_list
    assert (halves[0], halves[-1]) == (PAGE_LIMIT, MIN_PAGE_LIMIT)
