"""The figures of a run, their limits, and the table. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measurement.

    :param name: what was measured.
    :param value: the result.
    :param limit: the most that the value may be; ``None`` if the value only informs.
    :param least: the least that the value may be; ``None`` for no such limit.
    :param unit: the unit, after both numbers.
    :param digits: the decimals of both numbers.
    """

    name: str
    value: float
    limit: float | None = None
    least: float | None = None
    unit: str = ""
    digits: int = 0

    @property
    def is_within(self) -> bool:
        """Whether the value keeps its limits."""
        return (self.limit is None or self.value <= self.limit) and (self.least is None or self.value >= self.least)

    def number(self, value: float) -> str:
        """Return a number as the table shows it."""
        return f"{value:,.{self.digits}f} {self.unit}".rstrip()

    @property
    def limits(self) -> str:
        """What the value may be."""
        if self.limit is not None and self.limit == self.least:
            return f"exactly {self.number(self.limit)}"
        most = "" if self.limit is None else f"at most {self.number(self.limit)}"
        least = "" if self.least is None else f"at least {self.number(self.least)}"
        return ", ".join(filter(None, (least, most)))


@dataclass
class Report:
    """The figures in their order."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: float, **rest: Any) -> None:
        """Add a figure: see :class:`Figure`."""
        self.figures.append(Figure(name, value, **rest))

    def exactly(self, name: str, value: float, expected: float, **rest: Any) -> None:
        """Add a figure that has one right value."""
        self.add(name, value, limit=expected, least=expected, **rest)

    @property
    def faults(self) -> list[str]:
        """The figures that exceed their limits."""
        return [
            f"{one.name}: {one.number(one.value)}, and the limit is {one.limits}"
            for one in self.figures
            if not one.is_within
        ]

    def table(self) -> str:
        """Return the figures in Markdown."""
        return "\n".join(["| measurement | result | limit |", "| --- | ---: | --- |", *_rows(self.figures)])

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {"figures": [asdict(one) for one in self.figures], "faults": self.faults}


def _rows(figures: Iterable[Figure]) -> list[str]:
    return [f"| {one.name} | {one.number(one.value)} | {one.limits} |" for one in figures]
