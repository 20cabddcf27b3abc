"""LoadsPlan: each load reaches each of its waits once and soon, whatever the lists show and whichever requests fail."""

from __future__ import annotations

import heapq
import itertools
import random
from datetime import datetime, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_polaris.api.client import NewestPage, RawPage
from airflow_provider_polaris.api.errors import (
    PolarisNotFound,
    PolarisResponseTooLarge,
    PolarisUnreachable,
)
from airflow_provider_polaris.api.models import ACTIVE_STATUSES, Job
from airflow_provider_polaris.gate.load_choice import LoadChoice
from airflow_provider_polaris.polling.loads_plan import FIRST_PAGE, READING_INTERVAL_SECONDS, LoadsPlan, LoadsWait
from airflow_provider_polaris.polling.messages import AskList, AskLoads
from airflow_provider_polaris.polling.polled_wait import Pace
from tests.support.virtual_time import EPOCH

TABLES = ("orders", "customers", "returns")
INTERVAL = 30.0
#: How late a notice may be without faults: an interval, and the requests of a reading.
LATE_SECONDS = INTERVAL + 4.0


def stamp(moment: float) -> str:
    return f"{datetime.fromtimestamp(EPOCH + moment, timezone.utc):%Y-%m-%dT%H:%M:%S.%f}000Z"


class Service:
    """A model of Polaris: jobs that begin and end, and requests that fail as the test says. Times are from EPOCH on."""

    def __init__(self, rng: random.Random, faults: frozenset[str]) -> None:
        self.rng = rng
        self.faults = faults
        self.jobs: dict[str, tuple[str, float, float, str]] = {}
        self.asked: list[tuple[float, object]] = []
        self.not_found: set[str] = set()
        self.read: dict[tuple[str, bool], Job] = {}

    def add(self, table: str, began: float, ended: float, end: str = "completed") -> str:
        job_id = f"{len(self.jobs):08}-0000-0000-0000-000000000000"
        self.jobs[job_id] = (table, began, ended, end)
        return job_id

    def job(self, job_id: str, now: float) -> Job:
        is_over = now >= self.jobs[job_id][2]
        if (job_id, is_over) not in self.read:
            self.read[job_id, is_over] = self.read_job(job_id, is_over)
        return self.read[job_id, is_over]

    def read_job(self, job_id: str, is_over: bool) -> Job:
        table, began, ended, end = self.jobs[job_id]
        status = end if is_over else "running"
        body = {
            "id": job_id,
            "type": "batch",
            "executionStatus": status,
            "target": {"tableName": table},
            "createdTimestamp": stamp(began),
            "lastUpdatedTimestamp": stamp(began),
        }
        if status == "completed":
            body["completedTimestamp"] = stamp(ended)
        return Job.from_api(body)

    def answer(self, question, now: float):
        self.asked.append((now, question))
        if "flakes" in self.faults and self.rng.random() < 0.2:
            return PolarisUnreachable("flake", status=503, retry_after=self.rng.choice([None, 3, 600]))
        # Each job appears in the lists some time after it was created.
        lag = 200.0 if "late lists" in self.faults else 0.0
        shown = [job_id for job_id, (_, began, *_) in self.jobs.items() if began + lag * (began % 1) <= now]
        if isinstance(question, AskLoads):
            if "large jobs" in self.faults and question.limit > 25:
                return PolarisResponseTooLarge("large")
            shown.sort(key=lambda job_id: self.jobs[job_id][1], reverse=True)
            page = shown[question.offset : question.offset + question.limit]
            jobs = [self.job(job_id, now) for job_id in page if self.jobs[job_id][0] in question.tables]
            created = [EPOCH + self.jobs[job_id][1] for job_id in page]
            more = question.offset + len(page) < len(shown)
            return NewestPage(jobs, created[0] if page else None, created[-1] if page else None, len(page), more)
        if isinstance(question, AskList):
            active = [
                job for job in (self.job(job_id, now) for job_id in shown) if job.execution_status in ACTIVE_STATUSES
            ]
            if "left out" in self.faults:
                active = [job for job in active if self.rng.random() > 0.1]
            page = active[question.offset : question.offset + question.limit]
            rows = {job.id: job.to_event() for job in page if job.id in question.wanted}
            return RawPage(rows, len(page), question.offset + len(page) < len(active))
        if "404 at first" in self.faults and question.job_id not in self.not_found:
            self.not_found.add(question.job_id)
            return PolarisNotFound("not found", status=404)
        return self.job(question.job_id, now)


class Simulation:
    """Runs a plan against the service, and records which loads each wait was notified of, and when."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.plan = LoadsPlan()
        self.now = 0.0
        self.events: list = []
        self.order = itertools.count()
        self.notified: dict[LoadsWait, list[tuple[str, float]]] = {}
        self.errors = 0

    def join(self, table: str, deadline: float = 1e6, *, read_from: float | None = None, running=()) -> LoadsWait:
        choice = LoadChoice(table, datetime.fromtimestamp(EPOCH, timezone.utc), frozenset({"batch"}))
        wait = LoadsWait(choice, Pace(INTERVAL), EPOCH + deadline, read_from=read_from, running=running, now=self.now)
        self.plan.add(wait, self.now)
        self.notified[wait] = []
        return wait

    def run(self, until: float) -> None:
        wake_at = self.now
        while self.now < until:
            at = min(self.events[0][0] if self.events else until, max(wake_at, self.now), until)
            self.now = at
            while self.events and self.events[0][0] <= self.now:
                _, _, question = heapq.heappop(self.events)
                self.deliver(self.plan.heard(question, self.service.answer(question, self.now), self.now))
            step = self.plan.due(self.now, EPOCH + self.now)
            self.deliver(step.notices)
            for question in step.questions:
                took = self.service.rng.uniform(0.01, 0.5)
                heapq.heappush(self.events, (self.now + took, next(self.order), question))
            wake_at = step.wake_at
            assert step.wake_at > self.now, "the plan asks for another call at once"

    def deliver(self, notices) -> None:
        for wait, notice in notices:
            if isinstance(notice.answer, Exception):
                self.errors += 1
            else:
                self.notified[wait] += [(job.id, self.now) for job in notice.answer]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**9),
    faults=st.frozensets(st.sampled_from(["flakes", "large jobs", "left out", "404 at first", "late lists"])),
)
def test_each_load_reaches_each_of_its_waits_once_and_in_time(seed, faults):
    rng = random.Random(seed)  # noqa: S311 - no key
    service = Service(rng, faults)
    for _ in range(250):
        began = rng.uniform(-20_000, 5000)
        lasts = rng.choice([1, 10, 300, 5_000, 20_000]) * rng.uniform(0.1, 1)
        end = "completed" if rng.random() < 0.8 else rng.choice(["failed", "canceled"])
        service.add(rng.choice([*TABLES, *["other"] * 6]), began, began + lasts, end)
    poll = Simulation(service)
    waits = [poll.join(table) for table in TABLES]
    # A second wait for a table joins later, as its worker has left it.
    poll.run(2000)
    seen = [service.job(job_id, 2000) for job_id, (_, began, *_) in service.jobs.items() if began <= 2000]
    running = [job.id for job in seen if job.table == "orders" and not job.is_over]
    late = poll.join("orders", read_from=EPOCH + 2000, running=running)
    poll.run(6000)
    for wait in [*waits, late]:
        since = 2000 if wait is late else 0
        expected = {
            job_id: ended
            for job_id, (table, _, ended, end) in service.jobs.items()
            if table == wait.table and end == "completed" and since < ended < 6000 - 600
        }
        notified = poll.notified[wait]
        assert len(notified) == len({job_id for job_id, _ in notified}), "a load reached a wait twice"
        at = dict(notified)
        missing = expected.keys() - at.keys()
        assert not missing, "a load never reached its wait"
        if not faults:
            for job_id, ended in expected.items():
                assert at[job_id] - max(ended, since) <= LATE_SECONDS
        assert bool(poll.errors) <= ("flakes" in faults)


@pytest.mark.parametrize("count", [1, 1000])
def test_one_request_for_each_interval_serves_all_waits(count):
    service = Service(random.Random(1), frozenset())  # noqa: S311 - no key
    for n in range(500):
        service.add("other", n * 20.0 - 5000, n * 20.0 - 4990)
    poll = Simulation(service)
    for n in range(count):
        poll.join(f"table {n}", read_from=EPOCH)
    poll.run(3600)
    assert 3600 / INTERVAL <= len(service.asked) <= 3600 / (0.9 * INTERVAL) + 2
    assert {(question.offset, question.limit) for _, question in service.asked} == {(0, FIRST_PAGE)}


def test_a_load_that_runs_for_hours_costs_one_more_request_for_each_interval():
    service = Service(random.Random(1), frozenset())  # noqa: S311 - no key
    jobs = [service.add(f"table {n}", -3000, 1800) for n in range(50)]
    for n in range(500):
        service.add("other", n * 3.0 - 2000, n * 3.0 - 1995)
    poll = Simulation(service)
    waits = [poll.join(f"table {n}", read_from=EPOCH, running=[jobs[n]]) for n in range(50)]
    poll.run(1790)
    assert len(service.asked) <= 2 * (1790 / (0.9 * INTERVAL) + 2) + 5
    poll.run(1900)
    assert [[job_id for job_id, _ in poll.notified[wait]] for wait in waits] == [[job] for job in jobs]


def test_an_active_job_that_cannot_be_read_fails_the_reading_and_not_the_poll():
    class BadRow(Service):
        def answer(self, question, now):
            answer = super().answer(question, now)
            if isinstance(question, AskList) and now < 100:
                answer.rows[job]["health"] = {"status": 5}
            return answer

    service = BadRow(random.Random(1), frozenset())  # noqa: S311 - no key
    job = service.add("orders", -3000, 150)
    for n in range(500):
        service.add("other", n * 3.0 - 2000, n * 3.0 - 1995)
    poll = Simulation(service)
    wait = poll.join("orders", read_from=EPOCH, running=[job])
    poll.run(200)
    assert poll.errors >= 2
    assert [job_id for job_id, _ in poll.notified[wait]] == [job]


def test_waits_that_join_one_after_another_share_readings():
    service = Service(random.Random(1), frozenset())  # noqa: S311 - no key
    poll = Simulation(service)
    for n in range(100):
        poll.join(f"table {n}", read_from=EPOCH)
        poll.run(poll.now + 0.3)
    assert len(service.asked) <= 30 / READING_INTERVAL_SECONDS + 2


def test_the_lists_are_read_once_more_at_the_deadline():
    service = Service(random.Random(1), frozenset())  # noqa: S311 - no key
    job = service.add("orders", 90, 99.5)
    poll = Simulation(service)
    wait = poll.join("orders", deadline=100.0, read_from=EPOCH)
    poll.run(102)
    assert [job_id for job_id, _ in poll.notified[wait]] == [job]


def test_retry_after_puts_off_the_next_reading():
    service = Service(random.Random(1), frozenset())  # noqa: S311 - no key
    answers = iter([PolarisUnreachable("busy", status=429, retry_after=25.0)])
    real = service.answer
    service.answer = lambda question, now: next(answers, None) or real(question, now)
    poll = Simulation(service)
    poll.join("orders", read_from=EPOCH)
    poll.plan.add(
        LoadsWait(LoadChoice("x", datetime.now(timezone.utc), frozenset()), Pace(6.0), 9e9, read_from=0, now=0), 0
    )
    poll.run(24)
    assert not service.asked, "Polaris asked for a pause of 25 s"
