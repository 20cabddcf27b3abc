"""JobPoller: one poll for all triggers of an event loop that wait for jobs of one connection and project."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Protocol

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.client import RawPage
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.polling.messages import AskEnded, AskJob
from airflow_provider_polaris.polling.poll_plan import PollPlan, Question
from airflow_provider_polaris.polling.polled_wait import Pace, PolledWait
from airflow_provider_polaris.polling.poller import Poller, Subscription


class JobRequests(Protocol):
    """The client of the poll. Each call raises a PolarisError if it fails, and sends one request at most."""

    slots: int

    async def get_job(self, job_id: str) -> Job:
        """Request a job by id."""

    async def list_active(self, wanted: Container[str], offset: int, limit: int) -> RawPage:
        """Request a page of the jobs that are not over."""

    async def list_ended(self, wanted: Container[str], offset: int, limit: int) -> RawPage:
        """Request a page of the jobs that are over."""


class JobPoller(Poller[PolledWait, Question, Job]):
    """Polls jobs while there are subscribers.

    :param client: sends the requests.
    """

    def __init__(self, client: JobRequests) -> None:
        self._client = client
        super().__init__()

    def subscribe(
        self,
        job_id: str,
        is_decided: Callable[[Job], bool],
        pace: Pace,
        deadline: float,
        *,
        first: float = 0.0,
        known: Job | None = None,
        takes_list: bool = False,
    ) -> Subscription[PolledWait, Job]:
        """Poll a job until the subscription is closed. The parameters are those of :class:`PolledWait`."""
        now = clock.monotonic()
        wait = PolledWait(job_id, is_decided, pace, deadline, now=now, first=first, known=known, takes_list=takes_list)
        return self.start(wait)

    def new_plan(self) -> PollPlan:
        """Return a plan without waits."""
        return PollPlan(self._client.slots)

    async def ask(self, question: Question) -> Job | RawPage:
        """Request a job by id, or a page of a list."""
        if isinstance(question, AskJob):
            return await self._client.get_job(question.job_id)
        if isinstance(question, AskEnded):
            return await self._client.list_ended(question.wanted, question.offset, question.limit)
        return await self._client.list_active(question.wanted, question.offset, question.limit)
