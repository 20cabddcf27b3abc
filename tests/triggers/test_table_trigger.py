"""The trigger that waits for a table."""

from __future__ import annotations

import asyncio
import logging

import pytest

from airflow_provider_polaris.api.models import Table
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.triggers.polaris import PolarisTableTrigger
from airflow_provider_polaris.waiting.progress_log import ProgressLog
from tests.support.virtual_time import EPOCH, play


@pytest.mark.parametrize("ticks", range(6))
def test_a_trigger_that_is_cancelled_together_with_a_response_is_cancelled(ticks):
    async def story(loop):
        answers = []

        class Client:
            async def get_table(self, name):
                answers.append(loop.create_future())
                await answers[-1]
                return Table(name, "unavailable", None, {})

        trigger = PolarisTableTrigger(
            table="t",
            job_id="j",
            polaris_conn_id="c",
            project_id=None,
            poll_interval=5.0,
            deadline=EPOCH + 300,
            max_unreachable=60.0,
        )
        progress = ProgressLog("j", logging.getLogger("x"))
        task = asyncio.ensure_future(trigger.wait(Client(), OutageTolerance(60, 5.0, worked=True), progress))
        await asyncio.sleep(1)
        answers[0].set_result(None)
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(10)
        return task.cancelled(), len(answers)

    assert play(story) == (True, 1)
