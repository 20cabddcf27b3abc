"""The parts of the state of a local Polaris as records, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_polaris.local.engine.data.connections import StoredConnection
from airflow_provider_polaris.local.engine.project.journal import Record
from airflow_provider_polaris.local.engine.project.stored import SHOWN, StoredFile, StoredJob
from airflow_provider_polaris.local.engine.project.tables import StoredTable

#: The fields of a job that never change. They may be large.
_CONSTANT = {"spec", *SHOWN}


def constants_of(job: StoredJob) -> Record:
    """Return what never changes of a job."""
    value = {
        "body": {key: part for key, part in job.body.items() if key in _CONSTANT},
        "is_run": job.is_run,
        "settings": job.settings,
        "granularity": job.granularity,
    }
    return Record("spec", str(job.body["id"]), value)


def state_of(job: StoredJob) -> Record:
    """Return what changes of a job."""
    value = {
        "body": {key: part for key, part in job.body.items() if key not in _CONSTANT},
        "metrics": job.metrics,
        "logs": job.logs,
        "progress": job.progress,
        "changes": job.changes,
    }
    return Record("job", str(job.body["id"]), value)


def job_of(constants: Mapping[str, Any], state: Mapping[str, Any]) -> StoredJob:
    """Return a job."""
    body = constants["body"] | state["body"]
    return StoredJob(**{**constants, **state, "body": body})


def table_record(name: str, table: StoredTable | None) -> Record:
    """Return a table. ``None`` is a table that was dropped."""
    if table is None:
        return Record("table", name, None)
    value = {
        "body": table.body,
        "rows": [[partition, count] for partition, count in table.rows.items()],
        "is_counted": table.is_counted,
        "bytes": table.bytes,
        "is_declared_by_jobs": table.is_declared_by_jobs,
    }
    return Record("table", name, value)


def table_of(value: Mapping[str, Any]) -> StoredTable:
    """Return a table."""
    rows = {None if partition is None else tuple(partition): count for partition, count in value["rows"]}
    return StoredTable(**{**value, "rows": rows})


def file_record(file: StoredFile) -> Record:
    """Return an uploaded file."""
    return Record("file", file.metadata["name"], {"path": file.path.name, "metadata": file.metadata})


def file_of(value: Mapping[str, Any], folder: Path) -> StoredFile:
    """Return an uploaded file.

    :param folder: of the files.
    """
    return StoredFile(folder / value["path"], value["metadata"])


def connection_record(connection: StoredConnection) -> Record:
    """Return a connection, and how far each table has read its events."""
    value = {"body": connection.body, "path": connection.path.name, "positions": connection.positions}
    return Record("connection", connection.body["name"], value)


def connection_of(value: Mapping[str, Any], folder: Path) -> StoredConnection:
    """Return a connection.

    :param folder: of the events.
    """
    connection = StoredConnection(value["body"], folder / value["path"])
    connection.positions = dict(value["positions"])
    return connection
