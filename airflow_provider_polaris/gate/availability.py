"""Whether loaded data can be queried: the ``availability`` of a job's table. Pure.

The vendor documents ``available`` as "all data can be queried". How soon after a load a table becomes ``unavailable``
is not documented, so one ``available`` may describe the table before the load. The gate therefore needs two checks,
some time apart. Two checks are the best available evidence, not proof.
"""

from __future__ import annotations

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.models import JobType, Table
from airflow_provider_polaris.api.parsing import clip
from airflow_provider_polaris.gate.decision import Decision, Verdict
from airflow_provider_polaris.gate.outage_tolerance import SECOND_CHECK_SECONDS

#: ``available`` counts if two checks return it, at least this much apart, without another state in between.
CHECKS_APART_SECONDS = 30.0

AVAILABLE = "available"
UNAVAILABLE = "unavailable"
DELETING = "deleting"
#: Stands for a 404. The service has no such value.
MISSING = "no such table"


def check_leaves_table(job_type: JobType | None) -> None:
    """Raise PolarisUsageError for a type of job that leaves no table to wait for."""
    if job_type is not None and job_type.drops_table:
        raise PolarisUsageError("wait_until_available is for jobs that leave a table: a drop_table job does not")


def judge(name: str, state: str | None) -> Decision:
    """Return what a gate decides if all checks of the table return this state."""
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
    """The states of a table during one wait, since its job completed."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: The last state: the service's, or :data:`MISSING`. ``None`` if not reported, or before the first check.
        self.state: str | None = None
        self._since: float | None = None

    def table_polled(self, table: Table | None, now: float) -> Decision:
        """Record a response. Return what the gate decides.

        :param table: ``None`` for a 404.
        """
        state = table.availability if table else MISSING
        if self._since is None or state != self.state:
            self.state, self._since = state, now
        decision = judge(self.name, state)
        if self.second_check_in(now) > 0:
            return Decision(Verdict.WAIT, f"{decision.reason}. A second check must confirm that")
        return decision

    def second_check_in(self, now: float) -> float:
        """Return after how many seconds a second check decides; 0 if the usual interval is soon enough."""
        needed = {AVAILABLE: CHECKS_APART_SECONDS, MISSING: SECOND_CHECK_SECONDS}.get(self.state or "", 0.0)
        # Capped, since a clock may be set back.
        return 0.0 if self._since is None else min(needed, max(0.0, self._since + needed - now))

    def __str__(self) -> str:
        if self._since is None:
            return ""
        reason = judge(self.name, self.state).reason
        return f"{reason} in one check, and not yet in a second" if self.state == AVAILABLE else reason
