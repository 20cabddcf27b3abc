"""The trigger's side of a kill: a user cleared or marked a task that waits in the triggerer (Airflow 3.3 and later)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import task_state
from airflow_provider_polaris.errors import PolarisError, PolarisUnreachable
from airflow_provider_polaris.gate import Verdict, decide
from airflow_provider_polaris.triggers.client import SharedClient, shared_client

if TYPE_CHECKING:
    from airflow_provider_polaris.triggers.polaris import PolarisJobTrigger

#: Airflow gives ``on_kill`` 30 s (``[triggerer] on_kill_timeout``): how long it may ask for the task's state, and until
#: when the cancellation is tried, in seconds.
STATE_LIMIT = 10.0
LIMIT = 25.0
#: Between two attempts to cancel, in seconds.
PAUSE = 2.0
#: What a task is that a user has marked, cleared, or deleted with its run, and whose next try is not at the job yet. In
#: any other state somebody waits for the job: ``deferred`` where Airflow has given the trigger to another triggerer
#: (#73454), ``running`` where the next try is at it already, ``up_for_retry`` where there will be one.
KILLED = frozenset({"failed", "success", "skipped", "removed", "restarting", "scheduled", "queued", None})


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
    """Whether nobody waits for the job any more; say what is known of it."""
    log, job_id = trigger.log, trigger.job_id
    try:
        # As for a connection, neither on the loop nor in asyncio's own threads.
        state = await asyncio.wait_for(sync_to_async(task_state)(trigger.task_instance), STATE_LIMIT)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not cancel a good load
        log.warning(
            "Airflow calls this wait killed, and does not tell the task's state, so job %s is left running: %s: %s",
            job_id,
            type(error).__name__,
            error,
        )
        return False
    # Past its deadline the wait was over, and what is scheduled is the task that goes on after it.
    if state not in KILLED or clock.now() >= trigger.deadline:
        log.info("Airflow calls this wait killed, but the task is %s: job %s is left to it", state, job_id)
        return False
    log.info("The task was killed: it is %s now. Canceling job %s", state, job_id)
    return True


async def _cancel(client: SharedClient, trigger: PolarisJobTrigger, give_up_at: float) -> None:
    while True:
        try:
            said = await _cancel_once(client, trigger)
        except PolarisUnreachable:  # noqa: PERF203 - it is a retry
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
