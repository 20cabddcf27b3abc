"""LoadsPoller: one poll for all triggers of an event loop that wait for loads of one connection and project."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Protocol

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.client import NewestPage, RawPage
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.load_choice import LoadChoice
from airflow_provider_polaris.polling.loads_plan import LoadsPlan, LoadsWait, Question
from airflow_provider_polaris.polling.messages import AskList, AskLoads
from airflow_provider_polaris.polling.polled_wait import Pace
from airflow_provider_polaris.polling.poller import Poller, Subscription


class LoadRequests(Protocol):
    """The client of the poll. Each call raises a PolarisError if it fails, and sends one request at most."""

    async def list_newest(self, wanted: Container[str], offset: int, limit: int) -> NewestPage:
        """Request a page of all jobs, the newest first."""

    async def list_active(self, wanted: Container[str], offset: int, limit: int) -> RawPage:
        """Request a page of the jobs that are not over."""

    async def get_job(self, job_id: str) -> Job:
        """Request a job by id."""


class LoadsPoller(Poller[LoadsWait, Question, list[Job]]):
    """Polls the lists of jobs while there are subscribers.

    :param client: sends the requests.
    """

    def __init__(self, client: LoadRequests) -> None:
        self._client = client
        super().__init__()

    def subscribe(
        self,
        choice: LoadChoice,
        pace: Pace,
        deadline: float,
        *,
        read_from: float | None,
        running: Iterable[str] = (),
        first: float = 0.0,
    ) -> Subscription[LoadsWait, list[Job]]:
        """Poll for loads until the subscription is closed. The parameters are those of :class:`LoadsWait`."""
        now = clock.monotonic()
        return self.start(LoadsWait(choice, pace, deadline, read_from=read_from, running=running, now=now, first=first))

    def new_plan(self) -> LoadsPlan:
        """Return a plan without waits."""
        return LoadsPlan()

    async def ask(self, question: Question) -> NewestPage | RawPage | Job:
        """Request a page of a list, or a job by id."""
        if isinstance(question, AskLoads):
            return await self._client.list_newest(question.tables, question.offset, question.limit)
        if isinstance(question, AskList):
            return await self._client.list_active(question.wanted, question.offset, question.limit)
        return await self._client.get_job(question.job_id)
