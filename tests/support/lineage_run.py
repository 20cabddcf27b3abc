"""Run DAGs in a process with Airflow's OpenLineage provider, and read the events that the provider has written.

python -m tests.support.lineage_run SOCKET
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.imports import ROOT

#: The longest time for one DAG run, in seconds.
RUN_TIMEOUT_SECONDS = 120.0
#: The options of each mode of a task. An operator that is no sensor has no ``mode``, and ignores it.
MODES = {
    "poke": {"deferrable": False, "mode": "poke"},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferred": {"deferrable": True, "mode": "poke"},
}
#: What stands before the DAG of a test.
HEAD = """
from datetime import datetime, timezone
try:
    from airflow.sdk import DAG, Asset, AssetAlias, task
except ImportError:
    from airflow import DAG
    from airflow.datasets import Dataset as Asset
    from airflow.decorators import task
from airflow_provider_polaris.assets.uris import PolarisTable
from airflow_provider_polaris.operators.checks import PolarisColumnCheckOperator, PolarisTableCheckOperator
from airflow_provider_polaris.operators.polaris import *
from airflow_provider_polaris.sensors.polaris import *
dag = DAG("lineage", schedule=None, start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False)
dag.__enter__()
"""


@dataclass(frozen=True)
class RunRequest:
    """A DAG to run.

    :param file: the file of a DAG that is named ``dag``; ``None`` for an example DAG.
    :param mode: one of ``MODES``, for all tasks; ``None`` leaves the tasks as they are.
    :param options: further options of all tasks that have them.
    :param moment: the logical date in ISO 8601, by default now.
    """

    dag_id: str
    file: str | None = None
    mode: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    conf: dict[str, Any] | None = None
    moment: str | None = None


@dataclass(frozen=True)
class LineageRun:
    """What a DAG run has left.

    :param events: the last event of each task, by its id. A mapped task has an event for each of its instances.
    :param states: the state of each task.
    :param log: the output of Airflow.
    :param text: all events of the run as they were written.
    """

    events: dict[str, list[dict[str, Any]]]
    states: dict[str, str]
    log: str
    text: str


class LineageRunner:
    """The process in which DAGs run with OpenLineage.

    The first DAG run of a process of Airflow 3 takes some seconds, and each further DAG run takes less than one. So the
    tests share a process.

    :param folder: the folder with the DAG file, the events and the log.
    :param channel: leads to the process.
    """

    def __init__(self, folder: Path, channel: socket.socket) -> None:
        self._folder = folder
        self._channel = channel

    def run_tasks(self, tasks: str) -> LineageRun:
        """Run tasks.

        :param tasks: the body of a DAG.
        """
        file = self._folder / "lineage_dag.py"
        file.write_text(HEAD + tasks)
        return self._run(RunRequest("lineage", str(file)))

    def run_example(
        self,
        dag_id: str,
        mode: str,
        conf: dict[str, Any] | None = None,
        moment: datetime | None = None,
        **options: Any,
    ) -> LineageRun:
        """Run an example DAG whose tasks wait in a mode."""
        return self._run(RunRequest(dag_id, None, mode, options, conf, moment and moment.isoformat()))

    def _run(self, request: RunRequest) -> LineageRun:
        log, before = self._folder / "log.txt", set(self._folder.glob("events*"))
        start = log.stat().st_size
        self._channel.sendall(json.dumps(asdict(request)).encode() + b"\n")
        with self._channel.makefile("r") as replies:
            try:
                reply = replies.readline()
            except TimeoutError:
                reply = ""
        said = log.read_bytes()[start:].decode(errors="replace")
        states = json.loads(reply or "null")
        assert states, f"The DAG did not run to its end.\n{said[-5000:]}"
        texts = [path.read_text() for path in sorted(set(self._folder.glob("events*")) - before)]
        last: dict[str, dict[str, Any]] = {}
        for event in filter(None, map(_event_of, texts)):
            task_id = event["job"]["name"].removeprefix(f"{request.dag_id}.")
            if event["eventType"] != "START" and task_id in states:  # other events are of the DAG or of a query
                last[event["run"]["runId"]] = {**event, "task_id": task_id}
        by_task: dict[str, list[dict[str, Any]]] = {}
        for event in last.values():
            by_task.setdefault(event.pop("task_id"), []).append(event)
        return LineageRun(by_task, states, said, "\n".join(texts))


def _event_of(text: str) -> dict[str, Any] | None:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None  # a process of its own may still write the event of the DAG run, which no test reads


@contextmanager
def lineage_runner(folder: Path, connection: str) -> Iterator[LineageRunner]:
    """Start the process, and end it afterwards.

    :param connection: the connection ``polaris_default``.
    """
    # Without append, each event is a file of its own. Several processes write the events.
    transport = {"type": "file", "log_file_path": str(folder / "events"), "append": False}
    env = {
        **os.environ,
        "AIRFLOW_CONN_POLARIS_DEFAULT": connection,
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
        "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "60",
    }
    ours, theirs = socket.socketpair()
    with ours, theirs, (folder / "log.txt").open("wb") as log:
        program = [sys.executable, "-m", "tests.support.lineage_run", str(theirs.fileno())]
        ours.settimeout(RUN_TIMEOUT_SECONDS)
        options: dict[str, Any] = {"cwd": ROOT, "env": env, "stdout": log, "stderr": log, "start_new_session": True}
        with subprocess.Popen(program, pass_fds=[theirs.fileno()], **options) as process:
            theirs.close()
            try:
                yield LineageRunner(folder, ours)
            finally:
                # All processes of this session: OpenLineage keeps some for the events of DAG runs.
                os.killpg(process.pid, signal.SIGKILL)


def set_options(dag: Any, options: dict[str, Any]) -> None:
    """Set options of all tasks of a DAG that have them, also of mapped sensors."""
    for task in dag.tasks:
        mapped = getattr(task, "partial_kwargs", None)
        if mapped is None:
            for name in filter(partial(hasattr, task), options):
                setattr(task, name, options[name])
        elif hasattr(task.operator_class, "poke"):
            mapped.update({name: options[name] for name in options if name in {*mapped, "mode"}})


def forget_hook_lineage(_context: Any = None) -> None:
    """Forget what hooks have reported. A task usually has a process of its own, and this process runs all tasks."""
    try:
        from airflow.sdk.lineage import get_hook_lineage_collector
    except ImportError:
        from airflow.lineage import hook  # Airflow 2.11

        hook._hook_lineage_collector = None
    else:
        get_hook_lineage_collector.cache_clear()


def run_request(request: RunRequest) -> dict[str, str]:
    """Run a DAG in this process. Return the state of each task."""
    from scripts.run_dag import load_dag
    from tests.support.airflow_versions import run_dag

    dag = runpy.run_path(request.file)["dag"] if request.file else load_dag(request.dag_id)
    for task in dag.tasks:
        task._pre_execute_hook = forget_hook_lineage
    if request.mode:
        set_options(dag, {**MODES[request.mode], **request.options})
    moment = datetime.fromisoformat(request.moment) if request.moment else None
    return run_dag(dag, request.conf, moment).tasks


def main(descriptor: str) -> None:
    """Run the DAGs of the requests, until the other side closes the socket."""
    with socket.socket(fileno=int(descriptor)) as channel, channel.makefile("r") as requests:
        for line in requests:
            states: dict[str, str] = {}
            try:
                states = run_request(RunRequest(**json.loads(line)))
            except Exception:
                traceback.print_exc()  # the log is part of the test's message
            channel.sendall(json.dumps(states).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
