"""``wait_until_available``: the task waits until loaded data can be queried, in every mode, under one timeout."""

from __future__ import annotations

import uuid

import pytest

from airflow_provider_polaris.gate.availability import CHECKS_APART_SECONDS
from airflow_provider_polaris.local.http.app import PERMISSIONS
from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from airflow_provider_polaris.triggers.polaris import PolarisTableTrigger
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.run_task import all_events, run_task

pytestmark = pytest.mark.usefixtures("moved_clock")

MODES = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferred": {"deferrable": True},
}
each_mode = pytest.mark.parametrize("mode", MODES)
UNAVAILABLE, AVAILABLE = {"availability": "unavailable"}, {"availability": "available"}


class Load:
    """A job that completed, its table, and the task that waits for both."""

    def __init__(self, polaris, **job):
        self.polaris = polaris
        self.table = f"t-{uuid.uuid4()}"
        self.job_id = polaris.add_job(
            **{"executionStatus": "completed", "target": {"type": "table", "tableName": self.table}, **job}
        )
        polaris.add_table(self.table)
        polaris.requests.clear()

    def gate(self, mode, **options):
        def make():
            defaults = {"wait_until_available": True, "poke_interval": 60, "timeout": 600}
            return PolarisJobSensor(task_id="gate", job_id=self.job_id, **{**defaults, **MODES[mode], **options})

        return run_task(make)

    @property
    def checks(self):
        return [request for request in self.polaris.requests if "/tables/" in request.path]


@pytest.fixture(autouse=True)
def _no_database(monkeypatch):
    if not AIRFLOW_3:  # 2.11 reads the first reschedule from its database
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: None)


@pytest.fixture
def load(polaris):
    return Load(polaris)


@each_mode
def test_a_table_must_be_available_in_two_checks_some_time_apart(load, moved_clock, mode):
    began = moved_clock.time
    outcome = load.gate(mode)
    assert outcome.kind == "success", outcome.error
    assert len(load.checks) == 2
    assert moved_clock.time - began >= CHECKS_APART_SECONDS
    assert outcome.deferrals == (mode == "deferred")
    assert outcome.xcom["execution_status"] == "completed"


@each_mode
def test_another_state_between_two_checks_starts_the_count_again(load, moved_clock, mode):
    began = moved_clock.time
    load.polaris.script_table(load.table, AVAILABLE, UNAVAILABLE, AVAILABLE, AVAILABLE)
    outcome = load.gate(mode, poke_interval=10)
    if mode == "reschedule":
        assert outcome.kind == "rescheduled"
        outcome = load.gate(mode, poke_interval=10)
    assert outcome.kind == "success", outcome.error
    assert len(load.checks) == 4
    assert moved_clock.time - began >= 2 * CHECKS_APART_SECONDS


@each_mode
def test_the_job_and_its_table_share_one_timeout(load, moved_clock, mode):
    load.polaris.set_table(load.table, **UNAVAILABLE)
    began = moved_clock.time
    outcome = load.gate(mode)
    if mode == "reschedule":
        assert outcome.kind == "rescheduled"
        return
    assert outcome.kind == "timeout"
    assert 600 <= moved_clock.time - began <= 660
    assert "was completed" in str(outcome.error)
    assert f"not all data of table '{load.table}' can be queried yet" in str(outcome.error)
    assert not outcome.pushed


@each_mode
def test_a_table_that_is_being_deleted_refuses(load, mode):
    load.polaris.set_table(load.table, availability="deleting")
    outcome = load.gate(mode)
    assert outcome.kind == "PolarisGateRefused"
    assert f"completed, but table '{load.table}' is being deleted" in str(outcome.error)
    assert "metrics" in outcome.pushed


@each_mode
def test_a_missing_table_refuses_at_the_second_check(load, moved_clock, mode):
    load.polaris.remove_table(load.table)
    began = moved_clock.time
    outcome = load.gate(mode)
    assert outcome.kind == "PolarisGateRefused"
    assert f"Polaris has no table '{load.table}'" in str(outcome.error)
    assert len(load.checks) == 2
    assert moved_clock.time - began >= 10


@each_mode
def test_a_table_that_appears_late_passes(load, moved_clock, mode):
    load.polaris.remove_table(load.table)
    moved_clock.on_sleep = lambda: load.polaris.add_table(load.table)
    outcomes = [load.gate(mode) for _ in range(2 if mode == "reschedule" else 1)]
    assert outcomes[-1].kind == "success", outcomes[-1].error
    assert len(load.checks) == (4 if mode == "reschedule" else 3)


@each_mode
def test_the_timeout_ends_a_wait_whose_responses_change_each_time(load, moved_clock, mode):
    """Replicas may disagree: the table exists in one response and not in the next."""
    began = moved_clock.time

    def flip():
        if len(moved_clock.slept) % 2:
            load.polaris.remove_table(load.table)
        else:
            load.polaris.add_table(load.table)

    moved_clock.on_sleep = flip
    assert load.gate(mode).kind == ("rescheduled" if mode == "reschedule" else "timeout")
    assert moved_clock.time - began <= 700


@each_mode
def test_a_wait_for_a_table_requests_only_the_table(load, task_log, mode):
    load.polaris.set_table(load.table, **UNAVAILABLE)
    load.polaris.fail_next(1000, status=404, match="/metrics")
    try:
        load.gate(mode, timeout=3600)
    finally:
        load.polaris.clear_faults()
    assert sum(request.path.endswith("/metrics") for request in load.polaris.requests) <= 2
    assert sum("metrics" in line for line in task_log()) <= 2


def test_a_dag_file_that_changes_during_a_deferral_does_not_affect_the_wait(load):
    load.polaris.set_table(load.table, **UNAVAILABLE)
    made = []

    def make():
        made.append(1)
        return PolarisJobSensor(
            task_id="gate", job_id=load.job_id, wait_until_available=True, deferrable=len(made) == 1, timeout=600
        )

    outcome = run_task(make)
    assert (outcome.kind, outcome.deferrals) == ("timeout", 1)


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_a_second_check_may_end_after_the_timeout(load, mode):
    assert load.gate(mode, timeout=20, poke_interval=10).kind == "success"


def test_a_clock_that_is_set_back_does_not_delay_the_second_check(load, moved_clock):
    def set_back():
        if len(moved_clock.slept) == 1:
            moved_clock.time -= 3600

    moved_clock.on_sleep = set_back
    assert load.gate("poke").kind == "success"
    assert max(moved_clock.slept) <= 60


def test_a_timeout_message_does_not_say_that_a_completed_job_was_not_canceled(load):
    load.polaris.script_table(
        load.table, UNAVAILABLE, AVAILABLE, UNAVAILABLE, AVAILABLE, *[UNAVAILABLE, AVAILABLE] * 40
    )
    outcome = load.gate("poke")
    assert outcome.kind == "timeout"
    assert "The job was not canceled" not in str(outcome.error), "the job is over"


@each_mode
def test_a_key_that_may_not_read_tables_ends_the_wait(load, mode):
    load.polaris.permissions = PERMISSIONS - {"ViewTables", "ManageTables"}
    try:
        outcome = load.gate(mode)
    finally:
        load.polaris.permissions = PERMISSIONS
    assert outcome.kind == "PolarisForbidden"
    assert "ViewTables or ManageTables" in str(outcome.error)
    assert "was completed when last seen" in str(outcome.error)
    assert "may still be running" not in str(outcome.error)


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_a_missing_permission_is_reported_before_the_job_is_over(polaris, mode):
    load = Load(polaris, executionStatus="running")
    polaris.permissions = PERMISSIONS - {"ViewTables", "ManageTables"}
    try:
        outcome = load.gate(mode)
    finally:
        polaris.permissions = PERMISSIONS
    assert outcome.kind == "PolarisForbidden"
    assert outcome.deferrals == 0
    assert "wait_until_available is set" in str(outcome.error)


@pytest.mark.parametrize("state", ["brand_new", None, 7])
@each_mode
def test_only_the_state_available_passes(load, task_log, mode, state):
    load.polaris.set_table(load.table, availability=state)
    assert load.gate(mode).kind in {"timeout", "rescheduled"}
    said = " ".join(task_log())
    assert ("does not know: 'brand_new'" if state == "brand_new" else "does not report whether") in said


@each_mode
def test_an_outage_of_table_requests_ends_the_wait(load, mode):
    load.polaris.fail_next(1000, status=503, match="/tables/")
    try:
        outcome = load.gate(mode, max_unreachable=300, timeout=6000)
    finally:
        load.polaris.clear_faults()
    assert outcome.kind == ("rescheduled" if mode == "reschedule" else "PolarisUnreachable")
    if mode != "reschedule":
        assert "(max_unreachable 300)" in str(outcome.error)
        assert len(load.checks) <= 8


@each_mode
def test_a_short_outage_of_table_requests_is_tolerated(load, mode):
    load.polaris.fail_next(2, status=503, match="/tables/")
    outcomes = [load.gate(mode) for _ in range(3 if mode == "reschedule" else 1)]
    assert outcomes[-1].kind == "success", outcomes[-1].error


@each_mode
def test_an_outage_of_table_requests_is_logged_once(load, task_log, mode):
    load.polaris.fail_next(4, status=503, match="/tables/")
    for _ in range(5 if mode == "reschedule" else 1):
        outcome = load.gate(mode)
    assert outcome.kind == "success", outcome.error
    assert sum("after a failed poll" in line for line in task_log()) == (4 if mode == "reschedule" else 1)


@each_mode
def test_counters_refuse_before_the_table_is_requested(polaris, mode):
    load = Load(polaris, executionStatus="completed")
    polaris.set_metrics(load.job_id, numRowsProcessed=5)
    polaris.set_table(load.table, **UNAVAILABLE)
    outcome = load.gate(mode, min_rows_processed=6)
    assert outcome.kind == "PolarisGateRefused"
    assert not load.checks


@each_mode
def test_a_job_without_a_table_name_refuses(polaris, mode):
    load = Load(polaris, target={"type": "table"})
    outcome = load.gate(mode)
    assert outcome.kind == "PolarisGateRefused"
    assert "does not name its table" in str(outcome.error)


@each_mode
def test_a_job_that_leaves_no_table_is_a_usage_error(polaris, mode):
    load = Load(polaris, type="drop_table", executionStatus="running")
    outcome = load.gate(mode)
    assert outcome.kind == "PolarisOptionInvalid"
    assert "drop_table" in str(outcome.error)


def test_wait_until_available_requires_wait_for_completed(load):
    outcome = load.gate("poke", wait_for="running")
    assert outcome.kind == "PolarisOptionInvalid"
    assert not load.polaris.requests, "the error comes before any request"


@pytest.mark.parametrize("given", ["True", None, 1])
def test_wait_until_available_must_be_true_or_false(load, given):
    assert load.gate("poke", wait_until_available=given).kind == "PolarisOptionInvalid"


@pytest.mark.parametrize("interval", [5, 30, 600])
def test_the_second_check_comes_after_exactly_the_needed_time(load, moved_clock, interval):
    """A longer interval does not delay the second check, and a shorter one does not add a check."""
    trigger = table_trigger(load, poll_interval=interval)
    began = moved_clock.time
    (event,) = run(trigger)
    assert event.payload["outcome"] == "table"
    assert moved_clock.time - began == pytest.approx(CHECKS_APART_SECONDS)
    assert len(load.checks) == 2


def test_a_deferred_wait_for_a_table_honours_backoff(load, moved_clock):
    load.polaris.set_table(load.table, **UNAVAILABLE)
    trigger = table_trigger(
        load, poll_interval=10, deadline=moved_clock.time + 300, exponential_backoff=True, max_wait=80
    )
    (event,) = run(trigger)
    assert event.payload["outcome"] == "timeout"
    assert [9 * 2**n <= pause <= 10 * 2**n for n, pause in enumerate(moved_clock.slept[:4])] == [True] * 4
    assert max(moved_clock.slept) <= 80


def test_an_outage_continues_across_the_deferral(load, moved_clock):
    since = moved_clock.time - 290
    failing = {"at": moved_clock.time, "unreachable_since": since, "unauthorized_since": None}
    load.polaris.fail_next(1000, status=503, match="/tables/")
    (event,) = run(table_trigger(load, poll_interval=20, max_unreachable=300, failing=failing))
    assert event.payload["error"]["type"] == "PolarisUnreachable"
    assert len(load.checks) == 1


def table_trigger(load, **options):
    defaults = {"poll_interval": 60.0, "deadline": 9e12, "max_unreachable": 3600.0}
    return PolarisTableTrigger(
        table=load.table, job_id=load.job_id, polaris_conn_id="polaris_default", project_id=None, **defaults | options
    )


def run(trigger):
    import asyncio

    return asyncio.run(all_events(trigger))


class TestTheCreateOperator:
    SPEC = {"type": "sql", "query": 'INSERT INTO "late" SELECT 1 PARTITIONED BY ALL'}  # noqa: RUF012

    def load(self, mode, spec=None, **options):
        def make():
            return PolarisCreateJobOperator(
                task_id="load", job_spec=spec or self.SPEC, wait_until_available=True,
                **{"poll_interval": 60, "timeout": 600, "deferrable": mode == "deferred", **options},
            )  # fmt: skip

        return run_task(make)

    @pytest.fixture(autouse=True)
    def _table(self, polaris):
        polaris.remove_table("late")
        polaris.add_table("late")
        polaris.next_job("complete", table="late")

    @pytest.mark.parametrize("mode", ["worker", "deferred"])
    def test_the_operator_waits_for_the_table(self, polaris, moved_clock, mode):
        polaris.script_table("late", UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, AVAILABLE)
        began = moved_clock.time
        outcome = self.load(mode)
        assert outcome.kind == "success", outcome.error
        assert moved_clock.time - began >= CHECKS_APART_SECONDS + 60
        assert outcome.deferrals == (2 if mode == "deferred" else 0)

    @pytest.mark.parametrize("mode", ["worker", "deferred"])
    def test_a_deleted_table_is_not_loaded_again(self, polaris, mode):
        polaris.script_table("late", AVAILABLE, {"availability": "deleting"})
        outcome = self.load(mode)
        assert outcome.kind == "PolarisGateRefused"
        assert "is being deleted" in str(outcome.error)

    @pytest.mark.parametrize("mode", ["worker", "deferred"])
    def test_a_timeout_does_not_cancel_a_completed_job(self, polaris, mode):
        polaris.set_table("late", **UNAVAILABLE)
        outcome = self.load(mode, cancel_on_timeout=True)
        assert outcome.kind == "PolarisJobTimeout"
        assert "was completed, unchecked after 600 s (timeout)" in str(outcome.error)
        assert not [request for request in polaris.requests if request.method == "PUT"]

    def test_a_key_that_may_not_read_tables_creates_no_job(self, polaris):
        polaris.permissions = PERMISSIONS - {"ViewTables", "ManageTables"}
        try:
            assert self.load("worker").kind == "PolarisForbidden"
        finally:
            polaris.permissions = PERMISSIONS
        assert not [request for request in polaris.requests if request.method == "POST"]

    def test_a_task_that_does_not_wait_does_not_request_the_table(self, polaris):
        polaris.permissions = PERMISSIONS - {"ViewTables", "ManageTables"}
        try:
            assert self.load("worker", wait_for_completion=False).kind == "success"
        finally:
            polaris.permissions = PERMISSIONS

    @pytest.mark.parametrize(
        "spec",
        [
            {"type": "drop_table", "softDelete": True, "target": {"type": "table", "tableName": "late"}},
            {
                "type": "streaming",
                "target": {"type": "table", "tableName": "late"},
                "source": {"type": "connection", "connectionName": "kafka"},
            },
        ],
    )
    def test_a_job_without_a_table_to_wait_for_is_not_created(self, polaris, spec):
        assert self.load("worker", spec).kind == "PolarisOptionInvalid"
        assert not polaris.requests
