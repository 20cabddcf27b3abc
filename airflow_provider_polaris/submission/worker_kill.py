"""What becomes of a job when the task that created it is killed: it is canceled, if it was a user who did that.

Airflow calls ``on_kill`` also when a worker is shut down, or a pod evicted: then the next try goes on with the job.
Only the state that Airflow has the task in tells one from the other.
"""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris._compat import AIRFLOW_3, task_state
from airflow_provider_polaris.api.errors import PolarisError
from airflow_provider_polaris.exceptions import PolarisTaskKilled

if TYPE_CHECKING:
    from airflow_provider_polaris.submission.submission_record import SubmissionRecord
    from airflow_provider_polaris.waiting.job_wait import JobWait
    from airflow_provider_polaris.waiting.progress_log import Log

#: In these Airflow goes on with the task by itself: its worker was shut down, lost, or cut off for a while. A user who
#: clears a running task makes it ``restarting``. In all others nobody waits for the job any more: a user has marked the
#: task, or Airflow has ended it for good (``dagrun_timeout``; no heartbeat, and no retry left).
GOES_ON = frozenset({"running", "queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule"})
#: How long ``on_kill`` may hold a signal handler up, in seconds: Airflow 3 sends SIGKILL 5 s after SIGTERM; 2.11 waits
#: for a minute, and ends the process as soon as ``on_kill`` returns.
LIMIT = 4.0 if AIRFLOW_3 else 30.0
#: How long a job is waited for whose spec is under way, in seconds.
CREATION = 30.0


class WorkerKill:
    """One try's readiness to be killed on a worker.

    :param ti: the task instance.
    :param record: where a cancellation is noted, for tries to come.
    """

    def __init__(self, ti: Any, record: SubmissionRecord, log: Log) -> None:
        self._ti = ti
        self._record = record
        self._log = log
        self._job_wait: JobWait | None = None
        self._has_job = threading.Event()
        #: All is done that can be while the task itself is held up.
        self._may_go_on = threading.Event()
        self._killed = threading.Event()
        self._thread: threading.Thread | None = None

    def waits_for(self, job_wait: JobWait) -> None:
        """Tell which job is to be canceled."""
        self._job_wait = job_wait
        self._has_job.set()

    def check(self) -> None:
        """Raise if the task was killed: on Airflow 3 it runs on after ``on_kill``, and must not create a job then."""
        if self._killed.is_set():
            raise PolarisTaskKilled("The task was killed before it created its job")

    def handle(self) -> None:
        """Do what ``on_kill`` is there for, within Airflow's time limit.

        It runs in a signal handler, in the middle of whatever the task was doing, and that may hold any lock. So the
        work is another thread's, which goes on where it can when this one gives up waiting for it.
        """
        looked_in_vain = self._thread and not self._thread.is_alive() and not self._killed.is_set()
        if self._thread is None or looked_in_vain:  # a worker that is shut down lets the task run on for a while
            # Started first, waited for then: a second signal may come at any point of this.
            self._may_go_on.clear()
            context = contextvars.copy_context()  # by which log lines find their task
            self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)
            self._thread.start()
        self._may_go_on.wait(LIMIT)

    def _run(self) -> None:
        try:
            self._cancel_if_killed()
        finally:
            self._may_go_on.set()

    def _cancel_if_killed(self) -> None:
        try:
            state = task_state(self._ti)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not cancel a good load
            self._log.warning(
                "This process is told to end. Airflow does not tell whether somebody killed the task, so %s is left "
                "running: %s: %s",
                self._job,
                type(error).__name__,
                error,
            )
            return
        if state in GOES_ON:
            self._log.info(
                "This process is told to end, but nobody killed the task: it is %s. So %s is left running",
                state,
                self._job,
            )
            return
        self._killed.set()
        self._log.info("The task was killed: it is %s now. Canceling %s", state, self._job)
        if not self._job_wait:
            self._may_go_on.set()  # only the task itself can read which job its spec has made
            self._has_job.wait(CREATION)
        if self._job_wait:
            self._cancel(self._job_wait)
        else:
            self._log.warning("It has no job that could be canceled")

    def _cancel(self, job_wait: JobWait) -> None:
        last = job_wait.notes.last
        if last and last.is_over:
            return
        self._record.note_cancellation(job_wait.job_id, self._log)
        try:
            job_wait.hook.cancel_job(job_wait.job_id)
        except PolarisError as error:
            self._log.warning("Job %s could not be canceled, and may run on: %s", job_wait.job_id, error)
        else:
            self._log.info("Polaris took the cancellation of job %s", job_wait.job_id)

    @property
    def _job(self) -> str:
        return f"job {self._job_wait.job_id}" if self._job_wait else "the job that it may have created"
