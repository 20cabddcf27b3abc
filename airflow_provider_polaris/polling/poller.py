"""Poller: runs a plan of requests for all triggers of an event loop that wait on one connection and project."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisError, PolarisUnreachable
from airflow_provider_polaris.polling.messages import News, Notice, Question, Step

log = logging.getLogger(__name__)

#: How long a request that begins at the deadline may take: less than Airflow's backstop.
LAST_REQUEST_SECONDS = 30.0


class Wait(Protocol):
    """One wait in a plan."""

    #: When the wait ends, in seconds since the epoch.
    deadline: float

    def check_at(self, at: float) -> None:
        """Poll at that time, in monotonic seconds, whatever the pace."""


WaitType = TypeVar("WaitType", bound=Wait)


class Plan(Protocol[WaitType, Question, News]):
    """All decisions of a poll, without I/O. ``now`` is monotonic seconds, and ``wall`` seconds since the epoch."""

    def add(self, wait: WaitType, now: float) -> None:
        """Add a wait."""

    def remove(self, wait: WaitType) -> None:
        """Remove a wait."""

    def due(self, now: float, wall: float) -> Step[WaitType, Question, News]:
        """Return what to send and whom to notify now, and when to call again."""

    def heard(self, question: Question, answer: Any, now: float) -> list[tuple[WaitType, Notice[News]]]:
        """Take the response to a request, or the error with which it ended. Return whom to notify."""


class Poller(Generic[WaitType, Question, News]):
    """Polls while there are subscribers."""

    def __init__(self) -> None:
        self._plan = self.new_plan()
        self._subscriptions: dict[WaitType, Subscription[WaitType, News]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sleeper: asyncio.Future[None] | None = None

    def new_plan(self) -> Plan[WaitType, Question, News]:
        """Return a plan without waits."""
        raise NotImplementedError

    async def ask(self, question: Question) -> Any:
        """Send one request. Raises a PolarisError if it fails."""
        raise NotImplementedError

    def start(self, wait: WaitType) -> Subscription[WaitType, News]:
        """Poll for a wait until its subscription is closed."""
        subscription = self._subscriptions[wait] = Subscription(self, wait)
        self._plan.add(wait, clock.monotonic())
        if not self._tasks:
            self._start(self._run())
        self._wake()
        return subscription

    def _check_in(self, wait: WaitType, seconds: float) -> None:
        wait.check_at(clock.monotonic() + seconds)
        self._wake()

    def _leave(self, wait: WaitType) -> None:
        self._subscriptions.pop(wait, None)
        self._plan.remove(wait)
        if self._subscriptions:
            self._wake()  # the remaining waits may be few enough to poll by id
        else:
            self._stop()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0)  # waits that begin at the same time share a request
            step = self._plan.due(clock.monotonic(), clock.now())
            self._deliver(step.notices)
            for question in step.questions:
                self._start(self._ask(question))
            if step.wake_at > clock.monotonic():
                await self._sleep_until(step.wake_at)

    async def _ask(self, question: Question) -> None:
        # Each request is a task of its own. A request that hangs delays no other request.
        answer: Any
        try:
            answer = await self.ask(question)
        except PolarisError as error:
            answer = error
        self._deliver(self._plan.heard(question, answer, clock.monotonic()))
        self._wake()

    def _deliver(self, notices: list[tuple[WaitType, Notice[News]]]) -> None:
        for wait, notice in notices:
            self._subscriptions[wait].deliver(notice)

    async def _sleep_until(self, until: float) -> None:
        sleeper = self._sleeper = asyncio.ensure_future(clock.sleep_async(max(0.0, until - clock.monotonic())))
        try:
            await asyncio.wait({sleeper})
            if not sleeper.cancelled():
                sleeper.result()
        finally:
            sleeper.cancel()

    def _wake(self) -> None:
        if self._sleeper:
            self._sleeper.cancel()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        # In an empty context, so that lines about all waits do not appear in one task's log.
        task = contextvars.Context().run(asyncio.get_running_loop().create_task, coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._end_of)

    def _end_of(self, task: asyncio.Task[None]) -> None:
        fault = PolarisError("The poll was stopped") if task.cancelled() else task.exception()
        if task not in self._tasks:  # the poll of this task was stopped
            return
        self._tasks.discard(task)
        if fault is None:
            return
        if not isinstance(fault, PolarisError):
            log.error("The poll of Polaris jobs failed", exc_info=fault)
        # An error of the API would count as one failed poll, and the waits would continue without a poll.
        if not isinstance(fault, Exception) or isinstance(fault, PolarisApiError):
            fault = PolarisError(str(fault))
        for subscription in self._subscriptions.values():
            subscription.deliver(Notice(fault))
        self._stop()

    def _stop(self) -> None:
        """End the poll. A request under way ends in its thread. The next subscriber starts a new poll."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        self._plan = self.new_plan()
        self._subscriptions.clear()
        self._sleeper = None


class Subscription(Generic[WaitType, News]):
    """A trigger's subscription to the poll. As a context manager, it leaves the poll at the end."""

    __slots__ = ("_inbox", "_poller", "_wait", "_waiter")

    def __init__(self, poller: Poller[WaitType, Any, News], wait: WaitType) -> None:
        self._poller = poller
        self._wait = wait
        # Not a deque, which takes 0.6 KB when it is empty. An inbox rarely has more than one notice.
        self._inbox: list[Notice[News]] = []
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Subscription[WaitType, News]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._poller._leave(self._wait)

    async def next(self) -> tuple[News | PolarisApiError | None, int, bool]:
        """Wait for the next notice, and return its parts: see :class:`Notice`.

        :raises Exception: an error that ends every wait: an undefined connection, a fault of the poll.
        """
        if not self._inbox:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            # The poll keeps the deadline, unless it waits for a response itself. Not wait_for, which loses a
            # cancellation that comes together with the result, up to Python 3.11. Not asyncio.wait, which takes 1 KB.
            left = max(0.0, self._wait.deadline - clock.now())
            timer = loop.call_later(left + LAST_REQUEST_SECONDS, self._stop_waiting)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if not self._inbox:
            return PolarisUnreachable("No response before the deadline"), 0, False
        notice = self._inbox.pop(0)
        if isinstance(notice.answer, Exception) and not isinstance(notice.answer, PolarisApiError):
            raise notice.answer
        return notice.answer, notice.silent_polls, notice.is_listed

    def check_in(self, seconds: float) -> None:
        """Poll for this wait after this many seconds, whatever the pace."""
        self._poller._check_in(self._wait, seconds)

    def deliver(self, notice: Notice[News]) -> None:
        """Hand a notice to the trigger."""
        self._inbox.append(notice)
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
