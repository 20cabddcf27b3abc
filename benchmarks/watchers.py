"""Measure watched tables: up to 1,000 PolarisLoadsTrigger in one event loop, against a local Polaris that takes 20 ms.

python -m benchmarks.watchers [--json] prints a table in Markdown. The local Polaris is a process of its own. Each time
is compared with a measurement of the same run: an idle loop, or a plain request for the same list.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import sys
import time
import tracemalloc
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from benchmarks.measuring import (
    INTERVAL_SECONDS,
    LATENCY_SECONDS,
    Server,
    cpu_beside_plain_lists,
    cpu_of,
    lag,
    memory,
    run_idle_trigger,
    serve_commands,
)

#: The number of intervals in which requests and CPU time are measured.
INTERVALS = 5
COUNTS = (1, 100, 1000)
#: Older jobs in the project, as many as a busy project creates in some hours.
OLD_JOBS = 2_000
#: Loads that run all the time. They began long ago, and are not on the first page of the list.
RUNNING_LOADS = 20
#: Loads that complete in one interval.
LOADS = 200
#: The plain list request: the query of the list of jobs.
NEWEST_JOBS = "sortColumn=created_date_time&sortOrder=DESC&paginationLimit=100"
SUMMARY = """With {tables:,.0f} watched tables and an interval of {interval:g} s:

- CPU per interval: {times:.1f} plain list requests.
- {loads:.0f} loads complete at once: {list_requests:.1f} requests for lists per interval, and
  {requests_per_load:.1f} requests for each load, the last event after {last_event_seconds:.1f} s, loop lag p99
  {loads_lag_ms:.1f} ms.
- While {running:.0f} loads run that began long ago: {running_requests:.1f} requests per interval.
- Every request hangs: loop lag p99 {hanging_lag_ms:.1f} ms.
- All triggers start one after another: the event loop is blocked for {start_up_ms:.0f} ms at most.
- Memory: {watcher_kb:.1f} KB per watched table, more than a trigger that does nothing ({idle_trigger_kb:.1f} KB)."""


def serve() -> None:
    """Run the local Polaris, with commands for the benchmark."""
    from airflow_provider_polaris.local import LocalPolaris

    def stamp(seconds: float) -> str:
        return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S.%f}Z"

    with LocalPolaris() as polaris:

        def add(tables: Iterable[str], began: float, **changes: Any) -> list[str]:
            """Add a load of each table that began so many seconds ago, and has just completed."""
            now = time.time()
            body = {"executionStatus": "completed", "completedTimestamp": stamp(now), **changes}
            return [
                polaris.add_job(
                    type="batch",
                    target={"type": "table", "tableName": table},
                    createdTimestamp=stamp(now - began),
                    lastUpdatedTimestamp=stamp(now - began),
                    metrics={"numRowsProcessed": 7, "numRowsSkippedByError": 0},
                    **body,
                )
                for table in tables
            ]

        def start(*_: Any) -> None:
            for job_id in list(polaris._store.jobs):
                polaris.remove_job(job_id)
            for n in range(OLD_JOBS):
                add(["of others"], 400 + 10.0 * n, completedTimestamp=stamp(time.time() - 390 - 10.0 * n))
            polaris.clear_faults()
            polaris.delay_next(10**9, seconds=LATENCY_SECONDS)

        def count() -> tuple[int, int]:
            """Return the numbers of requests for lists, and of other requests."""
            lists = sum(seen.path.endswith("/jobs") for seen in polaris.requests)
            others = len(polaris.requests) - lists
            polaris.requests.clear()
            return lists, others

        def run(*tables: str) -> None:
            add(tables, 90_000.0, executionStatus="running", completedTimestamp=None)

        def complete(*tables: str) -> float:
            add(tables, 1.0)
            return time.time()

        def hang() -> None:
            polaris.clear_faults()
            polaris.hang_next(10**9)

        commands = {"start": start, "count": count, "run": run, "complete": complete, "hang": hang}
        serve_commands(polaris, polaris.connection_json, commands)


class Store(dict[str, str]):
    """The store of an asset, in this process. It holds only JSON, like the original."""

    def set(self, key: str, value: Any) -> None:
        """Store a value."""
        self[key] = json.dumps(value)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        return json.loads(self[key]) if key in self else default


def tables(count: int) -> list[str]:
    """Return the names of the watched tables."""
    return [f"table {n}" for n in range(count)]


def triggers(count: int) -> list[Any]:
    """Return a trigger for each table, with the store of its asset."""
    from airflow_provider_polaris.triggers.loads import PolarisLoadsTrigger

    made = [
        PolarisLoadsTrigger(
            name, polaris_conn_id="polaris_bench", poll_interval=INTERVAL_SECONDS, max_rows_skipped_by_error=0
        )
        for name in tables(count)
    ]
    for trigger in made:
        trigger.asset_state_store = Store()
    return made


async def watch(trigger: Any, fired: list[float]) -> None:
    """Run a trigger without an end. Note the time of each event, in seconds since the epoch."""
    async for _ in trigger.run():
        at = time.time()
        fired.append(at)


async def measure(server: Server, count: int) -> dict[str, float]:
    """Run triggers. Return their cost while no load completes, and the time from a load to its event."""
    server("start")
    idle_lag, _ = await lag(2.0)
    idle_cpu = await cpu_of(2.0) / 2
    made, fired = triggers(count), [[] for _ in range(count)]  # type: list[Any], list[list[float]]
    gc.collect()
    gc.freeze()  # a collection of all imported objects takes a tenth of a second, and is not a cost of the triggers
    starting = asyncio.ensure_future(lag(3.0))
    running = []
    for trigger, times in zip(made, fired, strict=True):
        running.append(asyncio.ensure_future(watch(trigger, times)))
        await asyncio.sleep(0)  # as in a triggerer
    _, start_up = await starting
    await asyncio.sleep(2 * INTERVAL_SECONDS)
    cpu, plain, lists, others = await cpu_beside_plain_lists(server, NEWEST_JOBS, INTERVALS)
    busy_lag, _ = await lag(2 * INTERVAL_SECONDS)
    at = server("complete", tables(count)[-1])
    await asyncio.sleep(INTERVAL_SECONDS + 2)
    figures = {
        "tables": count,
        "requests_per_interval": (lists + others) / INTERVALS,
        "cpu_ms": 1e3 * (cpu - idle_cpu * INTERVAL_SECONDS),
        "plain_list_ms": 1e3 * plain,
        "lag_ms": 1e3 * busy_lag,
        "idle_lag_ms": 1e3 * idle_lag,
        "start_up_ms": 1e3 * start_up,
        "seconds_to_event": max(fired[-1], default=math.inf) - at,
    }
    if count == max(COUNTS):
        figures |= await busy_times(server, fired)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return figures


async def busy_times(server: Server, fired: list[list[float]]) -> dict[str, float]:
    """Measure while many loads complete at once."""
    await asyncio.sleep(INTERVAL_SECONDS)
    server("count")
    at = server("complete", *tables(LOADS))
    loads_lag, _ = await lag(2 * INTERVAL_SECONDS)
    lists, others = server("count")
    last_event = max(max(times, default=0.0) for times in fired[:LOADS])
    return {
        "loads": LOADS,
        "list_requests": lists / 2,
        "requests_per_load": others / LOADS,
        "last_event_seconds": last_event - at,
        "missing_events": sum(not times for times in fired[:LOADS]),
        "loads_lag_ms": 1e3 * loads_lag,
    }


async def measure_running(server: Server) -> dict[str, float]:
    """Measure while some loads run that began long ago, and while every request hangs."""
    count = max(COUNTS)
    server("start")
    server("run", *tables(RUNNING_LOADS))
    running = [asyncio.ensure_future(watch(trigger, [])) for trigger in triggers(count)]
    await asyncio.sleep(3 * INTERVAL_SECONDS)
    server("count")
    await asyncio.sleep(INTERVALS * INTERVAL_SECONDS)
    requested = sum(server("count")) / INTERVALS
    server("hang")
    await asyncio.sleep(INTERVAL_SECONDS)
    hanging_lag, _ = await lag(INTERVAL_SECONDS)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return {"running": RUNNING_LOADS, "running_requests": requested, "hanging_lag_ms": 1e3 * hanging_lag}


def memory_per_watcher(server: Server) -> dict[str, float]:
    """Compare a watcher with a trigger that does nothing."""
    tracemalloc.start()
    count = max(COUNTS)
    server("start")
    # The first triggers load what all triggers share.
    asyncio.run(memory([watch(one, []) for one in triggers(20)], INTERVAL_SECONDS))

    async def both() -> tuple[float, float]:
        nothing = await memory([run_idle_trigger() for _ in range(count)], 1.0)
        return nothing, await memory([watch(one, []) for one in triggers(count)], 3 * INTERVAL_SECONDS)

    nothing, ours = asyncio.run(both())
    tracemalloc.stop()
    return {"watcher_kb": (ours - nothing) / 1000, "idle_trigger_kb": nothing / 1000}


def table(rows: list[dict[str, float]], rest: dict[str, float]) -> str:
    """Return the figures in Markdown."""
    head = (
        "watched tables",
        "requests per interval",
        "CPU per interval",
        "one plain list request",
        "loop lag p99",
        "of an idle loop",
        "from a load to its event",
    )
    lines = [f"| {' | '.join(head)} |", f"|{' ---: |' * len(head)}"]
    lines += [
        f"| {row['tables']:,.0f} | {row['requests_per_interval']:.1f} | {row['cpu_ms']:,.1f} ms | "
        f"{row['plain_list_ms']:.1f} ms | {row['lag_ms']:.1f} ms | {row['idle_lag_ms']:.1f} ms | "
        f"{row['seconds_to_event']:.1f} s |"
        for row in rows
    ]
    figures = {**rows[-1], **rest}
    figures["times"] = figures["cpu_ms"] / figures["plain_list_ms"]
    return "\n".join([*lines, "", SUMMARY.format(**figures, interval=INTERVAL_SECONDS)])


def exceeded_limits(rows: list[dict[str, float]], rest: dict[str, float]) -> list[str]:
    """Return the measurements that exceed their limits."""
    last = rows[-1]
    # A poll comes up to a tenth of an interval early, so an interval has a little more than one poll.
    polls = 1 / 0.9 + 1 / INTERVALS

    def lag_limit(row: dict[str, float]) -> float:
        return max(3 * row["idle_lag_ms"], 20)

    limits = [
        *((f"requests per interval for {row['tables']} tables", row["requests_per_interval"], polls) for row in rows),
        ("requests per interval while loads run", rest["running_requests"], 2 * polls),
        ("requests for lists while loads complete", last["list_requests"], 2 * (1 / 0.9 + 1 / 2)),
        ("requests for each load", last["requests_per_load"], 2),
        ("from many loads to the last event", last["last_event_seconds"], 2 * INTERVAL_SECONDS),
        ("events that are missing", last["missing_events"], 0),
        ("CPU per interval, in plain list requests", last["cpu_ms"] / last["plain_list_ms"], 40),
        *((f"loop lag for {row['tables']} tables", row["lag_ms"], lag_limit(row)) for row in rows),
        ("loop lag while loads complete", last["loads_lag_ms"], lag_limit(last)),
        ("loop lag while every request hangs", rest["hanging_lag_ms"], lag_limit(last)),
        ("event loop blocked at the start", last["start_up_ms"], 100),
        *(
            (f"from a load to its event for {row['tables']} tables", row["seconds_to_event"], INTERVAL_SECONDS + 1)
            for row in rows
        ),
        ("KB per watched table", rest["watcher_kb"], 15),
    ]
    return [f"{what}: {value:.1f}, and {limit:.1f} is the limit" for what, value, limit in limits if value > limit]


def main() -> None:
    """Measure, and print the figures. Exit with an error if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    server = Server("benchmarks.watchers")
    try:
        rows = [asyncio.run(measure(server, count)) for count in COUNTS]
        rest = {**asyncio.run(measure_running(server)), **memory_per_watcher(server)}
    finally:
        server.stop()
    print(json.dumps({"rows": rows, **rest}) if options.json else table(rows, rest))
    if faults := exceeded_limits(rows, rest):
        sys.exit("Limits exceeded:\n" + "\n".join(faults))


if __name__ == "__main__":
    main()
