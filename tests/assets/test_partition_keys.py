"""A task with ``partition_key`` fires events of that partition, where Airflow has partitions: from 3.3 on."""

from __future__ import annotations

import uuid

import pytest
from airflow import __version__ as airflow_version
from airflow.utils.session import create_session

from airflow_provider_polaris._compat import asset_class
from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor, PolarisTableSensor
from tests.support.airflow_versions import AIRFLOW_3, EmptyOperator, a_dag, run_dag, store_dag
from tests.support.run_task import run_task
from tests.support.specs import SQL

HAS_PARTITIONS = tuple(map(int, airflow_version.split(".")[:2])) >= (3, 3)
in_a_dag = [
    pytest.mark.usefixtures("airflow_db"),
    pytest.mark.filterwarnings("ignore"),  # warnings of Airflow itself while it runs a DAG
]


def task_of(kind, polaris, **options):
    done = {"executionStatus": "completed", "health": {"status": "ok"}, "target": {"tableName": "orders"}}
    if kind == "create":
        polaris.next_job("complete", table="by_sql")
        return PolarisCreateJobOperator(task_id="t", job_spec=SQL, poll_interval=0.1, **options)
    job_id = polaris.add_job(type="batch", completedTimestamp="2099-01-01T00:00:00Z", **done)
    if kind == "sensor":
        return PolarisJobSensor(task_id="t", job_id=job_id, poke_interval=0.1, **options)
    return PolarisTableSensor(task_id="t", table="orders", completed_after="2026-01-01", poke_interval=0.1, **options)


def events_of(uri):
    """Return the extra and the partition of each event of an asset."""
    if AIRFLOW_3:
        from airflow.models.asset import AssetEvent, AssetModel
    else:
        from airflow.models.dataset import DatasetEvent as AssetEvent
        from airflow.models.dataset import DatasetModel as AssetModel
    owner = AssetEvent.asset_id if AIRFLOW_3 else AssetEvent.dataset_id
    with create_session() as session:
        events = session.query(AssetEvent).join(AssetModel, AssetModel.id == owner).filter(AssetModel.uri == uri)
        return [(event.extra, getattr(event, "partition_key", None)) for event in events]


@pytest.mark.parametrize("kind", ["create", "sensor", "table sensor"])
class TestInADag:
    pytestmark = in_a_dag

    def test_the_event_of_an_outlet_has_the_rendered_partition(self, polaris, task_log, kind):
        uri = f"x://{uuid.uuid4().hex}/orders"
        with a_dag() as dag:
            task_of(kind, polaris, partition_key="day-{{ 1 + 1 }}", outlets=[asset_class()(uri)])
        assert run_dag(dag).tasks["t"] == "success"
        ((extra, partition),) = events_of(uri)
        assert extra["polaris_job"]["execution_status"] == "completed"
        assert partition == ("day-2" if HAS_PARTITIONS else None)
        warnings = [line for line in task_log() if "partition_key is ignored" in line]
        assert len(warnings) == (0 if HAS_PARTITIONS else 1)

    def test_without_the_option_an_event_has_no_partition(self, polaris, task_log, kind):
        uri = f"x://{uuid.uuid4().hex}/orders"
        with a_dag() as dag:
            task_of(kind, polaris, outlets=[asset_class()(uri)])
        assert run_dag(dag).tasks["t"] == "success"
        assert [partition for _, partition in events_of(uri)] == [None]
        assert not [line for line in task_log() if "partition_key is ignored" in line]


@pytest.mark.skipif(not HAS_PARTITIONS, reason="Airflow has partitions from 3.3 on")
@pytest.mark.parametrize(("key", "starts"), [(None, True), ("2026-11-01", False)], ids=["no key", "a key"])
class TestAConsumerWithoutPartitions:
    pytestmark = in_a_dag

    def test_it_starts_only_on_an_event_without_a_partition(self, polaris, key, starts):
        from airflow.models.asset import AssetDagRunQueue

        asset = asset_class()(f"x://{uuid.uuid4().hex}/orders")
        with a_dag(schedule=[asset], is_paused_upon_creation=False) as consumer:
            EmptyOperator(task_id="report")
        store_dag(consumer)
        with a_dag() as dag:
            task_of("sensor", polaris, partition_key=key, outlets=[asset])
        assert run_dag(dag).tasks["t"] == "success"
        with create_session() as session:
            queued = session.query(AssetDagRunQueue).filter_by(target_dag_id=consumer.dag_id).count()
        assert bool(queued) == starts


@pytest.mark.parametrize("key", ["", "  ", "x" * 251, 20261101], ids=["empty", "blank", "too long", "a number"])
@pytest.mark.parametrize("kind", ["create", "sensor", "table sensor"])
def test_a_key_that_airflow_would_refuse_fails_the_task_before_anything_is_sent(polaris, kind, key):
    task = task_of(kind, polaris, partition_key=key)
    outcome = run_task(lambda: task)
    assert outcome.kind == "PolarisOptionInvalid"
    assert "partition_key must be a text of 1 to 250 characters" in str(outcome.error)
    assert not polaris.requests


@pytest.mark.parametrize("kind", ["create", "sensor", "table sensor"])
def test_a_key_that_renders_to_none_fails_the_task(polaris, kind):
    task = task_of(kind, polaris, partition_key="{{ none }}")
    task.partition_key = None
    outcome = run_task(lambda: task)
    assert "partition_key was given, and rendered to None" in str(outcome.error)


@pytest.mark.skipif(not HAS_PARTITIONS, reason="Airflow has partitions from 3.3 on")
def test_the_longest_key_is_that_of_airflow():
    from airflow.sdk.execution_time.context import OutletEventAccessor

    from airflow_provider_polaris.waiting.task_base import MAX_PARTITION_KEY

    limits = {field.name: field.default for field in OutletEventAccessor.__attrs_attrs__}
    assert limits["_PARTITION_KEY_MAX_LENGTH"] == MAX_PARTITION_KEY
