"""A task ends alike in each mode, with each flag, on both Airflows, whatever its job's status and health are.

It holds for the sensor and for the operator that creates a job. tests/gate/test_states.py is the table of
what every status means with every health; its rows need no Airflow.
"""

from __future__ import annotations

import itertools

import pytest

from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from tests.support.airflow_versions import AIRFLOW_3, FakeTaskInstance, context_of
from tests.support.create_tasks import puts
from tests.support.run_task import run_task
from tests.support.specs import SQL, STREAMING

ABSENT = object()

STATUSES = {
    "pending": "pending",
    "running": "running",
    "idle": "idle",
    "suspended": "suspended",
    "unknown": "unknown",
    "completed": "completed",
    "failed": "failed",
    "canceled": "canceled",
    "new": "brand_new_status",
    "absent": ABSENT,
}
HEALTHS = {
    "ok": {"status": "ok"},
    "warn": {"status": "warn", "code": "invalid_rows_found"},
    "warning": {"status": "warning", "code": "invalid_rows_found"},  # as the vendor's client spells it
    "error": {"status": "error", "code": "internal_error", "message": "It broke"},
    "new": {"status": "brand_new_health"},
    "absent": ABSENT,
}
#: The states that run through Airflow, each with its verdict: every status and every health at least once.
VERDICTS = {
    "completed": {
        ("completed", "ok"): "pass",
        ("completed", "warn"): "pass",
        ("completed", "warning"): "pass",
        ("completed", "error"): "refuse",
        ("completed", "new"): "refuse",
        ("completed", "absent"): "refuse",
        ("failed", "error"): "refuse",
        ("failed", "ok"): "refuse",
        ("canceled", "absent"): "refuse",
        ("pending", "absent"): "wait",
        ("running", "ok"): "wait",
        ("idle", "error"): "wait",
        ("suspended", "warn"): "wait",
        ("unknown", "new"): "wait",
        ("new", "ok"): "wait",
        ("absent", "ok"): "wait",
    },
    "running": {
        ("running", "ok"): "pass",
        ("running", "warning"): "pass",
        ("idle", "warn"): "pass",
        ("completed", "ok"): "refuse",
        ("failed", "error"): "refuse",
        ("canceled", "warn"): "refuse",
        ("pending", "ok"): "wait",
        ("running", "error"): "wait",
        ("running", "new"): "wait",
        ("idle", "absent"): "wait",
        ("suspended", "ok"): "wait",
        ("unknown", "absent"): "wait",
        ("new", "ok"): "wait",
        ("absent", "ok"): "wait",
    },
}
#: The states that also run with the flags: one for each way on which a wait ends.
WITH_FLAGS = {
    "completed": {
        ("completed", "warn"),
        ("completed", "error"),
        ("failed", "error"),
        ("running", "ok"),
        ("absent", "ok"),
    },
    "running": {("idle", "warn"), ("completed", "ok"), ("pending", "ok"), ("absent", "ok")},
}
#: How the task ends, by verdict, mode and flag. Of two values, the first is for Airflow 2.11, the second for 3.3: on
#: 2.11, never_fail does nothing for a task that resumes.
ENDINGS = {
    "pass": {
        "poke": {"plain": "success", "soft_fail": "success", "never_fail": "success"},
        "reschedule": {"plain": "success", "soft_fail": "success", "never_fail": "success"},
        "first_look": {"plain": "success", "soft_fail": "success", "never_fail": "success"},
        "deferred": {"plain": "success", "soft_fail": "success", "never_fail": "success"},
    },
    "refuse": {
        "poke": {"plain": "PolarisGateRefused", "soft_fail": "skipped", "never_fail": "skipped"},
        "reschedule": {"plain": "PolarisGateRefused", "soft_fail": "skipped", "never_fail": "skipped"},
        "first_look": {"plain": "PolarisGateRefused", "soft_fail": "skipped", "never_fail": "skipped"},
        "deferred": {
            "plain": "PolarisGateRefused",
            "soft_fail": "skipped",
            "never_fail": ("PolarisGateRefused", "skipped"),
        },
    },
    "wait": {
        "poke": {"plain": "timeout", "soft_fail": "skipped", "never_fail": "skipped"},
        "reschedule": {"plain": "rescheduled", "soft_fail": "rescheduled", "never_fail": "rescheduled"},
        # The first poll decides nothing. The task defers, and the wait times out in the trigger.
        "first_look": {"plain": "timeout", "soft_fail": "skipped", "never_fail": ("timeout", "skipped")},
        "deferred": {"plain": "timeout", "soft_fail": "skipped", "never_fail": ("timeout", "skipped")},
    },
}
MODES = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "first_look": {"deferrable": True},
    "deferred": {"deferrable": True},
}
FLAGS = {"plain": {}, "soft_fail": {"soft_fail": True}, "never_fail": {"never_fail": True}}
COUNTERS = {"numRowsProcessed": 99_999, "numRowsSkippedByError": 2, "numRowsNewlyCounted": 7}

#: Whether the task also waits for the table. The table is available, so the task ends alike.
TABLE = {"": {}, "available": {"wait_until_available": True}}


def rows_of(*columns: object) -> list:
    """Return each state with each combination of the columns, as arguments of a test."""
    rows = [
        (wait_for, *state, *row)
        for wait_for, verdicts in VERDICTS.items()
        for state in verdicts
        for row in itertools.product(*columns)
    ]
    # A gate never opens if a streaming job is waited for with its table.
    return [pytest.param(*row, id="-".join(filter(None, row))) for row in rows if (row[0], row[-1]) != BOTH]


BOTH = ("running", "available")
ROWS = [
    row
    for row in rows_of(MODES, FLAGS, TABLE)
    if row.values[4] == "plain" or row.values[1:3] in WITH_FLAGS[row.values[0]]
]


@pytest.mark.parametrize("wait_for", VERDICTS)
def test_the_rows_have_each_status_health_and_verdict(wait_for):
    assert {status for status, _ in VERDICTS[wait_for]} == set(STATUSES)
    assert {health for _, health in VERDICTS[wait_for]} == set(HEALTHS)
    flagged = {VERDICTS[wait_for][state] for state in WITH_FLAGS[wait_for]}
    assert flagged == set(VERDICTS[wait_for].values()) == set(ENDINGS)


def expected_xcom(job_id: str, table: str, wait_for: str, status: str, health: str) -> dict:
    health_status = {"warning": "warn"}.get(HEALTHS[health]["status"], HEALTHS[health]["status"])
    return {
        "job_id": job_id,
        "job_type": "batch" if wait_for == "completed" else "streaming",
        "table": table,
        "execution_status": STATUSES[status],
        "health": {"status": health_status, "code": HEALTHS[health].get("code"), "message": None},
        "created_at": "2026-11-01T00:00:00.123456789Z",
        "started_at": "2026-11-01T00:00:01Z",
        "completed_at": "2026-11-01T00:01:01.5Z",
        "duration_seconds": 60.5,
        "metrics": {
            "numRowsProcessed": 99_999,
            "numRowsProcessedWithWarning": None,
            "numRowsSkippedByFilter": None,
            "numRowsSkippedByError": 2,
            "numRowsPersisted": None,
            "numBytesProcessed": None,
            "numRowsNewlyCounted": 7,
        },
    }


@pytest.mark.usefixtures("moved_clock")
@pytest.mark.parametrize(("wait_for", "status", "health", "mode", "flag", "available"), ROWS)
def test_a_sensor_ends_alike_in_each_mode(polaris, monkeypatch, wait_for, status, health, mode, flag, available):
    if not AIRFLOW_3:  # 2.11 reads the date of the first reschedule from its database
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: None)
    table = f"{status}-{health}"
    polaris.add_table(table)
    job_id = polaris.add_job(
        metrics=COUNTERS,
        type="batch" if wait_for == "completed" else "streaming",
        target={"type": "table", "tableName": table},
        createdTimestamp="2026-11-01T00:00:00.123456789Z",
        startedTimestamp="2026-11-01T00:00:01Z",
        completedTimestamp="2026-11-01T00:01:01.5Z",
    )

    def reach() -> None:
        for name, value in (("executionStatus", STATUSES[status]), ("health", HEALTHS[health])):
            if value is ABSENT:
                polaris.remove_field(job_id, name)
            else:
                polaris.set_fields(job_id, **{name: value})

    def make() -> PolarisJobSensor:
        return PolarisJobSensor(
            task_id="gate",
            job_id=job_id,
            wait_for=wait_for,
            poke_interval=60,
            timeout=600,
            **MODES[mode],
            **FLAGS[flag],
            **TABLE[available],
        )

    if mode != "deferred":
        reach()
    outcome = run_task(make, between=reach if mode == "deferred" else None)

    verdict = VERDICTS[wait_for][status, health]
    expected = ENDINGS[verdict][mode][flag]
    if isinstance(expected, tuple):
        expected = expected[AIRFLOW_3]
    assert outcome.kind == expected, outcome.error
    waits = verdict == "wait" or (verdict == "pass" and available != "")
    assert (outcome.deferrals > 0) == (mode == "deferred" or (mode == "first_look" and waits))
    if verdict == "pass":
        assert outcome.xcom == expected_xcom(job_id, table, wait_for, status, health)
    if verdict == "wait":
        assert not outcome.pushed
    else:
        metrics = expected_xcom(job_id, table, wait_for, status, "ok")["metrics"]
        assert outcome.pushed == {"metrics": metrics}


OPERATOR_MODES = {"worker": {"deferrable": False}, "first_look": {"deferrable": True}, "deferred": {"deferrable": True}}
OPERATOR_ROWS = rows_of(OPERATOR_MODES, TABLE)
#: What the operator raises if the gate refuses. Only a job that failed has loaded nothing, so only its task is retried.
REFUSALS = {"failed": "PolarisJobFailed", "canceled": "PolarisJobCanceled"}


class OperatorRun:
    """A run of the operator whose job reaches a state at once, or while the task is deferred."""

    def __init__(self, polaris, monkeypatch, wait_for, status, health, mode):
        self.polaris = polaris
        self.status, self.health, self.mode = status, health, mode
        self.spec = SQL if wait_for == "completed" else STREAMING
        self.created = []
        right = PolarisHook.create_job

        def create(hook, spec):
            job = right(hook, spec)
            self.created.append(job.id)
            polaris.set_metrics(job.id, **COUNTERS)
            if mode != "deferred":
                self.reach()
            return job

        monkeypatch.setattr(PolarisHook, "create_job", create)
        verdict = VERDICTS[wait_for][status, health]
        self.expected = {"pass": "success", "wait": "PolarisJobTimeout"}.get(verdict) or REFUSALS.get(
            status, "PolarisGateRefused"
        )

    def reach(self) -> None:
        for name, value in (("executionStatus", STATUSES[self.status]), ("health", HEALTHS[self.health])):
            if value is ABSENT:
                self.polaris.remove_field(self.created[0], name)
            else:
                self.polaris.set_fields(self.created[0], **{name: value})

    def run(self, context=None, **options):
        def make() -> PolarisCreateJobOperator:
            return PolarisCreateJobOperator(
                task_id="load",
                job_spec=self.spec,
                poll_interval=60,
                timeout=600,
                **OPERATOR_MODES[self.mode],
                **options,
            )

        outcome = run_task(make, between=self.reach if self.mode == "deferred" else None, context=context)
        assert outcome.kind == self.expected, outcome.error
        assert len(self.created) == 1
        return outcome


@pytest.mark.usefixtures("moved_clock")
@pytest.mark.parametrize(("wait_for", "status", "health", "mode", "available"), OPERATOR_ROWS)
def test_an_operator_ends_alike_in_each_mode(polaris, monkeypatch, wait_for, status, health, mode, available):
    run = OperatorRun(polaris, monkeypatch, wait_for, status, health, mode)
    outcome = run.run(**TABLE[available])
    assert outcome.pushed["job_id"] == run.created[0]
    metrics = expected_xcom("", "", wait_for, status, "ok")["metrics"]
    verdict = VERDICTS[wait_for][status, health]
    assert outcome.pushed.get("metrics") == (None if verdict == "wait" else metrics)
    if verdict == "pass":
        assert (outcome.xcom["job_id"], outcome.xcom["metrics"]) == (run.created[0], metrics)
        assert outcome.xcom["execution_status"] == STATUSES[status]


LAST = {"last try": 0, "retry left": 1}


@pytest.mark.usefixtures("moved_clock")
@pytest.mark.parametrize(("wait_for", "status", "health", "mode", "last"), rows_of(OPERATOR_MODES, LAST))
def test_cancel_on_failure_cancels_only_a_job_that_is_not_over_and_only_in_the_last_try(
    polaris, monkeypatch, wait_for, status, health, mode, last
):
    """Each refusal of the table is of a job that is over. tests/submission has the refusal of a running job."""
    run = OperatorRun(polaris, monkeypatch, wait_for, status, health, mode)
    ti = FakeTaskInstance()
    ti.max_tries = LAST[last]
    run.run(context_of(ti), cancel_on_failure=True, retries=LAST[last])
    must_cancel = VERDICTS[wait_for][status, health] == "wait" and last == "last try"
    assert len(puts(polaris)) == must_cancel
