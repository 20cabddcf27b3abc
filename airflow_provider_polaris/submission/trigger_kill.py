"""The trigger's side of a kill: a user cleared or marked a task that waits in the triggerer (Airflow 3.3 and later)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import current_try, task_state
from airflow_provider_polaris.api.errors import PolarisError, PolarisTransientError
from airflow_provider_polaris.gate.decision import Verdict, decide
from airflow_provider_polaris.polling.shared_client import SharedClient, shared_client

if TYPE_CHECKING:
    from airflow_provider_polaris.triggers.polaris import PolarisJobTrigger

#: Airflow gives ``on_kill`` 30 s (``[triggerer] on_kill_timeout``). How long the requests for the task's state may
#: take, and until when the cancellation is tried, in seconds.
STATE_LIMIT = 10.0
LIMIT = 25.0
#: Between two attempts to cancel, in seconds.
PAUSE = 2.0
#: A deferred task gets into these states only if a person acts: marks it, clears it, or deletes its run.
KILLED = frozenset({"failed", "success", "skipped", "removed", "restarting", None})
#: A task that was cleared gets into these states, and so does one that nobody touched: ``dag.test()`` sets a deferred
#: task to queued and runs its trigger itself, and another triggerer may have ended the same wait. Only a clear starts
#: another try.
KILLED_IF_ANOTHER_TRY = frozenset({"scheduled", "queued"})
#: How often the number of the try is asked for, and the seconds in between. Airflow does not tell it at each moment.
TRY_REQUESTS = 3
TRY_REQUEST_PAUSE = 1.0


async def cancel_killed(trigger: PolarisJobTrigger) -> None:
    """Cancel the trigger's job, if a user has killed its task and nobody else waits for it; best effort, logged."""
    give_up_at = clock.now() + LIMIT
    if not await _is_killed(trigger):
        return
    try:
        async with shared_client(trigger.polaris_conn_id, trigger.project_id) as client:
            await _cancel(client, trigger, give_up_at)
    except PolarisError as error:
        trigger.log.warning("The task was killed. Job %s could not be canceled: %s", trigger.job_id, error)


async def _is_killed(trigger: PolarisJobTrigger) -> bool:
    """Return whether a person killed the task; log what is known of it."""
    log, job_id = trigger.log, trigger.job_id
    try:
        state, is_killed = await asyncio.wait_for(_ask_airflow(trigger), STATE_LIMIT)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not cancel a good load
        log.warning(
            "Airflow calls this wait killed, and does not tell the task's state, so job %s is left running: %s: %s",
            job_id,
            type(error).__name__,
            error,
        )
        return False
    if is_killed:
        log.info("The task was killed: it is %s now. Canceling job %s", state, job_id)
    else:
        log.info("Airflow calls this wait killed, but nobody killed the task: it is %s. Job %s runs on", state, job_id)
    return is_killed


async def _ask_airflow(trigger: PolarisJobTrigger) -> tuple[str | None, bool]:
    """Return the task's state, and whether a person killed the task."""
    ti: Any = trigger.task_instance
    for request in range(TRY_REQUESTS):
        if request:
            await clock.sleep_async(TRY_REQUEST_PAUSE)
        # As for a connection, neither on the loop nor in asyncio's own threads.
        state = await sync_to_async(task_state)(ti)
        if clock.now() >= trigger.deadline:
            # The wait was over, and the task that is scheduled goes on after it.
            return state, False
        if state not in KILLED_IF_ANOTHER_TRY:
            return state, state in KILLED
        this_try = await sync_to_async(current_try)(ti, state, trigger.logical_date)
        if this_try is not None:
            return state, this_try > ti.try_number
    return state, False


async def _cancel(client: SharedClient, trigger: PolarisJobTrigger, give_up_at: float) -> None:
    while True:
        try:
            said = await _cancel_once(client, trigger)
        except PolarisTransientError:  # noqa: PERF203 - it is a retry
            if clock.now() + PAUSE > give_up_at:
                raise
            await clock.sleep_async(PAUSE)
            if not await _is_killed(trigger):  # the next try may be at it by now
                return
        else:
            trigger.log.info("%s", said)
            return


async def _cancel_once(client: SharedClient, trigger: PolarisJobTrigger) -> str:
    job = await client.get_job(trigger.job_id)
    if decide(job, trigger.gate).verdict is not Verdict.WAIT:
        # Its wait was over, only this triggerer had not seen it: a stream that is up is no load to be stopped.
        return f"{job} is {job.state}, and nothing is left to cancel"
    await client.cancel_job(trigger.job_id)
    return f"Polaris took the cancellation of job {trigger.job_id}"
