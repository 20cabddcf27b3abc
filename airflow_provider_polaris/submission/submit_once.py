"""Create a job once: find the job of an earlier try, and never send a spec twice by mistake."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisError,
    PolarisNotFound,
    PolarisTransientError,
    sentences,
)
from airflow_provider_polaris.api.job_spec import can_be_marked, marked, table_of
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.exceptions import PolarisJobLost, PolarisJobStillRunning, PolarisJobTimeout
from airflow_provider_polaris.gate.outage_tolerance import SECOND_CHECK_SECONDS
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.submission.submission_record import State, SubmissionNote, SubmissionRecord
from airflow_provider_polaris.waiting.progress_log import Log

#: A spec whose response was lost may still arrive for this long. A search without a result proves that there is no job
#: only after that. This is longer than a request and its response may take.
IN_FLIGHT_SECONDS = 120.0
#: A spec may be sent this much later than its note, plus the connection's timeout, since a request is sent again after
#: a 429, with pauses.
SENDING_SECONDS = 180.0
#: The pause between two searches for a job with the marker.
SEARCH_PAUSE_SECONDS = 15.0
#: The longest wait for a job that is being canceled for an earlier try, and the pause between two polls.
CANCELING_SECONDS = 300.0
CANCELING_POLL_SECONDS = 5.0
#: The number of a table's newest jobs that are searched for the marker. The list of jobs shows no queries, so each job
#: is requested by id.
SEARCHED_JOBS = 200
#: The largest difference between the service's clock and Airflow's. A day is more than any time zone.
CLOCK_DIFFERENCE_SECONDS = 86_400.0


class JobSubmission:
    """Gets the job of one try: the job of an earlier try, or a new one.

    :param check: called right before the spec is sent. Raises if the task must not create a job any more.
    """

    def __init__(
        self,
        hook: PolarisHook,
        record: SubmissionRecord,
        spec: Mapping[str, Any],
        log: Log,
        check: Callable[[], None],
    ) -> None:
        self._check = check
        self._hook = hook
        self._record = record
        record.set_spec(spec)
        # The end of the marker is new for each spec: an earlier DAG run may have had the same name.
        self._marker = f"{record.marker} {secrets.token_hex(8)}"
        self._spec = marked(spec, self._marker)
        self._table = table_of(spec)
        self._log = log
        #: Ids of jobs that do not have the marker.
        self._without_marker: set[str] = set()

    def job(self) -> Job:
        """Return the job to wait for: the job of an earlier try, or a new one.

        :raises PolarisJobLost: if an earlier try may have created a job that cannot be found.
        """
        note = self._record.last_note()
        if note is not None:
            job = self._job_of_earlier_try(note)
        elif self._record.is_retry and (self._record.is_unreadable or not self._record.is_kept):
            job = self._find_or_report_lost(None, self._record.marker if self._record.knows_marker else None)
        else:
            job = None
        if job is None:
            job = self._create()
            self._log.info("%s: created", job)
        return job

    def _job_of_earlier_try(self, note: SubmissionNote) -> Job | None:
        """Return the job of an earlier try; ``None`` if this try must create one."""
        is_cleared = note.clear_generation != self._record.clear_generation
        if note.state == "failed" or (note.state in ("passed", "refused") and is_cleared):
            return None  # the job had its verdict: a retry or a clear loads again
        if note.state == "lost" and is_cleared:
            return None  # the error told the user to check the table before the clear
        is_other_spec = is_cleared and note.spec not in (None, self._record.spec)
        if note.state in ("sending", "lost"):
            # The job of the spec that was sent cannot be found with the marker of another spec.
            marker = None if is_other_spec else note.marker or self._record.marker
            return self._find_or_report_lost(note.at, marker)
        if note.job_id is None:
            return None
        job = self._request_job(note.job_id)
        # A kill may have been too late to note the cancellation, or to send it.
        may_load_again = note.state == "canceling" or is_cleared
        if may_load_again and job.is_being_canceled:
            job = self._wait_until_over(job)
        if may_load_again and (job.has_failed or job.was_canceled):
            return None  # the job has loaded nothing
        if is_other_spec:
            self._leave(job)
            return None
        self._log.warning("%s is %s: an earlier try created it. This try continues with it", job, job.state)
        return job

    def _request_job(self, job_id: str) -> Job:
        try:
            return self._hook.get_job(job_id)
        except PolarisNotFound:
            clock.sleep(SECOND_CHECK_SECONDS)  # as in every wait, one 404 does not count
        try:
            return self._hook.get_job(job_id)
        except PolarisNotFound:
            self._note_best_effort("lost", job_id)
            raise PolarisJobLost(
                f"An earlier try created job {job_id}, and Polaris no longer has it. {self._next_step()}"
            ) from None

    def _leave(self, job: Job) -> None:
        """Do not wait for the job of another spec. Raise if that job still runs."""
        if not job.is_over:
            raise PolarisJobStillRunning(
                f"{job} is {job.state}: an earlier try created it from another spec than this task has now. Cancel the "
                "job, or wait until it is over. Then clear this task again to load the new spec"
            )
        self._log.warning(
            "%s is %s: an earlier try created it from another spec. This try creates a new job", job, job.state
        )

    def _wait_until_over(self, job: Job) -> Job:
        """Wait until a job that is being canceled is over. The job may still complete."""
        give_up_at = clock.now() + CANCELING_SECONDS
        while not job.is_over:
            if clock.now() >= give_up_at:
                raise PolarisJobTimeout(
                    f"{job} is still being canceled for an earlier try, and is {job.state}. When the job is over, the "
                    "next try creates a new one"
                )
            clock.sleep(CANCELING_POLL_SECONDS)
            job = self._hook.get_job(job.id)
        return job

    def _create(self) -> Job:
        self._check()
        self._hook.get_conn()  # an invalid connection must not count as a spec that was sent
        self._record.note("sending", marker=self._marker)
        sent_at = clock.now()
        try:
            job = self._hook.create_job(self._spec)
        except PolarisError as error:
            if not (isinstance(error, PolarisTransientError) and error.received):
                self._note_best_effort("failed")  # nothing was sent, or Polaris rejected the spec
                raise self._not_created(error) from None
            self._log.warning("The response to the spec was lost. %s", error)
            job_or_none = self._find_or_report_lost(sent_at, self._marker, last_sent_at=clock.now())
            if job_or_none is None:
                self._note_best_effort("failed")
                raise
            job = job_or_none
        self._note_best_effort("waiting", job.id)
        return job

    def _not_created(self, error: PolarisError) -> PolarisError:
        """Return the error with the fact that no job was created."""
        if not isinstance(error, PolarisApiError):
            return error
        parts = [f"No job was created for table {self._table!r}: {error}"]
        if isinstance(error, PolarisNotFound):
            parts.append("Check the project id: the extra project_id of the connection, or project_id of the task")
        kept = {"received": False} if isinstance(error, PolarisTransientError) else {}
        return type(error)(sentences(*parts), status=error.status, code=error.code, **kept)

    def _note_best_effort(self, state: State, job_id: str | None = None) -> None:
        """Best effort: a failure of the store hides no other error, and ends no wait for a running job."""
        try:
            self._record.note(state, job_id)
        except Exception as error:  # noqa: BLE001 - see above
            about = f"Job {job_id}" if job_id else "The task"
            self._log.warning(
                "%s: the state %r could not be stored for a retry: %s: %s", about, state, type(error).__name__, error
            )

    def _find_or_report_lost(
        self, sent_at: float | None, marker: str | None, *, last_sent_at: float | None = None
    ) -> Job | None:
        """Return the job with the marker; ``None`` only if no such job exists, or it loaded nothing.

        :param sent_at: when the spec was sent; ``None`` if unknown.
        :param marker: ``None`` if unknown.
        :param last_sent_at: the latest time at which the spec can have been sent.
        :raises PolarisJobLost: if the job may exist and cannot be found.
        """
        if marker is None or not can_be_marked(self._spec):
            self._note_best_effort("lost")
            raise PolarisJobLost(self._lost_message(sent_at))
        if last_sent_at is None:
            sending = SENDING_SECONDS + self._hook.connection.timeout
            last_sent_at = clock.now() if sent_at is None else sent_at + sending
        while True:
            job = self._marked_job(marker, self._record.run_began if sent_at is None else sent_at)
            if job is not None and job.is_being_canceled and job.created_by and job.last_modified_by == job.created_by:
                # Canceled with the key that created the job: an earlier try was killed, or its timeout passed.
                job = self._wait_until_over(job)
                if job.has_failed or job.was_canceled:
                    return None
            if job is not None and sent_at is None and job.has_failed:
                return None  # the job had its verdict, which could not be noted
            if job is not None:
                self._record.note("waiting", job.id)
                self._log.warning("%s is %s: an earlier try created it. This try continues with it", job, job.state)
                return job
            left = last_sent_at + IN_FLIGHT_SECONDS - clock.now()
            if left <= 0:
                return None
            clock.sleep(min(left, SEARCH_PAUSE_SECONDS))

    def _marked_job(self, marker: str, since: float | None) -> Job | None:
        """Return the job with the marker, ``None`` if the list has no such job yet.

        :param since: the job was created after this time, except for the difference between clocks.
        :raises PolarisJobLost: if the table has too many newer jobs.
        """
        newest_first = self._hook.list_jobs(
            target_table_name=self._table,
            type="sql",
            sort_column="created_date_time",
            sort_order="DESC",
            page_size=SEARCHED_JOBS,
        )
        for count, summary in enumerate(newest_first):
            created = summary.created_time
            if since is not None and created is not None and created < since - CLOCK_DIFFERENCE_SECONDS:
                return None  # all jobs that follow are older
            if count == SEARCHED_JOBS:
                self._note_best_effort("lost")
                raise PolarisJobLost(
                    f"An earlier try may have created a job. Table {self._table!r} has more than {SEARCHED_JOBS} newer "
                    f"jobs, and that job is not among the newest {SEARCHED_JOBS}. {self._next_step()}"
                )
            if summary.id in self._without_marker:
                continue
            job = self._hook.get_job(summary.id)
            if marker in str(job.raw.get("query")):
                return job
            self._without_marker.add(job.id)
        return None

    def _lost_message(self, sent_at: float | None) -> str:
        if sent_at is None:
            what = "An earlier try may have created a job. Before Airflow 3.3 a task cannot store the id of its job"
        else:
            when = datetime.fromtimestamp(sent_at, timezone.utc)
            what = f"The spec was sent at {when:%Y-%m-%d %H:%M:%S} UTC, and its response was lost"
        return f"{what}. Table {self._table!r} may have a job that no task waits for. {self._next_step()}"

    def _next_step(self) -> str:
        return (
            f"Check the newest jobs of table {self._table!r} in the console, or with PolarisHook.latest_job(). If the "
            "data is there, mark this task as success. If not, clear this task to load again"
        )
