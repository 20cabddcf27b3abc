"""PolarisJobSensor: messages, late counters, outages of the counters, options and bad input."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta

import pytest

from airflow_provider_polaris.api.errors import PolarisError, PolarisUsageError
from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator, PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from airflow_provider_polaris.waiting.deferral import BACKSTOP_SECONDS
from tests.support.airflow_versions import AIRFLOW_3, AirflowFailException, FakeTaskInstance, context_of
from tests.support.run_task import outcome_of, run_task

pytestmark = pytest.mark.usefixtures("moved_clock")
both_modes = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])


def sensor_for(job_id, **options):
    return lambda: PolarisJobSensor(task_id="gate", job_id=job_id, **{"poke_interval": 60, "timeout": 7200, **options})


@both_modes
def test_the_sensor_waits_until_the_job_is_over(polaris, moved_clock, deferrable):
    job_id = polaris.add_job(executionStatus="pending")
    polaris.script(job_id, *[{}] * 5, {"executionStatus": "running"}, *[{}] * 5, {"executionStatus": "completed"})
    outcome = run_task(sensor_for(job_id, deferrable=deferrable))
    assert outcome.kind == "success"
    assert outcome.xcom["execution_status"] == "completed"
    assert outcome.deferrals == deferrable
    # When deferred, the trigger's first poll follows the worker's first poll at once.
    assert (11 - deferrable) * 54 <= sum(moved_clock.slept) <= 12 * 60


@pytest.mark.usefixtures("no_reports")
@both_modes
def test_one_poll_costs_one_request(polaris, deferrable):
    job_id = polaris.add_job(executionStatus="running")
    polaris.script(job_id, *[{}] * 9, {"executionStatus": "completed"})
    polaris.requests.clear()
    run_task(sensor_for(job_id, deferrable=deferrable))
    paths = [request.path.partition(job_id)[2] for request in polaris.requests]
    assert paths == [""] * 10 + ["/metrics"]
    assert {request.method for request in polaris.requests} == {"GET"}


@pytest.mark.usefixtures("no_reports")
@both_modes
def test_poke_interval_is_the_longest_pause_between_two_polls(polaris, moved_clock, deferrable):
    job_id = polaris.add_job(executionStatus="running")
    polaris.script(job_id, *[{}] * 20, {"executionStatus": "completed"})
    run_task(sensor_for(job_id, deferrable=deferrable, poke_interval=20))
    assert all(18 <= pause <= 20 for pause in moved_clock.slept)
    assert (len(set(moved_clock.slept)) > 1) == deferrable, "deferred waits spread out"


@pytest.mark.usefixtures("no_reports")
def test_exponential_backoff_applies_to_a_deferred_wait(polaris, moved_clock):
    job_id = polaris.add_job(executionStatus="running")
    polaris.script(job_id, *[{}] * 8, {"executionStatus": "completed"})
    run_task(sensor_for(job_id, deferrable=True, poke_interval=10, exponential_backoff=True, max_wait=100))
    for pause, most in zip(moved_clock.slept, (10, 20, 40, 80, 100, 100, 100), strict=False):
        assert 0.9 * most <= pause <= most


def test_deferrable_false_overrides_airflows_default(polaris, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    job_id = polaris.add_job(executionStatus="completed")
    assert PolarisJobSensor(task_id="t", job_id=job_id).deferrable is True
    assert PolarisJobSensor(task_id="t", job_id=job_id, deferrable=False).deferrable is False
    assert run_task(sensor_for(job_id, deferrable=False)).deferrals == 0


def test_reschedule_with_deferrable_defers(polaris, monkeypatch, airflow_3):
    if not airflow_3:
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: None)
    job_id = polaris.add_job(executionStatus="running")
    polaris.script(job_id, {}, {"executionStatus": "completed"})
    outcome = run_task(sensor_for(job_id, deferrable=True, mode="reschedule"))
    assert (outcome.kind, outcome.deferrals) == ("success", 1)


@both_modes
def test_the_message_of_a_refusal_has_the_failure_the_counters_and_the_end_of_the_log(polaris, deferrable):
    job_id = polaris.add_job(
        executionStatus="running", metrics={"numRowsProcessed": 12, "numRowsSkippedByError": 3}, type="batch",
        target={"type": "table", "tableName": "orders"},
    )  # fmt: skip
    health = {"status": "error", "code": "cannot_parse_source", "message": "3 rows could not be parsed"}
    polaris.set_logs(job_id, *[{"timestamp": f"t{n}", "message": f"line {n}"} for n in range(9)])
    polaris.script(job_id, {}, {"executionStatus": "failed", "health": health})
    outcome = run_task(sensor_for(job_id, deferrable=deferrable))
    assert outcome.kind == "PolarisGateRefused"
    message = str(outcome.error)
    assert message.startswith(
        f"Refused: orders failed, cannot_parse_source: 3 rows could not be parsed\n12 in, 3 lost. Job {job_id}\n"
    )
    assert re.findall(r"line \d", message) == [f"line {n}" for n in range(4, 9)]
    assert outcome.pushed["metrics"]["numRowsSkippedByError"] == 3


@both_modes
def test_unreadable_logs_and_counters_do_not_hide_the_failure(polaris, deferrable):
    job_id = polaris.add_job(executionStatus="failed", health={"status": "error", "code": "row_too_large"})
    polaris.fail_next(99, status=503, match="metrics|logs")
    outcome = run_task(sensor_for(job_id, deferrable=deferrable))
    assert outcome.kind == "PolarisGateRefused"
    assert "row_too_large" in str(outcome.error)
    assert set(outcome.pushed["metrics"].values()) == {None}


@pytest.mark.parametrize("status", [403, 404])
@both_modes
def test_forbidden_counters_do_not_close_a_gate_without_thresholds(polaris, deferrable, status):
    job_id = polaris.add_job(executionStatus="completed")
    polaris.fail_next(99, status=status, match="metrics")
    outcome = run_task(sensor_for(job_id, deferrable=deferrable))
    assert outcome.kind == "success"
    assert set(outcome.xcom["metrics"].values()) == {None}


@pytest.mark.parametrize("status", [403, 404])
@both_modes
def test_forbidden_counters_close_a_gate_with_thresholds(polaris, deferrable, status):
    job_id = polaris.add_job(executionStatus="completed")
    polaris.fail_next(99, status=status, match="metrics")
    outcome = run_task(sensor_for(job_id, deferrable=deferrable, min_rows_processed=1))
    assert outcome.kind == "PolarisGateRefused"
    assert "counters could not be read" in str(outcome.error)


@both_modes
def test_counters_that_lag_behind_the_status_are_read_again(polaris, moved_clock, deferrable):
    job_id = polaris.add_job(executionStatus="completed", metrics={"numRowsProcessed": 10})
    moved_clock.on_sleep = lambda: polaris.set_metrics(job_id, numRowsProcessed=50)
    outcome = run_task(sensor_for(job_id, deferrable=deferrable, min_rows_processed=50))
    assert outcome.kind == "success"
    assert outcome.xcom["metrics"]["numRowsProcessed"] == 50


@pytest.mark.parametrize(("interval", "most"), [(60, 30), (2, 6)])
def test_missing_counters_are_read_again_for_30_seconds_or_three_intervals(polaris, moved_clock, interval, most):
    job_id = polaris.add_job(executionStatus="completed", metrics={"numRowsProcessed": 10})
    outcome = run_task(sensor_for(job_id, min_rows_processed=50, poke_interval=interval))
    assert outcome.kind == "PolarisGateRefused"
    assert "has 10 rows, min_rows_processed is 50" in str(outcome.error)
    assert most - 5 <= sum(moved_clock.slept) <= most


def test_a_maximum_that_is_exceeded_refuses_at_once(polaris, moved_clock):
    job_id = polaris.add_job(executionStatus="completed", metrics={"numRowsSkippedByError": 3})
    assert run_task(sensor_for(job_id, max_rows_skipped_by_error=2)).kind == "PolarisGateRefused"
    assert not moved_clock.slept


@both_modes
def test_an_outage_of_needed_counters_is_tolerated(polaris, deferrable):
    job_id = polaris.add_job(executionStatus="running", metrics={"numRowsProcessed": 5})
    polaris.script(job_id, {}, {"executionStatus": "completed"})
    polaris.fail_next(
        12, status=503, match="metrics"
    )  # a worker sends each request up to five times, so two polls fail
    outcome = run_task(sensor_for(job_id, deferrable=deferrable, min_rows_processed=5), most_deferrals=9)
    assert outcome.kind == "success"
    assert outcome.xcom["metrics"]["numRowsProcessed"] == 5


@both_modes
def test_a_gate_without_thresholds_does_not_wait_for_counters(polaris, moved_clock, deferrable):
    for wait_for, kind, status in (("completed", "batch", "completed"), ("running", "streaming", "running")):
        job_id = polaris.add_job(type=kind, executionStatus=status)
        polaris.fail_next(5, status=503, match="metrics")
        outcome = run_task(sensor_for(job_id, deferrable=deferrable, wait_for=wait_for))
        assert outcome.kind == "success"
        assert set(outcome.xcom["metrics"].values()) == {None}
    assert sum(moved_clock.slept) < 120


@both_modes
@pytest.mark.parametrize(
    ("status", "kind", "least"), [(503, "PolarisUnreachable", 600), (401, "PolarisUnauthorized", 300)]
)
def test_needed_counters_that_stay_unreachable_end_the_wait(polaris, moved_clock, deferrable, status, kind, least):
    job_id = polaris.add_job(executionStatus="running")
    polaris.script(job_id, {}, {"executionStatus": "completed"})
    polaris.fail_next(9999, status=status, match="metrics")
    start = moved_clock.time
    options = {"max_unreachable": 600, "poke_interval": 100, "min_rows_processed": 1}
    outcome = run_task(sensor_for(job_id, deferrable=deferrable, **options), most_deferrals=20)
    assert outcome.kind == kind
    assert "completed" in str(outcome.error)
    assert least <= moved_clock.time - start < 1200


def test_an_outage_of_the_counters_ends_at_the_deadline(polaris, moved_clock):
    job_id = polaris.add_job(executionStatus="completed")
    polaris.fail_next(9999, status=503, match="metrics")
    make = sensor_for(job_id, deferrable=True, min_rows_processed=1, timeout=500, poke_interval=100)
    start = moved_clock.time
    outcome = run_task(make, most_deferrals=20)
    assert outcome.kind == "timeout"
    assert "completed" in str(outcome.error)
    assert moved_clock.time - start < 1000


@both_modes
def test_multiple_warnings_are_read_from_the_log(polaris, deferrable):
    for code, kind in (("invalid_rows_found", "success"), ("no_rows_found", "PolarisGateRefused")):
        job_id = polaris.add_job(executionStatus="completed", health={"status": "warn", "code": "multiple"})
        polaris.set_logs(job_id, {"code": code, "healthStatus": "warn"})
        assert run_task(sensor_for(job_id, deferrable=deferrable)).kind == kind


@both_modes
@pytest.mark.parametrize("logs", [[], [{"message": "row 7"}]])
def test_multiple_warnings_refuse_if_the_log_does_not_name_them(polaris, deferrable, logs):
    job_id = polaris.add_job(executionStatus="completed", health={"status": "warn", "code": "multiple"})
    polaris.set_logs(job_id, *logs)
    outcome = run_task(sensor_for(job_id, deferrable=deferrable))
    assert outcome.kind == "PolarisGateRefused"
    assert "name none of them" in str(outcome.error)


def test_multiple_warnings_refuse_if_the_key_may_not_read_the_log(polaris):
    job_id = polaris.add_job(executionStatus="completed", health={"status": "warn", "code": "multiple"})
    polaris.fail_next(99, status=403, match="logs")
    outcome = run_task(sensor_for(job_id))
    assert outcome.kind == "PolarisGateRefused"
    assert "logs" in str(outcome.error)
    assert run_task(sensor_for(job_id, fail_on_warnings=())).kind == "success"


@both_modes
def test_a_gate_that_never_opens_fails_in_the_first_poll(polaris, deferrable):
    job_id = polaris.add_job(type="streaming", executionStatus="running")
    outcome = run_task(sensor_for(job_id, deferrable=deferrable))
    assert outcome.kind == "PolarisOptionInvalid"
    assert "wait_for='running'" in str(outcome.error)
    assert outcome.deferrals == 0


@both_modes
def test_fail_on_unhealthy_ends_a_wait_early(polaris, deferrable):
    job_id = polaris.add_job(executionStatus="running")
    polaris.script(job_id, {}, {}, {"health": {"status": "error", "code": "internal_error"}})
    outcome = run_task(sensor_for(job_id, deferrable=deferrable, fail_on_unhealthy=True))
    assert outcome.kind == "PolarisGateRefused"
    assert "fail_on_unhealthy" in str(outcome.error)


@both_modes
def test_a_timeout_message_has_the_last_known_state(polaris, deferrable):
    job_id = polaris.add_job(executionStatus="suspended", type="batch")
    outcome = run_task(sensor_for(job_id, deferrable=deferrable, timeout=300))
    assert outcome.kind == "timeout"
    assert job_id in str(outcome.error)
    assert "suspended" in str(outcome.error)


@both_modes
def test_a_timeout_message_in_an_outage_has_the_last_error(polaris, deferrable):
    polaris.fail_next(9999, status=503)
    outcome = run_task(sensor_for("some-job", deferrable=deferrable, timeout=300))
    assert outcome.kind == "timeout"
    assert "Timeout: the job was not reported yet after 300 s (timeout)" in str(outcome.error)
    assert "The last poll failed: HTTP 503: ServiceUnavailable" in str(outcome.error)
    assert "Job some-job" in str(outcome.error).splitlines()


def test_an_execution_timeout_ends_a_deferred_wait(polaris, moved_clock):
    job_id = polaris.add_job(executionStatus="running")
    make = sensor_for(job_id, deferrable=True, timeout=3600, execution_timeout=timedelta(seconds=300))
    start = moved_clock.time
    outcome = run_task(make)
    assert outcome.kind == "execution_timeout"
    assert job_id in str(outcome.error)
    # Airflow 2.11 would end the task at 300 s without a message on the job. So the task resumes before.
    assert moved_clock.time - start == pytest.approx(300 if AIRFLOW_3 else 270)


def test_the_deadline_counts_from_the_first_poll_and_airflows_own_timeout_comes_later(polaris, moved_clock):
    job_id = polaris.add_job(executionStatus="running")
    ti = FakeTaskInstance()
    start = moved_clock.time
    deferred = outcome_of(lambda: sensor_for(job_id, deferrable=True, timeout=300)().execute(context_of(ti)), ti).error
    assert deferred.trigger.deadline == start + 300
    assert deferred.timeout == timedelta(seconds=300 + BACKSTOP_SECONDS)


def test_do_xcom_push_false_pushes_nothing(polaris):
    job_id = polaris.add_job(executionStatus="completed")
    outcome = run_task(sensor_for(job_id, do_xcom_push=False))
    assert outcome.kind == "success"
    assert outcome.pushed == {}


@pytest.mark.parametrize(
    "event",
    [None, "success", {}, {"status": "success"}, {"outcome": "brand_new", "deadline": 1.0}, {"outcome": "job"},
     {"outcome": "job", "deadline": 9e9}, {"outcome": "job", "deadline": 9e9, "job": None}, {"outcome": "error"},
     {"outcome": "error", "error": "?"}, {"outcome": "error", "error": {"type": "SystemExit", "message": "x"}},
     {"outcome": "job", "deadline": 9e9, "job": {"id": "x"}}],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("flag", [{}, {"soft_fail": True}])
def test_an_event_of_an_unknown_shape_fails_the_task(polaris, event, flag):
    sensor = sensor_for("some-job", **flag)()
    with pytest.raises(PolarisError):
        sensor.resume_execution("execute_complete", {"event": event}, context_of(FakeTaskInstance()))


BAD_IDS = [None, "", "None", "{{ ti.xcom_pull('create') }}", "a b", "a/b", "a/../b", "..", "a.b", "%2e%2e", 7]


@both_modes
@pytest.mark.parametrize("job_id", BAD_IDS, ids=repr)
def test_an_impossible_job_id_is_rejected(polaris, deferrable, job_id):
    polaris.requests.clear()
    outcome = run_task(sensor_for(job_id, deferrable=deferrable))
    assert outcome.kind == "PolarisOptionInvalid"
    assert "job_id" in str(outcome.error)
    assert not polaris.requests


@both_modes
@pytest.mark.parametrize(
    "options",
    [
        {"min_rows_processed": -1},
        {"min_rows_processed": "many"},
        {"max_rows_skipped_by_error": "-5"},
        {"max_rows_with_warning": "None"},
        {"max_error_ratio": 2},
        {"max_unreachable": "long"},
        {"max_unreachable": -1},
        {"wait_for": "finished"},
        {"project_id": "a/b"},
        {"project_id": ""},
    ],
    ids=repr,
)
def test_invalid_options_are_rejected(polaris, deferrable, options):
    job_id = polaris.add_job(executionStatus="running")
    polaris.requests.clear()
    outcome = run_task(sensor_for(job_id, deferrable=deferrable, **options))
    assert outcome.kind == "PolarisOptionInvalid", outcome.error
    assert not polaris.requests


@pytest.mark.parametrize(
    ("connection", "told"),
    [
        ('{"conn_type": "imply_polaris", "host": "", "password": "k"}', "no"),
        ('{"conn_type": "imply_polaris", "host": "h/v1", "password": "k", "extra": {"project_id": "p"}}', "path"),
        (
            '{"conn_type": "imply_polaris", "host": "http://h", "password": "k", "extra": {"project_id": "p"}}',
            "unencrypted",
        ),
        ('{"conn_type": "imply_polaris", "host": "h", "password": "k"}', "project id"),
        ('{"conn_type": "imply_polaris", "host": "h", "password": "k", "extra": {"project_id": 1}}', "text"),
    ],
)
@both_modes
def test_an_invalid_connection_fails_the_task(polaris, monkeypatch, deferrable, connection, told):
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", connection)
    outcome = run_task(sensor_for("some-job", deferrable=deferrable))
    assert outcome.kind == "PolarisConnectionInvalid"
    assert told in str(outcome.error)
    assert "polaris_default" in str(outcome.error)


@both_modes
@pytest.mark.parametrize("name", ["min_rows_processed", "max_rows_skipped_by_error", "max_error_ratio", "project_id"])
def test_an_option_that_renders_to_none_fails_the_task(polaris, deferrable, name):
    """The XCom of a task that returned nothing renders to None under native rendering."""
    job_id = polaris.add_job(executionStatus="completed")

    def make():
        sensor = sensor_for(job_id, deferrable=deferrable, **{name: "{{ none }}"})()
        setattr(sensor, name, None)
        return sensor

    outcome = run_task(make)
    assert outcome.kind == "PolarisOptionInvalid"
    assert name in str(outcome.error)
    assert not polaris.requests


@both_modes
@pytest.mark.parametrize(
    "option",
    [
        {"job_id": ["a"]},
        {"job_id": {}},
        {"project_id": ["a"]},
        {"wait_for": ["a"]},
        {"min_rows_processed": 10**400},
        {"fail_on_warnings": "True"},
        {"fail_on_warnings": "no_rows_found,multiple"},
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_option_of_a_wrong_type_is_a_usage_error(polaris, deferrable, option):
    outcome = run_task(sensor_for(**{"job_id": "j", "deferrable": deferrable, **option}))
    assert outcome.kind == "PolarisOptionInvalid", outcome.error
    assert not polaris.requests


def test_an_undocumented_warning_code_is_logged(polaris, task_log):
    job_id = polaris.add_job(executionStatus="completed")
    run_task(sensor_for(job_id, fail_on_warnings=("no_row_found",)))
    assert any("no_row_found" in line for line in task_log())


@both_modes
@pytest.mark.parametrize(
    "make",
    [
        lambda **how: PolarisJobSensor(task_id="gate", job_id="a/b", **how),
        lambda **how: PolarisJobSensor(task_id="gate", job_id="a", project_id="a/b", **how),
        lambda **how: PolarisCreateJobOperator(task_id="load", job_spec={"type": "batch"}, **how),
        lambda **how: PolarisCancelJobOperator(task_id="cancel", job_id="a/b", **how),
        lambda **how: PolarisCancelJobOperator(task_id="cancel", job_id="a", project_id="a/b", **how),
    ],
    ids=["job_id", "project_id", "job_spec", "job_id of a cancellation", "project_id of a cancellation"],
)
def test_a_wrong_option_is_not_retried(polaris, deferrable, make):
    error = run_task(lambda: make(deferrable=deferrable)).error
    assert isinstance(error, AirflowFailException)
    assert isinstance(error, PolarisUsageError)
    assert not polaris.requests


def test_an_invalid_connection_is_retried(polaris, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", '{"conn_type": "imply_polaris", "host": "h", "password": "k"}')
    error = run_task(sensor_for("some-job")).error
    assert isinstance(error, PolarisUsageError)
    assert not isinstance(error, AirflowFailException)


def test_a_gate_that_the_triggerer_finds_impossible_fails_without_retries(polaris):
    """The worker has not seen the type yet. The trigger is the first to see a streaming job."""
    job_id = polaris.add_job(executionStatus="running", type="streaming")
    polaris.script(job_id, {"type": None, "executionStatus": "pending"}, {"type": "streaming"})
    outcome = run_task(sensor_for(job_id, deferrable=True))
    assert outcome.deferrals == 1
    assert isinstance(outcome.error, AirflowFailException)
    assert "a streaming job never completes" in str(outcome.error)


def test_usage_errors_are_not_hidden_by_soft_fail(polaris):
    for deferrable in (False, True):
        assert run_task(sensor_for("", soft_fail=True, deferrable=deferrable)).kind == "PolarisUsageError"


def test_the_job_the_connection_and_the_thresholds_are_templated():
    assert PolarisJobSensor.template_fields == (
        "job_id",
        "polaris_conn_id",
        "project_id",
        "min_rows_processed",
        "max_rows_skipped_by_error",
        "max_rows_with_warning",
        "max_error_ratio",
        "partition_key",
    )
    raw = sensor_for("{{ ti.xcom_pull('create') }}", min_rows_processed="{{ params.rows }}")()
    assert raw.job_id.startswith("{{"), "nothing is checked before rendering"


def test_a_wait_logs_changes_and_a_summary(polaris, task_log):
    """Changes, the progress from time to time, and one summary are logged, and not every poll."""
    job_id = polaris.add_job(executionStatus="pending")
    polaris.script(
        job_id,
        *itertools.repeat({}, 3),
        {"executionStatus": "running"},
        *itertools.repeat({}, 40),
        {"executionStatus": "completed"},
    )
    run_task(sensor_for(job_id))
    lines = [line for line in task_log() if job_id in line]
    assert [re.search(r"(table:? [a-z ]+)", line).group(1) for line in lines[:-1]] == [
        "table is pending", "table: pending", "table: pending", "table is running", *["table: running"] * 4,
    ]  # fmt: skip
    assert "Gate opens: table completed. Job" in lines[-1]
    assert lines[-1].count("Polled 45 times.") == 1


@pytest.mark.parametrize("options", [{"deferrable": True}, {"mode": "reschedule"}], ids=["deferred", "rescheduled"])
def test_a_wait_of_several_processes_does_not_say_how_often_it_polled(polaris, airflow_db, task_log, options):
    """A rescheduled poke, and a trigger that another triggerer has taken over, do not know the polls before."""
    job_id = polaris.add_job(executionStatus="running")

    def complete():
        polaris.set_status(job_id, "completed")

    while run_task(sensor_for(job_id, **options), between=complete).kind == "rescheduled":
        complete()
    (line,) = [line for line in task_log() if "Gate opens: table completed" in line]
    assert "Polled" not in line


@both_modes
@pytest.mark.parametrize("part", ["metrics", "logs"])
def test_a_refusal_does_not_wait_for_details_of_its_message(polaris, moved_clock, deferrable, part):
    job_id = polaris.add_job(executionStatus="failed", health={"status": "error", "code": "row_too_large"})
    polaris.fail_next(9, status=503, match=rf"GET .*/{part}$")
    try:
        outcome = run_task(sensor_for(job_id, deferrable=deferrable))
    finally:
        polaris.clear_faults()
    assert outcome.kind == "PolarisGateRefused"
    assert sum(request.path.endswith(part) for request in polaris.requests) == 1
    assert not moved_clock.slept


def test_a_success_tries_again_to_read_the_counters_of_its_xcom(polaris):
    job_id = polaris.add_job(executionStatus="completed", metrics={"numRowsProcessed": 7})
    polaris.fail_next(2, status=503, match=r"GET .*/metrics$")
    assert run_task(sensor_for(job_id)).xcom["metrics"]["numRowsProcessed"] == 7


@both_modes
@pytest.mark.parametrize("operator", [PolarisJobSensor, PolarisCancelJobOperator])
def test_a_task_output_as_job_id_is_rejected_with_advice(polaris, deferrable, operator):
    output = {"job_id": "a", "metrics": {}}
    outcome = run_task(lambda: operator(task_id="t", job_id=output, deferrable=deferrable))
    assert outcome.kind == "PolarisOptionInvalid"
    assert 'job_id=load.output["job_id"]' in str(outcome.error)


@pytest.mark.parametrize(
    "threshold",
    [
        {"min_rows_processed": -1}, {"max_rows_skipped_by_error": 0.5}, {"max_rows_with_warning": True},
        {"max_error_ratio": 1.1}, {"max_error_ratio": -0.1}, {"max_rows_skipped_by_error": float("nan")},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("operator", [PolarisJobSensor, PolarisCreateJobOperator])
def test_a_threshold_out_of_its_range_is_rejected_when_the_dag_file_is_parsed(operator, threshold):
    own = {"job_id": "a"} if operator is PolarisJobSensor else {"job_spec": {}}
    with pytest.raises(PolarisUsageError, match=next(iter(threshold))):
        operator(task_id="t", **own, **threshold)
    template = dict.fromkeys(threshold, "{{ params.limit }}")
    assert operator(task_id="t", **own, **template), "a template is not known yet"
