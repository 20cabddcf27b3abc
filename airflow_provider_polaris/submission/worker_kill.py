"""A kill on a worker: cancel what a task has started that a user has killed, such as its job.

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
from airflow_provider_polaris.submission.kill_target import at_start

if TYPE_CHECKING:
    from airflow_provider_polaris.submission.kill_target import TargetKind, WorkerTarget
    from airflow_provider_polaris.waiting.progress_log import Log

#: In these states Airflow continues the task by itself: its worker was shut down, lost, or unreachable for a while. A
#: user who clears a running task makes it ``restarting``. In all other states no task waits for the job any more: a
#: user has marked the task, or Airflow has ended it (``dagrun_timeout``; no heartbeat, and no retry left).
CONTINUES = frozenset({"running", "queued", "scheduled", "deferred", "up_for_retry", "up_for_reschedule"})
#: The longest time for ``on_kill`` in a signal handler. Airflow 3 sends SIGKILL 5 s after SIGTERM. 2.11 waits for a
#: minute, and ends the process as soon as ``on_kill`` returns.
LIMIT_SECONDS = 4.0 if AIRFLOW_3 else 30.0
#: The longest wait for the id of what a task has just asked Polaris to start.
SUBMISSION_SECONDS = 30.0
#: The name that a thread dump shows for the thread of ``on_kill``.
THREAD_NAME = "polaris_on_kill"


class WorkerKill:
    """Handles ``on_kill`` of one try on a worker.

    :param ti: the task instance.
    :param kind: what the task starts.
    """

    def __init__(self, ti: Any, kind: TargetKind, log: Log) -> None:
        self._ti = ti
        self._kind = kind
        self._log = log
        self._target: WorkerTarget | None = None
        self._has_target = threading.Event()
        #: Set when the work is done, or cannot continue while the signal handler blocks the task.
        self._may_return = threading.Event()
        self._killed = threading.Event()
        self._thread: threading.Thread | None = None

    def set_target(self, target: WorkerTarget) -> None:
        """Set what a kill cancels."""
        self._target = target
        self._has_target.set()

    def check(self) -> None:
        """Raise if the task was killed. On Airflow 3 the task runs on after ``on_kill``, and must start nothing."""
        if self._killed.is_set():
            raise PolarisTaskKilled(self._kind.not_started)

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
                self._subject,
                type(error).__name__,
                error,
            )
            return
        if state in CONTINUES:
            self._log.info(
                "This process must end, but no user killed the task: its state is %s. %s is left running",
                state,
                self._subject,
            )
            return
        self._killed.set()
        self._log.info("The task was killed: its state is %s. Canceling its %s", state, self._kind.noun)
        if not self._target:
            self._may_return.set()  # the task itself must continue to read the id
            self._has_target.wait(SUBMISSION_SECONDS)
        if self._target:
            self._cancel(self._target)
        else:
            self._log.warning("The task was killed, and has no %s to cancel", self._kind.noun)

    def _cancel(self, target: WorkerTarget) -> None:
        if target.is_over:
            return
        target.note_cancellation()
        try:
            target.cancel()
        except PolarisError as error:
            self._log.warning(
                "%s could not be canceled, and may still be running: %s. Cancel %s in the console",
                at_start(target.name),
                error,
                target.name,
            )
        else:
            self._log.info("Polaris accepted the cancellation of %s", target.name)

    @property
    def _subject(self) -> str:
        return at_start(self._target.name) if self._target else f"A {self._kind.noun} that the task may have started"
