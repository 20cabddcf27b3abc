"""Bad answers on demand: what a test or a rehearsal wants to go wrong with the next requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Fault:
    """What happens to the next ``times`` requests that match, instead of or around their right answer.

    :param match: a regular expression searched for in ``"METHOD /path"``; everything by default.
    :param status: answer this, with ``body`` or, without one, an error in the service's shape.
    :param delay: wait so many seconds first.
    :param cut: ``"before"`` the request is looked at, ``"after"`` it was carried out but not answered, or
        ``"mid-body"``.
    """

    times: int
    match: str = ""
    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: str | None = None


class Faults:
    """The faults still to come, first in first out. Safe to fill from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Queue one."""
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Let everything go right again."""
        with self._lock:
            self._waiting.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault for this request, if there is one, and count it."""
        with self._lock:
            for fault in self._waiting:
                if re.search(fault.match, f"{method} {path}"):
                    fault.times -= 1
                    if fault.times <= 0:
                        self._waiting.remove(fault)
                    return fault
        return None
