"""Asking for many jobs by id, a few at a time, and noticing an outage without asking for all of them."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import (
    PolarisConnectionMissing,
    PolarisError,
    PolarisTransientError,
    PolarisUnauthorized,
)
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.outage_tolerance import MAX_RETRY_AFTER

if TYPE_CHECKING:
    from airflow_provider_polaris.polling.shared_client import SharedClient

#: So many jobs whose answers failed, with no other answer in between, are an outage: one alone may have a fault of its
#: own.
OUTAGE = 2
#: So many are told something before others have their turn on the event loop.
AT_ONCE = 100


def is_service_wide(error: object) -> bool:
    """Whether others would most likely be answered the same."""
    return isinstance(error, (PolarisTransientError, PolarisUnauthorized, PolarisConnectionMissing))


class ByIdPoller:
    """Asks, each question a task of its own: one that hangs holds up nobody else.

    :param id_of: returns a job's id as the service knows it, ``None`` if nobody waits for it any more.
    :param tell: called with a job, when it was asked for, and the answer.
    :param broke: called with a fault that is none of Polaris's.
    """

    def __init__(
        self,
        client: SharedClient,
        id_of: Callable[[str], str | None],
        tell: Callable[[str, float, Job | PolarisError], None],
        broke: Callable[[BaseException], None],
    ) -> None:
        self._client = client
        self._id_of = id_of
        self._tell = tell
        self._broke = broke
        self._queue: deque[str] = deque()
        #: Waiting for a probe to find out whether the outage is over.
        self._held: list[str] = []
        self._pending: set[str] = set()
        self._failing: set[str] = set()
        self._next_probe = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, keys: Iterable[str]) -> None:
        """Ask for these jobs, but for those that are being asked for. In an outage, one is asked, and all are told."""
        fresh = [key for key in keys if key not in self._pending]
        self._pending.update(fresh)
        (self._held if self._in_outage else self._queue).extend(fresh)
        self._work_off()

    def probe(self, interval: float) -> None:
        """In an outage, ask for one of those that wait, at most once in an interval."""
        now = clock.now()
        self._next_probe = min(self._next_probe, now + max(interval, MAX_RETRY_AFTER))  # a clock may be set back
        gone = [key for key in self._held if self._id_of(key) is None]
        self._pending.difference_update(gone)
        self._held = [key for key in self._held if key in self._pending]
        if not self._held or now < self._next_probe:
            return
        self._next_probe = now + 0.9 * interval
        if self._queue:  # the last one still waits for others that hang
            return
        unsuspected = [key for key in self._held if key not in self._failing]
        one = (unsuspected or self._held)[0]
        self._held.remove(one)
        self._queue.append(one)
        self._work_off()

    def is_asking(self, key: str) -> bool:
        """Whether a job is being asked for, or is to be."""
        return key in self._pending

    @property
    def wake_at(self) -> float:
        """When :meth:`probe` has something to do."""
        return self._next_probe if self._held else math.inf

    def note(self, key: str, answer: object) -> None:
        """Take in how a question ended."""
        if is_service_wide(answer):
            self._failing.add(key)
            asked = min(getattr(answer, "retry_after", None) or 0.0, MAX_RETRY_AFTER)
            self._next_probe = max(self._next_probe, clock.now() + asked)
            return
        self._failing.clear()
        self._queue.extend(self._held)
        self._held.clear()
        self._work_off()

    def stop(self) -> None:
        """Drop all questions. Requests under way end by themselves, in their threads."""
        self._queue.clear()
        self._held.clear()
        self._pending.clear()
        for task in self._tasks:
            task.cancel()

    @property
    def _in_outage(self) -> bool:
        return len(self._failing) >= OUTAGE

    def _work_off(self) -> None:
        while len(self._tasks) < self._client.slots and len(self._tasks) < len(self._pending) - len(self._held):
            if not self._queue:
                return
            task = asyncio.ensure_future(self._work(self._queue.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()):
            self._broke(fault)
        self._work_off()  # while it still counted, others may have been asked for

    async def _work(self, key: str | None) -> None:
        while key is not None:
            job_id = self._id_of(key)
            if job_id is None:
                self._pending.discard(key)
            else:
                await self._ask_for(key, job_id)
            key = self._queue.popleft() if self._queue else None

    async def _ask_for(self, key: str, job_id: str) -> None:
        at = clock.now()
        answer: Job | PolarisError
        try:
            answer = await self._client.get_job(job_id)
        except PolarisError as error:
            answer = error
        finally:
            self._pending.discard(key)
        self._tell(key, at, answer)
        self.note(key, answer)
        if isinstance(answer, PolarisError) and is_service_wide(answer) and self._in_outage:
            waiting = [*self._queue, *self._held]
            self._queue.clear()
            self._held.clear()
            self._pending.difference_update(waiting)
            await in_turns(waiting, lambda other: self._tell(other, clock.now(), answer))


async def in_turns(keys: Iterable[str], do: Callable[[str], None]) -> None:
    """Do something with each, and let others on the event loop have their turn in between."""
    for count, key in enumerate(keys, 1):
        do(key)
        if count % AT_ONCE == 0:
            await asyncio.sleep(0)
