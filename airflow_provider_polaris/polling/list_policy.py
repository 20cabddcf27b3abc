"""Whether the list of jobs is of use to those who wait: when it is due, what it costs, and whether to trust it."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping
from typing import Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.outage_tolerance import MAX_RETRY_AFTER
from airflow_provider_polaris.polling.subscription import REST

log = logging.getLogger(__name__)

#: A page of the list costs about as much as so many jobs that are asked for by id: with fewer waits, ids are cheaper.
PAGE_COST = 10
#: The list is not asked for more often than that, in seconds.
LIST_EVERY = 5.0
#: How long it is left alone once it was of no use, and how long its length is remembered, in seconds.
LIST_AGAIN = 600.0


class JobListPolicy:
    """What a watcher remembers of the list."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._not_before = 0.0
        #: The job on which the list and the answer by id disagreed at the last poll.
        self.suspect: str | None = None
        #: How many jobs it did not show, at the last poll, that turned out to be active.
        self.hidden = 0
        #: How many pages the list has; if it was too long to be read to its end, at least so many.
        self._pages = 1
        self._read_at = 0.0
        #: So many waits are reason enough to read a list again at once that was too long for fewer.
        self._retry_with = math.inf
        self._is_too_long = False
        self._again_at = 0.0
        self._failed_before = False
        self._said: set[str] = set()

    def suits(self, waits: int) -> bool:
        """Whether the list is the cheaper way to so many jobs, and works."""
        now = clock.now()
        self._again_at = min(self._again_at, now + LIST_AGAIN)  # a clock may be set back
        if not self._read_at <= now < self._read_at + LIST_AGAIN:
            self._pages = 1
        return waits > PAGE_COST * self._pages and now >= self._again_at

    def due_at(self, waits: int) -> float:
        """When it is due, for so many waits."""
        return max(0.0 if waits >= self._retry_with else self._next_at, self._not_before)

    def schedule(self, interval: float) -> None:
        """Set when it is due next, for those who wait with that interval."""
        # Up to a tenth earlier, at random: triggerers that start together spread out.
        self._next_at = clock.now() + max(LIST_EVERY, interval) * random.uniform(0.9, 1.0)  # noqa: S311
        self._retry_with = math.inf

    def rest(self, interval: float) -> None:
        """Leave a service alone for a while that took longer than the interval to tell it."""
        self._next_at = max(self._next_at, clock.now() + REST * max(LIST_EVERY, interval))

    def hurry(self, interval: float) -> None:
        """See to it that it is due within an interval."""
        self._next_at = min(self._next_at, clock.now() + max(LIST_EVERY, interval))
        self._not_before = min(self._not_before, clock.now() + MAX_RETRY_AFTER)  # a clock may be set back

    def put_off(self, seconds: float) -> None:
        """Do not ask for it before so many seconds have passed."""
        self._not_before = clock.now() + min(seconds, MAX_RETRY_AFTER)

    def is_too_long(self, pages: int, waits: int) -> bool:
        """Whether reading on after so many pages costs more than asking for so many waits by id."""
        return (pages + 1) * PAGE_COST >= waits

    def was_read(self, pages: int) -> None:
        """Note that it could be read, and how long it is."""
        self._pages = pages
        self._read_at = clock.now()
        self._failed_before = self._is_too_long = False

    def was_too_long(self, pages: int, waits: int) -> None:
        """Note that the list has more pages than were read, which is too long for so many waits.

        Airflow starts triggers one after another, so there may soon be more waits. The list is read again as soon as
        its known length pays: at the next interval, or when the waits have doubled. Each attempt costs at most a tenth
        of its waits in pages, so all attempts of a start together cost no more than a fifth of the waits.
        """
        self._pages = pages + 1
        self._read_at = clock.now()
        self._failed_before = False
        self._retry_with = 2 * waits
        self._is_too_long = True

    def warn_if_too_long(self, waits: int) -> None:
        """Say once that the list has been too long for the waits for an interval."""
        if self._is_too_long and clock.now() >= self._next_at:
            self._is_too_long = False
            self._warn(waits, "the project has so many other active jobs that it costs more")

    def failed_twice(self) -> bool:
        """Note that it could not be read though Polaris answers; return whether that was so the last time, too."""
        before, self._failed_before = self._failed_before, True
        return before

    def is_trusted(self, job: Job, row: Mapping[str, Any] | None) -> bool:
        """Hold it against a job that was asked for by id; ``False`` if they disagree a second time in a row."""
        # It was asked for known statuses that are not over: it shows no other.
        agree = (
            row.get("executionStatus") == str(job.execution_status) if row else job.is_over or not job.has_known_status
        )
        twice = not agree and self.suspect is not None
        # The first time, the job may have changed between the two answers.
        self.suspect = None if agree else job.id.lower()
        return not twice

    def give_up(self, waits: int, why: str) -> None:
        """Leave it alone for a while. The log says why, once."""
        self._again_at = clock.now() + LIST_AGAIN
        self._failed_before = False
        self.suspect = None
        self._warn(waits, why)

    def _warn(self, waits: int, why: str) -> None:
        kind = why.partition(":")[0]
        if kind not in self._said:
            self._said.add(kind)
            log.warning("Asking for %d Polaris jobs by id from now on, not by the list of jobs: %s", waits, why)
