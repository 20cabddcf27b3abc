"""Faults on demand: errors, delays and cut connections for the next requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

#: The delay of a request that hangs, in seconds.
HANG_SECONDS = 7 * 24 * 3600.0


@dataclass
class Fault:
    """A fault of the next ``times`` requests that match.

    :param match: a regular expression searched for in ``"METHOD /path"``; it matches every request by default.
    :param status: the status of the response, with ``body`` or, without one, an error in the service's shape.
    :param delay: seconds to wait before the request is carried out.
    :param cut: when the connection is cut: ``"before"`` the request is read, ``"after"`` it was carried out but not
        answered, or ``"mid-body"``.
    """

    times: int = 1
    match: str = ""
    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: str | None = None

    def __post_init__(self) -> None:
        re.compile(self.match)
        if self.times < 1:
            raise ValueError("times must be 1 or more")
        if self.cut not in (None, "before", "after", "mid-body"):
            raise ValueError(f"A connection is cut before, after or mid-body, not {self.cut!r}")
        if not 0 <= self.delay <= HANG_SECONDS:
            raise ValueError(f"A delay is 0 to {HANG_SECONDS:.0f} seconds")


class Faults:
    """The faults that no request has had yet, first in first out. Other threads may add to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting: list[Fault] = []
        #: How often all faults were removed. A request that waits for its fault then ends its wait.
        self.cleared = 0

    def add(self, fault: Fault) -> None:
        """Add a fault."""
        with self._lock:
            self.waiting.append(fault)

    def clear(self) -> None:
        """Remove all faults, also those that a request has and waits for."""
        with self._lock:
            self.waiting.clear()
            self.cleared += 1

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault of this request, ``None`` if there is none, and count it."""
        with self._lock:
            for fault in self.waiting:
                if re.search(fault.match, f"{method} {path}"):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.waiting.remove(fault)
                    return fault
        return None
