"""The table that a comparison prints, and the failures below it."""

from __future__ import annotations

import time
from collections.abc import Iterable

#: How many lines of each kind of failure are printed.
_SHOWN = 40


class Report:
    """The table that is printed, and the failures below it."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.failures: list[tuple[str, list[str]]] = []

    def row(self, name: str, text: str) -> None:
        """Print one line of the table."""
        print(f"{time.monotonic() - self._started:4.0f} s  {name:34}{text}", flush=True)

    def fail(self, name: str, lines: Iterable[str]) -> None:
        """Keep a failure, if there are lines that describe it."""
        if found := list(lines):
            self.failures.append((name, found))

    def end(self) -> int:
        """Print the failures; return the exit status."""
        for name, lines in self.failures:
            print(f"\n{name}: {len(lines)}")
            print("\n".join(f"  {line}" for line in lines[:_SHOWN]))
            if len(lines) > _SHOWN:
                print(f"  and {len(lines) - _SHOWN} more")
        return 1 if self.failures else 0
