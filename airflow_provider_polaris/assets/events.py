"""The loads behind the asset events that started a DAG run, whichever task or watcher fired them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def polaris_loads(events: Any) -> list[dict[str, Any]]:
    """Return the dict of each load behind the events of a DAG run, each job once, in the order of the events.

    A task of this provider puts the dict of its job into the event of its outlet, as ``extra["polaris_job"]``. A
    ``PolarisLoadsTrigger`` puts it into the payload. Several events may start one run. A watcher may repeat an event,
    and the watcher and a task may both fire one for the same job. Events of other systems are left out.

    :param events: ``triggering_asset_events`` of the context, ``triggering_dataset_events`` on Airflow 2.11, or the
        events of one asset.
    """
    loads: dict[str, dict[str, Any]] = {}
    for event in _flat(events):
        extra = getattr(event, "extra", None) or {}
        load = extra.get("payload") if extra.get("from_trigger") else extra.get("polaris_job")
        if isinstance(load, Mapping) and isinstance(load.get("job_id"), str):
            loads.setdefault(load["job_id"], dict(load))
    return list(loads.values())


def _flat(events: Any) -> Iterable[Any]:
    if events is None:
        return []
    if hasattr(events, "values"):  # by asset; Airflow 3 has a mapping of its own, which is no Mapping
        return [event for of_one in events.values() for event in of_one]
    return list(events)
