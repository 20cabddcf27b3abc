"""Find the job of a spec whose response was lost: by its marker, or by comparing the table's new jobs with the spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import PolarisResponseTooLarge
from airflow_provider_polaris.api.job_spec import comparable, marker_of, table_of
from airflow_provider_polaris.api.models import Job, JobType
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.submission.submission_record import digest

#: The number of a table's newest jobs that are searched. The list of jobs shows neither queries nor contexts, so each
#: job is requested by id.
SEARCHED_JOBS = 200
#: The number of a table's newest jobs that are noted before a spec is sent. Below all of them, the list has no newer
#: job, also if the service's machines do not agree on the second.
KNOWN_JOBS = 20
#: The largest difference between the service's clock and Airflow's. A day is more than any time zone.
CLOCK_DIFFERENCE_SECONDS = 86_400.0


@dataclass
class ServiceFacts:
    """What this process has seen of the service with one connection.

    :param refuses_marker: a spec was accepted only without its marker in ``context``.
    :param echoes_marker: a ``batch`` job has shown the marker in its ``context``.
    :param user: ``createdBy`` of the jobs that this connection creates.
    """

    refuses_marker: bool = False
    echoes_marker: bool = False
    user: str | None = None

    def note_refusal(self) -> None:
        """Note that the service accepts a spec only without its marker."""
        self.refuses_marker = True

    def note_created(self, job: Job, *, shows_marker: bool) -> None:
        """Note what a job shows that this process has created."""
        self.user = job.created_by or self.user
        self.echoes_marker = self.echoes_marker or shows_marker


_FACTS: dict[PolarisConnection, ServiceFacts] = {}


def facts_about(connection: PolarisConnection) -> ServiceFacts:
    """Return the facts about a connection, for this process to read and to complete."""
    return _FACTS.setdefault(connection, ServiceFacts())


@dataclass(frozen=True)
class SentSpec:
    """A spec that Polaris may have received.

    :param marker: the marker of its job, or the beginning of the marker; ``None`` if the spec had none.
    :param is_marked: whether the spec certainly had the marker.
    :param spec: digest of the spec; ``None`` if unknown.
    :param at: when the spec was sent, in seconds since the epoch; ``None`` if unknown.
    :param since: no job of the spec is older, except for the difference between clocks; ``None`` if unknown.
    :param last_at: the latest time at which the spec can have been sent.
    :param known_jobs: ids of the newest jobs of the table before the spec was sent; ``None`` if unknown.
    """

    marker: str | None
    is_marked: bool
    spec: str | None
    at: float | None
    since: float | None
    last_at: float
    known_jobs: list[str] | None = None


class FoundJobs(NamedTuple):
    """The jobs that may be the job of a spec, the newest first.

    :param marked: jobs with the marker.
    :param alike: jobs without a marker, of the same spec.
    :param unclear: jobs without a marker, of another spec: the service may have changed the spec. Also jobs that are
        too large to be read.
    :param settled: the number of further jobs with the marker, which loaded nothing and have had their verdict.
    :param is_whole: whether the search has seen every job since the spec was sent.
    """

    marked: list[Job]
    alike: list[Job]
    unclear: list[Job]
    settled: int
    is_whole: bool


class _Evidence(NamedTuple):
    marker: str | None = None
    spec: str | None = None
    is_readable: bool = True


class JobSearch:
    """Searches the jobs of one table and type. A job is requested by id only once.

    :param spec: the spec as the user has it, without the marker of this try.
    """

    def __init__(self, hook: PolarisHook, spec: Mapping[str, Any]) -> None:
        self._hook = hook
        self._type = JobType(spec["type"])
        self._table = table_of(spec)
        #: A marker in a spec that was copied from a job. It says nothing about who sends the spec now.
        self._copied_marker = marker_of(spec)
        self._evidence: dict[str, _Evidence] = {}
        self._settled: set[str] = set()

    @property
    def finds_each_marker(self) -> bool:
        """Whether jobs of this type certainly show their marker: in a query, or as this process has seen."""
        return self._type.is_sql or facts_about(self._hook.connection).echoes_marker

    def learn_from(self, job: Job, marker: str) -> None:
        """Learn what a job shows that was just created with the marker."""
        shows_marker = not self._type.is_sql and marker_of(job.raw) == marker
        facts_about(self._hook.connection).note_created(job, shows_marker=shows_marker)

    def newest_jobs(self) -> list[str]:
        """Return the ids of the table's newest jobs, to be noted before a spec is sent."""
        return [job.id for job in islice(self._newest_first(KNOWN_JOBS), KNOWN_JOBS)]

    def settle(self, job: Job) -> None:
        """Do not return this job again: it loaded nothing, and its task does not wait for it."""
        self._settled.add(job.id)

    def search(self, sent: SentSpec) -> FoundJobs:
        """Search the table's jobs since the spec was sent."""
        facts = facts_about(self._hook.connection)
        marked: list[Job] = []
        alike: list[Job] = []
        unclear: list[Job] = []
        unreadable: list[Job] = []
        settled, echoes_marker, is_whole = 0, self.finds_each_marker, False
        for count, job in enumerate(self._jobs_since(sent)):
            if count == SEARCHED_JOBS:
                break
            evidence = self._evidence_of(job)
            marker = evidence.marker
            # Without a note, this is a retry: an earlier try has reported the failure.
            is_settled = job.id in self._settled or (sent.at is None and job.has_failed)
            if not evidence.is_readable:
                unreadable += [] if is_settled else [job]
            elif sent.marker and marker and f"{marker} ".startswith(f"{sent.marker} "):
                if is_settled:
                    settled += 1
                else:
                    marked.append(job)
            elif marker and (sent.is_marked or marker != self._copied_marker):
                echoes_marker = True  # the job of another task, or of another clear generation
            elif facts.user and job.created_by and job.created_by != facts.user:
                pass  # the job of another user
            elif is_settled:
                pass
            else:
                (alike if evidence.spec == sent.spec else unclear).append(job)
        else:
            is_whole = True
        if sent.is_marked and echoes_marker:
            # The job of the spec would show the marker. Without a note, an earlier try may have sent no marker.
            alike, unclear = ([] if sent.at else alike), []
        return FoundJobs(marked, alike, [*unclear, *unreadable], settled, is_whole)

    def _newest_first(self, page_size: int) -> Iterator[Job]:
        return self._hook.list_jobs(
            target_table_name=self._table,
            type=self._type,
            sort_column="created_date_time",
            sort_order="DESC",
            page_size=page_size,
        )

    def _jobs_since(self, sent: SentSpec) -> Iterator[Job]:
        """Yield the jobs, as the list has them, that may have been created since the spec was sent."""
        known = set(sent.known_jobs or ())
        for job in self._newest_first(SEARCHED_JOBS):
            created = job.created_time
            if sent.since is not None and created is not None and created < sent.since - CLOCK_DIFFERENCE_SECONDS:
                return  # all jobs that follow are older
            if job.id not in known:
                yield job
                continue
            known.remove(job.id)
            if not known and len(sent.known_jobs or ()) == KNOWN_JOBS:
                return

    def _evidence_of(self, summary: Job) -> _Evidence:
        if summary.id not in self._evidence:
            self._evidence[summary.id] = self._request_evidence(summary.id)
        return self._evidence[summary.id]

    def _request_evidence(self, job_id: str) -> _Evidence:
        try:
            job = self._hook.get_job(job_id).raw
        except PolarisResponseTooLarge:
            return _Evidence(is_readable=False)
        spec = job.get("spec")
        return _Evidence(marker_of(job), digest(comparable(spec)) if isinstance(spec, Mapping) else None)
