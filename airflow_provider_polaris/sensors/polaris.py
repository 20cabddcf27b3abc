"""The sensors: this is where a DAG file imports them from. Each is loaded at its first import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_polaris._lazy import lazy_exports

if TYPE_CHECKING:
    from airflow_provider_polaris.sensors.job import PolarisJobSensor
    from airflow_provider_polaris.sensors.table import PolarisTableSensor
else:
    __getattr__ = lazy_exports(__name__, {"PolarisJobSensor": "job", "PolarisTableSensor": "table"})

__all__ = ["PolarisJobSensor", "PolarisTableSensor"]
