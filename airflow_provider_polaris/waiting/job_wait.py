"""A task's wait for a job on a worker: poll the job, judge it, and read its counters and log if needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisNotFound,
    PolarisTransientError,
    PolarisUnauthorized,
)
from airflow_provider_polaris.api.models import Job, JobMetrics, LogEntry
from airflow_provider_polaris.gate.availability import Readiness, check_leaves_table, judge
from airflow_provider_polaris.gate.decision import Condition, Decision, Verdict, decide, wants_logs
from airflow_provider_polaris.gate.options import Gate
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.waiting.progress_log import Log, ProgressLog, explain

T = TypeVar("T")

#: Counters may lag behind the status. They are read again for this long before the gate refuses a job without them.
SETTLE_SECONDS = 30.0
#: The number of log lines in a refusal's message.
LOG_LINES = 5


@dataclass(frozen=True)
class Outcome:
    """How a wait ended: the job, the decision, the counters, and the end of the job's log."""

    job: Job
    decision: Decision
    metrics: JobMetrics | None = None
    log_lines: tuple[LogEntry, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether downstream tasks may run. Fails closed: an undecided job has not passed."""
        return self.decision.verdict is Verdict.PASS

    @property
    def result(self) -> dict[str, Any]:
        """The dict for XCom, the same in every mode."""
        return self.job.to_dict(self.metrics)

    def __str__(self) -> str:
        counters = f"Counters: {self.metrics or 'not known'}"
        lines = "".join(f"\n  {entry}" for entry in self.log_lines)
        return f"{self.job} {self.decision.reason}. {counters}." + (f" Its log ends with:{lines}" if lines else "")


class JobWait:
    """The wait of one task for one job, within one process.

    :param condition: what the task waits for.
    :param tolerance: which failed polls the wait tolerates, and for how long.
    :param interval: seconds between polls. Missing counters are read again for up to three intervals.
    :param table_wait: where the task waits until the table of a good job is available: nowhere, in this process, or in
        a trigger. In the last case :attr:`loaded` is set when the task must defer.
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
        #: The job, if the task only waits for its table.
        self.loaded: Job | None = None
        self.progress = ProgressLog(job_id, log, logs_end=False)
        self._readiness: Readiness | None = None
        #: The outcome of the job, while the wait for its table continues.
        self._job_outcome: Outcome | None = None

    def poll(self) -> Outcome | None:
        """Poll once. Return the outcome, or ``None`` to continue. Raise if the wait cannot continue."""
        try:
            if self._job_outcome:
                return self._tolerating(partial(self._with_table, self._job_outcome, None))
            job = self._request_job()
            return self._judge(job) if job else None
        except PolarisApiError as error:
            raise explain(error, self.job_id, self.progress.last) from None

    def wait_until(self, deadline: float) -> Outcome | None:
        """Poll until the wait ends. Return ``None`` if the deadline passes before that.

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

    @property
    def awaited(self) -> str:
        """The clause that a timeout message needs: "… passed before …"."""
        if self.progress.is_over:
            return "the job's table was available"
        is_running_enough = isinstance(self.condition, Gate) and self.condition.wait_for == "running"
        return "the job was running" if is_running_enough else "the job was over"

    def judge(self, job: Job, table_state: str | None = None) -> Outcome | None:
        """Like :meth:`poll`, for a job that the trigger has just seen.

        :param table_state: the state in which the trigger found the job's table, if it waited for the table.
        """
        try:
            return self._judge(job, table_state)
        except PolarisApiError as error:
            raise explain(error, self.job_id, self.progress.last) from None

    def outcome_of(self, job: Job, log_lines: tuple[LogEntry, ...] = ()) -> Outcome:
        """Return the outcome for the job as it is now. Counters that cannot be read are left out."""
        decision = decide(job, self.condition)
        # In a refusal the counters are only part of the message. In a success they go to XCom, where downstream tasks
        # may need them.
        read = partial(self.hook.get_job_metrics, retry=decision.verdict is Verdict.PASS)
        return Outcome(job, decision, self._read_best_effort(read), log_lines)

    def _request_job(self) -> Job | None:
        """Return the job; ``None`` if the request failed and the next poll may succeed."""
        while True:
            try:
                return self.hook.get_job(self.job_id, retry=False)
            except PolarisApiError as error:
                delay = self._tolerate(error)
            if delay is None:
                return None
            clock.sleep(delay)

    def _tolerate(self, error: PolarisApiError) -> float | None:
        delay = self.tolerance.failed(error, clock.now())
        self.progress.failed(error)
        return delay

    def _judge(self, job: Job, table_state: str | None = None) -> Outcome | None:
        """Judge the job. Read its counters, log and table if the verdict needs them. Return ``None`` to continue."""
        if self.table_wait:
            check_leaves_table(job.type)
        self.tolerance.job_exists()
        decision = decide(job, self.condition)
        self.progress.job_polled(job, decision)
        if decision.verdict is Verdict.WAIT:
            self.tolerance.succeeded()
            return None
        return self._tolerating(partial(self._complete_outcome, job, decision, table_state))

    def _tolerating(self, judge: Callable[[], Outcome | None]) -> Outcome | None:
        """Call the function. A request in it that fails counts as a failed poll: the decision needs the response."""
        try:
            outcome = judge()
        except (PolarisTransientError, PolarisUnauthorized) as error:
            self._tolerate(error)
            return None
        self.tolerance.succeeded()
        return outcome

    def _complete_outcome(self, job: Job, decision: Decision, table_state: str | None) -> Outcome | None:
        outcome = self._outcome_with_details(job, decision)
        if not outcome.passed or self.table_wait is None:
            return outcome
        if self.table_wait == "here":
            self._job_outcome = outcome
        return self._with_table(outcome, table_state)

    def _outcome_with_details(self, job: Job, decision: Decision) -> Outcome:
        if decision.verdict is Verdict.UNDECIDED:
            return self._judge_with_counters(job)
        return self.outcome_of(job, self._log_lines_if_possible() if decision.verdict is Verdict.REFUSE else ())

    def _with_table(self, outcome: Outcome, state: str | None) -> Outcome | None:
        """Return the outcome if the table ends the wait; ``None`` to continue waiting."""
        name = outcome.job.table
        if not name:
            reason = "Polaris does not name its table, and wait_until_available is set"
            return replace(outcome, decision=Decision(Verdict.REFUSE, f"{outcome.decision.reason}, but {reason}"))
        if state is not None:
            decision = judge(name, state)
        elif self.table_wait == "here":
            decision = self._check_table(name)
        else:
            self.loaded = outcome.job
            return None
        if decision.verdict is Verdict.WAIT:
            return None
        joint = "and" if decision.verdict is Verdict.PASS else "but"
        reason = f"{outcome.decision.reason}, {joint} {decision.reason}"
        return replace(outcome, decision=Decision(decision.verdict, reason, outcome.decision.warn))

    def _check_table(self, name: str) -> Decision:
        """Check the table, twice if needed. A rescheduled poke is a new process, and does not know the first check."""
        readiness = self._readiness = self._readiness or Readiness(name)
        decision = self._check_table_once(readiness)
        pause = readiness.second_check_in(clock.now())
        if pause:
            clock.sleep(pause)
            decision = self._check_table_once(readiness)
        return decision

    def _check_table_once(self, readiness: Readiness) -> Decision:
        try:
            table = self.hook.get_table(readiness.name, retry=False)
        except PolarisNotFound:
            table = None
        decision = readiness.table_polled(table, clock.now())
        self.progress.table_polled(str(readiness), decision)
        return decision

    def _judge_with_counters(self, job: Job) -> Outcome:
        """Read the counters, and the logs if needed, until the gate decides or the settling time is over."""
        give_up_at = clock.now() + min(SETTLE_SECONDS, 3 * self.interval)
        pause = max(1.0, min(self.interval, 5.0))
        reads_logs = isinstance(self.condition, Gate) and wants_logs(job, self.condition)
        while True:
            metrics = self._read_or_refused(self.hook.get_job_metrics)
            logs = self._read_or_refused(self.hook.get_job_logs) if reads_logs else None
            codes = None if logs is None else {entry.code for entry in logs if entry.code}
            decision = decide(job, self.condition, metrics, codes)
            if decision.verdict is Verdict.PASS:
                return Outcome(job, decision, metrics)
            if decision.verdict is Verdict.REFUSE or clock.now() + pause > give_up_at:
                return Outcome(job, decision, metrics, self._log_lines_if_possible())
            clock.sleep(pause)

    def _read_or_refused(self, read: Callable[[str], T]) -> T | None:
        """Return the response, ``None`` if Polaris refuses it. Raise only an error that may be temporary."""
        try:
            return read(self.job_id)
        except (PolarisTransientError, PolarisUnauthorized):
            raise
        except PolarisApiError as error:
            self.progress.log.warning("Job %s: %s", self.job_id, error)
            return None

    def _log_lines_if_possible(self) -> tuple[LogEntry, ...]:
        # One request, without retries: the job itself has the reason of a refusal.
        return tuple((self._read_best_effort(partial(self.hook.get_job_logs, retry=False)) or [])[-LOG_LINES:])

    def _read_best_effort(self, read: Callable[[str], T]) -> T | None:
        """Best effort: ``None`` on failure, so that a failure never hides the job's result."""
        try:
            return read(self.job_id)
        except PolarisApiError as error:
            self.progress.log.warning("Job %s: %s", self.job_id, error)
            return None
