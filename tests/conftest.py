"""Fixtures for all tests: Airflow's home, a local Polaris, and a clock that tests move."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

# Before Airflow is imported: it reads its configuration then.
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="polaris-tests-"))
os.environ.update(
    AIRFLOW_HOME=str(AIRFLOW_HOME),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(Path(__file__).parent.parent / "example_dags"),
    AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY="True",  # 2.11 warns without it
)
for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_") or name.lower().endswith("_proxy")]:
    del os.environ[name]

# A shell ignores SIGINT for a command in its background, and so do the processes of tests. Some tests send that signal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402

from airflow_provider_polaris._compat import BaseSensorOperator  # noqa: E402
from airflow_provider_polaris.hooks.polaris import PolarisHook  # noqa: E402
from airflow_provider_polaris.local import LocalPolaris  # noqa: E402
from airflow_provider_polaris.local.engine import timestamps as local_clock  # noqa: E402
from airflow_provider_polaris.polling import list_policy  # noqa: E402
from airflow_provider_polaris.submission import job_search  # noqa: E402
from airflow_provider_polaris.waiting import progress_report  # noqa: E402
from tests.support import pool_threads  # noqa: E402
from tests.support.airflow_versions import AIRFLOW_3  # noqa: E402
from tests.support.local_calls import API_KEY, connection_without_page  # noqa: E402
from tests.support.virtual_time import VirtualClock  # noqa: E402


def pytest_collection_modifyitems(items):
    """Start the tests of real processes first. They mostly wait, and the other tests use the cores in that time."""
    items.sort(key=lambda item: item.path.parent.name != "system")


def pytest_sessionfinish():
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def _nothing_was_logged_before():
    """Let each test be as the first of a process."""
    list_policy._WARNED.clear()


@pytest.fixture(scope="session")
def _server():
    with LocalPolaris(api_key=API_KEY) as polaris:
        yield polaris


@pytest.fixture
def polaris(_server, monkeypatch):
    """Yield a local Polaris that no task has used yet, and define the connection polaris_default to it."""
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", connection_without_page(_server))
    _server.requests.clear()
    job_search._FACTS.clear()
    yield _server
    _server.clear_faults()
    # A request of a trigger that was cancelled may still be on its way. In the next test it would count.
    assert pool_threads.are_free(), "a request is sent for longer than its test"
    for job_id in list(_server._store.jobs):  # some jobs are malformed, or have a time in the future (moved_clock)
        _server.remove_job(job_id)
    for table in _server._store.tables.granularities():
        _server.remove_table(table)
    for file in list(_server._store.files):
        _server._store.remove_file(file)
    for connection in list(_server._store.connections):
        _server._store.remove_connection(connection)
    _server.api_key = API_KEY
    _server.cancel_checks = 1


@pytest.fixture
def hook(polaris):
    hook = PolarisHook()
    yield hook
    hook.close()


@pytest.fixture
def moved_clock(monkeypatch):
    """Replace the clocks of the provider, of Airflow's poke loop and of the local Polaris with one that tests move."""
    virtual = VirtualClock()
    monkeypatch.setattr(local_clock, "time", SimpleNamespace(time_ns=lambda: int(virtual.time * 10**9)))
    airflow_time = SimpleNamespace(time=virtual.now, monotonic=virtual.now, sleep=virtual.sleep)
    monkeypatch.setattr(sys.modules[BaseSensorOperator.__module__], "time", airflow_time)
    with virtual.installed():
        yield virtual


@pytest.fixture
def no_reports(monkeypatch):
    """Let no wait report its progress, for tests that count the requests and pauses of the poll alone."""
    monkeypatch.setattr(progress_report, "EARLY_SECONDS", (1e9,))


@pytest.fixture(scope="session")
def airflow_db():
    """Airflow's database, migrated once for all tests that run a DAG."""
    with warnings.catch_warnings():
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    return AIRFLOW_HOME


@pytest.fixture
def task_log(caplog, capfd):
    """Return a function that returns the task's log lines: 2.11 uses logging, 3.x structlog."""
    caplog.set_level("INFO")

    def lines() -> list[str]:
        return capfd.readouterr().out.splitlines() if AIRFLOW_3 else [record.getMessage() for record in caplog.records]

    return lines


@pytest.fixture
def airflow_3() -> bool:
    return AIRFLOW_3


@pytest.fixture(scope="session")
def wait_until():
    """Return a function that waits in real time, in short steps, until a condition of another thread is true."""

    def wait(condition, seconds: float = 10.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if result := condition():
                return result
            time.sleep(0.01)
        return None

    return wait
