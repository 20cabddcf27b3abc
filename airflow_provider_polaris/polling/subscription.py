"""One trigger's part in a shared poll: what it waits for, when it is due, and what it was told."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisError, PolarisUnreachable
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.decision import Condition, Verdict, decide
from airflow_provider_polaris.gate.outage_tolerance import MAX_RETRY_AFTER
from airflow_provider_polaris.waiting.progress_log import HEARTBEAT

if TYPE_CHECKING:
    from airflow_provider_polaris.polling.job_poller import JobPoller

#: How long a poll may take that begins at or shortly before the deadline, in seconds: less than Airflow's backstop.
LAST_ASK = 30.0
#: A service that takes longer to answer than the interval is left alone for that part of it after each answer.
REST = 0.1


class Pace:
    """How long a wait pauses between two polls.

    :param interval: the longest pause, in seconds; each is up to a tenth shorter, at random.
    :param backoff: double it after each pause, up to ``most`` seconds if given.
    """

    __slots__ = ("_backoff", "_most", "interval")

    def __init__(self, interval: float, *, backoff: bool = False, most: float | None = None) -> None:
        self.interval = interval
        self._backoff = backoff
        self._most = most or math.inf

    def pause(self) -> float:
        """Return the next pause."""
        # Shorter, not longer: poke_interval is a promise. Random, so that tasks deferred together spread out.
        pause = self.interval * random.uniform(0.9, 1.0)  # noqa: S311
        if self._backoff:
            self.interval = min(self.interval * 2, self._most)
        return pause


class Subscription:
    """Made by :meth:`JobPoller.subscribe`; a context manager that leaves in the end.

    :param deadline: when the job is asked for a last time, in seconds since the epoch.
    :param first: after how many seconds it is asked for first.
    :param known: the job as its task last saw it.
    """

    __slots__ = (
        "_asks", "_heard_at", "_inbox", "_known", "_missed_list", "_row", "_waiter", "_watcher",
        "ask_at", "deadline", "due_at", "gate", "job_id", "key", "pace", "silent_polls",
    )  # fmt: skip

    def __init__(
        self,
        watcher: JobPoller,
        job_id: str,
        gate: Condition,
        pace: Pace,
        deadline: float,
        *,
        first: float = 0.0,
        known: Job | None = None,
    ) -> None:
        self._watcher = watcher
        self.job_id = job_id
        self.key = job_id.lower()
        self.gate = gate
        self.pace = pace
        self.deadline = deadline
        #: When it is asked for by id, if that is how the watcher goes; and when at any rate.
        self.due_at = clock.now() + first
        self.ask_at = deadline
        #: Polls since the last answer that brought nothing new.
        self.silent_polls = 0
        self._known = known and _news(known)
        self._row: tuple[Any, ...] | None = None
        self._asks = False
        self._missed_list = False
        self._heard_at = clock.now()
        self._inbox: list[Any] = []
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watcher.leave(self)

    def wake_at(self, now: float, *, by_list: bool) -> float:
        """Return when it is time to ask for the job by id."""
        if by_list:
            return self.ask_at
        self.due_at = min(self.due_at, now + max(self.pace.interval, MAX_RETRY_AFTER))  # a clock may be set back
        return min(self.ask_at, self.due_at)

    async def next(self) -> Job | PolarisApiError | None:
        """Wait for what the watcher has to tell: the job, why a poll failed, or ``None``: nothing new, for long.

        :raises Exception: what ends every wait: a connection that is not defined, a fault of the watcher.
        """
        if not self._inbox:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                # The watcher keeps the deadline, unless it waits for an answer itself. Not wait_for, which up to
                # Python 3.11 loses a cancellation that comes together with the answer.
                await asyncio.wait({self._waiter}, timeout=max(0.0, self.deadline - clock.now()) + LAST_ASK)
            finally:
                self._waiter = None
        if not self._inbox:
            return PolarisUnreachable("No answer before the deadline")
        answer = self._inbox.pop(0)
        if isinstance(answer, Exception) and not isinstance(answer, PolarisApiError):
            raise answer
        return answer  # type: ignore[no-any-return]

    def ask_again_in(self, seconds: float) -> None:
        """Ask for the job by id then, whatever the watcher's pace."""
        self.ask_at = min(clock.now() + seconds, self.deadline)
        self._watcher.wake()

    def tell(self, answer: Job | Exception | None) -> None:
        """Hand an answer to the trigger."""
        self._heard_at = clock.now()
        self._missed_list = False
        if isinstance(answer, Job):
            self._known = _news(answer)
            answer = replace(answer, raw={})  # its spec may be megabytes, and a thousand of them wait here
        self._inbox.append(answer)
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def was_asked_for(self, at: float, answer: Job | Exception) -> None:
        """Note that the job was asked for by id, and what that brought."""
        now = clock.now()
        self._was_polled(at)
        if now - at > self.pace.interval:
            self.due_at = max(self.due_at, now + REST * self.pace.interval)
        if isinstance(answer, PolarisUnreachable):
            self.due_at = max(self.due_at, at + min(answer.retry_after or 0.0, MAX_RETRY_AFTER))
        self.ask_at = self.deadline if self.deadline > at else math.inf
        self.tell(answer)

    def missed_list(self, error: Exception) -> None:
        """Note that the list could not be had."""
        now = clock.now()
        self._was_polled(now)
        if not self._is_being_asked_for(now):
            self.tell(error)
            self._missed_list = True

    def _is_being_asked_for(self, now: float) -> bool:
        """Whether it is time to ask by id whatever the list says: at the deadline, that answer is the last."""
        return self.ask_at <= now

    def _was_polled(self, at: float) -> None:
        # Only its own time counts: others may poll more often, and must not drive its backoff.
        if at >= self.due_at:
            self.due_at = at + self.pace.pause()

    def heed(self, row: Mapping[str, Any]) -> bool:
        """Note the job's row in the list; return whether it must be asked for by id.

        A row that does not end the wait is told if it is news. One that would is a hint only.
        """
        now = clock.now()
        self._was_polled(now)
        if self._is_being_asked_for(now):
            return False
        seen = _raw_news(row)
        if seen != self._row:
            self._row = seen
            self._asks = self._is_news(row)
        elif not self._asks and (self._missed_list or now - self._heard_at >= HEARTBEAT):
            self.tell(None)
        else:
            self.silent_polls += 1
        return self._asks

    def _is_news(self, row: Mapping[str, Any]) -> bool:
        try:
            job = Job.from_api(row)
            if decide(job, self.gate).verdict is not Verdict.WAIT:
                return True
        except PolarisError:
            return True  # what it is, the answer by id will tell
        if _news(job) != self._known or self._missed_list:
            self.tell(job)
        else:
            self.silent_polls += 1
        return False


def _news(job: Job) -> tuple[Any, ...]:
    return (str(job.execution_status), job.health and (str(job.health.status), job.health.code))


def _raw_news(row: Mapping[str, Any]) -> tuple[Any, ...]:
    health = row.get("health")
    told = (health.get("status"), health.get("code")) if isinstance(health, dict) else health
    return (row.get("executionStatus"), told)
