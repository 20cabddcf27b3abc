"""Which jobs to request by id next. During an outage, all jobs share the response of one request. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable

from airflow_provider_polaris.api.errors import PolarisConnectionMissing, PolarisTransientError, PolarisUnauthorized
from airflow_provider_polaris.gate.outage_tolerance import MAX_RETRY_AFTER_SECONDS

#: Treat the service as down after this many different jobs fail in a row. One job alone may have a fault of its own.
OUTAGE_JOBS = 2


def is_service_wide(answer: object) -> bool:
    """Whether the answer is an error that would affect every job."""
    return isinstance(answer, (PolarisTransientError, PolarisUnauthorized, PolarisConnectionMissing))


class IdQueue:
    """Jobs by key, in the order of their requests. All times are monotonic seconds.

    :param slots: the most requests at once. The others wait in the queue.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._queue: deque[str] = deque()
        #: Jobs that wait for the probe of an outage.
        self._held: list[str] = []
        self._asked: set[str] = set()
        #: All jobs that are queued, held, or under way.
        self._pending: set[str] = set()
        self._failing: set[str] = set()
        self._next_probe = -math.inf

    @property
    def wake_at(self) -> float:
        """When the next probe of an outage is due."""
        return self._next_probe if self._held else math.inf

    def is_pending(self, key: str) -> bool:
        """Whether a request for the job is queued or under way."""
        return key in self._pending

    def add(self, keys: Iterable[str]) -> None:
        """Queue jobs that are not queued yet. During an outage, they wait for the next probe."""
        new = [key for key in keys if key not in self._pending]
        self._pending.update(new)
        (self._held if self._in_outage else self._queue).extend(new)

    def ask_now(self, key: str) -> bool:
        """Record a request outside the queue. Return ``False`` if a request for the job is already under way."""
        if key in self._asked:
            return False
        if key in self._pending:
            self._queue = deque(other for other in self._queue if other != key)
            self._held = [other for other in self._held if other != key]
        self._pending.add(key)
        self._asked.add(key)
        return True

    def take(self, now: float, interval: float, is_wanted: Callable[[str], bool]) -> list[str]:
        """Return the jobs to request now.

        :param interval: the shortest interval of all waits, in seconds.
        :param is_wanted: whether any wait still needs the job. Other jobs leave the queue.
        """
        self._pending.difference_update(key for key in self._held if not is_wanted(key))
        self._held = [key for key in self._held if key in self._pending]
        if self._held and now >= self._next_probe:
            self._queue_probe(now, interval)
        taken: list[str] = []
        while self._queue and len(self._asked) < self._slots:
            key = self._queue.popleft()
            if is_wanted(key):
                self._asked.add(key)
                taken.append(key)
            else:
                self._pending.discard(key)
        return taken

    def heard(self, key: str, answer: object, now: float) -> list[str]:
        """Take the response for a job. Return the other jobs that share the response: during an outage, all."""
        self._asked.discard(key)
        self._pending.discard(key)
        if not is_service_wide(answer):
            self._failing.clear()
            self._queue.extend(self._held)
            self._held.clear()
            return []
        self._failing.add(key)
        requested_pause = min(getattr(answer, "retry_after", None) or 0.0, MAX_RETRY_AFTER_SECONDS)
        self._next_probe = max(self._next_probe, now + requested_pause)
        if not self._in_outage:
            return []
        waiting = [*self._queue, *self._held]
        self._queue.clear()
        self._held.clear()
        self._pending.difference_update(waiting)
        return waiting

    @property
    def _in_outage(self) -> bool:
        return len(self._failing) >= OUTAGE_JOBS

    def _queue_probe(self, now: float, interval: float) -> None:
        self._next_probe = now + 0.9 * interval
        if self._queue:  # the last probe still waits for a free slot
            return
        key = next((key for key in self._held if key not in self._failing), self._held[0])
        self._held.remove(key)
        self._queue.append(key)
