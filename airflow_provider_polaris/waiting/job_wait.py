"""Waiting for a job on a worker: look, judge, gather what the verdict needs, and report. One place for every task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisAuthError,
    PolarisNotFound,
    PolarisUnreachable,
)
from airflow_provider_polaris.api.models import Job, JobMetrics, LogEntry
from airflow_provider_polaris.gate.availability import Readiness, check_leaves_table, judge
from airflow_provider_polaris.gate.decision import Condition, Decision, Gate, Verdict, decide, wants_logs
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.waiting.progress_log import Log, ProgressLog, explain

T = TypeVar("T")

#: Counters may trail the status: how long they are read again before a gate refuses for want of them, in seconds.
SETTLE = 30.0
#: Log lines that go into a refusal's message.
LOG_LINES = 5


@dataclass(frozen=True)
class Outcome:
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


class JobWait:
    """One task's view of one job, as long as the process lives.

    :param tolerance: which failed polls the wait tolerates, and for how long.
    :param interval: seconds between polls; counters that are missing are read again for up to three of them.
    :param table_wait: who looks, once the job is good, whether its table is available: nobody; this process; or a
        trigger, and then :attr:`loaded` is set when it is time to hand over to it.
    """

    def __init__(
        self,
        hook: PolarisHook,
        job_id: str,
        condition: Condition,
        tolerance: OutageTolerance,
        interval: float,
        log: Log,
        table_wait: Literal["here", "in a trigger"] | None = None,
    ) -> None:
        self.hook = hook
        self.job_id = job_id
        self.condition = condition
        self.tolerance = tolerance
        self.interval = interval
        self.table_wait = table_wait
        #: The job, if all that is left to wait for is its table.
        self.loaded: Job | None = None
        self.notes = ProgressLog(job_id, log, says_end=False)
        self._readiness: Readiness | None = None
        #: How the wait would have ended but for the table.
        self._held: Outcome | None = None

    def poll(self) -> Outcome | None:
        """Ask once. Return the outcome, or ``None`` to go on waiting; raise if the wait cannot go on."""
        try:
            if self._held:
                return self._bearing(partial(self._with_table, self._held, None))
            job = self._look()
            return self._judge(job) if job else None
        except PolarisApiError as error:
            raise explain(error, self.job_id, self.notes.last) from None

    def wait_until(self, deadline: float) -> Outcome | None:
        """Poll, an interval apart, until the wait ends; return ``None`` if time is up before that.

        :param deadline: in seconds since the epoch.
        """
        outcome = None
        while outcome is None:
            left = deadline - clock.now()
            if left <= 0:
                return None
            clock.sleep(min(self.interval, left))
            outcome = self.poll()
        return outcome

    def judge(self, job: Job, table_state: str | None = None) -> Outcome | None:
        """Like :meth:`poll`, of a job that the trigger has just seen.

        :param table_state: what the trigger found the job's table to be, if it was for the table that it waited.
        """
        try:
            return self._judge(job, table_state)
        except PolarisApiError as error:
            raise explain(error, self.job_id, self.notes.last) from None

    def ending_of(self, job: Job, log_lines: tuple[LogEntry, ...] = ()) -> Outcome:
        """Return the job as it stands, with the counters that can be had: nothing waits for them here."""
        decision = decide(job, self.condition)
        # In a refusal the counters only decorate the message. In a success they go to XCom, and tasks downstream may
        # rely on them.
        read = partial(self.hook.get_job_metrics, retry=decision.verdict is Verdict.PASS)
        return Outcome(job, decision, self._if_possible(read), log_lines)

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
        delay = self.tolerance.failed(error, clock.now())
        self.notes.failed(error)
        return delay

    def _judge(self, job: Job, table_state: str | None = None) -> Outcome | None:
        """Return what the gate makes of the job, with all that this takes; ``None`` to go on waiting."""
        if self.table_wait:
            check_leaves_table(job.type)
        self.tolerance.worked = True
        self.tolerance.not_found_since = None
        decision = decide(job, self.condition)
        self.notes.saw(job, decision)
        if decision.verdict is Verdict.WAIT:
            self.tolerance.succeeded()
            return None
        return self._bearing(partial(self._conclude, job, decision, table_state))

    def _bearing(self, ask: Callable[[], Outcome | None]) -> Outcome | None:
        """Take it for one more failed poll, like any other, if what decides is out of reach."""
        try:
            outcome = ask()
        except (PolarisUnreachable, PolarisAuthError) as error:
            self._bear(error)
            return None
        self.tolerance.succeeded()
        return outcome

    def _conclude(self, job: Job, decision: Decision, table_state: str | None) -> Outcome | None:
        outcome = self._gather(job, decision)
        if not outcome.passed or self.table_wait is None:
            return outcome
        if self.table_wait == "here":
            self._held = outcome
        return self._with_table(outcome, table_state)

    def _gather(self, job: Job, decision: Decision) -> Outcome:
        if decision.verdict is Verdict.UNDECIDED:
            return self._weigh(job)
        return self.ending_of(job, self._log_lines_if_possible() if decision.verdict is Verdict.REFUSE else ())

    def _with_table(self, outcome: Outcome, state: str | None) -> Outcome | None:
        """Hold a good load back until it can be queried; ``None`` to go on waiting."""
        name = outcome.job.table
        if not name:
            told = "Polaris does not name its table, and wait_until_available is set"
            return replace(outcome, decision=Decision(Verdict.REFUSE, f"{outcome.decision.reason}, but {told}"))
        if state is not None:
            decision = judge(name, state)
        elif self.table_wait == "here":
            decision = self._look_at_table(name)
        else:
            self.loaded = outcome.job
            return None
        if decision.verdict is Verdict.WAIT:
            return None
        joint = "and" if decision.verdict is Verdict.PASS else "but"
        reason = f"{outcome.decision.reason}, {joint} {decision.reason}"
        return replace(outcome, decision=Decision(decision.verdict, reason, outcome.decision.warn))

    def _look_at_table(self, name: str) -> Decision:
        """Look, and where only a second look settles it, wait for that: a rescheduled poke remembers no first one."""
        readiness = self._readiness = self._readiness or Readiness(name)
        decision = self._look_once(readiness)
        pause = readiness.second_look_in(clock.now())
        if pause:
            clock.sleep(pause)
            decision = self._look_once(readiness)
        return decision

    def _look_once(self, readiness: Readiness) -> Decision:
        try:
            table = self.hook.get_table(readiness.name, retry=False)
        except PolarisNotFound:
            table = None
        decision = readiness.saw(table, clock.now())
        self.notes.saw_table(str(readiness), decision)
        return decision

    def _weigh(self, job: Job) -> Outcome:
        """Read counters, and logs where they matter, until the gate decides or they had time enough to settle."""
        give_up_at = clock.now() + min(SETTLE, 3 * self.interval)
        pause = max(1.0, min(self.interval, 5.0))
        reads_logs = isinstance(self.condition, Gate) and wants_logs(job, self.condition)
        while True:
            metrics = self._allowed(self.hook.get_job_metrics)
            logs = self._allowed(self.hook.get_job_logs) if reads_logs else None
            codes = None if logs is None else {entry.code for entry in logs if entry.code}
            decision = decide(job, self.condition, metrics, codes)
            if decision.verdict is Verdict.PASS:
                return Outcome(job, decision, metrics)
            if decision.verdict is Verdict.REFUSE or clock.now() + pause > give_up_at:
                return Outcome(job, decision, metrics, self._log_lines_if_possible())
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
