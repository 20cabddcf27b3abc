"""An event loop whose clock moves as soon as nobody has anything to do: a day of polls takes a moment, always alike."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from airflow_provider_polaris import clock

EPOCH = 1_800_000_000.0


class Spins(BaseException):
    """The loop goes round and round, and no time passes."""


class _Selector(selectors.SelectSelector):
    """Instead of waiting, moves its loop's clock."""

    loop: Loop
    #: How often the loop went round since time went by.
    rounds = 0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout:
            self.loop.on_idle()
            self.loop.moved += timeout
            self.rounds = 0
        else:
            self.rounds += 1
            if self.rounds > 20_000:
                raise Spins(f"{self.loop.moved:.2f} s after the beginning")
        return ready


class Loop(asyncio.SelectorEventLoop):
    """Its own clock only goes forward; :attr:`offset` sets the wall clock that the provider reads."""

    offset = 0.0

    def __init__(self) -> None:
        #: Called when nobody has anything to do, before time goes by.
        self.on_idle: Callable[[], None] = lambda: None
        selector = _Selector()
        selector.loop = self
        self.moved = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.moved

    def now(self) -> float:
        """Return the time of the wall clock."""
        return EPOCH + self.moved + self.offset


def play(story: Callable[[Loop], Coroutine[Any, Any, Any]]) -> Any:
    """Run it to its end; it must leave nothing behind, and no error that nobody asks for."""
    loop, right, complaints = Loop(), (clock.now, clock.monotonic, clock.sleep_async), []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    clock.now, clock.monotonic, clock.sleep_async = loop.now, loop.time, asyncio.sleep
    try:
        return loop.run_until_complete(story(loop))
    finally:
        clock.now, clock.monotonic, clock.sleep_async = right
        left = asyncio.all_tasks(loop)
        loop.close()
        assert not left, "nothing is left behind"
        assert not complaints
