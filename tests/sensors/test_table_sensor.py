"""PolarisTableSensor: the first good load of a table after a moment, whoever started it, in every mode."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pendulum
import pytest

from airflow_provider_polaris.exceptions import PolarisOptionInvalid
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.sensors.polaris import PolarisTableSensor
from tests.support.airflow_versions import AIRFLOW_3, FakeTaskInstance, context_of
from tests.support.run_task import outcome_of, run_task
from tests.support.virtual_time import EPOCH

pytestmark = pytest.mark.usefixtures("moved_clock")

MODES = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferred": {"deferrable": True},
}
each_mode = pytest.mark.parametrize("mode", MODES)
waiting_modes = pytest.mark.parametrize("mode", ["poke", "deferred"])
TABLE = "orders"


def at(seconds: float) -> str:
    """Return a timestamp of the service, so many seconds after the moment from which loads count."""
    return f"{datetime.fromtimestamp(EPOCH + seconds, timezone.utc):%Y-%m-%dT%H:%M:%S.%f}000Z"


def load(polaris, completed: float = 1, *, began: float | None = None, table=TABLE, metrics=None, **body) -> str:
    """Add a load that completed so many seconds after the moment."""
    return polaris.add_job(
        metrics=metrics,
        **{
            "type": "batch",
            "executionStatus": "completed",
            "target": {"type": "table", "tableName": table},
            "createdTimestamp": at(completed - 60 if began is None else began),
            "lastUpdatedTimestamp": at(completed - 60 if began is None else began),
            "completedTimestamp": at(completed),
            **body,
        },
    )


def running(polaris, began: float = -60, **body) -> str:
    return load(polaris, began=began, executionStatus="running", completedTimestamp=None, **body)


def others_run_later(polaris):
    """Add more jobs than the first page of a reading has, so that older jobs are not on that page."""
    for n in range(120):
        load(polaris, -10 * n, table="customers")


def sensor(**options):
    defaults = {"table": TABLE, "completed_after": at(0), "poke_interval": 60, "timeout": 3600}
    return PolarisTableSensor(task_id="gate", **{**defaults, **options})


def gate(mode="poke", between=None, **options):
    return run_task(lambda: sensor(**MODES[mode], **options), between=between, most_deferrals=20)


@pytest.fixture(autouse=True)
def _no_database(monkeypatch):
    if not AIRFLOW_3:  # 2.11 reads the first reschedule from its database
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: None)


def lists(polaris):
    return [request for request in polaris.requests if request.path.partition("?")[0].endswith("/jobs")]


class TestChoice:
    @each_mode
    def test_the_first_load_after_the_moment_opens_the_gate(self, polaris, mode):
        load(polaris, -1)
        load(polaris, 20)
        first = load(polaris, 10)
        load(polaris, 5, table="customers")
        outcome = gate(mode)
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["job_id"] == first
        assert set(outcome.pushed) - {"polaris_job_url"} == {"metrics"}

    @each_mode
    def test_a_load_at_the_moment_itself_counts(self, polaris, mode):
        assert gate(mode).kind != "success"
        job = load(polaris, 0)
        assert gate(mode).xcom["job_id"] == job

    @each_mode
    @pytest.mark.parametrize("status", ["failed", "canceled", "running", "pending"])
    def test_a_job_that_did_not_complete_is_no_load(self, polaris, mode, status):
        load(polaris, 5, executionStatus=status, completedTimestamp=None)
        good = load(polaris, 10)
        assert gate(mode).xcom["job_id"] == good

    @each_mode
    def test_job_types_selects_the_loads(self, polaris, mode):
        load(polaris, 5, type="delete_data")
        by_sql = load(polaris, 10, type="sql")
        assert gate(mode).xcom["job_id"] == by_sql
        batch = load(polaris, 15)
        assert gate(mode, job_types="batch").xcom["job_id"] == batch

    @each_mode
    def test_a_load_that_ran_for_six_days_counts(self, polaris, mode):
        for second in range(150):
            load(polaris, -second - 1)
        long = load(polaris, 10, began=-6 * 86_400)
        assert gate(mode).xcom["job_id"] == long

    @each_mode
    def test_a_backfill_of_30_days_opens_each_run_for_the_load_of_its_day(self, polaris, mode):
        day = 86_400
        loads = [load(polaris, -n * day + 600) for n in range(30)]
        load(polaris, 700, table="customers")
        for n, job in enumerate(loads):
            assert gate(mode, completed_after=at(-n * day)).xcom["job_id"] == job

    def test_a_load_without_a_time_of_completion_counts_by_its_last_update(self, polaris):
        job = load(polaris, 10, completedTimestamp=None, lastUpdatedTimestamp=at(5))
        assert gate().xcom["job_id"] == job


class TestRefusedLoads:
    @each_mode
    def test_a_refused_load_is_logged_and_the_next_good_load_opens(self, polaris, mode, task_log):
        bad = load(polaris, 5, metrics={"numRowsProcessed": 10, "numRowsSkippedByError": 3})
        good = load(polaris, 10, metrics={"numRowsProcessed": 10, "numRowsSkippedByError": 0})
        outcome = gate(mode, max_rows_skipped_by_error=0)
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["job_id"] == good
        line = f"Refused, and the wait continues: {TABLE} lost 3 rows, max_rows_skipped_by_error is 0"
        assert [bad in text for text in task_log() if line in text] == [True]

    @waiting_modes
    def test_the_wait_continues_until_a_good_load_completes(self, polaris, moved_clock, mode):
        bad = load(polaris, 5, health={"status": "warn", "code": "no_rows_found"})
        added = []
        moved_clock.on_sleep = lambda: added or moved_clock.time < EPOCH + 600 or added.append(load(polaris, 590))

        def later():
            if not added:
                added.append(load(polaris, 590))

        outcome = gate(mode, between=later)
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["job_id"] == added[0] != bad

    def test_a_load_that_was_refused_before_a_deferral_is_not_judged_again(self, polaris):
        bad = load(polaris, 5, metrics={"numRowsProcessed": 1})
        more = iter([{"numRowsProcessed": 2}, {"numRowsProcessed": 3}, {"numRowsProcessed": 50}])
        jobs = []
        outcome = gate(
            "deferred",
            min_rows_processed=50,
            between=lambda: jobs.append(load(polaris, 10 + len(jobs), metrics=next(more))),
        )
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["job_id"] == jobs[2]
        for refused in (bad, *jobs[:2]):
            by_id = [request for request in polaris.requests if request.path.endswith(f"/jobs/{refused}")]
            assert len(by_id) == 1, "each load is judged once"

    def test_counters_of_an_old_load_are_not_read_again_and_again(self, polaris, moved_clock):
        for hour in range(1, 20):
            load(polaris, -hour * 3600, metrics={"numRowsProcessed": 1})
        good = load(polaris, 5, metrics={"numRowsProcessed": 100})
        moved_clock.time += 7200
        outcome = gate(completed_after=at(-86_400), min_rows_processed=50)
        assert outcome.xcom["job_id"] == good
        assert sum(moved_clock.slept) == 0

    @waiting_modes
    def test_a_timeout_names_the_table_the_moment_and_the_last_refusal(self, polaris, moved_clock, mode):
        bad = load(polaris, 5, metrics={"numRowsProcessed": 10, "numRowsSkippedByError": 3})
        outcome = gate(mode, max_rows_skipped_by_error=0, timeout=600)
        assert outcome.kind == "timeout"
        assert 600 <= moved_clock.time - EPOCH <= 660
        assert str(outcome.error).splitlines() == [
            f"Timeout: {TABLE} has no good load since 2027-01-15 08:00:00 UTC (1 refused) after 600 s (timeout)",
            f"The last load was refused: lost 3 rows, max_rows_skipped_by_error is 0. Job {bad}",
            "To wait longer, raise timeout and clear the task",
            f"Table '{TABLE}'",
        ]
        assert not outcome.pushed


class TestDeferral:
    def test_a_load_that_runs_when_the_task_defers_is_found_whenever_it_completes(self, polaris):
        others_run_later(polaris)
        job = running(polaris, began=-6 * 3600)

        def complete():
            polaris.set_status(job, "completed")

        outcome = gate("deferred", between=complete)
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["job_id"] == job
        assert outcome.deferrals == 1

    def test_a_load_that_begins_and_ends_after_the_deferral_is_found(self, polaris):
        jobs = []
        outcome = gate("deferred", between=lambda: jobs.append(load(polaris, 30)))
        assert outcome.xcom["job_id"] == jobs[0]

    def test_a_triggerer_that_starts_hours_later_reads_the_list_back_to_the_deferral(self, polaris, moved_clock):
        load(polaris, -5, table="customers")
        jobs = []

        def hours_later():
            jobs.append(load(polaris, 30, began=10))
            for second in range(350):
                load(polaris, 60 + second, table="customers")
            moved_clock.time += 3 * 3600

        outcome = gate("deferred", between=hours_later, timeout=86_400)
        assert outcome.xcom["job_id"] == jobs[0]

    def test_a_load_that_is_still_running_in_the_first_reading_is_found_later(self, polaris, moved_clock):
        job = running(polaris, began=-6 * 3600)
        others_run_later(polaris)
        moved_clock.on_sleep = lambda: moved_clock.time < EPOCH + 1800 or polaris.set_status(job, "completed")
        outcome = gate("deferred")
        assert outcome.xcom["job_id"] == job
        assert 1800 <= moved_clock.time - EPOCH <= 1861

    @pytest.mark.parametrize("end", ["failed", "canceled"])
    def test_a_running_load_that_fails_is_not_asked_for_again(self, polaris, end):
        job = running(polaris, began=-6 * 3600)
        others_run_later(polaris)
        outcome = gate("deferred", between=lambda: polaris.set_status(job, end))
        assert outcome.kind == "timeout"
        by_id = [request for request in polaris.requests if request.path.endswith(f"/jobs/{job}")]
        assert len(by_id) == 1

    def test_a_running_load_that_is_deleted_is_asked_for_twice(self, polaris):
        job = running(polaris, began=-6 * 3600)
        others_run_later(polaris)
        outcome = gate("deferred", between=lambda: polaris.remove_job(job))
        assert outcome.kind == "timeout"
        by_id = [request for request in polaris.requests if request.path.endswith(f"/jobs/{job}")]
        assert len(by_id) == 2

    def test_one_poll_of_a_deferred_sensor_costs_one_request(self, polaris, moved_clock):
        load(polaris, -5)
        gate("deferred", timeout=3600)
        # Two requests on the worker, and about one for each minute.
        assert 60 <= len(polaris.requests) <= 2 + 3600 / 54 + 2

    def test_the_wait_goes_on_after_a_load_whose_counters_cannot_be_read(self, polaris):
        job = load(polaris, 5, metrics={"numRowsProcessed": 9})
        polaris.fail_next(3, status=500, match="/metrics")
        outcome = gate("deferred", min_rows_processed=1)
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["job_id"] == job


class TestFaults:
    @waiting_modes
    def test_an_outage_is_tolerated(self, polaris, moved_clock, mode, task_log):
        polaris.fail_next(8, status=503)
        job = load(polaris, 30)
        outcome = gate(mode)
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["job_id"] == job
        assert any("The wait continues after a failed poll" in line and "Table 'orders'" in line for line in task_log())

    @waiting_modes
    def test_an_outage_that_lasts_ends_the_wait(self, polaris, moved_clock, mode):
        polaris.fail_next(1000, status=503)
        outcome = gate(mode, max_unreachable=300)
        assert outcome.kind == "PolarisUnreachable"
        lines = str(outcome.error).splitlines()
        assert lines[0].startswith("Polaris was unreachable for 3")
        assert f"When last seen, {TABLE} has no good load since 2027-01-15 08:00:00 UTC" in lines
        assert lines[-1] == f"Table '{TABLE}'"

    @each_mode
    def test_a_wrong_key_fails_at_once(self, polaris, mode):
        polaris.api_key = "another"
        assert gate(mode).kind == "PolarisUnauthorized"

    @waiting_modes
    def test_a_wrong_project_fails_after_a_second_poll(self, polaris, mode):
        outcome = gate(mode, project_id="11111111-2222-3333-4444-555555555555")
        assert outcome.kind == "PolarisNotFound"
        assert str(outcome.error).splitlines()[0] == "Polaris has no such project"

    @waiting_modes
    def test_a_list_with_large_jobs_is_read_in_smaller_pages(self, polaris, mode):
        for second in range(1, 41):
            load(polaris, -second, source={"type": "inline", "data": "x" * 300_000})
        job = load(polaris, 5)
        assert gate(mode).xcom["job_id"] == job


class TestAvailability:
    @each_mode
    def test_the_gate_waits_until_the_table_of_the_load_is_available(self, polaris, moved_clock, mode):
        job = load(polaris, 5)
        polaris.add_table(TABLE)
        polaris.script_table(TABLE, {"availability": "unavailable"}, *[{"availability": "available"}] * 3)
        outcome = gate(mode, wait_until_available=True, poke_interval=10)
        while outcome.kind == "rescheduled":
            outcome = gate(mode, wait_until_available=True, poke_interval=10)
        assert outcome.kind == "success", outcome.error
        assert outcome.xcom["job_id"] == job
        checks = [request for request in polaris.requests if "/tables/" in request.path]
        assert len(checks) >= 3

    def test_a_timeout_of_the_wait_for_the_table_names_the_job(self, polaris):
        job = load(polaris, 5)
        polaris.add_table(TABLE)
        polaris.set_table(TABLE, availability="unavailable")
        outcome = gate("deferred", wait_until_available=True)
        assert outcome.kind == "timeout"
        assert f"Job {job}" in str(outcome.error)
        assert "not all data of table 'orders' can be queried yet" in str(outcome.error)


class TestOptions:
    @pytest.mark.parametrize(
        "moment",
        [
            datetime.fromtimestamp(EPOCH, timezone.utc),
            datetime.fromtimestamp(EPOCH, timezone(timedelta(hours=5))),
            pendulum.from_timestamp(EPOCH, tz="Europe/Zurich"),
            "2027-01-15 08:00:00+00:00",
            "2027-01-15T08:00:00",
            "2027-01-15T09:00:00+01:00",
        ],
        ids=str,
    )
    def test_completed_after_takes_datetimes_and_text(self, polaris, moment):
        load(polaris, -1)
        job = load(polaris, 1)
        assert gate(completed_after=moment).xcom["job_id"] == job

    @pytest.mark.parametrize(
        "moment", ["", None, "None", "yesterday", "12:00", "P1D", 5, "2027", "2027-13-45"], ids=repr
    )
    def test_completed_after_that_is_no_moment_fails_before_any_request(self, polaris, moment):
        polaris.requests.clear()
        outcome = gate(completed_after=moment)
        assert outcome.kind == "PolarisOptionInvalid"
        assert "completed_after is" in str(outcome.error)
        assert "{{ data_interval_end }}" in str(outcome.error)
        assert not polaris.requests

    @pytest.mark.parametrize("types", ["streaming", (), ["batch", "drop_table"], None, 5, [["batch"]]], ids=repr)
    def test_job_types_must_complete_and_leave_a_table(self, types):
        with pytest.raises(PolarisOptionInvalid, match="job_types must be one or more of batch, delete_data"):
            sensor(job_types=types)

    @pytest.mark.parametrize("name", ["", None, "x" * 256, ".."], ids=repr)
    def test_a_name_that_no_table_has_fails_before_any_request(self, polaris, name):
        polaris.requests.clear()
        assert gate(table=name).kind == "PolarisOptionInvalid"
        assert not polaris.requests

    def test_the_moment_is_the_end_of_the_data_interval_by_default(self):
        task = PolarisTableSensor(task_id="gate", table=TABLE)
        context = {"data_interval_end": pendulum.datetime(2026, 11, 26)}
        task.render_template_fields(context)
        assert task.completed_after == "2026-11-26 00:00:00+00:00"

    def test_a_table_in_which_the_key_may_not_look_fails_at_the_start(self, polaris):
        polaris.fail_next(1, status=403, match="/tables/")
        outcome = gate(wait_until_available=True)
        assert outcome.kind == "PolarisForbidden"

    @each_mode
    def test_soft_fail_skips_after_a_timeout(self, polaris, mode):
        outcome = gate(mode, soft_fail=True, timeout=120)
        assert outcome.kind in ("skipped", "rescheduled")


def test_the_event_of_another_release_fails_with_the_table(polaris):
    outcome = outcome_of(
        lambda: sensor(deferrable=True).execute_complete(context_of(FakeTaskInstance()), {}), FakeTaskInstance()
    )
    assert outcome.kind == "PolarisError"
    assert str(outcome.error).startswith("Table 'orders': The event of the trigger")


def test_the_hook_lists_the_newest_jobs_of_a_table(polaris):
    jobs = [load(polaris, second) for second in range(3)]
    load(polaris, 5, table="customers")
    page = PolarisHook().list_newest({TABLE}, limit=2)
    assert ([job.id for job in page.jobs], page.size, page.more) == ([jobs[2]], 2, True)
    page = PolarisHook().list_newest({TABLE}, table=TABLE, offset=1, limit=10)
    assert ([job.id for job in page.jobs], page.size, page.more) == (jobs[1::-1], 2, False)
    assert page.newest == EPOCH - 59
    assert page.oldest == EPOCH - 60
