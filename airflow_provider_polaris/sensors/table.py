"""PolarisTableSensor: run downstream tasks only when a table has a good load, whoever started it.

This module is cheap to import in a DAG file: it loads no HTTP library and no trigger.
"""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import PokeReturnValue
from airflow_provider_polaris.hooks.project_task import CONNECTION
from airflow_provider_polaris.sensors.gated_sensor import GatedSensor
from airflow_provider_polaris.waiting.deferral import called_by_airflow, deadline_of, no_retry_of_wrong_options
from airflow_provider_polaris.waiting.task_base import GATE_TEMPLATES
from airflow_provider_polaris.waiting.wait_metrics import sends_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.waiting.job_wait import Outcome
    from airflow_provider_polaris.waiting.load_wait import LoadWait
    from airflow_provider_polaris.waiting.progress_log import PollLog


#: The types of jobs that count as loads by default.
LOADS = ("batch", "sql")


class PolarisTableSensor(GatedSensor):
    """Run downstream tasks only when a table of Imply Polaris has a good load, whoever started that load.

    The sensor waits for a job that loads the table, completes at ``completed_after`` or later, and passes the gate. It
    succeeds with the first such job. It logs each load that the gate refuses, and waits for the next one. The outcome
    is the same in poke, reschedule and deferrable mode. Deferred sensors of one connection share one request for the
    list of jobs, whatever their tables.

    The task fails with

    * ``AirflowSensorTimeout``, never retried, if ``timeout`` passes;
    * a :class:`~airflow_provider_polaris.exceptions.PolarisApiError`, retried as usual, if Polaris does not return the
      list of jobs.

    XCom: ``return_value`` is a dict. ``metrics`` is the dict of row counters. docs/reference/xcom.md describes both.

    :param table: the name of the table. It need not exist yet. (templated)
    :param completed_after: a load counts if it completed at this moment or later: a datetime, or text in ISO 8601. A
        load that began before this moment may complete after it. (templated)
    :param job_types: the types of jobs that count as loads. A streaming job never completes.
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: overrides the project of the connection. (templated)
    :param fail_on_warnings: refuse a load with one of these warning codes. ``True``: with any; ``()``: never.
    :param fail_on_unhealthy: no effect: a load that counts has completed.
    :param min_rows_processed: refuse a load with fewer processed rows, with and without warnings. (templated)
    :param max_rows_skipped_by_error: refuse a load with more skipped rows. (templated)
    :param max_rows_with_warning: refuse a load with more rows that were ingested in part. (templated)
    :param max_error_ratio: refuse a load with a larger share of skipped rows, from 0 to 1. (templated)
    :param max_unreachable: fail after an outage of Polaris of this many seconds. The default is
        ``[polaris] max_unreachable``. In reschedule mode, where each poke is a new process, only ``timeout`` ends the
        wait.
    :param wait_until_available: once a good load has completed, also wait until two checks of its table, 30 s apart,
        report that all data can be queried. The API key needs the permission ``ViewTables`` or ``ManageTables``.
    :param partition_key: the partition of the events of the outlets. Airflow 3.3 and later start only consumers with
        partitions on such an event. Earlier versions ignore the option, with a warning. (templated)
    :param deferrable: wait in the triggerer, whatever the ``mode``. The default is ``[operators] default_deferrable``.
    :param poke_interval: the longest time between two polls, in seconds. The default is ``[polaris] poll_interval``. If
        that is not set, the time grows with the time waited: a twentieth of it, from 5 s to 60 s.
    :param timeout: the longest wait, in seconds. A retry waits for this long again.
    """

    template_fields: Sequence[str] = ("table", "completed_after", *CONNECTION, *GATE_TEMPLATES)
    wait_for = "completed"
    _load_wait: LoadWait | None = None

    def __init__(
        self,
        *,
        table: str,
        completed_after: datetime | str = "{{ data_interval_end }}",
        job_types: str | Iterable[str] = LOADS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.completed_after = completed_after
        self.job_types = job_types
        if job_types is not LOADS:
            from airflow_provider_polaris.gate.load_choice import read_job_types

            with no_retry_of_wrong_options():  # not templated: the error appears when the DAG file is parsed
                read_job_types(job_types)

    @called_by_airflow
    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Poll once. A deferrable sensor defers if the table has no good load."""
        self._began = self._began or clock.now()
        wait = self._load_wait
        if wait is None:
            wait = self._start(deferrable=self.deferrable)
            if self.sees_whole_wait:
                self.check_table_can_be_read(wait.hook, self.table)
        outcome = wait.poll()
        if outcome:
            return PokeReturnValue(True, self._open(outcome, wait, context))
        if self.deferrable:
            self._defer(wait, deadline_of(self, context, self._began, self.timeout), context)
        if clock.now() >= self._began + self.timeout and not self.reschedule:
            # The message of Airflow's own timeout, which would come next, does not name the table.
            raise self.timed_out(partial(self._timeout_message, wait))
        return False

    @property
    def poll_log(self) -> PollLog | None:
        """The log of the wait for a load; ``None`` if this process has begun no wait."""
        return self._load_wait.poll_log if self._load_wait else None

    @called_by_airflow
    @sends_metrics
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Continue after a deferral. Airflow calls this on another instance than the one that deferred."""
        seen = self.read_event(event, f"Table {self.table!r}")
        wait = self._start(deferrable=True)
        if seen.error and seen.outcome == "error":
            wait.log.resume_event(seen)
            raise seen.error
        outcome = wait.resume(seen)
        is_over = seen.outcome == "timeout" or seen.deadline is None or clock.now() >= seen.deadline
        if outcome is None and wait.candidate is None and not is_over:
            outcome = wait.poll()  # the gate has refused the load of the event, and there may be another
        if outcome:
            return self._open(outcome, wait, context)
        if not is_over and seen.deadline is not None:
            self._defer(wait, seen.deadline, context)
        raise self.timed_out(partial(self._timeout_message, wait), deferred=True)

    def _start(self, *, deferrable: bool) -> LoadWait:
        from airflow_provider_polaris.api.models import check_table_name
        from airflow_provider_polaris.gate.load_choice import LoadChoice, read_job_types, read_moment
        from airflow_provider_polaris.gate.outage_tolerance import ListTolerance
        from airflow_provider_polaris.hooks.polaris import PolarisHook
        from airflow_provider_polaris.waiting.load_wait import LoadWait

        self.check_limits()
        self.check_options()
        check_table_name(self.table)
        moment = read_moment("completed_after", self.completed_after)
        choice = LoadChoice(self.table, moment, read_job_types(self.job_types))
        sees_whole_wait = deferrable or self.sees_whole_wait
        max_unreachable = self.max_unreachable if sees_whole_wait else None
        tolerance = ListTolerance(max_unreachable, self.poke_interval)
        hook = PolarisHook(self.polaris_conn_id, self.project_id)
        start = partial(
            self.start_job_wait,
            deferrable=deferrable,
            sees_whole_wait=sees_whole_wait,
            hook=hook,
            gate=self.read_gate(),
        )
        self._load_wait = LoadWait(hook, choice, start, tolerance, self.log, grows=self.grows, defers=deferrable)
        return self._load_wait

    def _open(self, outcome: Outcome, wait: LoadWait, context: Context) -> dict[str, Any]:
        """Report a good load. Return the dict for XCom."""
        self.note_job_url(wait.hook, outcome.job.id, context)
        return self.report(outcome, context)

    def _defer(self, wait: LoadWait, deadline: float, context: Context) -> None:
        """Defer until the table has a load, or until the table of a good load is available."""
        from airflow_provider_polaris.waiting.crossing import LoadTriggerArgs

        if wait.candidate and wait.candidate.loaded:
            self.defer_wait(wait.candidate, deadline, context)
        args = LoadTriggerArgs(
            table=self.table,
            completed_after=wait.completed_after,
            job_types=wait.job_types,
            read_from=None if wait.read_from is None else datetime.fromtimestamp(wait.read_from, timezone.utc),
            running=wait.running,
            loads=wait.loads,
            **self.trigger_options(wait.tolerance, self.poke_interval, deadline),
        )
        self.defer_with(args, f"a load of table {self.table!r}")

    def _timeout_message(self, wait: LoadWait, option: str, limit: float) -> str:
        """Return the limit that passed, what is known of the table's loads, and what to do."""
        if wait.candidate:
            return self.timeout_message(wait.candidate, option, limit)
        lines = [
            f"Timeout: {wait.log.known} after {limit:,.0f} s ({option})",
            *wait.known_details,
            f"To wait longer, raise {option} and clear the task",
            wait.log.about,
        ]
        return "\n".join(lines)
