"""A waiting task sends its metrics to the StatsD that Airflow is configured with, once for each part of a wait."""

from __future__ import annotations

import re

import pytest

from airflow_provider_polaris.operators.polaris import (
    PolarisCancelJobOperator,
    PolarisCreateJobOperator,
    PolarisQueryOperator,
)
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor, PolarisTableSensor
from tests.support.airflow_versions import AirflowTaskTimeout, FakeTaskInstance, context_of
from tests.support.imports import ROOT
from tests.support.run_task import both_modes, run_task
from tests.support.specs import SPEC
from tests.support.statsd import StatsdServer, sending, settings
from tests.support.virtual_time import EPOCH

LOADED = {"numRowsProcessed": 90, "numRowsProcessedWithWarning": 5, "numRowsSkippedByError": 7}
MODES = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferred": {"deferrable": True},
}
each_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def statsd(monkeypatch, airflow_db):
    """A StatsD server to which Airflow sends. On 2.11 a rescheduled sensor reads Airflow's database."""
    server = StatsdServer()
    for name, value in settings(server.port).items():
        monkeypatch.setenv(name, value)
    with sending():
        yield server
    server.close()


def numbers(received, without_delay=True):
    return {name: number for name, (number, _) in received.items() if not (without_delay and name == "wait.delay")}


def a_job(polaris, *states, metrics=LOADED):
    job = polaris.add_job(
        executionStatus="running",
        target={"type": "table", "tableName": "orders"},
        metrics=metrics,
        health={"status": "ok"},
    )
    polaris.script(job, *states)
    return job


def run_sensor(job, mode, **options):
    """Run a sensor to its end, each poke of reschedule mode on a fresh instance."""
    options = {"poke_interval": 30, "timeout": 600, **MODES[mode], **options}
    while True:
        outcome = run_task(lambda: PolarisJobSensor(task_id="gate", job_id=job, **options))
        if outcome.kind != "rescheduled":
            return outcome


@each_mode
def test_a_good_load_sends_its_polls_its_rows_and_how_late_the_task_is(polaris, statsd, moved_clock, mode):
    job = a_job(polaris, {}, {}, {"executionStatus": "completed"})
    assert run_sensor(job, mode, min_rows_processed=1).kind == "success"
    received = statsd.received()
    assert numbers(received) == {
        "wait.passed": 1,
        "wait.polls": 4 if mode == "deferred" else 3,  # the poll that many waits share asks for the job once more
        "rows.processed": 90,
        "rows.with_warning": 5,
        "rows.skipped": 7,
    }
    tags = {"dag_id": "adhoc_airflow", "task_id": "gate", "operator": "PolarisJobSensor", "table": "orders"}
    assert received["wait.passed"][1] == tags
    assert ("wait.delay" in received) == (mode != "reschedule"), "a rescheduled poke does not know of earlier ones"


def test_the_delay_is_the_time_from_the_jobs_end_to_the_end_of_the_wait(polaris, statsd, moved_clock):
    job = a_job(polaris, {})

    def complete_and_be_late():
        polaris.set_status(job, "completed")
        moved_clock.sleep(20)

    options = {"poke_interval": 30, "timeout": 600, "deferrable": True}
    outcome = run_task(lambda: PolarisJobSensor(task_id="gate", job_id=job, **options), between=complete_and_be_late)
    assert outcome.kind == "success"
    assert statsd.received()["wait.delay"][0] == pytest.approx(20_000, abs=2_000), "in milliseconds"


def test_a_job_that_ended_before_the_wait_has_no_delay(polaris, statsd):
    job = a_job(polaris, {"executionStatus": "completed"})
    assert run_sensor(job, "poke").kind == "success"
    assert "wait.delay" not in statsd.received()


@each_mode
def test_a_refusal_counts_as_refused_and_the_rows_are_in_the_table(polaris, statsd, moved_clock, mode):
    job = a_job(polaris, {}, {"executionStatus": "completed"})
    assert run_sensor(job, mode, max_rows_skipped_by_error=0).kind == "PolarisGateRefused"
    received = numbers(statsd.received())
    assert received == {
        "wait.refused": 1,
        "wait.polls": 3 if mode == "deferred" else 2,
        "rows.processed": 90,
        "rows.with_warning": 5,
        "rows.skipped": 7,
    }


@both_modes
@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_failed_or_canceled_job_counts_as_refused_and_has_no_rows(polaris, statsd, moved_clock, deferrable, status):
    job = a_job(polaris, {}, {"executionStatus": status})
    run_sensor(job, "deferred" if deferrable else "poke")
    assert numbers(statsd.received()) == {"wait.refused": 1, "wait.polls": 3 if deferrable else 2}


@both_modes
def test_a_wait_that_is_too_long_counts_as_timed_out(polaris, statsd, moved_clock, deferrable):
    job = a_job(polaris)
    outcome = run_sensor(job, "deferred" if deferrable else "poke", timeout=90)
    assert outcome.kind == "timeout"
    received = numbers(statsd.received())
    assert received.pop("wait.polls") >= 3
    assert received == {"wait.timed_out": 1}


def test_a_timeout_that_airflow_raises_itself_counts_too(polaris, statsd, monkeypatch):
    """Airflow's alarm of ``execution_timeout`` interrupts the pause between two pokes."""
    job = a_job(polaris)

    def interrupted(sensor, context):
        sensor.poke(context)
        raise AirflowTaskTimeout("Timeout")

    monkeypatch.setattr("airflow_provider_polaris.sensors.gated_sensor.BaseSensorOperator.execute", interrupted)
    assert run_sensor(job, "poke").kind == "execution_timeout"
    assert numbers(statsd.received()) == {"wait.timed_out": 1, "wait.polls": 1}


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_an_outage_counts_once_however_many_polls_fail(polaris, statsd, moved_clock, mode):
    job = a_job(polaris)
    polaris.fail_next(3, status=503)

    def complete_after_a_while():
        if moved_clock.time > EPOCH + 400:
            polaris.set_status(job, "completed")

    moved_clock.on_sleep = complete_after_a_while
    assert run_sensor(job, mode, timeout=6000, max_unreachable=3600).kind == "success"
    received = numbers(statsd.received())
    assert received["wait.outages"] == 1
    assert received["wait.failed_polls"] > 1
    assert received["wait.passed"] == 1


@both_modes
def test_a_wait_that_an_outage_ends_counts_as_failed(polaris, statsd, moved_clock, deferrable):
    job = a_job(polaris)
    polaris.fail_next(10**6, status=503)
    outcome = run_sensor(job, "deferred" if deferrable else "poke", max_unreachable=120)
    assert outcome.kind == "PolarisUnreachable"
    received = numbers(statsd.received())
    assert (received["wait.failed"], received["wait.outages"]) == (1, 1)
    assert "wait.polls" not in received


@both_modes
def test_create_and_cancel_send_metrics_and_a_cancellation_has_no_rows(polaris, statsd, moved_clock, deferrable):
    options = {"poll_interval": 10, "timeout": 600, "deferrable": deferrable}
    assert run_task(lambda: PolarisCreateJobOperator(task_id="load", job_spec=SPEC, **options)).kind == "success"
    created = statsd.received()
    assert created["wait.passed"][1]["operator"] == "PolarisCreateJobOperator"
    assert created["rows.processed"][0] > 0
    job = a_job(polaris)
    polaris.cancel_checks = 2
    assert run_task(lambda: PolarisCancelJobOperator(task_id="cancel", job_id=job, **options)).kind == "success"
    canceled = statsd.received()
    assert canceled["wait.passed"][0] == 1
    assert not [name for name in canceled if name.startswith("rows")]


def test_a_task_that_does_not_wait_sends_nothing(polaris, statsd):
    task = PolarisCreateJobOperator(task_id="load", job_spec=SPEC, wait_for_completion=False)
    assert run_task(lambda: task).kind == "success"
    assert run_task(lambda: PolarisJobSensor(task_id="gate", job_id="a/b")).kind == "PolarisOptionInvalid"
    over = a_job(polaris, {"executionStatus": "completed"})
    assert run_task(lambda: PolarisCancelJobOperator(task_id="cancel", job_id=over)).kind == "success"
    assert statsd.received() == {}


@both_modes
def test_a_load_of_a_table_sends_its_rows(polaris, statsd, moved_clock, deferrable):
    options = {"deferrable": deferrable, "poke_interval": 30, "timeout": 600, "completed_after": "2026-01-01"}
    a_job(polaris, {"executionStatus": "completed", "completedTimestamp": "2099-01-01T00:00:00Z"})
    outcome = run_task(lambda: PolarisTableSensor(task_id="first", table="orders", **options))
    assert outcome.kind == "success", outcome.error
    received = numbers(statsd.received())
    assert (received["wait.passed"], received["rows.processed"]) == (1, 90)


@both_modes
def test_a_load_that_ends_during_the_wait_sends_its_polls_and_its_delay(polaris, statsd, moved_clock, deferrable):
    options = {"deferrable": deferrable, "poke_interval": 30, "timeout": 600, "completed_after": "2026-01-01"}
    job = a_job(polaris)

    def complete_after_a_while():
        if moved_clock.time > EPOCH + 100:
            polaris.set_status(job, "completed")

    moved_clock.on_sleep = complete_after_a_while
    outcome = run_task(lambda: PolarisTableSensor(task_id="first", table="orders", **options))
    assert outcome.kind == "success", outcome.error
    received = statsd.received()
    assert (received["wait.passed"][0], received["rows.processed"][0]) == (1, 90)
    assert received["wait.polls"][0] >= 4
    assert received["wait.delay"][0] < 60_000


@both_modes
def test_a_query_sends_its_polls(polaris, statsd, moved_clock, deferrable):
    options = {"deferrable": deferrable, "poll_interval": 10, "timeout": 600}
    outcome = run_task(lambda: PolarisQueryOperator(task_id="query", sql="SELECT 1 AS n", **options))
    assert outcome.kind == "success", outcome.error
    received = statsd.received()
    assert received["wait.passed"][1]["operator"] == "PolarisQueryOperator"
    assert received["wait.polls"][0] >= 1


def test_a_table_whose_name_no_backend_accepts_has_no_tag(polaris, statsd):
    job = polaris.add_job(
        executionStatus="completed", target={"type": "table", "tableName": "orders of 2026"}, metrics=LOADED,
        health={"status": "ok"},
    )  # fmt: skip
    assert run_sensor(job, "poke").kind == "success"
    received = statsd.received()
    assert received["wait.passed"][0] == 1
    assert "table" not in received["wait.passed"][1]


def test_metrics_that_cannot_be_sent_fail_no_task(polaris, monkeypatch, task_log):
    def broken():
        raise OSError("no such backend")

    monkeypatch.setattr("airflow_provider_polaris._compat.stats", broken)
    job = a_job(polaris, {"executionStatus": "completed"})
    assert run_sensor(job, "poke").kind == "success"
    assert "The metrics of this wait could not be sent: OSError: no such backend" in "\n".join(task_log())


def test_no_poll_sends_anything(polaris, statsd, moved_clock):
    """A thousand waits would send a thousand packets in each interval."""
    job = a_job(polaris)
    sensor = PolarisJobSensor(task_id="gate", job_id=job, poke_interval=30, timeout=6000, deferrable=False)
    context = context_of(FakeTaskInstance())
    for _ in range(5):
        assert not sensor.poke(context)
        moved_clock.sleep(30)
    assert statsd.received() == {}


def test_the_page_on_metrics_lists_all_that_are_sent(polaris, statsd, moved_clock):
    run_sensor(a_job(polaris, {}, {"executionStatus": "completed"}), "poke")
    run_sensor(a_job(polaris, {"executionStatus": "failed"}), "poke")
    run_sensor(a_job(polaris), "poke", timeout=60)
    job = a_job(polaris)
    polaris.fail_next(10**6, status=503)
    run_sensor(job, "poke", max_unreachable=60)
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    assert sorted(statsd.received()) == sorted(re.findall(r"^\| `polaris\.([\w.]+)` \|", page, re.MULTILINE))
