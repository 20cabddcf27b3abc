"""What a PollPlan sends and notifies: requests for its driver, and notices for its waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from airflow_provider_polaris.api.client import PAGE_LIMIT

#: What a wait is notified of.
News = TypeVar("News")
WaitType = TypeVar("WaitType")
Question = TypeVar("Question")


@dataclass(frozen=True)
class AskJob:
    """A request for one job by id.

    :param key: the id in lower case, as the plan names the job.
    :param job_id: the id as the task gave it.
    :param at: when the request was due, in monotonic seconds.
    """

    key: str
    job_id: str
    at: float


@dataclass(frozen=True)
class AskList:
    """A request for one page of the list of jobs that are not over.

    :param wanted: ids in lower case. The client drops all other rows.
    :param offset: how many jobs precede the page.
    :param limit: the most jobs on the page.
    """

    wanted: frozenset[str]
    offset: int
    limit: int = PAGE_LIMIT


@dataclass(frozen=True)
class AskEnded:
    """A request for one page of the list of jobs that are over. The parameters are those of :class:`AskList`."""

    wanted: frozenset[str]
    offset: int
    limit: int


@dataclass(frozen=True)
class AskLoads:
    """A request for one page of the list of all jobs, the newest first.

    :param tables: the names of the tables whose loads are wanted. The client drops all other rows.
    :param offset: how many jobs precede the page.
    :param limit: the most jobs on the page.
    """

    tables: frozenset[str]
    offset: int
    limit: int


@dataclass(frozen=True)
class Notice(Generic[News]):
    """A message to a wait.

    :param answer: the news, such as the job; the error of a failed poll; or ``None`` if a poll brings no news after
        failed polls.
    :param silent_polls: how many polls without news preceded this one since the last notice.
    :param is_listed: whether only a list has shown that the job is over. A response by id must confirm that.
    """

    answer: News | Exception | None
    silent_polls: int = 0
    is_listed: bool = False


class Step(NamedTuple, Generic[WaitType, Question, News]):
    """The next actions of a poll: send the requests, notify the waits, and call ``due`` at ``wake_at``."""

    questions: list[Question]
    notices: list[tuple[WaitType, Notice[News]]]
    wake_at: float
