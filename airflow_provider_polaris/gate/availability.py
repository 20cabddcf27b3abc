"""Whether what a job has loaded can be queried: its table's ``availability``. Pure.

The vendor documents ``available`` as "all data can be queried". It does not say how soon after a load a table says
``unavailable``: one look that says ``available`` may be older than the load. Hence two, some time apart; that is the
best evidence there is, not proof.
"""

from __future__ import annotations

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.models import JobType, Table
from airflow_provider_polaris.api.parsing import clip
from airflow_provider_polaris.gate.decision import Decision, Verdict
from airflow_provider_polaris.gate.outage_tolerance import SECOND_LOOK

#: ``available`` counts when it is seen twice, so many seconds apart at least, and nothing else in between.
APART = 30.0

AVAILABLE = "available"
UNAVAILABLE = "unavailable"
DELETING = "deleting"
#: What stands for a 404; no value of the service's.
MISSING = "no such table"


def check_leaves_table(job_type: JobType | None) -> None:
    """Raise PolarisUsageError for a job after which there is no loaded data to wait for."""
    if job_type is not None and job_type.drops_table:
        raise PolarisUsageError("wait_until_available is for jobs that leave a table: a drop_table job does not")


def judge(name: str, state: str | None) -> Decision:
    """Answer what a gate makes of a table in that state, if it stays so."""
    table = f"table {clip(name, 100)!r}"
    if state == AVAILABLE:
        return Decision(Verdict.PASS, f"{table} is available")
    if state == UNAVAILABLE:
        return Decision(Verdict.WAIT, f"not all data of {table} can be queried yet")
    if state == DELETING:
        return Decision(Verdict.REFUSE, f"{table} is being deleted")
    if state == MISSING:
        return Decision(Verdict.REFUSE, f"Polaris has no {table}: was it dropped, or has another project been asked?")
    if state is None:
        return Decision(Verdict.WAIT, f"Polaris does not tell whether {table} is available", warn=True)
    return Decision(Verdict.WAIT, f"{table} has an availability that this provider does not know: {state!r}", warn=True)


class Readiness:
    """What one wait has seen of a table since its job completed."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: As last seen: a value of the service's, :data:`MISSING`, or ``None``, also before the first look.
        self.state: str | None = None
        self._since: float | None = None

    def saw(self, table: Table | None, now: float) -> Decision:
        """Note a look at the table, ``None`` for a 404, and answer what the gate does next."""
        state = table.availability if table else MISSING
        if self._since is None or state != self.state:
            self.state, self._since = state, now
        decision = judge(self.name, state)
        if self.second_look_in(now) > 0:
            return Decision(Verdict.WAIT, f"{decision.reason}; looking once more before believing it")
        return decision

    def second_look_in(self, now: float) -> float:
        """Return after how many seconds another look settles what the last one saw; 0 if the usual interval will do."""
        needed = {AVAILABLE: APART, MISSING: SECOND_LOOK}.get(self.state or "", 0.0)
        # Capped, since a clock may be set back.
        return 0.0 if self._since is None else min(needed, max(0.0, self._since + needed - now))

    def to_event(self) -> dict[str, str | None]:
        """Return what a worker needs of it, as plain JSON."""
        return {"name": self.name, "state": self.state, "seen": str(self)}

    def __str__(self) -> str:
        if self._since is None:
            return ""
        reason = judge(self.name, self.state).reason
        return f"{reason} at one look, and not yet at a second" if self.state == AVAILABLE else reason
