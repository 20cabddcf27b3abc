"""PolarisJobSensor: run downstream tasks only when an ingestion job is done and its data is good.

This module is cheap to import in a DAG file: it loads no HTTP library and no trigger.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import PokeReturnValue
from airflow_provider_polaris.exceptions import PolarisGateRefused, PolarisOptionInvalid
from airflow_provider_polaris.hooks.project_task import CONNECTION
from airflow_provider_polaris.sensors.gated_sensor import GatedSensor
from airflow_provider_polaris.waiting.deferral import called_by_airflow, deadline_of
from airflow_provider_polaris.waiting.task_base import GATE_TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.waiting.crossing import WaitEvent
    from airflow_provider_polaris.waiting.job_wait import JobWait, Outcome


class PolarisJobSensor(GatedSensor):
    """Run downstream tasks only when an ingestion job of Imply Polaris is done and its data is good.

    The sensor waits for a job that another task or another system has created. It succeeds if the job passes the gate:
    the state, the warnings and the row counters that the options ask for. The outcome is the same in poke, reschedule
    and deferrable mode. The sensor never cancels the job, also when the task is cleared or killed.

    The task fails with

    * :class:`~airflow_provider_polaris.exceptions.PolarisGateRefused`, never retried, if the job is over and its data
      is not good enough;
    * ``AirflowSensorTimeout``, never retried, if ``timeout`` passes;
    * a :class:`~airflow_provider_polaris.exceptions.PolarisApiError`, retried as usual, if Polaris does not return the
      state of the job.

    XCom: ``return_value`` is a dict. ``metrics`` is the dict of row counters, and is pushed also when the gate refuses.
    docs/reference/xcom.md describes both.

    :param job_id: the id of the job. (templated)
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: overrides the project of the connection. (templated)
    :param wait_for: ``completed``, or ``running`` for a streaming job, which never completes.
    :param fail_on_warnings: refuse a completed job with one of these warning codes. ``True``: with any; ``()``: never.
    :param fail_on_unhealthy: refuse a running job at its first health error.
    :param min_rows_processed: refuse a job with fewer processed rows, with and without warnings. (templated)
    :param max_rows_skipped_by_error: refuse a job with more skipped rows. (templated)
    :param max_rows_with_warning: refuse a job with more rows that were ingested in part. (templated)
    :param max_error_ratio: refuse a job with a larger share of skipped rows, from 0 to 1. (templated)
    :param max_unreachable: fail after an outage of Polaris of this many seconds. The default is
        ``[polaris] max_unreachable``. In reschedule mode, where each poke is a new process, only ``timeout`` ends the
        wait.
    :param wait_until_available: once a good job has completed, also wait until two checks of its table, 30 s apart,
        report that all data can be queried. The API key needs the permission ``ViewTables`` or ``ManageTables``.
    :param partition_key: the partition of the events of the outlets. Airflow 3.3 and later start only consumers with
        partitions on such an event. Earlier versions ignore the option, with a warning. (templated)
    :param deferrable: wait in the triggerer, whatever the ``mode``. The default is ``[operators] default_deferrable``.
    :param poke_interval: the longest time between two polls, in seconds. The default is ``[polaris] poll_interval``. If
        that is not set, the time grows with the time waited: a twentieth of it, from 5 s to 60 s.
    :param timeout: the longest wait, in seconds. A retry waits for this long again.
    """

    template_fields: Sequence[str] = ("job_id", *CONNECTION, *GATE_TEMPLATES)

    def __init__(
        self,
        *,
        job_id: str,
        wait_for: Literal["completed", "running"] = "completed",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if wait_for not in ("completed", "running"):  # not templated: the error appears when the DAG file is parsed
            raise PolarisOptionInvalid(f"wait_for must be 'completed' or 'running', not {wait_for!r}")
        self.job_id = job_id
        self.wait_for = wait_for

    @called_by_airflow
    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Poll once. A deferrable sensor defers if the first poll does not decide."""
        self._began = self._began or clock.now()
        job_wait = self._job_wait
        if job_wait is None:
            job_wait = self._start(deferrable=self.deferrable)
            self.note_job_url(job_wait.hook, job_wait.job_id, context)
        seen_before = job_wait.progress.last
        outcome = job_wait.poll()
        if outcome:
            return PokeReturnValue(True, self.report(outcome, context))
        job = job_wait.progress.last
        if job and not seen_before and not job.is_over and self.sees_whole_wait:
            self.check_table_can_be_read(job_wait.hook, job.table)
        if self.deferrable:
            self.defer_wait(job_wait, deadline_of(self, context, self._began, self.timeout), context)
        if clock.now() >= self._began + self.timeout and not self.reschedule:
            # The message of Airflow's own timeout, which would come next, does not name the job.
            raise self.timed_out(partial(self.timeout_message, job_wait))
        return False

    def resume_job_wait(self, event: WaitEvent, context: Context) -> JobWait:  # noqa: ARG002
        """Return the wait after a deferral. Long waits stay in a trigger, even if the DAG file has changed."""
        return self._start(deferrable=True)

    def finish(self, outcome: Outcome, context: Context) -> dict[str, Any]:
        """Report the outcome."""
        return self.report(outcome, context)

    def refusal(self, outcome: Outcome, message: str) -> PolarisGateRefused:
        """Return the error for a refused job. No retry can change the job."""
        if outcome.job.is_over:
            message += "\nThe job is over. To load again, clear the task that created it"
        self.log_before_skip(message)
        return PolarisGateRefused(message)

    def _start(self, *, deferrable: bool) -> JobWait:
        self.check_limits()
        sees_whole_wait = deferrable or self.sees_whole_wait
        return self.start_job_wait(self.job_id, deferrable=deferrable, sees_whole_wait=sees_whole_wait)
