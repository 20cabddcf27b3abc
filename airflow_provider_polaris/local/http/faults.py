"""Bad answers on demand: what a test or a rehearsal wants to go wrong with the next requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

#: As long as a request that hangs would be answered after, in seconds.
FOR_EVER = 7 * 24 * 3600.0


@dataclass
class Fault:
    """What happens to the next ``times`` requests that match, instead of or around their right answer.

    :param match: a regular expression searched for in ``"METHOD /path"``; everything by default.
    :param status: answer this, with ``body`` or, without one, an error in the service's shape.
    :param delay: wait so many seconds first.
    :param cut: ``"before"`` the request is looked at, ``"after"`` it was carried out but not answered, or
        ``"mid-body"``.
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
            raise ValueError(f"A line is cut before, after or mid-body, not {self.cut!r}")
        if not 0 <= self.delay <= FOR_EVER:
            raise ValueError(f"A delay is 0 to {FOR_EVER:.0f} seconds")


class Faults:
    """The faults still to come, first in first out. Safe to fill from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Queue one."""
        with self._lock:
            self.waiting.append(fault)

    def clear(self) -> None:
        """Let everything go right again."""
        with self._lock:
            self.waiting.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault for this request, if there is one, and count it."""
        with self._lock:
            for fault in self.waiting:
                if re.search(fault.match, f"{method} {path}"):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.waiting.remove(fault)
                    return fault
        return None
