"""What a wait says while it lasts, on a worker and in a triggerer, and what is known of its job when it ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisNotFound, PolarisUnauthorized, sentences
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.decision import Decision, Verdict

#: A wait says that it is still waiting this often, in seconds.
HEARTBEAT = 900.0


class Log(Protocol):
    """What is asked of a logger: Airflow's tasks have a logging.Logger or a structlog one."""

    def log(self, level: int, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...

    def info(self, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...

    def warning(self, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...


@dataclass
class ProgressLog:
    """Says what changed in a wait, not every poll; the same lines on a worker and in a triggerer."""

    job_id: str
    log: Log
    #: Whether to say how the job ended; on a worker, the task's last line does.
    says_end: bool = True
    last: Job | None = None
    #: What was last seen of the job's table, as a clause; empty if nobody looked.
    table: str = ""
    polls: int = 0
    failed_polls: int = 0
    #: Why the last poll had no answer; ``None`` if it had all of them.
    trouble: str | None = None
    #: What was said last of a subject, and when.
    _said: dict[str, tuple[Any, float]] = field(default_factory=dict, repr=False)

    def saw(self, job: Job, decision: Decision) -> None:
        """Note an answer: say it if it is news, or if nothing was said for a while."""
        self.polls += 1
        self.last = job
        if not self.says_end and decision.verdict is not Verdict.WAIT:
            return  # more is asked before that is an outcome, and what is asked may be out of reach
        settled = decision.verdict in {Verdict.WAIT, Verdict.REFUSE}
        told = f"{job} {decision.reason if settled else f'is {job.state}'}"
        self._answered("job", _news(job), told, warn=decision.warn)

    def saw_table(self, state: str, decision: Decision) -> None:
        """Note what a look at the job's table brought; ``state`` is a clause, without what it means for the wait."""
        self.polls += 1
        self.table = state
        if self.says_end or decision.verdict is Verdict.WAIT:
            self._answered("table", decision.reason, f"Job {self.job_id}: {decision.reason}", warn=decision.warn)

    def failed(self, error: PolarisApiError) -> None:
        """Note a poll without an answer that the wait puts up with."""
        self.failed_polls += 1
        self.trouble = str(error)
        if self._is_due("trouble", (type(error), getattr(error, "status", None))):
            self.log.warning("Job %s: %s. %s", self.job_id, _trouble(error), error)

    def resume(self, last: Mapping[str, Any] | None, event: Mapping[str, Any] | None = None) -> None:
        """Take over what was seen where the wait came from, by the worker or by the trigger.

        :param last: the job as last seen, in the form of :meth:`Job.to_event`.
        :param event: the trigger's event. Its counts go into the worker's log: a triggerer's log may be lost.
        """
        if last:
            self.last = Job.from_api(last)
            self._said["job"] = (_news(self.last), clock.now())
        if event:
            self.table = str((event.get("table") or {}).get("seen") or "")
            self.trouble = event.get("trouble")
            self.polls += int(event.get("polls") or 0)
            self.failed_polls += int(event.get("failed_polls") or 0)

    @property
    def is_over(self) -> bool:
        """Whether the job was over when last seen."""
        return self.last is not None and self.last.is_over

    @property
    def last_known(self) -> str:
        """What a wait that ends without a verdict can say."""
        known = (
            f"{self.last} was {self.last.state} when last seen" if self.last else f"Job {self.job_id} was not seen yet"
        )
        known += f", and {self.table}" if self.table else ""
        return known + (f". The last poll failed: {self.trouble}" if self.trouble else "")

    def __str__(self) -> str:
        asked = self.polls + self.failed_polls
        vain = f", {self.failed_polls:,} of them without an answer" if self.failed_polls else ""
        return f"Asked {asked:,} time{'s' if asked != 1 else ''}{vain}."

    def _answered(self, subject: str, news: Any, told: str, *, warn: bool) -> None:
        again = "Polaris answers again. " if self.trouble else ""
        self.trouble = None
        self._said.pop("trouble", None)
        if self._is_due(subject, news) or again:
            self.log.log(logging.WARNING if warn else logging.INFO, "%s%s", again, told)

    def _is_due(self, subject: str, news: Any) -> bool:
        now = clock.now()
        said, said_at = self._said.get(subject, (None, 0.0))
        due = news != said or now - said_at >= HEARTBEAT
        if due:
            self._said[subject] = (news, now)
        return due


def _trouble(error: PolarisApiError) -> str:
    if isinstance(error, PolarisNotFound):
        return "Polaris says that it is not there; asking once more before believing it"
    if isinstance(error, PolarisUnauthorized):
        return "Polaris turns the API key away; looking again for some minutes, in case it is being rotated"
    return "no usable answer; the wait goes on"


def _news(job: Job) -> tuple[Any, ...]:
    return (job.execution_status, job.health and (job.health.status, job.health.code))


def explain(error: PolarisApiError, job_id: str, last: Job | None) -> PolarisApiError:
    """Return the error with which a wait gives up, of the same kind, naming the job and what is known of it."""
    known = [f"When last seen it was {last.state}" if last else "This task has not seen it yet"]
    if isinstance(error, PolarisNotFound) and last:
        known.append("So it was there: has it been deleted, or does another project or service answer at this address?")
    elif not isinstance(error, PolarisNotFound) and not (last and last.is_over):
        known.insert(0, "The job itself may be running on")
    return type(error)(sentences(f"Job {job_id}: {error}", *known), status=error.status, code=error.code)
