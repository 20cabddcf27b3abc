"""PolarisUpdateJobOperator and PolarisStreamOperator: start, suspend, resume and reset streaming jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import AirflowSkipException
from airflow_provider_polaris.api.errors import (
    PolarisBadRequest,
    PolarisNotFound,
    PolarisTransientError,
    PolarisUsageError,
)
from airflow_provider_polaris.exceptions import PolarisJobTimeout
from airflow_provider_polaris.hooks.project_task import ProjectTask
from airflow_provider_polaris.links.polaris import LinksToJob
from airflow_provider_polaris.waiting.deferral import called_by_airflow, check_seconds, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.api.models import Job
    from airflow_provider_polaris.hooks.polaris import PolarisHook

#: What the operator for streams can do.
Action = Literal["start", "suspend", "resume", "reset"]
#: What starting a stream does if one runs.
IfRunning = Literal["keep", "replace"]
#: How often the status of a job is read that changes, in seconds.
POLL_SECONDS = 5.0


class _JobTask(LinksToJob, ProjectTask):
    """The base of the operators that change one job and do not wait for its end."""

    @called_by_airflow
    def execute(self, context: Context) -> dict[str, Any]:
        """Change the job, and return the dict for XCom."""
        with self.opened_hook() as hook:
            job = self.change(hook)
            self.note_job_url(hook, job.id, context)
        return job.to_dict()

    def change(self, hook: PolarisHook) -> Job:
        """Change a job, and return it."""
        raise NotImplementedError


class PolarisUpdateJobOperator(_JobTask):
    """Ask for a status of a job. The task does not wait until the job has it.

    XCom: ``return_value`` is a dict that docs/reference/xcom.md describes.

    :param job_id: the id of the job. ``None`` or an empty text skips the task. (templated)
    :param desired_status: ``running``, ``suspended`` or ``canceled``. Only streaming jobs can be suspended and resumed.
        (templated)
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: overrides the project of the connection. (templated)
    """

    template_fields: Sequence[str] = ("job_id", "desired_status", "polaris_conn_id", "project_id")

    def __init__(self, *, job_id: str | None, desired_status: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.desired_status = desired_status

    def change(self, hook: PolarisHook) -> Job:
        """Update the job."""
        if self.job_id in (None, "", "None"):  # the rendered XCom of a task that pushed nothing
            raise AirflowSkipException("There is no job to update: job_id is empty")
        job = hook.update_job(str(self.job_id), self.desired_status)
        self.log.info("%s: Polaris accepted %s; the job is %s", job, self.desired_status, job.state)
        return job


class PolarisStreamOperator(_JobTask):
    """Start, suspend, resume or reset the streaming job of a table. The task can be repeated.

    ``start`` creates the job of ``job_spec``, unless a job streams into its table. ``suspend`` and ``resume`` wait
    until the job has its new status. ``reset`` lets it read from its ``readFromPoint`` again, so that rows may be
    loaded twice.

    The task fails with

    * :class:`~airflow_provider_polaris.exceptions.PolarisNotFound`, retried as usual, if no job streams into the table;
    * :class:`~airflow_provider_polaris.exceptions.PolarisJobTimeout`, retried as usual, if the job does not get its new
      status in time;
    * a :class:`~airflow_provider_polaris.exceptions.PolarisApiError`, retried as usual, if Polaris rejects the request
      or does not respond.

    XCom: ``return_value`` is a dict that docs/reference/xcom.md describes.

    :param action: ``start``, ``suspend``, ``resume`` or ``reset``.
    :param table: the table of the stream; for ``start``, the spec names it. (templated)
    :param job_spec: the streaming job to start, as the Polaris API takes it. (templated)
    :param if_running: for ``start``, if a job streams into the table: ``keep`` leaves it, and resumes it if it is
        suspended; ``replace`` starts the new job in its place.
    :param timeout: the longest time until the job has its new status, in seconds.
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: overrides the project of the connection. (templated)
    """

    template_fields: Sequence[str] = ("table", "job_spec", "polaris_conn_id", "project_id")
    template_fields_renderers = {"job_spec": "json"}  # noqa: RUF012 - as Airflow's own operators have it

    def __init__(
        self,
        *,
        action: Action,
        table: str | None = None,
        job_spec: dict[str, Any] | None = None,
        if_running: IfRunning = "keep",
        timeout: timedelta | float = 300,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.action = action
        self.table = table
        self.job_spec = job_spec
        self.if_running = if_running
        self.timeout = seconds(timeout)

    def change(self, hook: PolarisHook) -> Job:
        """Change the stream."""
        check_seconds(self, "timeout")
        if self.action not in get_args(Action):
            raise PolarisUsageError(f"action must be one of {', '.join(get_args(Action))}, not {self.action!r}")
        if self.action == "start":
            return self._start(hook)
        if not self.table:
            raise PolarisUsageError(f"action {self.action!r} needs the table of the stream")
        job = hook.active_stream(self.table)
        if job is None:
            raise PolarisNotFound(f"No job streams into table {self.table!r}")
        if self.action == "reset":
            hook.reset_job(job.id)
            self.log.info("%s reads from its readFromPoint again", job)
            return job
        return self._bring(hook, job, is_suspended=self.action == "suspend")

    def _start(self, hook: PolarisHook) -> Job:
        from airflow_provider_polaris.api.models import JobType

        spec = self.job_spec
        if not isinstance(spec, dict) or not JobType(str(spec.get("type"))).is_streaming:
            raise PolarisUsageError("job_spec must be a dict with the type 'streaming'")
        if self.if_running not in get_args(IfRunning):
            raise PolarisUsageError(f"if_running must be keep or replace, not {self.if_running!r}")
        target = spec.get("target")
        table = str(target.get("tableName") or "") if isinstance(target, dict) else ""
        if not table:
            raise PolarisUsageError("job_spec.target.tableName must name the table")
        running = hook.active_stream(table)
        if running is not None and self.if_running == "keep":
            self.log.info("%s streams already", running)
            return self._bring(hook, running, is_suspended=False)
        try:
            job = hook.create_job({**spec, "replaceRunning": self.if_running == "replace"})
        except (PolarisTransientError, PolarisBadRequest):
            # The response was lost, or another client was faster. Two jobs cannot stream into one table.
            found = hook.active_stream(table)
            if found is None or (running and found.id == running.id):
                raise
            self.log.warning("The response was lost, or another client has started the stream. It runs: %s", found)
            return found
        self.log.info("Started %s", job)
        return job

    def _bring(self, hook: PolarisHook, job: Job, *, is_suspended: bool) -> Job:
        """Suspend or resume a job, and wait until it is."""
        wish = "suspended" if is_suspended else "running"
        if job.is_suspended is is_suspended:
            return job
        job = hook.update_job(job.id, wish)
        deadline = clock.now() + self.timeout
        while job.is_suspended is not is_suspended:
            if job.is_over or clock.now() > deadline:
                raise PolarisJobTimeout(f"{job} is {job.state} and not {wish} after {self.timeout:,.0f} s")
            clock.sleep(POLL_SECONDS)
            job = hook.get_job(job.id)
        self.log.info("%s is %s", job, job.state)
        return job
