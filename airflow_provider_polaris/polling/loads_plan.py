"""The shared poll for loads without I/O: which lists to read when, how far, and whom to notify. Pure.

One reading serves all waits, whatever their tables. No list of Polaris is in the order of completion. So a reading has
up to three steps:

1. the list of all jobs, the newest first, back to the jobs that the last reading has seen: one page as a rule;
2. the list of active jobs, if an earlier reading has seen a load that is not on those pages, and was not over;
3. such a load by its id, once the list of active jobs no longer shows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_polaris.api.client import MIN_PAGE_LIMIT, PAGE_LIMIT, NewestPage, RawPage
from airflow_provider_polaris.api.connection import is_id
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisNotFound,
    PolarisResponseTooLarge,
    PolarisTransientError,
)
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.load_choice import LONGEST_LOAD_SECONDS, OVERLAP_SECONDS, LoadChoice
from airflow_provider_polaris.gate.outage_tolerance import MAX_RETRY_AFTER_SECONDS
from airflow_provider_polaris.polling.messages import AskJob, AskList, AskLoads, Notice, Step
from airflow_provider_polaris.polling.polled_wait import SLOW_SERVICE_PAUSE_RATIO, Pace

#: The shortest time between two readings.
READING_INTERVAL_SECONDS = 5.0
#: The most jobs on the first page of a reading. As a rule, fewer jobs are created between two readings.
FIRST_PAGE = 100

Question = AskJob | AskList | AskLoads
Notices = Iterator[tuple["LoadsWait", Notice[list[Job]]]]


class LoadsWait:
    """One wait for loads of a table. All times are monotonic seconds, except ``deadline`` and ``read_from``.

    :param deadline: when the lists are read for the last time, in seconds since the epoch.
    :param read_from: jobs that were created before this moment of the service's clock are known, in seconds since the
        epoch; ``None`` if no job is known.
    :param running: ids of the known jobs that were not over.
    :param delivered: the loads that the wait knows and a reading may repeat, and when each was created, in seconds
        since the epoch.
    :param notify_always: notify also of a reading without news.
    :param now: the current time.
    :param first: seconds until the first reading.
    """

    __slots__ = (
        "_choice", "_missed", "_next_at", "_not_found", "_notify_always", "_silent_polls", "_was_last_read",
        "deadline", "delivered", "pace", "read_from", "running",
    )  # fmt: skip

    def __init__(
        self,
        choice: LoadChoice,
        pace: Pace,
        deadline: float,
        *,
        read_from: float | None,
        running: Iterable[str] = (),
        delivered: Mapping[str, float] | None = None,
        notify_always: bool = False,
        now: float,
        first: float = 0.0,
    ) -> None:
        self.pace = pace
        self.deadline = deadline
        #: The ids of loads that were not over when last seen.
        self.running = set(running)
        self._choice = choice
        #: Jobs that were created before this moment are known, in seconds since the epoch.
        self.read_from = choice.completed_after.timestamp() - LONGEST_LOAD_SECONDS if read_from is None else read_from
        self._next_at = now + first
        #: The loads that the wait was notified of, and when each was created. A reading may repeat the newest ones.
        self.delivered: dict[str, float] = dict(delivered or {})
        self._notify_always = notify_always
        self._not_found: set[str] = set()
        self._missed = False
        self._was_last_read = False
        self._silent_polls = 0

    @property
    def table(self) -> str:
        """The name of the table."""
        return self._choice.table

    @property
    def reads_back_to(self) -> float:
        """How far the list of all jobs must be read, in seconds since the epoch."""
        return self.read_from - OVERLAP_SECONDS

    def due_at(self, wall_offset: float) -> float:
        """Return when to read the lists.

        :param wall_offset: wall-clock time minus monotonic time.
        """
        last_at = math.inf if self._was_last_read else self.deadline - wall_offset
        return min(self._next_at, last_at)

    def check_at(self, at: float) -> None:
        """Read the lists at that time, whatever the pace."""
        self._next_at = min(self._next_at, at)

    def heard(
        self, jobs: Iterable[Job], newest: float | None, began: float, wall_offset: float
    ) -> Notice[list[Job]] | None:
        """Take the jobs of a reading. Return the notice, ``None`` if the wait knows all loads among them.

        :param jobs: the jobs of the wait's table that the reading has seen.
        :param newest: when the newest of all jobs was created, in seconds since the epoch; ``None`` if unknown.
        :param began: when the reading began.
        """
        self._was_polled(began, wall_offset)
        # A reading for another wait may go further back, to jobs that this wait knows. An invalid id cannot be
        # requested.
        new = [job for job in jobs if is_id(job.id) and (job.id in self.running or self._may_be_new(job))]
        if newest is not None:
            # A timestamp in the future would hide all later jobs.
            self.read_from = max(self.read_from, min(newest, began + wall_offset))
        for job in new:
            self._not_found.discard(job.id)
            if self._choice.awaits(job):
                self.running.add(job.id)
            else:
                self.running.discard(job.id)
        loads = [job for job in self._choice.of(new) if job.id not in self.delivered]
        delivered = {**self.delivered, **{job.id: job.created_time or self.read_from for job in loads}}
        self.delivered = {job_id: at for job_id, at in delivered.items() if at >= self.reads_back_to}
        if not (loads or self._missed or self._was_last_read or self._notify_always):
            self._silent_polls += 1
            return None
        return self._notice(loads)

    def _may_be_new(self, job: Job) -> bool:
        return (job.created_time or math.inf) >= self.reads_back_to

    def not_found(self, job_id: str) -> None:
        """Take a 404 for a load that was not over. As in every wait, one 404 does not count."""
        if job_id in self._not_found:
            self.running.discard(job_id)
        self._not_found.add(job_id)

    def missed(self, error: Exception, began: float, wall_offset: float) -> Notice[list[Job]]:
        """Take the error of a reading that failed."""
        self._was_polled(began, wall_offset)
        notice = self._notice(error)
        self._missed = True
        return notice

    def _notice(self, answer: list[Job] | Exception) -> Notice[list[Job]]:
        self._missed = False
        silent_polls, self._silent_polls = self._silent_polls, 0
        return Notice(answer, silent_polls)

    def _was_polled(self, at: float, wall_offset: float) -> None:
        # A reading for another wait serves this one too. Only a poll at its own time drives the backoff.
        is_own = at >= self._next_at
        self._next_at = at + self.pace.pause() if is_own else max(self._next_at, at + self.pace.interval)
        self._was_last_read = self._was_last_read or at + wall_offset >= self.deadline


class _Reading:
    """One reading, for the waits that were there when it began."""

    def __init__(self, waits: Iterable[LoadsWait], began: float) -> None:
        self.waits = list(waits)
        self.began = began
        #: The jobs of the waits' tables, by id: as the lists show them, or as Polaris returned them by id.
        self.jobs: dict[str, Job] = {}
        self.newest: float | None = None
        self.failure: Exception | None = None
        self._reads_back_to = min(wait.reads_back_to for wait in self.waits)
        self._questions: list[Question] = [AskLoads(frozenset(wait.table for wait in self.waits), 0, FIRST_PAGE)]
        self._open = 1

    @property
    def is_done(self) -> bool:
        return not self._open

    def take_questions(self) -> list[Question]:
        """Return the requests that are due, each once."""
        questions, self._questions = self._questions, []
        return questions

    def heard(self, question: Question, answer: Any, now: float) -> None:
        """Take the response to a request, or the error with which it ended."""
        self._open -= 1
        if isinstance(answer, PolarisResponseTooLarge) and isinstance(question, (AskList, AskLoads)):
            least = 1 if isinstance(question, AskLoads) else MIN_PAGE_LIMIT
            if question.limit > least:
                self._ask(replace(question, limit=max(question.limit // 2, least)))
                return
        if isinstance(question, AskJob):
            self._heard_job(question, answer)
        elif isinstance(answer, Exception):
            self._fail(answer)
        elif isinstance(question, AskLoads):
            self._heard_newest(question, answer)
        else:
            self._heard_active(question, answer, now)

    def _heard_newest(self, question: AskLoads, page: NewestPage) -> None:
        self.jobs |= {job.id: job for job in page.jobs}
        if question.offset == 0:
            self.newest = page.newest
        is_known = page.oldest is not None and page.oldest < self._reads_back_to
        if page.more and not is_known:
            limit = question.limit if question.limit < FIRST_PAGE else PAGE_LIMIT
            self._ask(replace(question, offset=question.offset + page.size, limit=limit))
        elif unseen := self._unseen():
            self._ask(AskList(frozenset(job_id.lower() for job_id in unseen), 0))

    def _heard_active(self, question: AskList, page: RawPage, now: float) -> None:
        try:
            self.jobs |= {job.id: job for job in map(Job.from_api, page.rows.values())}
        except PolarisApiError as error:  # a row that cannot be read
            self._fail(error)
            return
        if page.more:
            self._ask(replace(question, offset=question.offset + page.size))
        else:
            self._ask(*(AskJob(job_id.lower(), job_id, now) for job_id in sorted(self._unseen())))

    def _heard_job(self, question: AskJob, answer: Job | Exception) -> None:
        if isinstance(answer, PolarisNotFound):
            for wait in self.waits:
                wait.not_found(question.job_id)
        elif isinstance(answer, Exception):
            self._fail(answer)
        else:
            self.jobs[answer.id] = replace(answer, raw={})

    def _unseen(self) -> set[str]:
        """Return the ids of the loads that were not over, and that this reading has not seen."""
        return {job_id for wait in self.waits for job_id in wait.running if job_id not in self.jobs}

    def _ask(self, *questions: Question) -> None:
        self._questions += questions
        self._open += len(questions)

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self._open -= len(self._questions)
        self._questions = []


class LoadsPlan:
    """All state and all decisions of the poll for loads. Its caller passes the time and the responses."""

    def __init__(self) -> None:
        self._waits: dict[LoadsWait, None] = {}
        self._reading: _Reading | None = None
        #: The earliest time of the next reading.
        self._not_before = -math.inf
        self._wall_offset = 0.0

    def add(self, wait: LoadsWait, now: float) -> None:  # noqa: ARG002 - every plan has this method
        """Add a wait."""
        self._waits[wait] = None

    def remove(self, wait: LoadsWait) -> None:
        """Remove a wait."""
        self._waits.pop(wait, None)

    def due(self, now: float, wall: float) -> Step[LoadsWait, Question, list[Job]]:
        """Return what to send now, and when to call again.

        :param now: monotonic seconds.
        :param wall: seconds since the epoch.
        """
        self._wall_offset = wall - now
        wake_at = math.inf
        if self._reading is None and self._waits:
            due_at = max(self._not_before, min(wait.due_at(self._wall_offset) for wait in self._waits))
            if due_at <= now:
                self._reading = _Reading(self._waits, now)
                self._not_before = now + READING_INTERVAL_SECONDS
            else:
                wake_at = due_at
        return Step(self._reading.take_questions() if self._reading else [], [], wake_at)

    def heard(self, question: Question, answer: Any, now: float) -> list[tuple[LoadsWait, Notice[list[Job]]]]:
        """Take the response to a request. Return whom to notify. Call :meth:`due` after that.

        :param answer: a NewestPage to an AskLoads, a RawPage to an AskList, a Job to an AskJob, or the error with
            which the request ended.
        """
        reading = self._reading
        if reading is None:
            return []
        reading.heard(question, answer, now)
        if not reading.is_done:
            return []
        self._reading = None
        interval = min((wait.pace.interval for wait in self._waits), default=READING_INTERVAL_SECONDS)
        if now - reading.began > interval:
            self._not_before = max(self._not_before, now + SLOW_SERVICE_PAUSE_RATIO * interval)
        if isinstance(reading.failure, PolarisTransientError):
            requested_pause = min(reading.failure.retry_after or 0.0, MAX_RETRY_AFTER_SECONDS)
            self._not_before = max(self._not_before, now + requested_pause)
        return list(self._notify(reading))

    def _notify(self, reading: _Reading) -> Notices:
        jobs: dict[str, list[Job]] = {}
        for job in reading.jobs.values():
            jobs.setdefault(str(job.table), []).append(job)
        for wait in reading.waits:
            if wait not in self._waits:
                continue
            if reading.failure:
                yield wait, wait.missed(reading.failure, reading.began, self._wall_offset)
            else:
                seen = jobs.get(wait.table, [])
                if notice := wait.heard(seen, reading.newest, reading.began, self._wall_offset):
                    yield wait, notice
