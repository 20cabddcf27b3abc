"""Which loads of a table a wait considers, in which order, and how far the list of jobs must be read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pendulum

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.models import Job, JobType
from airflow_provider_polaris.api.parsing import clip

#: A job may appear in the list this much later than its timestamps say. How soon it appears there is not documented, so
#: each reading of the list goes back this far.
OVERLAP_SECONDS = 300.0
#: A load may run for this long. The list has the newest job first, so a reading for the loads that completed after a
#: moment goes back this much further.
LONGEST_LOAD_SECONDS = 7 * 86_400.0
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class LoadChoice:
    """The loads of a table that may open a gate.

    :param table: the name of the table.
    :param completed_after: a load counts if it completed at this moment or later.
    :param job_types: the types of jobs that count as loads.
    :param passed_over: ids of loads that the gate has refused.
    """

    table: str
    completed_after: datetime
    job_types: frozenset[str]
    passed_over: frozenset[str] = frozenset()

    def includes(self, job: Job) -> bool:
        """Whether the job is such a load. Whether its data is good is for the gate to decide."""
        completed = job.completed_time
        return (
            job.table == self.table
            and job.type in self.job_types
            and completed is not None
            and completed >= self.completed_after.timestamp()
            and job.id not in self.passed_over
        )

    def awaits(self, job: Job) -> bool:
        """Whether the job may become such a load: it is not over yet."""
        return job.table == self.table and job.type in self.job_types and not job.is_over

    def of(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the loads among these jobs, each once, the one that completed first at the beginning."""
        loads = {job.id: job for job in jobs if self.includes(job)}
        return sorted(loads.values(), key=lambda job: (job.completed_time, job.created_time or 0.0, job.id))


def utc(moment: datetime) -> str:
    """Return a moment for a person, in UTC and seconds."""
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def read_moment(name: str, value: Any) -> datetime:
    """Return an option of a task that is a moment.

    :param value: a datetime, or text in ISO 8601. Without a time zone, it is UTC.
    :raises PolarisUsageError: for anything else.
    """
    wanted = "It must be a moment, such as {{ data_interval_end }}"
    if value in (None, "", "None"):
        raise PolarisUsageError(f"{name} is {value!r}. {wanted}. A run without one has {{{{ dag_run.run_after }}}}")
    try:
        # pendulum also reads a time of today, a duration, and a year.
        is_date = isinstance(value, str) and _DATE.match(value)
        moment: object = pendulum.parse(value) if is_date else value
    except (ValueError, TypeError):  # pendulum raises TypeError for some texts that resemble times
        moment = None
    if not isinstance(moment, datetime):
        raise PolarisUsageError(f"{name} is {clip(repr(value), 100)}. {wanted}")
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def read_job_types(value: Any) -> frozenset[str]:
    """Return the option ``job_types``.

    :raises PolarisUsageError: for anything but types of jobs that complete and leave a table.
    """
    types = (value,) if isinstance(value, str) else value
    allowed = sorted(kind for kind in JobType.known if not JobType(kind).is_streaming and not JobType(kind).drops_table)
    is_known = isinstance(types, Iterable) and bool(types := list(types)) and all(kind in allowed for kind in types)
    if not is_known:
        raise PolarisUsageError(f"job_types must be one or more of {', '.join(allowed)}, not {clip(repr(value), 100)}")
    return frozenset(map(str, types))
