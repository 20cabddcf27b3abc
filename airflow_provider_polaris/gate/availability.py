"""Whether loaded data can be queried: the ``availability`` of a job's table. Pure.

The vendor documents ``available`` as "all data can be queried". The documentation does not say how soon after a load a
table becomes ``unavailable``, so one ``available`` may be older than the load. The gate therefore needs two, some time
apart. That is the best evidence there is, not proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_polaris.api.errors import PolarisUnreachable, PolarisUsageError
from airflow_provider_polaris.api.models import JobType
from airflow_provider_polaris.api.parsing import clean, clip
from airflow_provider_polaris.gate.decision import Decision, Verdict
from airflow_provider_polaris.gate.outage_tolerance import SECOND_LOOK

#: ``available`` counts if it is seen twice, at least so many seconds apart, without another state in between.
APART = 30.0

AVAILABLE = "available"
UNAVAILABLE = "unavailable"
DELETING = "deleting"
#: What stands for a 404; no value of the service's.
MISSING = "no such table"


@dataclass(frozen=True)
class Table:
    """A table, as ``GET /tables/{name}`` tells it.

    :param availability: ``available``, ``unavailable``, ``deleting``, or a new value; ``None`` if not told.
    :param total_rows: rows after rollup that can be queried; ``None`` if not told.
    :param raw: the answer as it came.
    """

    name: str
    availability: str | None
    total_rows: int | None
    raw: Mapping[str, Any]

    @classmethod
    def from_api(cls, data: Any) -> Table:
        """Read the answer. Raises PolarisUnreachable if it is not a table."""
        name = data.get("name") if isinstance(data, Mapping) else None
        if not isinstance(name, str):
            raise PolarisUnreachable(f"Polaris answered a table that is not one: {clip(repr(data), 100)}")
        availability, rows = data.get("availability"), data.get("totalRows")
        return cls(
            name=clean(name),
            availability=clip(clean(availability), 60) if isinstance(availability, str) else None,
            total_rows=rows if isinstance(rows, int) and not isinstance(rows, bool) else None,
            raw=data,
        )


def check_table_name(name: Any) -> None:
    """Raise PolarisUsageError for what cannot be a table's name. A path of dots would lead elsewhere, quoted or not."""
    if not isinstance(name, str) or not 1 <= len(name) <= 255 or name in {".", ".."}:
        raise PolarisUsageError(f"table must be a name of 1 to 255 characters; it is {repr(name)[:100]}")


def check_leaves_table(job_type: str | None) -> None:
    """Raise PolarisUsageError for a type of job that leaves no loaded data to wait for."""
    if job_type == JobType.DROP_TABLE:
        raise PolarisUsageError("wait_until_available is for jobs that leave a table: a drop_table job does not")


def judge(name: str, state: str | None) -> Decision:
    """Return what a gate decides for a table whose state does not change."""
    table = f"table {clip(name, 100)!r}"
    if state == AVAILABLE:
        return Decision(Verdict.PASS, f"{table} is available")
    if state == UNAVAILABLE:
        return Decision(Verdict.WAIT, f"not all data of {table} can be queried yet")
    if state == DELETING:
        return Decision(Verdict.REFUSE, f"{table} is being deleted")
    if state == MISSING:
        return Decision(Verdict.REFUSE, f"Polaris has no {table}: was it dropped, or is the project wrong?")
    if state is None:
        return Decision(Verdict.WAIT, f"Polaris does not report whether {table} is available", warn=True)
    return Decision(Verdict.WAIT, f"{table} has an availability that this provider does not know: {state!r}", warn=True)


class Readiness:
    """The states of a table that one wait has seen since its job completed."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: The last state: the service's, or :data:`MISSING`. ``None`` if not reported, or before the first check.
        self.state: str | None = None
        self._since: float | None = None

    def saw(self, table: Table | None, now: float) -> Decision:
        """Note a response, ``None`` for a 404, and return what the gate decides."""
        state = table.availability if table else MISSING
        if self._since is None or state != self.state:
            self.state, self._since = state, now
        decision = judge(self.name, state)
        if self.second_look_in(now) > 0:
            return Decision(Verdict.WAIT, f"{decision.reason}. It is checked once more before that counts")
        return decision

    def second_look_in(self, now: float) -> float:
        """Return after how many seconds a second check decides; 0 if the usual interval is soon enough."""
        needed = {AVAILABLE: APART, MISSING: SECOND_LOOK}.get(self.state or "", 0.0)
        # Capped, since a clock may be set back.
        return 0.0 if self._since is None else min(needed, max(0.0, self._since + needed - now))

    def __str__(self) -> str:
        if self._since is None:
            return ""
        reason = judge(self.name, self.state).reason
        return f"{reason} in one check, and not yet in a second" if self.state == AVAILABLE else reason
