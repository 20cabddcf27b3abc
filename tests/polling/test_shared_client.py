"""The client that all triggers of a connection share: its lookups of the connection, and their failures."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from airflow_provider_polaris.api.errors import PolarisUnreachable
from airflow_provider_polaris.gate.outage_tolerance import MAX_RETRY_AFTER_SECONDS
from airflow_provider_polaris.polling.polled_wait import Pace
from airflow_provider_polaris.polling.shared_client import LOOKUP_INTERVAL_SECONDS, SharedClient
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.poll_simulation import is_decided
from tests.support.virtual_time import EPOCH, play

pytestmark = pytest.mark.skipif(not AIRFLOW_3, reason="uses nothing of one Airflow version: one version is enough")


def test_a_failed_lookup_of_the_connection_is_repeated_after_the_wall_clock_is_set_back():
    async def story(loop):
        client, looked_up = SharedClient("x", None), []
        client.join()

        async def look_up():
            looked_up.append(loop.moved)
            raise PolarisUnreachable("the database is away", received=False)

        client._look_up = look_up

        async def wait():
            with client.poller.subscribe("a", is_decided, Pace(5.0), EPOCH + 1e5) as poll:
                while True:
                    await poll.next()

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(30)
        loop.virtual.time -= 3600.0
        await asyncio.sleep(300)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(1)
        return looked_up

    looked_up = play(story)
    assert looked_up[-1] > 300
    assert all(
        after - before <= MAX_RETRY_AFTER_SECONDS + LOOKUP_INTERVAL_SECONDS + 6 for before, after in pairwise(looked_up)
    )
