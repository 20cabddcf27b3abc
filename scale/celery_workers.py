"""An Airflow whose tasks run on two Celery workers, with a Redis server of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from scale.processes import STEP_SECONDS, ScaleAirflow, require
from tests.support.real_airflow import free_port, wait_for

WORKERS = ("worker-1", "worker-2")
#: How many tasks a worker runs at once.
SLOTS = 5


class CeleryAirflow(ScaleAirflow):
    """As :class:`ScaleAirflow`, with CeleryExecutor and two workers."""

    def __init__(self, home: Path, dags: Path, *, silence: int) -> None:
        super().__init__(home, dags, silence=silence)
        self._redis: subprocess.Popen[bytes] | None = None
        self._redis_port = free_port()
        for name in WORKERS:
            self._commands[name] = ("celery", "worker", "-H", f"{name}@localhost", "-c", str(SLOTS))
        self.env |= {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__PARALLELISM": "32",
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{self._redis_port}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"redis://127.0.0.1:{self._redis_port}/1",
            # The heartbeats of a worker that is killed end. Airflow's default is 300.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        }

    def start_all(self, **connections: str) -> None:
        """Start Redis, and then all processes."""
        program = shutil.which("redis-server") or ""
        require(program, "There is no redis-server in PATH: install the Debian package redis-server")
        with (self.home / "redis.log").open("wb") as log:
            self._redis = subprocess.Popen(
                [
                    program,
                    "--port",
                    str(self._redis_port),
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--dir",
                    str(self.home),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._redis_is_up, "Redis")
        super().start_all(**connections)
        for name in WORKERS:
            self.wait_for_worker(name)

    def wait_for_worker(self, name: str) -> None:
        """Wait until a worker takes tasks."""
        log = self.home / f"{name}.log"
        # A worker that was started again appends to the log.
        starts = self.starts[name]
        ready = f"{name}@localhost ready"
        wait_for(lambda: log.read_text(errors="replace").count(ready) >= starts, name, seconds=STEP_SECONDS)

    def worker_of(self, pid: int) -> str:
        """Return the worker in whose tree a process is."""
        return next(name for name in WORKERS if name in self.processes and pid in self._pids(name))

    def _pids(self, name: str) -> set[int]:
        return {process.pid for process in self.tree(name)}

    def kill_tree(self, name: str) -> None:
        """Kill a worker and all its children at once."""
        process = self.processes.pop(name)
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for one in tree:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait(10)
        psutil.wait_procs(tree, 10)

    def stop_all(self) -> None:
        """Stop all processes, the database and Redis."""
        try:
            super().stop_all()
        finally:
            if self._redis is not None:
                with suppress(ProcessLookupError):
                    os.killpg(self._redis.pid, signal.SIGKILL)
                self._redis.wait(10)

    def _redis_is_up(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._redis_port), timeout=1):
            return True
        return False
