"""A kill in the triggerer: a user cleared or marked a deferred task (Airflow 3.3 and later)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from asgiref.sync import sync_to_async

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import current_try, task_state
from airflow_provider_polaris.api.errors import PolarisError, PolarisTransientError
from airflow_provider_polaris.polling.shared_client import SharedClient, shared_client
from airflow_provider_polaris.submission.kill_target import TriggerTarget, at_start
from airflow_provider_polaris.waiting.crossing import CancelableArgs
from airflow_provider_polaris.waiting.progress_log import Log

#: The longest time for the requests for the task's state. Airflow gives ``on_kill`` 30 s in all (``[triggerer]
#: on_kill_timeout``). A busy API server needs more than 10 s at times, and the cancellation needs a second or two.
STATE_LIMIT_SECONDS = 20.0
#: The cancellation is tried again for this long.
CANCEL_LIMIT_SECONDS = 25.0
CANCEL_PAUSE_SECONDS = 2.0
#: A deferred task gets these states only if a person marks it, clears it, or deletes its DAG run.
KILLED = frozenset({"failed", "success", "skipped", "removed", "restarting", None})
#: A cleared task gets these states, and so does a task that was not cleared: ``dag.test()`` sets a deferred task to
#: queued and runs its trigger itself, and another triggerer may have ended the same wait. Only a clear starts another
#: try.
KILLED_IF_ANOTHER_TRY = frozenset({"scheduled", "queued"})
#: How often the number of the try is requested. Airflow does not return the number while the task changes its state.
TRY_REQUESTS = 3
TRY_REQUEST_PAUSE_SECONDS = 1.0


class TriggerKill:
    """Handles ``on_kill`` of a trigger.

    :param args: the arguments of the trigger.
    :param target: what the task waits for.
    :param task_instance: the trigger's attribute of the same name.
    """

    def __init__(self, args: CancelableArgs, target: TriggerTarget, task_instance: Any, log: Log) -> None:
        self._args = args
        self._target = target
        self._task_instance = task_instance
        self._log = log

    async def cancel_if_killed(self) -> None:
        """Cancel the target if a user has killed its task and no other try waits for it. Best effort, logged.

        The runner of Airflow 3.3 cancels a killed trigger again at each synchronisation, about once a second, until the
        trigger ends. So the work is a task of its own, which only the end of the event loop cancels.
        """
        work = asyncio.ensure_future(self._cancel_if_killed())
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(work)
        work.result()

    async def _cancel_if_killed(self) -> None:
        give_up_at = clock.now() + CANCEL_LIMIT_SECONDS
        if not await self._is_killed():
            return
        try:
            async with shared_client(self._args.polaris_conn_id, self._args.project_id) as client:
                await self._cancel(client, give_up_at)
        except PolarisError as error:
            self._log.warning(
                "The task was killed. %s could not be canceled, and may still be running: %s. Cancel %s in the console",
                at_start(self._target.name),
                error,
                self._target.name,
            )

    async def _is_killed(self) -> bool:
        """Return whether a person killed the task. Log the state of the task."""
        name = self._target.name
        try:
            state, is_killed = await asyncio.wait_for(self._request_state(), STATE_LIMIT_SECONDS)
        except Exception as error:  # noqa: BLE001 - no fault of this request may cancel a good load
            self._log.warning(
                "Airflow reports this wait as killed, but not the state of the task. %s is left running: %s: %s",
                at_start(name),
                type(error).__name__,
                error,
            )
            return False
        if is_killed:
            self._log.info("The task was killed: its state is %s. Canceling %s", state, name)
        else:
            self._log.info(
                "Airflow reports this wait as killed, but no user killed the task: its state is %s. %s is left running",
                state,
                at_start(name),
            )
        return is_killed

    async def _request_state(self) -> tuple[str | None, bool]:
        """Return the task's state, and whether a person killed the task."""
        for request in range(TRY_REQUESTS):
            if request:
                await clock.sleep_async(TRY_REQUEST_PAUSE_SECONDS)
            # Neither on the loop nor in asyncio's own threads, for the reason that SharedClient gives.
            state = await sync_to_async(task_state)(self._task_instance)
            if clock.now() >= self._args.deadline:
                # The wait was over, so that Airflow continues the task.
                return state, False
            if state not in KILLED_IF_ANOTHER_TRY:
                return state, state in KILLED
            this_try = await sync_to_async(current_try)(self._task_instance, state, self._args.logical_date)
            if this_try is not None:
                return state, this_try > self._task_instance.try_number
        return state, False

    async def _cancel(self, client: SharedClient, give_up_at: float) -> None:
        while True:
            try:
                result = await self._target.cancel(client)
            except PolarisTransientError:  # noqa: PERF203 - this is a retry
                if clock.now() + CANCEL_PAUSE_SECONDS > give_up_at:
                    raise
                await clock.sleep_async(CANCEL_PAUSE_SECONDS)
                if not await self._is_killed():  # the next try may have the job by now
                    return
            else:
                self._log.info("%s", result)
                return
