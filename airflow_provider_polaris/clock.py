"""What time it is and how to wait: the one seam at which the tests move the clock instead of waiting.

Wall-clock seconds throughout: a deferred wait may go on in another process, where a monotonic clock
means something else.
"""

from __future__ import annotations

import asyncio
import time


def now() -> float:
    """Return the wall-clock time, in seconds since the epoch."""
    return time.time()


def sleep(seconds: float) -> None:
    """Wait on a worker."""
    time.sleep(seconds)


async def sleep_async(seconds: float) -> None:
    """Wait in a triggerer."""
    await asyncio.sleep(seconds)
