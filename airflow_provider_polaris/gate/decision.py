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
from airflow_provider_polaris.api.parsing import clip
from airflow_provider_polaris.gate.options import Gate

#: The health code that stands for several warnings, which the job's logs name.
MULTIPLE = "multiple"


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

    :param reason: a clause that continues "the job …".
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
        verdict = Verdict.PASS if job.is_over else Verdict.WAIT
        return Decision(verdict, f"is {job.state}")
    _check_that_it_can_open(job, gate)
    if job.has_completed:
        return _decide_completed(job, gate, metrics, log_codes)
    if job.has_failed:
        return _refuse(f"failed: {job.health or 'no health given'}")
    if job.was_canceled:
        return _refuse(f"was canceled{_by_whom(job)}")
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


def _by_whom(job: Job) -> str:
    by = f" by {job.last_modified_by}" if job.last_modified_by else ""
    at = job.completed_at or job.last_updated_at
    return by + (f" at {at}" if at else "")


def _decide_running(job: Job, gate: Gate) -> Decision:
    health = job.health
    if health is not None and health.is_error and gate.fail_on_unhealthy:
        return _refuse(f"is {job.state}, and fail_on_unhealthy is set")
    # The type must be known by now: only a state that is named as good passes.
    if gate.wait_for == "running" and job.is_streaming and health is not None and (health.is_ok or health.is_warning):
        return Decision(Verdict.PASS, f"is {job.state}", warn=health.is_warning)
    return _wait(f"is {job.state}", warn=health is not None and not health.status.is_known)


def _decide_completed(job: Job, gate: Gate, metrics: JobMetrics | None, log_codes: Collection[str] | None) -> Decision:
    if gate.wait_for != "completed":
        return _refuse("is over, and wait_for is 'running'")
    health = job.health
    if health is None:  # the API allows null, and the next response may have the health
        return Decision(Verdict.UNDECIDED, f"is {job.state}")
    if not (health.is_ok or health.is_warning):
        return _refuse(f"is {job.state}")
    if health.is_warning:
        objection = _object_to_warning(health.code, gate, log_codes)
        if objection:
            return Decision(objection.verdict, f"is {job.state}; {objection.reason}")
    decision = _check_thresholds(metrics, gate)
    if decision is None:
        return Decision(Verdict.PASS, f"is {job.state}", warn=health.is_warning)
    return decision


def _object_to_warning(code: str | None, gate: Gate, log_codes: Collection[str] | None) -> Decision | None:
    codes = gate.fail_on_warnings
    if codes is True:
        return _refuse("fail_on_warnings is True")
    if code in codes:
        return _refuse(f"fail_on_warnings names {code}")
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
            Verdict.UNDECIDED, f"completed, and its counters could not be read, so that {names} could not be checked"
        )
    objections = [*_check_maxima(metrics, gate), *_check_minimum(metrics, gate), *_check_ratio(metrics, gate)]
    if not objections:
        return None
    refused = any(objection.verdict is Verdict.REFUSE for objection in objections)
    return Decision(
        Verdict.REFUSE if refused else Verdict.UNDECIDED,
        "completed, but " + "; ".join(objection.reason for objection in objections),
    )


def _check_maxima(metrics: JobMetrics, gate: Gate) -> Iterator[Decision]:
    for option, most, counter, value in (
        (
            "max_rows_skipped_by_error",
            gate.max_rows_skipped_by_error,
            "numRowsSkippedByError",
            metrics.rows_skipped_by_error,
        ),
        (
            "max_rows_with_warning",
            gate.max_rows_with_warning,
            "numRowsProcessedWithWarning",
            metrics.rows_processed_with_warning,
        ),
    ):
        if most is None:
            continue
        if value is None:
            yield Decision(Verdict.UNDECIDED, f"{counter} is not reported, and {option} is {most:,}")
        elif value > most:
            yield _refuse(f"{counter} is {value:,}, and {option} is {most:,}")


def _check_minimum(metrics: JobMetrics, gate: Gate) -> Iterator[Decision]:
    least = gate.min_rows_processed
    if least is None:
        return
    # An absent counter is not zero, and not negative. The reported counter may be enough by itself.
    counted = (metrics.rows_processed or 0) + (metrics.rows_processed_with_warning or 0)
    if counted < least or metrics.rows_processed is metrics.rows_processed_with_warning is None:
        yield Decision(
            Verdict.UNDECIDED,
            f"numRowsProcessed is {_counter_text(metrics.rows_processed)}, numRowsProcessedWithWarning is "
            f"{_counter_text(metrics.rows_processed_with_warning)}, and min_rows_processed is {least:,}",
        )


def _check_ratio(metrics: JobMetrics, gate: Gate) -> Iterator[Decision]:
    most = gate.max_error_ratio
    if most is None:
        return
    skipped = metrics.rows_skipped_by_error
    counted = (metrics.rows_processed or 0) + (metrics.rows_processed_with_warning or 0)
    if skipped is None:
        yield Decision(Verdict.UNDECIDED, f"numRowsSkippedByError is not reported, and max_error_ratio is {most:g}")
    elif skipped + counted == 0:
        yield Decision(Verdict.UNDECIDED, f"there are no rows to take a ratio of, and max_error_ratio is {most:g}")
    elif (ratio := skipped / (skipped + counted)) > most:
        # Not refused at once: processed rows that Polaris counts late make the ratio smaller.
        yield Decision(
            Verdict.UNDECIDED,
            f"{skipped:,} of {skipped + counted:,} rows were skipped by errors, a ratio of {ratio:.4g}, "
            f"and max_error_ratio is {most:g}",
        )


def _counter_text(counter: int | None) -> str:
    return "not reported" if counter is None else f"{counter:,}"
