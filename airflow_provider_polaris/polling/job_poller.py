"""JobPoller: one poll for all the jobs that the triggers of an event loop wait for on a connection and project.

Few jobs are asked for by id. Many are looked up in the list of all jobs that are not over: one request for a thousand
of them. The list is only ever a hint that nothing happened: what it does not show, or shows in a state that would end a
wait, is asked for by id, and that answer decides.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisError, PolarisUnreachable
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.decision import Condition
from airflow_provider_polaris.polling.by_id import ByIdPoller, in_turns, is_service_wide
from airflow_provider_polaris.polling.list_policy import PAGE_COST, JobListPolicy
from airflow_provider_polaris.polling.subscription import Pace, Subscription

if TYPE_CHECKING:
    from airflow_provider_polaris.polling.shared_client import SharedClient

log = logging.getLogger(__name__)

Rows = Mapping[str, Mapping[str, Any]]


class _TooLong(Exception):
    """The list has so many pages that ids are cheaper. The number of pages that were read is its argument."""


class JobPoller:
    """Polls for its subscribers, as long as there are any. It belongs to one event loop.

    :param client: asks, in threads.
    """

    def __init__(self, client: SharedClient) -> None:
        self._client = client
        self._jobs: dict[str, list[Subscription]] = {}
        self._list_policy = JobListPolicy()
        self._turn = 0
        #: Jobs that the last list did not show.
        self._missing: set[str] = set()
        self._fault: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self._sleeper: asyncio.Future[None] | None = None

    def subscribe(
        self, job_id: str, gate: Condition, pace: Pace, deadline: float, *, first: float = 0.0, known: Job | None = None
    ) -> Subscription:
        """Watch a job until the subscription is left; see :class:`Subscription`."""
        subscription = Subscription(self, job_id, gate, pace, deadline, first=first, known=known)
        self._jobs.setdefault(subscription.key, []).append(subscription)
        self._list_policy.hurry(pace.interval)
        if self._task is None:
            self._fault = None
            # In an empty context: what it says of all is not to land in the log of the task that came first.
            create = asyncio.get_running_loop().create_task
            self._task = contextvars.Context().run(create, self._run())
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
        self.wake()  # those that are left may be few enough to be asked for by id

    def wake(self) -> None:
        """Look again who is due. It is cheaper to look in vain than to know when that would be."""
        if self._sleeper:
            self._sleeper.cancel()

    async def _run(self) -> None:
        # No failed poll: nobody is left to poll again.
        fault: BaseException = PolarisError("The poll was stopped")
        run = asyncio.current_task()
        by_id = ByIdPoller(self._client, self._id_of, self._answered, partial(self._break, run))
        listening: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(0)  # those that begin together are asked for together
                if self._fault is not None:
                    break
                now, by_list = clock.now(), self._goes_by_list()
                due, wake_at, interval = self._look_at_all(by_id, now, by_list=by_list)
                self._list_policy.hurry(interval)  # a clock may be set back
                if not by_list:
                    self._list_policy.warn_if_too_long(len(self._jobs))
                elif listening is None or listening.done():  # its end wakes this
                    due_at = self._list_policy.due_at(len(self._jobs))
                    if due_at <= now:
                        self._list_policy.schedule(interval)
                        listening = asyncio.ensure_future(self._poll_by_list(by_id, interval))
                        listening.add_done_callback(partial(self._listened, run))
                    else:
                        wake_at = min(wake_at, due_at)
                by_id.ask(due)
                by_id.probe(interval)
                await self._sleep_until(min(wake_at, by_id.wake_at))
            fault = self._fault
        except Exception as error:  # noqa: BLE001 - told to all, below
            fault = error
        finally:
            by_id.stop()
            if listening:
                listening.cancel()
            if self._task is asyncio.current_task():
                self._end(fault)

    def _end(self, fault: BaseException) -> None:
        """Tell all that there is no poll any more."""
        self._task = self._fault = None
        if not isinstance(fault, PolarisError):
            log.error("The poll of Polaris jobs broke", exc_info=fault)
        for subscription in self._subscriptions():
            subscription.tell(fault if isinstance(fault, Exception) else PolarisError("The poll was stopped"))

    def _break(self, run: asyncio.Task[None] | None, fault: BaseException) -> None:
        if run is self._task:  # and not one that the last to leave has stopped
            self._fault = fault
            self.wake()

    def _listened(self, run: asyncio.Task[None] | None, listening: asyncio.Task[None]) -> None:
        if not listening.cancelled() and (fault := listening.exception()):
            self._break(run, fault)
        self.wake()

    def _look_at_all(self, by_id: ByIdPoller, now: float, *, by_list: bool) -> tuple[list[str], float, float]:
        """Return the jobs that it is time to ask for by id, when it is time for the next, and the shortest interval."""
        due, wake_at, interval = [], math.inf, math.inf
        for key, subscriptions in self._jobs.items():
            at = math.inf
            for one in subscriptions:
                at = min(at, one.wake_at(now, by_list=by_list))
                interval = min(interval, one.pace.interval)
            if by_id.is_asking(key):
                continue
            if at <= now:
                due.append(key)
            else:
                wake_at = min(wake_at, at)
        return due, wake_at, interval

    async def _sleep_until(self, until: float) -> None:
        sleeper = self._sleeper = asyncio.ensure_future(clock.sleep_async(max(0.0, until - clock.now())))
        try:
            await asyncio.wait({sleeper})
            if not sleeper.cancelled():
                sleeper.result()
        finally:
            sleeper.cancel()
            if self._sleeper is sleeper:  # and not that of a poll that has begun since this one was stopped
                self._sleeper = None

    def _subscriptions(self) -> list[Subscription]:
        return [one for subscriptions in self._jobs.values() for one in subscriptions]

    def _goes_by_list(self) -> bool:
        return self._list_policy.suits(len(self._jobs))

    def _id_of(self, key: str) -> str | None:
        return self._jobs[key][0].job_id if key in self._jobs else None

    def _answered(self, key: str, at: float, answer: Job | PolarisError) -> None:
        self._tell(key, at, answer)
        self.wake()

    def _tell(self, key: str, at: float, answer: Job | PolarisError) -> None:
        if key in self._missing and isinstance(answer, Job) and not answer.execution_status.is_over:
            self._list_policy.hidden += 1
        self._missing.discard(key)
        for subscription in self._jobs.get(key, []):
            subscription.was_asked_for(at, answer)

    async def _poll_by_list(self, by_id: ByIdPoller, interval: float) -> None:
        """Read the list, and ask for one job by id beside it."""
        if self._list_policy.hidden > max(PAGE_COST, len(self._jobs) // 2):
            self._go_by_ids("it does not show jobs that are active")
            return
        self._list_policy.hidden = 0
        self._missing.clear()
        self._turn += 1
        watched = list(self._jobs)
        if not watched:  # they have all left since this was begun
            return
        sample = self._list_policy.suspect or watched[self._turn % len(watched)]
        others = [key for key in watched if key != sample]
        at = clock.now()
        asking = self._read_list(sample), self._client.get_job(self._id_of(sample) or sample)
        rows, answer = await asyncio.gather(*asking, return_exceptions=True)
        self._list_policy.rest(interval)
        for outcome in (rows, answer):
            if isinstance(outcome, BaseException) and not isinstance(outcome, (PolarisError, _TooLong)):
                raise outcome
        by_id.note(sample, answer)
        self._tell(sample, at, answer)  # type: ignore[arg-type]
        if isinstance(rows, BaseException):
            await self._do_without_list(rows, others, polaris_answers=not is_service_wide(answer))
        elif isinstance(answer, Job) and not self._list_policy.is_trusted(answer, rows.get(sample)):
            self._go_by_ids("it says other things than Polaris does when asked for a job by id")
        else:
            if not isinstance(answer, Job) and not is_service_wide(answer):
                self._list_policy.suspect = None
            await self._heed(rows, others, by_id)

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
                self._list_policy.was_read(pages)
                return rows
            # Weighed against the waits that there are by now: many may have come since the first page was requested.
            if self._list_policy.is_too_long(pages, len(self._jobs)):
                raise _TooLong(pages)

    async def _heed(self, rows: Rows, keys: list[str], by_id: ByIdPoller) -> None:
        """Take in what the list says of these jobs, and ask for those of which it says too little, or too much."""
        asked = []

        def heed(key: str) -> None:
            row = rows.get(key)
            if row is None:
                self._missing.add(key)
                asked.append(key)
            elif True in [one.heed(row) for one in self._jobs.get(key, [])]:
                asked.append(key)

        await in_turns(keys, heed)
        by_id.ask(asked)

    async def _do_without_list(self, error: BaseException, others: list[str], *, polaris_answers: bool) -> None:
        """Tell the failed poll; or go by ids, if it is only the list that does not work."""
        if isinstance(error, _TooLong):
            self._list_policy.was_too_long(error.args[0], len(self._jobs))
            return
        is_busy = isinstance(error, PolarisUnreachable) and error.status == 429
        if not is_service_wide(error) or (polaris_answers and not is_busy and self._list_policy.failed_twice()):
            self._go_by_ids(f"it cannot be read: {error}")
            return
        self._list_policy.put_off(getattr(error, "retry_after", None) or 0.0)
        await in_turns(others, lambda key: self._missed_list(key, error))  # type: ignore[arg-type]

    def _missed_list(self, key: str, error: Exception) -> None:
        for subscription in self._jobs.get(key, []):
            subscription.missed_list(error)

    def _go_by_ids(self, why: str) -> None:
        self._list_policy.give_up(len(self._jobs), why)
        self._list_policy.hidden = 0
        for subscription in self._subscriptions():
            subscription.ask_at = min(subscription.ask_at, clock.now())  # beside its own pace
