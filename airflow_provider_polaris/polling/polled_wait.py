"""One wait in the shared poll: when to request its job by id, and which responses are news for it. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_polaris.api.errors import PolarisError, PolarisTransientError
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.outage_tolerance import MAX_RETRY_AFTER_SECONDS
from airflow_provider_polaris.polling.messages import Notice

#: If responses take longer than the interval, pause for this fraction of the interval after each response.
SLOW_SERVICE_PAUSE_RATIO = 0.1


#: An interval that grows is this share of the time waited, within these limits in seconds. So a task is late by 5 s and
#: a twentieth of the job's duration at most.
GROWTH = 0.05
SHORTEST_SECONDS = 5.0
LONGEST_SECONDS = 60.0


def growing_interval(waited: float, longest: float = LONGEST_SECONDS) -> float:
    """Return the interval after a wait of so many seconds, for a task without an interval of its own."""
    return min(max(GROWTH * waited, SHORTEST_SECONDS), longest)


class Pace:
    """How long a wait pauses between two polls.

    :param interval: the longest pause, in seconds.
    :param backoff: double the interval after each pause, up to ``most`` seconds if given.
    :param waited: the seconds that the wait has lasted. The interval then grows with the time waited, up to
        ``interval``. ``None``: it does not.
    :param spread: the share of the interval by which a pause may be shorter, at random.
    """

    __slots__ = ("_backoff", "_most", "_spread", "_waited", "interval")

    def __init__(
        self,
        interval: float,
        *,
        backoff: bool = False,
        most: float | None = None,
        waited: float | None = None,
        spread: float = 0.1,
    ) -> None:
        self._backoff = backoff
        self._most = interval if waited is not None else most or math.inf
        self._waited = waited
        self._spread = spread
        self.interval = interval if waited is None else growing_interval(waited, interval)

    def pause(self) -> float:
        """Return the next pause, in seconds."""
        # Shorter, not longer: poke_interval is a promise. Random, so that tasks deferred together spread out.
        pause = self.interval * random.uniform(1.0 - self._spread, 1.0)  # noqa: S311
        if self._waited is not None:
            self._waited += pause
            self.interval = growing_interval(self._waited, self._most)
        elif self._backoff:
            self.interval = min(self.interval * 2, self._most)
        return pause


class PolledWait:
    """One wait for one job. All times are monotonic seconds, except ``deadline``.

    :param is_decided: whether a job ends the wait; raises a PolarisError if the job cannot be judged.
    :param deadline: when the job is requested for the last time, in seconds since the epoch.
    :param now: the current time.
    :param first: seconds until the first request.
    :param known: the job as its task last saw it.
    :param takes_list: whether the list of jobs that are over may end the wait. Its task then confirms the end by id.
    """

    __slots__ = (
        "_check_at", "_is_decided", "_missed_list", "_next_at", "_row_decides", "_silent_polls", "_state",
        "_takes_list", "_was_last_asked", "deadline", "job_id", "key", "pace",
    )  # fmt: skip

    def __init__(
        self,
        job_id: str,
        is_decided: Callable[[Job], bool],
        pace: Pace,
        deadline: float,
        *,
        now: float,
        first: float = 0.0,
        known: Job | None = None,
        takes_list: bool = False,
    ) -> None:
        self.job_id = job_id
        self.key = job_id.lower()
        self.pace = pace
        self.deadline = deadline
        self._is_decided = is_decided
        self._takes_list = takes_list
        #: The next poll at the wait's own pace, and an extra request by id. The list replaces only the former.
        self._next_at = now + first
        self._check_at = math.inf
        self._was_last_asked = False
        #: Status and health of the job as last seen, and whether the list shows a state that ends the wait.
        self._state = known and _state_of(known)
        self._row_decides = False
        self._missed_list = False
        self._silent_polls = 0

    def due_at(self, wall_offset: float, *, by_list: bool) -> float:
        """Return when to request the job by id.

        :param wall_offset: wall-clock time minus monotonic time.
        :param by_list: whether the list of jobs serves the wait's own pace.
        """
        last_at = math.inf if self._was_last_asked else self.deadline - wall_offset
        at = min(self._check_at, last_at)
        return at if by_list else min(at, self._next_at)

    def check_at(self, at: float) -> None:
        """Request the job by id at that time, whatever the pace."""
        self._check_at = min(self._check_at, at)

    def heard_by_id(self, answer: Job | Exception, asked_at: float, now: float, wall_offset: float) -> Notice[Job]:
        """Take the response to a request by id."""
        self._was_polled(asked_at)
        if now - asked_at > self.pace.interval:
            self._next_at = max(self._next_at, now + SLOW_SERVICE_PAUSE_RATIO * self.pace.interval)
        if isinstance(answer, PolarisTransientError):
            self._next_at = max(self._next_at, asked_at + min(answer.retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))
        self._check_at = math.inf
        self._was_last_asked = asked_at + wall_offset >= self.deadline
        return self._notice(answer)

    def missed_list(self, error: Exception, now: float, wall_offset: float) -> Notice[Job] | None:
        """Take the error of a list that could not be read. Return ``None`` if a request by id is due now."""
        self._was_polled(now)
        if self.due_at(wall_offset, by_list=True) <= now:
            return None
        notice = self._notice(error)
        self._missed_list = True
        return notice

    def heard_by_list(self, row: Mapping[str, Any], now: float, wall_offset: float) -> tuple[bool, Notice[Job] | None]:
        """Take the job's row in the list. Return whether to request the job by id, and the notice if the row is news.

        A row that ends the wait is a hint only: the response by id decides.
        """
        self._was_polled(now)
        if self.due_at(wall_offset, by_list=True) <= now:
            return False, None
        # Only a row that is news is decoded. Comparing raw rows is much cheaper.
        state = _state_of_row(row)
        news: Job | None = None
        if state != self._state:
            self._row_decides, news = self._decode(row)
            self._state = state
        if self._row_decides or (news is None and not self._missed_list):
            self._silent_polls += 1
            return self._row_decides, None
        notice = self._notice(news)
        self._state = state  # in the list's own form: the next row is compared with this state
        return False, notice

    def heard_ended(self, row: Mapping[str, Any]) -> Notice[Job] | None:
        """Take the job's row in the list of jobs that are over. Return ``None`` if a request by id must decide."""
        if not self._takes_list:
            return None
        decides, job = self._decode(row)
        if job is None or not decides or not job.is_over:
            return None
        return replace(self._notice(job), is_listed=True)

    def _decode(self, row: Mapping[str, Any]) -> tuple[bool, Job | None]:
        try:
            job = Job.from_api(row)
            return self._is_decided(job), job
        except PolarisError:
            return True, None  # the response by id decides

    def _notice(self, answer: Job | Exception | None) -> Notice[Job]:
        self._missed_list = False
        if isinstance(answer, Job):
            self._state, self._row_decides = _state_of(answer), False
            answer = replace(answer, raw={})  # a spec may have megabytes, and a thousand notices may wait in memory
        silent_polls, self._silent_polls = self._silent_polls, 0
        return Notice(answer, silent_polls)

    def _was_polled(self, at: float) -> None:
        # Only a poll at its own time counts. Other waits may poll more often, and must not drive the backoff.
        if at >= self._next_at:
            self._next_at = at + self.pace.pause()


def _state_of(job: Job) -> tuple[Any, ...]:
    return (str(job.execution_status), job.health and (str(job.health.status), job.health.code))


def _state_of_row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    health = row.get("health")
    return (
        row.get("executionStatus"),
        (health.get("status"), health.get("code")) if isinstance(health, dict) else health,
    )
