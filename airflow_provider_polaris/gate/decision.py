"""The one place that decides what a job's state means. Pure: a job, its counters and a gate in, a decision out.

Poke, the first look before a deferral, the trigger and the resume all ask :func:`decide`; nothing else compares
statuses. It fails closed: only what is named as good passes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from airflow_provider_polaris.api.connection import rendered_to_nothing
from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.models import (
    WARNING_CODES,
    ExecutionStatus,
    HealthStatus,
    Job,
    JobMetrics,
    JobType,
)
from airflow_provider_polaris.api.parsing import clip

#: The health code that stands for several warnings, which the job's logs name.
MULTIPLE = "multiple"
_CODE = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Gate:
    """What a job must have come to before downstream tasks may run. Made by :meth:`from_options`, which checks.

    The thresholds count rows; ``None`` means that this one is not looked at.
    """

    wait_for: Literal["completed", "running"] = "completed"
    #: ``True``: any warning refuses; otherwise the warning codes that do.
    fail_on_warnings: Literal[True] | frozenset[str] = frozenset({"no_rows_found", "unable_to_proceed"})
    fail_on_unhealthy: bool = False
    min_rows_processed: int | None = None
    max_rows_skipped_by_error: int | None = None
    max_rows_with_warning: int | None = None
    #: Between 0 and 1: skippedByError / (processed + withWarning + skippedByError).
    max_error_ratio: float | None = None

    @classmethod
    def from_options(
        cls,
        *,
        wait_for: Any,
        fail_on_warnings: Any,
        fail_on_unhealthy: Any,
        min_rows_processed: Any,
        max_rows_skipped_by_error: Any,
        max_rows_with_warning: Any,
        max_error_ratio: Any,
    ) -> Gate:
        """Read an operator's options after rendering: digits as text will do. Raises PolarisUsageError on others."""
        if wait_for not in ("completed", "running"):
            raise PolarisUsageError(f"wait_for must be 'completed' or 'running', not {wait_for!r}")
        if not isinstance(fail_on_unhealthy, bool):
            raise PolarisUsageError(f"fail_on_unhealthy must be True or False, not {fail_on_unhealthy!r}")
        gate = cls(
            wait_for=wait_for,
            fail_on_warnings=_warning_codes(fail_on_warnings),
            fail_on_unhealthy=fail_on_unhealthy,
            min_rows_processed=_count("min_rows_processed", min_rows_processed),
            max_rows_skipped_by_error=_count("max_rows_skipped_by_error", max_rows_skipped_by_error),
            max_rows_with_warning=_count("max_rows_with_warning", max_rows_with_warning),
            max_error_ratio=_ratio("max_error_ratio", max_error_ratio),
        )
        if gate.needs_metrics and wait_for != "completed":
            raise PolarisUsageError(
                "Thresholds on row counters go with wait_for='completed' only: a running job still counts"
            )
        return gate

    @property
    def unknown_warnings(self) -> list[str]:
        """Codes in ``fail_on_warnings`` that nobody documents: new, or mistyped and never to match."""
        return [] if self.fail_on_warnings is True else sorted(self.fail_on_warnings - WARNING_CODES)

    @property
    def needs_metrics(self) -> bool:
        """Whether a completed job cannot be judged without its counters."""
        return any(
            threshold is not None
            for threshold in (
                self.min_rows_processed,
                self.max_rows_skipped_by_error,
                self.max_rows_with_warning,
                self.max_error_ratio,
            )
        )


def _warning_codes(value: Any) -> Literal[True] | frozenset[str]:
    if value is True:
        return True
    if value is False or value is None:
        return frozenset()
    codes = (value,) if isinstance(value, str) else value
    if not isinstance(codes, Collection) or not all(isinstance(code, str) and _CODE.fullmatch(code) for code in codes):
        raise PolarisUsageError(f"fail_on_warnings must be True, or a tuple of warning codes, not {value!r}")
    return frozenset(codes)


def _number(name: str, value: Any, wanted: str) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if value in ("", "None"):
        raise PolarisUsageError(f"{rendered_to_nothing(name, value)} It must be {wanted}")
    if not (math.isfinite(number) and number >= 0):
        # A threshold that renders to nothing must not silently open the gate.
        raise PolarisUsageError(f"{name} must be {wanted}; it is {clip(repr(value), 100)}")
    return number


def _count(name: str, value: Any) -> int | None:
    number = _number(name, value, wanted := "a whole number of rows, 0 or more")
    if number is not None and not number.is_integer():
        raise PolarisUsageError(f"{name} must be {wanted}; it is {value!r}")
    return None if number is None else int(number)


def check_threshold(name: str, value: Any) -> None:
    """Raise PolarisUsageError for a threshold out of its range.

    :param name: an option of a gate: ``max_error_ratio`` is a ratio, all others count rows.
    """
    (_ratio if name == "max_error_ratio" else _count)(name, value)


def _ratio(name: str, value: Any) -> float | None:
    number = _number(name, value, wanted := "a ratio between 0 and 1")
    if number is not None and number > 1:
        raise PolarisUsageError(f"{name} must be {wanted}; it is {value!r}")
    return number


class Verdict(Enum):
    """What a gate does next."""

    WAIT = "wait"
    PASS = "pass"  # noqa: S105 - not a password
    REFUSE = "refuse"
    #: The state is good; what the counters or logs say of it is not known yet. In the end: refuse.
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Decision:
    """A verdict and why, as a clause that goes on from "the job"; ``warn`` asks to say it as a warning."""

    verdict: Verdict
    reason: str
    warn: bool = False


def wants_logs(job: Job, gate: Gate) -> bool:
    """Whether only the job's logs can tell if the gate objects to its warnings."""
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
    """Answer what the gate makes of the job.

    :param metrics: the job's counters; ``None`` while they are not known.
    :param log_codes: the codes of the job's log lines, which tell what a warning ``multiple`` stands for; ``None``
        while they are not known.
    :raises PolarisUsageError: if this gate never opens for a job of this type.
    """
    if isinstance(gate, UntilOver):
        verdict = Verdict.PASS if job.execution_status.is_over else Verdict.WAIT
        return Decision(verdict, f"is {job.state}")
    _check_that_it_can_open(job, gate)
    status = job.execution_status
    if status == ExecutionStatus.COMPLETED:
        return _decide_completed(job, gate, metrics, log_codes)
    if status == ExecutionStatus.FAILED:
        return _refuse(f"failed: {job.health or 'no health given'}")
    if status == ExecutionStatus.CANCELED:
        return _refuse(f"was canceled{_by_whom(job)}")
    if status in {ExecutionStatus.RUNNING, ExecutionStatus.IDLE}:
        return _decide_running(job, gate)
    if status == ExecutionStatus.SUSPENDED:
        return _wait("is suspended: it goes on only when a person resumes it", warn=True)
    if not status.is_known:
        return _wait(f"has a status that this provider does not know: {clip(repr(str(status)), 60)}", warn=True)
    return _wait(f"is {job.state}")


def _check_that_it_can_open(job: Job, gate: Gate) -> None:
    streaming = job.type == JobType.STREAMING
    if gate.wait_for == "completed" and streaming:
        raise PolarisUsageError(
            f"{job}: a streaming job never completes. Use wait_for='running' to wait until it is up"
        )
    if gate.wait_for == "running" and not streaming and job.type is not None:
        raise PolarisUsageError(
            f"{job}: wait_for='running' is for streaming jobs. Use wait_for='completed' for a {job.type} job"
        )


def _by_whom(job: Job) -> str:
    by = f" by {job.last_modified_by}" if job.last_modified_by else ""
    at = job.completed_at or job.last_updated_at
    return by + (f" at {at}" if at else "")


def _decide_running(job: Job, gate: Gate) -> Decision:
    health = job.health.status if job.health else None
    if health == HealthStatus.ERROR and gate.fail_on_unhealthy:
        return _refuse(f"is {job.state}, and fail_on_unhealthy is set")
    # The type must be known by now: only a state that is named as good passes.
    good = health in {HealthStatus.OK, HealthStatus.WARN} and job.type == JobType.STREAMING
    if gate.wait_for == "running" and good:
        return Decision(Verdict.PASS, f"is {job.state}", warn=health == HealthStatus.WARN)
    return _wait(f"is {job.state}", warn=health is not None and not health.is_known)


def _decide_completed(job: Job, gate: Gate, metrics: JobMetrics | None, log_codes: Collection[str] | None) -> Decision:
    if gate.wait_for != "completed":
        return _refuse("is over, and the gate waits for one that runs")
    health = job.health
    if health is None or health.status not in {HealthStatus.OK, HealthStatus.WARN}:
        return _refuse(f"is {job.state}")
    if health.status == HealthStatus.WARN:
        objection = _object_to_warning(health.code, gate, log_codes)
        if objection:
            return Decision(objection.verdict, f"is {job.state}; {objection.reason}")
    decision = _weigh(metrics, gate)
    if decision is None:
        return Decision(Verdict.PASS, f"is {job.state}", warn=health.status == HealthStatus.WARN)
    return decision


def _object_to_warning(code: str | None, gate: Gate, log_codes: Collection[str] | None) -> Decision | None:
    codes = gate.fail_on_warnings
    if codes is True:
        return _refuse("fail_on_warnings is True")
    if code in codes:
        return _refuse(f"fail_on_warnings names {code}")
    if code == MULTIPLE and codes:
        if not log_codes:
            told = "could not be read" if log_codes is None else "name none of them"
            return Decision(Verdict.UNDECIDED, f"its logs, which should name the warnings, {told}")
        named = sorted(codes.intersection(log_codes))
        if named:
            return _refuse(f"its logs name {', '.join(named)}, and so does fail_on_warnings")
    return None


def _weigh(metrics: JobMetrics | None, gate: Gate) -> Decision | None:
    """Hold the counters against the thresholds; ``None`` if nothing speaks against passing."""
    if not gate.needs_metrics:
        return None
    if metrics is None:
        return Decision(Verdict.UNDECIDED, "completed, and its counters could not be read")
    objections = [*_weigh_maxima(metrics, gate), *_weigh_minimum(metrics, gate), *_weigh_ratio(metrics, gate)]
    if not objections:
        return None
    refused = any(objection.verdict is Verdict.REFUSE for objection in objections)
    return Decision(
        Verdict.REFUSE if refused else Verdict.UNDECIDED,
        "completed, but " + "; ".join(objection.reason for objection in objections),
    )


def _weigh_maxima(metrics: JobMetrics, gate: Gate) -> Iterator[Decision]:
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


def _weigh_minimum(metrics: JobMetrics, gate: Gate) -> Iterator[Decision]:
    least = gate.min_rows_processed
    if least is None:
        return
    # Absent is not zero, but it is not less than zero either: what is reported may be enough by itself.
    counted = (metrics.rows_processed or 0) + (metrics.rows_processed_with_warning or 0)
    if counted < least or metrics.rows_processed is metrics.rows_processed_with_warning is None:
        yield Decision(
            Verdict.UNDECIDED,
            f"numRowsProcessed is {_told(metrics.rows_processed)}, numRowsProcessedWithWarning is "
            f"{_told(metrics.rows_processed_with_warning)}, and min_rows_processed is {least:,}",
        )


def _weigh_ratio(metrics: JobMetrics, gate: Gate) -> Iterator[Decision]:
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
        # Not refused at once: rows that are still being counted make the ratio smaller, never larger alone.
        yield Decision(
            Verdict.UNDECIDED,
            f"{skipped:,} of {skipped + counted:,} rows were skipped by errors, a ratio of {ratio:.4g}, "
            f"and max_error_ratio is {most:g}",
        )


def _told(counter: int | None) -> str:
    return "not reported" if counter is None else f"{counter:,}"
