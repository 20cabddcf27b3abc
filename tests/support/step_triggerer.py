"""A real triggerer that a test kills with SIGKILL exactly at a step of a watcher.

This file is also the script of the process that starts the triggerers: it imports Airflow once, wraps the functions at
the steps, and forks a triggerer for each line on its standard input.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

#: The longest time for a step, in seconds. Test machines can be slow and busy.
STEP_TIMEOUT_SECONDS = 60.0
#: The shortest time between two readings of the lists. The usual one would make the tests slow.
SHORTEST_INTERVAL_SECONDS = 2.0


class StepTriggerer:
    """Starts triggerers, each in a process group of its own, and waits for their end.

    :param env: the environment of an Airflow.
    :param folder: for the file that names the step, and for the log.
    """

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.folder = folder
        self._log = (folder / "triggerer.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-c", Path(__file__).read_text(), str(folder)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=folder,
            text=True,
        )
        self._stdin = cast("IO[str]", self._process.stdin)
        self._stdout = cast("IO[str]", self._process.stdout)
        self.pid: int | None = None

    def start(self) -> None:
        """Start a triggerer."""
        self._stdin.write("start\n")
        self._stdin.flush()
        self.pid = json.loads(self._stdout.readline())

    def kill_at(self, step: str) -> None:
        """Let the triggerer kill itself as soon as it reaches this step."""
        (self.folder / "kill_at").write_text(step)

    def wait_for_end(self) -> None:
        """Wait until the triggerer has killed itself."""
        deadline = time.monotonic() + STEP_TIMEOUT_SECONDS
        while self.is_running:
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"The triggerer did not reach the step:\n{self.last_lines}")
            time.sleep(0.05)
        assert not (self.folder / "kill_at").exists(), f"The triggerer ended by itself:\n{self.last_lines}"

    @property
    def is_running(self) -> bool:
        """Whether a triggerer runs."""
        return _is_running(self.pid)

    def kill(self) -> None:
        """Kill the triggerer and its children."""
        if self.is_running:
            with suppress(ProcessLookupError):  # it has just ended
                os.killpg(cast("int", self.pid), signal.SIGKILL)

    def block(self) -> None:
        """Block the main loop of the triggerer, as a slow database does. Its event loop continues."""
        (self.folder / "block").touch()

    def unblock(self) -> None:
        """End the block."""
        (self.folder / "block").unlink()

    @property
    def last_lines(self) -> str:
        """The end of the log."""
        return "\n".join((self.folder / "triggerer.log").read_text().splitlines()[-30:])

    def close(self) -> None:
        """End all processes."""
        self.kill()
        self._process.kill()
        self._process.communicate(timeout=30)
        self._log.close()


def _is_running(pid: int | None) -> bool:
    try:
        os.kill(cast("int", pid), 0)
    except (OSError, TypeError):
        return False
    return True


def _kill_if_reached(folder: Path, step: str) -> None:
    marker = folder / "kill_at"
    try:
        is_reached = marker.read_text() == step
    except OSError:
        return
    if is_reached:
        marker.unlink()
        os.killpg(0, signal.SIGKILL)  # the triggerer, and the process in which its triggers run


def _wrap(owner: Any, name: str, reach: Callable[[str], None], before: str, after: str) -> None:
    original = getattr(owner, name)

    async def run_async(*args: Any, **kwargs: Any) -> Any:
        reach(before)
        result = await original(*args, **kwargs)
        reach(after)
        return result

    def run(*args: Any, **kwargs: Any) -> Any:
        reach(before)
        result = original(*args, **kwargs)
        reach(after)
        return result

    setattr(owner, name, run_async if inspect.iscoroutinefunction(original) else run)


def _wrap_requests(reach: Callable[[str], None]) -> None:
    from urllib3.connection import HTTPConnection

    request, getresponse = HTTPConnection.request, HTTPConnection.getresponse
    kinds: dict[int, str] = {}

    def send(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        path = url.partition("?")[0]
        kind = "list" if path.endswith("/jobs") else "metrics" if path.endswith("/metrics") else "job"
        kinds[id(self)] = kind
        reach(f"before the {kind} request")
        return request(self, method, url, *args, **kwargs)

    def receive(self: Any, *args: Any, **kwargs: Any) -> Any:
        reach(f"after the {kinds[id(self)]} request")
        response = getresponse(self, *args, **kwargs)
        reach(f"after the {kinds[id(self)]} response")
        return response

    HTTPConnection.request, HTTPConnection.getresponse = send, receive  # type: ignore[method-assign]


def _wrap_steps(folder: Path) -> None:
    from airflow.jobs import triggerer_job_runner as airflow_triggerer

    from airflow_provider_polaris.polling import loads_plan
    from airflow_provider_polaris.triggers.loads import PolarisLoadsTrigger

    def reach(step: str) -> None:
        _kill_if_reached(folder, step)

    supervisor, runner = airflow_triggerer.TriggerRunnerSupervisor, airflow_triggerer.TriggerRunner
    loads_plan.READING_INTERVAL_SECONDS = SHORTEST_INTERVAL_SECONDS
    _wrap_requests(reach)
    _wrap(PolarisLoadsTrigger, "_load_state", reach, "before the state is read", "after the state is read")
    _wrap(PolarisLoadsTrigger, "_judge", reach, "before the judgement", "before the event")
    _wrap(PolarisLoadsTrigger, "_store_state", reach, "before the store", "after the store")
    _wrap(supervisor, "on_trigger_event", reach, "before the event is written", "after the event is written")
    _wrap(
        airflow_triggerer,
        "handle_set_asset_state_store_by_name",
        reach,
        "before the state is written",
        "after the state is written",
    )
    process_trigger_events, load_triggers = runner.process_trigger_events, supervisor.load_triggers

    def send_events(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.events:
            reach("after the event is fired")
        return process_trigger_events(self, *args, **kwargs)

    def load(self: Any) -> None:
        while (folder / "block").exists():
            time.sleep(0.05)
        load_triggers(self)

    runner.process_trigger_events, supervisor.load_triggers = send_events, load  # type: ignore[method-assign]


async def _first_response(app: Any) -> None:
    import httpx

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://in-process") as client,
    ):
        assert (await client.get("/health")).is_success


def main() -> None:
    """Fork a triggerer for each line on standard input, and print its process id."""
    # The kernel removes triggerers that have ended, so that their process ids are free.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Airflow prints log lines. Only the process ids go to the test.
    to_test = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import airflow.__main__
    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI
    from airflow.jobs import triggerer_job_runner

    # Each triggerer has the execution API in its own process. The app needs seconds before its first response.
    api = InProcessExecutionAPI()
    asyncio.run(_first_response(api.app))
    triggerer_job_runner.in_process_api_server = lambda: api
    _wrap_steps(Path(sys.argv[1]))
    while sys.stdin.readline():
        if pid := os.fork():
            print(pid, file=to_test, flush=True)
            continue
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["airflow", "triggerer", "--skip-serve-logs"]
        airflow.__main__.main()
        os._exit(0)


if __name__ == "__main__":
    main()
