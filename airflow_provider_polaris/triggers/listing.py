"""Whether the list of jobs is of use to those who wait: when it is due, what it costs, and whether to trust it."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.jobs import Job

log = logging.getLogger(__name__)

#: A page of the list costs about as much as so many jobs that are asked for by id: with fewer waits, ids are cheaper.
PAGE_COST = 10
#: The list is not asked for more often than that, in seconds.
LIST_EVERY = 5.0
#: How long it is left alone once it was of no use, in seconds.
LIST_AGAIN = 600.0


class Listing:
    """What a watcher remembers of the list."""

    def __init__(self) -> None:
        #: When it is due.
        self.next_at = 0.0
        #: How many pages it has.
        self.pages = 1
        #: The job on which the list and the answer by id disagreed at the last poll.
        self.suspect: str | None = None
        self._again_at = 0.0
        self._failed_before = False
        self._said: set[str] = set()

    def suits(self, waits: int) -> bool:
        """Whether the list is the cheaper way to so many jobs, and works."""
        return waits > PAGE_COST * self.pages and clock.now() >= self._again_at

    def schedule(self, interval: float) -> None:
        """Set when it is due next, for those who wait with that interval."""
        # Up to a tenth earlier, at random: triggerers that start together spread out.
        self.next_at = clock.now() + max(LIST_EVERY, interval) * random.uniform(0.9, 1.0)  # noqa: S311

    def put_off(self, seconds: float) -> None:
        """Do not ask for it before so many seconds have passed."""
        self.next_at = max(self.next_at, clock.now() + seconds)

    def is_too_long(self, pages: int, waits: int) -> bool:
        """Whether reading on after so many pages costs more than asking by ids."""
        return (pages + 1) * PAGE_COST >= waits

    def worked(self) -> None:
        """Note that it could be read."""
        self._failed_before = False

    def failed_twice(self) -> bool:
        """Note that it could not be read though Polaris answers; return whether that was so the last time, too."""
        before, self._failed_before = self._failed_before, True
        return before

    def is_trusted(self, job: Job, row: Mapping[str, Any] | None) -> bool:
        """Hold it against a job that was asked for by id; ``False`` if they disagree a second time in a row."""
        status = str(job.execution_status)
        agree = row.get("executionStatus") == status if row else job.execution_status.is_over
        twice = not agree and self.suspect is not None
        # The first time, the job may have changed between the two answers.
        self.suspect = None if agree else job.id.lower()
        return not twice

    def give_up(self, waits: int, why: str) -> None:
        """Leave it alone for a while. The log says why, once."""
        self._again_at = clock.now() + LIST_AGAIN
        self.pages = 1
        self.suspect = None
        self._failed_before = False
        kind = why.partition(":")[0]
        if kind not in self._said:
            self._said.add(kind)
            log.warning("Asking for %d Polaris jobs by id from now on, not by the list of jobs: %s", waits, why)
