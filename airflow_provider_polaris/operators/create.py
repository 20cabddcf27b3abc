"""PolarisCreateJobOperator: create an ingestion job once, and succeed only if the job passes the gate."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris import clock, configuration
from airflow_provider_polaris._compat import AirflowFailException, AirflowTaskTimeout
from airflow_provider_polaris.api.errors import PolarisConnectionInvalid, PolarisError, PolarisUsageError
from airflow_provider_polaris.exceptions import (
    PolarisGateRefused,
    PolarisJobCanceled,
    PolarisJobFailed,
    PolarisJobTimeout,
)
from airflow_provider_polaris.hooks.project_task import CONNECTION
from airflow_provider_polaris.operators.template_file import TemplateFile
from airflow_provider_polaris.waiting.deferral import called_by_airflow, check_seconds, deadline_of, seconds
from airflow_provider_polaris.waiting.task_base import GATE_TEMPLATES, GatedTask
from airflow_provider_polaris.waiting.wait_metrics import sends_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.triggers.base import BaseTrigger

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.api.models import Job, JobType
    from airflow_provider_polaris.hooks.polaris import PolarisHook
    from airflow_provider_polaris.submission.submission_record import State, SubmissionRecord
    from airflow_provider_polaris.submission.worker_kill import WorkerKill
    from airflow_provider_polaris.waiting.crossing import TriggerArgs, WaitEvent
    from airflow_provider_polaris.waiting.job_wait import JobWait, Outcome


#: With this name of a method, Airflow resumes a task whose deferral it has ended: the trigger failed, or took too long.
FAILED_DEFERRAL = "__fail__"


class PolarisCreateJobOperator(TemplateFile, GatedTask):
    """Load data once: create an ingestion job of Imply Polaris, wait for it, and succeed only if its data is good.

    A retry never loads a second time by mistake. On Airflow 3.3 and later, a retry continues with the job of the try
    before if that try had no verdict: its worker was lost, Polaris was unreachable, or the timeout passed. After a
    verdict, a retry or a clear creates a new job.

    The spec of a ``batch`` or ``sql`` job is sent with a marker. If the response to the spec is lost, the task searches
    for the job for two minutes. The task continues with the job, or sends the spec again, three times in all. For other
    types the task compares the new jobs of the table with the spec. If the task cannot tell whether the job exists, it
    fails with :class:`~airflow_provider_polaris.exceptions.PolarisJobLost`, whose message says what to check. A clear
    then loads again.

    Before Airflow 3.3, a task cannot store which job it has created. A retry finds the job by the marker. For other
    types the retry fails with ``PolarisJobLost`` if the table has jobs since the day before the run.

    The task fails with

    * :class:`~airflow_provider_polaris.exceptions.PolarisJobFailed`, retried as usual, if the job failed: nothing was
      loaded;
    * :class:`~airflow_provider_polaris.exceptions.PolarisJobCanceled`, never retried, if somebody canceled the job;
    * :class:`~airflow_provider_polaris.exceptions.PolarisGateRefused`, never retried, if the job completed and its data
      is not good enough: the rows are in the table;
    * :class:`~airflow_provider_polaris.exceptions.PolarisJobTimeout`, retried as usual, if the job is not over in time.

    XCom: ``job_id`` is pushed as soon as it is known. At the end, ``return_value`` is a dict, and ``metrics`` the dict
    of row counters. docs/reference/xcom.md describes both.

    :param job_spec: the body of ``POST /jobs``: a dict, JSON text, or the path of a ``.json`` file. (templated, with
        all nested values)
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: overrides the project of the connection. (templated)
    :param interval: replace exactly this interval of the table, so that a second run loads no row twice, such as
        ``{{ data_interval_start }}/{{ data_interval_end }}``. Rows of other times are left out. Only for ``batch``
        jobs. (templated)
    :param wait_for_completion: wait until the job is over, or until a streaming job runs. Otherwise wait only until
        Polaris has accepted the spec; the options of the gate then have no effect.
    :param cancel_on_timeout: cancel the job when ``timeout`` or ``execution_timeout`` ends the wait.
    :param cancel_on_failure: cancel the job when this task fails for good, so that no job without a task keeps running:
        the last try fails, or the error is never retried. If the worker is lost or shut down, the job keeps running.
    :param cancel_on_kill: cancel the job when a user clears or marks the task, or deletes its DAG run, while the task
        runs or (Airflow 3.3 and later) is deferred. If the worker is shut down or lost, or Airflow does not report the
        reason, the job keeps running, and the next try continues with it.
    :param mark_jobs: send the spec with a marker: in the ``context`` of a ``batch`` job, key ``airflow``, or in a
        comment at the end of a ``sql`` query. The marker also has the ids of DAG, run and task, the map index, the
        number of the try, and the address of the task's page if Airflow knows its own address. The default is
        ``[polaris] mark_jobs``.
    :param fail_on_warnings: refuse a completed job with one of these warning codes. ``True``: with any; ``()``: never.
    :param fail_on_unhealthy: refuse a running job at its first health error.
    :param min_rows_processed: refuse a job with fewer processed rows, with and without warnings. (templated)
    :param max_rows_skipped_by_error: refuse a job with more skipped rows. (templated)
    :param max_rows_with_warning: refuse a job with more rows that were ingested in part. (templated)
    :param max_error_ratio: refuse a job with a larger share of skipped rows, from 0 to 1. (templated)
    :param max_unreachable: fail after an outage of Polaris of this many seconds. The default is
        ``[polaris] max_unreachable``.
    :param wait_until_available: once a good job has completed, also wait until two checks of its table, 30 s apart,
        report that all data can be queried. The API key needs the permission ``ViewTables`` or ``ManageTables``.
    :param partition_key: the partition of the events of the outlets. Airflow 3.3 and later start only consumers with
        partitions on such an event. Earlier versions ignore the option, with a warning. (templated)
    :param deferrable: wait in the triggerer. The default is ``[operators] default_deferrable``.
    :param poll_interval: the longest time between two polls, in seconds. The default is ``[polaris] poll_interval``. If
        that is not set, the time grows with the time waited: a twentieth of it, from 5 s to 60 s.
    :param timeout: the longest wait, in seconds. A retry waits for this long again.
    """

    template_fields: Sequence[str] = ("job_spec", "interval", *CONNECTION, *GATE_TEMPLATES)
    template_ext: Sequence[str] = (".json",)
    file_option = "job_spec"
    template_fields_renderers = {"job_spec": "json"}  # noqa: RUF012 - Airflow's own way to declare it
    ui_color = "#d6faec"

    def __init__(
        self,
        *,
        job_spec: dict[str, Any] | str,
        interval: str | None = None,
        wait_for_completion: bool = True,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = False,
        cancel_on_failure: bool = False,
        mark_jobs: bool | None = None,
        poll_interval: timedelta | float | None = None,
        timeout: timedelta | float = 24 * 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_spec = job_spec
        self.interval = interval
        if interval is not None:
            self._given.add("interval")
        self.wait_for = "completed"
        self.wait_for_completion = wait_for_completion
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.cancel_on_failure = cancel_on_failure
        self.mark_jobs = configuration.mark_jobs() if mark_jobs is None else mark_jobs
        self.poll_interval = self.set_interval(poll_interval)
        self.timeout = seconds(timeout)
        self._record: SubmissionRecord | None = None
        self._kill: WorkerKill | None = None
        self._must_end = False
        self._has_canceled = False

    @called_by_airflow
    @sends_metrics
    def execute(self, context: Context) -> dict[str, Any]:
        """Create the job, or find the job of an earlier try. Wait for it, and return the dict for XCom."""
        began = clock.now()
        spec = self._read_spec()
        self._check(spec)
        try:
            job, job_wait = self._create(spec, context)
            began = clock.now()  # the time to create the job does not count
            if not self.wait_for_completion:
                return job.to_dict()
            outcome = job_wait.poll()
            if outcome is None and self.deferrable:
                self.defer_wait(job_wait, deadline_of(self, context, began, self.timeout), context)
            outcome = outcome or job_wait.wait_until(began + self.timeout)
            if outcome is None:
                raise self.timed_out(partial(self.timeout_message, job_wait))
            return self.finish(outcome, context)
        except AirflowTaskTimeout:  # execution_timeout: Airflow's alarm has interrupted this method
            if self._job_wait:
                limit = self.execution_timeout.total_seconds() if self.execution_timeout else clock.now() - began
                self.log.warning("%s", self.timeout_message(self._job_wait, "execution_timeout", limit))
            raise
        except Exception as error:
            self._cancel_after(error, context)
            raise
        finally:
            self._kill = None  # Airflow may end this process while it handles the task's success

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral. If Airflow itself has ended the deferral, the task fails here."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except Exception as error:
            if next_method == FAILED_DEFERRAL:
                self._cancel_after(error, context)
            raise

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Continue after a deferral. Airflow calls this on another instance than the one that deferred."""
        try:
            result: dict[str, Any] = super().execute_complete(context, event)
        except Exception as error:
            self._cancel_after(error, context)
            raise
        else:
            return result
        finally:
            self._kill = None

    def resume_job_wait(self, event: WaitEvent, context: Context) -> JobWait:
        """Return the wait for the event's job. Long waits stay in a trigger, even if the DAG file has changed."""
        if event.job is None:
            raise event.error or PolarisError("The event of the trigger has no job. Clear the task to continue")
        self._wait_as_for(event.job.type)
        self._get_ready(context)
        return self._wait_for_job(event.job.id, deferrable=True)

    def on_kill(self) -> None:
        """Cancel the job if a user killed the task. Leave the job running if only this process must end."""
        self._must_end = True
        if self.cancel_on_kill and self._kill:
            self._kill.handle()

    def refusal(self, outcome: Outcome, message: str) -> PolarisError:
        """Return the error for a job that is not good enough."""
        job = outcome.job
        if job.has_failed:
            return PolarisJobFailed(message)
        if job.was_canceled:
            return PolarisJobCanceled(f"{message}\nAirflow does not retry this task. Clear it to load again")
        if job.is_over and job.is_deletion:
            hint = "The deletion is over. fail_on_warnings=() accepts a deletion that finds no rows"
        elif job.is_over and outcome.metrics is not None and outcome.metrics.rows_persisted == 0:
            hint = "Polaris stored no rows (numRowsPersisted is 0). Clear this task to load again"
        elif job.is_over:
            hint = (
                "The loaded rows are in the table. Clear this task only to load again, beside these rows or over them"
            )
        elif self.cancel_on_failure and self._job_wait:
            hint = self._cancel(self._job_wait)
        else:
            hint = "The job is still running. Cancel it first; otherwise the cleared task resumes waiting for it"
        return PolarisGateRefused(f"{message}\n{hint}")

    def finish(self, outcome: Outcome, context: Context) -> dict[str, Any]:
        """Note the verdict for later tries, and report the outcome."""
        # A job that is refused while it runs may still load, so that refusal is no verdict for later tries.
        if self._record and (outcome.passed or outcome.job.is_over):
            refused: State = "failed" if outcome.job.has_failed else "refused"
            self._record.note("passed" if outcome.passed else refused, outcome.job.id)
        return self.report(outcome, context)

    def known_spec(self) -> dict[str, Any]:
        """Return the spec of the job. It is rendered again on the instance that continues after a deferral."""
        from airflow_provider_polaris.api.job_spec import read_spec

        return read_spec(self.job_spec)

    def timeout_error(self, message: str) -> PolarisJobTimeout:
        """Return an error that is retried: on Airflow 3.3 and later the next try continues with the job."""
        return PolarisJobTimeout(message)

    def leave_job(self, job_wait: JobWait) -> str:
        """Cancel the job if the task's options ask for that. Return what happened."""
        is_asked_for = self.cancel_on_timeout or (self.cancel_on_failure and self._is_last_try)
        if job_wait.progress.is_over or not is_asked_for:
            return super().leave_job(job_wait)
        return self._cancel(job_wait)

    def trigger_for(self, args: TriggerArgs) -> BaseTrigger:
        """Return the trigger that waits as the arguments say."""
        from airflow_provider_polaris.triggers.polaris import trigger_for

        return trigger_for(args)

    @property
    def _is_last_try(self) -> bool:
        return self._record is not None and self._record.is_last_try

    def _cancel(self, job_wait: JobWait) -> str:
        """Ask Polaris to cancel the job. Return what happened."""
        self._has_canceled = True
        if self._record:
            self._record.note_cancellation(job_wait.job_id, self.log)
        try:
            job_wait.hook.cancel_job(job_wait.job_id)
        except PolarisError as error:
            return f"The job could not be canceled: {error}"
        return "Polaris accepted the cancellation of the job"

    def _cancel_after(self, error: Exception, context: Context) -> None:
        """Cancel the job if ``cancel_on_failure`` is set, and the error fails the task for good. Best effort."""
        # A usage error becomes one that is never retried, outside of this class.
        is_final = isinstance(error, AirflowFailException) or (
            isinstance(error, PolarisUsageError) and not isinstance(error, PolarisConnectionInvalid)
        )
        if not self.cancel_on_failure or self._has_canceled:
            return
        try:
            record = self._record or self._get_ready(context)[0]
            # The job of a try that another try has overtaken is the job of that other try.
            if (is_final or record.is_last_try) and not record.is_overtaken:
                self._cancel_abandoned_job(record, context)
        except Exception as failure:  # noqa: BLE001 - the error of the task is raised
            self.log.warning("The job could not be canceled: %s: %s", type(failure).__name__, failure)

    def _cancel_abandoned_job(self, record: SubmissionRecord, context: Context) -> None:
        """Cancel the job that this task has created, if it is not over."""
        job_wait = self._job_wait
        if job_wait is None:  # the task fails before it knows its job, which another process has created
            note, ti = record.last_note(), context["ti"]
            job_id = note.job_id if note else None
            job_id = job_id or ti.xcom_pull(task_ids=ti.task_id, key="job_id", map_indexes=ti.map_index)
            if job_id is None:
                return
            job_wait = self._wait_for_job(job_id, deferrable=True)
        with suppress(PolarisError):  # a job whose status cannot be read is canceled, too
            if job_wait.progress.is_over or job_wait.request_job().is_over:
                return
        self.log.warning("This task fails for good. %s. Job %s", self._cancel(job_wait), job_wait.job_id)

    def _read_spec(self) -> dict[str, Any]:
        """Return the spec of the job, without its marker."""
        from airflow_provider_polaris.api.job_spec import read_spec, replacing, table_of

        self.check_given(("interval",))
        if self.interval is None:
            return read_spec(self.job_spec)
        spec = replacing(self.job_spec, self.interval)
        self.log.info("The job replaces %s of table %r", spec["target"]["intervals"][0], table_of(spec))
        return spec

    def _check(self, spec: Mapping[str, Any]) -> None:
        """Check all options before anything is sent."""
        from airflow_provider_polaris.gate.availability import check_leaves_table

        job_type = self._wait_as_for(spec["type"])
        self.check_options()
        self.read_gate()
        if self.wait_until_available and self.wait_for_completion:
            check_leaves_table(job_type)
        check_seconds(self, "poll_interval", "timeout")

    def _wait_as_for(self, job_type: Any) -> JobType:
        """Set ``wait_for``: a streaming job never completes."""
        from airflow_provider_polaris.api.models import JobType

        known = JobType(job_type)
        self.wait_for = "running" if known.is_streaming else "completed"
        return known

    def _get_ready(self, context: Context) -> tuple[SubmissionRecord, WorkerKill]:
        from airflow_provider_polaris.submission.kill_target import JOB
        from airflow_provider_polaris.submission.submission_record import SubmissionRecord
        from airflow_provider_polaris.submission.worker_kill import WorkerKill

        self._record = SubmissionRecord(context, self.retries or 0)
        self._kill = WorkerKill(context["ti"], JOB, self.log)
        if self._must_end and self.cancel_on_kill:  # on_kill came earlier: Airflow 3 lets the task continue after it
            self._kill.handle()
        return self._record, self._kill

    def _create(self, spec: Mapping[str, Any], context: Context) -> tuple[Job, JobWait]:
        """Create the job, or find the job of an earlier try. Push its id."""
        from airflow_provider_polaris.api.job_spec import table_of
        from airflow_provider_polaris.hooks.polaris import PolarisHook
        from airflow_provider_polaris.submission.submit_once import JobSubmission

        record, kill = self._get_ready(context)
        hook = PolarisHook(self.polaris_conn_id, self.project_id, reports_lineage=False)
        if self.wait_for_completion:
            self.check_table_can_be_read(hook, table_of(spec))
        job = JobSubmission(hook, record, spec, self.log, kill.check, mark=self.mark_jobs).job()
        job_wait = self._wait_for_job(job.id, deferrable=self.deferrable, hook=hook)
        job_wait.progress.resume(job)
        job_wait.tolerance.job_exists()
        if self.do_xcom_push:
            context["ti"].xcom_push(key="job_id", value=job.id)
        self.note_job_url(hook, job.id, context)
        if not self.wait_for_completion:
            record.note("passed", job.id)
        return job, job_wait

    def _wait_for_job(self, job_id: str, *, deferrable: bool, hook: PolarisHook | None = None) -> JobWait:
        from airflow_provider_polaris.submission.kill_target import JobOfWorker

        job_wait = self.start_job_wait(job_id, deferrable=deferrable, hook=hook)
        if self._kill and self._record:
            self._kill.set_target(JobOfWorker(job_wait, self._record, self.log))
        return job_wait
