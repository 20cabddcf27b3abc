"""The log of a wait, on a worker and in a triggerer, and the last known state of its job for messages."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisNotFound, PolarisUnauthorized, sentences
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.decision import Decision, Verdict
from airflow_provider_polaris.waiting.crossing import EndEvent, WaitEvent

#: An outage, and a wait for a table, are logged again after so many seconds. A job has the lines with its progress.
REMINDER_SECONDS = 900.0


class Log(Protocol):
    """The logger of an Airflow task: a ``logging.Logger`` or a structlog logger."""

    def log(self, level: int, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...

    def info(self, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...

    def warning(self, event: Any, /, *args: Any) -> Any:  # noqa: D102
        ...


class PollLog:
    """Logs the news and the failures of the polls of a wait, not every poll.

    :param about: what the wait is for, as the end of a log line: ``Job …``.
    """

    #: What Polaris does not have if a poll returns 404.
    missing = "job"

    def __init__(self, about: str, log: Log) -> None:
        self.about = about
        self.log = log
        self.polls = 0
        self.failed_polls = 0
        #: The periods in which every poll of this wait failed.
        self.outages = 0
        self._is_in_outage = False
        #: Whether a trigger has polled before. If another triggerer took its wait over, only the last one has counted.
        self._is_resumed = False
        #: Why the last poll failed; ``None`` if the last poll succeeded.
        self.trouble: str | None = None
        #: The last logged news of each subject, and when they were logged.
        self._logged: dict[str, tuple[Any, float]] = {}

    def failed(self, error: PolarisApiError) -> None:
        """Record a failed poll that the wait tolerates."""
        self.failed_polls += 1
        self.outages += not self._is_in_outage
        self._is_in_outage = True
        self.trouble = str(error)
        if self._is_due("trouble", (type(error), getattr(error, "status", None))):
            self.log.warning("%s. %s. %s", self._explain_trouble(error), str(error).rstrip("."), self.about)

    def recovered(self) -> bool:
        """Record a poll that succeeded. Return whether the poll before had failed."""
        had_failed, self.trouble = self.trouble is not None, None
        self._is_in_outage = False
        self._logged.pop("trouble", None)
        return had_failed

    def add_silent_polls(self, polls: int) -> None:
        """Count polls that brought no news."""
        self.polls += polls

    def add_polls_of_list(self, log: PollLog) -> None:
        """Count the polls with which a list has found the job."""
        self.polls += log.polls
        self.failed_polls += log.failed_polls
        self.outages += log.outages

    def continue_outage(self) -> None:
        """Count the next failed poll to the outage before. The process before has counted that outage."""
        self._is_in_outage = True

    def add_polls_of(self, event: EndEvent) -> None:
        """Count the polls of a trigger, and continue from its last poll."""
        self._is_resumed = True
        self.polls += event.polls
        self.failed_polls += event.failed_polls
        self.outages += event.outages
        self.trouble = event.trouble
        self._is_in_outage = event.trouble is not None

    def explain(self, error: PolarisApiError) -> PolarisApiError:
        """Return the error that ends the wait: of the same type, with what is last known."""
        raise NotImplementedError

    def __str__(self) -> str:
        """How often the wait has polled, as a sentence. Empty if that is not known for the whole wait."""
        if self._is_resumed:
            return ""
        polls = self.polls + self.failed_polls
        failed = f", {self.failed_polls:,} of them failed" if self.failed_polls else ""
        return f"Polled {polls:,} time{'s' if polls != 1 else ''}{failed}."

    def _answered(self, subject: str, news: Any, line: str, *, warn: bool) -> None:
        again = "Polaris responds again. " if self.recovered() else ""
        if self._is_due(subject, news) or again:
            self.log.log(logging.WARNING if warn else logging.INFO, "%s%s", again, line)

    def _is_due(self, subject: str, news: Any) -> bool:
        now = clock.now()
        logged, logged_at = self._logged.get(subject, (None, 0.0))
        is_due = news != logged or (subject != "job" and now - logged_at >= REMINDER_SECONDS)
        if is_due:
            self._logged[subject] = (news, now)
        return is_due

    def _explain_trouble(self, error: PolarisApiError) -> str:
        if isinstance(error, PolarisNotFound):
            return f"Polaris has no such {self.missing}. A second poll must confirm that"
        if isinstance(error, PolarisUnauthorized):
            return "Polaris rejects the API key. The wait continues for five minutes, in case the key is being rotated"
        return "The wait continues after a failed poll"


class ProgressLog(PollLog):
    """Logs the changes of a job during a wait. The lines are the same on a worker and in a triggerer.

    :param logs_end: whether to log how the job ended. On a worker the last line of the task does that.
    """

    def __init__(self, job_id: str, log: Log, *, logs_end: bool = True) -> None:
        super().__init__(f"Job {job_id}", log)
        self.job_id = job_id
        self.logs_end = logs_end
        self.last: Job | None = None
        #: The last known state of the job's table, as a clause; empty if the table was not requested.
        self.table = ""

    def job_polled(self, job: Job, decision: Decision) -> None:
        """Record the job of a successful poll. Log the job if it has changed."""
        self.polls += 1
        self.last = job
        if not self.logs_end and decision.verdict is not Verdict.WAIT:
            return  # the wait still has to read the counters, which may fail
        # How the wait ends is the worker's to say.
        is_waiting = decision.verdict is Verdict.WAIT
        reason = decision.reason if is_waiting else f"is {job.state}"
        self._answered("job", _news(job), f"{job.subject} {reason}. Job {job.id}", warn=decision.warn and is_waiting)

    def job_listed(self, job: Job) -> None:
        """Record that a list shows the job as over. The last known job stays as it was: the worker confirms the end."""
        self.polls += 1
        self.last = self.last or job
        self._answered("job", _news(job), f"{job.subject} is {job.state} in a list. Job {job.id}", warn=False)

    def table_polled(self, state: str, decision: Decision) -> None:
        """Record the table of a successful poll. Log it if it has changed, or if nothing was logged for a while.

        :param state: the state as a clause, without what it means for the wait.
        """
        self.polls += 1
        self.table = state
        if self.logs_end or decision.verdict is Verdict.WAIT:
            self._answered("table", decision.reason, f"{decision.reason}. Job {self.job_id}", warn=decision.warn)

    def report(self, numbers: str) -> None:
        """Log how far the job is.

        :param numbers: as :func:`read_progress` returns them.
        """
        if self.last and self.can_report:
            known = f"{self.last.subject}: {self.last.execution_status}{', ' if numbers else ''}{numbers}"
            self.log.info("%s. Job %s", known, self.job_id)

    @property
    def can_report(self) -> bool:
        """Whether the job's status is known. During an outage, it is the status of another time."""
        return self.last is not None and self.trouble is None

    def resume(self, last: Job | None) -> None:
        """Continue from the job as the worker or the trigger last saw it."""
        if last:
            self.last = last
            self._logged["job"] = (_news(last), clock.now())

    def resume_event(self, event: WaitEvent) -> None:
        """Continue from a trigger's event. The worker logs its counts too, since a triggerer's log may be lost."""
        self.resume(event.job)
        self.table = event.table.seen if event.table else ""
        self.add_polls_of(event)

    @property
    def is_over(self) -> bool:
        """Whether the job was over when last seen."""
        return self.last is not None and self.last.is_over

    @property
    def known(self) -> str:
        """The last known status of the job, as a clause for the message of a wait that ends without a verdict."""
        return f"{self.last.subject} was {self.last.execution_status}" if self.last else "the job was not reported yet"

    @property
    def known_details(self) -> list[str]:
        """What else is known of the job, of its table, and of the last poll, as sentences."""
        health = self.last.health if self.last else None
        details = [f"Its health was {health.status}: {health.fault}"] if health and not health.is_ok else []
        details += [f"When last seen, {self.table}"] if self.table else []
        return [*details, f"The last poll failed: {self.trouble}"] if self.trouble else details

    def explain(self, error: PolarisApiError) -> PolarisApiError:
        """Return the error that ends the wait: of the same type, with the job and its last known state."""
        return explain(error, self.job_id, self.last)


def _news(job: Job) -> tuple[Any, ...]:
    return (job.execution_status, job.health and (job.health.status, job.health.code))


def explain(error: PolarisApiError, job_id: str, last: Job | None) -> PolarisApiError:
    """Return the error that ends a wait: of the same type, with the job and its last known state.

    Each line has one thought, because Airflow 3 shows about 85 characters of a line.
    """
    lines = str(error).splitlines()
    if not isinstance(error, PolarisNotFound):
        seen = f"{last.subject} was {last.state} when last seen" if last else "The job was not reported yet"
        still = [] if last and last.is_over else ["The job may still be running"]
        lines.insert(1, sentences(seen, *still))
    elif last:
        lines = [
            f"{last.subject} was {last.state}, and Polaris no longer has the job",
            "The job was deleted, or another project or service responds at this address",
            "Check the table, and the host and the project of the connection",
            lines[-1],
        ]
    message = "\n".join([*lines, f"Job {job_id}"])
    return type(error)(message, status=error.status, code=error.code)
