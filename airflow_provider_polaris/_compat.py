"""The differences between Airflow 2.11 and 3.x: where names are imported from, and how a task's state is read.

``apache-airflow-providers-common-compat`` serves the same purpose. Its versions in the constraint files of 2.11 and
early 3.x lack names that this provider needs.
"""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator, PokeReturnValue
    from airflow.sdk import Connection as Connection
    from airflow.sdk import Context as Context
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferred,
    )

    AIRFLOW_3 = True
else:
    try:
        from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator, PokeReturnValue

        AIRFLOW_3 = True
    except ImportError:  # Airflow 2.11
        from airflow.hooks.base import BaseHook
        from airflow.models import BaseOperator
        from airflow.models.baseoperatorlink import BaseOperatorLink
        from airflow.sensors.base import BaseSensorOperator, PokeReturnValue

        AIRFLOW_3 = False
    try:
        from airflow.sdk.configuration import conf
    except ImportError:  # Airflow 2.11, and the first 3.x
        from airflow.configuration import conf
    try:
        from airflow.sdk.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowRescheduleException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
            TaskDeferred,
        )
    except ImportError:  # Airflow 2.11, and 3.0 and 3.1, whose SDK does not have all of these yet
        from airflow.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowRescheduleException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
            TaskDeferred,
        )

__all__ = [
    "AIRFLOW_3",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "PokeReturnValue",
    "TaskDeferred",
    "conf",
]


def stats() -> Any:
    """Return what has Airflow's ``incr`` and ``timing``: a module from 3.3 on, a class before."""
    try:
        from airflow.sdk.observability import stats
    except ImportError:  # Airflow 2.11, and the first 3.x
        from airflow.stats import Stats

        return Stats
    return stats if hasattr(stats, "incr") else stats.Stats


def asset_class() -> Any:
    """Return Airflow's class of an asset: ``Asset``, or ``Dataset`` on 2.11."""
    try:
        from airflow.sdk import Asset
    except ImportError:  # Airflow 2.11
        from airflow.datasets import Dataset as Asset  # type: ignore[import-not-found, no-redef]

    return Asset


def object_path(address: str) -> Any:
    """Return the path of an object in Airflow's object storage. The import takes a second."""
    try:
        from airflow.sdk import ObjectStoragePath
    except ImportError:  # Airflow 2.11
        from airflow.io.path import ObjectStoragePath  # type: ignore[import-not-found, no-redef]

    return ObjectStoragePath(address)


def task_state(ti: Any) -> str | None:
    """Return the current state of a task instance in Airflow, ``removed`` if Airflow has no such task instance.

    The API server (3.x) or the database (2.11) returns the state. Their errors are raised as they are.
    """
    if not AIRFLOW_3:
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            columns = session.query(TaskInstance.state).filter_by(
                dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index
            )
            row = columns.one_or_none()
            return row[0] if row else "removed"
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, map_index=ti.map_index, task_ids=[ti.task_id], run_ids=[ti.run_id]
    ).get(ti.run_id, {})
    name = ti.task_id if ti.map_index in (None, -1) else f"{ti.task_id}_{ti.map_index}"
    state = states.get(name, "removed")
    return None if state is None else str(getattr(state, "value", state))


def current_try(ti: Any, state: str, logical_date: datetime | None) -> int | None:
    """Return the number of a task instance's current try, ``None`` if Airflow does not report it.

    Airflow 3.3 and later. A trigger cannot request its own task instance. It can request the latest task instance
    before a logical date. Right after the logical date of its own run, that is its own task instance. Without a logical
    date, Airflow returns some task instance in the given state that has no logical date. The result is ``None`` if that
    task instance belongs to another run.

    :param ti: the trigger's ``task_instance``.
    :param state: the state that :func:`task_state` has just returned.
    :param logical_date: the run's logical date; ``None`` if there is none, or if it is unknown.
    """
    from airflow.sdk.api.datamodels._generated import TaskInstanceState
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import GetPreviousTI, PreviousTIResult
    from pydantic import TypeAdapter

    # In a trigger's process, 3.3.0 to 3.3.2 cannot decode this response. A copy of the connection object can, with a
    # decoder for this response only.
    comms: Any = copy.copy(task_runner.SUPERVISOR_COMMS)
    comms.body_decoder = TypeAdapter(PreviousTIResult)
    answer = comms.send(
        GetPreviousTI(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            logical_date=logical_date + timedelta(microseconds=1) if logical_date else None,
            state=TaskInstanceState(state),
        )
    )
    found = answer.task_instance
    return int(found.try_number) if found is not None and found.run_id == ti.run_id else None


def task_url(ti: Any) -> str | None:
    """Return the web page of a task instance, ``None`` if Airflow does not know its own address. Best effort.

    The address is ``[api] base_url`` (3.x) or ``[webserver] base_url`` (2.11, where localhost is the default). Airflow
    3.0 does not give a task the address of its page.
    """
    try:
        is_known = conf.get("api" if AIRFLOW_3 else "webserver", "base_url", fallback=None)
        url = str(ti.log_url) if is_known else ""
        parts = urlsplit(url)
    except Exception:  # noqa: BLE001 - a page for a person stops no load
        return None
    is_public = parts.hostname not in (None, "localhost") and "@" not in parts.netloc  # no password
    return url if is_public else None


def mapped_arguments(task: Any) -> set[str]:
    """Return the names of the arguments that ``expand`` has given to a task, none if the task is not mapped.

    Airflow has no public function for this. So the function reads private attributes of 2.11 and 3.x.
    """
    if not getattr(task, "_BaseOperator__from_mapped", False):
        return set()
    same_for_all = getattr(task.dag.get_task(task.task_id), "partial_kwargs", {})
    return set(getattr(task, "_BaseOperator__init_kwargs", {})) - set(same_for_all)


def default_deferrable() -> bool:
    """Return the option ``[operators] default_deferrable``."""
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))
