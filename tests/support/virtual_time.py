"""The clock of the tests. It jumps to the next event when all code waits, on a worker and on an event loop."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_polaris import clock

EPOCH = 1_800_000_000.0
#: More turns of an event loop, or sleeps of a worker, are an endless loop.
TOO_MANY = 20_000


class Spins(BaseException):
    """An event loop runs without an end while no time passes."""


class VirtualClock:
    """A clock that moves only when somebody waits.

    ``time`` is the wall clock, in seconds since the epoch; a test may set it. ``moved`` is what the monotonic clock
    shows. ``slept`` is how long each wait was, and ``on_sleep`` is called after each.
    """

    def __init__(self) -> None:
        self.time = EPOCH
        self.moved = 0.0
        self.slept: list[float] = []
        self.on_sleep: Callable[[], Any] | None = None

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.moved

    def sleep(self, seconds: float) -> None:
        assert len(self.slept) < TOO_MANY, "this wait never ends"
        self.slept.append(seconds)
        self.time += seconds
        self.moved += seconds
        if self.on_sleep:
            self.on_sleep()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Replace the provider's clock, and the clock of each new event loop."""
        before = clock.now, clock.monotonic, clock.sleep
        clock.now, clock.monotonic, clock.sleep = self.now, self.monotonic, self.sleep
        policy = asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(_Policy(self))
        try:
            yield
        finally:
            asyncio.set_event_loop_policy(policy)
            clock.now, clock.monotonic, clock.sleep = before


class _Policy(asyncio.DefaultEventLoopPolicy):
    def __init__(self, virtual: VirtualClock) -> None:
        super().__init__()
        self._virtual = virtual

    def new_event_loop(self) -> Loop:
        return Loop(self._virtual)


class _Selector(selectors.SelectSelector):
    """Moves the clock instead of waiting for a timer. Waits for threads in real time."""

    loop: Loop

    def __init__(self) -> None:
        super().__init__()
        self._turns = 0

    def select(self, timeout=None):
        is_idle = timeout is None or timeout > 0
        if is_idle and self.loop.in_threads:
            return super().select(0.01)  # real time: a thread may move the clock as well
        ready = super().select(0)
        if is_idle and not ready and timeout is not None:
            self.loop.virtual.sleep(timeout)
            self._turns = 0
        self._turns += 1
        if self._turns > TOO_MANY:
            raise Spins(f"{self.loop.virtual.moved:.2f} s after the beginning")
        return ready


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time is a virtual clock."""

    def __init__(self, virtual: VirtualClock) -> None:
        selector = _Selector()
        selector.loop = self
        self.virtual = virtual
        #: Calls of this loop that run in threads. The clock does not move while there are any.
        self.in_threads = 0
        super().__init__(selector)

    def time(self) -> float:
        return self.virtual.moved

    def run_in_executor(self, executor, func, *args):
        future = super().run_in_executor(executor, func, *args)
        self.in_threads += 1
        future.add_done_callback(self._thread_is_done)
        return future

    def _thread_is_done(self, _: Any) -> None:
        self.in_threads -= 1

    @property
    def moved(self) -> float:
        return self.virtual.moved


def play(story: Callable[[Loop], Coroutine[Any, Any, Any]]) -> Any:
    """Run a story on a new event loop. Check that no task remains, and that no error was left unread."""
    virtual = VirtualClock()
    with virtual.installed():
        loop, complaints = Loop(virtual), []
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        try:
            return loop.run_until_complete(story(loop))
        finally:
            left = asyncio.all_tasks(loop)
            loop.close()
            assert not left, "a task still runs after the story"
            assert not complaints
