"""PolarisJobSensor: let downstream tasks run only when an ingestion job is really done and its data is good.

A DAG file that imports this loads no HTTP library and no trigger: what only a running task needs is imported there.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import (
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    default_deferrable,
)
from airflow_provider_polaris.exceptions import PolarisGateRefused, PolarisOptionInvalid
from airflow_provider_polaris.waiting.deferral import check_seconds, deadline_of, execution_limit, fails_for_good
from airflow_provider_polaris.waiting.task_base import THRESHOLDS, GatedTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.waiting.job_wait import JobWait, Outcome


class PolarisJobSensor(GatedTask, BaseSensorOperator):
    """Wait for an ingestion job of Imply Polaris, and succeed only if the job did what the gate asks for.

    It watches and never cancels: clearing or killing this task leaves the job alone. It waits in poke, reschedule or
    deferrable mode, with the same outcome and the same XCom in each.

    Ends with :class:`~airflow_provider_polaris.exceptions.PolarisGateRefused` (never retried) when the job is over and
    not good enough, with ``AirflowSensorTimeout`` after ``timeout``, and with a
    :class:`~airflow_provider_polaris.exceptions.PolarisApiError` (retried as usual) when Polaris would not tell.

    XCom: ``return_value``, a dict that docs/xcom.md describes, and under ``metrics`` its counters, pushed also when the
    gate refuses.

    :param job_id: of the job to wait for. (templated)
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: wins over the connection's. (templated)
    :param wait_for: ``completed``, or ``running`` for a streaming job, which never completes.
    :param fail_on_warnings: warning codes that refuse a completed job. ``True``: any; ``()``: none.
    :param fail_on_unhealthy: refuse at the first health error of a job that still runs.
    :param min_rows_processed: refuse fewer rows than that, with and without warnings. (templated)
    :param max_rows_skipped_by_error: refuse more rows lost than that. (templated)
    :param max_rows_with_warning: refuse more rows ingested in part than that. (templated)
    :param max_error_ratio: refuse a larger share of rows lost, between 0 and 1. (templated)
    :param max_unreachable: end the wait when Polaris could not be reached for so many seconds without a break. A
        rescheduled poke does not know of the last one: in reschedule mode only ``timeout`` ends the wait.
    :param wait_until_available: once the job has completed and is good enough, wait until its table says twice, 30 s
        apart, that all its data can be queried. The best evidence there is, not proof. The API key then needs the
        permission ``ViewTables`` or ``ManageTables``.
    :param deferrable: wait in the triggerer, whatever ``mode`` says; by default as ``[operators] default_deferrable``.
    :param poke_interval: seconds between two polls.
    :param timeout: seconds until the wait ends; a retry starts anew.
    """

    template_fields: Sequence[str] = ("job_id", "polaris_conn_id", "project_id", *THRESHOLDS)
    ui_color = "#d6ecfa"

    def __init__(
        self,
        *,
        job_id: str,
        polaris_conn_id: str = "polaris_default",
        project_id: str | None = None,
        wait_for: Literal["completed", "running"] = "completed",
        fail_on_warnings: bool | Iterable[str] = ("no_rows_found", "unable_to_proceed"),
        fail_on_unhealthy: bool = False,
        min_rows_processed: int | str | None = None,
        max_rows_skipped_by_error: int | str | None = None,
        max_rows_with_warning: int | str | None = None,
        max_error_ratio: float | str | None = None,
        max_unreachable: float = 3600,
        wait_until_available: bool = False,
        deferrable: bool | None = None,
        poke_interval: timedelta | float = 30,
        timeout: timedelta | float = 24 * 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        if wait_for not in ("completed", "running"):  # not templated, so that a mistyped one need not wait for a run
            raise PolarisOptionInvalid(f"wait_for must be 'completed' or 'running', not {wait_for!r}")
        self.job_id = job_id
        self.wait_for = wait_for
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self._began = 0.0
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
    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once. Deferrable, a first look that decides nothing hands over to the triggerer."""
        self._began = self._began or clock.now()
        job_wait = self._job_wait
        if job_wait is None:
            job_wait = self._start_job_wait(deferrable=self.deferrable)
            self.note_job_url(job_wait.hook, job_wait.job_id, context)
        seen_before = job_wait.notes.last
        outcome = job_wait.poll()
        if outcome:
            return PokeReturnValue(True, self.report(outcome, context))
        job = job_wait.notes.last
        if job and not seen_before and not job.is_over and self._sees_whole_wait:
            self.check_table_can_be_read(job_wait.hook, job.table)
        if self.deferrable:
            self._hand_over(job_wait, deadline_of(self, context, self._began, self.timeout))
        if clock.now() >= self._began + self.timeout and not self.reschedule:
            # Airflow's own timeout, which comes next, does not say what it waited for.
            raise self._sensor_timeout()
        return False

    @fails_for_good
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on with what the trigger saw. This is another instance than the one that deferred."""
        # What takes time goes on where it was, whatever the DAG file says by now.
        job_wait = self._start_job_wait(deferrable=True)
        outcome, event = self.take_up(job_wait, event)
        if outcome:
            return self.report(outcome, context)
        if event["outcome"] != "timeout" and clock.now() < event["deadline"]:
            self._hand_over(job_wait, event["deadline"])
        raise self._timed_out()

    def refusal(self, outcome: Outcome, message: str) -> Exception:  # noqa: ARG002
        """Return the error that no retry can change."""
        if self.soft_fail or self.never_fail:  # Airflow makes a skip of it, and says nothing of why
            self.log.warning("The gate refuses. %s", message)
        return PolarisGateRefused(message)

    def _start_job_wait(self, *, deferrable: bool) -> JobWait:
        check_seconds(self, "poke_interval", "timeout")
        sees_whole_wait = deferrable or self._sees_whole_wait
        return self.start_job_wait(
            self.job_id, self.poke_interval, deferrable=deferrable, sees_whole_wait=sees_whole_wait
        )

    @property
    def _sees_whole_wait(self) -> bool:
        return self.deferrable or not self.reschedule

    def _hand_over(self, job_wait: JobWait, deadline: float) -> NoReturn:
        self.hand_over(
            job_wait,
            deadline,
            exponential_backoff=self.exponential_backoff,
            max_wait=self.max_wait.total_seconds() if self.max_wait else None,
        )

    def _timed_out(self) -> BaseException:
        limit = execution_limit(self, self.timeout)
        if limit is not None:
            return AirflowTaskTimeout(f"The task's execution_timeout of {limit:,.0f} s passed. {self._last_known()}")
        return self._sensor_timeout()

    def _sensor_timeout(self) -> AirflowSensorTimeout:
        message = f"The sensor's timeout of {self.timeout:,.0f} s passed. {self._last_known()}"
        if self.soft_fail or self.never_fail:  # Airflow makes a skip of it, and says nothing of why
            self.log.warning(message)
        return AirflowSensorTimeout(message)

    def _last_known(self) -> str:
        known = self.last_known(self.job_id)
        is_over = self._job_wait is not None and self._job_wait.notes.is_over
        return self.with_url(known if is_over else f"{known}. The job was not canceled")
