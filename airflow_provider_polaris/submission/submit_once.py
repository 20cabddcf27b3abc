"""Create a job once: find the job of an earlier try, and never send a spec twice by mistake."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisBadRequest,
    PolarisError,
    PolarisNotFound,
    PolarisTransientError,
    sentences,
)
from airflow_provider_polaris.api.job_spec import can_be_marked, marked, refuses_context, table_of
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.exceptions import (
    PolarisJobLost,
    PolarisJobStillRunning,
    PolarisJobTimeout,
    PolarisTaskKilled,
)
from airflow_provider_polaris.gate.outage_tolerance import SECOND_CHECK_SECONDS
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.submission.job_search import (
    SEARCHED_JOBS,
    FoundJobs,
    JobSearch,
    SentSpec,
    facts_about,
)
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
#: How often one try sends its spec, if each response is lost and no job appears.
MOST_SENDS = 3


class JobSubmission:
    """Gets the job of one try: the job of an earlier try, or a new one.

    :param check: called right before the spec is sent. Raises if the task must not create a job any more.
    :param mark: whether the spec is sent with a marker, if its type has a place for one.
    """

    def __init__(
        self,
        hook: PolarisHook,
        record: SubmissionRecord,
        spec: Mapping[str, Any],
        log: Log,
        check: Callable[[], None],
        *,
        mark: bool = True,
    ) -> None:
        self._check = check
        self._hook = hook
        self._record = record
        record.set_spec(spec)
        self._spec = spec
        self._table = table_of(spec)
        self._log = log
        self._search = JobSearch(hook, spec)
        self._can_mark = mark and can_be_marked(spec)
        # The end is new for each try: an earlier DAG run may have had the same name. All sends of a try have the same
        # marker, so that a search after the second send also finds the job of a first send that arrives late.
        self._marker = f"{record.marker} {secrets.token_hex(8)}"
        #: The newest jobs of the table before this try sent its spec; ``None`` if they were not requested.
        self._known_jobs: list[str] | None = None

    def job(self) -> Job:
        """Return the job to wait for: the job of an earlier try, or a new one.

        :raises PolarisJobLost: if an earlier try may have created a job that cannot be found.
        """
        note = self._record.last_note()
        if note is not None:
            job = self._job_of_earlier_try(note)
        elif self._record.is_retry and (self._record.is_unreadable or not self._record.is_kept):
            job = self._find_without_note()
        else:
            job = None
        if job is None:
            job = self._create()
            if job.health is None or job.health.is_ok:
                self._log.info("%s: created", job)
            else:
                # The wait logs only what changes from now on.
                self._log.warning("%s: created, %s", job, job.health)
        return job

    def _job_of_earlier_try(self, note: SubmissionNote) -> Job | None:
        """Return the job of an earlier try; ``None`` if this try must create one."""
        is_cleared = note.clear_generation != self._record.clear_generation
        if note.state == "failed" or (note.state in ("passed", "refused") and is_cleared):
            return None  # the job had its verdict: a retry or a clear loads again
        if note.state == "lost" and is_cleared:
            return None  # the error told the user to check the table before the clear
        is_other_spec = is_cleared and note.spec not in (None, self._record.spec)
        if note.state == "lost" or (note.state == "sending" and is_other_spec):
            # The other spec may have another table.
            raise self._lost(self._lost_message(note.at))
        if note.state == "sending":
            sending = SENDING_SECONDS + self._hook.connection.timeout
            return self._find_or_report_lost(
                SentSpec(
                    marker=note.marker,
                    is_marked=note.marker is not None,
                    spec=note.spec,
                    at=note.at,
                    since=note.at,
                    last_at=note.at + sending,
                    known_jobs=note.known_jobs,
                )
            )
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
                f"An earlier try created job {job_id}, and Polaris no longer has it\n{self._next_step()}"
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

    def _find_without_note(self) -> Job | None:
        """Return the job of an earlier try that could not note what it sent; ``None`` if this try must create one."""
        if not self._record.knows_marker:
            raise self._lost(self._lost_message(None))
        return self._find_or_report_lost(
            SentSpec(
                marker=self._record.marker,
                is_marked=self._is_marked,
                spec=self._record.spec,
                at=None,
                since=self._record.run_began,
                last_at=clock.now(),
            )
        )

    @property
    def _is_marked(self) -> bool:
        """Whether this try sends its spec with a marker."""
        return self._can_mark and not facts_about(self._hook.connection).refuses_marker

    def _create(self) -> Job:
        """Send the spec, and return its job. If the response is lost and no job appears, send the spec again."""
        began = clock.now()
        was_lost = False
        for _ in range(MOST_SENDS):
            self._check()
            if was_lost and self._record.is_overtaken:
                raise PolarisTaskKilled(
                    "Another try of this task has started. This try does not send its spec again for table "
                    f"{self._table!r}"
                )
            self._hook.get_conn()  # an invalid connection must not count as a spec that was sent
            try:
                job = self._send()
            except PolarisError as error:
                failure = error
            else:
                self._note_best_effort("waiting", job.id)
                return job
            is_lost = isinstance(failure, PolarisTransientError) and failure.received
            was_lost = was_lost or is_lost
            if not was_lost or (isinstance(failure, PolarisTransientError) and not is_lost):
                break  # nothing was sent, or Polaris rejected the spec
            # Polaris may also reject the spec because the same spec, whose response was lost, has arrived late.
            self._log.warning("%s. This task searches for the job for %g s", failure, IN_FLIGHT_SECONDS)
            found = self._find_or_report_lost(self._sent_spec(began))
            if found is not None:
                return found
            if not is_lost:
                break
            self._log.warning("Table %r has no job of the spec, so Polaris has not received the spec", self._table)
        self._note_best_effort("failed")
        raise self._not_created(failure) from None

    def _send(self) -> Job:
        """Note the spec, and send it. If the service refuses the marker, send the spec without a marker."""
        if not self._is_marked:
            job = self._send_with(None)
        else:
            try:
                job = self._send_with(self._marker)
            except PolarisBadRequest as error:
                if not refuses_context(self._spec, error):
                    raise
                self._log.warning("Polaris refuses the marker. This task sends its spec without a marker: %s", error)
                self._can_mark = False
                job = self._send_with(None)
                facts_about(self._hook.connection).note_refusal()
        self._search.learn_from(job, self._marker)
        return job

    def _send_with(self, marker: str | None) -> Job:
        if self._known_jobs is None and not (marker and self._search.finds_each_marker):
            self._known_jobs = self._newest_jobs()
        self._record.note("sending", marker=marker, known_jobs=self._known_jobs)
        return self._hook.create_job(marked(self._spec, marker, self._record.about) if marker else self._spec)

    def _newest_jobs(self) -> list[str] | None:
        """Best effort: the marker alone finds the job, if the service has kept the marker."""
        try:
            return self._search.newest_jobs()
        except PolarisApiError as error:
            self._log.warning("The newest jobs of table %r could not be listed: %s", self._table, error)
            return None

    def _sent_spec(self, began: float) -> SentSpec:
        """Return the spec that this try has sent since ``began``."""
        return SentSpec(
            marker=self._marker,
            is_marked=self._is_marked,
            spec=self._record.spec,
            at=began,
            since=began,
            last_at=clock.now(),
            known_jobs=self._known_jobs,
        )

    def _not_created(self, error: PolarisError) -> PolarisError:
        """Return the error with the fact that no job was created."""
        if not isinstance(error, PolarisApiError):
            return error
        parts = [f"No job was created for table {self._table!r}: {error}"]
        if isinstance(error, PolarisNotFound):
            parts.append("Check the project id: the extra project_id of the connection, or project_id of the task")
        if isinstance(error, PolarisTransientError) and error.received:
            parts = [
                f"No job was created for table {self._table!r}",
                f"Each of {MOST_SENDS} responses to the spec was lost",
                f"No job of the spec appeared within {IN_FLIGHT_SECONDS:g} s of each",
                str(error.__context__ or error),  # without the advice of create_job to look for the job
            ]
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

    def _find_or_report_lost(self, sent: SentSpec) -> Job | None:
        """Return the job of a spec; ``None`` only if no such job exists, or it loaded nothing.

        :raises PolarisJobLost: if the job may exist and cannot be found.
        """
        while True:
            left = sent.last_at + IN_FLIGHT_SECONDS - clock.now()
            try:
                found = self._search.search(sent)
                job = self._own_job(found.marked)
                if sent.at is None and found.settled >= self._record.tries_before:
                    left = 0.0  # each earlier try has created one job, so no spec is on its way
                if job is None and left <= 0:
                    job = self._only_job(found, sent)
                    if job is None:
                        return None
                if job is not None:
                    job = self._hook.get_job(job.id)
                    if self._has_loaded_nothing(job):
                        self._search.settle(job)
                        continue
                    return self._continue_with(job)
            except PolarisTransientError as error:
                if left <= 0:
                    message = sentences(self._lost_message(sent.at), f"The search for the job failed: {error}")
                    raise type(error)(message, status=error.status, code=error.code) from None
                self._log.warning("The search for the job failed, and is repeated: %s", error)
            clock.sleep(min(left, SEARCH_PAUSE_SECONDS))

    def _own_job(self, marked_jobs: list[Job]) -> Job | None:
        """Return the job of this task among the jobs with its marker, the newest first; ``None`` if there are none.

        A person who creates a job from a copy of the spec copies the marker. The oldest job is the original.
        """
        own = [job for job in marked_jobs if job.created_by == marked_jobs[-1].created_by]
        loading = [job for job in own if not (job.has_failed or job.was_canceled)]
        # An earlier DAG run may have had the same name.
        began = self._record.run_began
        of_this_run = [job for job in loading if not began or (job.created_time or began) >= began]
        loading = of_this_run or loading
        if len(loading) > 1:
            raise self._lost(
                f"{_ids(loading)} have the marker of this task, so the data may be loaded twice. {self._next_step()}"
            )
        return next(iter(loading or own), None)

    def _only_job(self, found: FoundJobs, sent: SentSpec) -> Job | None:
        """Return the only new job of the same spec; ``None`` if there is no job that may be the job of the spec.

        :raises PolarisJobLost: if there are other jobs that may be the job of the spec.
        """
        if not found.is_whole:
            raise self._lost(
                f"An earlier try may have created a job. Table {self._table!r} has more than {SEARCHED_JOBS} newer "
                f"jobs, and that job is not among the newest {SEARCHED_JOBS}. {self._next_step()}"
            )
        possible = [*found.alike, *found.unclear]
        if not possible:
            return None
        if possible == found.alike[:1] and sent.known_jobs is not None:
            return possible[0]
        raise self._lost(self._lost_message(sent.at, possible))

    def _has_loaded_nothing(self, job: Job) -> bool:
        """Wait until the job is over if an earlier try was killed, or its timeout passed, and canceled the job.

        Whoever canceled the job then has the key that created the job.
        """
        if not (job.is_being_canceled and job.created_by and job.last_modified_by == job.created_by):
            return False
        job = self._wait_until_over(job)
        return job.has_failed or job.was_canceled

    def _continue_with(self, job: Job) -> Job:
        self._record.note("waiting", job.id)
        self._log.warning("%s is %s: its spec was sent before. This try continues with the job", job, job.state)
        return job

    def _lost(self, message: str) -> PolarisJobLost:
        self._note_best_effort("lost")
        return PolarisJobLost(message)

    def _lost_message(self, sent_at: float | None, possible: Sequence[Job] = ()) -> str:
        if sent_at is None:
            what = "An earlier try may have created a job. Before Airflow 3.3 a task cannot store the id of its job"
        else:
            when = datetime.fromtimestamp(sent_at, timezone.utc)
            what = f"The spec was sent at {when:%Y-%m-%d %H:%M:%S} UTC, and its response was lost"
        which = f" It may be {_ids(possible, 'or')}." if possible else ""
        return f"{what}\nTable {self._table!r} may have a job that no task waits for.{which}\n{self._next_step()}"

    def _next_step(self) -> str:
        return (
            f"Check the newest jobs of table {self._table!r} in the console, or with PolarisHook.latest_job(). If the "
            "data is there, mark this task as success. If not, clear this task to load again"
        )


def _ids(jobs: Sequence[Job], word: str = "and") -> str:
    """Return the ids of up to three jobs."""
    shown = [f"job {job.id}" for job in jobs[:3]] + ["others"] * (len(jobs) > 3)
    return f" {word} ".join(shown)
