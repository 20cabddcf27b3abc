"""Asking for many jobs by id, a few at a time, and noticing an outage without asking for all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from airflow_provider_polaris import clock
from airflow_provider_polaris.errors import PolarisApiError, PolarisAuthError, PolarisError, PolarisUnreachable
from airflow_provider_polaris.jobs import Job

if TYPE_CHECKING:
    from airflow_provider_polaris.triggers.client import SharedClient


#: So many failed answers in a row are an outage: of a round that has had no other answer, and of one that has.
OUTAGE = 2
OUTAGE_AFTER_ALL = 10


class Round:
    """One round of asking.

    :param tell: called with each job's id, when it was asked for, and the answer.
    :param failed: how many answers in a row had failed before this round. If that is an outage, one more is enough to
        see that it goes on.
    """

    def __init__(
        self,
        client: SharedClient,
        job_ids: Iterable[str],
        tell: Callable[[str, float, Job | PolarisError], None],
        *,
        failed: int,
    ) -> None:
        self._client = client
        self._tell = tell
        self._limit = OUTAGE
        self.failed = failed
        #: Those that were not asked for, because of :attr:`trouble`.
        self.left = deque(job_ids)
        self.trouble: PolarisError | None = None
        #: How many are not over.
        self.active = 0

    async def run(self) -> None:
        """Ask for all, or until there is trouble that is not one job's own."""
        if self.left and self.failed >= OUTAGE:
            await self._ask_next()
        await asyncio.gather(*(self._work() for _ in range(min(len(self.left), self._client.slots))))

    async def _work(self) -> None:
        while self.left and self.trouble is None:
            await self._ask_next()

    async def _ask_next(self) -> None:
        job_id = self.left.popleft()
        at = clock.now()
        try:
            job = await self._client.get_job(job_id)
        except PolarisError as error:
            self._tell(job_id, at, error)
            if _is_everybodys(error):
                self.failed += 1
                if self.failed >= self._limit:
                    self.trouble = error
        else:
            self.failed = 0
            self._limit = OUTAGE_AFTER_ALL
            self.active += not job.execution_status.is_over
            self._tell(job_id, at, job)


def _is_everybodys(error: PolarisError) -> bool:
    """Whether the others would most likely be answered the same."""
    return isinstance(error, (PolarisUnreachable, PolarisAuthError)) or not isinstance(error, PolarisApiError)
