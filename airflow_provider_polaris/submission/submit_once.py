"""Creating a job once: the one an earlier try created is found again; the spec is never sent twice by mistake."""

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
from airflow_provider_polaris.gate.outage_tolerance import SECOND_LOOK
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.submission.submission_record import State, SubmissionNote, SubmissionRecord
from airflow_provider_polaris.waiting.progress_log import Log

#: A spec whose answer was lost may still arrive for so long: only after that does not finding its job prove that there
#: is none. In seconds; longer than a request and its answer may take.
IN_FLIGHT = 120.0
#: So much later than it was noted, in seconds, a spec may still be sent: a 429 is tried again, after pauses. And longer
#: by the connection's timeout.
SENDING = 180.0
#: How often a job with our marker is looked for in that time, in seconds.
LOOK_AGAIN = 15.0
#: How long a job is waited for that is canceled for an earlier try, and how often it is looked at, in seconds.
CANCELING = 300.0
CANCELING_LOOK = 5.0
#: So many of a table's newest jobs are searched for the marker: the list does not show queries.
SEARCHED = 200
#: How far the service's clock may be from Airflow's, in seconds: a day is more than any time zone.
CLOCKS_APART = 86_400.0


class JobSubmission:
    """One try's way to its job.

    :param check: called right before the spec is sent; raises if there is to be no job any more.
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
        record.is_for(spec)
        # The end of it is new for each spec that is sent: a run of the same name may have been here before.
        self._marker = f"{record.marker} {secrets.token_hex(8)}"
        self._spec = marked(spec, self._marker)
        self._table = table_of(spec)
        self._log = log
        #: Jobs that do not have the marker that is looked for.
        self._others: set[str] = set()

    def job(self) -> Job:
        """Return the job to wait for: that of an earlier try, or else a new one.

        :raises PolarisJobLost: when an earlier try may have created a job that cannot be found.
        """
        remembered = self._record.recall()
        if remembered is not None:
            job = self._of_earlier_try(remembered)
        elif self._record.is_retry and (self._record.is_garbled or not self._record.lasts):
            job = self._found_or_lost(None, self._record.marker if self._record.knows_marker else None)
        else:
            job = None
        if job is None:
            job = self._create()
            self._log.info("%s: created", job)
        return job

    def _of_earlier_try(self, remembered: SubmissionNote) -> Job | None:
        """Return the job that an earlier try has waited for, ``None`` if this try is to load."""
        same_life = remembered.life == self._record.life
        if remembered.state == "failed" or (remembered.state in ("passed", "refused") and not same_life):
            return None  # it had its verdict: a retry or a clear loads again
        if remembered.state == "lost" and not same_life:
            return None  # the user was told, and has looked
        is_other = not same_life and remembered.spec not in (None, self._record.spec)
        if remembered.state in ("sending", "lost"):
            # A spec that is another by now tells nothing of where the one that went out is to be found.
            marker = None if is_other else remembered.marker or self._record.marker
            return self._found_or_lost(remembered.at, marker)
        if remembered.job_id is None:
            return None
        job = self._still_there(remembered.job_id)
        # A kill may have been too late to note that it cancels the job, or to do it.
        asked_again = remembered.state == "canceling" or not same_life
        if asked_again and job.is_being_canceled:
            job = self._until_over(job)
        if asked_again and (job.has_failed or job.was_canceled):
            return None  # it has loaded nothing
        if is_other:
            self._leave(job)
            return None
        self._log.warning("%s is %s: an earlier try created it. Going on with it", job, job.state)
        return job

    def _still_there(self, job_id: str) -> Job:
        try:
            return self._hook.get_job(job_id)
        except PolarisNotFound:
            clock.sleep(SECOND_LOOK)  # as for every wait: one look does not prove it
        try:
            return self._hook.get_job(job_id)
        except PolarisNotFound:
            self._note_if_possible("lost", job_id)
            raise PolarisJobLost(
                f"An earlier try created job {job_id}, and Polaris no longer has it. {self._how_to_go_on()}"
            ) from None

    def _leave(self, job: Job) -> None:
        """Leave a job to itself whose task was cleared in order to load something else."""
        if not job.is_over:
            raise PolarisJobStillRunning(
                f"{job} is {job.state}: an earlier try created it, of another spec than this task has now. Cancel it, "
                "or wait until it is over, and clear this task again: then it loads what the spec says now"
            )
        self._log.warning("%s is %s: an earlier try created it, of another spec. Loading anew", job, job.state)

    def _until_over(self, job: Job) -> Job:
        """Wait until a job that is being canceled is over: it may complete all the same."""
        give_up_at = clock.now() + CANCELING
        while not job.is_over:
            if clock.now() >= give_up_at:
                raise PolarisJobTimeout(f"{job} is still being canceled, for an earlier try. Try again")
            clock.sleep(CANCELING_LOOK)
            job = self._hook.get_job(job.id)
        return job

    def _create(self) -> Job:
        self._check()
        self._hook.get_conn()  # a connection that is wrong is no spec that was sent
        self._record.note("sending", marker=self._marker)
        sent_at = clock.now()
        try:
            job = self._hook.create_job(self._spec)
        except PolarisError as error:
            if not (isinstance(error, PolarisTransientError) and error.received):
                self._note_if_possible("failed")  # nothing was sent, or Polaris said no
                raise self._not_created(error) from None
            self._log.warning("The answer to the new job was lost. %s", error)
            job_or_none = self._found_or_lost(sent_at, self._marker, last_sent_at=clock.now())
            if job_or_none is None:
                self._note_if_possible("failed")
                raise
            job = job_or_none
        self._note_if_possible("waiting", job.id)
        return job

    def _not_created(self, error: PolarisError) -> PolarisError:
        """Return the error with what is certain: this task has loaded nothing."""
        if not isinstance(error, PolarisApiError):
            return error
        parts = [f"No job was created for table {self._table!r}: {error}"]
        if isinstance(error, PolarisNotFound):
            parts.append("Is the project id right, the connection's extra project_id or the task's own?")
        kept = {"received": False} if isinstance(error, PolarisTransientError) else {}
        return type(error)(sentences(*parts), status=error.status, code=error.code, **kept)

    def _note_if_possible(self, state: State, job_id: str | None = None) -> None:
        """Note what has happened. That it cannot be noted must not hide it, nor end the wait for a job that runs."""
        try:
            self._record.note(state, job_id)
        except Exception as error:  # noqa: BLE001 - whatever it is
            what = f"Job {job_id}" if job_id else "That there is no job"
            self._log.warning("%s could not be noted for a retry: %s: %s", what, type(error).__name__, error)

    def _found_or_lost(
        self, sent_at: float | None, marker: str | None, *, last_sent_at: float | None = None
    ) -> Job | None:
        """Look for the job with that marker; ``None`` proves that there is none, or none that has loaded anything.

        :param sent_at: when the spec went out; ``None`` if that is not known.
        :param marker: ``None`` if it is not known either.
        :param last_sent_at: when it can have gone out for the last time.
        """
        if marker is None or not can_be_marked(self._spec):
            self._note_if_possible("lost")
            raise PolarisJobLost(self._lost(sent_at))
        if last_sent_at is None:
            sending = SENDING + self._hook.connection.timeout
            last_sent_at = clock.now() if sent_at is None else sent_at + sending
        while True:
            job = self._marked_job(marker, self._record.began if sent_at is None else sent_at)
            if job is not None and job.is_being_canceled and job.created_by and job.last_modified_by == job.created_by:
                # By the key that created it: an earlier try was killed, or its time was up.
                job = self._until_over(job)
                if job.has_failed or job.was_canceled:
                    return None
            if job is not None and sent_at is None and job.has_failed:
                return None  # it had its verdict, which nobody could note
            if job is not None:
                self._record.note("waiting", job.id)
                self._log.warning("%s is %s: an earlier try created it. Going on with it", job, job.state)
                return job
            left = last_sent_at + IN_FLIGHT - clock.now()
            if left <= 0:
                return None
            clock.sleep(min(left, LOOK_AGAIN))

    def _marked_job(self, marker: str, since: float | None) -> Job | None:
        """Return the job with that marker, ``None`` if there is none yet.

        :param since: it is not older than that, but for clocks that differ.
        :raises PolarisJobLost: if the table has so many newer ones that this cannot be told.
        """
        newest_first = self._hook.list_jobs(
            target_table_name=self._table,
            type="sql",
            sort_column="created_date_time",
            sort_order="DESC",
            page_size=SEARCHED,
        )
        for count, summary in enumerate(newest_first):
            created = summary.created_time
            if since is not None and created is not None and created < since - CLOCKS_APART:
                return None  # and all that follow are older still
            if count == SEARCHED:
                self._note_if_possible("lost")
                raise PolarisJobLost(
                    f"An earlier try may have created a job, and table {self._table!r} has more than {SEARCHED} newer "
                    f"ones, among which it was not found. {self._how_to_go_on()}"
                )
            if summary.id in self._others:
                continue
            job = self._hook.get_job(summary.id)
            if marker in str(job.raw.get("query")):
                return job
            self._others.add(job.id)
        return None

    def _lost(self, sent_at: float | None) -> str:
        if sent_at is None:
            what = "An earlier try may have created a job, and before Airflow 3.3 a task cannot remember it"
        else:
            when = datetime.fromtimestamp(sent_at, timezone.utc)
            what = f"The spec was sent at {when:%Y-%m-%d %H:%M:%S} UTC, and its answer was lost"
        return f"{what}: table {self._table!r} may have a job that nobody waits for. {self._how_to_go_on()}"

    def _how_to_go_on(self) -> str:
        return (
            f"Look at the newest jobs of table {self._table!r} in the console, or with PolarisHook.latest_job(). If "
            "the data is there, mark this task as success; if not, clear it, and it loads again"
        )
