"""Behaviours on demand: how the next jobs that a DAG creates complete, fail, hang or flap."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Kind = Literal["complete", "fail", "hang", "flap"]
KINDS: tuple[str, ...] = get_args(Kind)
#: The statuses that the next requests see of a job that flaps, before they see its real status.
FLAPPING = ("running", "unknown") * 3
_FAILURE = {
    "status": "error",
    "code": "internal_error",
    "message": "A test made this job fail",
}


@dataclass
class Behaviour:
    """How the next ``times`` jobs that are created behave.

    A job whose data is read here (``inline``, ``uploaded``) reads its rows as usual, until it fails or hangs. Any other
    job changes its status with each request for it.

    :param kind: ``complete``; ``fail`` after the share ``at`` of the rows; ``hang`` there until it is canceled;
        ``flap`` between ``running`` and ``unknown`` for six requests before it completes.
    :param at: a share of the rows, 0 to 1.
    :param table: only jobs into this table.
    :param metrics: the counters, by the API's names, of a job whose data is not read here.
    :param health: the health with which the job ends.
    """

    kind: Kind
    times: int = 1
    at: float = 0.8
    table: str | None = None
    metrics: Mapping[str, int] = field(default_factory=dict)
    health: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"A job can {', '.join(KINDS)}, not {self.kind!r}")
        if not 0 <= self.at <= 1:
            raise ValueError("at is a share of the rows, 0 to 1")
        if self.times < 1:
            raise ValueError("times must be 1 or more")
        if not all(isinstance(count, int) for count in self.metrics.values()):
            raise ValueError("metrics must be counters")
        if self.health is not None and not isinstance(self.health, Mapping):
            raise ValueError("health must be an object with a status")

    @property
    def final_health(self) -> dict[str, Any]:
        """The health with which the job ends."""
        return dict(self.health or (_FAILURE if self.kind == "fail" else {"status": "ok"}))

    def states(self, job_type: str) -> list[dict[str, Any]]:
        """Return the changes of a job whose data is not read here, one for each request for it."""
        running = {"executionStatus": "running"}
        if self.kind == "hang" or (job_type == "streaming" and self.kind != "fail"):
            return [{}, running]  # a streaming job never completes
        over = "failed" if self.kind == "fail" else "completed"
        return [{}, running, {"executionStatus": over, "health": self.final_health}]


class Behaviours:
    """The behaviours that no job has taken yet, first in first out. Other threads may add to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting: list[Behaviour] = []

    def add(self, behaviour: Behaviour) -> None:
        """Add a behaviour."""
        with self._lock:
            self.waiting.append(behaviour)

    def clear(self) -> None:
        """Remove all behaviours."""
        with self._lock:
            self.waiting.clear()

    def take(self, table: str) -> Behaviour | None:
        """Return and count the behaviour for a job that is created now, ``None`` if no test has set a behaviour."""
        with self._lock:
            for behaviour in self.waiting:
                if behaviour.table in (None, table):
                    behaviour.times -= 1
                    if behaviour.times <= 0:
                        self.waiting.remove(behaviour)
                    return behaviour
        return None
