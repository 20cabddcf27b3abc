"""The commands ``jobs`` and ``show``: read jobs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

from airflow_provider_polaris.api.client import PAGE_LIMIT
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisNotFound, PolarisUsageError
from airflow_provider_polaris.api.models import Job, JobMetrics, check_table_name
from airflow_provider_polaris.api.parsing import seconds_of
from airflow_provider_polaris.cli.session import OK, Session, command, visible
from airflow_provider_polaris.gate.outage_tolerance import no_such_job

T = TypeVar("T")


@command
def jobs(session: Session) -> int:
    """List jobs, the newest first."""
    args = session.args
    if args.limit < 1:
        raise PolarisUsageError(f"--limit must be 1 or more, not {args.limit}")
    if args.table is not None:
        check_table_name(args.table)
    listed = session.hook.list_jobs(
        target_table_name=args.table,
        execution_status=args.status,
        type=args.type,
        sort_order="DESC",
        page_size=min(args.limit, PAGE_LIMIT),
    )
    found = list(islice((job for job in listed if args.table in (None, job.table)), args.limit))
    if session.is_json:
        session.show_json([_summary(job) for job in found])
        return OK
    if not found:
        session.note("No job matches")
        return OK
    columns = ("CREATED", "STATUS", "HEALTH", "TABLE", "JOB")
    session.show_table(columns, [_row(job) for job in found], fixed=("CREATED", "STATUS", "HEALTH", "JOB"))
    return OK


def _row(job: Job) -> tuple[str, ...]:
    created = (seconds_of(job.created_at) or "")[5:16]  # month, day, hour and minute: a line has 80 columns
    return created, job.execution_status, job.health.status if job.health else "", job.table or "", job.id


def _summary(job: Job) -> dict[str, Any]:
    """Return a job of a list, without the counters, which the list does not have."""
    return {key: value for key, value in job.to_dict().items() if key != "metrics"}


@command
def show(session: Session) -> int:
    """Show one job."""
    if session.args.log_lines < 0:
        raise PolarisUsageError(f"--log-lines must be 0 or more, not {session.args.log_lines}")
    hook, job_id = session.hook, session.args.job_id
    try:
        job = hook.get_job(job_id)
    except PolarisNotFound as error:
        raise no_such_job(error) from None
    metrics = _best_effort(session, lambda: hook.get_job_metrics(job_id)) or JobMetrics()
    progress = None if job.is_over else _best_effort(session, lambda: hook.get_job_progress(job_id))
    lines = session.args.log_lines
    log = (_best_effort(session, lambda: hook.get_job_logs(job_id)) or [])[-lines:] if lines else []
    url = hook.job_url(job_id)
    if session.is_json:
        entries = [
            {"timestamp": one.timestamp, "health": one.health_status, "code": one.code, "message": one.message}
            for one in log
        ]
        session.show_json({**job.to_dict(metrics), "progress": progress, "log": entries, "url": url})
        return OK
    times = {"created": job.created_at, "started": job.started_at, "completed": job.completed_at}
    facts = {
        "job": job.id,
        "table": job.table,
        "type": job.type,
        "status": job.execution_status,
        "progress": None if progress is None else f"{100 * progress:.0f} %",
        "health": job.health and str(job.health).removeprefix("health "),
        **{name: seconds_of(stamp) for name, stamp in times.items()},
        "created by": job.created_by,
        **{name: f"{count:,}" for name, count in metrics.to_dict().items() if count is not None},
    }
    session.show_table(("", ""), [(name, value) for name, value in facts.items() if value])
    if url:
        session.write(f"{visible(url)}\n")
    if log:
        session.show_lines("\n".join(["", "The job's log ends with:", *map(str, log)]))
    return OK


def _best_effort(session: Session, read: Callable[[], T]) -> T | None:
    """Return ``None``, with a note, if a part of a job cannot be read."""
    try:
        return read()
    except PolarisApiError as error:
        session.note(f"Not shown: {error}")
        return None
