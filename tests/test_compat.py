"""_compat reads the state and the try of a task instance on Airflow 2.11 and 3.x."""

from __future__ import annotations

import importlib
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_polaris import _compat
from tests.support.airflow_versions import AIRFLOW_3, DAG, EmptyOperator, FakeTaskInstance, run_dag


@pytest.mark.skipif(AIRFLOW_3, reason="3.x requests the state from its API server: tests/system does that")
@pytest.mark.filterwarnings("ignore")  # the first run of a DAG in a process imports 2.11's web server, which has some
def test_airflow_2_11_reads_a_task_state_from_its_database(airflow_db):
    with DAG("a_state", schedule=None) as dag:
        EmptyOperator(task_id="task")
    run = run_dag(dag).run
    ti = SimpleNamespace(dag_id="a_state", task_id="task", run_id=run.run_id, map_index=-1)
    assert _compat.task_state(ti) == "success"
    ti.map_index = 7
    assert _compat.task_state(ti) == "removed"


@pytest.mark.skipif(AIRFLOW_3, reason="3.x has event-driven schedules")
def test_on_airflow_2_11_the_trigger_of_a_watcher_names_the_sensor_instead():
    with pytest.raises(ImportError, match=r"needs Airflow 3.*On Airflow 2\.11, use PolarisTableSensor"):
        importlib.import_module("airflow_provider_polaris.triggers.loads")


@pytest.mark.skipif(not AIRFLOW_3, reason="2.11 reads its database")
@pytest.mark.parametrize(
    ("map_index", "states", "expected"),
    [
        (-1, {"run": {"task": "failed", "task_0": "x"}}, "failed"),
        (0, {"run": {"task_0": "restarting"}}, "restarting"),
        (-1, {"run": {"task": None}}, None),
        (-1, {"run": {}}, "removed"),
        (-1, {}, "removed"),
    ],
)
def test_airflow_3_requests_a_task_state_from_its_api_server(monkeypatch, map_index, states, expected):
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    query = {}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **given: query.update(given) or states)
    ti = FakeTaskInstance()
    ti.map_index = map_index
    assert _compat.task_state(ti) == expected
    assert query == {"dag_id": "dag", "map_index": map_index, "task_ids": ["task"], "run_ids": ["run"]}


@pytest.mark.skipif(not AIRFLOW_3, reason="only 3.3 calls on_kill, which needs the try")
@pytest.mark.parametrize("logical_date", [datetime(2026, 11, 1, tzinfo=timezone.utc), None], ids=["date", "none"])
@pytest.mark.parametrize(("run_id", "expected"), [("run", 3), ("another run", None), (None, None)])
def test_the_current_try_is_read_from_the_latest_run_up_to_this_one(monkeypatch, logical_date, run_id, expected):
    from airflow.sdk.execution_time import task_runner

    messages = []
    found = run_id and SimpleNamespace(run_id=run_id, try_number=3)
    comms = SimpleNamespace(send=lambda message: messages.append(message) or SimpleNamespace(task_instance=found))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    assert _compat.current_try(FakeTaskInstance(), "queued", logical_date) == expected
    (message,) = messages
    assert (message.dag_id, message.task_id, message.map_index, message.state) == ("dag", "task", -1, "queued")
    assert message.logical_date == (logical_date and logical_date + timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("base_url", "is_known"),
    [
        ("https://airflow.example", True),
        ("http://localhost:8080", False),
        ("https://user:password@airflow.example", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_the_page_of_a_task_is_known_if_airflow_knows_its_own_address(monkeypatch, base_url, is_known):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL" if AIRFLOW_3 else "AIRFLOW__WEBSERVER__BASE_URL", base_url)
    ti = FakeTaskInstance()
    assert _compat.task_url(ti) is None, "Airflow 3.0 does not give a task the address"
    ti.log_url = f"{base_url}/dags/dag/runs/run/tasks/task"
    assert _compat.task_url(ti) == (ti.log_url if is_known else None)
