"""The time, and functions that wait. Tests replace them here to move the clock instead of waiting.

Deadlines are wall-clock time, because a deferred wait may continue in another process. Pauses inside one process are
monotonic time, which no change of the system clock affects.
"""

from __future__ import annotations

import asyncio
import time


def now() -> float:
    """Return the wall-clock time, in seconds since the epoch."""
    return time.time()


def monotonic() -> float:
    """Return seconds that only increase, and that only this process can compare."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Wait on a worker."""
    time.sleep(seconds)


async def sleep_async(seconds: float) -> None:
    """Wait in a triggerer."""
    await asyncio.sleep(seconds)
