"""PolarisCancelJobOperator: cancel an ingestion job, and wait until it is over."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import AirflowSkipException, AirflowTaskTimeout, BaseOperator, default_deferrable
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisBadRequest, PolarisNotFound, PolarisUsageError
from airflow_provider_polaris.exceptions import PolarisCancelTimeout, PolarisJobAlreadyOver
from airflow_provider_polaris.links.polaris import LinksToJob
from airflow_provider_polaris.waiting.deferral import (
    BACKSTOP,
    backstop,
    check_seconds,
    deadline_of,
    execution_limit,
    fails_for_good,
    read_event,
    say_when,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.api.models import Job
    from airflow_provider_polaris.waiting.job_wait import JobWait, Outcome


class PolarisCancelJobOperator(LinksToJob, BaseOperator):
    """Cancel an ingestion job of Imply Polaris and wait until it is over. A canceled job cannot be resumed.

    Succeeds when the job is over, however it ended: one that completed in the same second is reported as completed.
    Skipped if there is no job id, so that a teardown after a failed submit is not red.

    Ends with :class:`~airflow_provider_polaris.exceptions.PolarisCancelTimeout` (retried as usual) when the job is not
    over in time, with :class:`~airflow_provider_polaris.exceptions.PolarisJobAlreadyOver` if ``fail_if_finished`` is
    set and there was nothing left to cancel, and with a :class:`~airflow_provider_polaris.exceptions.PolarisApiError`
    when Polaris would not do it.

    XCom: the dict of the sensor, and under ``metrics`` the job's counters.

    :param job_id: of the job to cancel; ``None`` or empty skips the task. (templated)
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: wins over the connection's. (templated)
    :param wait_for_completion: wait until the job is over; otherwise only until Polaris has taken the wish.
    :param fail_if_finished: fail if the job had completed or failed before it could be canceled.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable``.
    :param poll_interval: seconds between two looks at a job that is being canceled.
    :param timeout: seconds until the wait ends.
    """

    template_fields: Sequence[str] = ("job_id", "polaris_conn_id", "project_id")
    ui_color = "#fae3d6"

    def __init__(
        self,
        *,
        job_id: str | None,
        polaris_conn_id: str = "polaris_default",
        project_id: str | None = None,
        wait_for_completion: bool = True,
        fail_if_finished: bool = False,
        deferrable: bool | None = None,
        poll_interval: timedelta | float = 10,
        timeout: timedelta | float = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.polaris_conn_id = polaris_conn_id
        self.project_id = project_id
        self.wait_for_completion = wait_for_completion
        self.fail_if_finished = fail_if_finished
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.poll_interval = seconds(poll_interval)
        self.timeout = seconds(timeout)

    @fails_for_good
    def execute(self, context: Context) -> dict[str, Any]:
        """Cancel, wait, and return the dict for XCom. See the class."""
        from airflow_provider_polaris.waiting.progress_log import explain

        if self.job_id in (None, "", "None"):  # what a template makes of a submit task that pushed nothing
            raise AirflowSkipException("Nothing to cancel: there is no job id")
        job_wait = self._start_job_wait()
        self.note_job_url(job_wait.hook, job_wait.job_id, context)
        job = self._first_look(job_wait)
        if job.execution_status.is_over:
            return self._finish_early(job_wait, job, context)
        if job.type and job.type.is_deletion:
            raise PolarisUsageError(f"{job}: Polaris cannot cancel jobs of type {job.type}. It goes on")
        try:
            job = job_wait.hook.cancel_job(job_wait.job_id)
        except PolarisBadRequest as error:
            # It may have ended since we looked. If it has not, Polaris will not cancel it, and says why.
            job = job_wait.hook.get_job(job_wait.job_id)
            if not job.execution_status.is_over:
                raise type(error)(f"{job} is {job.state} and was not canceled: {error}", status=error.status) from None
            return self._finish_early(job_wait, job, context)
        except PolarisApiError as error:
            raise explain(error, job_wait.job_id, job) from None
        self.log.info("%s: Polaris took the cancellation; the job was %s", job, job.state)
        if not self.wait_for_completion:
            return self._finish(job_wait.ending_of(job), context)
        job_wait.notes.resume(job.to_event())
        if self.deferrable and not job.execution_status.is_over:
            self._hand_over(job_wait, deadline_of(self, context, clock.now(), self.timeout))
        return self._finish(self._wait(job_wait, job), context)

    @fails_for_good
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on with what the trigger saw. This is another instance than the one that deferred."""
        job_wait = self._start_job_wait()
        self.note_job_url(job_wait.hook, job_wait.job_id)
        event = read_event(event, self.job_id)
        job_wait.notes.resume(event.get("job"), event)
        outcome = job_wait.judge(job_wait.notes.last) if event["outcome"] == "job" and job_wait.notes.last else None
        if outcome is None:
            raise self._timed_out(job_wait)
        return self._finish(outcome, context)

    def _first_look(self, job_wait: JobWait) -> Job:
        from airflow_provider_polaris.gate.outage_tolerance import no_such_job

        try:
            return job_wait.hook.get_job(job_wait.job_id)
        except PolarisNotFound as error:
            raise no_such_job(error) from None

    def _start_job_wait(self) -> JobWait:
        from airflow_provider_polaris.api.connection import check_id
        from airflow_provider_polaris.gate.decision import UntilOver
        from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
        from airflow_provider_polaris.hooks.polaris import PolarisHook
        from airflow_provider_polaris.waiting.job_wait import JobWait

        check_seconds(self, "poll_interval", "timeout")
        hook = PolarisHook(self.polaris_conn_id, self.project_id)
        # Only the deadline ends this wait.
        tolerance = OutageTolerance(self.timeout + BACKSTOP, self.poll_interval, worked=True)
        return JobWait(hook, check_id(self.job_id, "job_id"), UntilOver(), tolerance, self.poll_interval, self.log)

    def _wait(self, job_wait: JobWait, job: Job) -> Outcome:
        """Wait on the worker, the first time with the job as the cancellation's answer shows it."""
        deadline = clock.now() + self.timeout
        outcome = job_wait.judge(job) or job_wait.wait_until(deadline)
        if outcome is None:
            raise self._timed_out(job_wait)
        return outcome

    def _hand_over(self, job_wait: JobWait, deadline: float) -> None:
        from airflow_provider_polaris.triggers.polaris import PolarisJobTrigger

        self.log.info("Waiting in the triggerer: %s", say_when(self.poll_interval, deadline))
        self.defer(
            trigger=PolarisJobTrigger(
                job_id=job_wait.job_id,
                polaris_conn_id=self.polaris_conn_id,
                project_id=self.project_id,
                wait_for="over",
                fail_on_unhealthy=False,
                poll_interval=self.poll_interval,
                deadline=deadline,
                max_unreachable=self.timeout + BACKSTOP,
                last_job=job_wait.notes.last.to_event() if job_wait.notes.last else None,
            ),
            method_name="execute_complete",
            timeout=backstop(deadline),
        )

    def _timed_out(self, job_wait: JobWait) -> BaseException:
        limit = execution_limit(self, self.timeout)
        if self.deferrable and limit is not None:  # on a worker Airflow itself sees to that
            message = f"The task's execution_timeout of {limit:,.0f} s passed. {job_wait.notes.last_known}"
            return AirflowTaskTimeout(message)
        return PolarisCancelTimeout(
            f"Polaris took the cancellation, and the job was not over {self.timeout:,.0f} s later. "
            f"{job_wait.notes.last_known}. It may be over by the next try"
        )

    def _finish_early(self, job_wait: JobWait, job: Job, context: Context) -> dict[str, Any]:
        # A job that is canceled is what was asked for, by an earlier try perhaps.
        if self.fail_if_finished and job.execution_status != "canceled":
            raise PolarisJobAlreadyOver(f"{job} was over before it could be canceled: it is {job.state}")
        self.log.info("Nothing to cancel: it was over already")
        return self._finish(job_wait.ending_of(job), context)

    def _finish(self, outcome: Outcome, context: Context) -> dict[str, Any]:
        if self.do_xcom_push:
            context["ti"].xcom_push(key="metrics", value=outcome.result["metrics"])
        self.log.info("%s", outcome)
        return outcome.result
