"""A poll without an event loop: a PollPlan, a model of Polaris, and a clock that jumps to the next event."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable

from airflow_provider_polaris.api.client import RawPage
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
from airflow_provider_polaris.polling.messages import AskEnded, AskJob
from airflow_provider_polaris.polling.poll_plan import PollPlan
from airflow_provider_polaris.polling.polled_wait import Pace, PolledWait
from tests.support.virtual_time import EPOCH


class Spins(AssertionError):
    """The plan asks for another call at once, without an end."""


def is_decided(job: Job) -> bool:
    return decide(job, Gate()).verdict is not Verdict.WAIT


class Service:
    """A model of Polaris: jobs that end, a list that may be wrong, and requests that may fail, as the test says."""

    def __init__(self, seed: int = 7, faults: frozenset[str] = frozenset(), page_size: int = 1000) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - no key
        self.faults = faults
        self.page_size = page_size
        self.ends: dict[str, float] = {}
        self.kinds: dict[str, str] = {}
        self.takes = (0.01, 0.5)
        self._frozen: dict[str, str] = {}
        self._not_found: set[str] = set()

    def add(self, job_id: str, ends: float, kind: str = "completed") -> str:
        self.ends[job_id], self.kinds[job_id] = ends, kind
        return job_id

    def status(self, job_id: str, now: float) -> str:
        ends = self.ends.get(job_id, math.inf)
        if now >= ends:
            return self.kinds[job_id]
        return "running" if now >= ends - 200 else "pending"

    def row(self, job_id: str, status: str) -> dict:
        health = {"status": "ok"} if self.rng.random() < 0.9 else {"status": "warn", "code": "invalid_rows_found"}
        return {"id": job_id, "type": "batch", "executionStatus": status, "health": health}

    def delay(self, question, now: float) -> float:
        """Return how long the response takes, in seconds."""
        return 60.0 if self.has("hangs", 0.1) else self.rng.uniform(*self.takes)

    def answer(self, question, now: float, took: float):
        """Return the response: what PollPlan.heard takes."""
        if took == 60.0:
            return PolarisUnreachable("no response in time")
        if self.has("busy", 0.2):
            return PolarisUnreachable("busy", status=429, retry_after=self.rng.choice([3, 30, 600]))
        if "outages" in self.faults and (now // 150) % 4 == 2:
            return PolarisUnreachable("outage", status=503)
        if isinstance(question, AskJob):
            return self.job(question.job_id, now)
        return self.ended_page(question, now) if isinstance(question, AskEnded) else self.page(question, now)

    def job(self, job_id: str, now: float):
        if self.has("bad answers", 0.05):
            return PolarisUnreachable("flake", status=503)
        if job_id not in self._not_found and self.has("404 at first", 0.3):
            self._not_found.add(job_id)
            return PolarisNotFound("not found", status=404, code="NotFound")
        return Job.from_api(self.row(job_id, self.status(job_id, now)))

    def page(self, question, now: float):
        if "forbidden" in self.faults:
            return PolarisForbidden("no", status=403)
        if self.has("bad lists", 0.2):
            return PolarisUnreachable("html", status=200)
        rows = []
        for job_id in self.ends:
            status = self.status(job_id, now)
            if "stale for ever" in self.faults or ("stale for a while" in self.faults and now < 400):
                status = self._frozen.setdefault(job_id, status)
            if status in ACTIVE_STATUSES and not self.has("left out", 0.1):
                rows.extend([(job_id, status)] * (2 if self.has("twice", 0.1) else 1))
        if "any order" in self.faults:
            self.rng.shuffle(rows)
        return self._page_of(rows, question)

    def ended_page(self, question, now: float):
        if "forbidden" in self.faults:
            return PolarisForbidden("no", status=403)
        if self.has("bad lists", 0.2):
            return PolarisUnreachable("html", status=200)
        newest_first = sorted(self.ends, key=lambda job_id: self.ends[job_id], reverse=True)
        rows = [
            (job_id, self.kinds[job_id])
            for job_id in newest_first
            # The list may show a job as over that is not.
            if (now >= self.ends[job_id] and not self.has("left out", 0.1)) or self.has("over too early", 0.3)
        ]
        if "any order" in self.faults:
            self.rng.shuffle(rows)
        return self._page_of(rows, question)

    def _page_of(self, rows: list[tuple[str, str]], question) -> RawPage:
        page = rows[question.offset : question.offset + min(question.limit, self.page_size)]
        found = {job_id: self.row(job_id, status) for job_id, status in page if job_id in question.wanted}
        return RawPage(found, len(page), more=question.offset + len(page) < len(rows))

    def has(self, fault: str, probability: float) -> bool:
        return fault in self.faults and self.rng.random() < probability


class Waiter:
    """Acts as a trigger and its task, and records how and when the wait ended."""

    def __init__(self, poll: Simulation, job_id: str, interval: float, *, backs_off: bool, deadline: float) -> None:
        self.poll = poll
        self.job_id = job_id
        self.interval = interval
        self.ended_at: float | None = None
        self.ended_as: str | None = None
        self.has_left = False
        self.tolerance = OutageTolerance(36_000, interval, worked=True)
        #: How often the task could not confirm by id what a list had shown.
        self.unconfirmed = 0
        pace = Pace(interval, backoff=backs_off, most=60.0)
        self.wait = PolledWait(job_id, is_decided, pace, deadline, now=poll.now, takes_list=True)

    def notify(self, notice) -> None:
        answer = notice.answer
        if notice.is_listed:
            assert self.unconfirmed == 0, "a task goes back and forth once at most"
            answer = self.poll.service.job(self.job_id, self.poll.now)
            if not (isinstance(answer, Job) and is_decided(answer)):
                self.unconfirmed += 1
                self.poll.defer_again(self)
                return
        if isinstance(answer, PolarisApiError):
            delay = self.tolerance.failed(answer, self.poll.wall)  # raises what ends a wait
            if isinstance(answer, PolarisNotFound):
                self.wait.check_at(self.poll.now + delay)
        elif answer is not None and is_decided(answer):
            self.end(str(answer.execution_status))
            return
        else:
            self.tolerance.succeeded()
        if self.poll.wall >= self.wait.deadline:
            self.end("timeout")

    def end(self, how: str) -> None:
        self.ended_at, self.ended_as = self.poll.now, how
        self.poll.leave(self)

    @property
    def is_waiting(self) -> bool:
        return self.ended_at is None and not self.has_left


class Simulation:
    """Sends the plan's requests, and jumps from event to event. Events of one moment come in any order."""

    def __init__(self, service: Service, *, slots: int = 3) -> None:
        self.service = service
        self.plan = PollPlan(slots)
        self.now = 0.0
        self.wall_offset = EPOCH
        self.waiters: dict[PolledWait, Waiter] = {}
        #: When, what (``id``, ``list`` or ``ended list``), and which job or offset, for each request.
        self.asked: list[tuple[float, str, object]] = []
        self._events: list[tuple[float, float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    @property
    def wall(self) -> float:
        return self.now + self.wall_offset

    def at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, self.service.rng.random(), next(self._numbers), action))

    def wait(self, job_id: str, interval: float = 30.0, *, backs_off: bool = False, lasts: float = 1e6) -> Waiter:
        """Begin to wait, now."""
        waiter = Waiter(self, job_id, interval, backs_off=backs_off, deadline=self.wall + lasts)
        self.waiters[waiter.wait] = waiter
        self.plan.add(waiter.wait, self.now)
        return waiter

    def defer_again(self, waiter: Waiter) -> None:
        """Wait on with another trigger, as a task does that could not confirm what a list had shown."""
        before = waiter.wait
        del self.waiters[before]
        self.plan.remove(before)
        waiter.wait = PolledWait(waiter.job_id, is_decided, before.pace, before.deadline, now=self.now)
        self.waiters[waiter.wait] = waiter
        self.plan.add(waiter.wait, self.now)

    def leave(self, waiter: Waiter) -> None:
        waiter.has_left = True
        if self.waiters.pop(waiter.wait, None):
            self.plan.remove(waiter.wait)

    def asked_since(self, moment: float, kind: str = "") -> list[tuple[float, str, object]]:
        return [one for one in self.asked if one[0] >= moment and kind in one[1]]

    def run(self, until: float = math.inf, stop: Callable[[], bool] = lambda: False) -> None:
        """Run until that many seconds after the beginning, or until the condition is true."""
        rounds = 0
        while not stop():
            wake_at = self._step()
            next_event = self._events[0][0] if self._events else math.inf
            moment = min(wake_at, next_event)
            if moment > until or moment == math.inf:
                self.now = max(self.now, until) if until < math.inf else self.now
                return
            rounds = rounds + 1 if moment <= self.now else 0
            if rounds > 20_000:
                raise Spins(f"{self.now:.2f} s after the beginning")
            self.now = max(self.now, moment)
            if next_event <= self.now:
                heapq.heappop(self._events)[3]()

    def _step(self) -> float:
        step = self.plan.due(self.now, self.wall)
        self._deliver(step.notices)
        for question in step.questions:
            self._send(question)
        if not step.notices and step.wake_at > self.now:
            again = self.plan.due(self.now, self.wall)
            assert not again.questions, "a second call at the same time sends nothing new"
            assert step.wake_at <= again.wake_at or again.notices, "the plan asks to be called in time"
            self._deliver(again.notices)
        return step.wake_at if not step.notices else self.now

    def _send(self, question) -> None:
        by_id = isinstance(question, AskJob)
        kind = "id" if by_id else "ended list" if isinstance(question, AskEnded) else "list"
        self.asked.append((self.now, kind, question.job_id if by_id else question.offset))
        took = self.service.delay(question, self.now)

        def respond() -> None:
            answer = self.service.answer(question, self.now, took)
            self._deliver(self.plan.heard(question, answer, self.now))

        self.at(self.now + took, respond)

    def _deliver(self, notices) -> None:
        for wait, notice in notices:
            if wait in self.waiters:
                self.waiters[wait].notify(notice)
