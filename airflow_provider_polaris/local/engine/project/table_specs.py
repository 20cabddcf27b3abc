"""Check the body of a table before it is created or updated: its form, and the rules that a schema cannot say.

The rules come from the vendor's OpenAPI document of March 2026 and its documentation of tables and storage policies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator

from airflow_provider_polaris.local.engine.project.spec_schemas import TABLE
from airflow_provider_polaris.local.engine.project.specs import (
    MAX_FAULTS,
    SpecFault,
    faults_of_form,
    interval_faults_of,
)
from airflow_provider_polaris.local.engine.project.tables import StoredTable, resolution_of
from airflow_provider_polaris.local.engine.sql.druid_time import TimeError, duckdb_period

_TABLE = Draft202012Validator(TABLE)
#: The time zones in which a day of a time resolution is a day in UTC.
_UTC = (None, "UTC", "Etc/UTC", "Z")

Faults = Iterator[SpecFault]


def form_faults_of_table(body: Any) -> list[SpecFault]:
    """Return the faults of the form of a table, none if it has the fields, types and values that the API documents."""
    return faults_of_form(body, _TABLE, "a table")


def faults_of_new_table(body: Mapping[str, Any]) -> list[SpecFault]:
    """Return the faults of a table whose form has none, none if it can be created."""
    return list(islice(_new(body), MAX_FAULTS))


def faults_of_update(body: Mapping[str, Any], table: StoredTable, *, has_jobs: bool) -> list[SpecFault]:
    """Return the faults of an update whose form has none, none if the table can be updated.

    :param has_jobs: whether a job that is not over writes to the table.
    """
    return list(islice(_update(body, table, has_jobs=has_jobs), MAX_FAULTS))


def _new(body: Mapping[str, Any]) -> Faults:
    if body.get("version"):
        yield SpecFault("version", "A new table has the version 0, or none")
    if body.get("partitioningGranularity") == "week":
        yield SpecFault("partitioningGranularity", "A new table cannot be partitioned by week")
    yield from _rules(body, ())


def _update(body: Mapping[str, Any], table: StoredTable, *, has_jobs: bool) -> Faults:
    for name in ("name", "type"):
        if body[name] != table.body[name]:
            yield SpecFault(name, f"It is {table.body[name]!r}, and cannot be changed")
    if body.get("partitioningGranularity") == "week" != table.body["partitioningGranularity"]:
        yield SpecFault("partitioningGranularity", "A table can no longer be partitioned by week")
    discovered = [column["name"] for column in table.body["queryableSchema"] if column["isDiscovered"]]
    yield from _rules(body, discovered)
    if table.total or has_jobs:
        columns = {column["name"]: column for column in body.get("schema") or []}
        for column in table.body["schema"]:
            name = column["name"]
            if name not in columns:
                yield SpecFault("schema", f"The column {name!r} can be removed only from an empty table without jobs")
            elif any(columns[name].get(key) != value for key, value in column.items()):
                yield SpecFault("schema", f"The column {name!r} can be changed only in an empty table without jobs")
        missing = [name for name in discovered if name not in columns]
        if body.get("schemaMode") == "strict" and missing:
            yield SpecFault("schemaMode", f"The table has columns that its schema lacks: {', '.join(missing)}")


def _rules(body: Mapping[str, Any], discovered: list[str] | tuple[()]) -> Faults:
    columns = body.get("schema") or []
    names = [column["name"] for column in columns]
    for number, column in enumerate(columns):
        is_time = column["name"] == "__time"
        if names.index(column["name"]) != number:
            yield SpecFault(f"schema[{number}].name", "Another column has this name")
        if is_time != (column["dataType"] == "timestamp"):
            yield SpecFault(f"schema[{number}].dataType", "__time has the type timestamp, and no other column has it")
        if is_time and column.get("type") == "measure":
            yield SpecFault(f"schema[{number}].type", "__time must be a dimension")
    measures = [column["name"] for column in columns if column.get("type") == "measure"]
    for number, name in enumerate(body.get("clusteringColumns") or []):
        if name not in ("__time", *names, *discovered) or name in measures:
            yield SpecFault(f"clusteringColumns[{number}]", f"The table has no column {name!r} that is no measure")
    for kind, policy in (body.get("storagePolicy") or {}).items():
        if kind in ("retain", "cached") and policy:
            for number, interval in enumerate(policy.get("intervals") or []):
                yield from interval_faults_of(interval, f"storagePolicy.{kind}.intervals[{number}]")
    if body["type"] == "aggregate":
        yield from _resolution(body)


def _resolution(body: Mapping[str, Any]) -> Faults:
    granularity = body.get("queryGranularity") or {}
    path = "queryGranularity" if granularity else "timeResolution"
    if granularity.get("timeZone") not in _UTC:
        yield SpecFault(f"{path}.timeZone", "A time zone other than UTC is not carried out by the local Polaris")
    if granularity.get("origin"):
        yield SpecFault(f"{path}.origin", "An origin is not carried out by the local Polaris")
    try:
        duckdb_period(resolution_of(body) or "PT1S")
    except TimeError as error:
        yield SpecFault(path, f"{error} is not carried out by the local Polaris")
