"""Waiting for a job on a worker: look, judge, gather what the verdict needs, and report. One place for every task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from airflow_provider_polaris import clock
from airflow_provider_polaris.errors import (
    PolarisApiError,
    PolarisAuthError,
    PolarisNotFound,
    PolarisUnreachable,
)
from airflow_provider_polaris.gate import Decision, Gate, Verdict, decide, wants_logs
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.jobs import Job, JobMetrics, LogEntry
from airflow_provider_polaris.patience import Patience

T = TypeVar("T")

#: A wait says that it is still waiting this often, in seconds.
HEARTBEAT = 900.0
#: Counters may trail the status: how long they are read again before a gate refuses for want of them, in seconds.
SETTLE = 30.0
#: Log lines that go into a refusal's message.
LOG_LINES = 5


class Log(Protocol):
    """What is asked of a logger: Airflow's tasks have a logging.Logger or a structlog one."""

    def log(self, level: int, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...

    def info(self, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...

    def warning(self, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...


@dataclass
class WaitLog:
    """Says what changed in a wait, not every poll; the same lines on a worker and in a triggerer."""

    job_id: str
    log: Log
    #: Whether to say how the job ended; on a worker, the task's last line does.
    says_end: bool = True
    last: Job | None = None
    polls: int = 0
    failed_polls: int = 0
    #: Why the last poll had no answer; ``None`` if it had one.
    trouble: str | None = None
    _said: tuple[Any, ...] = ()
    _said_at: float = field(default=0.0, repr=False)

    def saw(self, job: Job, decision: Decision) -> None:
        """Note an answer: say it if it is news, or if nothing was said for a while."""
        self.polls += 1
        self.last = job
        again = "Polaris answers again. " if self.trouble else ""
        self.trouble = None
        if self._is_due(_news(job)) and (self.says_end or decision.verdict is Verdict.WAIT):
            settled = decision.verdict in {Verdict.WAIT, Verdict.REFUSE}
            level = logging.WARNING if decision.warn else logging.INFO
            self.log.log(level, "%s%s %s", again, job, decision.reason if settled else f"is {job.state}")

    def failed(self, error: PolarisApiError) -> None:
        """Note a poll without an answer that the wait puts up with."""
        self.failed_polls += 1
        self.trouble = str(error)
        if self._is_due((type(error), getattr(error, "status", None))):
            self.log.warning("Job %s: %s. %s", self.job_id, _trouble(error), error)

    def resume(self, last: Mapping[str, Any] | None, event: Mapping[str, Any] | None = None) -> None:
        """Take over what was seen where the wait came from, by the worker or by the trigger.

        :param last: the job as last seen, in the form of :meth:`Job.to_event`.
        :param event: the trigger's event. Its counts go into the worker's log: a triggerer's log may be lost.
        """
        if last:
            self.last = Job.from_api(last)
            self._said, self._said_at = _news(self.last), clock.now()
        if event:
            self.trouble = event.get("trouble")
            self.polls += int(event.get("polls") or 0)
            self.failed_polls += int(event.get("failed_polls") or 0)

    @property
    def last_known(self) -> str:
        """What a wait that ends without a verdict can say."""
        known = (
            f"{self.last} was {self.last.state} when last seen" if self.last else f"Job {self.job_id} was not seen yet"
        )
        return known + (f". The last poll failed: {self.trouble}" if self.trouble else "")

    def __str__(self) -> str:
        asked = self.polls + self.failed_polls
        vain = f", {self.failed_polls:,} of them without an answer" if self.failed_polls else ""
        return f"Asked {asked:,} time{'s' if asked != 1 else ''}{vain}."

    def _is_due(self, news: tuple[Any, ...]) -> bool:
        now = clock.now()
        due = news != self._said or now - self._said_at >= HEARTBEAT
        if due:
            self._said, self._said_at = news, now
        return due


def _trouble(error: PolarisApiError) -> str:
    if isinstance(error, PolarisNotFound):
        return "Polaris says that it is not there; asking once more before believing it"
    if isinstance(error, PolarisAuthError):
        return "Polaris turns the API key away; looking again for some minutes, in case it is being rotated"
    return "no usable answer; the wait goes on"


def _news(job: Job) -> tuple[Any, ...]:
    return (job.execution_status, job.health and (job.health.status, job.health.code))


def explain(error: PolarisApiError, job_id: str, last: Job | None) -> PolarisApiError:
    """Return the error with which a wait gives up, of the same kind, naming the job and what is known of it."""
    known = f"When last seen it was {last.state}" if last else "This task has not seen it yet"
    if not isinstance(error, PolarisNotFound):
        known = f"The job itself may be running on. {known}"
    return type(error)(f"Job {job_id}: {error}. {known}", status=error.status, code=error.code)


@dataclass(frozen=True)
class Ending:
    """How a wait ended: the gate's decision, what it was based on, and the dict that goes to XCom."""

    job: Job
    decision: Decision
    metrics: JobMetrics | None = None
    log_lines: tuple[LogEntry, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether downstream tasks may run. Fails closed: what is undecided to the end did not pass."""
        return self.decision.verdict is Verdict.PASS

    @property
    def result(self) -> dict[str, Any]:
        """The XCom, the same in every mode."""
        return self.job.to_dict(self.metrics)

    def __str__(self) -> str:
        counters = f"Counters: {self.metrics or 'not known'}"
        lines = "".join(f"\n  {entry}" for entry in self.log_lines)
        return f"{self.job} {self.decision.reason}. {counters}." + (f" Its log ends with:{lines}" if lines else "")


class Watch:
    """One task's view of one job, as long as the process lives.

    :param patience: what failed polls it puts up with.
    :param interval: seconds between polls; counters that are missing are read again for up to three of them.
    """

    def __init__(
        self,
        hook: PolarisHook,
        job_id: str,
        gate: Gate,
        patience: Patience,
        interval: float,
        log: Log,
    ) -> None:
        self.hook = hook
        self.job_id = job_id
        self.gate = gate
        self.patience = patience
        self.interval = interval
        self.notes = WaitLog(job_id, log, says_end=False)

    def poll(self) -> Ending | None:
        """Ask once. Return the ending, or ``None`` to go on waiting; raise if the wait cannot go on."""
        try:
            job = self._look()
            return self._judge(job) if job else None
        except PolarisApiError as error:
            raise explain(error, self.job_id, self.notes.last) from None

    def judge(self, job: Job) -> Ending | None:
        """Like :meth:`poll`, of a job that the trigger has just seen."""
        try:
            return self._judge(job)
        except PolarisApiError as error:
            raise explain(error, self.job_id, self.notes.last) from None

    def ending_of(self, job: Job, log_lines: tuple[LogEntry, ...] = ()) -> Ending:
        """Return the job as it stands, with the counters that can be had: nothing waits for them here."""
        metrics = self._if_possible(self.hook.get_job_metrics)
        return Ending(job, decide(job, self.gate), metrics, log_lines)

    def _look(self) -> Job | None:
        """Return the job; ``None`` if it could not be asked for and the next poll may fare better."""
        while True:
            try:
                return self.hook.get_job(self.job_id, retry=False)
            except PolarisApiError as error:
                delay = self._bear(error)
            if delay is None:
                return None
            clock.sleep(delay)

    def _bear(self, error: PolarisApiError) -> float | None:
        delay = self.patience.failed(error, clock.now())
        self.notes.failed(error)
        return delay

    def _judge(self, job: Job) -> Ending | None:
        """Return what the gate makes of the job, with the counters and logs that takes; ``None`` to go on waiting."""
        self.patience.worked = True
        decision = decide(job, self.gate)
        self.notes.saw(job, decision)
        if decision.verdict is Verdict.WAIT:
            self.patience.succeeded()
            return None
        if decision.verdict is not Verdict.UNDECIDED:
            refused = decision.verdict is Verdict.REFUSE
            return self.ending_of(job, self._log_lines_if_possible() if refused else ())
        try:
            ending = self._weigh(job)
        except (PolarisUnreachable, PolarisAuthError) as error:
            # What decides is out of reach: one more failed poll, like any other.
            self._bear(error)
            return None
        self.patience.succeeded()
        return ending

    def _weigh(self, job: Job) -> Ending:
        """Read counters, and logs where they matter, until the gate decides or they had time enough to settle."""
        give_up_at = clock.now() + min(SETTLE, 3 * self.interval)
        pause = max(1.0, min(self.interval, 5.0))
        while True:
            metrics = self._allowed(self.hook.get_job_metrics)
            logs = self._allowed(self.hook.get_job_logs) if wants_logs(job, self.gate) else None
            codes = None if logs is None else {entry.code for entry in logs if entry.code}
            decision = decide(job, self.gate, metrics, codes)
            if decision.verdict is Verdict.PASS:
                return Ending(job, decision, metrics)
            if decision.verdict is Verdict.REFUSE or clock.now() + pause > give_up_at:
                return Ending(job, decision, metrics, self._log_lines_if_possible())
            clock.sleep(pause)

    def _allowed(self, read: Callable[[str], T]) -> T | None:
        """Return what Polaris tells of the job, ``None`` if it will not. Raises only what time may cure."""
        try:
            return read(self.job_id)
        except (PolarisUnreachable, PolarisAuthError):
            raise
        except PolarisApiError as error:
            self.notes.log.warning("Job %s: %s", self.job_id, error)
            return None

    def _log_lines_if_possible(self) -> tuple[LogEntry, ...]:
        # Asked for once: the reason of a refusal is in the job itself.
        return tuple((self._if_possible(partial(self.hook.get_job_logs, retry=False)) or [])[-LOG_LINES:])

    def _if_possible(self, read: Callable[[str], T]) -> T | None:
        """Return what would be good to tell. That it cannot be read must not hide what happened to the job."""
        try:
            return read(self.job_id)
        except PolarisApiError as error:
            self.notes.log.warning("Job %s: %s", self.job_id, error)
            return None
