"""The operators: this is where a DAG file imports them from."""

from __future__ import annotations

from airflow_provider_polaris.operators.cancel import PolarisCancelJobOperator
from airflow_provider_polaris.operators.create import PolarisCreateJobOperator
from airflow_provider_polaris.operators.files import PolarisDeleteFilesOperator, PolarisUploadOperator
from airflow_provider_polaris.operators.queries import PolarisQueryOperator
from airflow_provider_polaris.operators.streams import PolarisStreamOperator, PolarisUpdateJobOperator

__all__ = [
    "PolarisCancelJobOperator",
    "PolarisCreateJobOperator",
    "PolarisDeleteFilesOperator",
    "PolarisQueryOperator",
    "PolarisStreamOperator",
    "PolarisUpdateJobOperator",
    "PolarisUploadOperator",
]
