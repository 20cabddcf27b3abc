"""The shared poll without I/O: which requests to send when, and whom to notify. Pure.

Few jobs are requested by id. For many jobs, the plan reads the list of all jobs that are not over: one request returns
a thousand jobs. The list can only show that a job has not changed. A job that the list does not show, or shows in a
state that would end a wait, is requested by id, and that response decides. If the list misses many jobs at once, the
plan reads the list of jobs that are over first. Its rows end waits whose tasks confirm the end by id.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from airflow_provider_polaris.api.client import RawPage
from airflow_provider_polaris.api.errors import PolarisTransientError
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.polling.id_queue import IdQueue, is_service_wide
from airflow_provider_polaris.polling.list_policy import PAGE_COST, JobListPolicy
from airflow_provider_polaris.polling.list_reading import EndedReading, ListReading, Row
from airflow_provider_polaris.polling.messages import AskEnded, AskJob, AskList, Notice, Step
from airflow_provider_polaris.polling.polled_wait import PolledWait

#: Rows of the list that one call of :meth:`PollPlan.due` compares, so that the event loop runs other tasks in between.
ROWS_AT_ONCE = 100

#: After so many responses in a row with ``Retry-After``, the list of ended jobs is left out once.
MOST_PUT_OFFS = 2

Question = AskJob | AskList | AskEnded
Notices = Iterator[tuple[PolledWait, Notice[Job]]]


class PollPlan:
    """All state and all decisions of one poll. Its caller passes the time and the responses.

    :param slots: the most requests by id at once.
    """

    def __init__(self, slots: int) -> None:
        self._jobs: dict[str, list[PolledWait]] = {}
        self._ids = IdQueue(slots)
        self._list = JobListPolicy()
        self._reading: ListReading | None = None
        self._ended: EndedReading | None = None
        #: Rows of both lists that are not compared yet, and the jobs that the list of active jobs has missed so far.
        self._rows: deque[tuple[str, Row | None]] = deque()
        self._ended_rows: deque[tuple[str, Row]] = deque()
        self._missed: list[str] = []
        #: How often in a row ``Retry-After`` has put off the list of ended jobs.
        self._ended_put_offs = 0
        #: Wall-clock time minus monotonic time: deadlines are wall-clock time.
        self._wall_offset = 0.0

    def add(self, wait: PolledWait, now: float) -> None:
        """Add a wait."""
        self._jobs.setdefault(wait.key, []).append(wait)
        self._list.hurry(now, wait.pace.interval)

    def remove(self, wait: PolledWait) -> None:
        """Remove a wait."""
        waits = self._jobs.get(wait.key, [])
        if wait in waits:
            waits.remove(wait)
        if not waits:
            self._jobs.pop(wait.key, None)

    def due(self, now: float, wall: float) -> Step[PolledWait, Question, Job]:
        """Return what to send and whom to notify now, and when to call again.

        :param now: monotonic seconds.
        :param wall: seconds since the epoch.
        """
        self._wall_offset = wall - now
        notices = [*self._compare_rows(now), *self._compare_ended_rows()]
        if self._rows or self._ended_rows:
            return Step([], notices, now)
        self._begin_ended(now)
        if self._list.hides_jobs(len(self._jobs)):
            self._give_up_list("it does not show jobs that are active", now)
        by_list = self._list.suits(len(self._jobs), now)
        interval, wake_at = self._queue_due_jobs(now, by_list=by_list)
        questions: list[Question] = []
        if not by_list:
            self._list.warn_if_too_long(len(self._jobs), now)
        elif self._reading is None:
            due_at = self._list.due_at(len(self._jobs))
            if due_at <= now:
                questions += self._begin_reading(now, interval)
            else:
                wake_at = min(wake_at, due_at)
        if self._reading:
            questions += self._reading.take_next_page()
        if self._ended:
            questions += self._ended.take_next_page()
        for key in self._ids.take(now, interval, self._jobs.__contains__):
            questions.append(AskJob(key, self._jobs[key][0].job_id, now))
        return Step(questions, notices, min(wake_at, self._ids.wake_at))

    def heard(
        self, question: Question, answer: Job | RawPage | Exception, now: float
    ) -> list[tuple[PolledWait, Notice[Job]]]:
        """Take the response to a request. Return whom to notify. Call :meth:`due` after that.

        :param answer: a Job to an AskJob, a RawPage to a request for a list, or the error with which the request ended.
        """
        if isinstance(question, AskJob):
            assert not isinstance(answer, RawPage)  # noqa: S101 - for the type checker
            return [*self._heard_job(question, answer, now), *self._end_reading(now)]
        assert not isinstance(answer, Job)  # noqa: S101 - for the type checker
        if isinstance(question, AskEnded):
            self._heard_ended(question, answer, now)
            return []
        self._heard_page(question, answer, now)
        return list(self._end_reading(now))

    def _queue_due_jobs(self, now: float, *, by_list: bool) -> tuple[float, float]:
        """Queue the jobs that are due by id. Return the shortest interval, and when the next job is due."""
        due, wake_at, interval = [], math.inf, math.inf
        for key, waits in self._jobs.items():
            at = math.inf
            for wait in waits:
                at = min(at, wait.due_at(self._wall_offset, by_list=by_list))
                if wait.pace.interval < interval:
                    interval = wait.pace.interval
            if at <= now:
                due.append(key)
            elif at < wake_at and not self._ids.is_pending(key):
                wake_at = at
        self._ids.add(due)
        return interval, wake_at

    def _begin_reading(self, now: float, interval: float) -> list[Question]:
        keys = list(self._jobs)
        sample = self._list.begin([key for key in keys if not self._ids.is_pending(key)] or keys, now, interval)
        self._reading = ListReading(keys, sample, interval, self._list.page_limit(now))
        job_id = self._jobs[sample][0].job_id if sample in self._jobs else sample
        return [AskJob(sample, job_id, now)] if self._ids.ask_now(sample) else []

    def _heard_job(self, question: AskJob, answer: Job | Exception, now: float) -> Notices:
        shared_by = self._ids.heard(question.key, answer, now)
        if self._reading and self._reading.sample == question.key:
            self._reading.heard_sample(answer)
        yield from self._notify(question.key, answer, question.at, now)
        for key in shared_by:
            yield from self._notify(key, answer, now, now)

    def _notify(self, key: str, answer: Job | Exception, at: float, now: float) -> Notices:
        self._list.heard_by_id(key, answer)
        for wait in self._jobs.get(key, []):
            yield wait, wait.heard_by_id(answer, at, now, self._wall_offset)

    def _heard_page(self, question: AskList, answer: RawPage | Exception, now: float) -> None:
        reading = self._reading
        if reading is None:
            return
        reading.heard_page(question, answer)
        if reading.is_whole:
            self._list.was_read(reading.pages, now)
        # Compare with the current number of waits: many may have begun since the first page was requested.
        elif not reading.failure and self._list.is_too_long(reading.pages, len(self._jobs)):
            reading.stop()
            self._list.was_too_long(reading.pages, len(self._jobs), now)

    def _begin_ended(self, now: float) -> None:
        """Look for the missed jobs in the list of jobs that are over, or request few of them by id.

        If that list takes so long that they are missed again, or was put off twice, they are requested by id, too.
        """
        missed, self._missed = self._missed, []
        if len(missed) > PAGE_COST and self._ended is None and self._ended_put_offs < MOST_PUT_OFFS:
            self._ended = EndedReading(missed, self._list.page_limit(now))
        elif missed:
            self._ended_put_offs = 0
            self._ids.add(missed)

    def _heard_ended(self, question: AskEnded, answer: RawPage | Exception, now: float) -> None:
        reading = self._ended
        if reading is None:
            return
        self._ended_rows.extend(reading.heard_page(question, answer).items())
        if not reading.is_done:
            return
        self._ended = None
        pause = getattr(answer, "retry_after", None) or 0.0
        if pause:
            # After the pause, the next reading of the list of active jobs misses these jobs again.
            self._ended_put_offs += 1
            self._list.put_off(now, pause)
        else:
            self._ended_put_offs = 0
            self._ids.add(reading.left)

    def _end_reading(self, now: float) -> Notices:
        """Use the list as soon as both the list and the sample have responses."""
        reading, answer = self._reading, self._reading and self._reading.answer
        if reading is None or not reading.is_done:
            return
        self._reading = None
        self._list.end(now, reading.interval)
        self._list.record_page_limit(reading.page_limit, now)
        if reading.failure:
            yield from self._do_without_list(reading.failure, reading.keys, now, responds=not is_service_wide(answer))
            return
        if reading.is_too_long:
            return
        if isinstance(answer, Job) and not self._list.is_trusted(answer, reading.sample_row):
            self._give_up_list("it differs from the response for a job by id", now)
            return
        if not isinstance(answer, Job) and not is_service_wide(answer):
            self._list.drop_suspect()
        self._rows.extend(reading.rows())

    def _compare_rows(self, now: float) -> Notices:
        """Compare rows with the last states of their waits. Queue jobs whose row ends a wait. Record missed jobs."""
        to_ask = []
        for _ in range(min(ROWS_AT_ONCE, len(self._rows))):
            key, row = self._rows.popleft()
            if key not in self._jobs:
                continue
            if row is None:
                self._list.add_missing(key)
                if not self._ids.is_pending(key):
                    self._missed.append(key)
                continue
            for wait in self._jobs[key]:
                ask, notice = wait.heard_by_list(row, now, self._wall_offset)
                if ask:
                    to_ask.append(key)
                if notice:
                    yield wait, notice
        self._ids.add(dict.fromkeys(to_ask))

    def _compare_ended_rows(self) -> Notices:
        """Notify the waits of jobs that are over. Queue the jobs of the other waits."""
        to_ask = []
        for _ in range(min(ROWS_AT_ONCE, len(self._ended_rows))):
            key, row = self._ended_rows.popleft()
            for wait in self._jobs.get(key, []):
                if notice := wait.heard_ended(row):
                    yield wait, notice
                else:
                    to_ask.append(key)
        self._ids.add(dict.fromkeys(to_ask))

    def _do_without_list(self, error: Exception, keys: list[str], now: float, *, responds: bool) -> Notices:
        """Notify the waits of the failed poll. If only the list does not work, poll by id instead."""
        is_busy = isinstance(error, PolarisTransientError) and error.status == 429
        if not is_service_wide(error) or (responds and not is_busy and self._list.has_failed_twice()):
            self._give_up_list(f"it cannot be read: {error}", now)
            return
        self._list.put_off(now, getattr(error, "retry_after", None) or 0.0)
        for key in keys:
            for wait in self._jobs.get(key, []):
                if notice := wait.missed_list(error, now, self._wall_offset):
                    yield wait, notice

    def _give_up_list(self, why: str, now: float) -> None:
        self._list.give_up(len(self._jobs), now, why)
        for waits in self._jobs.values():
            for wait in waits:
                wait.check_at(now)
