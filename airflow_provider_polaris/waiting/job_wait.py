"""A task's wait for a job on a worker: poll the job, judge it, and read its counters and log if needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeGuard, TypeVar

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisNotFound,
    PolarisResponseTooLarge,
    PolarisTransientError,
    PolarisUnauthorized,
    sentences,
)
from airflow_provider_polaris.api.models import Job, JobMetrics, LogEntry
from airflow_provider_polaris.api.parsing import clip
from airflow_provider_polaris.api.retries import is_transient
from airflow_provider_polaris.gate.availability import Readiness, check_leaves_table, judge
from airflow_provider_polaris.gate.decision import Condition, Decision, UntilOver, Verdict, decide, wants_logs
from airflow_provider_polaris.gate.options import Gate
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.polling.polled_wait import Pace
from airflow_provider_polaris.waiting.progress_log import Log, PollLog, ProgressLog
from airflow_provider_polaris.waiting.progress_report import ProgressReader, next_report

T = TypeVar("T")

#: Health, counters and log may lag behind the status. They are read again for this long before the gate refuses a job
#: without them.
SETTLE_SECONDS = 30.0
#: The most characters of a line before the job's id, and the fewest that are left of a reason, which may be long.
MAX_HEAD = 110
MIN_REASON = 30
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

    def line(self, verdict: str) -> str:
        """Return the line of a good load: the verdict, the table, the reason, the counters, and the id of the job.

        The id begins within 110 characters, if the reason is not cut.
        """
        counters = f", {self.metrics}" if str(self.metrics or "") else ""
        return f"{self._head(verdict, len(counters))}{counters}. Job {self.job.id}"

    def message(self, verdict: str) -> str:
        """Return the lines of a refusal: the verdict, the table and the reason; the counters and the job's id.

        Airflow 3 shows about 85 characters of a line, so the counters have a line of their own. Below are the whole of
        a reason that the first line cuts, and the end of the job's log.
        """
        head, counters = self._head(verdict, 0), str(self.metrics or "")
        parts = [head, f"{counters}{'. ' if counters else ''}Job {self.job.id}"]
        if self.decision.reason not in head:
            parts.append(f"{self.job.subject} {self.decision.reason}")
        if self.log_lines:
            parts += ["The job's log ends with:", *(f"  {entry}" for entry in self.log_lines)]
        return "\n".join(parts)

    def _head(self, verdict: str, used: int) -> str:
        start = f"{verdict}{self.job.subject} "
        room = max(MIN_REASON, MAX_HEAD - used - len(start) - len(". Job "))
        return f"{start}{clip(self.decision.reason, room)}"


@dataclass(frozen=True)
class _Details:
    """What one round of requests has found out about a completed job."""

    metrics: JobMetrics | None
    #: The codes of the log's lines.
    codes: frozenset[str] | None
    errors: tuple[PolarisApiError, ...]

    @property
    def failure(self) -> PolarisTransientError | None:
        """The error of an outage, if there is one."""
        return next((error for error in self.errors if _is_outage(error)), None)

    @property
    def is_final(self) -> bool:
        """Whether another round costs much, and would find out no more."""
        return any(isinstance(error, PolarisResponseTooLarge) for error in self.errors)


def _is_outage(error: PolarisApiError) -> TypeGuard[PolarisTransientError]:
    """Whether Polaris cannot be reached. A gateway that refuses one request is no outage."""
    is_refusal = error.status is not None and 400 <= error.status < 500 and not is_transient(error.status)
    return isinstance(error, PolarisTransientError) and not is_refusal


class JobWait:
    """The wait of one task for one job, within one process.

    :param condition: what the task waits for.
    :param tolerance: which failed polls the wait tolerates, and for how long.
    :param interval: seconds between polls, at most. Missing counters are read again for up to three intervals.
    :param grows: whether the interval grows with the time waited.
    :param table_wait: where the task waits until the table of a good job is available: nowhere, in this process, or in
        a trigger. In the last case :attr:`loaded` is set when the task must defer.
    """

    def __init__(
        self,
        hook: PolarisClient,
        job_id: str,
        condition: Condition,
        tolerance: OutageTolerance,
        interval: float,
        log: Log,
        table_wait: Literal["here", "in a trigger"] | None = None,
        *,
        grows: bool = False,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self.hook = hook
        self.job_id = job_id
        self.condition = condition
        self.tolerance = tolerance
        self.interval = interval
        # In the pokes of a sensor, Airflow pauses instead, and this pace stays at its first interval.
        self._pace = Pace(interval, waited=0.0 if grows else None, spread=0.0)
        self.table_wait = table_wait
        #: The job, if the task only waits for its table.
        self.loaded: Job | None = None
        self.progress = ProgressLog(job_id, log, logs_end=False)
        self._progress_reader = ProgressReader(hook, job_id)
        self._began = clock.monotonic()
        self._report_due = next_report(0.0)
        #: How long late counters are read again.
        self._settle_seconds = settle_seconds
        #: Whether a list may end the wait in a trigger. Not again if this process could not confirm the end.
        self.takes_list = True
        #: Whether the job's response is too large, so that a cancellation polls only the status.
        self.polls_status = False
        self._readiness: Readiness | None = None
        #: The outcome of the job, while the wait for its table continues.
        self._job_outcome: Outcome | None = None

    def begin_from_list(self, log: PollLog, *, is_settled: bool) -> None:
        """Continue a wait whose job a list has shown.

        :param log: counts the polls of the list.
        :param is_settled: whether the counters of the job do not change any more.
        """
        self.tolerance.job_exists()
        self.progress.add_polls_of_list(log)
        if is_settled:
            self._settle_seconds = 0.0

    def poll(self) -> Outcome | None:
        """Poll once. Return the outcome, or ``None`` to continue. Raise if the wait cannot continue."""
        try:
            if self._job_outcome:
                return self._tolerating(partial(self._with_table, self._job_outcome, None))
            job = self._request_job()
            return self._judge(job) if job else None
        except PolarisApiError as error:
            raise self.progress.explain(error) from None

    def confirm(self, deadline: float) -> Outcome | None:
        """Request a job that only a list has shown as over to the trigger, and judge it. ``None``: continue to wait.

        If the request fails, or the list was wrong, the trigger goes on by id: the task does not go back and forth.

        :param deadline: in seconds since the epoch. A later request is sent again, since no further poll follows.
        """
        self.takes_list = False
        self.tolerance.job_exists()
        try:
            try:
                job = self.request_job(retry=clock.now() >= deadline)
            except (PolarisTransientError, PolarisUnauthorized, PolarisNotFound) as error:
                self._tolerate(error)
                return None
            return self._judge(job)
        except PolarisApiError as error:
            raise self.progress.explain(error) from None

    def wait_until(self, deadline: float) -> Outcome | None:
        """Poll until the wait ends. Return ``None`` if the deadline passes before that.

        :param deadline: in seconds since the epoch.
        """
        outcome = None
        while outcome is None:
            left = deadline - clock.now()
            if left <= 0:
                return None
            clock.sleep(min(self._pace.pause(), left))
            outcome = self.poll()
        return outcome

    @property
    def unfinished(self) -> str:
        """What the first line of a timeout message says of the job. The gate also reads counters and the table."""
        return f"{self.progress.known}, unchecked" if self.progress.is_over else self.progress.known

    def judge(self, job: Job, table_state: str | None = None) -> Outcome | None:
        """Like :meth:`poll`, for a job that the trigger has just seen.

        :param table_state: the state in which the trigger found the job's table, if it waited for the table.
        """
        try:
            return self._judge(job, table_state)
        except PolarisApiError as error:
            raise self.progress.explain(error) from None

    def outcome_of(self, job: Job, log_lines: tuple[LogEntry, ...] = ()) -> Outcome:
        """Return the outcome for the job as it is now. Counters that cannot be read are left out."""
        return self._outcome(job, decide(job, self.condition), log_lines=log_lines)

    def request_job(self, *, retry: bool = False) -> Job:
        """Return the job. A cancellation needs only the status, so that the job may be too large to be read.

        :raises PolarisResponseTooLarge: if the wait needs more of the job than its status.
        """
        if not self.polls_status:
            try:
                return self.hook.get_job(self.job_id, retry=retry)
            except PolarisResponseTooLarge as error:
                if not isinstance(self.condition, UntilOver):
                    raise
                self.progress.log.warning("Job %s: only its status is polled from now on. %s", self.job_id, error)
                self.polls_status = True
        return Job(self.job_id, self.hook.get_job_status(self.job_id, retry=retry))

    def _request_job(self) -> Job | None:
        """Return the job; ``None`` if the request failed and the next poll may succeed."""
        while True:
            try:
                return self.request_job()
            except PolarisApiError as error:
                delay = self._tolerate(error)
            if delay is None:
                return None
            clock.sleep(delay)

    def _tolerate(self, error: PolarisApiError) -> float | None:
        delay = self.tolerance.failed(error, clock.now(), self._pace.interval)
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
            self._report_if_due()
            return None
        return self._tolerating(partial(self._complete_outcome, job, decision, table_state))

    def _report_if_due(self) -> None:
        waited = clock.monotonic() - self._began
        if waited >= self._report_due:
            self._report_due = next_report(waited)
            self.progress.report(self._progress_reader.read())

    def _tolerating(self, judge: Callable[[], Outcome | None]) -> Outcome | None:
        """Call the function. A request in it that fails counts as a failed poll: the decision needs the response."""
        try:
            outcome = judge()
        except (PolarisTransientError, PolarisUnauthorized, PolarisNotFound) as error:
            self._tolerate(error)
            return None
        self.tolerance.succeeded()
        return outcome

    def _complete_outcome(self, job: Job, decision: Decision, table_state: str | None) -> Outcome | None:
        outcome = self._outcome_with_details(job, decision)
        if outcome is None or not outcome.passed or self.table_wait is None:
            return outcome
        if self.table_wait == "here":
            self._job_outcome = outcome
        return self._with_table(outcome, table_state)

    def _outcome_with_details(self, job: Job, decision: Decision) -> Outcome | None:
        if decision.verdict is Verdict.UNDECIDED:
            return self._settle(job)
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

    def _settle(self, job: Job) -> Outcome | None:
        """Read what the verdict needs until the gate decides or the settling time is over. ``None``: the job changed.

        :raises PolarisTransientError: if Polaris cannot be reached. In an outage that is known, the first failure
            raises, so that each poll sends one request for the counters.
        """
        give_up_at = clock.now() + min(self._settle_seconds, 3 * self.interval)
        is_new = self.tolerance.max_unreachable is not None and self.tolerance.unreachable_since is None
        while True:
            details = self._read_details(job)
            decision = decide(job, self.condition, details.metrics, details.codes)
            pause = max(1.0, min(self.interval, 5.0), getattr(details.failure, "retry_after", None) or 0.0)
            is_last = details.is_final or clock.now() + pause > give_up_at
            if details.failure and (is_last or not is_new):
                raise details.failure
            if decision.verdict is not Verdict.UNDECIDED or is_last:
                break
            clock.sleep(pause)
            if job.health is None:
                job = self.hook.get_job(self.job_id, retry=False)
        if decision.verdict is Verdict.WAIT:
            return None
        if decision.verdict is Verdict.PASS:
            return self._outcome(job, decision, details.metrics)
        if any(isinstance(error, PolarisTransientError) for error in details.errors):
            # A gateway refused. If it refuses the job too, this is an outage, and says nothing about the counters.
            self.hook.get_job(self.job_id, retry=False)
        if decision.verdict is Verdict.UNDECIDED and details.errors:
            decision = replace(decision, reason=sentences(decision.reason, *details.errors))
        if details.errors:
            log_lines = () if details.is_final else self._log_lines_if_possible()
            return Outcome(job, decision, details.metrics, log_lines)
        return self._outcome(job, decision, details.metrics, self._log_lines_if_possible())

    def _read_details(self, job: Job) -> _Details:
        """Read the counters and the log, as far as the verdict needs them."""
        gate = self.condition
        metrics = logs = None
        errors: list[PolarisApiError] = []
        if isinstance(gate, Gate) and job.health is not None:
            if gate.thresholds:
                metrics = self._read_detail(self.hook.get_job_metrics, errors)
            if wants_logs(job, gate) and not any(map(_is_outage, errors)):
                logs = self._read_detail(self.hook.get_job_logs, errors)
        codes = None if logs is None else frozenset(entry.code for entry in logs if entry.code)
        return _Details(metrics, codes, tuple(errors))

    def _read_detail(self, read: Callable[..., T], errors: list[PolarisApiError]) -> T | None:
        """Return the response; ``None`` if the request failed, with the error added to the list."""
        try:
            return read(self.job_id, retry=False)
        except PolarisUnauthorized:
            raise
        except PolarisApiError as error:
            errors.append(error)
            if not _is_outage(error):
                self.progress.log.warning("Job %s: %s", self.job_id, error)
            return None

    def _outcome(
        self,
        job: Job,
        decision: Decision,
        metrics: JobMetrics | None = None,
        log_lines: tuple[LogEntry, ...] = (),
    ) -> Outcome:
        """Return the outcome, with counters if they can be read."""
        if metrics is None:
            # In a refusal the counters are only part of the message. In a success they go to XCom, where downstream
            # tasks may need them.
            read = partial(self.hook.get_job_metrics, retry=decision.verdict is Verdict.PASS)
            metrics = self._read_best_effort(read)
        return Outcome(job, decision, metrics, log_lines)

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
