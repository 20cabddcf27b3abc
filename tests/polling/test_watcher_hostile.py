"""What a hostile review did to the shared poll: questions that nobody asks, clocks that jump, services that hang."""

from __future__ import annotations

import asyncio
import logging
import random
from itertools import pairwise

import pytest

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.client import ActivePage
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisForbidden,
    PolarisNotFound,
    PolarisUnreachable,
)
from airflow_provider_polaris.api.models import Job, Table
from airflow_provider_polaris.gate.decision import Verdict, decide
from airflow_provider_polaris.gate.options import Gate
from airflow_provider_polaris.gate.outage_tolerance import MAX_RETRY_AFTER, OutageTolerance
from airflow_provider_polaris.polling.job_poller import JobPoller
from airflow_provider_polaris.polling.shared_client import LOOK_UP_EVERY, SharedClient
from airflow_provider_polaris.polling.subscription import REST, Pace
from airflow_provider_polaris.triggers.polaris import PolarisTableTrigger
from airflow_provider_polaris.waiting.progress_log import ProgressLog
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.virtual_time import EPOCH, play

pytestmark = pytest.mark.skipif(not AIRFLOW_3, reason="holds no line of Airflow: once is enough")

DAY = 86_400.0
HOUR = 3600.0


class Service:
    """Jobs that end when they are told to. What happens before an answer is the test's."""

    slots = 6

    def __init__(self, loop):
        self.loop = loop
        self.ends = {}
        #: When, what, and of which job, for each question.
        self.asked = []
        self.before_id = self.before_list = self.at_once

    async def at_once(self, _job_id=None):
        await asyncio.sleep(0.01)

    def status(self, job_id):
        return "completed" if self.loop.moved >= self.ends.get(job_id, float("inf")) else "running"

    def row(self, job_id):
        return {"id": job_id, "type": "batch", "executionStatus": self.status(job_id), "health": {"status": "ok"}}

    async def get_job(self, job_id):
        self.asked.append((self.loop.moved, "id", job_id))
        await self.before_id(job_id)
        return Job.from_api(self.row(job_id))

    async def list_active(self, wanted, offset):
        self.asked.append((self.loop.moved, "list", offset))
        await self.before_list()
        rows = {key: self.row(key) for key in sorted(wanted) if self.status(key) == "running"}
        return ActivePage(rows, len(rows), more=False)

    def asked_since(self, moment):
        return [question for question in self.asked if question[0] >= moment]


async def wait(watcher, job_id, interval, *, lasts=1e6, backoff=False):
    """Wait as a trigger does; return when it ended, and how."""
    loop = asyncio.get_running_loop()
    tolerance, deadline = OutageTolerance(36_000, interval, worked=True), EPOCH + lasts
    with watcher.subscribe(job_id, Gate(), Pace(interval, backoff=backoff), deadline) as poll:
        while True:
            answer = await poll.next()
            if isinstance(answer, PolarisApiError):
                delay = tolerance.failed(answer, clock.now())
                if isinstance(answer, PolarisNotFound) and delay is not None:
                    poll.ask_again_in(delay)
            elif answer is not None and decide(answer, Gate()).verdict is not Verdict.WAIT:
                return loop.moved, str(answer.execution_status)
            else:
                tolerance.succeeded()
            if clock.now() >= deadline:
                return loop.moved, "timeout"


def waits(watcher, count, interval, **options):
    return [asyncio.ensure_future(wait(watcher, f"j{number}", interval, **options)) for number in range(count)]


async def until(condition):
    while not condition():  # noqa: ASYNC110 - the time is virtual, and an event would change whose turn it is
        await asyncio.sleep(0.1)


async def end(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(1)


SEEDS = pytest.mark.parametrize("seed", range(8))
TICKS = pytest.mark.parametrize("ticks", range(10))


class TestNobodyIsForgotten:
    @TICKS
    def test_one_that_comes_while_its_question_ends(self, ticks):
        async def story(loop):
            service, answers = Service(loop), []
            service.ends["a"] = 100.0

            async def held(_job_id):
                answers.append(loop.create_future())
                await answers[-1]

            service.before_id = held
            watcher = JobPoller(service)
            first = asyncio.ensure_future(wait(watcher, "a", 5.0, lasts=DAY))
            await asyncio.sleep(1)
            second = asyncio.ensure_future(wait(watcher, "a", 5.0, lasts=DAY))
            for _ in range(ticks):
                await asyncio.sleep(0)
            answers[0].set_result(None)
            service.before_id = service.at_once
            ended = await asyncio.gather(first, second)
            await asyncio.sleep(1)
            return ended

        assert all(how == "completed" and at <= 106 for at, how in play(story))

    def test_one_whose_backoff_others_would_drive(self):
        """A list that is of no use is tried again and again, for others' sake."""

        async def story(loop):
            service = Service(loop)

            async def endless(_wanted, _offset):
                await asyncio.sleep(0.01)
                return ActivePage({}, 1000, more=True)

            service.list_active = endless
            service.ends = {f"j{number}": 6 * HOUR for number in range(5)} | {"last": 7 * HOUR}
            watcher = JobPoller(service)
            others = waits(watcher, 14, 60.0, lasts=30 * DAY)
            last = asyncio.ensure_future(wait(watcher, "last", 60.0, lasts=30 * DAY, backoff=True))
            ended = await last
            await end(others)
            return ended

        at, how = play(story)
        assert how == "completed"
        assert at <= 15 * HOUR, "its pauses have doubled, and that is all"

    @SEEDS
    def test_one_that_others_leave_in_an_outage(self, seed):
        async def story(loop):
            service = Service(loop)

            async def down(_job_id):
                await asyncio.sleep(0.01)
                if 100 <= loop.moved < 330:
                    raise PolarisUnreachable("down", status=503)

            service.before_id = down
            service.ends["j9"] = 331.0
            watcher = JobPoller(service)
            others = waits(watcher, 9, 300.0, lasts=300)
            ended = await wait(watcher, "j9", 300.0, lasts=DAY)
            await asyncio.gather(*others)
            await asyncio.sleep(1)
            return ended

        random.seed(seed)
        at, how = play(story)
        assert (how, at <= 631) == ("completed", True), at

    @SEEDS
    def test_one_whose_question_is_under_way_when_it_is_time_for_the_list_again(self, seed):
        async def story(loop):
            service, forbidden = Service(loop), [True]

            async def before_list():
                await asyncio.sleep(0.01)
                if forbidden[0]:
                    raise PolarisForbidden("no", status=403)

            async def slow(_job_id):
                await asyncio.sleep(1.0)

            service.before_list, service.before_id = before_list, slow
            service.ends["short"] = 700.0
            watcher = JobPoller(service)
            others = waits(watcher, 10, HOUR)
            short = asyncio.ensure_future(wait(watcher, "short", 5.0))
            await asyncio.sleep(100)
            forbidden[0] = False
            ended = await short
            await end(others)
            return ended

        random.seed(seed)
        assert play(story)[0] <= 708

    @SEEDS
    def test_one_that_ends_while_two_others_have_faults_of_their_own(self, seed):
        async def story(loop):
            service = Service(loop)

            async def two_fail(job_id):
                await asyncio.sleep(0.01)
                if job_id in ("j5", "j6"):
                    raise PolarisUnreachable("this job only", status=503)

            service.before_id = two_fail
            watcher = JobPoller(service)
            tasks = waits(watcher, 30, 30.0)
            await until(lambda: service.asked and service.asked[-1][2] == "j5")
            service.ends["j0"] = ended = loop.moved + 1
            at, _ = await tasks[0]
            await end(tasks)
            return at - ended

        random.seed(seed)
        assert play(story) <= 31

    def test_those_that_are_left_to_ids_while_the_list_hangs(self):
        async def story(loop):
            service = Service(loop)

            async def hang():
                await asyncio.sleep(60 if loop.moved > 50 else 0.01)

            service.before_list = hang
            watcher = JobPoller(service)
            tasks = waits(watcher, 11, 5.0, lasts=DAY)
            await until(lambda: [question for question in service.asked_since(50) if question[1] == "list"])
            await asyncio.sleep(6)
            left_at = loop.moved
            tasks[10].cancel()
            await asyncio.sleep(20)
            await end(tasks)
            return service.asked_since(left_at)[0][0] - left_at

        random.seed(1)
        assert play(story) <= 5

    @TICKS
    @pytest.mark.parametrize("count", [3, 12], ids=["by id", "by list"])
    def test_those_that_come_when_the_last_have_just_left(self, count, ticks):
        async def story(loop):
            service = Service(loop)
            watcher = JobPoller(service)
            first = waits(watcher, count, 5.0)
            await asyncio.sleep(7)
            for task in first:
                task.cancel()
            for _ in range(ticks):
                await asyncio.sleep(0)
            second = waits(watcher, count, 5.0)
            service.ends = {f"j{number}": 20.0 for number in range(count)}
            await asyncio.sleep(2)
            watcher.wake()
            ended = await asyncio.gather(*second)
            await end(first)
            return ended

        assert all(how == "completed" and at <= 26 for at, how in play(story))


class TestClocks:
    """That of the wall is set forward: a machine that was asleep, or a clock that was wrong."""

    def test_while_a_list_is_late(self):
        async def story(loop):
            service = Service(loop)

            async def late():
                await asyncio.sleep(8)

            service.before_list = late
            watcher = JobPoller(service)
            tasks = waits(watcher, 12, 5.0, lasts=10 * HOUR)
            await asyncio.sleep(31)
            loop.offset = 11 * HOUR
            ended = await asyncio.gather(*tasks)
            await asyncio.sleep(10)
            return ended

        assert all(how == "timeout" and at <= 60 for at, how in play(story))

    def test_while_a_question_is_under_way(self):
        async def story(loop):
            service = Service(loop)
            service.ends["short"] = 100.0

            async def slow(_job_id):
                await asyncio.sleep(1)

            service.before_id = slow
            watcher = JobPoller(service)
            long = asyncio.ensure_future(wait(watcher, "long", HOUR))
            short = asyncio.ensure_future(wait(watcher, "short", 5.0))
            await until(lambda: len([question for question in service.asked if question[2] == "short"]) == 4)
            loop.offset = 4000.0
            at, _ = await short
            await end([long])
            return at

        assert play(story) <= 107

    def test_a_connection_is_looked_up_though_the_clock_was_set_back(self):
        async def story(loop):
            client, looked_up = SharedClient("x", None), []
            client.join()

            async def look_up():
                looked_up.append(loop.moved)
                raise PolarisUnreachable("the database is away", received=False)

            client._look_up = look_up
            task = asyncio.ensure_future(wait(client.watcher, "a", 5.0, lasts=1e5))
            await asyncio.sleep(30)
            loop.offset = -HOUR
            await asyncio.sleep(300)
            await end([task])
            return looked_up

        looked_up = play(story)
        assert looked_up[-1] > 300
        assert all(after - before <= MAX_RETRY_AFTER + LOOK_UP_EVERY + 6 for before, after in pairwise(looked_up))


class TestServices:
    def test_one_that_hangs_costs_no_cpu(self):
        async def story(loop):
            service, hangs = Service(loop), [False]

            async def hang(_job_id):
                await asyncio.sleep(60 if hangs[0] else 0.01)
                if hangs[0]:
                    raise PolarisUnreachable("no answer in time")

            service.before_id = hang
            watcher = JobPoller(service)
            tasks = []
            for number in range(10):
                tasks.append(asyncio.ensure_future(wait(watcher, f"j{number}", 5.0, lasts=DAY)))
                await asyncio.sleep(0.3)
            await asyncio.sleep(20)
            hangs[0] = True
            await asyncio.sleep(1200)  # the loop would spin
            await end(tasks)
            await asyncio.sleep(60)

        random.seed(1)
        play(story)

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_one_that_is_slow_has_its_rest_from_several_triggers_of_one_job_too(self, count):
        async def story(loop):
            service, answered, rests = Service(loop), [], []

            async def slow(_job_id):
                if answered:
                    rests.append(loop.moved - answered[-1])
                await asyncio.sleep(15)
                answered.append(loop.moved)

            service.before_id = slow
            watcher = JobPoller(service)
            tasks = []
            for _ in range(count):
                tasks.append(asyncio.ensure_future(wait(watcher, "a", 10.0)))
                await asyncio.sleep(3)
            await asyncio.sleep(500)
            await end(tasks)
            await asyncio.sleep(15)
            return rests

        rests = play(story)
        assert len(rests) > 20
        assert min(rests) >= 0.9 * REST * 10

    def test_one_that_asks_for_a_pause_has_it_whoever_comes(self):
        async def story(loop):
            service = Service(loop)

            async def busy(_job_id):
                await asyncio.sleep(0.01)
                if loop.moved > 100:
                    raise PolarisUnreachable("busy", status=429, retry_after=30)

            service.before_id = busy
            watcher, tasks = JobPoller(service), []
            for number in range(6):
                tasks.append(asyncio.ensure_future(wait(watcher, f"j{number}", 5.0)))
                await asyncio.sleep(0.8)
            await asyncio.sleep(100)
            for number in range(4):
                tasks.append(asyncio.ensure_future(wait(watcher, f"new{number}", 5.0)))
                await asyncio.sleep(6)
            await end(tasks)
            return [question for question in service.asked_since(100) if question[0] < 125]

        random.seed(1)
        assert len(play(story)) <= 4


class TestFaults:
    @TICKS
    def test_that_all_leave_while_a_list_is_begun_is_none(self, ticks):
        async def story(loop):
            watcher = JobPoller(Service(loop))
            tasks = waits(watcher, 12, 5.0)
            await asyncio.sleep(1)
            await asyncio.sleep(watcher._list_policy.due_at(len(watcher._jobs)) - EPOCH - loop.moved)
            for _ in range(ticks):
                await asyncio.sleep(0)
            await end(tasks)
            ended = await wait(watcher, "new", 5.0, lasts=20)
            await asyncio.sleep(1)
            return ended

        random.seed(1)
        assert play(story)[1] == "timeout"

    @TICKS
    def test_one_that_comes_with_a_newcomer_reaches_all_at_once(self, ticks):
        async def story(loop):
            service, fault, first = Service(loop), loop.create_future(), [True]

            async def break_once():
                if first[0]:
                    first[0] = False
                    await fault

            service.before_list = break_once
            watcher = JobPoller(service)
            tasks = waits(watcher, 12, HOUR, lasts=DAY)
            await asyncio.sleep(1)
            tasks.append(asyncio.ensure_future(wait(watcher, "new", HOUR, lasts=DAY)))
            for _ in range(ticks):
                await asyncio.sleep(0)
            fault.set_exception(RuntimeError("fault"))
            done = await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(1)
            return done

        random.seed(1)
        assert all(isinstance(answer, RuntimeError) for answer in play(story))

    @pytest.mark.parametrize("ticks", range(6))
    def test_a_table_trigger_that_is_cancelled_with_an_answer_is_cancelled(self, ticks):
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
            log = ProgressLog("j", logging.getLogger("x"))
            task = asyncio.ensure_future(trigger.wait(Client(), OutageTolerance(60, 5.0, worked=True), log))
            await asyncio.sleep(1)
            answers[0].set_result(None)
            for _ in range(ticks):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(10)
            return task.cancelled(), len(answers)

        assert play(story) == (True, 1)
