"""One reading of a list of jobs, page by page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from airflow_provider_polaris.api.client import MIN_PAGE_LIMIT, RawPage
from airflow_provider_polaris.api.errors import PolarisResponseTooLarge
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.polling.list_policy import PAGE_COST
from airflow_provider_polaris.polling.messages import AskEnded, AskList

Row = Mapping[str, Any]


class ListReading:
    """What is known so far of the list of jobs that are not over, with one job requested by id beside it as a check.

    :param keys: the jobs that are waited for.
    :param sample: the job requested by id. Nobody may wait for it any more, if the list was wrong about it before.
    :param interval: the shortest interval of all waits, in seconds.
    :param page_limit: the most jobs on a page.
    """

    def __init__(self, keys: Sequence[str], sample: str, interval: float, page_limit: int) -> None:
        self.keys = [key for key in keys if key != sample]
        self.sample = sample
        self.interval = interval
        #: The most jobs on a page that can be read.
        self.page_limit = page_limit
        self.pages = 0
        #: The response for the sample, and the error that has ended the reading.
        self.answer: Job | Exception | None = None
        self.failure: Exception | None = None
        self.is_whole = False
        self.is_too_long = False
        self._rows: dict[str, Row] = {}
        self._next_page: AskList | None = AskList(frozenset([*keys, sample]), 0, page_limit)

    @property
    def is_done(self) -> bool:
        """Whether both the list and the sample have responses."""
        return self.answer is not None and (self.is_whole or self.is_too_long or self.failure is not None)

    @property
    def sample_row(self) -> Row | None:
        """The sample's row, ``None`` if the list does not show the sample."""
        return self._rows.get(self.sample)

    def rows(self) -> Iterator[tuple[str, Row | None]]:
        """Yield each job and its row, ``None`` if the list does not show the job. The sample is left out."""
        return ((key, self._rows.get(key)) for key in self.keys)

    def take_next_page(self) -> list[AskList]:
        """Return the request for the next page, once."""
        page, self._next_page = self._next_page, None
        return [page] if page else []

    def heard_sample(self, answer: Job | Exception) -> None:
        """Take the response for the sample."""
        self.answer = answer

    def heard_page(self, question: AskList, answer: RawPage | Exception) -> None:
        """Take a page, or the error with which its request ended. Request a page that is too large in smaller pages."""
        if isinstance(answer, PolarisResponseTooLarge) and question.limit > MIN_PAGE_LIMIT:
            self.page_limit = max(question.limit // 2, MIN_PAGE_LIMIT)
            self._next_page = replace(question, limit=self.page_limit)
            return
        if isinstance(answer, Exception):
            self.failure = answer
            return
        self._rows.update(answer.rows)
        self.pages += 1
        self.is_whole = not answer.more
        if answer.more:
            self._next_page = replace(question, offset=question.offset + answer.size)

    def stop(self) -> None:
        """Read no further page: the list is too long."""
        self.is_too_long = True
        self._next_page = None


class EndedReading:
    """What is known so far of the list of jobs that are over.

    A page must show more of the wanted jobs than its cost in requests by id. Otherwise no further page is read.

    :param keys: the wanted jobs, by id in lower case.
    :param page_limit: the most jobs on a page.
    """

    def __init__(self, keys: Sequence[str], page_limit: int) -> None:
        #: The jobs that no page has shown. At the end, they are requested by id.
        self.left = dict.fromkeys(keys)
        self.is_done = False
        self._next_page: AskEnded | None = AskEnded(frozenset(keys), 0, page_limit)

    def take_next_page(self) -> list[AskEnded]:
        """Return the request for the next page, once."""
        page, self._next_page = self._next_page, None
        return [page] if page else []

    def heard_page(self, question: AskEnded, answer: RawPage | Exception) -> Mapping[str, Row]:
        """Take a page, or the error with which its request ended. Return the rows of the jobs that are new."""
        self.is_done = True
        if isinstance(answer, PolarisResponseTooLarge) and question.limit // 2 > PAGE_COST:
            self._ask(replace(question, limit=question.limit // 2))
        if isinstance(answer, Exception):
            return {}
        rows = {key: row for key, row in answer.rows.items() if key in self.left}
        for key in rows:
            del self.left[key]
        if answer.more and min(len(rows), len(self.left)) > PAGE_COST:
            self._ask(replace(question, offset=question.offset + answer.size))
        return rows

    def _ask(self, page: AskEnded) -> None:
        self._next_page = page
        self.is_done = False
