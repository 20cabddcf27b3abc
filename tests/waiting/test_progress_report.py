"""The lines with a job's progress: when they come, what they say, and that no wait depends on them."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from functools import partial

import pytest

from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.polling.shared_client import SPARE_CALL_SECONDS, SPARE_CALLS_AT_ONCE, SharedClient
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from airflow_provider_polaris.waiting import progress_report
from airflow_provider_polaris.waiting.progress_report import ReportTimer, next_report, read_progress
from tests.support.run_task import both_modes, one_event, run_task
from tests.support.triggers import trigger
from tests.support.virtual_time import play

RUNNING = {"executionStatus": "running", "metrics": {"numRowsProcessed": 8_876, "numRowsSkippedByError": 3}}
MINUTE = 60.0


def test_the_reports_come_after_1_2_5_and_10_minutes_and_then_every_15():
    due = [0.0]
    while due[-1] < 61 * MINUTE:
        due.append(next_report(due[-1]))
    assert due == [minutes * MINUTE for minutes in (0, 1, 2, 5, 10, 15, 30, 45, 60, 75)]


@pytest.mark.parametrize("waited", [-3600.0, 0.0, 59.9, 60.0, 899.9, 900.0, 1e7 + 0.1])
def test_a_report_is_due_later_than_now(waited):
    assert next_report(waited) > waited


def test_a_timer_starts_a_report_when_a_line_is_due_and_none_after_its_end():
    async def story(loop):
        reported = []

        async def report():
            reported.append(loop.moved)
            await asyncio.sleep(90)

        with ReportTimer(report):
            await asyncio.sleep(10)
            assert len(asyncio.all_tasks()) == 1, "no task sleeps between two lines"
            await asyncio.sleep(16 * MINUTE)
        await asyncio.sleep(60 * MINUTE)
        return reported

    # The second line is due during the first report.
    assert play(story) == pytest.approx([1 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE])


def test_a_timer_cancels_a_report_at_its_end():
    async def story(loop):
        ends = []

        async def report():
            try:
                await asyncio.sleep(1_000)
            finally:
                ends.append(loop.moved)

        with ReportTimer(report):
            await asyncio.sleep(70)
        await asyncio.sleep(0)
        return ends

    assert play(story) == [70.0]


def test_a_timer_starts_no_report_after_one_that_raised():
    async def story(loop):
        reported = []

        async def report():
            reported.append(loop.moved)
            raise RuntimeError("the log is full")

        loop.set_exception_handler(lambda *_: None)  # asyncio logs the error of the task
        with ReportTimer(report):
            await asyncio.sleep(60 * MINUTE)
        return reported

    assert play(story) == [60.0]


def reports_of(lines):
    return [line for line in lines if re.search(r"orders: (running|pending)", line)]


@pytest.fixture
def running(polaris):
    """The id of a job that has loaded a part of its rows."""
    job_id = polaris.add_job(type="batch", target={"type": "table", "tableName": "orders"}, **RUNNING)
    polaris._store.jobs[job_id].progress = 0.37
    return job_id


def sensor_for(job_id, **options):
    return lambda: PolarisJobSensor(task_id="gate", job_id=job_id, **{"poke_interval": 30, "timeout": 7200, **options})


def ends_after(polaris, job_id, moved_clock, seconds):
    """Complete the job as soon as the clock has moved so far."""

    def complete():
        if moved_clock.moved >= seconds:
            polaris.set_status(job_id, "completed")

    moved_clock.on_sleep = complete


@both_modes
def test_a_wait_reports_the_progress_of_its_job(polaris, running, moved_clock, task_log, deferrable):
    ends_after(polaris, running, moved_clock, 31 * MINUTE)
    outcome = run_task(sensor_for(running, deferrable=deferrable))
    assert outcome.error is None
    reports = reports_of(task_log())
    assert len(reports) == 6, "after 1, 2, 5, 10, 15 and 30 minutes"
    for line in reports:
        assert f"orders: running, 37 %, 8,876 in, 3 lost. Job {running}" in line
        assert "error" not in line
    asked = [request.path.rpartition("/")[2] for request in polaris.requests]
    assert asked.count("progress") == 6, "the progress is requested for the reports only"
    assert asked.count("metrics") == 6 + 1, "the counters are requested for the reports, and for XCom"


@both_modes
@pytest.mark.parametrize(
    ("fails", "line"),
    [("progress", "orders: running, 8,876 in, 3 lost. "), ("metrics", "orders: running, 37 %. "),
     ("(progress|metrics)", "orders: running. ")],
)  # fmt: skip
@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_report_leaves_out_what_cannot_be_read(
    polaris, running, moved_clock, task_log, deferrable, fails, line, status
):
    polaris.fail_next(1 + ("|" in fails), status=status, match=f"GET .*/{fails}$")
    ends_after(polaris, running, moved_clock, 70)
    outcome = run_task(sensor_for(running, deferrable=deferrable))
    assert outcome.error is None
    assert outcome.xcom["metrics"]["numRowsProcessed"] == 8_876
    (report,) = reports_of(task_log())
    assert line in report
    assert "after a failed poll" not in report


@both_modes
def test_no_progress_is_requested_during_an_outage(polaris, running, moved_clock, task_log, deferrable):
    polaris.fail_next(20, status=503, match="GET .*")
    ends_after(polaris, running, moved_clock, 31 * MINUTE)
    outcome = run_task(sensor_for(running, deferrable=deferrable))
    assert outcome.error is None
    failed = [request.path for request in polaris.requests if request.status == 503]
    assert len(failed) == 20
    assert not [path for path in failed if path.endswith(("/progress", "/metrics"))]
    assert len(reports_of(task_log())) == 3, "after 10, 15 and 30 minutes"


def test_a_hanging_request_for_progress_delays_a_poll_by_seconds_only(
    polaris, running, moved_clock, task_log, monkeypatch
):
    monkeypatch.setattr(progress_report, "READ_SECONDS", 0.05)
    polaris.hang_next(1, match="GET .*/progress$")
    ends_after(polaris, running, moved_clock, 6 * MINUTE)
    outcome = run_task(sensor_for(running))
    polaris.clear_faults()
    assert outcome.error is None
    assert [line for line in reports_of(task_log()) if "orders: running. Job" in line], "the line comes all the same"
    asked = [request.path.rpartition("/")[2] for request in polaris.requests]
    assert asked.count("progress") == 1, "no second request beside one that hangs"


def test_a_hanging_request_for_progress_never_delays_a_deferred_wait(polaris, running, monkeypatch, wait_until):
    """In real time: the moved clock waits for all threads."""
    # Reports are due all the time: none is requested before the first poll has a response.
    monkeypatch.setattr(progress_report, "EARLY_SECONDS", tuple(number / 20 for number in range(1, 1_000)))
    polaris.hang_next(1, match="GET .*/progress$")

    def complete():
        assert wait_until(lambda: any(request.path.endswith("/progress") for request in polaris.requests))
        polaris.set_status(running, "completed")

    thread = threading.Thread(target=complete)
    thread.start()
    began = time.monotonic()
    event = one_event(trigger(running, poll_interval=0.1, deadline=time.time() + 20)).payload
    thread.join()
    polaris.clear_faults()
    assert (event["outcome"], event["failed_polls"]) == ("job", 0)
    assert time.monotonic() - began < 10, "the request that hangs takes 30 s"


class Client:
    """A client without a connection: its calls are recorded."""

    def __init__(self, loop):
        self.loop = loop
        self.called: list[float] = []
        self.under_way = 0

    def call(self, _):
        assert not self.under_way, "one call at a time"
        self.under_way += 1
        self.called.append(self.loop.moved)
        self.under_way -= 1
        return "37 %"


def test_a_thousand_waits_report_at_a_small_rate():
    async def story(loop):
        client, shared = Client(loop), SharedClient("x", None)
        shared._client = client
        answers = await asyncio.gather(*(shared.spare_call(client.call, lambda: True) for _ in range(1_000)))
        return client.called, answers

    called, answers = play(story)
    assert set(answers) == {"37 %"}
    assert called[SPARE_CALLS_AT_ONCE - 1] == 0, "a few waits report at once"
    assert called[-1] == pytest.approx((1_000 - SPARE_CALLS_AT_ONCE) * SPARE_CALL_SECONDS)


def test_a_wait_that_has_left_costs_no_spare_call():
    async def story(loop):
        client, shared = Client(loop), SharedClient("x", None)
        shared._client = client
        left = [asyncio.ensure_future(shared.spare_call(client.call, lambda: True)) for _ in range(100)]
        await asyncio.sleep(1)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        unwanted = await shared.spare_call(client.call, lambda: False)
        began = loop.moved
        return client.called, unwanted, await shared.spare_call(client.call, lambda: True), loop.moved - began

    called, unwanted, answer, waited = play(story)
    assert len(called) == SPARE_CALLS_AT_ONCE + 1
    assert (unwanted, answer) == (None, "37 %")
    assert waited <= 2 * SPARE_CALL_SECONDS


def test_a_progress_that_is_no_share_is_left_out(polaris, hook, running):
    assert isinstance(hook, PolarisClient)
    read = partial(read_progress, hook, running)
    assert read() == "37 %, 8,876 in, 3 lost"
    polaris._store.jobs[running].progress = 7.5
    assert read() == "8,876 in, 3 lost"
