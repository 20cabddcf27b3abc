"""What the benchmarks of many triggers share: a local Polaris in a process of its own, lag, CPU and memory."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO, cast

import requests

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_polaris.local import LocalPolaris

#: The shortest interval of the list, in seconds.
INTERVAL_SECONDS = 5.0
LATENCY_SECONDS = 0.02
SAMPLE_SECONDS = 0.002


class Server:
    """The local Polaris in a process of its own.

    :param module: the module that runs it, with the option ``--serve``.
    :param options: further options of the module.
    """

    def __init__(self, module: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--serve", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # requests that hang when the server stops write long errors
            text=True,
        )
        self._stdin, self._stdout = cast("TextIO", self.process.stdin), cast("TextIO", self.process.stdout)
        url, project, self.key, self.connection = self._read()
        self.jobs = f"{url}/v1/projects/{project}/jobs"
        os.environ["AIRFLOW_CONN_POLARIS_BENCH"] = self.connection

    def __call__(self, *command: Any) -> Any:
        """Send a command, and return its result."""
        self._stdin.write(json.dumps(command) + "\n")
        self._stdin.flush()
        return self._read()

    def _read(self) -> Any:
        return json.loads(self._stdout.readline())

    def stop(self) -> None:
        """Stop the process."""
        self("start", 0)
        self.process.communicate(timeout=30)


def serve_commands(polaris: LocalPolaris, connection: str, commands: Mapping[str, Callable[..., Any]]) -> None:
    """Serve a :class:`Server`: a command on each line of standard input, its result on standard output.

    :param connection: for the triggers, as JSON.
    """
    print(json.dumps([polaris.url, polaris.project_id, polaris.api_key, connection]), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(commands[name](*arguments)), flush=True)


async def lag(seconds: float) -> tuple[float, float]:
    """Return the delay of a sleep on the event loop, in seconds: the 99th percentile and the maximum."""
    late = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        await asyncio.sleep(SAMPLE_SECONDS)
        late.append(time.perf_counter() - start - SAMPLE_SECONDS)
    late.sort()
    return late[int(len(late) * 0.99)], late[-1]


async def cpu_of(seconds: float) -> float:
    """Return the CPU time of this process during so many seconds."""
    before = time.process_time()
    await asyncio.sleep(seconds)
    return time.process_time() - before


async def cpu_beside_plain_lists(server: Server, query: str, intervals: int) -> tuple[float, float, int, int]:
    """Return the CPU time of the waits, that of a plain list request, and both counts of the waits' requests.

    The counts are those of the server, the first without the plain requests. The times are medians of intervals. Each
    interval has one plain request in a thread of its own. Like the waits' poll, it finds cold caches. Plain requests
    one after another would find warm caches, and take half of the time.

    :param query: of the plain list request.
    :param intervals: the number of intervals.
    """

    def plain_list() -> float:
        before = time.thread_time()
        answer = session.get(f"{server.jobs}?{query}", headers={"Authorization": f"Basic {server.key}"}, timeout=30)
        json.loads(answer.content)
        return time.thread_time() - before

    ours, plain = [], []
    with requests.Session() as session:
        session.trust_env = False
        server("count")
        for _ in range(intervals):
            before = time.process_time()
            await asyncio.sleep(INTERVAL_SECONDS / 2)
            plain.append(await asyncio.to_thread(plain_list))
            await asyncio.sleep(INTERVAL_SECONDS / 2)
            ours.append(time.process_time() - before - plain[-1])
    lists, others = server("count")
    return statistics.median(ours), statistics.median(plain), lists - intervals, others


async def memory(run: list[Coroutine[Any, Any, Any]], seconds: float) -> float:
    """Return the memory of each of these when it waits, in bytes."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    tasks = [asyncio.ensure_future(one) for one in run]
    await asyncio.sleep(seconds)
    gc.collect()
    took = tracemalloc.get_traced_memory()[0] - before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return took / len(tasks)


async def run_idle_trigger() -> None:
    """Run a trigger that does nothing, as a triggerer runs it."""
    async for _ in _idle_trigger()().run():
        pass


@cache
def _idle_trigger() -> type[BaseTrigger]:
    from airflow.triggers.base import BaseTrigger

    class Idle(BaseTrigger):
        def serialize(self) -> tuple[str, dict[str, Any]]:
            return "Idle", {}

        async def run(self) -> Any:
            await asyncio.sleep(3600)
            yield None

    return Idle
