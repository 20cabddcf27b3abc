"""The steps of the proof, and the limits of their figures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.polling.shared_client import (
    LOOKUP_INTERVAL_SECONDS,
    SPARE_CALL_SECONDS,
    SPARE_CALLS_AT_ONCE,
)
from scale.processes import STEP_SECONDS, TRIGGERERS, ScaleAirflow
from scale.readings import (
    PAGE,
    SHORTEST_PAUSE,
    LogLines,
    Memory,
    Statements,
    Traffic,
    fired,
    growth,
    logged_statements,
    of_provider,
)
from scale.report import Report
from scale.waits import (
    CONN_ID,
    DAG_FILE,
    DAG_ID,
    Owners,
    Waits,
    states,
    triggers,
    wait_for_events,
    wait_for_no_triggers,
)
from tests.support.local_calls import connection_without_page
from tests.support.real_airflow import wait_for

#: How long PostgreSQL is down.
DOWN_SECONDS = 5.0
MEMORY_SAMPLE_SECONDS = 5.0
#: A poll has sent all its requests after this time, except on a very busy machine. STRAY_RATIO allows for that.
POLL_SECONDS = 1.0
STRAY_RATIO = 1.05
#: The most jobs that two triggerers request by id when all jobs end at once: each two polls, and a few jobs that the
#: list of ended jobs did not show in time.
MOST_BY_ID = 4 * len(TRIGGERERS)
#: How long a second event of a trigger may be late in the logs.
LATE_SECONDS = 3.0
#: The most growth of the process of the triggers in the idle time, in MB. Its first minutes take up to five.
FLAT_MB = 10.0
#: After a fault, at most this fraction of the waits is requested in one interval, beside the lists.
STORM_RATIO = 0.2


@dataclass(frozen=True)
class Size:
    """How much the proof does.

    :param active: the active jobs of the project.
    :param real: how many tasks defer for real.
    :param waits: how many tasks wait, with the copies.
    :param interval: their ``poke_interval``, in seconds.
    :param idle_seconds: how long nothing changes while requests and memory are measured.
    :param silence: how long a triggerer may be silent before its waits move to the other, in seconds.
    :param has_all_faults: whether a SIGTERM and a restart of the database follow the kill.
    """

    active: int
    real: int
    waits: int
    interval: float
    idle_seconds: float
    silence: int
    has_all_faults: bool

    @property
    def pages(self) -> int:
        """The pages of the list of active jobs."""
        return -(-self.active // PAGE)

    @property
    def requests_per_interval(self) -> int:
        """The most requests that two triggerers send in an interval: each all pages, and one job by id."""
        return len(TRIGGERERS) * (self.pages + 1)


FULL = Size(active=1200, real=60, waits=300, interval=20.0, idle_seconds=120.0, silence=20, has_all_faults=True)
QUICK = Size(active=200, real=4, waits=80, interval=5.0, idle_seconds=15.0, silence=20, has_all_faults=False)


class Proof:
    """A run: its figures, and what it says while it runs.

    :param progress: takes a line about each step.
    """

    def __init__(self, size: Size, progress: Callable[[str], None]) -> None:
        self.size = size
        self.progress = progress
        self.report = Report()
        #: When each request came, and when something happened, in seconds since the epoch.
        self.request_times: list[float] = []
        self.marks: list[tuple[float, str]] = []


def run(proof: Proof, home: Path) -> None:
    """Run all steps in an empty folder. Nothing runs on after the end.

    :raises AssertionError: if a step does not end in time.
    """
    size = proof.size
    dags = home / "dags"
    dags.mkdir()
    (dags / "many_waits.py").write_text(DAG_FILE)
    with LocalPolaris() as polaris:
        waits = Waits(
            polaris,
            real=size.real,
            copied=size.waits - size.real,
            others=size.active - size.waits,
            interval=size.interval,
        )
        (dags / "plan.json").write_text(waits.plan())
        airflow = ScaleAirflow(home, dags, silence=size.silence)
        try:
            proof.progress("starting PostgreSQL, API server, DAG processor, scheduler and two triggerers")
            airflow.start_all(**{CONN_ID: connection_without_page(polaris)})
            Steps(proof, airflow, polaris, waits).run()
        finally:
            airflow.stop_all()


class Steps:
    """The steps on a running Airflow."""

    def __init__(self, proof: Proof, airflow: ScaleAirflow, polaris: LocalPolaris, waits: Waits) -> None:
        self._size = proof.size
        self._report = proof.report
        self._progress = proof.progress
        self._proof = proof
        self._airflow = airflow
        self._polaris = polaris
        self._waits = waits
        self._lines = LogLines(airflow.home)

    def run(self) -> None:
        """Run the steps one after another."""
        self._defer()
        self._idle()
        first, second = TRIGGERERS
        self._kill(first)
        if self._size.has_all_faults:
            self._terminate(second)
            self._restart_database()
        self._end()
        self._resume()
        self._forget_requests()

    def _forget_requests(self) -> None:
        """Begin to count anew. The picture of the run keeps the times."""
        self._proof.request_times += [one.at for one in list(self._polaris.requests)]
        self._polaris.requests.clear()

    def _mark(self, what: str) -> None:
        self._proof.marks.append((time.time(), what))

    def _defer(self) -> None:
        self._progress(f"{self._size.real} tasks defer for real")
        began = time.monotonic()
        self._waits.defer(self._airflow)
        self._report.add("active jobs", self._size.active)
        self._report.add("waits", self._waits.count)
        self._report.add("waits that deferred for real", self._size.real)
        self._report.add("until these had deferred", time.monotonic() - began, unit="s")
        self._progress(f"{len(self._waits.copied)} rows are copied")
        self._mark("all waits begin")
        began = time.monotonic()
        with logged_statements(self._airflow) as counted:
            self._waits.copy(self._airflow)
            self._wait_for_owners()
            # The first poll after this time looks the connection up once more, for the waits that began last.
            time.sleep(LOOKUP_INTERVAL_SECONDS + self._size.interval)
            self._wait_for_quiet()
        self._add_look_ups("start of the copies", counted, time.monotonic() - began, least=1)

    def _idle(self) -> None:
        """Measure while no job changes."""
        size = self._size
        self._progress(f"nothing changes for {size.idle_seconds:.0f} s")
        owned = self._waits.owners(self._airflow).by_triggerer
        fewest = min(owned.values()) if len(owned) == len(TRIGGERERS) else 0
        self._report.add("waits of the triggerer with fewer waits", fewest, least=1)
        self._lines.new()
        memory = Memory()
        with logged_statements(self._airflow) as counted:
            self._wait_between_polls()
            self._forget_requests()
            began = time.monotonic()
            while (left := began + size.idle_seconds - time.monotonic()) > 0:
                memory.sample(self._airflow)
                time.sleep(min(left, MEMORY_SAMPLE_SECONDS))
            self._wait_between_polls()
            traffic = Traffic(list(self._polaris.requests))
        seconds = time.monotonic() - began
        (statements,) = counted
        lines = of_provider(self._lines.new())
        # The lines with the progress of all waits share the spare calls of a triggerer.
        reports = len(TRIGGERERS) * (SPARE_CALLS_AT_ONCE + seconds / SPARE_CALL_SECONDS + 1)
        # Each triggerer polls once per interval.
        intervals = len(traffic.polls) / len(TRIGGERERS)
        minutes = seconds / 60
        self._report.add(
            "requests per interval of both triggerers",
            traffic.polling / max(intervals, 0.5),
            limit=size.requests_per_interval * STRAY_RATIO,
            least=1,
            digits=1,
        )
        self._report.add(
            "intervals in the idle time",
            intervals,
            least=0.5 * seconds / size.interval,
            limit=seconds / size.interval / SHORTEST_PAUSE + 1,
            digits=1,
        )
        self._report.add("requests for lines with the progress", traffic.reports, limit=2 * reports)
        self._report.add("lines of the provider in the logs", len(lines), limit=reports)
        # Triggers that start one after another share a look-up. None starts here.
        self._report.add("connection look-ups in the idle time", statements.connections, limit=0)
        self._report.add("transactions per minute of the triggerers", statements.transactions / minutes)
        self._report.add("transactions in the idle time that are the provider's", statements.of_triggers, limit=0)
        largest = max(max(samples) for samples in memory.whole.values())
        self._report.add("memory of a triggerer with all its processes", largest, unit="MB")
        # Airflow's own processes share memory with each other, until one of them changes it.
        self._report.add("growth of the memory of a triggerer", growth(memory.whole), unit="MB", digits=1)
        self._report.add(
            "growth of the memory of the process of its triggers",
            growth(memory.triggers),
            limit=FLAT_MB,
            unit="MB",
            digits=1,
        )
        self._report.add("idle time", minutes, unit="min", digits=1)

    def _kill(self, name: str) -> None:
        self._progress(f"kill -9 of {name}")
        self._mark("kill -9")
        self._forget_requests()
        with logged_statements(self._airflow) as counted:
            at, took = self._airflow.kill(name)
            self._airflow.start_named(name)
            self._continue("kill -9", at)
        self._add_look_ups("kill -9", counted, time.time() - at)
        self._report.add("kill -9: until the process of its triggers ends, too", took, limit=30, unit="s", digits=1)

    def _terminate(self, name: str) -> None:
        self._progress(f"SIGTERM of {name}")
        self._mark("SIGTERM")
        self._forget_requests()
        with logged_statements(self._airflow) as counted:
            at, took = self._airflow.terminate(name)
            self._airflow.start_named(name)
            self._continue("SIGTERM", at)
        self._add_look_ups("SIGTERM", counted, time.time() - at)
        self._report.add("SIGTERM: until the triggerer ends", took, limit=60, unit="s", digits=1)

    def _restart_database(self) -> None:
        self._progress("restart of PostgreSQL")
        self._mark("PostgreSQL restarts")
        self._forget_requests()
        at = time.time()
        with logged_statements(self._airflow) as counted:
            self._airflow.database.restart(DOWN_SECONDS)
            self._continue("PostgreSQL restarted", at)
        self._add_look_ups("PostgreSQL restarted", counted, time.time() - at)

    def _add_look_ups(self, step: str, counted: list[Statements], seconds: float, *, least: int | None = None) -> None:
        """Add the look-ups of a step. New triggers of a process look a connection up once in ten seconds."""
        (statements,) = counted
        limit = len(TRIGGERERS) * (1 + seconds / LOOKUP_INTERVAL_SECONDS)
        self._report.add(f"{step}: connection look-ups", statements.connections, limit=limit, least=least)

    def _continue(self, fault: str, at: float) -> None:
        """Wait until each wait has an owner again, and both triggerers are back. Compare what they did with limits."""
        size = self._size
        ended = self._wait_for_owners(since=at)
        took = time.time() - at
        ended += self._wait_for_triggerers()
        time.sleep(2 * size.interval)  # each wait that has a new owner is polled in that time
        self._wait_for_quiet()
        seen = Traffic(list(self._polaris.requests))
        found = states(self._airflow)
        self._report.add(f"{fault}: until every wait is owned again", took, limit=STEP_SECONDS, unit="s", digits=1)
        self._report.exactly(f"{fault}: waits that are deferred and owned", found.get("deferred", 0), size.waits)
        self._report.exactly(f"{fault}: triggers", triggers(self._airflow), size.waits)
        self._report.exactly(f"{fault}: requests that change a job", len(seen.changing), 0)
        self._report.add(
            f"{fault}: most requests in an interval",
            seen.most_within(size.interval),
            limit=2 * size.requests_per_interval + STORM_RATIO * size.waits,
        )
        if fault.startswith("PostgreSQL"):
            self._progress(f"{', '.join(ended) or 'no process'} ended, and started again")
            self._report.add(f"{fault}: processes that ended, and were started again", len(ended))

    def _end(self) -> None:
        size = self._size
        self._wait_for_quiet()
        self._progress("all jobs end")
        self._mark("all jobs end")
        lines = LogLines(self._airflow.home)
        lines.new()
        self._forget_requests()
        at = time.time()
        self._waits.end_all()
        took = wait_for_events(self._airflow, size.waits) - at
        wait_for_no_triggers(self._airflow)
        seen = Traffic(list(self._polaris.requests))
        events = self._waits.events(self._airflow)
        jobs = self._waits.jobs
        right = [key for key, event in events.items() if (event["outcome"], event["job"]["id"]) == ("job", jobs[key])]
        logged = self._fired(lines)
        self._report.exactly("end of all: tasks with the event of their job", len(right), size.waits)
        self._report.exactly("end of all: most events of one trigger", max(logged.values(), default=0), 1)
        self._report.exactly("end of all: triggers that fired", len(logged), size.waits)
        # The list of ended jobs has shown the others. A poll also requests one job by id, and may be under way when the
        # jobs end.
        self._report.add("end of all: jobs that triggerers requested by id", seen.by_id.total(), limit=MOST_BY_ID)
        self._report.add("end of all: requests for the list of ended jobs", len(seen.ended), limit=2 * len(TRIGGERERS))
        known = max((one.at for one in seen.ended), default=0.0)
        self._report.add("end of all: until the last job is known to be over", known - at, unit="s", digits=1)
        self._report.add(
            "end of all: until the last event is stored", took, limit=2 * size.interval, unit="s", digits=1
        )
        self._report.exactly("end of all: requests that change a job", len(seen.changing), 0)

    def _fired(self, lines: LogLines) -> Counter[tuple[str, int]]:
        """Count the events in the logs, which Airflow writes late."""
        logged: Counter[tuple[str, int]] = Counter()

        def are_written() -> bool:
            logged.update(fired(lines.new(), DAG_ID))
            return len(logged) >= self._size.waits

        wait_for(are_written, "the lines about all events", lambda: f"there are {len(logged)}", seconds=STEP_SECONDS)
        time.sleep(LATE_SECONDS)
        logged.update(fired(lines.new(), DAG_ID))
        return logged

    def _resume(self) -> None:
        self._progress(f"{self._size.real} real tasks resume")
        ended = self._waits.resume(self._airflow)
        self._report.exactly("real tasks that succeeded", ended.get("success", 0), self._size.real)
        by_id = Traffic(list(self._polaris.requests)).by_id
        # A triggerer may have requested a few of them, beside its list.
        confirmed = sum(by_id[job_id] > 0 for job_id in self._waits.real)
        self._report.exactly("their jobs that were requested by id after the end", confirmed, self._size.real)

    def _wait_for_owners(self, *, since: float = 0.0) -> list[str]:
        """Wait until each wait has a live owner. Return the processes that had ended, and were started again."""
        ended: list[str] = []

        def owners() -> Owners:
            return self._waits.owners(self._airflow, since)

        def all_owned() -> bool:
            ended.extend(self._airflow.start_ended())
            return not owners().without

        wait_for(all_owned, "a triggerer to own each wait", lambda: f"now {owners()}", seconds=STEP_SECONDS)
        return ended

    def _wait_for_triggerers(self) -> list[str]:
        """Wait until both triggerers are back. Return the processes that had ended, and were started again."""
        ended: list[str] = []

        def are_back() -> bool:
            ended.extend(self._airflow.start_ended())
            return len(self._airflow.live_triggerers(time.time() - self._airflow.silence / 2)) == len(TRIGGERERS)

        wait_for(are_back, "both triggerers to be back", seconds=STEP_SECONDS)
        return ended

    def _wait_for_quiet(self) -> None:
        """Wait until an interval has no more requests than the polls of two triggerers."""
        size = self._size

        def is_quiet() -> bool:
            recent = [one for one in list(self._polaris.requests) if one.at > time.time() - size.interval]
            traffic = Traffic(recent)
            # Two polls of a triggerer may be in one interval: the first at its beginning, the second at its end.
            return 0 < traffic.polling <= 2 * size.requests_per_interval and bool(traffic.pages)

        wait_for(is_quiet, "the polls to be few", seconds=STEP_SECONDS)

    def _wait_between_polls(self) -> None:
        """Wait until no poll is under way."""

        def is_between() -> bool:
            recent = [one for one in list(self._polaris.requests) if one.at > time.time() - POLL_SECONDS]
            return not Traffic(recent).polling

        wait_for(is_between, "a pause between two polls", seconds=STEP_SECONDS)
