"""A kill on a worker: cancel the job of a task that a user has killed.

Airflow calls ``on_kill`` also when a worker is shut down or a pod is evicted. The next try then continues with the
job. Only the state of the task in Airflow shows whether a user killed the task.
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

#: In these states Airflow continues the task by itself: its worker was shut down, lost, or unreachable for a while. A
#: user who clears a running task makes it ``restarting``. In all other states no task waits for the job any more: a
#: user has marked the task, or Airflow has ended it (``dagrun_timeout``; no heartbeat, and no retry left).
CONTINUES = frozenset({"running", "queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule"})
#: The longest time for ``on_kill`` in a signal handler. Airflow 3 sends SIGKILL 5 s after SIGTERM. 2.11 waits for a
#: minute, and ends the process as soon as ``on_kill`` returns.
LIMIT_SECONDS = 4.0 if AIRFLOW_3 else 30.0
#: The longest wait for the id of a job whose spec has been sent.
SUBMISSION_SECONDS = 30.0
#: The name that a thread dump shows for the thread of ``on_kill``.
THREAD_NAME = "polaris_on_kill"


class WorkerKill:
    """Handles ``on_kill`` of one try on a worker.

    :param ti: the task instance.
    :param record: holds the note of a cancellation for later tries.
    """

    def __init__(self, ti: Any, record: SubmissionRecord, log: Log) -> None:
        self._ti = ti
        self._record = record
        self._log = log
        self._job_wait: JobWait | None = None
        self._has_job = threading.Event()
        #: Set when the work is done, or cannot continue while the signal handler blocks the task.
        self._may_return = threading.Event()
        self._killed = threading.Event()
        self._thread: threading.Thread | None = None

    def set_job_wait(self, job_wait: JobWait) -> None:
        """Set the job that a kill cancels."""
        self._job_wait = job_wait
        self._has_job.set()

    def check(self) -> None:
        """Raise if the task was killed. On Airflow 3 the task runs on after ``on_kill``, and must not create a job."""
        if self._killed.is_set():
            raise PolarisTaskKilled("The task was killed before it created its job. Nothing was loaded")

    def handle(self) -> None:
        """Handle ``on_kill`` within Airflow's time limit.

        Airflow calls this in a signal handler, while the task may hold any lock. So another thread does the work. It
        continues if this method stops waiting for it.
        """
        was_not_killed = self._thread and not self._thread.is_alive() and not self._killed.is_set()
        if self._thread is None or was_not_killed:  # during its shutdown a worker lets the task run for a while
            # The thread starts before the wait for the thread: a second signal may come at any point here.
            self._may_return.clear()
            context = contextvars.copy_context()  # log handlers find the task in it
            self._thread = threading.Thread(target=context.run, args=(self._run,), name=THREAD_NAME, daemon=True)
            self._thread.start()
        self._may_return.wait(LIMIT_SECONDS)

    def _run(self) -> None:
        try:
            self._cancel_if_killed()
        finally:
            self._may_return.set()

    def _cancel_if_killed(self) -> None:
        try:
            state = task_state(self._ti)
        except Exception as error:  # noqa: BLE001 - no fault of this request may cancel a good load
            self._log.warning(
                "This process must end. Airflow did not report whether a user killed the task. %s is left running: "
                "%s: %s",
                self._job,
                type(error).__name__,
                error,
            )
            return
        if state in CONTINUES:
            self._log.info(
                "This process must end, but no user killed the task: its state is %s. %s is left running",
                state,
                self._job,
            )
            return
        self._killed.set()
        self._log.info("The task was killed: its state is %s. Canceling its job", state)
        if not self._job_wait:
            self._may_return.set()  # the task itself must continue to read the id of its job
            self._has_job.wait(SUBMISSION_SECONDS)
        if self._job_wait:
            self._cancel(self._job_wait)
        else:
            self._log.warning("The task was killed, and has no job to cancel")

    def _cancel(self, job_wait: JobWait) -> None:
        last = job_wait.progress.last
        if last and last.is_over:
            return
        self._record.note_cancellation(job_wait.job_id, self._log)
        try:
            job_wait.hook.cancel_job(job_wait.job_id)
        except PolarisError as error:
            self._log.warning(
                "Job %s could not be canceled, and may still be running: %s. Cancel the job in the console",
                job_wait.job_id,
                error,
            )
        else:
            self._log.info("Polaris accepted the cancellation of job %s", job_wait.job_id)

    @property
    def _job(self) -> str:
        return f"Job {self._job_wait.job_id}" if self._job_wait else "A job that the task may have created"
