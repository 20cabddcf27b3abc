"""Whether the list of jobs serves the waits: when to read it, what it costs, and whether to trust it.

The list shows every job that is not over, 1,000 to a page. All times are monotonic seconds.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_polaris.api.client import PAGE_LIMIT
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.outage_tolerance import MAX_RETRY_AFTER_SECONDS
from airflow_provider_polaris.polling.polled_wait import SLOW_SERVICE_PAUSE_RATIO

log = logging.getLogger(__name__)

#: A page of the list costs about as much as this many requests by id. With fewer waits, ids are cheaper.
PAGE_COST = 10
#: The shortest time between two readings of the list.
LIST_INTERVAL_SECONDS = 5.0
#: How long the list is not read after it was useless, and how long its length counts.
LIST_RETRY_SECONDS = 600.0

#: The causes that this process has logged. A poll ends with its last wait, and the next poll meets the same causes.
_WARNED: set[str] = set()


class JobListPolicy:
    """The state of the list in one poll, and the decisions about the list."""

    def __init__(self) -> None:
        self._next_at = -math.inf
        #: The earliest time that ``Retry-After`` allows.
        self._not_before = -math.inf
        self._unused_until = -math.inf
        #: The number of pages. If the list was too long to be read to its end, the least number of pages.
        self._pages = 1
        self._read_at = -math.inf
        #: The most jobs on a page that could be read, and when a larger page was tried last.
        self._page_limit = PAGE_LIMIT
        self._page_limit_at = -math.inf
        #: With this many waits, a list that was too long is read again at once.
        self._retry_with = math.inf
        self._is_too_long = False
        self._has_failed = False
        #: The job on which the list and the response by id disagreed at the last poll.
        self._suspect: str | None = None
        self._turn = 0
        #: Jobs that the last list did not show, and how many of them are active by their own responses.
        self._missing: set[str] = set()
        self._hidden = 0

    def suits(self, waits: int, now: float) -> bool:
        """Whether the list works, and costs less than this many requests by id."""
        if now >= self._read_at + LIST_RETRY_SECONDS:
            self._pages = 1
        return waits > PAGE_COST * self._pages and now >= self._unused_until

    def due_at(self, waits: int) -> float:
        """Return when to read the list for this many waits."""
        return max(-math.inf if waits >= self._retry_with else self._next_at, self._not_before)

    def begin(self, keys: Sequence[str], now: float, interval: float) -> str:
        """Begin a reading. Return the job to request by id at the same time, as a check.

        :param keys: the jobs of all waits.
        :param interval: the shortest interval of all waits, in seconds.
        """
        # Up to a tenth earlier, at random: triggerers that start together spread out.
        self._next_at = now + max(LIST_INTERVAL_SECONDS, interval) * random.uniform(0.9, 1.0)  # noqa: S311
        self._retry_with = math.inf
        self._missing.clear()
        self._hidden = 0
        self._turn += 1
        return self._suspect or keys[self._turn % len(keys)]

    def page_limit(self, now: float) -> int:
        """Return the most jobs to request on a page: less than usual if larger pages were too large to be read."""
        if now < self._page_limit_at + LIST_RETRY_SECONDS:
            return self._page_limit
        return min(2 * self._page_limit, PAGE_LIMIT)

    def record_page_limit(self, limit: int, now: float) -> None:
        """Record with how many jobs on a page a reading ended."""
        if limit != self._page_limit or limit < self.page_limit(now):
            self._page_limit, self._page_limit_at = limit, now

    def end(self, now: float, interval: float) -> None:
        """End a reading. Pause before the next reading if this one took longer than the interval."""
        self._next_at = max(self._next_at, now + SLOW_SERVICE_PAUSE_RATIO * max(LIST_INTERVAL_SECONDS, interval))

    def hurry(self, now: float, interval: float) -> None:
        """Read the list within this interval. It may be shorter than the intervals of all other waits."""
        self._next_at = min(self._next_at, now + max(LIST_INTERVAL_SECONDS, interval))

    def put_off(self, now: float, seconds: float) -> None:
        """Do not read the list before this many seconds have passed."""
        self._not_before = now + min(seconds, MAX_RETRY_AFTER_SECONDS)

    def is_too_long(self, pages: int, waits: int) -> bool:
        """Whether another page costs more than requests by id, after this many pages for this many waits."""
        return (pages + 1) * PAGE_COST >= waits

    def was_read(self, pages: int, now: float) -> None:
        """Record the length of a list that was read to its end."""
        self._pages = pages
        self._read_at = now
        self._has_failed = self._is_too_long = False

    def was_too_long(self, pages: int, waits: int, now: float) -> None:
        """Record that the list has more pages than were read, which is too long for this many waits.

        Airflow starts triggers one after another, so there may soon be more waits. The list is read again at the next
        interval, or when the waits have doubled, if its known length is then worth the cost. The pages of each attempt
        are at most a tenth of its waits. All attempts during one start cost at most a fifth of the waits.
        """
        self._pages = pages + 1
        self._read_at = now
        self._has_failed = False
        self._retry_with = 2 * waits
        self._is_too_long = True

    def warn_if_too_long(self, waits: int, now: float) -> None:
        """Log once that the list was too long for the waits during a whole interval."""
        if self._is_too_long and now >= self._next_at:
            self._is_too_long = False
            self._warn(waits, "the project has so many other active jobs that the list costs more requests")

    def has_failed_twice(self) -> bool:
        """Record that the list could not be read while Polaris responds. Return whether the last reading failed too."""
        before, self._has_failed = self._has_failed, True
        return before

    def add_missing(self, key: str) -> None:
        """Record a job that the list does not show."""
        self._missing.add(key)

    def heard_by_id(self, key: str, answer: object) -> None:
        """Record the response by id for a job that the list did not show."""
        self._hidden += key in self._missing and isinstance(answer, Job) and not answer.is_over
        self._missing.discard(key)

    def hides_jobs(self, waits: int) -> bool:
        """Whether the last list did not show more than half of the jobs that are active."""
        return self._hidden > max(PAGE_COST, waits // 2)

    def is_trusted(self, job: Job, row: Mapping[str, Any] | None) -> bool:
        """Compare the list with a job that was requested by id. Return ``False`` if they disagree twice in a row."""
        # The request names the known statuses that are not over: the list shows no other.
        is_listed = not job.is_over and job.has_known_status
        agree = row.get("executionStatus") == str(job.execution_status) if row else not is_listed
        disagree_twice = not agree and self._suspect is not None
        # The first time, the job may have changed between the two responses.
        self._suspect = None if agree else job.id.lower()
        return not disagree_twice

    def drop_suspect(self) -> None:
        """Forget the job on which list and response disagreed: its own request failed."""
        self._suspect = None

    def give_up(self, waits: int, now: float, why: str) -> None:
        """Do not read the list for a while. Log the reason once."""
        self._unused_until = now + LIST_RETRY_SECONDS
        self._has_failed = False
        self._suspect = None
        self._hidden = 0
        self._warn(waits, why)

    def _warn(self, waits: int, why: str) -> None:
        kind = why.partition(":")[0]
        if kind not in _WARNED:
            _WARNED.add(kind)
            log.warning(
                "Polling %d Polaris jobs by id from now on, not by the list of jobs: %s. The list is tried again after "
                "%.0f minutes",
                waits,
                why,
                LIST_RETRY_SECONDS / 60,
            )
