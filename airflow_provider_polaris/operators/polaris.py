"""The operators: this is where a DAG file imports them from. Each is loaded at its first import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_polaris._lazy import lazy_exports

if TYPE_CHECKING:
    from airflow_provider_polaris.operators.cancel import PolarisCancelJobOperator
    from airflow_provider_polaris.operators.create import PolarisCreateJobOperator
    from airflow_provider_polaris.operators.files import PolarisDeleteFilesOperator, PolarisUploadOperator
    from airflow_provider_polaris.operators.queries import PolarisQueryOperator
    from airflow_provider_polaris.operators.streams import PolarisStreamOperator, PolarisUpdateJobOperator
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "PolarisCancelJobOperator": "cancel",
            "PolarisCreateJobOperator": "create",
            "PolarisDeleteFilesOperator": "files",
            "PolarisQueryOperator": "queries",
            "PolarisStreamOperator": "streams",
            "PolarisUpdateJobOperator": "streams",
            "PolarisUploadOperator": "files",
        },
    )

__all__ = [
    "PolarisCancelJobOperator",
    "PolarisCreateJobOperator",
    "PolarisDeleteFilesOperator",
    "PolarisQueryOperator",
    "PolarisStreamOperator",
    "PolarisUpdateJobOperator",
    "PolarisUploadOperator",
]
