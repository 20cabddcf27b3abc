"""Fixtures of all tests: an Airflow of their own, a local Polaris, and a clock that tests move."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

# Airflow reads its configuration when it is imported.
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="polaris-tests-"))
os.environ.update(
    AIRFLOW_HOME=str(AIRFLOW_HOME),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(Path(__file__).parent.parent / "example_dags"),
    AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY="True",  # without this setting, 2.11 warns
)
for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_") or name.lower().endswith("_proxy")]:
    del os.environ[name]

import pytest  # noqa: E402

from airflow_provider_polaris._compat import BaseSensorOperator  # noqa: E402
from airflow_provider_polaris.hooks.polaris import PolarisHook  # noqa: E402
from airflow_provider_polaris.local import LocalPolaris  # noqa: E402
from airflow_provider_polaris.local.engine import timestamps as local_clock  # noqa: E402
from tests.support.airflow_versions import AIRFLOW_3  # noqa: E402
from tests.support.virtual_time import VirtualClock  # noqa: E402

#: A key in the form of the service. Its encodings differ in some of its characters.
API_KEY = "pok_Kn0wn~Sekret+/4Tests?"


def pytest_sessionfinish():
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def _server():
    with LocalPolaris(api_key=API_KEY) as polaris:
        yield polaris


@pytest.fixture
def polaris(_server, monkeypatch):
    """A local Polaris, and the connection polaris_default to it."""
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", _server.connection_json)
    _server.requests.clear()
    yield _server
    _server.clear_faults()
    for job_id in list(_server._store.jobs):  # some are malformed, and some are created in the future (moved_clock)
        _server.remove_job(job_id)
    _server.api_key = API_KEY
    _server.cancel_looks = 1


@pytest.fixture
def hook(polaris):
    hook = PolarisHook()
    yield hook
    hook.close()


@pytest.fixture
def moved_clock(monkeypatch):
    """A clock for the provider, for Airflow's poke loop, and for the times that the local Polaris writes."""
    virtual = VirtualClock()
    monkeypatch.setattr(local_clock, "time", SimpleNamespace(time_ns=lambda: int(virtual.time * 10**9)))
    airflow_time = SimpleNamespace(time=virtual.now, monotonic=virtual.now, sleep=virtual.sleep)
    monkeypatch.setattr(sys.modules[BaseSensorOperator.__module__], "time", airflow_time)
    with virtual.installed():
        yield virtual


@pytest.fixture(scope="session")
def airflow_db():
    """Airflow's database, migrated once for all tests that run a DAG."""
    with warnings.catch_warnings():
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    return AIRFLOW_HOME


@pytest.fixture
def task_log(caplog, capfd):
    """The lines of a task's log. Airflow 2.11 logs with logging, and 3.x with structlog."""
    caplog.set_level("INFO")

    def lines() -> list[str]:
        return capfd.readouterr().out.splitlines() if AIRFLOW_3 else [record.getMessage() for record in caplog.records]

    return lines


@pytest.fixture
def airflow_3() -> bool:
    return AIRFLOW_3


@pytest.fixture
def wait_until():
    """Wait in real time, in short steps, for another thread."""

    def wait(condition, seconds: float = 10.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if result := condition():
                return result
            time.sleep(0.01)
        return None

    return wait
