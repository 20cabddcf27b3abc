"""PolarisCreateJobOperator: create an ingestion job once, and succeed only if it did what the gate asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import AirflowTaskTimeout, BaseOperator, default_deferrable
from airflow_provider_polaris.api.errors import PolarisError
from airflow_provider_polaris.exceptions import (
    PolarisGateRefused,
    PolarisJobCanceled,
    PolarisJobFailed,
    PolarisJobTimeout,
)
from airflow_provider_polaris.waiting.deferral import (
    check_seconds,
    deadline_of,
    execution_limit,
    fails_for_good,
    seconds,
)
from airflow_provider_polaris.waiting.task_base import THRESHOLDS, GatedTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.api.models import Job, JobType
    from airflow_provider_polaris.hooks.polaris import PolarisHook
    from airflow_provider_polaris.submission.submission_record import State, SubmissionRecord
    from airflow_provider_polaris.submission.worker_kill import WorkerKill
    from airflow_provider_polaris.waiting.job_wait import JobWait, Outcome


class PolarisCreateJobOperator(GatedTask, BaseOperator):
    """Create a job of Imply Polaris, wait for it, and succeed only if its data is good. It never loads twice unasked.

    On Airflow 3.3 and later a retry goes on with the job of the try before, if that had no verdict yet: its worker was
    lost, Polaris was out of reach, time was up. After a verdict a retry or a clear creates a new job. Before 3.3 a task
    cannot remember its job: a retry finds that of a ``sql`` spec by a comment in its query, and fails for any other
    type, saying where to look (:class:`~airflow_provider_polaris.exceptions.PolarisJobLost`); a clear loads again. The
    same becomes of a spec whose answer was lost.

    Ends with :class:`~airflow_provider_polaris.exceptions.PolarisJobFailed` (retried as usual: nothing was loaded) when
    the job failed, with :class:`~airflow_provider_polaris.exceptions.PolarisJobCanceled` (never retried) when somebody
    canceled it, with :class:`~airflow_provider_polaris.exceptions.PolarisGateRefused` (never retried: it has loaded its
    rows) when it completed and is not good enough, and with
    :class:`~airflow_provider_polaris.exceptions.PolarisJobTimeout` (retried) when it was not over in time.

    XCom: ``job_id`` as soon as it is known; at the end the dict of the sensor, and its counters under ``metrics``.

    :param job_spec: what the API takes for ``POST /jobs``: a dict, JSON text, or the path of a ``.json`` file.
        (templated, down to the last value)
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: wins over the connection's. (templated)
    :param wait_for_completion: wait until the job is over; a streaming job, until it runs. Otherwise only until Polaris
        has taken the spec: the gate's options are not looked at then.
    :param cancel_on_timeout: cancel the job when ``timeout`` or ``execution_timeout`` ends the wait.
    :param cancel_on_kill: cancel the job when a user clears the running task, marks it, or deletes its run; while it is
        deferred, from Airflow 3.3 on. A worker that is shut down, or lost, leaves the job running, and so does one that
        cannot find out which of the two it was: the next try goes on with it.
    :param fail_on_warnings: as of the sensor, and so are the gate's options after it.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable``.
    :param poll_interval: seconds between two polls.
    :param timeout: seconds until the wait ends; a retry starts anew.
    """

    template_fields: Sequence[str] = ("job_spec", "polaris_conn_id", "project_id", *THRESHOLDS)
    template_ext: Sequence[str] = (".json",)
    template_fields_renderers = {"job_spec": "json"}  # noqa: RUF012 - Airflow's own way to declare it
    ui_color = "#d6faec"

    def __init__(
        self,
        *,
        job_spec: dict[str, Any] | str,
        polaris_conn_id: str = "polaris_default",
        project_id: str | None = None,
        wait_for_completion: bool = True,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = False,
        fail_on_warnings: bool | Iterable[str] = ("no_rows_found", "unable_to_proceed"),
        fail_on_unhealthy: bool = False,
        min_rows_processed: int | str | None = None,
        max_rows_skipped_by_error: int | str | None = None,
        max_rows_with_warning: int | str | None = None,
        max_error_ratio: float | str | None = None,
        max_unreachable: float = 3600,
        wait_until_available: bool = False,
        deferrable: bool | None = None,
        poll_interval: timedelta | float = 30,
        timeout: timedelta | float = 24 * 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_spec = job_spec
        self.wait_for = "completed"
        self.wait_for_completion = wait_for_completion
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.poll_interval = seconds(poll_interval)
        self.timeout = seconds(timeout)
        self._record: SubmissionRecord | None = None
        self._kill: WorkerKill | None = None
        self._told_to_end = False
        self.set_gate(
            polaris_conn_id=polaris_conn_id,
            project_id=project_id,
            fail_on_warnings=fail_on_warnings,
            fail_on_unhealthy=fail_on_unhealthy,
            min_rows_processed=min_rows_processed,
            max_rows_skipped_by_error=max_rows_skipped_by_error,
            max_rows_with_warning=max_rows_with_warning,
            max_error_ratio=max_error_ratio,
            max_unreachable=max_unreachable,
            wait_until_available=wait_until_available,
        )

    @fails_for_good
    def execute(self, context: Context) -> dict[str, Any]:
        """Create the job, or find that of an earlier try, and wait. See the class."""
        from airflow_provider_polaris.api.job_spec import read_spec

        began = clock.now()
        spec = read_spec(self.job_spec)
        self._check(spec)
        try:
            job, job_wait = self._create(spec, context)
            if not self.wait_for_completion:
                return job.to_dict()
            outcome = job_wait.poll()
            if outcome is None and self.deferrable:
                self._hand_over(job_wait, deadline_of(self, context, began, self.timeout), context)
            outcome = outcome or job_wait.wait_until(began + self.timeout)
            if outcome is None:
                raise self._timed_out(job_wait)
            return self._finish(outcome, context)
        except AirflowTaskTimeout:  # execution_timeout: Airflow's alarm goes off in the middle of this
            if self._job_wait:
                self.log.warning("execution_timeout passed. %s", self._give_up(self._job_wait))
            raise
        finally:
            self._kill = None  # Airflow may end this process in the midst of what it does after a success

    @fails_for_good
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on with what the trigger saw. This is another instance than the one that deferred."""
        job = event.get("job") if isinstance(event, dict) else None
        if not isinstance(job, dict) or not job.get("id"):
            raise PolarisError(f"The trigger reported something of an unknown shape: {event!r}")
        self._wait_as_for(job.get("type"))
        try:
            self._get_ready(context)
            # What takes time goes on where it was, whatever the DAG file says by now.
            job_wait = self._wait_for_job(job["id"], deferrable=True)
            outcome, event = self.take_up(job_wait, event)
            if outcome:
                return self._finish(outcome, context)
            if event["outcome"] != "timeout" and clock.now() < event["deadline"]:
                self._hand_over(job_wait, event["deadline"], context)
            raise self._timed_out(job_wait)
        finally:
            self._kill = None

    def on_kill(self) -> None:
        """Cancel the job if a user killed the task; leave it running if only this process is to end."""
        self._told_to_end = True
        if self.cancel_on_kill and self._kill:
            self._kill.handle()

    def render_template(self, content: Any, context: Context, *args: Any, **kwargs: Any) -> Any:
        """Render as Airflow does, but take only a spec that is text for the path of a file.

        Airflow loads whatever ends like one: the ``orders.json`` of a ``fileList`` would be missing, or sent whole.
        """
        suffix = next((end for end in self.template_ext if isinstance(content, str) and content.endswith(end)), "")
        if not suffix or content is self.job_spec:
            return super().render_template(content, context, *args, **kwargs)
        return f"{self.render_template(content.removesuffix(suffix), context, *args, **kwargs)}{suffix}"

    def refusal(self, outcome: Outcome, message: str) -> Exception:
        """Return the error for a job that did not do what was asked of it."""
        job = outcome.job
        if job.has_failed:
            return PolarisJobFailed(message)
        if job.was_canceled:
            return PolarisJobCanceled(f"{message}\nAirflow does not retry this task. Clear it to load again")
        if job.is_over and outcome.metrics is not None and outcome.metrics.rows_persisted == 0:
            hint = "Polaris stored no rows (numRowsPersisted is 0). Clear this task to load again"
        elif job.is_over:
            hint = "What it has loaded is in the table: clearing this task loads once more, beside it or in its place"
        else:
            hint = "It runs on: cancel it before you clear this task, which goes on with it otherwise"
        return PolarisGateRefused(f"{message}\n{hint}")

    def _check(self, spec: Mapping[str, Any]) -> None:
        """Check all options before anything is sent."""
        from airflow_provider_polaris.gate.availability import check_leaves_table

        job_type = self._wait_as_for(spec["type"])
        self.check_given()
        self.read_gate()
        if self.wait_until_available and self.wait_for_completion:
            check_leaves_table(job_type)
        check_seconds(self, "poll_interval", "timeout")

    def _wait_as_for(self, job_type: Any) -> JobType:
        """Set what to wait for: a streaming job runs and never completes."""
        from airflow_provider_polaris.api.models import JobType

        known = JobType(job_type)
        self.wait_for = "running" if known.is_streaming else "completed"
        return known

    def _get_ready(self, context: Context) -> tuple[SubmissionRecord, WorkerKill]:
        from airflow_provider_polaris.submission.submission_record import SubmissionRecord
        from airflow_provider_polaris.submission.worker_kill import WorkerKill

        self._record = SubmissionRecord(context, self.retries or 0)
        self._kill = WorkerKill(context["ti"], self._record, self.log)
        if self._told_to_end and self.cancel_on_kill:  # before it had begun: Airflow 3 lets the task run on
            self._kill.handle()
        return self._record, self._kill

    def _create(self, spec: Mapping[str, Any], context: Context) -> tuple[Job, JobWait]:
        """Create the job, or find that of an earlier try, and tell of it."""
        from airflow_provider_polaris.api.job_spec import table_of
        from airflow_provider_polaris.hooks.polaris import PolarisHook
        from airflow_provider_polaris.submission.submit_once import JobSubmission

        record, kill = self._get_ready(context)
        hook = PolarisHook(self.polaris_conn_id, self.project_id)
        if self.wait_for_completion:
            self.check_table_can_be_read(hook, table_of(spec))
        job = JobSubmission(hook, record, spec, self.log, kill.check).job()
        job_wait = self._wait_for_job(job.id, deferrable=self.deferrable, hook=hook)
        job_wait.notes.resume(job.to_event())
        job_wait.tolerance.worked = True
        if self.do_xcom_push:
            context["ti"].xcom_push(key="job_id", value=job.id)
        self.note_job_url(hook, job.id, context)
        if not self.wait_for_completion:
            record.note("passed", job.id)
        return job, job_wait

    def _wait_for_job(self, job_id: str, *, deferrable: bool, hook: PolarisHook | None = None) -> JobWait:
        job_wait = self.start_job_wait(job_id, self.poll_interval, deferrable=deferrable, hook=hook)
        if self._kill:
            self._kill.waits_for(job_wait)
        return job_wait

    def _hand_over(self, job_wait: JobWait, deadline: float, context: Context) -> NoReturn:
        logical_date = getattr(context.get("dag_run"), "logical_date", None)
        self.hand_over(job_wait, deadline, cancel_on_kill=self.cancel_on_kill, logical_date=logical_date)

    def _finish(self, outcome: Outcome, context: Context) -> dict[str, Any]:
        """Note the verdict for the tries to come, and report it."""
        # One that is refused while it runs may load yet: there is no verdict on it for the tries to come.
        if self._record and (outcome.passed or outcome.job.is_over):
            refused: State = "failed" if outcome.job.has_failed else "refused"
            self._record.note("passed" if outcome.passed else refused, outcome.job.id)
        return self.report(outcome, context)

    def _give_up(self, job_wait: JobWait) -> str:
        """Cancel the job if the task is to do that, and return what a message says of it."""
        if job_wait.notes.is_over:
            return self.with_url(self.last_known(job_wait.job_id))
        said = "The job was not canceled"
        if self.cancel_on_timeout:
            if self._record:
                self._record.note_cancellation(job_wait.job_id, self.log)
            try:
                job_wait.hook.cancel_job(job_wait.job_id)
                said = "Polaris took its cancellation"
            except PolarisError as error:
                said = f"It could not be canceled: {error}"
        return self.with_url(f"{self.last_known(job_wait.job_id)}. {said}")

    def _timed_out(self, job_wait: JobWait) -> BaseException:
        known = self._give_up(job_wait)
        limit = execution_limit(self, self.timeout)
        if self.deferrable and limit is not None:  # on a worker Airflow itself sees to that
            return AirflowTaskTimeout(f"The task's execution_timeout of {limit:,.0f} s passed. {known}")
        waited_for = "The job's table was not available" if job_wait.notes.is_over else "The job was not over"
        return PolarisJobTimeout(f"{waited_for} after {self.timeout:,.0f} s. {known}")
