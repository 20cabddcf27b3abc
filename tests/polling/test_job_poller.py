"""The driver of the shared poll, on an event loop: waits begin and end, requests hang, and faults reach every wait."""

from __future__ import annotations

import asyncio
import random

import pytest

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.client import RawPage
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisConnectionMissing, PolarisInvalidResponse
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.polling.job_poller import JobPoller
from airflow_provider_polaris.polling.polled_wait import Pace
from airflow_provider_polaris.polling.poller import LAST_REQUEST_SECONDS
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.poll_simulation import is_decided
from tests.support.virtual_time import EPOCH, play

pytestmark = pytest.mark.skipif(not AIRFLOW_3, reason="the driver uses nothing of Airflow: one version is enough")

DAY = 86_400.0
HOUR = 3600.0
#: How many turns of the event loop lie between two events: any of them may come first.
TICKS = pytest.mark.parametrize("ticks", range(10))


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(1)


class Client:
    """Jobs that end when they are told to. ``before_id`` and ``before_list`` run before each response."""

    slots = 6

    def __init__(self, loop):
        self.loop = loop
        self.ends = {}
        self.asked = []
        self.before_id = self.before_list = self.short_pause

    async def short_pause(self, _job_id=None):
        await asyncio.sleep(0.01)

    def row(self, job_id):
        status = "completed" if self.loop.moved >= self.ends.get(job_id, float("inf")) else "running"
        return {"id": job_id, "type": "batch", "executionStatus": status, "health": {"status": "ok"}}

    async def get_job(self, job_id):
        self.asked.append((self.loop.moved, job_id))
        await self.before_id(job_id)
        return Job.from_api(self.row(job_id))

    async def list_active(self, wanted, offset, limit):
        self.asked.append((self.loop.moved, "list"))
        await self.before_list()
        rows = {key: row for key in sorted(wanted) if (row := self.row(key))["executionStatus"] == "running"}
        return RawPage(rows, len(rows), more=False)

    async def list_ended(self, wanted, offset, limit):
        self.asked.append((self.loop.moved, "ended list"))
        await self.before_list()
        rows = {key: row for key in sorted(wanted) if (row := self.row(key))["executionStatus"] == "completed"}
        return RawPage(rows, len(rows), more=False)


async def wait(poller, job_id, interval, *, lasts=1e6):
    """Wait as a trigger does; return when it ended, and how."""
    loop = asyncio.get_running_loop()
    deadline = EPOCH + lasts
    with poller.subscribe(job_id, is_decided, Pace(interval), deadline) as poll:
        while True:
            answer, _, _ = await poll.next()
            if not isinstance(answer, PolarisApiError) and answer is not None and is_decided(answer):
                return loop.moved, str(answer.execution_status)
            if clock.now() >= deadline:
                return loop.moved, "timeout"


def waits(poller, count, interval, **options):
    return [asyncio.ensure_future(wait(poller, f"j{number}", interval, **options)) for number in range(count)]


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def end(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(1)


@TICKS
def test_a_wait_that_begins_while_a_request_for_its_job_ends_is_served(ticks):
    async def story(loop):
        client, answers = Client(loop), []
        client.ends["a"] = 100.0

        async def held(_job_id):
            answers.append(loop.create_future())
            await answers[-1]

        client.before_id = held
        poller = JobPoller(client)
        first = asyncio.ensure_future(wait(poller, "a", 5.0))
        await asyncio.sleep(1)
        second = asyncio.ensure_future(wait(poller, "a", 5.0))
        await turns(ticks)
        answers[0].set_result(None)
        client.before_id = client.short_pause
        ended = await asyncio.gather(first, second)
        await asyncio.sleep(1)
        return ended

    assert all(how == "completed" and at <= 106 for at, how in play(story))


@TICKS
@pytest.mark.parametrize("count", [3, 12], ids=["by id", "by list"])
def test_waits_that_begin_right_after_the_last_subscriber_left_are_served(count, ticks):
    async def story(loop):
        client = Client(loop)
        poller = JobPoller(client)
        first = waits(poller, count, 5.0)
        await asyncio.sleep(7)
        for task in first:
            task.cancel()
        await turns(ticks)
        second = waits(poller, count, 5.0)
        client.ends = {f"j{number}": 20.0 for number in range(count)}
        ended = await asyncio.gather(*second)
        await end(first)
        return ended

    assert all(how == "completed" and at <= 26 for at, how in play(story))


@TICKS
def test_a_poll_that_all_leave_while_it_begins_to_read_the_list_ends_without_a_fault(ticks):
    async def story(loop):
        client, reading = Client(loop), asyncio.Event()

        async def begin():
            reading.set()
            await asyncio.sleep(0.01)

        client.before_list = begin
        poller = JobPoller(client)
        tasks = waits(poller, 12, 5.0)
        await reading.wait()
        await turns(ticks)
        await end(tasks)
        ended = await wait(poller, "new", 5.0, lasts=20)
        await asyncio.sleep(1)
        return ended

    assert play(story)[1] == "timeout"


@TICKS
def test_a_fault_of_the_poll_reaches_every_wait_at_once_and_the_next_wait_starts_a_new_poll(ticks):
    async def story(loop):
        client, fault, is_first = Client(loop), loop.create_future(), [True]

        async def break_once():
            if is_first[0]:
                is_first[0] = False
                await fault

        client.before_list = break_once
        poller = JobPoller(client)
        tasks = waits(poller, 12, HOUR, lasts=DAY)
        await asyncio.sleep(1)
        tasks.append(asyncio.ensure_future(wait(poller, "new", HOUR, lasts=DAY)))
        await turns(ticks)
        fault.set_exception(RuntimeError("fault"))
        done = await asyncio.gather(*tasks, return_exceptions=True)
        ended = await wait(poller, "later", 5.0, lasts=20)
        await asyncio.sleep(1)
        return done, loop.moved, ended

    done, _, ended = play(story)
    assert all(isinstance(answer, RuntimeError) for answer in done)
    assert ended[1] == "timeout"


def test_a_fault_of_the_poll_that_is_an_error_of_the_api_ends_every_wait_too():
    """A wait tolerates an error of a poll. After a fault, no poll follows."""

    async def story(loop):
        poller = JobPoller(Client(loop))
        tasks = waits(poller, 2, 5.0)
        await asyncio.sleep(1)

        def fault(*_):
            raise PolarisInvalidResponse("a row that nobody expected")

        poller._plan.heard = fault
        done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        await asyncio.sleep(1)
        return done

    assert ["a row that nobody expected" in str(error) for error in play(story)] == [True, True]


def test_an_error_that_is_not_of_the_api_is_raised():
    async def story(loop):
        client = Client(loop)

        async def missing(_job_id):
            raise PolarisConnectionMissing("not defined")

        client.before_id = missing
        poller = JobPoller(client)
        with pytest.raises(PolarisConnectionMissing):
            await wait(poller, "a", 5.0)
        await asyncio.sleep(1)

    play(story)


def test_a_request_that_hangs_delays_no_other_wait():
    async def story(loop):
        client = Client(loop)
        client.ends["b"] = 20.0

        async def hang(job_id):
            await asyncio.sleep(60 if job_id == "a" else 0.01)

        client.before_id = hang
        poller = JobPoller(client)
        hanging = asyncio.ensure_future(wait(poller, "a", 5.0))
        ended = await wait(poller, "b", 5.0)
        await end([hanging])
        return ended

    assert play(story)[0] <= 26


def test_a_request_that_hangs_past_the_deadline_ends_as_one_failed_poll():
    async def story(loop):
        client = Client(loop)

        async def hang(_job_id):
            await asyncio.sleep(HOUR)

        client.before_id = hang
        ended = await wait(JobPoller(client), "a", 5.0, lasts=10)
        await asyncio.sleep(1)
        return ended

    assert play(story) == (10 + LAST_REQUEST_SECONDS, "timeout")


def test_waits_that_begin_together_share_the_first_request():
    async def story(loop):
        client = Client(loop)
        tasks = [asyncio.ensure_future(wait(JobPoller(client), "a", 5.0))]
        poller = JobPoller(client)
        tasks += [asyncio.ensure_future(wait(poller, "b", 5.0)) for _ in range(5)]
        await asyncio.sleep(1)
        await end(tasks)
        return [job_id for _, job_id in client.asked]

    assert sorted(play(story)) == ["a", "b"]


def test_a_poll_that_is_cancelled_from_outside_ends_every_wait():
    async def story(loop):
        poller = JobPoller(Client(loop))
        before = asyncio.all_tasks()
        task = asyncio.ensure_future(wait(poller, "a", 5.0))
        await asyncio.sleep(1)
        for other in asyncio.all_tasks() - before - {task}:
            other.cancel()
        with pytest.raises(Exception, match="The poll was stopped"):
            await task
        await asyncio.sleep(1)

    play(story)
