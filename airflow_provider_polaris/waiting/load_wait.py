"""A task's wait for a load of a table on a worker: list the loads, and judge them one after another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.client import PAGE_LIMIT, NewestPage
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisJobNotFound,
    PolarisResponseTooLarge,
    PolarisTransientError,
)
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.load_choice import LONGEST_LOAD_SECONDS, OVERLAP_SECONDS, LoadChoice, utc
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.polling.polled_wait import SHORTEST_SECONDS
from airflow_provider_polaris.waiting.crossing import LoadsSeen, WaitEvent
from airflow_provider_polaris.waiting.job_wait import JobWait, Outcome
from airflow_provider_polaris.waiting.load_log import LoadLog
from airflow_provider_polaris.waiting.progress_log import Log, PollLog

#: The counters of a load that completed this long ago do not change any more.
SETTLED_SECONDS = 600.0
#: The most jobs on the first page of a list. As a rule, the loads since the last poll are fewer.
FIRST_PAGE = 100


class LoadWait:
    """The wait of one task for the first good load of a table, within one process.

    :param choice: the loads that count.
    :param start_job_wait: returns the wait for one of them, from the id of its job.
    :param tolerance: which failed lists the wait tolerates, and for how long.
    :param grows: whether the interval grows with the time waited.
    :param defers: whether a trigger continues the wait. It must know how far this process has read the list.
    """

    def __init__(
        self,
        hook: PolarisHook,
        choice: LoadChoice,
        start_job_wait: Callable[[str], JobWait],
        tolerance: OutageTolerance,
        log: Log,
        *,
        grows: bool,
        defers: bool,
    ) -> None:
        self.hook = hook
        self._choice = choice
        self.completed_after = choice.completed_after
        self._start_job_wait = start_job_wait
        self._list_tolerance = tolerance
        self._grows = grows
        self._defers = defers
        self.log = LoadLog(choice, utc(choice.completed_after), log)
        #: The load that is judged now, while its counters or its table are not known.
        self.candidate: JobWait | None = None
        self.loads = LoadsSeen()
        #: For a trigger, which reads the list of all tables: jobs that were created before this moment are known. In
        #: seconds since the epoch; ``None`` if unknown.
        self.read_from: float | None = None
        #: The ids of the table's jobs that were not over.
        self.running: list[str] = []
        #: When the newest known job of the table, and the oldest that was not over, were created.
        self._newest_known: float | None = None
        self._oldest_running = math.inf
        #: When each refused load completed, in seconds since the epoch.
        self._passed_over: dict[str, float] = {}

    @property
    def known_details(self) -> list[str]:
        """What else is known of the table's loads, and of the last poll, as sentences."""
        details = [f"The last load was refused: {self.loads.last_refusal}"] if self.loads.last_refusal else []
        return [*details, f"The last poll failed: {self.log.trouble}"] if self.log.trouble else details

    @property
    def job_types(self) -> list[str]:
        """The types of jobs that count as loads."""
        return sorted(self._choice.job_types)

    @property
    def poll_log(self) -> PollLog:
        """The log that has counted all polls so far."""
        return self.candidate.progress if self.candidate else self.log

    @property
    def tolerance(self) -> OutageTolerance:
        """Which failed polls the wait tolerates now."""
        return self.candidate.tolerance if self.candidate else self._list_tolerance

    def poll(self) -> Outcome | None:
        """Poll once. Return the outcome of the first good load, ``None`` to continue. Raise if the wait cannot."""
        if self.candidate:
            outcome = self._judge(self.candidate.poll)
            if outcome or self.candidate:
                return outcome
        for job in self._request_loads():
            outcome = self._judge(self._begin(job).poll)
            if outcome or self.candidate:
                return outcome
        return None

    def resume(self, event: WaitEvent) -> Outcome | None:
        """Continue after a deferral. Return the outcome of the event's load if it is good, ``None`` to continue."""
        self.loads = event.loads or LoadsSeen()
        self._passed_over = dict(self.loads.passed_over)
        self._narrow()
        if event.job is None:
            self._list_tolerance.resume(event.failing, clock.now())
            self.log.resume_event(event)
            return None
        self.log.resume_event(event)
        job, candidate = event.job, self._begin(event.job)
        # The wait for the load has counted the polls of the event already.
        candidate.progress.resume_event(replace(event, polls=0, failed_polls=0, outages=0))
        candidate.tolerance.resume(event.failing, clock.now())
        if event.outcome == "table" and event.table:
            state = event.table.state
            return self._judge(lambda: candidate.judge(job, state))
        return self._judge(candidate.poll) if event.outcome == "job" else None

    def _begin(self, job: Job) -> JobWait:
        candidate = self.candidate = self._start_job_wait(job.id)
        is_settled = clock.now() - (job.completed_time or 0.0) > SETTLED_SECONDS
        candidate.begin_from_list(self.log, is_settled=is_settled)
        return candidate

    def _judge(self, judge: Callable[[], Outcome | None]) -> Outcome | None:
        """Return the outcome of a good load. Without one, the load stays the candidate, or the gate has refused it."""
        assert self.candidate  # noqa: S101 - for the type checker
        try:
            outcome = judge()
        except PolarisJobNotFound:
            self._pass_over(self.candidate.progress.last, self.candidate.job_id, "Polaris no longer has the job")
            return None
        if outcome and not outcome.passed:
            self.log.log.warning("%s", outcome.line("Refused, and the wait continues: "))
            self._pass_over(outcome.job, outcome.job.id, outcome.decision.reason)
            return None
        return outcome

    def _pass_over(self, job: Job | None, job_id: str, reason: str) -> None:
        """Continue after a load that is not good. Loads that completed long before it are not listed again."""
        self.candidate = None
        completed = (job and job.completed_time) or self.completed_after.timestamp()
        self._passed_over[job_id] = completed
        self.log.load_refused()
        after = max(self.completed_after.timestamp(), completed - OVERLAP_SECONDS)
        self.loads = LoadsSeen(
            after=datetime.fromtimestamp(after, timezone.utc),
            refused=self.log.refused,
            last_refusal=f"{reason}. Job {job_id}",
        )
        self._narrow()

    def _narrow(self) -> None:
        """Exclude the loads that are passed over."""
        after = self.loads.after or self.completed_after
        self._passed_over = {job: at for job, at in self._passed_over.items() if at >= after.timestamp()}
        self.loads = replace(self.loads, passed_over=self._passed_over)
        self._choice = replace(self._choice, completed_after=after, passed_over=frozenset(self._passed_over))

    def _request_loads(self) -> list[Job]:
        """Return the loads that count, the one that completed first at the beginning. None if the request failed."""
        try:
            jobs = self._read_list()
        except PolarisApiError as error:
            usual = SHORTEST_SECONDS if self._grows else None
            try:
                pause = self._list_tolerance.failed(error, clock.now(), usual)
            except PolarisApiError as final:
                raise self.log.explain(final) from None
            self.log.failed(error)
            if pause and isinstance(error, PolarisTransientError):  # Retry-After asks for more than the next poke waits
                clock.sleep(pause)
            return []
        self._list_tolerance.succeeded()
        loads = self._choice.of(jobs)
        if loads:
            self.log.add_silent_polls(1)
        else:
            self.log.list_polled()
        return loads

    def _read_list(self) -> list[Job]:
        """Return the table's jobs that may have completed since the last poll, and older ones."""
        table = self._choice.table
        if self._defers:
            # Before the jobs of the table: the trigger must see each job that is created after this list.
            self.read_from = self._newest_created()
        back_to = self._back_to()
        jobs: list[Job] = []
        offset, limit, more = 0, FIRST_PAGE, True
        while more:
            try:
                page = self._request_page({table}, table, offset, limit)
            except PolarisResponseTooLarge:
                if limit == 1:
                    raise
                limit //= 2
                continue
            jobs += page.jobs
            more = page.more and (page.oldest is None or page.oldest >= back_to)
            offset += page.size
            limit = limit if limit < FIRST_PAGE else PAGE_LIMIT
        active = [job for job in jobs if self._choice.awaits(job)]
        self.running = [job.id for job in active]
        self._oldest_running = min((job.created_time or 0.0 for job in active), default=math.inf)
        self._newest_known = max((job.created_time or 0.0 for job in jobs), default=self._newest_known)
        return jobs

    def _back_to(self) -> float:
        """Return how far the list must be read, in seconds since the epoch."""
        if self._newest_known is None:
            return self._choice.completed_after.timestamp() - LONGEST_LOAD_SECONDS - OVERLAP_SECONDS
        return min(self._newest_known - OVERLAP_SECONDS, self._oldest_running)

    def _newest_created(self) -> float | None:
        """Return when the newest job of the project was created, by the service's clock."""
        try:
            return self._request_page((), None, 0, 1).newest
        except PolarisResponseTooLarge:
            return None

    def _request_page(self, wanted: set[str] | tuple[()], table: str | None, offset: int, limit: int) -> NewestPage:
        return self.hook.list_newest(wanted, table=table, offset=offset, limit=limit, retry=False)
