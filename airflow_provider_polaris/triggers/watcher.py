"""JobWatcher: one poll for all the jobs that the triggers of an event loop wait for on a connection and project.

Few jobs are asked for by id. Many are looked up in the list of all jobs that are not over: one request for a thousand
of them. The list is only ever a hint that nothing happened: what it does not show, or shows in a state that would end a
wait, is asked for by id, and that answer decides.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.errors import PolarisError, PolarisUnreachable
from airflow_provider_polaris.gate import Gate
from airflow_provider_polaris.jobs import Job
from airflow_provider_polaris.patience import MAX_RETRY_AFTER
from airflow_provider_polaris.triggers.by_id import OUTAGE, Round
from airflow_provider_polaris.triggers.listing import PAGE_COST, Listing
from airflow_provider_polaris.triggers.subscription import Pace, Subscription

if TYPE_CHECKING:
    from airflow_provider_polaris.triggers.client import SharedClient

log = logging.getLogger(__name__)

#: So many triggers are woken, or rows looked at, before others have their turn on the event loop.
AT_ONCE = 25

Rows = Mapping[str, Mapping[str, Any]]


class _TooLong(Exception):
    """The list has so many pages that ids are cheaper."""


class JobWatcher:
    """Polls for its subscribers, as long as there are any. It belongs to one event loop.

    :param client: asks, in threads.
    """

    def __init__(self, client: SharedClient) -> None:
        self._client = client
        self._jobs: dict[str, list[Subscription]] = {}
        self._listing = Listing()
        self._turn = 0
        #: How many answers by id have failed in a row, with an error that others would get as well.
        self._failed = 0
        self._task: asyncio.Task[None] | None = None
        self._sleeper: asyncio.Future[None] | None = None

    def subscribe(
        self, job_id: str, gate: Gate, pace: Pace, deadline: float, *, first: float = 0.0, known: Job | None = None
    ) -> Subscription:
        """Watch a job until the subscription is left; see :class:`Subscription`."""
        subscription = Subscription(self, job_id, gate, pace, deadline, first=first, known=known)
        self._jobs.setdefault(subscription.key, []).append(subscription)
        if self._task is None:
            # In an empty context: what it says of all is not to land in the log of the task that came first.
            create = asyncio.get_running_loop().create_task
            self._task = contextvars.Context().run(create, self._run())
        elif not self._goes_by_list():
            self.wake()
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """Drop a subscription. The last to leave stops the poll."""
        others = self._jobs.get(subscription.key, [])
        if subscription in others:
            others.remove(subscription)
        if not others:
            self._jobs.pop(subscription.key, None)
        if not self._jobs and self._task:
            self._task.cancel()
            self._task = None

    def wake(self) -> None:
        """Look again who is due."""
        if self._sleeper:
            self._sleeper.cancel()

    async def _run(self) -> None:
        fault: Exception = PolarisUnreachable("The poll was stopped")
        try:
            while True:
                await asyncio.sleep(0)  # those that begin together are asked for together
                await self._tick()
                await self._sleep()
        except Exception as error:
            log.exception("The poll of Polaris jobs broke")
            fault = error
        finally:
            if self._task is asyncio.current_task():
                self._task = None
                for subscription in self._subscriptions():
                    subscription.tell(fault)

    async def _tick(self) -> None:
        now = clock.now()
        if self._goes_by_list() and now >= self._listing.next_at:
            await self._poll_by_list()
        by_list = self._goes_by_list()
        due = [
            key
            for key, subscriptions in self._jobs.items()
            if any(one.is_due(now, by_list=by_list) for one in subscriptions)
        ]
        if due and self._failed >= OUTAGE and not by_list:
            due = self._in_turn()  # one finds out for all
        await self._ask(due)

    async def _sleep(self) -> None:
        by_list = self._goes_by_list()
        wake_at = self._listing.next_at if by_list else math.inf
        for one in self._subscriptions():
            wake_at = min(wake_at, one.wake_at(by_list=by_list))
        self._sleeper = asyncio.ensure_future(clock.sleep_async(max(0.0, wake_at - clock.now())))
        try:
            await asyncio.wait({self._sleeper})
            if not self._sleeper.cancelled():
                self._sleeper.result()
        finally:
            self._sleeper.cancel()
            self._sleeper = None

    def _subscriptions(self) -> list[Subscription]:
        return [one for subscriptions in self._jobs.values() for one in subscriptions]

    def _in_turn(self) -> list[str]:
        """Return all jobs that are watched, another one first each time."""
        watched = list(self._jobs)
        self._turn = (self._turn + 1) % len(watched)
        return watched[self._turn :] + watched[: self._turn]

    def _goes_by_list(self) -> bool:
        return self._listing.suits(len(self._jobs))

    async def _ask(self, keys: list[str]) -> int:
        """Ask for these jobs by id, and return how many are not over. In an outage all are told, and few are asked."""
        asking = Round(self._client, keys, self._answered, failed=self._failed)
        await asking.run()
        self._failed = asking.failed
        if asking.trouble:
            await self._tell(asking.left, asking.trouble)
        return asking.active

    def _answered(self, key: str, at: float, answer: Job | PolarisError) -> None:
        for subscription in self._jobs.get(key, []):
            subscription.was_asked_for(at, answer)

    async def _tell(self, keys: Iterable[str], answer: PolarisError) -> None:
        for count, key in enumerate(list(keys)):
            self._answered(key, clock.now(), answer)
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _poll_by_list(self) -> None:
        """Read the list, and ask for one job by id beside it."""
        watched = self._in_turn()
        sample = self._listing.suspect or watched[0]
        others = [key for key in watched if key != sample]
        at = clock.now()
        self._listing.schedule(min(one.pace.interval for one in self._subscriptions()))
        rows, answer = await asyncio.gather(
            self._read_list(sample), self._client.get_job(sample), return_exceptions=True
        )
        for outcome in (rows, answer):
            if isinstance(outcome, BaseException) and not isinstance(outcome, (PolarisError, _TooLong)):
                raise outcome
        self._answered(sample, at, answer)  # type: ignore[arg-type]
        if isinstance(rows, BaseException):
            await self._do_without_list(rows, others, polaris_answers=isinstance(answer, Job))
            return
        self._listing.worked()
        if isinstance(answer, Job) and not self._listing.is_trusted(answer, rows.get(sample)):
            self._go_by_ids("it says other things than Polaris does when asked for a job by id")
            return
        await self._heed(rows, others)

    async def _read_list(self, sample: str) -> Rows:
        rows: dict[str, Mapping[str, Any]] = {}
        watched = frozenset([*self._jobs, sample])  # nobody may wait any more for one that was found to be over
        offset = pages = 0
        while True:
            page = await self._client.list_active(watched, offset)
            rows.update(page.rows)
            offset += page.size
            pages += 1
            if not page.more:
                self._listing.pages = pages
                return rows
            if self._listing.is_too_long(pages, len(watched)):
                raise _TooLong

    async def _heed(self, rows: Rows, keys: list[str]) -> None:
        """Take in what the list says of these jobs, and ask for those of which it says too little, or too much."""
        missing, hinted = [], []
        for count, key in enumerate(keys):
            row = rows.get(key)
            if row is None:
                missing.append(key)
            elif True in [one.heed(row) for one in self._jobs.get(key, [])]:
                hinted.append(key)
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
        missing_yet_active = await self._ask(missing)
        await self._ask(hinted)
        if missing_yet_active > max(PAGE_COST, len(self._jobs) // 2):
            self._go_by_ids("it does not show jobs that are active")

    async def _do_without_list(self, error: BaseException, others: list[str], *, polaris_answers: bool) -> None:
        """Tell the failed poll; or go by ids, if it is only the list that does not work."""
        if isinstance(error, _TooLong):
            self._go_by_ids("the project has so many other active jobs that it costs more")
        elif isinstance(error, PolarisError):
            broken = not isinstance(error, PolarisUnreachable)
            if polaris_answers and (broken or self._listing.failed_twice()):
                self._go_by_ids(f"it cannot be read: {error}")
                return
            self._listing.put_off(min(getattr(error, "retry_after", None) or 0.0, MAX_RETRY_AFTER))
            await self._tell(others, error)

    def _go_by_ids(self, why: str) -> None:
        self._listing.give_up(len(self._jobs), why)
        for subscription in self._subscriptions():
            subscription.due_at = min(subscription.due_at, clock.now())
