"""Timestamps in the form of Polaris."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def now() -> float:
    """Return the time, in seconds since the epoch."""
    return time.time_ns() / 10**9


def timestamp() -> str:
    """Return the time in RFC 3339, UTC, with nanoseconds."""
    nanoseconds = time.time_ns()
    seconds = datetime.fromtimestamp(nanoseconds // 10**9, tz=timezone.utc)
    return f"{seconds:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"
