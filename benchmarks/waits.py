"""Measure many waits: 1, 10, 100 and 1,000 triggers in one event loop, against a local Polaris that takes 20 ms.

python -m benchmarks.waits [--svg FILE] [--json] prints a table in Markdown. The local Polaris is a process of its own.
Each time is compared with a measurement of the same run: an idle loop, or a plain request for the same list.
Linux only: the benchmark reads /proc. The command openssl makes its certificate.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import pathlib
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
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

#: The number of intervals in which CPU time is measured.
INTERVALS = 7
COUNTS = (1, 10, 100, 1000)
#: Starts as in a triggerer, one trigger after another: the active jobs of the project, the number of waits, and the
#: seconds between the first and the second half of the starts.
STARTS = ((1_100, 300, 0.0), (2_500, 500, 8.0), (9_000, 1_000, 0.0))
START_PAUSE_SECONDS = 0.002
START_INTERVALS = 5
#: The intervals after which the memory of a process is read.
MEMORY_INTERVALS = 5
PAGE = 1000
#: The plain list request: the query of the list of jobs.
ACTIVE_JOBS = "executionStatus=running&paginationLimit=1000&sortColumn=created_date_time&sortOrder=ASC"
SUMMARY = """With {waits:,.0f} waits and an interval of {interval:g} s:

- CPU per 1,000 job-polls: {times:.1f} plain list requests.
- If all waits begin at once, the event loop is blocked for {start_up_ms:.0f} ms at most.
- 200 jobs end at once: {ending_requests:.0f} requests in the seven seconds after that, the last event
  {ending_seconds_to_event:.1f} s later, loop lag p99 {ending_lag_ms:.1f} ms.
- Every request hangs: loop lag p99 {hanging_lag_ms:.1f} ms, DNS lookup of another trigger {hanging_dns_ms:.1f} ms.
- Progress in the logs: {report_requests:.1f} requests per interval, if every wait is due for a line all the time.
- Objects: {wait_kb:.1f} KB per wait, more than a trigger that does nothing ({idle_trigger_kb:.1f} KB).
- Memory of the process: {process_kb:.1f} KB per wait, with its trigger, over TLS.
- A DAG file needs {import_ms:.1f} ms more than `airflow.sdk` to wait for jobs, create and cancel them."""


def serve(certificate: str | None, key: str | None) -> None:
    """Run the local Polaris, with commands for the benchmark.

    :param certificate: the path of its certificate, and ``key`` that of its key. ``None``: it listens without TLS.
    """
    from airflow_provider_polaris.local import LocalPolaris

    with LocalPolaris(certfile=certificate, keyfile=key) as polaris:

        def start(jobs: int, others: int = 0) -> list[str]:
            for job_id in list(polaris._store.jobs):
                polaris.set_status(job_id, "canceled")
            polaris.clear_faults()
            polaris.delay_next(10**9, seconds=LATENCY_SECONDS)
            active = [polaris.add_job(executionStatus="running") for _ in range(others + jobs)]
            return active[others:]

        def end(*job_ids: str) -> float:
            for job_id in job_ids:
                polaris.set_status(job_id, "completed")
            return time.time()

        def count() -> tuple[int, int]:
            """Return the numbers of requests that poll, and of requests for the lines with a job's progress."""
            reports = sum(seen.path.endswith(("/progress", "/metrics")) for seen in polaris.requests)
            polls = len(polaris.requests) - reports
            polaris.requests.clear()
            return polls, reports

        def hang() -> None:
            polaris.clear_faults()
            polaris.hang_next(10**9)

        commands = {"start": start, "end": end, "count": count, "hang": hang}
        connection = json.loads(polaris.connection_json)
        connection["extra"]["verify"] = certificate
        serve_commands(polaris, json.dumps(connection), commands)


def triggers(job_ids: list[str]) -> list[Any]:
    """Return a trigger for each job."""
    from airflow_provider_polaris.triggers.polaris import PolarisJobTrigger

    return [
        PolarisJobTrigger(
            job_id=job_id,
            polaris_conn_id="polaris_bench",
            project_id=None,
            wait_for="completed",
            fail_on_unhealthy=False,
            takes_list=True,
            poll_interval=INTERVAL_SECONDS,
            deadline=time.time() + 86_400,
            max_unreachable=3600.0,
            last_job={"id": job_id, "type": "batch", "executionStatus": "running", "health": {"status": "ok"}},
        )
        for job_id in job_ids
    ]


@contextmanager
def reports_that_are_always_due() -> Iterator[None]:
    """Let every wait ask for a line with its progress once per second. Then the budget of all waits limits them."""
    from airflow_provider_polaris.waiting import progress_report

    usual = progress_report.EARLY_SECONDS
    progress_report.EARLY_SECONDS = tuple(float(second) for second in range(1, 900))
    try:
        yield
    finally:
        progress_report.EARLY_SECONDS = usual


async def fired(trigger: Any) -> float:
    """Run a trigger. Return the time of its event, in seconds since the epoch."""
    async for _ in trigger.run():
        return time.time()
    raise AssertionError("no event")


def new_lines() -> int:
    """Return the number of TCP connections that the waits have opened."""
    from airflow_provider_polaris.polling import shared_client as client

    (clients,) = client._clients.values()
    (shared,) = clients.values()
    pools = shared._client._transport._session.get_adapter("http://").poolmanager.pools
    return sum(pools[key].num_connections for key in pools.keys())  # noqa: SIM118 - no mapping


async def measure(server: Server, count: int) -> dict[str, float]:
    """Run waits. Return their cost while no job ends, and the time from a job's end to its event."""
    job_ids = server("start", count)
    idle_lag, _ = await lag(2.0)
    idle_cpu = await cpu_of(2.0) / 2
    made = zip(job_ids, triggers(job_ids), strict=True)
    gc.collect()
    gc.freeze()  # a collection of all imported objects takes a tenth of a second, and is not a cost of the waits
    waits = {job_id: asyncio.ensure_future(fired(one)) for job_id, one in made}
    _, start_up = await lag(2.0)
    await asyncio.sleep(2 * INTERVAL_SECONDS)
    lines = new_lines()
    cpu, plain, requested, reports = await cpu_beside_plain_lists(server, ACTIVE_JOBS, INTERVALS)
    busy_lag, _ = await lag(2 * INTERVAL_SECONDS)
    opened = new_lines() - lines
    ended = {}
    for job_id in random.sample(job_ids, min(count, 10)):
        await asyncio.sleep(random.uniform(0, INTERVAL_SECONDS / 2))  # noqa: S311 - no key
        ended[job_id] = server("end", job_id)
    delays = [await waits[job_id] - at for job_id, at in ended.items()]
    figures = {
        "waits": count,
        "requests_per_interval": requested / INTERVALS,
        "report_requests": reports / INTERVALS,
        "cpu_ms_per_1000_polls": 1e6 * (cpu - idle_cpu * INTERVAL_SECONDS) / count,
        "plain_list_ms": 1e3 * plain,
        "lag_ms": 1e3 * busy_lag,
        "idle_lag_ms": 1e3 * idle_lag,
        "start_up_ms": 1e3 * start_up,
        "new_lines": opened,
        "seconds_to_event": max(delays),
    }
    if count == max(COUNTS):
        figures |= await bad_times(server, [job_id for job_id in job_ids if job_id not in ended], waits)
    for wait in waits.values():
        wait.cancel()
    await asyncio.gather(*waits.values(), return_exceptions=True)
    return figures


async def measure_start(server: Server, active: int, count: int, second_half_after: float) -> dict[str, float]:
    """Start waits one after another. Return their requests per interval, from the second interval on."""
    job_ids = server("start", count, active - count)
    waits = []
    for number, trigger in enumerate(triggers(job_ids)):
        if number == count // 2:
            await asyncio.sleep(second_half_after)
        waits.append(asyncio.ensure_future(fired(trigger)))
        await asyncio.sleep(START_PAUSE_SECONDS)
    await asyncio.sleep(INTERVAL_SECONDS)
    server("count")
    await asyncio.sleep(START_INTERVALS * INTERVAL_SECONDS)
    requested = server("count")[0] / START_INTERVALS
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    return {"active": active, "waits": count, "pages": -(-active // PAGE), "requests_per_interval": requested}


async def bad_times(server: Server, job_ids: list[str], waits: dict[str, Any]) -> dict[str, float]:
    """Measure while 200 jobs end in one interval, and while every request hangs."""
    ending = job_ids[:200]
    server("count")
    at = server("end", *ending)
    ending_lag, _ = await lag(INTERVAL_SECONDS + 2)
    delays = [await waits[job_id] - at for job_id in ending]
    requested, _ = server("count")
    server("hang")
    await asyncio.sleep(INTERVAL_SECONDS)
    hanging_lag, _ = await lag(INTERVAL_SECONDS)
    before = time.perf_counter()
    await asyncio.get_running_loop().getaddrinfo("localhost", 80, family=socket.AF_INET)
    return {
        "ending_lag_ms": 1e3 * ending_lag,
        "ending_seconds_to_event": max(delays),
        "ending_requests": requested,
        "hanging_lag_ms": 1e3 * hanging_lag,
        "hanging_dns_ms": 1e3 * (time.perf_counter() - before),
    }


def memory_per_wait(server: Server) -> dict[str, float]:
    """Compare a wait with a trigger that does nothing."""
    tracemalloc.start()
    count = max(COUNTS)
    # The first waits load what all waits share.
    asyncio.run(memory([fired(one) for one in triggers(server("start", 20))], INTERVAL_SECONDS))
    job_ids = server("start", count)

    # Two event loops: a loop keeps the timers of cancelled sleeps for a while.
    nothing = asyncio.run(memory([run_idle_trigger() for _ in range(count)], 1.0))
    ours = asyncio.run(memory([fired(one) for one in triggers(job_ids)], 3 * INTERVAL_SECONDS))
    tracemalloc.stop()
    return {"wait_kb": (ours - nothing) / 1000, "idle_trigger_kb": nothing / 1000}


def memory_of_this_process() -> float:
    """Return the memory that no file backs, and that no other process shares, in KB."""
    kibibytes = re.search(r"Pss_Anon:\s+(\d+) kB", pathlib.Path("/proc/self/smaps_rollup").read_text())
    return 1.024 * int(kibibytes[1]) if kibibytes else math.nan


def run_waits() -> None:
    """Run waits for the jobs on standard input, and print the memory of this process in KB.

    The waits start one after another, as in a triggerer.
    """
    job_ids = json.load(sys.stdin)

    async def run() -> None:
        waits = []
        for trigger in triggers(job_ids):
            waits.append(asyncio.ensure_future(fired(trigger)))
            await asyncio.sleep(START_PAUSE_SECONDS)
        await asyncio.sleep(MEMORY_INTERVALS * INTERVAL_SECONDS)
        gc.collect()
        print(memory_of_this_process())
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    asyncio.run(run())


def process_memory_per_wait() -> dict[str, float]:
    """Compare a process with 1,000 waits with a process that has one wait. Both use TLS."""

    def memory_of(waits: int) -> float:
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.waits", "--run-waits"],
            input=json.dumps(server("start", waits)),
            capture_output=True,
            text=True,
            check=True,
        )
        return float(run.stdout.split()[-1])

    with tempfile.TemporaryDirectory() as folder:
        certificate, key = f"{folder}/certificate.pem", f"{folder}/key.pem"
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
        subprocess.run(
            [*command.split(), "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
        server = Server("benchmarks.waits", "--certificate", certificate, "--key", key)
        try:
            one, many = memory_of(1), memory_of(max(COUNTS))
        finally:
            server.stop()
    return {"process_kb": (many - one) / (max(COUNTS) - 1)}


def import_cost() -> float:
    """Return the time to import the job sensor, and the operators that create and cancel, after ``airflow.sdk``.

    In ms: the median of nine processes. The modules are compiled, as pip leaves them.
    """
    program = (
        "import time; from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator, PokeReturnValue, DAG\n"
        "start = time.perf_counter()\n"
        "from airflow_provider_polaris.sensors.polaris import PolarisJobSensor\n"
        "from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator, PolarisCreateJobOperator\n"
        "print(1e3 * (time.perf_counter() - start))"
    )
    command = [sys.executable, "-c", program]
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}
        runs = [subprocess.run(command, capture_output=True, text=True, check=True, env=env) for _ in range(10)]
    return statistics.median(float(run.stdout.split()[-1]) for run in runs[1:])  # the first run compiles


def table(rows: list[dict[str, float]], starts: list[dict[str, float]], rest: dict[str, float]) -> str:
    """Return the figures in Markdown."""
    head = (
        "waits",
        "requests per interval",
        "CPU per 1,000 job-polls",
        "one plain list request",
        "loop lag p99",
        "of an idle loop",
        "new TCP connections",
        "from a job's end to its event, at most",
    )
    lines = [f"| {' | '.join(head)} |", f"|{' ---: |' * len(head)}"]
    lines += [
        f"| {row['waits']:,.0f} | {row['requests_per_interval']:.1f} | {row['cpu_ms_per_1000_polls']:,.0f} ms | "
        f"{row['plain_list_ms']:.1f} ms | {row['lag_ms']:.1f} ms | {row['idle_lag_ms']:.1f} ms | "
        f"{row['new_lines']:.0f} | {row['seconds_to_event']:.1f} s |"
        for row in rows
    ]
    figures = {**rows[-1], **rest}
    figures["times"] = figures["cpu_ms_per_1000_polls"] / figures["plain_list_ms"]
    started = [
        f"- {start['waits']:,.0f} waits start {1e3 * START_PAUSE_SECONDS:.0f} ms apart among "
        f"{start['active']:,.0f} active jobs ({start['pages']:.0f} pages): "
        f"{start['requests_per_interval']:.1f} requests per interval from the second interval on."
        for start in starts
    ]
    return "\n".join([*lines, "", SUMMARY.format(**figures, interval=INTERVAL_SECONDS), *started])


def exceeded_limits(rows: list[dict[str, float]], starts: list[dict[str, float]], rest: dict[str, float]) -> list[str]:
    """Return the measurements that exceed their limits."""
    last = rows[-1]
    # A poll comes up to a tenth of an interval early, so an interval has a little more than one poll.
    polls = 1 / 0.9 + 1 / START_INTERVALS

    def lag_limit(row: dict[str, float]) -> float:
        return max(3 * row["idle_lag_ms"], 20)

    limits = [
        ("requests per interval", last["requests_per_interval"], 4),
        *(
            (
                f"requests per interval among {start['active']} active jobs",
                start["requests_per_interval"],
                polls * (start["pages"] + 2),
            )
            for start in starts
        ),
        ("requests per interval for lines with the progress", last["report_requests"], 4),
        # Cutting the rows of the list while they are parsed costs some of it, and is a part of what halves the memory.
        ("CPU, in plain list requests", last["cpu_ms_per_1000_polls"] / last["plain_list_ms"], 4),
        *((f"loop lag with {row['waits']} waits", row["lag_ms"], lag_limit(row)) for row in rows),
        ("loop lag while 200 jobs end", last["ending_lag_ms"], lag_limit(last)),
        # The lists and the jobs beside them, of two polls.
        ("requests while 200 jobs end", last["ending_requests"], 15),
        ("loop lag while every request hangs", last["hanging_lag_ms"], lag_limit(last)),
        ("DNS lookup of another trigger while every request hangs", last["hanging_dns_ms"], 1000),
        ("event loop blocked at the start", last["start_up_ms"], 100),
        *(
            (f"from a job's end to its event with {row['waits']} waits", row["seconds_to_event"], INTERVAL_SECONDS + 1)
            for row in rows
        ),
        ("from the end of 200 jobs to their events", last["ending_seconds_to_event"], INTERVAL_SECONDS + 1),
        ("new TCP connections", max(row["new_lines"] for row in rows), 0),
        ("KB of objects per wait", rest["wait_kb"], 10),
        ("KB of the process per wait", rest["process_kb"], 10),
        ("imports", rest["import_ms"], 15),
    ]
    return [f"{what}: {value:.1f}, and {limit:.1f} is the limit" for what, value, limit in limits if value > limit]


def plot(rows: list[dict[str, float]]) -> str:
    """Return a plot of the requests per interval as SVG, beside one poll per wait. Both axes are logarithmic."""

    def point(waits: float, requested: float) -> str:
        return f"{60 + 120 * digits(waits):.0f},{260 - 70 * digits(max(requested, 0.5)):.0f}"

    def digits(number: float) -> float:
        return math.log10(number)

    ours = " ".join(point(row["waits"], row["requests_per_interval"]) for row in rows)
    each = " ".join(point(count, count) for count in COUNTS)
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="4" fill="#0b7285"/>' for x, y in (one.split(",") for one in ours.split())
    )
    ticks = "".join(
        f'<text x="{60 + 120 * n}" y="285" text-anchor="middle">{10**n:,}</text>'
        f'<text x="50" y="{264 - 70 * n}" text-anchor="end">{10**n:,}</text>'
        f'<line x1="60" x2="430" y1="{260 - 70 * n}" y2="{260 - 70 * n}" stroke="#dee2e6"/>'
        for n in range(4)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 560 320" font-family="sans-serif" font-size="12">'
        f'<rect width="560" height="320" fill="#fff"/>{ticks}'
        '<text x="245" y="310" text-anchor="middle">waiting jobs</text>'
        '<text x="60" y="30">requests per interval</text>'
        f'<polyline points="{each}" fill="none" stroke="#adb5bd" stroke-width="2" stroke-dasharray="5 4"/>'
        f'<polyline points="{ours}" fill="none" stroke="#0b7285" stroke-width="2"/>{dots}'
        '<text x="435" y="54" fill="#868e96">a poll each</text>'
        '<text x="435" y="242" fill="#0b7285">this provider</text></svg>\n'
    )


def main() -> None:
    """Measure, and print the figures. Exit with an error if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--certificate", help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    parser.add_argument("--run-waits", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--svg", help="write the plot to this file")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    if options.serve:
        serve(options.certificate, options.key)
        return
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"  # each wait logs its end
    if options.run_waits:
        run_waits()
        return
    server = Server("benchmarks.waits")
    try:
        with reports_that_are_always_due():
            rows = [asyncio.run(measure(server, count)) for count in COUNTS]
        starts = [asyncio.run(measure_start(server, *start)) for start in STARTS]
        rest = {**memory_per_wait(server), "import_ms": import_cost()}
    finally:
        server.stop()
    rest |= process_memory_per_wait()
    if options.svg:
        pathlib.Path(options.svg).write_text(plot(rows))
    figures = {"rows": rows, "starts": starts, **rest}
    print(json.dumps(figures) if options.json else table(rows, starts, rest))
    if faults := exceeded_limits(rows, starts, rest):
        sys.exit("Limits exceeded:\n" + "\n".join(faults))


if __name__ == "__main__":
    main()
