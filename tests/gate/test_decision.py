"""A gate decides on a job by its status, health, counters and warnings."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.models import Job, JobMetrics
from airflow_provider_polaris.gate.decision import (
    ThresholdCheck,
    UntilOver,
    Verdict,
    check_each_threshold,
    decide,
    wants_logs,
)
from tests.support.gates import DEFAULTS, gate


def job(status="completed", health="ok", code=None, **fields) -> Job:
    return Job.from_api(
        {"id": "j", "type": "batch", "executionStatus": status, "health": {"status": health, "code": code}, **fields}
    )


def metrics(processed=None, warned=None, skipped=None) -> JobMetrics:
    return JobMetrics(rows_processed=processed, rows_processed_with_warning=warned, rows_skipped_by_error=skipped)


@pytest.mark.parametrize(
    ("options", "counters", "verdict", "told"),
    [
        ({}, None, "pass", ""),
        ({"min_rows_processed": 10}, metrics(processed=10), "pass", ""),
        ({"min_rows_processed": 10}, metrics(processed=4, warned=6), "pass", ""),
        ({"min_rows_processed": 10}, metrics(processed=9), "undecided", "min_rows_processed is 10"),
        ({"min_rows_processed": 10}, metrics(processed=4, warned=5), "undecided", "min_rows_processed is 10"),
        ({"min_rows_processed": 10}, metrics(warned=9), "undecided", "min_rows_processed is 10"),
        ({"min_rows_processed": 0}, metrics(processed=0), "pass", ""),
        ({"min_rows_processed": 0}, metrics(), "undecided", "not reported"),
        ({"min_rows_processed": 1}, None, "undecided", "counters could not be read"),
        ({"max_rows_skipped_by_error": 2}, metrics(skipped=2), "pass", ""),
        ({"max_rows_skipped_by_error": 2}, metrics(skipped=3), "refuse", "lost 3 rows"),
        ({"max_rows_skipped_by_error": 0}, metrics(), "undecided", "numRowsSkippedByError is not reported"),
        ({"max_rows_with_warning": 2}, metrics(warned=2), "pass", ""),
        ({"max_rows_with_warning": 2}, metrics(warned=3), "refuse", "3 rows in part"),
        ({"max_rows_with_warning": 2}, metrics(), "undecided", "not reported"),
        ({"max_error_ratio": 0.1}, metrics(processed=9, skipped=1), "pass", ""),
        ({"max_error_ratio": 0.1}, metrics(processed=8, warned=1, skipped=1), "pass", ""),
        ({"max_error_ratio": 0.1}, metrics(processed=8, skipped=1), "undecided", "1 of 9 rows"),
        ({"max_error_ratio": 0.1}, metrics(processed=8), "undecided", "not reported"),
        ({"max_error_ratio": 0.5}, metrics(processed=1, skipped=1), "pass", ""),
        ({"max_error_ratio": 1}, metrics(processed=0, warned=0, skipped=0), "undecided", "no rows"),
        (
            {"min_rows_processed": 5, "max_rows_skipped_by_error": 0},
            metrics(processed=1, skipped=1),
            "refuse",
            "lost 1 row, max_rows_skipped_by_error is 0; has 1 row, min_rows_processed is 5",
        ),
    ],
)
def test_the_counters_are_compared_with_each_threshold(options, counters, verdict, told):
    decision = decide(job(), gate(**options), counters)
    assert decision.verdict is Verdict(verdict)
    assert told in decision.reason


@pytest.mark.parametrize(
    ("fail_on_warnings", "code", "log_codes", "verdict"),
    [
        (DEFAULTS["fail_on_warnings"], "no_rows_found", None, "refuse"),
        (DEFAULTS["fail_on_warnings"], "unable_to_proceed", None, "refuse"),
        (DEFAULTS["fail_on_warnings"], "invalid_rows_found", None, "pass"),
        (DEFAULTS["fail_on_warnings"], "brand_new_code", None, "pass"),
        (DEFAULTS["fail_on_warnings"], None, None, "pass"),
        (DEFAULTS["fail_on_warnings"], "multiple", None, "undecided"),
        (DEFAULTS["fail_on_warnings"], "multiple", {"invalid_rows_found"}, "pass"),
        (DEFAULTS["fail_on_warnings"], "multiple", {"invalid_rows_found", "no_rows_found"}, "refuse"),
        (True, "brand_new_code", None, "refuse"),
        (True, None, None, "refuse"),
        ((), "no_rows_found", None, "pass"),
        ((), "multiple", None, "pass"),
        (False, "no_rows_found", None, "pass"),
        ("invalid_rows_found", "invalid_rows_found", None, "refuse"),
        (["invalid_rows_found"], "no_rows_found", None, "pass"),
    ],
)
def test_a_warning_refuses_if_fail_on_warnings_covers_it(fail_on_warnings, code, log_codes, verdict):
    decision = decide(job(health="warn", code=code), gate(fail_on_warnings=fail_on_warnings), None, log_codes)
    assert decision.verdict is Verdict(verdict)
    assert decision.warn == (verdict == "pass"), "a gate that opens despite a warning logs a warning"


def test_a_warning_refuses_before_counters_are_known():
    decision = decide(job(health="warn", code="no_rows_found"), gate(min_rows_processed=1))
    assert decision.verdict is Verdict.REFUSE


@pytest.mark.parametrize("wait_for", ["completed", "running"])
@pytest.mark.parametrize("status", ["running", "idle"])
def test_fail_on_unhealthy_refuses_a_job_that_still_runs(wait_for, status):
    kind = "batch" if wait_for == "completed" else "streaming"
    sick = job(status, "error", type=kind)
    assert decide(sick, gate(wait_for=wait_for)).verdict is Verdict.WAIT
    assert decide(sick, gate(wait_for=wait_for, fail_on_unhealthy=True)).verdict is Verdict.REFUSE
    for health in ("warn", "new"):
        fair = decide(job(status, health, type=kind), gate(wait_for=wait_for, fail_on_unhealthy=True))
        assert fair.verdict is not Verdict.REFUSE


@pytest.mark.parametrize(
    ("wait_for", "kind"),
    [
        ("completed", "streaming"),
        ("running", "batch"),
        ("running", "sql"),
        ("running", "drop_table"),
        ("running", "new"),
    ],
)
def test_a_gate_that_never_opens_is_an_error(wait_for, kind):
    with pytest.raises(PolarisUsageError, match=r"Use wait_for="):
        decide(job("running", type=kind), gate(wait_for=wait_for))


def test_a_job_of_no_known_type_does_not_pass_as_a_streaming_one():
    running = Job.from_api({"id": "j", "executionStatus": "running", "health": {"status": "ok"}})
    assert decide(running, gate(wait_for="running")).verdict is Verdict.WAIT


@pytest.mark.parametrize("status", ["suspended", "brand_new_status"])
def test_a_state_that_may_never_end_is_a_warning(status):
    assert decide(job(status), gate()).warn


def test_a_refusal_names_who_canceled_the_job_and_when():
    reason = decide(
        job("canceled", lastModifiedBy={"username": "kim"}, completedTimestamp="2026-11-01T00:00:00Z"), gate()
    ).reason
    assert reason == "was canceled by kim at 2026-11-01 00:00:00 UTC"


def test_a_refusal_names_why_the_job_failed():
    failed = job("failed", health="error", code="row_too_large")
    assert decide(failed, gate()).reason == "failed, row_too_large"


#: The reasons of decide(), word for word: people search for them as they are in logs and exceptions.
SAID = [
    ("completed", "pending", {"status": "ok"}, "wait", False, "is pending"),
    ("completed", "unknown", None, "wait", False, "is unknown"),
    ("completed", "running", {"status": "ok"}, "wait", False, "is running"),
    ("completed", "running", None, "wait", False, "is running"),
    ("completed", "running", {"status": "new"}, "wait", True, "is running (health new)"),
    (
        "completed",
        "idle",
        {"status": "error", "code": "c", "message": "m"},
        "wait",
        False,
        "is idle (health error, c: m)",
    ),
    ("completed", "suspended", None, "wait", True, "is suspended, and continues only if somebody resumes it"),
    ("completed", "brand_new", None, "wait", True, "has a status that this provider does not know: 'brand_new'"),
    ("completed", "completed", {"status": "ok"}, "pass", False, "completed"),
    ("completed", "completed", {"status": "warn", "code": "c"}, "pass", True, "completed with c"),
    ("completed", "completed", {"status": "error"}, "refuse", False, "completed with health error"),
    ("completed", "completed", None, "undecided", False, "completed, and Polaris reports no health"),
    ("completed", "completed", {"status": "new"}, "refuse", False, "completed with health new"),
    ("completed", "failed", {"status": "error", "message": "m"}, "refuse", False, "failed, m"),
    ("completed", "failed", None, "refuse", False, "failed, and Polaris reports no reason"),
    ("completed", "canceled", None, "refuse", False, "was canceled"),
    ("running", "pending", {"status": "ok"}, "wait", False, "is pending"),
    ("running", "running", {"status": "ok"}, "pass", False, "is running"),
    ("running", "idle", {"status": "warn"}, "pass", True, "is idle (health warn)"),
    ("running", "running", {"status": "error"}, "wait", False, "is running (health error)"),
    ("running", "running", None, "wait", False, "is running"),
    ("running", "running", {"status": "new"}, "wait", True, "is running (health new)"),
    ("running", "completed", {"status": "ok"}, "refuse", False, "is over, and wait_for is 'running'"),
    ("running", "failed", {"status": "ok"}, "refuse", False, "failed, and Polaris reports no reason"),
    ("running", "canceled", {"status": "ok"}, "refuse", False, "was canceled"),
    ("over", "running", {"status": "ok"}, "wait", False, "is running"),
    ("over", "suspended", {"status": "error"}, "wait", False, "is suspended (health error)"),
    ("over", "completed", {"status": "ok"}, "pass", False, "completed"),
    ("over", "completed", {"status": "warn", "code": "c"}, "pass", False, "completed (health warn, c)"),
    ("over", "completed", None, "pass", False, "completed (no health reported)"),
    ("over", "failed", None, "pass", False, "failed, and Polaris reports no reason"),
    ("over", "canceled", None, "pass", False, "was canceled"),
]


@pytest.mark.parametrize(("wait_for", "status", "health", "verdict", "warn", "reason"), SAID)
def test_the_reason_names_the_state(wait_for, status, health, verdict, warn, reason):
    kind = "streaming" if wait_for == "running" else "batch"
    it = Job.from_api({"id": "j", "type": kind, "executionStatus": status, "health": health})
    asked = UntilOver() if wait_for == "over" else gate(wait_for=wait_for)
    decision = decide(it, asked)
    assert (decision.verdict.value, decision.warn, decision.reason) == (verdict, warn, reason)


def test_the_reason_names_fail_on_unhealthy():
    decision = decide(job("running", "error", "c"), gate(fail_on_unhealthy=True))
    assert decision.reason == "is running (health error, c); fail_on_unhealthy is set"
    assert not decision.warn


@pytest.mark.parametrize(
    ("fail_on_warnings", "code", "log_codes", "reason"),
    [
        (True, "c", None, "completed with c; fail_on_warnings is True"),
        (("c",), "c", None, "completed with c; fail_on_warnings names it"),
        (("c",), "multiple", None,
         "completed with multiple; its logs, which should name the warnings, could not be read"),
        (("c",), "multiple", set(),
         "completed with multiple; its logs, which should name the warnings, name none of them"),
        (("b", "c", "a"), "multiple", {"c", "b", "x"},
         "completed with multiple; its logs name b, c, and so does fail_on_warnings"),
    ],
)  # fmt: skip
def test_the_reason_names_the_warnings(fail_on_warnings, code, log_codes, reason):
    assert (
        decide(job("completed", "warn", code), gate(fail_on_warnings=fail_on_warnings), None, log_codes).reason
        == reason
    )


@pytest.mark.parametrize(
    ("options", "counters", "reason"),
    [
        ({"min_rows_processed": 1000}, None, ("completed, its counters could not be read, and "
         "min_rows_processed could not be checked")),
        ({"min_rows_processed": 1, "max_error_ratio": 0.5}, None, ("completed, its counters could not be read, and "
         "min_rows_processed and max_error_ratio could not be checked")),
        ({"min_rows_processed": 1000}, metrics(), ("completed, and numRowsProcessed is not reported, "
         "min_rows_processed is 1,000")),
        ({"min_rows_processed": 1000}, metrics(warned=5), ("completed, and numRowsProcessed is not reported, "
         "min_rows_processed is 1,000")),
        ({"min_rows_processed": 9000}, metrics(1000, 2000), "has 3,000 rows, min_rows_processed is 9,000"),
        ({"max_rows_skipped_by_error": 1000}, metrics(), ("completed, and numRowsSkippedByError is not reported, "
         "max_rows_skipped_by_error is 1,000")),
        ({"max_rows_skipped_by_error": 1000}, metrics(skipped=2000),
         "lost 2,000 rows, max_rows_skipped_by_error is 1,000"),
        ({"max_rows_with_warning": 1000}, metrics(), ("completed, and numRowsProcessedWithWarning is not reported, "
         "max_rows_with_warning is 1,000")),
        ({"max_rows_with_warning": 1000}, metrics(warned=2000),
         "has 2,000 rows in part, max_rows_with_warning is 1,000"),
        ({"max_error_ratio": 0.25}, metrics(5), ("completed, and numRowsSkippedByError is not reported, "
         "max_error_ratio is 0.25")),
        ({"max_error_ratio": 0.25}, metrics(skipped=0), "has no rows to take a ratio of, max_error_ratio is 0.25"),
        ({"max_error_ratio": 0.25}, metrics(1000, 1000, 1000),
         "lost 1,000 of 3,000 rows (0.3333), max_error_ratio is 0.25"),
    ],
)  # fmt: skip
def test_the_reason_names_the_counters(options, counters, reason):
    decision = decide(job(), gate(**options), counters)
    assert decision.reason == reason
    assert not decision.warn


def test_rows_with_a_warning_alone_can_be_enough():
    assert decide(job(), gate(min_rows_processed=5), metrics(warned=5)).verdict is Verdict.PASS
    assert decide(job(), gate(min_rows_processed=6), metrics(warned=5)).verdict is Verdict.UNDECIDED


def test_the_error_of_a_gate_that_never_opens_names_the_right_option():
    with pytest.raises(PolarisUsageError) as caught:
        decide(job("running", type="streaming"), gate())
    assert str(caught.value) == (
        "Polaris streaming job j: a streaming job never completes. Use wait_for='running' to wait until it is up"
    )
    with pytest.raises(PolarisUsageError) as caught:
        decide(job("running"), gate(wait_for="running"))
    assert str(caught.value) == (
        "Polaris batch job j: wait_for='running' is for streaming jobs. Use wait_for='completed' for a batch job"
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "was canceled"),
        ({"lastModifiedBy": {"username": "kim"}}, "was canceled by kim"),
        ({"lastUpdatedTimestamp": "t1"}, "was canceled at t1"),
        ({"lastUpdatedTimestamp": "t1", "completedTimestamp": "t2"}, "was canceled at t2"),
    ],
)
def test_the_reason_names_who_canceled_the_job_and_when(fields, said):
    assert decide(job("canceled", **fields), gate()).reason == said


@pytest.mark.parametrize(
    ("health", "fail_on_warnings", "wanted"),
    [
        ("multiple", ("c",), True),
        ("multiple", (), False),
        ("multiple", True, False),
        ("other", ("c",), False),
    ],
)
def test_the_logs_are_needed_only_if_they_name_the_warnings(health, fail_on_warnings, wanted):
    assert wants_logs(job("completed", "warn", health), gate(fail_on_warnings=fail_on_warnings)) is wanted
    nothing = Job.from_api({"id": "j", "executionStatus": "completed"})
    assert wants_logs(nothing, gate(fail_on_warnings=("c",))) is False


@pytest.mark.parametrize(
    ("option", "limit", "counters", "value", "passed"),
    [
        ("min_rows_processed", 10, metrics(processed=4, warned=6), 10, True),
        ("min_rows_processed", 10, metrics(processed=9), 9, False),
        ("min_rows_processed", 10, metrics(warned=12), 12, True),
        ("min_rows_processed", 10, metrics(skipped=3), None, False),
        ("min_rows_processed", 0, metrics(processed=0, warned=0), 0, True),
        ("max_rows_skipped_by_error", 2, metrics(processed=7, skipped=2), 2, True),
        ("max_rows_skipped_by_error", 2, metrics(processed=7, skipped=3), 3, False),
        ("max_rows_skipped_by_error", 2, metrics(processed=7), None, False),
        ("max_rows_with_warning", 2, metrics(processed=7, warned=2), 2, True),
        ("max_rows_with_warning", 2, metrics(processed=7, warned=3), 3, False),
        ("max_rows_with_warning", 2, metrics(processed=7), None, False),
        ("max_error_ratio", 0.25, metrics(processed=2, warned=1, skipped=1), 0.25, True),
        ("max_error_ratio", 0.25, metrics(processed=1, skipped=1), 0.5, False),
        ("max_error_ratio", 0.25, metrics(skipped=4), 1.0, False),
        ("max_error_ratio", 0.25, metrics(processed=4), None, False),
        ("max_error_ratio", 0.25, metrics(processed=0, skipped=0), None, False),
        ("min_rows_processed", 10, None, None, False),
    ],
)
def test_each_threshold_is_also_checked_by_itself(option, limit, counters, value, passed):
    assert check_each_threshold(counters, gate(**{option: limit})) == [ThresholdCheck(option, limit, value, passed)]


def test_all_thresholds_of_a_gate_are_checked_each_by_itself():
    counters = metrics(processed=7, warned=1, skipped=2)
    limits = {
        "min_rows_processed": 9,
        "max_rows_skipped_by_error": 2,
        "max_rows_with_warning": 0,
        "max_error_ratio": 0.2,
    }
    assert check_each_threshold(counters, gate(**limits)) == [
        ThresholdCheck("min_rows_processed", 9, 8, passed=False),
        ThresholdCheck("max_rows_skipped_by_error", 2, 2, passed=True),
        ThresholdCheck("max_rows_with_warning", 0, 1, passed=False),
        ThresholdCheck("max_error_ratio", 0.2, 0.2, passed=True),
    ]
    assert check_each_threshold(counters, gate()) == []
