"""The base classes of every waiting task: options, wait, deferral, timeout and report.

This module is cheap to import in a DAG file: imports that only a running task needs are inside functions.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_polaris import clock, configuration
from airflow_provider_polaris._compat import default_deferrable
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisError,
    PolarisForbidden,
    PolarisUsageError,
    sentences,
)
from airflow_provider_polaris.assets.lineage_task import LineageTask
from airflow_provider_polaris.hooks.project_task import CONNECTION, ProjectTask
from airflow_provider_polaris.links.polaris import LinksToJob
from airflow_provider_polaris.waiting.deferral import (
    DeferringTask,
    called_by_airflow,
    no_retry_of_wrong_options,
    seconds,
)
from airflow_provider_polaris.waiting.wait_metrics import MeteredTask, sends_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta
    from typing import Literal

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.api.client import PolarisClient
    from airflow_provider_polaris.api.models import Job
    from airflow_provider_polaris.assets.lineage import TaskLineage
    from airflow_provider_polaris.gate.options import Gate
    from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
    from airflow_provider_polaris.hooks.polaris import PolarisHook
    from airflow_provider_polaris.waiting.crossing import TriggerArgs, WaitEvent, WaitFor
    from airflow_provider_polaris.waiting.job_wait import JobWait, Outcome
    from airflow_provider_polaris.waiting.progress_log import PollLog

#: The thresholds of a gate on row counters. Templated.
THRESHOLDS = ("min_rows_processed", "max_rows_skipped_by_error", "max_rows_with_warning", "max_error_ratio")
#: The templated options of every gate, beside those that select the project.
GATE_TEMPLATES = (*THRESHOLDS, "partition_key")
#: How far an interval grows, in seconds.
LONGEST_GROWING_SECONDS = 60.0
#: The longest partition key that Airflow stores.
MAX_PARTITION_KEY = 250


def check_table_can_be_read(hook: PolarisClient, table: str) -> None:
    """Raise PolarisForbidden if the API key may not read the table, for a wait with ``wait_until_available``."""
    try:
        hook.get_table(table, retry=False)
    except PolarisForbidden as error:
        raise PolarisForbidden(
            f"wait_until_available is set, and the availability of table {table!r} cannot be read: {error}",
            status=error.status,
            code=error.code,
        ) from None
    except PolarisApiError:
        pass  # the table may not exist yet, and the wait itself handles an outage


class WaitingTask(LinksToJob, LineageTask, MeteredTask, DeferringTask, ProjectTask):
    """The base of every operator and sensor that waits for a job, on a worker or deferred.

    A subclass that is a sensor lists this class before Airflow's sensor class.

    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable``.
    """

    #: The option with the seconds between two polls.
    interval_option = "poll_interval"
    #: Whether the interval grows with the time waited, up to that option.
    grows = False

    wait_for: WaitFor
    fail_on_unhealthy: bool = False
    cancel_on_kill: bool = False
    _job_wait: JobWait | None = None
    #: The job of the trigger's event, for lineage.
    _seen_job: Job | None = None

    def __init__(
        self,
        *,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = default_deferrable() if deferrable is None else deferrable

    @property
    def poll_log(self) -> PollLog | None:
        """The log of the wait for the job; ``None`` if this process has begun no wait."""
        return self._job_wait.progress if self._job_wait else None

    @called_by_airflow
    @sends_metrics
    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Continue after a deferral. Airflow calls this on another instance than the one that deferred."""
        seen = self.read_event(event, f"Job {getattr(self, 'job_id', None) or 'of this task'}")
        job_wait = self.resume_job_wait(seen, context)
        self._seen_job = seen.job
        self.note_job_url(job_wait.hook, job_wait.job_id)
        job_wait.progress.resume_event(seen)
        if seen.error and seen.outcome == "error":
            raise seen.error
        outcome = self._judge_event(job_wait, seen)
        if outcome:
            return self.finish(outcome, context)
        if seen.outcome != "timeout" and seen.deadline is not None and clock.now() < seen.deadline:
            self.defer_wait(job_wait, seen.deadline, context)
        raise self.timed_out(partial(self.timeout_message, job_wait), deferred=True)

    def note_job_url(self, hook: PolarisClient, job_id: str, context: Context | None = None) -> None:
        """Keep the page of the job for the link, and its project for lineage. Best effort: no error."""
        super().note_job_url(hook, job_id, context)
        self.note_project(hook)

    def known_lineage(self) -> TaskLineage:
        """Return the table of the job, its rows and the thresholds. The job is that of the outcome, or the last seen.

        The result is empty if the task knows no job.
        """
        from airflow_provider_polaris.assets.lineage import TaskLineage, lineage_of_job

        job_wait, outcome = self._job_wait, self._outcome
        if job_wait is None or self._project is None:
            return TaskLineage()
        job = outcome.job if outcome else job_wait.progress.last or self._seen_job
        metrics = outcome.metrics if outcome else None
        return lineage_of_job(self._project, job_wait.job_id, job, metrics, job_wait.condition, self.known_spec())

    def known_spec(self) -> dict[str, Any] | None:
        """Return the spec of the job if this task has created the job."""
        return None

    def read_event(self, event: Any, about: str) -> WaitEvent:
        """Return the event of the trigger.

        :param about: what the task waits for, as the beginning of a message.
        :raises PolarisError: if the event cannot be read.
        """
        from airflow_provider_polaris.waiting.crossing import WaitEvent

        try:
            return WaitEvent.from_dict(event)
        except PolarisError as error:
            hint = "The worker and the triggerer may run different releases of this provider"
            raise PolarisError(sentences(f"{about}: {error}", hint)) from None

    def resume_job_wait(self, event: WaitEvent, context: Context) -> JobWait:
        """Return the wait of a task that continues after a deferral."""
        raise NotImplementedError

    def finish(self, outcome: Outcome, context: Context) -> Any:
        """Report how the wait ended. Return the dict for XCom, or raise."""
        raise NotImplementedError

    def leave_job(self, job_wait: JobWait) -> str:
        """Cancel the job if the task's options ask for that. Return a sentence about the job, or an empty text."""
        return "" if job_wait.progress.is_over else "The job was not canceled"

    def backoff(self) -> dict[str, Any]:
        """Return the trigger's arguments for a growing interval."""
        return {}

    def defer_wait(self, job_wait: JobWait, deadline: float, context: Context) -> NoReturn:
        """Defer until the job, or its table, ends the wait. The task continues in :meth:`execute_complete`."""
        from airflow_provider_polaris.waiting.crossing import JobTriggerArgs, TableTriggerArgs

        wait = {
            "job_id": job_wait.job_id,
            "last_job": job_wait.progress.last,
            **self.trigger_options(job_wait.tolerance, job_wait.interval, deadline),
        }
        args: TriggerArgs
        if job_wait.loaded:
            awaited = f"table {job_wait.loaded.table!r}"
            args = TableTriggerArgs(table=str(job_wait.loaded.table), **wait)
        else:
            awaited = "job"
            args = JobTriggerArgs(
                wait_for=self.wait_for,
                fail_on_unhealthy=self.fail_on_unhealthy,
                takes_list=job_wait.takes_list,
                cancel_on_kill=self.cancel_on_kill,
                logical_date=getattr(context.get("dag_run"), "logical_date", None) if self.cancel_on_kill else None,
                **wait,
            )
        self.defer_with(args, f"the {awaited}")

    def trigger_options(self, tolerance: OutageTolerance, interval: float, deadline: float) -> dict[str, Any]:
        """Return the arguments that every trigger has."""
        return {
            "polaris_conn_id": self.polaris_conn_id,
            "project_id": self.project_id,
            "poll_interval": interval,
            "deadline": deadline,
            "max_unreachable": tolerance.max_unreachable,
            "failing": tolerance.to_dict(clock.now()),
            "waiting_since": clock.now() if self.grows else None,
            **self.backoff(),
        }

    def timeout_message(self, job_wait: JobWait, option: str, limit: float) -> str:
        """End the wait for the job. Return the limit that passed, the job's last known state, and what happens to it.

        :param option: the option that has ended the wait after ``limit`` seconds.
        """
        progress, left = job_wait.progress, self.leave_job(job_wait)
        lines = [
            f"Timeout: {job_wait.unfinished} after {limit:,.0f} s ({option})",
            *progress.known_details,
            *([left] if left else []),
            f"To wait longer, raise {option} and clear the task",
            f"Job {job_wait.job_id}",
        ]
        return self.with_url("\n".join(lines))

    def with_url(self, message: str) -> str:
        """Return the message with the address of the job, if that is known."""
        return f"{message}\n{self.job_url}" if self.job_url else message

    def _judge_event(self, job_wait: JobWait, event: WaitEvent) -> Outcome | None:
        job_wait.tolerance.resume(event.failing, clock.now())
        if event.job is None or event.outcome not in ("job", "table"):
            return None
        if event.is_listed and event.deadline is not None:
            return job_wait.confirm(event.deadline)
        table_state = event.table.state if event.table and event.outcome == "table" else None
        return job_wait.judge(event.job, table_state)


class GatedTask(WaitingTask):
    """The base of every operator and sensor that succeeds only if a job passes its gate.

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
    """

    counts_rows = True
    #: Whether one process sees the whole wait.
    sees_whole_wait: bool = True

    def __init__(
        self,
        *,
        fail_on_warnings: bool | Iterable[str] = ("no_rows_found", "unable_to_proceed"),
        fail_on_unhealthy: bool = False,
        min_rows_processed: int | str | None = None,
        max_rows_skipped_by_error: int | str | None = None,
        max_rows_with_warning: int | str | None = None,
        max_error_ratio: float | str | None = None,
        max_unreachable: float | None = None,
        wait_until_available: bool = False,
        partition_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fail_on_warnings = fail_on_warnings
        self.fail_on_unhealthy = fail_on_unhealthy
        self.min_rows_processed = min_rows_processed
        self.max_rows_skipped_by_error = max_rows_skipped_by_error
        self.max_rows_with_warning = max_rows_with_warning
        self.max_error_ratio = max_error_ratio
        self.max_unreachable = configuration.max_unreachable() if max_unreachable is None else max_unreachable
        self.wait_until_available = wait_until_available
        self.partition_key = partition_key
        self._given |= {name for name in GATE_TEMPLATES if getattr(self, name) is not None}
        self._check_plain_thresholds()

    def set_interval(self, given: timedelta | float | None) -> float:
        """Return the longest time between two polls, in seconds. Without a given one, it grows with the time waited."""
        interval = configuration.poll_interval() if given is None else seconds(given)
        self.grows = interval is None
        return LONGEST_GROWING_SECONDS if interval is None else interval

    def start_job_wait(
        self,
        job_id: Any,
        *,
        deferrable: bool,
        sees_whole_wait: bool = True,
        hook: PolarisHook | None = None,
        gate: Gate | None = None,
    ) -> JobWait:
        """Check the rendered options, and return the wait. Nothing is sent.

        :param deferrable: whether a trigger takes over long waits.
        :param sees_whole_wait: whether the whole wait is in this process. A rescheduled poke is only a part of it.
        """
        from airflow_provider_polaris.api.connection import check_id
        from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
        from airflow_provider_polaris.hooks.polaris import PolarisHook
        from airflow_provider_polaris.waiting.job_wait import JobWait

        self.check_options()
        job_id = check_id(job_id, "job_id")
        gate = gate or self.read_gate()
        interval: float = getattr(self, self.interval_option)
        tolerance = OutageTolerance(self.max_unreachable if sees_whole_wait else None, interval)
        hook = hook or PolarisHook(self.polaris_conn_id, self.project_id)
        where: Literal["here", "in a trigger"] = "in a trigger" if deferrable else "here"
        table_wait = where if self.wait_until_available else None
        self._job_wait = JobWait(hook, job_id, gate, tolerance, interval, self.log, table_wait, grows=self.grows)
        return self._job_wait

    def check_options(self) -> None:
        """Reject options that rendered to ``None``, and invalid limits."""
        self.check_given((*CONNECTION, *GATE_TEMPLATES))
        limit = self.max_unreachable
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit >= 0:
            raise PolarisUsageError(f"max_unreachable must be a number of seconds, 0 or more, not {limit!r}")
        if not isinstance(self.wait_until_available, bool):
            raise PolarisUsageError(f"wait_until_available must be True or False, not {self.wait_until_available!r}")
        if self.wait_until_available and self.wait_for != "completed":
            raise PolarisUsageError("wait_until_available needs a job that completes. A streaming job never completes")
        key = self.partition_key
        if key is not None and not (isinstance(key, str) and key.strip() and len(key) <= MAX_PARTITION_KEY):
            raise PolarisUsageError(
                f"partition_key must be a text of 1 to {MAX_PARTITION_KEY} characters, not {key!r}"[:200]
            )

    def check_table_can_be_read(self, hook: PolarisClient, table: str | None) -> None:
        """Raise at the start of the wait if the API key may not read tables, and not hours later."""
        if self.wait_until_available and table is not None:
            check_table_can_be_read(hook, table)

    def read_gate(self) -> Gate:
        """Return the gate, from the rendered options."""
        from airflow_provider_polaris.api.models import WARNING_CODES
        from airflow_provider_polaris.gate.options import Gate

        gate = Gate.from_options(
            wait_for=self.wait_for,
            fail_on_warnings=self.fail_on_warnings,
            fail_on_unhealthy=self.fail_on_unhealthy,
            **{name: getattr(self, name) for name in THRESHOLDS},
        )
        if gate.unknown_warnings:
            self.log.warning(
                "fail_on_warnings names %s, which is not documented. Check the spelling. The documented codes are %s",
                ", ".join(gate.unknown_warnings),
                ", ".join(sorted(WARNING_CODES)),
            )
        return gate

    def report(self, outcome: Outcome, context: Context) -> dict[str, Any]:
        """Log once, on the worker, how the wait ended. Return the dict for XCom if the gate opens."""
        self._outcome = outcome  # also a refused job has lineage
        result = outcome.result
        if self.do_xcom_push:
            context["ti"].xcom_push(key="metrics", value=result["metrics"])
        if not outcome.passed:
            raise self.refusal(outcome, self.with_url(outcome.message("Refused: ")))
        polled = str(self._job_wait.progress) if self._job_wait and self.sees_whole_wait else ""
        polls = f". {polled}" if polled else ""
        if outcome.decision.warn:
            self.log.warning("%s%s", outcome.line("Gate opens with a warning: "), polls)
        else:
            self.log.info("%s%s", outcome.line("Gate opens: "), polls)
        self.add_to_outlet_events(result, context)
        return result

    def add_to_outlet_events(self, result: dict[str, Any], context: Context) -> None:
        """Add the job to the events of the task's assets (datasets on Airflow 2.11), as ``extra["polaris_job"]``.

        With a ``partition_key``, the events are of that partition.
        """
        events: Any = context.get("outlet_events")
        is_key_ignored = False
        for outlet in self.outlets if events is not None else ():
            if not hasattr(outlet, "uri"):  # an alias: only the DAG knows its assets
                continue
            try:
                event = events[outlet]
                event.extra["polaris_job"] = result
                if self.partition_key is not None and not (is_key_ignored := not hasattr(event, "add_partitions")):
                    event.add_partitions(self.partition_key)
            except Exception as error:  # noqa: BLE001 - for example, Airflow does not know the referenced asset
                self.log.warning(
                    "Job %s could not be added to the event of %s: %s: %s",
                    result["job_id"],
                    outlet,
                    type(error).__name__,
                    error,
                )
        if is_key_ignored:
            self.log.warning("partition_key is ignored: events have partitions from Airflow 3.3 on")

    def refusal(self, outcome: Outcome, message: str) -> PolarisError:
        """Return the error for a job that the gate refuses. A task that waits for the next job instead has none."""
        raise NotImplementedError

    def _check_plain_thresholds(self) -> None:
        """Reject a number out of its range when the DAG file is parsed. Other values are not rendered yet."""
        for name in THRESHOLDS:
            value = getattr(self, name)
            if not isinstance(value, (int, float)):
                continue
            from airflow_provider_polaris.gate.options import check_threshold

            with no_retry_of_wrong_options():
                check_threshold(name, value)
