"""What every task that waits at a gate shares: its options, its wait, its hand-over to the triggerer, its report.

Imports nothing that a DAG file would have to pay for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import mapped_arguments
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisForbidden, PolarisUsageError
from airflow_provider_polaris.exceptions import PolarisOptionInvalid
from airflow_provider_polaris.links.polaris import LinksToJob
from airflow_provider_polaris.waiting.deferral import backstop, read_event, say_when

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.gate.options import Gate
    from airflow_provider_polaris.hooks.polaris import PolarisHook
    from airflow_provider_polaris.triggers.base import PolarisTrigger
    from airflow_provider_polaris.waiting.job_wait import JobWait, Outcome

#: The options of a gate that count rows; they are templated.
THRESHOLDS = ("min_rows_processed", "max_rows_skipped_by_error", "max_rows_with_warning", "max_error_ratio")


def _check_number(name: str, value: Any) -> None:
    """Refuse a number that is out of its range when the DAG file is parsed. Anything else is not rendered yet."""
    if not isinstance(value, (int, float)):
        return
    from airflow_provider_polaris.gate.options import check_threshold

    try:
        check_threshold(name, value)
    except PolarisUsageError as error:
        raise PolarisOptionInvalid(str(error)) from None


class GatedTask(LinksToJob):
    """Mixed into an operator or a sensor, before Airflow's class; its ``__init__`` calls :meth:`set_gate`."""

    if TYPE_CHECKING:
        log: Any
        do_xcom_push: bool
        template_fields: Sequence[str]
        outlets: list[Any]

        def defer(self, **kwargs: Any) -> NoReturn:
            """Airflow's own."""

    polaris_conn_id: str
    project_id: str | None
    wait_for: Literal["completed", "running"]
    max_unreachable: float
    wait_until_available: bool
    _job_wait: JobWait | None = None

    def set_gate(
        self,
        *,
        polaris_conn_id: str,
        project_id: str | None,
        fail_on_warnings: bool | Iterable[str],
        fail_on_unhealthy: bool,
        min_rows_processed: int | str | None,
        max_rows_skipped_by_error: int | str | None,
        max_rows_with_warning: int | str | None,
        max_error_ratio: float | str | None,
        max_unreachable: float,
        wait_until_available: bool,
    ) -> None:
        """Keep the options as they were given. Once they are rendered, all are checked; plain numbers already here."""
        self.polaris_conn_id = polaris_conn_id
        self.project_id = project_id
        self.fail_on_warnings = fail_on_warnings
        self.fail_on_unhealthy = fail_on_unhealthy
        self.min_rows_processed = min_rows_processed
        self.max_rows_skipped_by_error = max_rows_skipped_by_error
        self.max_rows_with_warning = max_rows_with_warning
        self.max_error_ratio = max_error_ratio
        self.max_unreachable = max_unreachable
        self.wait_until_available = wait_until_available
        for name in THRESHOLDS:
            _check_number(name, getattr(self, name))
        self._given = [name for name in self.template_fields if getattr(self, name, None) is not None]

    def start_job_wait(
        self,
        job_id: Any,
        interval: float,
        *,
        deferrable: bool,
        sees_whole_wait: bool = True,
        hook: PolarisHook | None = None,
    ) -> JobWait:
        """Check the options, rendered by now, before anything is sent.

        :param deferrable: whether what takes time is waited for in a trigger.
        :param sees_whole_wait: whether this process sees the whole wait; a rescheduled poke does not.
        """
        from airflow_provider_polaris.api.connection import check_id
        from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
        from airflow_provider_polaris.hooks.polaris import PolarisHook
        from airflow_provider_polaris.waiting.job_wait import JobWait

        self.check_given()
        job_id = check_id(job_id, "job_id")
        gate = self.read_gate()
        tolerance = OutageTolerance(self.max_unreachable if sees_whole_wait else None, interval)
        hook = hook or PolarisHook(self.polaris_conn_id, self.project_id)
        where: Literal["here", "in a trigger"] = "in a trigger" if deferrable else "here"
        table_wait = where if self.wait_until_available else None
        self._job_wait = JobWait(hook, job_id, gate, tolerance, interval, self.log, table_wait)
        return self._job_wait

    def check_given(self) -> None:
        """Refuse what was given and rendered to nothing, and limits that are none."""
        # A value of None that was mapped over is given, too: it comes from a task.
        given = mapped_arguments(self).intersection(self.template_fields).union(self._given)
        for name in sorted(given):
            if getattr(self, name) is None:
                raise PolarisUsageError(
                    f"{name} was given, and rendered to None: that must not mean that it is not set"
                )
        limit = self.max_unreachable
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit >= 0:
            raise PolarisUsageError(f"max_unreachable must be a number of seconds, 0 or more, not {limit!r}")

        if not isinstance(self.wait_until_available, bool):
            raise PolarisUsageError(f"wait_until_available must be True or False, not {self.wait_until_available!r}")
        if self.wait_until_available and self.wait_for != "completed":
            raise PolarisUsageError("wait_until_available goes with a job that completes: a streaming job never does")

    def check_table_can_be_read(self, hook: PolarisHook, table: str | None) -> None:
        """Say at the start, and not hours later when the job is done, that the key may not read tables."""
        if not self.wait_until_available or table is None:
            return
        try:
            hook.get_table(table, retry=False)
        except PolarisForbidden as error:
            raise PolarisForbidden(
                f"wait_until_available is set, and whether table {table!r} is available cannot be asked: {error}",
                status=error.status,
                code=error.code,
            ) from None
        except PolarisApiError:
            pass  # there need not be a table yet, and an outage is the wait's business

    def read_gate(self) -> Gate:
        """Return the gate, from options that are rendered by now."""
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
                "fail_on_warnings names %s, which nobody documents: mistyped? Documented are %s",
                ", ".join(gate.unknown_warnings),
                ", ".join(sorted(WARNING_CODES)),
            )
        return gate

    def hand_over(
        self,
        job_wait: JobWait,
        deadline: float,
        *,
        cancel_on_kill: bool = False,
        logical_date: datetime | None = None,
        **backoff: Any,
    ) -> NoReturn:
        """Defer, for the job or for its table. The task goes on in ``execute_complete``, on another instance.

        :param logical_date: of the run, if it has one.
        """
        what = "job" if job_wait.loaded is None else f"table {job_wait.loaded.table!r}"
        self.log.info("Waiting for the %s in the triggerer: %s", what, say_when(job_wait.interval, deadline))
        wait = {
            "job_id": job_wait.job_id,
            "polaris_conn_id": self.polaris_conn_id,
            "project_id": self.project_id,
            "poll_interval": job_wait.interval,
            "deadline": deadline,
            "max_unreachable": self.max_unreachable,
            "failing": job_wait.tolerance.to_dict(clock.now()),
            "last_job": job_wait.notes.last.to_event() if job_wait.notes.last else None,
            **backoff,
        }
        from airflow_provider_polaris.triggers.polaris import PolarisJobTrigger, PolarisTableTrigger

        trigger: PolarisTrigger
        if job_wait.loaded is not None:
            trigger = PolarisTableTrigger(table=str(job_wait.loaded.table), **wait)
        else:
            trigger = PolarisJobTrigger(
                wait_for=self.wait_for,
                fail_on_unhealthy=self.fail_on_unhealthy,
                cancel_on_kill=cancel_on_kill,
                logical_date=logical_date.isoformat() if logical_date else None,
                **wait,
            )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=backstop(deadline))
        raise AssertionError("defer() raises")

    def take_up(self, job_wait: JobWait, event: Any) -> tuple[Outcome | None, dict[str, Any]]:
        """Go on with what the trigger saw; return the outcome, if it is one, and the event."""
        self.note_job_url(job_wait.hook, job_wait.job_id)
        event = read_event(event, job_wait.job_id)
        job_wait.tolerance.resume(event.get("failing"), clock.now())
        job_wait.notes.resume(event.get("job"), event)
        table = event.get("table")
        job = job_wait.notes.last if event["outcome"] != "timeout" else None
        state = table["state"] if event["outcome"] == "table" else None
        return (job_wait.judge(job, state) if job else None), event

    def report(self, outcome: Outcome, context: Context) -> dict[str, Any]:
        """Say once, on the worker, how it ended; return the dict for XCom if the gate opens."""
        result = outcome.result
        if self.do_xcom_push:
            context["ti"].xcom_push(key="metrics", value=result["metrics"])
        if not outcome.passed:
            raise self.refusal(outcome, self.with_url(str(outcome)))
        polls = self._job_wait.notes if self._job_wait else ""
        if outcome.decision.warn:
            self.log.warning("The gate opens, with a warning. %s %s", outcome, polls)
        else:
            self.log.info("The gate opens. %s %s", outcome, polls)
        self.tell_outlets(result, context)
        return result

    def tell_outlets(self, result: dict[str, Any], context: Context) -> None:
        """Let the events of the task's assets (datasets on Airflow 2.11) carry the job: ``extra["polaris_job"]``."""
        events: Any = context.get("outlet_events")
        for outlet in self.outlets if events is not None else ():
            if not hasattr(outlet, "uri"):  # an alias: which assets that stands for only the DAG knows
                continue
            try:
                events[outlet].extra["polaris_job"] = result
            except Exception as error:  # noqa: BLE001 - a reference to an asset that Airflow does not know, for one
                self.log.warning("The event of %s carries no job: %s: %s", outlet, type(error).__name__, error)

    def refusal(self, outcome: Outcome, message: str) -> Exception:
        """Return what to raise when the gate refuses."""
        raise NotImplementedError

    def last_known(self, job_id: Any) -> str:
        """Return what a message about a wait that ended early says of the job."""
        return self._job_wait.notes.last_known if self._job_wait else f"Job {job_id} was not seen yet"

    def with_url(self, message: str) -> str:
        """Return a message with the place where a person sees the job, if that is known."""
        return f"{message}\n{self.job_url}" if self.job_url else message
