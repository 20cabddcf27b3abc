"""What a task has read and written, as plain data for OpenLineage. Pure: no request, nothing of OpenLineage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_polaris.api.job_spec import table_of
from airflow_provider_polaris.api.models import Job, JobMetrics, JobType
from airflow_provider_polaris.assets.sql_tables import tables_read
from airflow_provider_polaris.assets.uris import DatasetId, Project
from airflow_provider_polaris.gate.decision import Condition, ThresholdCheck, check_each_threshold
from airflow_provider_polaris.gate.options import Gate

#: The most inputs, and the most outputs, of a task in one event. A spec can list many thousands of files.
MAX_DATASETS = 1000


@dataclass(frozen=True)
class Check:
    """A check of a dataset: a threshold of a gate, or a check with SQL.

    :param column: the column that is checked; ``None`` if the check is about the dataset.
    """

    name: str
    passed: bool
    column: str | None = None
    expected: str | None = None
    actual: str | None = None


@dataclass(frozen=True)
class Input:
    """A dataset that a task has read."""

    id: DatasetId
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Output:
    """A dataset that a task has written.

    :param row_count: the rows that the task has written; ``None`` if the number is not known.
    :param size_bytes: the bytes that the task has written; ``None`` if the number is not known.
    :param checks: the thresholds of the task's gate.
    """

    id: DatasetId
    row_count: int | None = None
    size_bytes: int | None = None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class TaskLineage:
    """What a task has read and written.

    :param external_id: the id of the Polaris job, or of the query, that did it.
    """

    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    external_id: str | None = None


def lineage_of_job(
    project: Project,
    job_id: str,
    job: Job | None,
    metrics: JobMetrics | None,
    condition: Condition | None,
    spec: Mapping[str, Any] | None,
) -> TaskLineage:
    """Return the lineage of a task that has created a job, or has waited for it.

    :param job: the job as it was last seen, if it was.
    :param condition: what the task waits for. The thresholds of a gate are checks of a completed job's table.
    :param spec: the job's spec, if the task has one. Only a spec names inputs.
    """
    table = (job and job.table) or (spec and table_of(spec))
    inputs = tuple(map(Input, inputs_of(project, spec))) if spec else ()
    if not table:
        return TaskLineage(inputs, (), job_id)
    has_checks = job is not None and job.has_completed
    checks = check_each_threshold(metrics, condition) if has_checks and isinstance(condition, Gate) else []
    output = Output(project.table(table), row_count=rows_written(metrics), checks=tuple(map(_check_of, checks)))
    return TaskLineage(inputs, (output,), job_id)


def _check_of(check: ThresholdCheck) -> Check:
    actual = None if check.value is None else f"{check.value:.10g}"
    return Check(check.threshold, check.passed, expected=f"{check.limit:.10g}", actual=actual)


def lineage_of_query(project: Project, query_id: str, query: str) -> TaskLineage:
    """Return the lineage of a task that has started a query, whether or not the query has succeeded."""
    inputs = [Input(project.table(name)) for name in tables_read(query)]
    return TaskLineage(tuple(inputs[:MAX_DATASETS]), (), query_id)


def lineage_of_checks(project: Project, table: str, checks: Iterable[Check]) -> TaskLineage:
    """Return the lineage of a task that checks a table with SQL.

    :param table: the table as it stands after FROM. If it is a query, each of its tables is an input.
    """
    found = tuple(checks)
    names = tables_read(f"SELECT * FROM {table}")  # noqa: S608 - nobody runs this query
    return TaskLineage(tuple(Input(project.table(name), found) for name in names))


def lineage_of_upload(project: Project, sources: Mapping[str, str], sizes: Mapping[str, int]) -> TaskLineage:
    """Return the lineage of a task that uploads files.

    :param sources: the path or address of each file, by its name in Polaris.
    :param sizes: the bytes of each file that is in Polaris now, by its name.
    """
    inputs = map(Input, dict.fromkeys(object_id(sources[name]) for name in sizes))
    outputs = [Output(project.file(name), size_bytes=size) for name, size in sizes.items()]
    return TaskLineage(tuple(inputs)[:MAX_DATASETS], tuple(outputs[:MAX_DATASETS]))


def rows_written(metrics: JobMetrics | None) -> int | None:
    """Return ``numRowsPersisted``; if that is not reported, the processed rows, with and without warnings."""
    if metrics is None:
        return None
    if metrics.rows_persisted is not None:
        return metrics.rows_persisted
    counters = (metrics.rows_processed, metrics.rows_processed_with_warning)
    return None if metrics.rows_processed is None else sum(count or 0 for count in counters)


def inputs_of(project: Project, spec: Mapping[str, Any]) -> tuple[DatasetId, ...]:
    """Return what the job of a spec reads: files, objects, connections and tables. None for rows in the spec itself."""
    job_type = spec.get("type")
    if isinstance(job_type, str) and JobType(job_type).is_sql:
        query = spec.get("query")
        found: Iterable[DatasetId] = map(project.table, tables_read(query)) if isinstance(query, str) else ()
    else:
        source = spec.get("source")
        found = _inputs_of_source(project, source) if isinstance(source, Mapping) else ()
    return tuple(dict.fromkeys(found))[:MAX_DATASETS]


def _inputs_of_source(project: Project, source: Mapping[str, Any]) -> Iterator[DatasetId]:
    if source.get("type") == "table":
        yield from map(project.table, _texts([source.get("tableName")]))
        return
    yield from map(project.file, _texts(source.get("fileList")))
    yield from map(object_id, _texts(source.get("uris")))
    connection = source.get("connectionName")
    if not isinstance(connection, str) or source.get("uris"):
        return
    paths = [*_texts(source.get("objects")), *_texts(source.get("prefixes")), *_texts([source.get("pattern")])]
    for path in paths or [""]:
        yield project.connection(connection, path)


def _texts(values: Any) -> list[str]:
    return [value for value in values if isinstance(value, str) and value] if isinstance(values, list) else []


def object_id(address: str) -> DatasetId:
    """Return an object of a store, or a file of a worker: ``s3://BUCKET`` and ``KEY``, or ``file`` and the path.

    A query, which may be a signature, and a user are left out. So is the connection of ``s3://aws_default@bucket/key``.
    """
    if "://" not in address:
        return DatasetId("file", address)
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme == "file":
        return DatasetId("file", parts.path)
    return DatasetId(f"{parts.scheme}://{host}", parts.path.lstrip("/") or "/")
