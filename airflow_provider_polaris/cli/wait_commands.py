"""The commands ``wait`` and ``cancel``: wait for a job with the code, and the verdict, of the tasks."""

from __future__ import annotations

from typing import Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.connection import check_id
from airflow_provider_polaris.api.errors import (
    PolarisBadRequest,
    PolarisError,
    PolarisNotFound,
    PolarisUsageError,
)
from airflow_provider_polaris.api.models import WARNING_CODES, Job
from airflow_provider_polaris.cli.live_progress import Bar, SessionLog, bar
from airflow_provider_polaris.cli.session import FAILED, INTERRUPTED, OK, TIMEOUT, Session, command
from airflow_provider_polaris.gate.decision import Condition, UntilOver
from airflow_provider_polaris.gate.options import Gate
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance, no_such_job
from airflow_provider_polaris.waiting.deferral import BACKSTOP_SECONDS, check_seconds
from airflow_provider_polaris.waiting.job_wait import JobWait, Outcome
from airflow_provider_polaris.waiting.progress_report import ProgressReader
from airflow_provider_polaris.waiting.task_base import THRESHOLDS, check_table_can_be_read


@command
def wait(session: Session) -> int:
    """Wait for a job, and judge it as the sensor does."""
    args = session.args
    _check_times(args)
    gate = Gate.from_options(
        wait_for=args.wait_for,
        fail_on_warnings=_warnings(args.fail_on_warnings),
        fail_on_unhealthy=args.fail_on_unhealthy,
        **{name: getattr(args, name) for name in THRESHOLDS},
    )
    if gate.unknown_warnings:
        session.note(
            f"Warning: --fail-on-warnings names {', '.join(gate.unknown_warnings)}, which is not documented. "
            f"The documented codes are {', '.join(sorted(WARNING_CODES))}"
        )
    if not args.max_unreachable >= 0:
        raise PolarisUsageError(f"max_unreachable must be a number of seconds, 0 or more, not {args.max_unreachable!r}")
    if args.wait_until_available and gate.wait_for != "completed":
        raise PolarisUsageError("wait_until_available needs a job that completes. A streaming job never completes")
    job_wait = _job_wait(session, gate, OutageTolerance(args.max_unreachable, args.poll_interval))
    outcome = _wait(session, job_wait, "The job was not canceled")
    if isinstance(outcome, int):
        return outcome
    verdict = "pass" if outcome.passed else "refused"
    if session.is_json:
        session.show_json({"verdict": verdict, "reason": outcome.decision.reason, **outcome.result})
    elif outcome.passed:
        warns = " with a warning" if outcome.decision.warn else ""
        session.show_lines(f"{outcome.line(f'Gate opens{warns}: ')}. {job_wait.progress}")
    else:
        session.show_lines(outcome.message("Refused: "))
    return OK if outcome.passed else FAILED


@command
def cancel(session: Session) -> int:
    """Cancel a job. A job that is over is no error."""
    _check_times(session.args)
    tolerance = OutageTolerance(session.args.timeout + BACKSTOP_SECONDS, session.args.poll_interval, worked=True)
    job_wait = _job_wait(session, UntilOver(), tolerance)
    job = _request_job(job_wait)
    if not job.is_over:
        if job.is_deletion:
            raise PolarisError(f"{job}: Polaris cannot cancel jobs of type {job.type}. The job is still running")
        job = _cancel(session, job_wait, job)
    else:
        session.note(f"{job} was already over. Nothing was canceled")
    if session.args.wait and not job.is_over:
        job_wait.progress.resume(job)
        outcome = _wait(session, job_wait, "Polaris has accepted the cancellation")
        if isinstance(outcome, int):
            return outcome
        job = outcome.job
    if session.is_json:
        session.show_json({key: value for key, value in job.to_dict().items() if key != "metrics"})
    else:
        accepted = "" if job.is_over else "Polaris accepted the cancellation: "
        session.show_lines(f"{accepted}{job.subject} {'is' if job.is_over else 'was'} {job.state}. Job {job.id}")
    return OK


def _request_job(job_wait: JobWait) -> Job:
    try:
        return job_wait.request_job(retry=True)
    except PolarisNotFound as error:
        raise no_such_job(error) from None


def _cancel(session: Session, job_wait: JobWait, job: Job) -> Job:
    try:
        return session.hook.cancel_job(job_wait.job_id)
    except PolarisBadRequest as error:
        # The job may have ended since the last request. If the job still runs, the error explains the rejection.
        job = job_wait.request_job(retry=True)
        if not job.is_over:
            raise PolarisError(f"{job} is {job.state} and was not canceled: {error}") from None
        session.note(f"{job} was already over. Nothing was canceled")
        return job


def _check_times(args: Any) -> None:
    check_seconds(args, "poll_interval", "timeout")


def _warnings(text: str) -> bool | tuple[str, ...]:
    if text in {"any", "none"}:
        return text == "any"
    return tuple(filter(None, (code.strip() for code in text.split(","))))


def _job_wait(session: Session, condition: Condition, tolerance: OutageTolerance) -> JobWait:
    args = session.args
    table_wait = "here" if getattr(args, "wait_until_available", False) else None
    job_id = check_id(args.job_id, "job_id")
    log = SessionLog(session)
    return JobWait(session.hook, job_id, condition, tolerance, args.poll_interval, log, table_wait)  # type: ignore[arg-type]


def _wait(session: Session, job_wait: JobWait, left: str) -> Outcome | int:
    """Poll until the wait ends. Return an exit code if it ends without an outcome: at a timeout, or at Ctrl-C.

    :param left: a sentence about a job that is not over, for the message of a wait without an outcome.
    """
    try:
        with bar(session, f"Job {job_wait.job_id}") as shown:
            outcome = _poll(job_wait, clock.now() + session.args.timeout, shown)
    except KeyboardInterrupt:
        session.note(f"Interrupted: {job_wait.unfinished}. {left}. Job {job_wait.job_id}")
        return INTERRUPTED
    return outcome or _timed_out(session, job_wait, left)


def _poll(job_wait: JobWait, deadline: float, shown: Bar) -> Outcome | None:
    reader = ProgressReader(job_wait.hook, job_wait.job_id)
    is_table_checked = job_wait.table_wait is None
    while True:
        outcome = job_wait.poll()
        left = deadline - clock.now()
        if outcome or left <= 0:
            return outcome
        job = job_wait.progress.last
        if job and job.table and not is_table_checked and not job.is_over:
            is_table_checked = True
            check_table_can_be_read(job_wait.hook, job.table)
        if shown.is_shown:
            _show(shown, job_wait, reader.read())
        clock.sleep(min(job_wait.interval, left))


def _show(shown: Bar, job_wait: JobWait, numbers: str) -> None:
    """Show the job's state.

    :param numbers: as :func:`~airflow_provider_polaris.waiting.progress_report.read_progress` returns them.
    """
    job, share = job_wait.progress.last, None
    first, _, rest = numbers.partition(", ")
    if first.endswith(" %"):
        share, numbers = float(first.removesuffix(" %")) / 100, rest
    title = f"{job.subject}: {job.execution_status}" if job else f"Job {job_wait.job_id}"
    shown.update(f"{title}{', ' if numbers else ''}{numbers}", share)


def _timed_out(session: Session, job_wait: JobWait, left: str) -> int:
    progress, limit = job_wait.progress, session.args.timeout
    reason = f"{job_wait.unfinished} after {limit:,.0f} s (timeout)"
    lines = [f"Timeout: {reason}", *progress.known_details, f"{left}. To wait longer, raise --timeout"]
    if session.is_json:
        known = progress.last.to_dict() if progress.last else {"job_id": job_wait.job_id}
        session.show_json({"verdict": "timeout", "reason": reason, **known})
    else:
        session.show_lines("\n".join([*lines, f"Job {job_wait.job_id}"]))
    return TIMEOUT
