"""What a kill cancels: the job or the query that a task has started, on its worker and in its trigger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from airflow_provider_polaris.gate.decision import Condition, Verdict, decide

if TYPE_CHECKING:
    from airflow_provider_polaris.polling.shared_client import SharedClient
    from airflow_provider_polaris.submission.query_record import QueryRecord
    from airflow_provider_polaris.submission.submission_record import SubmissionRecord
    from airflow_provider_polaris.waiting.job_wait import JobWait
    from airflow_provider_polaris.waiting.progress_log import Log
    from airflow_provider_polaris.waiting.query_wait import QueryWait


@dataclass(frozen=True)
class TargetKind:
    """How messages name what a task starts.

    :param noun: ``job`` or ``query``.
    :param not_started: the message for a task that was killed before.
    """

    noun: str
    not_started: str


JOB = TargetKind("job", "The task was killed before it created its job. Nothing was loaded")
QUERY = TargetKind("query", "The task was killed before it sent its query. Polaris runs no query of this try")


def at_start(name: str) -> str:
    """Return the name for the start of a sentence."""
    return f"{name[:1].upper()}{name[1:]}"


class WorkerTarget(Protocol):
    """What a kill on a worker cancels."""

    @property
    def name(self) -> str:
        """The kind and the id, for messages: ``job 7c32…``."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to cancel, as far as the task knows."""

    def note_cancellation(self) -> None:
        """Note the cancellation for later tries, before it is sent. Best effort."""

    def cancel(self) -> None:
        """Ask Polaris to cancel. Raises PolarisError if Polaris does not accept that."""


class TriggerTarget(Protocol):
    """What a kill in a triggerer cancels."""

    @property
    def name(self) -> str:
        """The kind and the id, for messages: ``job 7c32…``."""

    async def cancel(self, client: SharedClient) -> str:
        """Ask Polaris once to cancel. Return what happened. Raises PolarisError if Polaris does not accept that."""


class JobOfWorker:
    """The job of a task on a worker.

    :param record: holds the note of a cancellation for later tries.
    """

    def __init__(self, job_wait: JobWait, record: SubmissionRecord, log: Log) -> None:
        self._job_wait = job_wait
        self._record = record
        self._log = log

    @property
    def name(self) -> str:
        """The kind and the id, for messages."""
        return f"job {self._job_wait.job_id}"

    @property
    def is_over(self) -> bool:
        """Whether the job was over at the last poll."""
        return self._job_wait.progress.is_over

    def note_cancellation(self) -> None:
        """Note the cancellation for later tries."""
        self._record.note_cancellation(self._job_wait.job_id, self._log)

    def cancel(self) -> None:
        """Ask Polaris to cancel the job."""
        self._job_wait.hook.cancel_job(self._job_wait.job_id)


class JobOfTrigger:
    """The job of a deferred task. Its cancellation requests the job first.

    :param condition: what ends the wait. A job whose wait is over is not canceled.
    """

    def __init__(self, job_id: str, condition: Condition) -> None:
        self._job_id = job_id
        self._condition = condition

    @property
    def name(self) -> str:
        """The kind and the id, for messages."""
        return f"job {self._job_id}"

    async def cancel(self, client: SharedClient) -> str:
        """Ask Polaris to cancel the job, unless the wait was over."""
        job = await client.get_job(self._job_id)
        if decide(job, self._condition).verdict is not Verdict.WAIT:
            # The wait was over, and this triggerer had not seen it. A streaming job that runs must not be stopped.
            return f"{job} is {job.state}: nothing is left to cancel"
        await client.cancel_job(self._job_id)
        return f"Polaris accepted the cancellation of job {self._job_id}"


class QueryOfWorker:
    """The asynchronous query of a task on a worker.

    :param record: holds the note of a cancellation for later tries.
    """

    def __init__(self, query_wait: QueryWait, record: QueryRecord) -> None:
        self._query_wait = query_wait
        self._record = record

    @property
    def name(self) -> str:
        """The kind and the id, for messages."""
        return f"query {self._query_wait.query_id}"

    @property
    def is_over(self) -> bool:
        """Whether the query was over at the last poll."""
        return self._query_wait.is_over

    def note_cancellation(self) -> None:
        """Note the cancellation for later tries."""
        self._record.note_best_effort("canceling", self._query_wait.query_id)

    def cancel(self) -> None:
        """Ask Polaris to cancel the query."""
        self._query_wait.hook.cancel_query(self._query_wait.query_id)


class QueryOfTrigger:
    """The asynchronous query of a deferred task. A cancellation has no effect on a query that is over."""

    def __init__(self, query_id: str) -> None:
        self._query_id = query_id

    @property
    def name(self) -> str:
        """The kind and the id, for messages."""
        return f"query {self._query_id}"

    async def cancel(self, client: SharedClient) -> str:
        """Ask Polaris to cancel the query."""
        await client.cancel_query(self._query_id)
        return f"Polaris accepted the cancellation of query {self._query_id}"
