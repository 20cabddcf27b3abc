"""Without an interval of its own, a task polls more rarely the longer it waits, and is late by a small share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from airflow_provider_polaris.polling.polled_wait import Pace
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor, PolarisTableSensor
from airflow_provider_polaris.triggers.polaris import PolarisJobTrigger
from tests.support.run_task import run_task
from tests.support.specs import SQL
from tests.support.triggers import trigger
from tests.support.virtual_time import EPOCH

MODES = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferred": {"deferrable": True},
}
#: Seconds for which a job runs, and the most polls that find it running.
DURATIONS = {20: 6, 600: 62, 6 * 3600: 480}
LATE_SECONDS = 5.0
LATE_RATIO = 0.05
#: A poll by the list is followed by a request by id, up to a second later.
BY_LIST_SECONDS = 1.0


def end_after(polaris, moved_clock, job, seconds):
    """Let a job end after this many seconds. Return a list, which then has that moment."""
    ended = []

    def end():
        if not ended and moved_clock.time >= EPOCH + seconds:
            ended.append(EPOCH + seconds)
            polaris.set_status(job, "completed")

    moved_clock.on_sleep = end
    return ended


def is_late_by_the_promised_share(moved_clock, duration):
    # The clock jumps over the end of the job, to the next poll.
    return moved_clock.time - EPOCH <= duration + LATE_SECONDS + LATE_RATIO * duration + BY_LIST_SECONDS


@pytest.mark.parametrize("duration", DURATIONS)
@pytest.mark.parametrize("mode", ["poke", "deferred"])
class TestASensor:
    def test_it_is_late_by_five_seconds_and_a_twentieth_at_most(self, polaris, moved_clock, no_reports, mode, duration):
        job = polaris.add_job(executionStatus="running", health={"status": "ok"})
        end_after(polaris, moved_clock, job, duration)
        outcome = run_task(lambda: PolarisJobSensor(task_id="gate", job_id=job, **MODES[mode]))
        assert outcome.kind == "success", outcome.error
        assert is_late_by_the_promised_share(moved_clock, duration)
        polls = sum(request.path.endswith(job) for request in polaris.requests)
        assert polls <= DURATIONS[duration] + 2


@pytest.mark.parametrize("duration", DURATIONS)
def test_an_operator_on_a_worker_is_late_by_five_seconds_and_a_twentieth_at_most(
    polaris, moved_clock, no_reports, duration
):
    polaris.next_job("hang", table="by_sql")
    ended = []

    def end():
        jobs = list(polaris._store.jobs)
        if jobs and not ended and moved_clock.time >= EPOCH + duration:
            ended.append(True)
            polaris.set_status(jobs[0], "completed")

    moved_clock.on_sleep = end
    outcome = run_task(lambda: PolarisCreateJobOperator(task_id="load", job_spec=SQL, deferrable=False))
    assert outcome.kind == "success", outcome.error
    assert is_late_by_the_promised_share(moved_clock, duration)


@pytest.mark.parametrize("kind", [PolarisJobSensor, PolarisTableSensor], ids=["job sensor", "table sensor"])
@pytest.mark.parametrize(("waited", "expected"), [(0, 5), (60, 5), (200, 10), (1200, 60), (90_000, 60)])
def test_the_next_poke_comes_after_a_twentieth_of_the_time_waited(kind, waited, expected):
    """Airflow asks for it in poke and in reschedule mode, with the time since the first poke of the try."""
    sensor = kind(task_id="t", **({"job_id": "j"} if kind is PolarisJobSensor else {"table": "orders"}))
    assert sensor._get_next_poke_interval(0.0, lambda: float(waited), 3) == expected


@pytest.mark.parametrize("waited", [0, 200, 90_000])
def test_an_interval_that_a_user_has_set_is_kept(waited):
    sensor = PolarisJobSensor(task_id="t", job_id="j", poke_interval=45)
    assert sensor._get_next_poke_interval(0.0, lambda: float(waited), 3) == 45
    assert not sensor.grows


def test_a_sensor_with_exponential_backoff_follows_that(monkeypatch):
    sensor = PolarisJobSensor(task_id="t", job_id="j", exponential_backoff=True, max_wait=600)
    assert not sensor.grows
    assert sensor._get_next_poke_interval(0.0, lambda: 10_000.0, 9) == 600


def test_a_sensor_in_reschedule_mode_is_rescheduled_by_the_time_since_its_first_poke(polaris, moved_clock, airflow_db):
    job = polaris.add_job(executionStatus="running", health={"status": "ok"})
    sensor = PolarisJobSensor(task_id="gate", job_id=job, **MODES["reschedule"])
    outcome = run_task(lambda: sensor)
    assert outcome.kind == "rescheduled"


def test_a_trigger_that_starts_again_continues_at_the_pace_of_its_wait(polaris, moved_clock):
    """Another triggerer has taken over a wait of 20 minutes: it does not begin with 5 s again."""
    _, stored = trigger("j").serialize()
    again = PolarisJobTrigger(**{**stored, "poll_interval": 60.0, "waiting_since": moved_clock.time - 1200})
    from airflow_provider_polaris.triggers.base import pace_of

    assert pace_of(again.args).interval == 60.0


def test_a_log_line_says_how_often_a_growing_wait_polls(polaris, task_log):
    job = polaris.add_job(executionStatus="running")
    run_task(
        lambda: PolarisJobSensor(task_id="gate", job_id=job, deferrable=True),
        between=lambda: polaris.set_status(job, "completed"),
    )
    assert "polling every 5 to 60 s, until" in "\n".join(task_log())


@given(st.floats(0.1, 200_000), st.randoms(use_true_random=False))
def test_a_pace_is_never_late_by_more_than_the_promised_share(duration, random):
    pace, now = Pace(60.0, waited=0.0), 0.0
    while now < duration:
        now += pace.pause()
    assert now <= duration + max(LATE_SECONDS, LATE_RATIO * duration) + 1e-6
