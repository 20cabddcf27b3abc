"""A DAG file that imports the sensor and the operators loads no module that only a running task needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_polaris.operators import polaris as operators
from airflow_provider_polaris.sensors import polaris as sensors
from tests.support.airflow_versions import AIRFLOW_3

HEAVY = (
    "requests",
    "urllib3",
    "httpx",
    "aiohttp",
    "starlette",
    "airflow_provider_polaris.api.models",
    "airflow_provider_polaris.gate.decision",
    "airflow_provider_polaris.gate.options",
    "airflow_provider_polaris.api.transport",
    "airflow_provider_polaris.waiting.job_wait",
    "airflow_provider_polaris.triggers",
    "airflow.triggers",
)
PROGRAM = """
import sys
from airflow.sdk import BaseOperator, BaseSensorOperator, BaseHook, PokeReturnValue
before = set(sys.modules)
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator, PolarisQueryOperator
from airflow_provider_polaris.assets.uris import PolarisTable
PolarisJobSensor(task_id="gate", job_id="j")
PolarisCancelJobOperator(task_id="cancel", job_id="j")
PolarisQueryOperator(task_id="query", sql="SELECT 1", outlets=[PolarisTable("orders", host="h", project_id="p")])
print("\\n".join(sorted(set(sys.modules) - before)))
"""


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2.11 itself loads requests, urllib3 and httpx for every DAG file")
def test_a_dag_file_loads_no_heavy_module():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    added = run.stdout.split()
    assert "airflow_provider_polaris.sensors.polaris" in added
    assert not [name for name in added if f"{name}.".startswith(tuple(f"{heavy}." for heavy in HEAVY))]


def test_a_dag_file_loads_only_the_tasks_that_it_imports():
    program = (
        "import sys; from airflow_provider_polaris.sensors.polaris import PolarisJobSensor;"
        "from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator;"
        "names = [name.removeprefix('airflow_provider_polaris.') for name in sys.modules];"
        "print(*sorted(name for name in names if name.startswith(('operators.', 'sensors.'))))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [
        "operators.create", "operators.polaris", "operators.template_file",
        "sensors.gated_sensor", "sensors.job", "sensors.polaris",
    ]  # fmt: skip


@pytest.mark.parametrize("module", [operators, sensors], ids=["operators", "sensors"])
def test_a_lazy_module_exports_each_name_and_refuses_others(module):
    """A name without a module, or a module without the name, would fail only in the DAG of a user."""
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'PolarisNothing'"):
        module.PolarisNothing  # noqa: B018


def test_the_pytest_plugin_loads_no_heavy_module_and_names_a_missing_extra():
    """Pytest loads the plugin in every environment with the provider, also without the extra ``local``."""
    program = (
        "import sys, airflow_provider_polaris.pytest_plugin as plugin;"
        "heavy = {'airflow', 'starlette', 'uvicorn', 'requests'};"
        "print([name for name in sys.modules if name.split('.')[0] in heavy]);"
        "sys.modules['uvicorn'] = None; next(plugin.local_polaris.__wrapped__())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]"
    assert "pip install 'airflow-provider-polaris[local]'" in run.stderr


def test_the_provider_info_is_read_without_an_import_of_airflow():
    program = (
        "import sys; from airflow_provider_polaris.get_provider_info import get_provider_info; get_provider_info();"
        "print([name for name in sys.modules if name.split('.')[0] in ('airflow', 'requests', 'pendulum')])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
