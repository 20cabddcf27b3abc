"""An Airflow with several triggerers on one machine: start, kill, stop, and start again what has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.real_airflow import RealAirflow, free_port, wait_for

TRIGGERERS = ("triggerer-1", "triggerer-2")
#: The longest time for a step of the whole Airflow, in seconds: two busy cores start six processes in a minute.
STEP_SECONDS = 240.0
#: Airflow's name for the process that serves logs.
LOG_SERVER = "serve-logs"
#: How many tasks run at once.
PARALLEL_TASKS = 4


def require(condition: object, otherwise: str) -> None:
    """Check what a step needs.

    :raises AssertionError: with the text, if the condition does not hold.
    """
    if not condition:
        raise AssertionError(otherwise)


class ScaleAirflow(RealAirflow):
    """An Airflow of an API server, a DAG processor, a scheduler with LocalExecutor, and triggerers.

    :param silence: how long a triggerer may be silent before its waits move to the other, in seconds. Airflow's default
        is 30. On a busy machine, the first look-up of a connection delays a triggerer's heartbeat by ten seconds.
    :param triggerers: the names of the triggerers.
    """

    def __init__(self, home: Path, dags: Path, *, silence: int, triggerers: Sequence[str] = TRIGGERERS) -> None:
        super().__init__(home, dags)
        self.silence = silence
        self.triggerers = triggerers
        #: How often each process was started.
        self.starts: Counter[str] = Counter()
        self._commands = {
            "api-server": ("api-server", "--port", str(self.port), "--host", "127.0.0.1", "--workers", "1"),
            "dag-processor": ("dag-processor",),
            "scheduler": ("scheduler",),
            **dict.fromkeys(triggerers, ("triggerer",)),
        }
        self.env |= {
            "AIRFLOW__CORE__PARALLELISM": str(PARALLEL_TASKS),
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(silence),
            "AIRFLOW__SCHEDULER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(silence),
            # One core runs all tasks at once: their heartbeats are late.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
        }

    def start_all(self, **connections: str) -> None:
        """Migrate the database, start the processes, and wait until tasks can run.

        :param connections: connections to store, each as JSON, by their ids.
        """
        self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = self.database.start()
        # The log names the process of each statement.
        self.database.run("alter system set log_line_prefix = '%a|%p|'")
        self.database.run("select pg_reload_conf()")
        self.airflow("db", "migrate")
        for name in self._commands:
            self.start_named(name)
        wait_for(self._is_up, "the API server", seconds=STEP_SECONDS)
        for conn_id, connection in connections.items():
            self._store(conn_id, connection)
        self.wait_for_triggerers()

    def wait_for_triggerers(self) -> None:
        """Wait until each triggerer has a fresh heartbeat."""
        wait_for(lambda: len(self.live_triggerers()) == len(self.triggerers), "the triggerers", seconds=STEP_SECONDS)

    def start_named(self, name: str) -> None:
        """Start one of the processes, with free ports for its log servers."""
        command, *arguments = self._commands[name]
        self.starts[name] += 1
        env = {
            # The statements in the log of PostgreSQL have this name.
            "PGAPPNAME": name,
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        }
        self.start(command, *arguments, name=name, env=env)

    def start_ended(self) -> list[str]:
        """Start each process again that has ended by itself, as a service manager does. Return their names."""
        ended = [name for name, process in self.processes.items() if process.poll() is not None]
        for name in ended:
            self._kill_group(self.processes[name])
            self.start_named(name)
        return ended

    def live_triggerers(self, since: float = 0.0) -> list[int]:
        """Return the ids of the triggerers with a fresh heartbeat.

        :param since: seconds since the epoch that the heartbeat must exceed.
        """
        rows = self.query(
            "select id from job where job_type = 'TriggererJob' and end_date is null "
            "and latest_heartbeat > now() - make_interval(secs => %s) and latest_heartbeat > to_timestamp(%s)",
            self.silence,
            since,
        )
        return [row[0] for row in rows]

    def tree(self, name: str) -> list[psutil.Process]:
        """Return a process and its children."""
        process = psutil.Process(self.processes[name].pid)
        return [process, *process.children(recursive=True)]

    def runner(self, name: str) -> psutil.Process:
        """Return the process of a triggerer in which the triggers run."""
        _, *children = self.tree(name)
        return next(child for child in children if LOG_SERVER not in child.name())

    def kill(self, name: str) -> tuple[float, float]:
        """Kill only the main process with SIGKILL.

        Return the time, in seconds since the epoch, and after how many seconds the process that runs the triggers has
        ended by itself. Airflow's log server never ends by itself, and is killed.
        """
        process = self.processes.pop(name)
        children = psutil.Process(process.pid).children(recursive=True)
        runners = [child for child in children if LOG_SERVER not in child.name()]
        process.kill()
        at = time.time()
        process.wait(10)
        psutil.wait_procs(runners, STEP_SECONDS)
        took = time.time() - at
        self._kill_group(process)
        return at, took

    def terminate(self, name: str) -> tuple[float, float]:
        """Send SIGTERM to the main process. Return the time, and after how many seconds its last child has ended."""
        process = self.processes.pop(name)
        children = psutil.Process(process.pid).children(recursive=True)
        at = time.time()
        process.terminate()
        process.wait(STEP_SECONDS)
        psutil.wait_procs(children, STEP_SECONDS)
        return at, time.time() - at

    def stop_all(self) -> None:
        """Stop all processes at once, and the database."""
        try:
            for process in self.processes.values():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + 5
            for process in self.processes.values():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for process in self.processes.values():
                self._kill_group(process)
            self.database.stop()

    @staticmethod
    def _kill_group(process: subprocess.Popen[bytes]) -> None:
        """Kill what is left of a process and its children."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
