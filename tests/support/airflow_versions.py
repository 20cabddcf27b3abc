"""What the tests must know of Airflow 2.11 and 3.3: how a trigger and its event travel, and what a context holds."""

from __future__ import annotations

import json
import os
import pkgutil
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

from airflow import __version__ as airflow_version

from scripts.run_dag import run_at, states_of, xcom_of

AIRFLOW_3 = airflow_version.startswith("3.")

if AIRFLOW_3:
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferred,
    )
    from airflow.sdk.io import attach
else:
    from airflow import DAG
    from airflow.exceptions import (
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferred,
    )
    from airflow.io.store import attach
    from airflow.operators.empty import EmptyOperator

__all__ = [
    "AIRFLOW_3",
    "DAG",
    "AirflowFailException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "DagRunSeen",
    "EmptyOperator",
    "FakeTaskInstance",
    "TaskDeferred",
    "a_dag",
    "attach",
    "context_of",
    "event_through_the_database",
    "run_dag",
    "store_dag",
    "trigger_through_the_database",
]


class FakeTaskInstance(SimpleNamespace):
    """As much of a task instance as a sensor or an operator touches."""

    def __init__(self) -> None:
        super().__init__(
            pushed={},
            start_date=None,
            max_tries=0,
            try_number=1,
            dag_id="dag",
            task_id="task",
            run_id="run",
            map_index=-1,
        )

    def xcom_push(self, key: str, value: Any, **_: Any) -> None:
        assert key not in self.pushed, f"{key} is pushed twice"
        json.dumps(value)
        self.pushed[key] = value

    def get_first_reschedule_date(self, _context: Any) -> None:
        return None


def a_dag(**options: Any) -> Any:
    """Return a DAG with a name of its own."""
    begin = datetime(2026, 11, 1, tzinfo=timezone.utc)
    return DAG(f"d{uuid.uuid4().hex}", **{"schedule": None, "start_date": begin, "catchup": False, **options})


def context_of(ti: FakeTaskInstance) -> Any:
    return {"ti": ti, "task_instance": ti}


def trigger_through_the_database(trigger: Any) -> Any:
    """Return the trigger as a triggerer makes it from what a worker has deferred with."""
    from airflow.models.trigger import Trigger

    if not AIRFLOW_3:
        row = Trigger.from_object(trigger)
        return pkgutil.resolve_name(row.classpath)(**row.kwargs)
    from airflow.sdk.execution_time.comms import DeferTask
    from airflow.sdk.serde import serialize
    from airflow.serialization.decoders import smart_decode_trigger_kwargs

    classpath, kwargs = trigger.serialize()
    message = DeferTask(
        classpath=classpath, trigger_kwargs=serialize(kwargs), trigger_timeout=None, next_method="x", next_kwargs={}
    )
    row = Trigger(classpath=classpath, kwargs={})
    row.encrypted_kwargs = json.dumps(json.loads(message.model_dump_json())["trigger_kwargs"])
    return pkgutil.resolve_name(row.classpath)(**{k: smart_decode_trigger_kwargs(v) for k, v in row.kwargs.items()})


def event_through_the_database(event: Any) -> Any:
    """Return the event's payload as a worker gets it from what a triggerer has fired."""
    if not AIRFLOW_3:
        from airflow.serialization.serialized_objects import BaseSerialization

        stored = json.dumps(BaseSerialization.serialize({"event": event.payload}))
        return BaseSerialization.deserialize(json.loads(stored))["event"]
    from airflow.sdk.serde import deserialize, serialize

    stored = json.dumps(serialize({"event": event.payload}))
    return deserialize(json.loads(stored))["event"]


@dataclass
class DagRunSeen:
    """What is left of a DAG run in Airflow's database."""

    state: str
    tasks: dict[str, str]
    run: Any

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        """Return the value, ``None`` if there is none."""
        return xcom_of(self.run, task_id, key)


def run_dag(dag: Any, conf: dict[str, Any] | None = None, moment: datetime | None = None) -> DagRunSeen:
    """Run a DAG through Airflow: its scheduler's rules, its database, its task runner, and its triggers, in line.

    :param moment: the logical date, by default now.
    """
    if AIRFLOW_3:
        store_dag(dag)
    else:
        DAG.bulk_write_to_db([dag])  # so that its datasets are known
    run = run_at(dag, conf, moment)
    return DagRunSeen(str(getattr(run.state, "value", run.state)), states_of(run), run)


def store_dag(dag: Any) -> None:
    """Put a DAG that stands in no DAG file into the database: 3.x runs only what is there."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
