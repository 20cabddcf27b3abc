"""Creating a job once: the one an earlier try created is found again; the spec is never sent twice by mistake."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.errors import PolarisApiError, PolarisNotFound, PolarisUnreachable
from airflow_provider_polaris.exceptions import PolarisJobLost, PolarisJobTimeout
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.job_spec import can_be_marked, marked, table_of
from airflow_provider_polaris.jobs import Job
from airflow_provider_polaris.memory import Memory, Remembered
from airflow_provider_polaris.wait_log import Log

#: A spec whose answer was lost may still arrive for so long: only after that does not finding its job prove that there
#: is none. In seconds; longer than a request and its answer may take.
IN_FLIGHT = 120.0
#: How often a job with our marker is looked for in that time, in seconds.
LOOK_AGAIN = 15.0
#: How long a job is waited for that is canceled for an earlier try, and how often it is looked at, in seconds.
CANCELING = 300.0
CANCELING_LOOK = 5.0
#: So many of a table's newest jobs are searched for the marker: the list does not show queries.
SEARCHED = 50


class Creation:
    """One try's way to its job.

    :param check: called right before the spec is sent; raises if there is to be no job any more.
    """

    def __init__(
        self,
        hook: PolarisHook,
        memory: Memory,
        spec: Mapping[str, Any],
        log: Log,
        check: Callable[[], None],
    ) -> None:
        self._check = check
        self._hook = hook
        self._memory = memory
        # The end of it is new for each spec that is sent: a run of the same name may have been here before.
        self._marker = f"{memory.marker} {secrets.token_hex(8)}"
        self._spec = marked(spec, self._marker)
        self._table = table_of(spec)
        self._log = log

    def job(self) -> Job:
        """Return the job to wait for: that of an earlier try, or else a new one.

        :raises PolarisJobLost: when an earlier try may have created a job that cannot be found.
        """
        remembered = self._memory.recall()
        if remembered is not None:
            job = self._of_earlier_try(remembered)
        elif self._memory.is_retry and not self._memory.lasts:
            job = self._found_or_lost(None, self._memory.marker)
        else:
            job = None
        if job is None:
            job = self._create()
            self._log.info("%s: created", job)
        return job

    def _of_earlier_try(self, remembered: Remembered) -> Job | None:
        """Return the job that an earlier try has waited for, ``None`` if this try is to load."""
        same_life = remembered.life == self._memory.life
        if remembered.state == "failed" or (remembered.state in ("passed", "refused") and not same_life):
            return None  # it had its verdict: a retry or a clear loads again
        if remembered.state == "lost" and not same_life:
            return None  # the user was told, and has looked
        if remembered.state in ("sending", "lost"):
            return self._found_or_lost(remembered.at, remembered.marker or self._memory.marker)
        if remembered.job_id is None:
            return None
        try:
            job = self._hook.get_job(remembered.job_id)
        except PolarisNotFound:
            raise PolarisJobLost(
                f"An earlier try created job {remembered.job_id}, and Polaris no longer has it. {self._how_to_go_on()}"
            ) from None
        # A kill may have been too late to note that it cancels the job, or to do it.
        asked_again = remembered.state == "canceling" or not same_life
        if asked_again and _is_canceled(job):
            job = self._until_over(job)
        if asked_again and job.execution_status in ("failed", "canceled"):
            return None  # it has loaded nothing
        self._log.warning("%s is %s: an earlier try created it. Going on with it", job, job.state)
        return job

    def _until_over(self, job: Job) -> Job:
        """Wait until a job that is being canceled is over: it may complete all the same."""
        give_up_at = clock.now() + CANCELING
        while not job.execution_status.is_over:
            if clock.now() >= give_up_at:
                raise PolarisJobTimeout(f"{job} is still being canceled, for an earlier try. Try again")
            clock.sleep(CANCELING_LOOK)
            job = self._hook.get_job(job.id)
        return job

    def _create(self) -> Job:
        self._check()
        self._memory.note("sending", marker=self._marker)
        sent_at = clock.now()
        try:
            job = self._hook.create_job(self._spec)
        except PolarisUnreachable as error:
            if not error.received:
                self._memory.note("failed")  # nothing was sent
                raise
            self._log.warning("The answer to the new job was lost. %s", error)
            job_or_none = self._found_or_lost(sent_at, self._marker)
            if job_or_none is None:
                self._memory.note("failed")
                raise
            job = job_or_none
        except PolarisApiError:
            self._memory.note("failed")  # Polaris said no
            raise
        try:
            self._memory.note("waiting", job.id)
        except Exception as error:  # noqa: BLE001 - the job runs: that it cannot be noted must not end the wait for it
            self._log.warning("Job %s could not be noted for a retry: %s: %s", job.id, type(error).__name__, error)
        return job

    def _found_or_lost(self, sent_at: float | None, marker: str) -> Job | None:
        """Look for the job with that marker; ``None`` proves that there is none.

        :param sent_at: when the spec went out; ``None`` if that is not known.
        """
        if not can_be_marked(self._spec):
            self._memory.note("lost")
            raise PolarisJobLost(self._lost(sent_at))
        since = clock.now() if sent_at is None else sent_at
        while True:
            job = self._marked_job(marker)
            if job is not None and _is_canceled(job) and job.last_modified_by == job.created_by:
                # By the key that created it: an earlier try was killed, or its time was up.
                job = self._until_over(job)
                if job.execution_status in ("failed", "canceled"):
                    return None
            if job is not None:
                self._memory.note("waiting", job.id)
                self._log.warning("%s is %s: an earlier try created it. Going on with it", job, job.state)
                return job
            left = since + IN_FLIGHT - clock.now()
            if left <= 0:
                return None
            clock.sleep(min(left, LOOK_AGAIN))

    def _marked_job(self, marker: str) -> Job | None:
        newest_first = self._hook.list_jobs(
            target_table_name=self._table,
            type="sql",
            sort_column="created_date_time",
            sort_order="DESC",
            page_size=SEARCHED,
        )
        for _, summary in zip(range(SEARCHED), newest_first, strict=False):
            job = self._hook.get_job(summary.id)
            if marker in str(job.raw.get("query")):
                return job
        return None

    def _lost(self, sent_at: float | None) -> str:
        if sent_at is None:
            what = "An earlier try may have created a job, and before Airflow 3.3 a task cannot remember it"
        else:
            when = datetime.fromtimestamp(sent_at, timezone.utc)
            what = f"The spec was sent at {when:%Y-%m-%d %H:%M:%S} UTC, and its answer was lost"
        return f"{what}: table {self._table!r} may have a job that nobody waits for. {self._how_to_go_on()}"

    def _how_to_go_on(self) -> str:
        return (
            f"Look at the newest jobs of table {self._table!r} in the console, or with PolarisHook.latest_job(). If "
            "the data is there, mark this task as success; if not, clear it, and it loads again"
        )


def _is_canceled(job: Job) -> bool:
    """Whether it was canceled, or is to be."""
    return "canceled" in (job.execution_status, job.desired_execution_status)
