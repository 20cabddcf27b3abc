"""Whatever the list and the answers by id say, and whoever comes and goes: no wait ends wrongly or is forgotten.

The service is a model in memory, and the event loop's clock moves as soon as nobody has anything to do: a day of polls
takes a moment, and each example runs the same way again.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.client import ActivePage
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisForbidden,
    PolarisNotFound,
    PolarisUnreachable,
)
from airflow_provider_polaris.api.models import ACTIVE_STATUSES, Job
from airflow_provider_polaris.gate.decision import Verdict, decide
from airflow_provider_polaris.gate.options import Gate
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.polling import job_poller as watcher_module
from airflow_provider_polaris.polling.by_id import ByIdPoller
from airflow_provider_polaris.polling.job_poller import JobPoller
from airflow_provider_polaris.polling.subscription import REST, Pace
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.virtual_time import EPOCH, play

pytestmark = pytest.mark.skipif(not AIRFLOW_3, reason="holds no line of Airflow: once is enough")

INTERVAL = 30.0
#: Answers that come within some turns of the loop: which of two things comes first is anybody's guess.
AT_ONCE = (0.0, 0.0)


class Service:
    """A model of Polaris: jobs that end, a list that may lie, calls that may fail, each as the example says."""

    slots = 3

    def __init__(self, rng, faults, page_size):
        self.rng = rng
        self.faults = faults
        self.page_size = page_size
        self.ends: dict[str, float] = {}
        self.kinds: dict[str, str] = {}
        self.frozen: dict[str, str] = {}
        self.not_found: set[str] = set()
        self.calls = 0
        self.takes = (0.01, 0.5)

    def status(self, job_id):
        now = clock.now()
        if now >= self.ends[job_id]:
            return self.kinds[job_id]
        return "running" if now >= self.ends[job_id] - 200 else "pending"

    def row(self, job_id, status):
        health = {"status": "ok"} if self.rng.random() < 0.9 else {"status": "warn", "code": "invalid_rows_found"}
        return {"id": job_id, "type": "batch", "executionStatus": status, "health": health}

    def goes_wrong(self, fault, probability):
        return fault in self.faults and self.rng.random() < probability

    async def answers(self):
        self.calls += 1
        await asyncio.sleep(self.rng.uniform(*self.takes))
        for _ in range(self.rng.randrange(6) if self.takes == AT_ONCE else 0):
            await asyncio.sleep(0)
        if self.goes_wrong("hangs", 0.1):
            await asyncio.sleep(60)
            raise PolarisUnreachable("no answer in time")
        if self.goes_wrong("busy", 0.2):
            raise PolarisUnreachable("busy", status=429, retry_after=self.rng.choice([3, 30, 600]))

    async def get_job(self, job_id):
        await self.answers()
        if self.in_outage():
            raise PolarisUnreachable("outage", status=503)
        if self.goes_wrong("bad answers", 0.05):
            raise PolarisUnreachable("flake", status=503)
        if job_id not in self.not_found and self.goes_wrong("404 at first", 0.3):
            self.not_found.add(job_id)
            raise PolarisNotFound("not found", status=404, code="NotFound")
        return Job.from_api(self.row(job_id, self.status(job_id)))

    def in_outage(self):
        return "outages" in self.faults and (clock.now() // 150) % 4 == 2

    async def list_active(self, wanted, offset):
        await self.answers()
        if self.in_outage():
            raise PolarisUnreachable("outage", status=503)
        if "forbidden" in self.faults:
            raise PolarisForbidden("no", status=403)
        if self.goes_wrong("bad lists", 0.2):
            raise PolarisUnreachable("html", status=200)
        rows = []
        for job_id in self.ends:
            status = self.status(job_id)
            if "stale for ever" in self.faults or ("stale for a while" in self.faults and clock.now() < EPOCH + 400):
                status = self.frozen.setdefault(job_id, status)
            if status in ACTIVE_STATUSES and not self.goes_wrong("left out", 0.1):
                rows.extend([self.row(job_id, status)] * (2 if self.goes_wrong("twice", 0.1) else 1))
        if "any order" in self.faults:
            self.rng.shuffle(rows)
        page = rows[offset : offset + self.page_size]
        found = {row["id"]: row for row in page if row["id"] in wanted}
        return ActivePage(found, len(page), more=offset + len(page) < len(rows))


class Waiter:
    """What a trigger does, and a record of what it was told."""

    def __init__(self, job_id, comes, leaves, interval=INTERVAL, *, backs_off=False, turns=0):
        self.job_id = job_id
        self.interval = interval
        self.backs_off = backs_off
        #: How many turns of the loop it is late.
        self.turns = turns
        self.comes = comes
        self.leaves = leaves
        self.ended_at = None
        self.ended_as = None

    async def wait(self, watcher):
        await asyncio.sleep(self.comes)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        gate = Gate()
        tolerance = OutageTolerance(3600, self.interval, worked=True)
        pace = Pace(self.interval, backoff=self.backs_off, most=2 * INTERVAL)
        with watcher.subscribe(self.job_id, gate, pace, EPOCH + 1e6) as poll:
            while True:
                answer = await poll.next()
                if isinstance(answer, PolarisApiError):
                    delay = tolerance.failed(answer, clock.now())  # raises what ends a wait
                    if isinstance(answer, PolarisNotFound):
                        poll.ask_again_in(delay)
                    continue
                tolerance.succeeded()
                if isinstance(answer, Job) and decide(answer, gate).verdict is not Verdict.WAIT:
                    self.ended_at = clock.now()
                    self.ended_as = str(answer.execution_status)
                    return
                assert answer is None or isinstance(answer, Job)


class Overseer:
    """Looks at the poll whenever time is about to go by: is there anything that it should be doing, and is not?"""

    def __init__(self, watcher, service, monkeypatch):
        self.watcher = watcher
        self.service = service
        overseer = self

        class SeenByIdPoller(ByIdPoller):
            def __init__(self, *args):
                super().__init__(*args)
                overseer.by_id = self

        monkeypatch.setattr(watcher_module, "ByIdPoller", SeenByIdPoller)
        right = JobPoller._sleep_until

        async def sleep_until(watcher, until):
            overseer.until = until
            await right(watcher, until)

        monkeypatch.setattr(JobPoller, "_sleep_until", sleep_until)

    def look(self):
        watcher = self.watcher
        if watcher._task is None or watcher._task.done():
            return
        by_id, now, by_list = self.by_id, clock.now(), watcher._goes_by_list()
        assert watcher._fault is None, "a fault is told at once"
        assert not by_id._queue or len(by_id._tasks) == self.service.slots, "somebody is free to ask that"
        assert len(by_id._pending) <= len(by_id._queue) + len(by_id._held) + len(by_id._tasks), "nobody is to ask that"
        waiting = [subscriptions for key, subscriptions in watcher._jobs.items() if not by_id.is_asking(key)]
        due = [one.wake_at(now, by_list=by_list) for subscriptions in waiting for one in subscriptions]
        assert self.until <= min([*due, by_id.wake_at]) + 0.01, "it would sleep through that"


FAULTS = [
    "outages", "bad answers", "404 at first", "bad lists", "left out", "twice", "any order", "forbidden",
    "stale for ever", "stale for a while", "hangs", "busy",
]  # fmt: skip
WAITERS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.0, 1.0, 47.0, 130.0]),  # when it comes
        st.sampled_from([1.0, 60.0, 61.0, 190.0, 333.0, 700.0]),  # how long after that its job ends
        st.sampled_from(["completed", "failed", "canceled"]),
        st.sampled_from([None, None, None, 0.0, 31.0, 120.0]),  # after how long it is cancelled
        st.booleans(),  # whether a second one waits for the same job
        st.sampled_from([INTERVAL, INTERVAL, 5.0, 300.0]),  # its interval
        st.booleans(),  # whether that doubles
    ),
    min_size=1,
    max_size=45,
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    waits=WAITERS,
    faults=st.sets(st.sampled_from(FAULTS), max_size=4),
    others=st.sampled_from([0, 0, 60]),
    page_size=st.sampled_from([7, 20, 1000]),
    takes=st.sampled_from([(0.01, 0.5), AT_ONCE, AT_ONCE, (1.0, 1.0)]),
    seed=st.integers(0, 2**32),
)
def test_no_wait_ends_wrongly_or_is_forgotten(waits, faults, others, page_size, takes, seed):
    rng = random.Random(seed)  # noqa: S311 - a game, not a key
    service = Service(rng, faults, page_size)
    service.takes = takes
    waiters = []
    for number, (comes, lasts, kind, leaves, twice, interval, backs_off) in enumerate(waits):
        job_id = f"job-{number}"
        service.ends[job_id] = EPOCH + comes + lasts
        service.kinds[job_id] = kind
        waiters.append(Waiter(job_id, comes, leaves, interval, backs_off=backs_off, turns=rng.randrange(12)))
        if twice:
            waiters.append(Waiter(job_id, comes + 5, None))
    for number in range(others):
        service.ends[f"other-{number}"] = EPOCH + 1e9
        service.kinds[f"other-{number}"] = "completed"

    async def story(loop):
        watcher = JobPoller(service)
        loop.on_idle = Overseer(watcher, service, monkeypatch).look
        tasks = []
        for waiter in waiters:
            task = asyncio.ensure_future(waiter.wait(watcher))
            if waiter.leaves is not None:
                asyncio.get_running_loop().call_later(waiter.comes + waiter.leaves, task.cancel)
            tasks.append(task)
        done, pending = await asyncio.wait(tasks, timeout=6000)
        for task in pending:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not pending, "forgotten"
        for task in done:
            assert task.cancelled() or task.exception() is None, task
        assert not watcher._jobs
        assert watcher._task is None
        await asyncio.sleep(1)  # what was cancelled comes to its end

    random.seed(seed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        play(story)

    for waiter in waiters:
        if waiter.ended_at is None:
            assert waiter.leaves is not None
            continue
        end = service.ends[waiter.job_id]
        assert waiter.ended_as == service.kinds[waiter.job_id], "it ended as its job did"
        assert waiter.ended_at >= end, "not before its job"
        if not faults & {"outages", "bad answers", "404 at first", "bad lists", "hangs", "busy"}:
            late = waiter.ended_at - max(end, EPOCH + waiter.comes)
            # A list that hides one end is found out when that job's turn comes to be asked for beside it.
            turns = len(waiters) + 2 if faults & {"stale for ever", "stale for a while"} else 0
            longest = max(waiter.interval, 2 * INTERVAL if waiter.backs_off else 0)
            assert late <= longest + 10 + turns * max(one.interval for one in waiters), f"{late:.0f} s late"


def test_a_list_that_hides_every_end_is_found_out_at_the_second_poll():
    service = Service(random.Random(7), {"stale for ever"}, 1000)  # noqa: S311 - a game, not a key
    waiters = [Waiter(f"job-{number}", 0.0, None) for number in range(40)]
    for waiter in waiters:
        service.ends[waiter.job_id] = EPOCH + 5
        service.kinds[waiter.job_id] = "completed"

    async def story(_loop):
        watcher = JobPoller(service)
        await asyncio.gather(*(waiter.wait(watcher) for waiter in waiters))
        await asyncio.sleep(1)

    play(story)
    assert max(waiter.ended_at for waiter in waiters) <= EPOCH + 2 * INTERVAL + 10


@pytest.mark.parametrize("waits", [1, 40], ids=["by id", "by list"])
def test_a_service_that_is_slower_than_the_interval_is_not_asked_without_a_pause(waits):
    rests, last = {"id": [], "list": []}, {}

    class Slow(Service):
        async def get_job(self, job_id):
            return await self.timed("id", super().get_job(job_id))

        async def list_active(self, wanted, offset):
            return await self.timed("list", super().list_active(wanted, offset))

        async def timed(self, kind, call):
            if kind in last:
                rests[kind].append(clock.now() - last[kind])
            try:
                return await call
            finally:
                last[kind] = clock.now()

    service = Slow(random.Random(7), set(), 1000)  # noqa: S311 - a game, not a key
    service.takes = (1.5 * INTERVAL, 2 * INTERVAL)
    waiters = [Waiter(f"job-{number}", 0.0, None) for number in range(waits)]
    for waiter in waiters:
        service.ends[waiter.job_id] = EPOCH + 20 * INTERVAL
        service.kinds[waiter.job_id] = "completed"

    async def story(_loop):
        watcher = JobPoller(service)
        for waiter in waiters:
            asyncio.get_running_loop().call_later(0, asyncio.ensure_future, waiter.wait(watcher))
        await asyncio.sleep(19 * INTERVAL)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(1)

    play(story)
    resting = rests["id" if waits == 1 else "list"]
    assert len(resting) >= 5, "it goes on"
    assert min(resting) >= 0.9 * REST * INTERVAL


def test_a_thousand_that_end_one_by_one_cost_one_question_each():
    rng = random.Random(7)  # noqa: S311 - a game, not a key
    service = Service(rng, set(), 1000)
    waiters = []
    for number in range(500):
        job_id = f"job-{number}"
        service.ends[job_id] = EPOCH + 100 + number * 7
        service.kinds[job_id] = "completed"
        waiters.append(Waiter(job_id, 0.0, None))

    async def story(_loop):
        watcher = JobPoller(service)
        await asyncio.gather(*(waiter.wait(watcher) for waiter in waiters))
        await asyncio.sleep(1)

    play(story)
    assert max(waiter.ended_at - service.ends[waiter.job_id] for waiter in waiters) <= INTERVAL + 2
    # The list and a sample per interval, one question per end, and the last ten by id.
    intervals = (100 + 500 * 7) / (0.9 * INTERVAL)
    assert service.calls <= 2 * intervals + 500 + 10 * 5


@pytest.mark.parametrize("active", [1100, 2500, 9000])
@pytest.mark.parametrize(
    ("waits", "second_group_after"),
    [(300, None), (500, None), (1000, None), (600, 3.0), (600, 100.0)],
    ids=["300", "500", "1000", "two groups within an interval", "two groups"],
)
def test_a_start_one_by_one_costs_no_more_than_the_list_from_the_second_interval_on(active, waits, second_group_after):
    """Airflow starts triggers one after another. The first list is read while most of the waits are still to come."""
    rng = random.Random(7)  # noqa: S311 - a game, not a key
    service = Service(rng, set(), 1000)
    service.takes = (0.02, 0.04)
    for number in range(active):
        service.ends[f"job-{number}"] = EPOCH + 1e9
        service.kinds[f"job-{number}"] = "completed"
    comes = [0.002 * number for number in range(waits)]
    if second_group_after is not None:
        comes[waits // 2 :] = [second_group_after + moment for moment in comes[waits // 2 :]]
    waiters = [Waiter(f"job-{active - 1 - number}", moment, None) for number, moment in enumerate(comes)]
    counts = []

    async def story(_loop):
        watcher = JobPoller(service)
        tasks = [asyncio.ensure_future(waiter.wait(watcher)) for waiter in waiters]
        await asyncio.sleep(comes[-1] + INTERVAL)
        before = service.calls
        await asyncio.sleep(10 * INTERVAL)
        counts.append(service.calls - before)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(1)

    play(story)
    pages = -(-active // service.page_size)
    # Ten intervals hold at most twelve polls: each comes up to a tenth of an interval early.
    assert counts[0] <= 12 * (pages + 2)
