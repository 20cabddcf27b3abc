"""The client that all triggers of a connection share: its lookups of the connection, and their failures."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import PolarisUnauthorized, PolarisUnreachable, PolarisUsageError
from airflow_provider_polaris.gate.outage_tolerance import MAX_RETRY_AFTER_SECONDS
from airflow_provider_polaris.polling import shared_client as shared_client_module
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


OLD, NEW = (PolarisConnection("https://x/v1/projects/p", "p", key) for key in ("pok_old", "pok_new"))


class FakeClient:
    """Accepts the new key only, and records the key of each call."""

    calls: list[str]

    def __init__(self, connection):
        self.key = connection.api_key

    def get_job(self, job_id, *, retry):
        self.calls.append(self.key)
        if self.key != NEW.api_key:
            raise PolarisUnauthorized("wrong key", status=401)
        return job_id

    def close(self):
        pass


@pytest.fixture
def shared(monkeypatch):
    """Return a function that makes a shared client with one trigger. Its lookups have the given results, in order."""
    monkeypatch.setattr(FakeClient, "calls", [], raising=False)
    monkeypatch.setattr(shared_client_module, "PolarisClient", FakeClient)

    def make(*results):
        client, left = SharedClient("x", None), list(results)
        client.join()

        async def look_up():
            result = left.pop(0)
            if result is None:
                await asyncio.sleep(1000)
            if isinstance(result, Exception):
                raise result
            return result

        client._look_up = look_up
        return client

    return make


async def error_of(call):
    (result,) = await asyncio.gather(call, return_exceptions=True)
    return result


def test_a_rejected_call_is_made_again_with_the_changed_connection(shared):
    async def story(loop):
        client = shared(OLD, NEW)
        first = await error_of(client.get_job("j"))
        await asyncio.sleep(LOOKUP_INTERVAL_SECONDS)
        return first, await client.get_job("j")

    first, second = play(story)
    assert isinstance(first, PolarisUnauthorized), "the next lookup is not due yet"
    assert second == "j"
    assert FakeClient.calls == ["pok_old", "pok_old", "pok_new"]


@pytest.mark.parametrize("failure", [PolarisUnreachable("the database is away"), PolarisUsageError("no host")])
def test_triggers_keep_their_connection_if_a_later_lookup_fails(shared, failure):
    async def story(loop):
        client = shared(NEW, failure)
        first = await client.get_job("j")
        client.join()  # a trigger that starts later makes the next lookup due
        await asyncio.sleep(LOOKUP_INTERVAL_SECONDS)
        return first, await client.get_job("j")

    assert play(story) == ("j", "j")


def test_a_rejected_call_raises_its_own_error_if_the_lookup_after_it_fails(shared):
    async def story(loop):
        client = shared(OLD, PolarisUnreachable("the database is away"))
        await error_of(client.get_job("j"))
        await asyncio.sleep(LOOKUP_INTERVAL_SECONDS)
        return await error_of(client.get_job("j"))

    assert isinstance(play(story), PolarisUnauthorized)


def test_a_lookup_that_returns_the_same_connection_keeps_the_client(shared):
    async def story(loop):
        client = shared(NEW, NEW)
        await client.get_job("j")
        opened = client._client
        client.join()
        await asyncio.sleep(LOOKUP_INTERVAL_SECONDS)
        await client.get_job("j")
        return opened is client._client

    assert play(story)


def test_a_lookup_that_is_cancelled_is_made_again_at_once(shared):
    async def story(loop):
        client = shared(None, NEW)
        task = asyncio.ensure_future(client.get_job("j"))
        await asyncio.sleep(1)
        task.cancel()
        cancelled = await error_of(task)
        return cancelled, await client.get_job("j"), loop.moved

    cancelled, job, moved = play(story)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert (job, moved) == ("j", pytest.approx(1.0))


def test_a_call_that_waits_for_a_thread_is_not_sent_after_the_last_trigger_has_left(shared):
    client = shared()
    client.leave()
    with pytest.raises(PolarisUnreachable, match="before its request was sent") as caught:
        client._send(lambda _: None)
    assert not caught.value.received
