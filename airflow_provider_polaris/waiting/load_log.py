"""The log of a wait for a load of a table, on a worker and in a triggerer."""

from __future__ import annotations

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisNotFound
from airflow_provider_polaris.api.models import MAX_SUBJECT
from airflow_provider_polaris.api.parsing import clip
from airflow_provider_polaris.gate.load_choice import LoadChoice
from airflow_provider_polaris.waiting.crossing import WaitEvent
from airflow_provider_polaris.waiting.progress_log import Log, PollLog


class LoadLog(PollLog):
    """Logs that a table has no good load yet: once, then every 15 minutes.

    :param refused: the number of loads that the gate has refused.
    """

    missing = "project"

    def __init__(self, choice: LoadChoice, since: str, log: Log, refused: int = 0) -> None:
        super().__init__(f"Table {choice.table!r}", log)
        self.refused = refused
        self._subject = clip(choice.table, MAX_SUBJECT)
        self._since = since

    def list_polled(self) -> None:
        """Record a list of loads that was read, and has no good load."""
        self.polls += 1
        self._answered("loads", self.refused, f"{self.known}. {self.about}", warn=False)

    def load_refused(self) -> None:
        """Count a load that the gate has refused."""
        self.refused += 1

    def resume_event(self, event: WaitEvent) -> None:
        """Continue from a trigger's event."""
        self.refused = event.loads.refused if event.loads else 0
        self.add_polls_of(event)

    def mark_logged(self) -> None:
        """Log the next time only what changes from now on: another process has logged the beginning of the wait."""
        self._logged["loads"] = (self.refused, clock.now())

    @property
    def known(self) -> str:
        """What is known of the table's loads, as a clause."""
        refused = f" ({self.refused:,} refused)" if self.refused else ""
        return f"{self._subject} has no good load since {self._since}{refused}"

    def explain(self, error: PolarisApiError) -> PolarisApiError:
        """Return the error that ends the wait: of the same type, with what is known of the table's loads."""
        lines = str(error).splitlines()
        if not isinstance(error, PolarisNotFound):
            lines.insert(1, f"When last seen, {self.known}")
        return type(error)("\n".join([*lines, self.about]), status=error.status, code=error.code)
