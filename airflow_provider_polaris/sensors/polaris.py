"""The sensors: this is where a DAG file imports them from."""

from __future__ import annotations

from airflow_provider_polaris.sensors.job import PolarisJobSensor
from airflow_provider_polaris.sensors.table import PolarisTableSensor

__all__ = ["PolarisJobSensor", "PolarisTableSensor"]
