"""Whether the list of jobs serves the waits: when to read it, what it costs, and whether to trust it.

The list shows every job that is not over, 1,000 to a page. All times are monotonic seconds.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.outage_tolerance import MAX_RETRY_AFTER_SECONDS
from airflow_provider_polaris.polling.polled_wait import SLOW_SERVICE_PAUSE_RATIO

log = logging.getLogger(__name__)

#: A page of the list costs about as much as this many requests by id. With fewer waits, ids are cheaper.
PAGE_COST = 10
#: The shortest time between two readings of the list.
LIST_INTERVAL_SECONDS = 5.0
#: How long a list that was of no use is not read, and how long its length is remembered.
LIST_RETRY_SECONDS = 600.0


class JobListPolicy:
    """What one poll knows of the list."""

    def __init__(self) -> None:
        self._next_at = -math.inf
        #: What ``Retry-After`` asked for.
        self._not_before = -math.inf
        self._unused_until = -math.inf
        #: The number of pages. If the list was too long to be read to its end, it has at least so many.
        self._pages = 1
        self._read_at = -math.inf
        #: This many waits are enough to read a list again at once that was too long for fewer waits.
        self._retry_with = math.inf
        self._is_too_long = False
        self._has_failed = False
        #: The job on which the list and the response by id disagreed at the last poll.
        self._suspect: str | None = None
        self._turn = 0
        #: Jobs that the last list did not show, and how many of these turned out to be active.
        self._missing: set[str] = set()
        self._hidden = 0
        self._warned: set[str] = set()

    def suits(self, waits: int, now: float) -> bool:
        """Whether the list works, and is the cheaper way to so many jobs."""
        if now >= self._read_at + LIST_RETRY_SECONDS:
            self._pages = 1
        return waits > PAGE_COST * self._pages and now >= self._unused_until

    def due_at(self, waits: int) -> float:
        """Return when to read the list for so many waits."""
        return max(-math.inf if waits >= self._retry_with else self._next_at, self._not_before)

    def begin(self, keys: Sequence[str], now: float, interval: float) -> str:
        """Begin a reading. Return the job to request by id beside it, as a check.

        :param keys: the jobs that are waited for.
        :param interval: the shortest interval of all waits, in seconds.
        """
        # Up to a tenth earlier, at random: triggerers that start together spread out.
        self._next_at = now + max(LIST_INTERVAL_SECONDS, interval) * random.uniform(0.9, 1.0)  # noqa: S311
        self._retry_with = math.inf
        self._missing.clear()
        self._hidden = 0
        self._turn += 1
        return self._suspect or keys[self._turn % len(keys)]

    def end(self, now: float, interval: float) -> None:
        """End a reading. If it took longer than the interval, pause before the next."""
        self._next_at = max(self._next_at, now + SLOW_SERVICE_PAUSE_RATIO * max(LIST_INTERVAL_SECONDS, interval))

    def hurry(self, now: float, interval: float) -> None:
        """Read the list within an interval: a new wait may have a shorter one than all others."""
        self._next_at = min(self._next_at, now + max(LIST_INTERVAL_SECONDS, interval))

    def put_off(self, now: float, seconds: float) -> None:
        """Do not read the list before so many seconds have passed."""
        self._not_before = now + min(seconds, MAX_RETRY_AFTER_SECONDS)

    def is_too_long(self, pages: int, waits: int) -> bool:
        """Whether to read on after so many pages costs more than to request so many jobs by id."""
        return (pages + 1) * PAGE_COST >= waits

    def was_read(self, pages: int, now: float) -> None:
        """Note the length of a list that was read to its end."""
        self._pages = pages
        self._read_at = now
        self._has_failed = self._is_too_long = False

    def was_too_long(self, pages: int, waits: int, now: float) -> None:
        """Note that the list has more pages than were read, which is too long for so many waits.

        Airflow starts triggers one after another, so there may soon be more waits. The list is read again as soon as
        its known length pays: at the next interval, or when the waits have doubled. Each attempt costs at most a tenth
        of its waits in pages, so all attempts of a start together cost no more than a fifth of the waits.
        """
        self._pages = pages + 1
        self._read_at = now
        self._has_failed = False
        self._retry_with = 2 * waits
        self._is_too_long = True

    def warn_if_too_long(self, waits: int, now: float) -> None:
        """Log once that the list has been too long for the waits for an interval."""
        if self._is_too_long and now >= self._next_at:
            self._is_too_long = False
            self._warn(waits, "the project has so many other active jobs that the list costs more")

    def has_failed_twice(self) -> bool:
        """Note a list that could not be read though Polaris responds. Return whether the reading before failed too."""
        before, self._has_failed = self._has_failed, True
        return before

    def add_missing(self, key: str) -> None:
        """Note a job that the list does not show."""
        self._missing.add(key)

    def heard_by_id(self, key: str, answer: object) -> None:
        """Note what the response by id says of a job that the list did not show."""
        self._hidden += key in self._missing and isinstance(answer, Job) and not answer.is_over
        self._missing.discard(key)

    def hides_jobs(self, waits: int) -> bool:
        """Whether the last list did not show more than half of the jobs that are active."""
        return self._hidden > max(PAGE_COST, waits // 2)

    def is_trusted(self, job: Job, row: Mapping[str, Any] | None) -> bool:
        """Compare the list with a job that was requested by id. ``False`` if they disagree twice in a row."""
        # The request names the known statuses that are not over: the list shows no other.
        is_listed = not job.is_over and job.has_known_status
        agree = row.get("executionStatus") == str(job.execution_status) if row else not is_listed
        disagree_twice = not agree and self._suspect is not None
        # The first time, the job may have changed between the two responses.
        self._suspect = None if agree else job.id.lower()
        return not disagree_twice

    def drop_suspect(self) -> None:
        """Forget the job that the list may be wrong about: its own request failed."""
        self._suspect = None

    def give_up(self, waits: int, now: float, why: str) -> None:
        """Do not read the list for a while. The log says why, once."""
        self._unused_until = now + LIST_RETRY_SECONDS
        self._has_failed = False
        self._suspect = None
        self._hidden = 0
        self._warn(waits, why)

    def _warn(self, waits: int, why: str) -> None:
        kind = why.partition(":")[0]
        if kind not in self._warned:
            self._warned.add(kind)
            log.warning("Polling %d Polaris jobs by id from now on, not by the list of jobs: %s", waits, why)
