"""Decide what a job's state means. Pure: a job, its counters and a gate in, a decision out. No other module decides.

Poke mode, the first poll before a deferral, the trigger and the resume all call :func:`decide`. The gate fails closed:
only a state that is named as good passes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.models import (
    Job,
    JobMetrics,
)
from airflow_provider_polaris.api.parsing import clip, seconds_of
from airflow_provider_polaris.gate.options import Gate

#: The health code that stands for several warnings, which the job's logs name.
MULTIPLE = "multiple"
#: The health code of a job that lost rows, or ingested rows in part.
INVALID_ROWS = "invalid_rows_found"


class Verdict(Enum):
    """What a gate decides."""

    WAIT = "wait"
    PASS = "pass"  # noqa: S105 - not a password
    REFUSE = "refuse"
    #: The job has completed, and its health, counters or logs are not known yet. A wait that ends undecided refuses.
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Decision:
    """A verdict and its reason.

    :param reason: a clause whose subject is the job's table: "orders …". It has the facts that decided.
    :param warn: whether to log the reason as a warning.
    """

    verdict: Verdict
    reason: str
    warn: bool = False


def wants_logs(job: Job, gate: Gate) -> bool:
    """Whether only the job's logs show if ``fail_on_warnings`` names one of its warnings."""
    several = job.health is not None and job.health.code == MULTIPLE
    return several and bool(gate.fail_on_warnings) and gate.fail_on_warnings is not True


def _wait(reason: str, *, warn: bool = False) -> Decision:
    return Decision(Verdict.WAIT, reason, warn)


def _refuse(reason: str) -> Decision:
    return Decision(Verdict.REFUSE, reason)


@dataclass(frozen=True)
class UntilOver:
    """The condition of a cancellation: the job is over, whatever its outcome."""


#: What a wait can wait for. :func:`decide` judges a job by either.
Condition = Gate | UntilOver


def decide(
    job: Job,
    gate: Condition,
    metrics: JobMetrics | None = None,
    log_codes: Collection[str] | None = None,
) -> Decision:
    """Return the verdict of the gate on the job, and the reason.

    :param metrics: the job's counters; ``None`` while they are not known.
    :param log_codes: the codes of the job's log lines, which name the warnings behind ``multiple``; ``None`` while they
        are not known.
    :raises PolarisUsageError: if this gate never opens for a job of this type.
    """
    if isinstance(gate, UntilOver):
        return Decision(Verdict.PASS, _end_of(job)) if job.is_over else _wait(f"is {job.state}")
    _check_that_it_can_open(job, gate)
    if job.has_completed:
        return _decide_completed(job, gate, metrics, log_codes)
    if job.is_over:
        return _refuse(_end_of(job))
    if job.is_running:
        return _decide_running(job, gate)
    if job.is_suspended:
        return _wait("is suspended, and continues only if somebody resumes it", warn=True)
    if not job.has_known_status:
        return _wait(
            f"has a status that this provider does not know: {clip(repr(str(job.execution_status)), 60)}", warn=True
        )
    return _wait(f"is {job.state}")


def _check_that_it_can_open(job: Job, gate: Gate) -> None:
    if gate.wait_for == "completed" and job.is_streaming:
        raise PolarisUsageError(
            f"{job}: a streaming job never completes. Use wait_for='running' to wait until it is up"
        )
    if gate.wait_for == "running" and not job.is_streaming and job.type is not None:
        raise PolarisUsageError(
            f"{job}: wait_for='running' is for streaming jobs. Use wait_for='completed' for a {job.type} job"
        )


def _end_of(job: Job) -> str:
    """Return how a job ended."""
    if job.was_canceled:
        by = f" by {job.last_modified_by}" if job.last_modified_by else ""
        at = seconds_of(job.completed_at or job.last_updated_at)
        return f"was canceled{by}" + (f" at {at}" if at else "")
    if job.has_completed:
        return "completed" + ("" if job.health and job.health.is_ok else f" ({job.health or 'no health reported'})")
    return f"failed, {(job.health and job.health.fault) or 'and Polaris reports no reason'}"


def _decide_running(job: Job, gate: Gate) -> Decision:
    health = job.health
    if health is not None and health.is_error and gate.fail_on_unhealthy:
        return _refuse(f"is {job.state}; fail_on_unhealthy is set")
    # The type must be known by now: only a state that is named as good passes.
    if gate.wait_for == "running" and job.is_streaming and health is not None and (health.is_ok or health.is_warning):
        return Decision(Verdict.PASS, f"is {job.state}", warn=health.is_warning)
    return _wait(f"is {job.state}", warn=health is not None and not health.status.is_known)


def _decide_completed(job: Job, gate: Gate, metrics: JobMetrics | None, log_codes: Collection[str] | None) -> Decision:
    if gate.wait_for != "completed":
        return _refuse("is over, and wait_for is 'running'")
    health = job.health
    if health is None:  # the API allows null, and the next response may have the health
        return Decision(Verdict.UNDECIDED, "completed, and Polaris reports no health")
    if not (health.is_ok or health.is_warning):
        return _refuse(f"completed with {health}")
    if health.is_warning:
        objection = _object_to_warning(health.code, gate, log_codes)
        if objection:
            return Decision(objection.verdict, f"completed with {health.code or health}; {objection.reason}")
    decision = _check_thresholds(metrics, gate)
    if decision is None:
        # The counters show that rows are lost, or are in the table in part.
        is_counted = health.code in (None, INVALID_ROWS)
        return Decision(Verdict.PASS, "completed" if is_counted else f"completed with {health.code}", health.is_warning)
    return decision


def _object_to_warning(code: str | None, gate: Gate, log_codes: Collection[str] | None) -> Decision | None:
    codes = gate.fail_on_warnings
    if codes is True:
        return _refuse("fail_on_warnings is True")
    if code in codes:
        return _refuse("fail_on_warnings names it")
    if code == MULTIPLE and codes:
        if not log_codes:
            fault = "could not be read" if log_codes is None else "name none of them"
            return Decision(Verdict.UNDECIDED, f"its logs, which should name the warnings, {fault}")
        named = sorted(codes.intersection(log_codes))
        if named:
            return _refuse(f"its logs name {', '.join(named)}, and so does fail_on_warnings")
    return None


def _check_thresholds(metrics: JobMetrics | None, gate: Gate) -> Decision | None:
    """Compare the counters with the thresholds. Return ``None`` if the job passes."""
    if not gate.thresholds:
        return None
    if metrics is None:
        names = " and ".join(gate.thresholds)
        return Decision(
            Verdict.UNDECIDED, f"completed, its counters could not be read, and {names} could not be checked"
        )
    objections = [*_check_maxima(metrics, gate), *_check_minimum(metrics, gate), *_check_ratio(metrics, gate)]
    if not objections:
        return None
    refused = any(objection.verdict is Verdict.REFUSE for objection in objections)
    return Decision(
        Verdict.REFUSE if refused else Verdict.UNDECIDED, "; ".join(objection.reason for objection in objections)
    )


@dataclass(frozen=True)
class ThresholdCheck:
    """How the counters of a completed job compare with one threshold.

    :param threshold: the name of the option.
    :param value: the number of rows, or the ratio; ``None`` if it is not reported.
    :param passed: whether the gate opens as far as this threshold decides.
    """

    threshold: str
    limit: float
    value: float | None
    passed: bool


def check_each_threshold(metrics: JobMetrics | None, gate: Gate) -> list[ThresholdCheck]:
    """Compare the counters of a completed job with each threshold by itself."""
    checks = []
    for name in gate.thresholds:
        alone = Gate(**{name: getattr(gate, name)})
        passed = _check_thresholds(metrics, alone) is None
        checks.append(ThresholdCheck(name, getattr(gate, name), _value_of(name, metrics), passed))
    return checks


def _value_of(threshold: str, metrics: JobMetrics | None) -> float | None:
    """Return the number that a threshold limits, as far as it is reported."""
    if metrics is None:
        return None
    counters = (metrics.rows_processed, metrics.rows_processed_with_warning)
    counted = None if counters == (None, None) else sum(count or 0 for count in counters)
    lost = metrics.rows_skipped_by_error
    total = (counted or 0) + (lost or 0)
    values = {
        "min_rows_processed": counted,
        "max_rows_skipped_by_error": lost,
        "max_rows_with_warning": metrics.rows_processed_with_warning,
        "max_error_ratio": None if lost is None or not total else lost / total,
    }
    return values[threshold]


def _check_maxima(metrics: JobMetrics, gate: Gate) -> Iterator[Decision]:
    lost, most = metrics.rows_skipped_by_error, gate.max_rows_skipped_by_error
    if most is not None:
        threshold = f"max_rows_skipped_by_error is {most:,}"
        if lost is None:
            yield _not_reported("numRowsSkippedByError", threshold)
        elif lost > most:
            yield _refuse(f"lost {_rows(lost)}, {threshold}")
    in_part, most = metrics.rows_processed_with_warning, gate.max_rows_with_warning
    if most is not None:
        threshold = f"max_rows_with_warning is {most:,}"
        if in_part is None:
            yield _not_reported("numRowsProcessedWithWarning", threshold)
        elif in_part > most:
            yield _refuse(f"has {_rows(in_part)} in part, {threshold}")


def _check_minimum(metrics: JobMetrics, gate: Gate) -> Iterator[Decision]:
    least = gate.min_rows_processed
    if least is None:
        return
    # An absent counter is not zero, and not negative. The reported counter may be enough by itself.
    counted = (metrics.rows_processed or 0) + (metrics.rows_processed_with_warning or 0)
    if metrics.rows_processed is None and (counted < least or metrics.rows_processed_with_warning is None):
        yield _not_reported("numRowsProcessed", f"min_rows_processed is {least:,}")
    elif counted < least:
        yield Decision(Verdict.UNDECIDED, f"has {_rows(counted)}, min_rows_processed is {least:,}")


def _check_ratio(metrics: JobMetrics, gate: Gate) -> Iterator[Decision]:
    most = gate.max_error_ratio
    if most is None:
        return
    skipped = metrics.rows_skipped_by_error
    counted = (metrics.rows_processed or 0) + (metrics.rows_processed_with_warning or 0)
    if skipped is None:
        yield _not_reported("numRowsSkippedByError", f"max_error_ratio is {most:g}")
    elif skipped + counted == 0:
        yield Decision(Verdict.UNDECIDED, f"has no rows to take a ratio of, max_error_ratio is {most:g}")
    elif (ratio := skipped / (skipped + counted)) > most:
        # Not refused at once: processed rows that Polaris counts late make the ratio smaller.
        yield Decision(
            Verdict.UNDECIDED,
            f"lost {skipped:,} of {_rows(skipped + counted)} ({ratio:.4g}), max_error_ratio is {most:g}",
        )


def _not_reported(counter: str, threshold: str) -> Decision:
    return Decision(Verdict.UNDECIDED, f"completed, and {counter} is not reported, {threshold}")


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
