"""Every object that the API calls of this provider return, in one place.

==========================  =============================================================
class                       is
==========================  =============================================================
:class:`Job`                an ingestion job
:class:`ExecutionStatus`    ``job.execution_status``: ``running``, ``completed``, …
:class:`JobType`            ``job.type``: ``batch``, ``sql``, ``streaming``, …
:class:`Health`             ``job.health``: a status, and the code and message of a fault
:class:`HealthStatus`       ``job.health.status``: ``ok``, ``warn`` or ``error``
:class:`JobMetrics`         the row counters of a job
:class:`LogEntry`           one line of a job's log
:class:`Table`              a table, and whether its data can be queried
:class:`File`               an uploaded file
:class:`QueryResult`        the columns and the rows of a query
:class:`QueryColumn`        a column of a result
:class:`Statement`          an asynchronous query
:class:`StatementPage`      a page of its result
==========================  =============================================================

Statuses and types are text. A value that this provider does not know yet is kept as the service sent it.
"""

from __future__ import annotations

from airflow_provider_polaris.api.models import (
    ExecutionStatus,
    File,
    Health,
    HealthStatus,
    Job,
    JobMetrics,
    JobType,
    LogEntry,
    QueryColumn,
    QueryResult,
    Statement,
    StatementPage,
    Table,
)

__all__ = [
    "ExecutionStatus",
    "File",
    "Health",
    "HealthStatus",
    "Job",
    "JobMetrics",
    "JobType",
    "LogEntry",
    "QueryColumn",
    "QueryResult",
    "Statement",
    "StatementPage",
    "Table",
]
