"""What a wait logs on a worker and in a triggerer, and what is known of its job when the wait ends."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisNotFound, PolarisUnauthorized, sentences
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.decision import Decision, Verdict
from airflow_provider_polaris.waiting.crossing import WaitEvent

#: A wait logs that it is still waiting this often, in seconds.
HEARTBEAT_SECONDS = 900.0


class Log(Protocol):
    """The methods of a logger that are used here. An Airflow task has a logging.Logger or a structlog logger."""

    def log(self, level: int, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...

    def info(self, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...

    def warning(self, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...


@dataclass
class ProgressLog:
    """Logs what changes in a wait, not every poll. The lines are the same on a worker and in a triggerer."""

    job_id: str
    log: Log
    #: Whether to log how the job ended. On a worker the last line of the task does that.
    logs_end: bool = True
    last: Job | None = None
    #: The last known state of the job's table, as a clause; empty if the table was not requested.
    table: str = ""
    polls: int = 0
    failed_polls: int = 0
    #: Why the last poll failed; ``None`` if it did not.
    trouble: str | None = None
    #: What was last logged of a subject, and when.
    _logged: dict[str, tuple[Any, float]] = field(default_factory=dict, repr=False)

    def job_polled(self, job: Job, decision: Decision) -> None:
        """Note a response. Log it if it is news, or if nothing was logged for a while."""
        self.polls += 1
        self.last = job
        if not self.logs_end and decision.verdict is not Verdict.WAIT:
            return  # the counters are still to be read, and that may fail
        is_settled = decision.verdict in {Verdict.WAIT, Verdict.REFUSE}
        line = f"{job} {decision.reason if is_settled else f'is {job.state}'}"
        self._answered("job", _news(job), line, warn=decision.warn)

    def table_polled(self, state: str, decision: Decision) -> None:
        """Note the state of the job's table, as a clause that does not tell what the state means for the wait."""
        self.polls += 1
        self.table = state
        if self.logs_end or decision.verdict is Verdict.WAIT:
            self._answered("table", decision.reason, f"Job {self.job_id}: {decision.reason}", warn=decision.warn)

    def failed(self, error: PolarisApiError) -> None:
        """Note a failed poll that the wait tolerates."""
        self.failed_polls += 1
        self.trouble = str(error)
        if self._is_due("trouble", (type(error), getattr(error, "status", None))):
            self.log.warning("Job %s: %s. %s", self.job_id, _explain_trouble(error), error)

    def resume(self, last: Job | None) -> None:
        """Continue from the job as the worker or the trigger last saw it."""
        if last:
            self.last = last
            self._logged["job"] = (_news(last), clock.now())

    def resume_event(self, event: WaitEvent) -> None:
        """Continue from a trigger's event. Its counts go into the worker's log, since a triggerer's log may be lost."""
        self.resume(event.job)
        self.table = event.table.seen if event.table else ""
        self.trouble = event.trouble
        self.polls += event.polls
        self.failed_polls += event.failed_polls

    @property
    def is_over(self) -> bool:
        """Whether the job was over when last seen."""
        return self.last is not None and self.last.is_over

    @property
    def last_known(self) -> str:
        """What a message can say of the job if the wait ends without a verdict."""
        known = (
            f"{self.last} was {self.last.state} when last seen" if self.last else f"Job {self.job_id} was not seen yet"
        )
        known += f", and {self.table}" if self.table else ""
        return known + (f". The last poll failed: {self.trouble}" if self.trouble else "")

    def __str__(self) -> str:
        polls = self.polls + self.failed_polls
        failed = f", {self.failed_polls:,} of them failed" if self.failed_polls else ""
        return f"Polled {polls:,} time{'s' if polls != 1 else ''}{failed}."

    def _answered(self, subject: str, news: Any, line: str, *, warn: bool) -> None:
        again = "Polaris responds again. " if self.trouble else ""
        self.trouble = None
        self._logged.pop("trouble", None)
        if self._is_due(subject, news) or again:
            self.log.log(logging.WARNING if warn else logging.INFO, "%s%s", again, line)

    def _is_due(self, subject: str, news: Any) -> bool:
        now = clock.now()
        logged, logged_at = self._logged.get(subject, (None, 0.0))
        is_due = news != logged or now - logged_at >= HEARTBEAT_SECONDS
        if is_due:
            self._logged[subject] = (news, now)
        return is_due


def _explain_trouble(error: PolarisApiError) -> str:
    if isinstance(error, PolarisNotFound):
        return "Polaris reports that there is no such job. It is requested once more before the wait ends"
    if isinstance(error, PolarisUnauthorized):
        return "Polaris rejects the API key. The wait continues for some minutes, in case the key is being rotated"
    return "no usable response. The wait continues"


def _news(job: Job) -> tuple[Any, ...]:
    return (job.execution_status, job.health and (job.health.status, job.health.code))


def explain(error: PolarisApiError, job_id: str, last: Job | None) -> PolarisApiError:
    """Return the error that ends a wait: of the same type, with the job and its last known state."""
    known = [f"When last seen it was {last.state}" if last else "This task has not seen it yet"]
    if isinstance(error, PolarisNotFound) and last:
        known.append("So the job existed. Was it deleted, or does another project or service respond at this address?")
    elif not isinstance(error, PolarisNotFound) and not (last and last.is_over):
        known.insert(0, "The job may still be running")
    return type(error)(sentences(f"Job {job_id}: {error}", *known), status=error.status, code=error.code)
