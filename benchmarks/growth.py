"""Simulate the shared poll of 100 to 100,000 waits in 1 to 20 triggerers: requests per second, CPU and memory.

python -m benchmarks.growth [--json] prints a table in Markdown. The plan of the poll, with all its decisions, runs on
virtual time. The service responds after 0.1 s. Its pages are decoded as a triggerer decodes them.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import math
import time
import tracemalloc
from typing import Any

from airflow_provider_polaris.api.client import PAGE_LIMIT, RawPage
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.polling.messages import AskJob, AskList
from airflow_provider_polaris.polling.poll_plan import PollPlan
from airflow_provider_polaris.polling.polled_wait import LONGEST_SECONDS, Pace, PolledWait

WAITS = (100, 1_000, 10_000, 100_000)
TRIGGERERS = (1, 2, 5, 20)
#: The waits have the longest default interval, as after twenty minutes.
INTERVAL_SECONDS = LONGEST_SECONDS
LATENCY_SECONDS = 0.1
#: In the first intervals, the poll finds out how long the list is.
WARM_UP_INTERVALS = 3
INTERVALS = 10
THREADS = 6
HEALTH = {"status": "ok"}


def row(number: int) -> dict[str, Any]:
    """Return a job as the list of jobs shows it."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "type": "batch",
        "executionStatus": "running",
        "desiredExecutionStatus": "running",
        "health": HEALTH,
        "createdBy": {"username": "api-key-pok_7udiv", "userId": "a52cacf6-3ddc-48e5-8675-e4ca32ed0cbe"},
        "createdTimestamp": "2026-11-01T10:00:00.123456Z",
        "lastUpdatedTimestamp": "2026-11-01T10:00:05.123456Z",
        "startedTimestamp": "2026-11-01T10:00:05.123456Z",
        "target": {"type": "table", "tableName": "orders", "intervals": []},
    }


def seconds_to_decode_a_page() -> float:
    """Return the CPU time to decode a whole page of jobs."""
    text = json.dumps({"values": [row(number) for number in range(PAGE_LIMIT)]})
    began = time.process_time()
    for _ in range(20):
        json.loads(text)
    return (time.process_time() - began) / 20


class Project:
    """The jobs of all waits, as the service lists them for one of the triggerers.

    :param own: the numbers of the jobs for which this triggerer waits.
    """

    def __init__(self, jobs: int, own: range) -> None:
        self.jobs = jobs
        self.rows = {(one := row(number))["id"]: one for number in own}
        self._pages: dict[int, dict[str, dict[str, Any]]] = {}
        for number in own:
            one = row(number)
            self._pages.setdefault(number // PAGE_LIMIT, {})[one["id"]] = one

    def answer(self, question: AskJob | AskList) -> Job | RawPage:
        """Return the response to a request."""
        if isinstance(question, AskJob):
            return Job.from_api(self.rows[question.job_id])
        size = min(PAGE_LIMIT, self.jobs - question.offset)
        more = question.offset + size < self.jobs
        return RawPage(self._pages.get(question.offset // PAGE_LIMIT, {}), size, more)


class Triggerer:
    """One triggerer: the plan of its poll, on virtual time."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.plan = PollPlan(THREADS)
        self.now = 0.0
        self.requests = 0
        self.pages = 0
        self._answers: list[tuple[float, int, Any]] = []
        for job_id in project.rows:
            wait = PolledWait(job_id, lambda job: job.is_over, Pace(INTERVAL_SECONDS), math.inf, now=0.0)
            self.plan.add(wait, 0.0)

    def run(self, until: float) -> None:
        """Run the poll until this moment, in seconds."""
        while True:
            step = self.plan.due(self.now, self.now)
            for question in step.questions:
                self.requests += 1
                self.pages += isinstance(question, AskList)
                heapq.heappush(self._answers, (self.now + LATENCY_SECONDS, self.requests, question))
            next_at = min(step.wake_at, self._answers[0][0] if self._answers else math.inf)
            if next_at > until:
                self.now = until
                return
            self.now = max(self.now, next_at)
            while self._answers and self._answers[0][0] <= self.now:
                question = heapq.heappop(self._answers)[2]
                self.plan.heard(question, self.project.answer(question), self.now)


def measure(waits: int, triggerers: int, page_seconds: float) -> dict[str, float]:
    """Return the cost of these waits, spread evenly over the triggerers. All triggerers cost the same."""
    project = Project(waits, range(0, waits, triggerers))
    gc.collect()
    tracemalloc.start()
    triggerer = Triggerer(project)
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    triggerer.run(WARM_UP_INTERVALS * INTERVAL_SECONDS)
    requests, pages, began = triggerer.requests, triggerer.pages, time.process_time()
    triggerer.run((WARM_UP_INTERVALS + INTERVALS) * INTERVAL_SECONDS)
    seconds = INTERVALS * INTERVAL_SECONDS
    cpu = time.process_time() - began + (triggerer.pages - pages) * page_seconds
    return {
        "waits": waits,
        "triggerers": triggerers,
        "requests_per_interval": triggerers * (triggerer.requests - requests) / INTERVALS,
        "requests_per_second": triggerers * (triggerer.requests - requests) / seconds,
        "cpu_share": cpu / seconds,
        "memory_mb": memory / 1e6,
    }


def table(rows: list[dict[str, float]]) -> str:
    """Return the figures in Markdown."""
    head = "waits | triggerers | requests per minute | requests per second | CPU of a triggerer | memory of its poll"
    lines = [f"| {head} |", f"|{' ---: |' * 6}"]
    lines += [
        f"| {one['waits']:,.0f} | {one['triggerers']:.0f} | {one['requests_per_interval']:,.0f} | "
        f"{one['requests_per_second']:.2f} | {one['cpu_share']:.2%} of a core | {one['memory_mb']:.1f} MB |"
        for one in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    page_seconds = seconds_to_decode_a_page()
    rows = [
        measure(waits, triggerers, page_seconds)
        for waits in WAITS
        for triggerers in TRIGGERERS
        if waits // triggerers >= 5
    ]
    print(json.dumps(rows) if options.json else table(rows))


if __name__ == "__main__":
    main()
