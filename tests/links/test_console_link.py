"""The button on a task opens the job's page or the console. Every task has the button, after every outcome."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import PolarisConnectionMissing
from airflow_provider_polaris.links.polaris import XCOM_KEY, PolarisConsoleLink
from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from tests.support.airflow_versions import AIRFLOW_3, DAG, run_dag

TEMPLATE = "https://console.example/{project_id}/jobs/{job_id}"


@pytest.mark.parametrize(
    ("host", "template", "url"),
    [
        ("https://acme.us-east-1.aws.api.imply.io", None, "https://acme.app.imply.io"),
        ("https://acme.api.imply.io", None, "https://acme.app.imply.io"),
        ("https://gateway.example.com", None, None),
        ("http://127.0.0.1:8181", None, None),
        ("http://127.0.0.1:8181", TEMPLATE, "https://console.example/p/jobs/j"),
        ("https://acme.api.imply.io", "https://x/{job_id}/{unknown}", "https://x/j/{unknown}"),
    ],
)
def test_a_connection_names_the_web_page_of_a_job(host, template, url):
    connection = PolarisConnection(f"{host}/v1/projects/p", "p", "k", job_url_template=template)
    assert connection.job_url("j") == url


@pytest.fixture
def with_template(polaris, monkeypatch):
    connection = json.loads(polaris.connection_json)
    connection["extra"]["job_url_template"] = TEMPLATE
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))
    return polaris


def dag_of(dag_id, *make):
    with DAG(dag_id, schedule=None, start_date=datetime(2026, 11, 1, tzinfo=timezone.utc), catchup=False) as dag:
        for one in make:
            one()
    return dag


def link_of(seen, dag, task_id):
    """Return the address in the UI: on Airflow 3 from the XCom of the link, on 2.11 from the serialized task."""
    if AIRFLOW_3:
        return seen.xcom(task_id, "_link_PolarisConsoleLink")
    from airflow.serialization.serialized_objects import SerializedDAG

    task = SerializedDAG.from_dict(SerializedDAG.to_dict(dag)).get_task(task_id)
    return task.get_extra_links(seen.run.get_task_instance(task_id), PolarisConsoleLink.name)


@pytest.mark.usefixtures("airflow_db")
@pytest.mark.filterwarnings("ignore")  # Airflow's own runner raises warnings here
@pytest.mark.parametrize(
    ("options", "script", "state"),
    [
        ({"deferrable": False}, [{"executionStatus": "completed"}], "success"),
        ({"deferrable": False}, [{"executionStatus": "failed"}], "failed"),
        ({"deferrable": True}, [{}, {}, {"executionStatus": "completed"}], "success"),
        ({"deferrable": True}, [{}, {}, {"executionStatus": "failed"}], "failed"),
        ({"deferrable": True, "timeout": 0.3}, [{}], "failed"),
        ({"deferrable": True, "soft_fail": True}, [{}, {}, {"executionStatus": "canceled"}], "skipped"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_task_has_the_link_after_each_outcome(with_template, options, script, state):
    job_id = with_template.add_job(executionStatus="running")
    with_template.script(job_id, *script)
    dag = dag_of(
        f"link_{abs(hash(str((options, script))))}",
        lambda: PolarisJobSensor(task_id="gate", job_id=job_id, poke_interval=0.1, **options),
    )
    seen = run_dag(dag)
    assert seen.tasks["gate"] == state
    assert link_of(seen, dag, "gate") == f"https://console.example/{with_template.project_id}/jobs/{job_id}"


@pytest.mark.usefixtures("airflow_db")
@pytest.mark.filterwarnings("ignore")  # see above
def test_mapped_tasks_and_cancellations_have_the_link(with_template):
    job_id = with_template.add_job(executionStatus="completed")
    dag = dag_of(
        "link_mapped",
        lambda: PolarisJobSensor.partial(task_id="gate", deferrable=True).expand(job_id=[job_id]),
        lambda: PolarisCancelJobOperator(task_id="cancel", job_id=job_id),
    )
    seen = run_dag(dag)
    assert seen.state == "success"
    url = f"https://console.example/{with_template.project_id}/jobs/{job_id}"
    assert link_of(seen, dag, "cancel") == url
    (mapped,) = [ti for ti in seen.run.get_task_instances() if ti.task_id == "gate"]
    assert mapped.map_index == 0
    if AIRFLOW_3:
        assert seen.xcom("gate", "_link_PolarisConsoleLink") == url
    else:
        assert mapped.xcom_pull(task_ids="gate", key=XCOM_KEY, map_indexes=0) == url


def test_the_message_of_a_refusal_has_the_link(with_template):
    from tests.support.run_task import run_task

    job_id = with_template.add_job(executionStatus="failed")
    outcome = run_task(lambda: PolarisJobSensor(task_id="gate", job_id=job_id))
    *_, address, _advice = str(outcome.error).splitlines()
    assert address == f"https://console.example/{with_template.project_id}/jobs/{job_id}"


def test_get_link_never_raises():
    assert PolarisConsoleLink().get_link(object(), ti_key=None) == ""
    assert PolarisConsoleLink().get_link(None, ti_key=object()) == ""


def test_an_error_while_the_address_is_read_leaves_the_link_empty():
    class Broken:
        @property
        def job_url(self):
            raise RuntimeError("broken")

    assert PolarisConsoleLink().get_link(Broken(), ti_key=None) == ""


def test_an_error_of_the_connection_leaves_the_task_without_an_address():
    """The first call of the task raises the error of the connection."""

    class Hook:
        def job_url(self, job_id):
            raise PolarisConnectionMissing(job_id)

    sensor = PolarisJobSensor(task_id="gate", job_id="j")
    sensor.note_job_url(Hook(), "j", {})
    assert sensor.job_url is None


def test_the_link_is_an_attribute_of_the_class_so_that_mapped_tasks_have_it():
    for operator in (PolarisJobSensor, PolarisCancelJobOperator):
        assert [type(link) for link in operator.operator_extra_links] == [PolarisConsoleLink]
