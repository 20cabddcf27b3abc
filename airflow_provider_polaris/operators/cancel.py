"""PolarisCancelJobOperator: cancel an ingestion job, and wait until the job is over."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import AirflowSkipException
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisBadRequest, PolarisNotFound, PolarisUsageError
from airflow_provider_polaris.exceptions import PolarisCancelTimeout, PolarisJobAlreadyOver
from airflow_provider_polaris.hooks.project_task import CONNECTION
from airflow_provider_polaris.waiting.deferral import (
    BACKSTOP_SECONDS,
    called_by_airflow,
    check_seconds,
    deadline_of,
    seconds,
)
from airflow_provider_polaris.waiting.task_base import WaitingTask
from airflow_provider_polaris.waiting.wait_metrics import sends_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.triggers.base import BaseTrigger

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.api.models import Job
    from airflow_provider_polaris.waiting.crossing import TriggerArgs, WaitEvent
    from airflow_provider_polaris.waiting.job_wait import JobWait, Outcome


class PolarisCancelJobOperator(WaitingTask):
    """Cancel an ingestion job of Imply Polaris, and wait until the job is over. A canceled job cannot be resumed.

    The task succeeds when the job is over, whatever its outcome: a job that completes before the cancellation takes
    effect is reported as completed. The task is skipped if there is no job id. So a teardown does not fail if the task
    that creates the job has failed.

    The task fails with

    * :class:`~airflow_provider_polaris.exceptions.PolarisCancelTimeout`, retried as usual, if the job is not over in
      time;
    * :class:`~airflow_provider_polaris.exceptions.PolarisJobAlreadyOver`, never retried, if ``fail_if_finished`` is set
      and the job was over before;
    * a :class:`~airflow_provider_polaris.exceptions.PolarisApiError`, retried as usual, if Polaris rejects the
      cancellation or does not respond.

    XCom: ``return_value`` is a dict that docs/reference/xcom.md describes, and ``metrics`` the dict of row counters.

    :param job_id: the id of the job. ``None`` or an empty text skips the task. (templated)
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: overrides the project of the connection. (templated)
    :param wait_for_completion: wait until the job is over; otherwise only until Polaris has accepted the cancellation.
    :param fail_if_finished: fail if the job had completed or failed before the cancellation.
    :param deferrable: wait in the triggerer. The default is ``[operators] default_deferrable``.
    :param poll_interval: the longest time between two polls of the job that is being canceled, in seconds.
    :param timeout: the longest wait, in seconds. A retry waits for this long again.
    """

    template_fields: Sequence[str] = ("job_id", *CONNECTION)
    ui_color = "#fae3d6"
    wait_for = "over"

    def __init__(
        self,
        *,
        job_id: str | None,
        wait_for_completion: bool = True,
        fail_if_finished: bool = False,
        poll_interval: timedelta | float = 10,
        timeout: timedelta | float = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.wait_for_completion = wait_for_completion
        self.fail_if_finished = fail_if_finished
        self.poll_interval = seconds(poll_interval)
        self.timeout = seconds(timeout)

    @called_by_airflow
    @sends_metrics
    def execute(self, context: Context) -> dict[str, Any]:
        """Cancel the job, wait until it is over, and return the dict for XCom."""
        from airflow_provider_polaris.waiting.progress_log import explain

        if self.job_id in (None, "", "None"):  # the rendered XCom of a submit task that pushed nothing
            raise AirflowSkipException("There is no job to cancel: job_id is empty")
        job_wait = self._start_job_wait()
        self.note_job_url(job_wait.hook, job_wait.job_id, context)
        job = self._request_job(job_wait)
        if job.is_over:
            return self._finish_early(job_wait, job, context)
        if job.is_deletion:
            raise PolarisUsageError(f"{job}: Polaris cannot cancel jobs of type {job.type}. The job is still running")
        try:
            job = job_wait.hook.cancel_job(job_wait.job_id)
        except PolarisBadRequest as error:
            # The job may have ended since the last request. If the job still runs, the error explains the rejection.
            job = job_wait.request_job(retry=True)
            if not job.is_over:
                raise type(error)(f"{job} is {job.state} and was not canceled: {error}", status=error.status) from None
            return self._finish_early(job_wait, job, context)
        except PolarisApiError as error:
            raise explain(error, job_wait.job_id, job) from None
        self.log.info("%s: Polaris accepted the cancellation; the job was %s", job, job.state)
        if not self.wait_for_completion:
            return self.finish(job_wait.outcome_of(job), context)
        job_wait.progress.resume(job)
        if self.deferrable and not job.is_over and not job_wait.polls_status:  # the trigger polls the whole job
            self.defer_wait(job_wait, deadline_of(self, context, clock.now(), self.timeout), context)
        deadline = clock.now() + self.timeout
        outcome = job_wait.judge(job) or job_wait.wait_until(deadline)
        if outcome is None:
            raise self.timed_out(partial(self.timeout_message, job_wait))
        return self.finish(outcome, context)

    def resume_job_wait(self, event: WaitEvent, context: Context) -> JobWait:  # noqa: ARG002
        """Return the wait after a deferral."""
        return self._start_job_wait()

    def finish(self, outcome: Outcome, context: Context) -> dict[str, Any]:
        """Return the dict for XCom: a cancellation succeeds whatever the job's outcome."""
        self._outcome = outcome
        if self.do_xcom_push:
            context["ti"].xcom_push(key="metrics", value=outcome.result["metrics"])
        self.log.info("%s", outcome.line(""))
        return outcome.result

    def timeout_error(self, message: str) -> PolarisCancelTimeout:
        """Return an error that is retried: the job may be over by the next try."""
        return PolarisCancelTimeout(message)

    def leave_job(self, job_wait: JobWait) -> str:  # noqa: ARG002
        """Return a sentence about the job. The cancellation is already accepted."""
        return "Polaris has accepted the cancellation: the job may be over by the next try"

    def trigger_for(self, args: TriggerArgs) -> BaseTrigger:
        """Return the trigger that waits as the arguments say."""
        from airflow_provider_polaris.triggers.polaris import trigger_for

        return trigger_for(args)

    def _request_job(self, job_wait: JobWait) -> Job:
        from airflow_provider_polaris.gate.outage_tolerance import no_such_job

        try:
            return job_wait.request_job(retry=True)
        except PolarisNotFound as error:
            raise no_such_job(error) from None

    def _start_job_wait(self) -> JobWait:
        from airflow_provider_polaris.api.connection import check_id
        from airflow_provider_polaris.gate.decision import UntilOver
        from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
        from airflow_provider_polaris.hooks.polaris import PolarisHook
        from airflow_provider_polaris.waiting.job_wait import JobWait

        check_seconds(self, "poll_interval", "timeout")
        self.check_given()
        hook = PolarisHook(self.polaris_conn_id, self.project_id)
        # Only the deadline ends this wait.
        tolerance = OutageTolerance(self.timeout + BACKSTOP_SECONDS, self.poll_interval, worked=True)
        job_id = check_id(self.job_id, "job_id")
        self._job_wait = JobWait(hook, job_id, UntilOver(), tolerance, self.poll_interval, self.log)
        return self._job_wait

    def _finish_early(self, job_wait: JobWait, job: Job, context: Context) -> dict[str, Any]:
        # A canceled job is the purpose of this task. An earlier try may have canceled the job.
        if self.fail_if_finished and not job.was_canceled:
            raise PolarisJobAlreadyOver(f"{job} was over before this task could cancel the job: it is {job.state}")
        self.log.info("%s was already over. Nothing was canceled", job)
        return self.finish(job_wait.outcome_of(job), context)
