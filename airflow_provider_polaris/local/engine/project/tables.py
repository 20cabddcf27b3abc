"""The tables of a local Polaris, and how completed jobs change them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_polaris.local.engine.intervals import (
    BEGIN,
    END,
    EPOCH,
    Span,
    contains,
    merged,
    overlap,
    shifted,
    span_of,
    spans_of,
)
from airflow_provider_polaris.local.engine.timestamps import now, timestamp

#: The fields that the summaries in the list of tables lack.
NOT_IN_SUMMARY = {"schema", "queryableSchema", "clusteringColumns", "queryGranularity", "timeResolution"}

#: The fields of a table that an update replaces. A field that the update lacks gets its default.
_DEFAULTS: Mapping[str, Any] = {
    "clusteringColumns": [],
    "partitioningGranularity": "day",
    "schema": [],
    "schemaMode": "flexible",
}
_OPTIONAL = ("description", "queryGranularity", "storagePolicy", "timeResolution")
#: The fields of a column that a table keeps.
_COLUMN = ("type", "name", "dataType")

Rows = Mapping[Span | None, int]


class TableColumns(NamedTuple):
    """What a job has to know of the columns of its table.

    :param kinds: the type of each column, by name.
    :param declared: the names of the columns of the schema.
    :param measures: the names of the columns that the table aggregates.
    :param is_strict: whether a job can write only declared columns.
    :param is_aggregate: whether rows with equal dimensions become one row.
    :param resolution: the ISO 8601 period to whose start timestamps are cut, ``None`` if they are not.
    """

    kinds: Mapping[str, str] = {}
    declared: frozenset[str] = frozenset()
    measures: frozenset[str] = frozenset()
    is_strict: bool = False
    is_aggregate: bool = False
    resolution: str | None = None


@dataclass
class StoredTable:
    """A table: its constant fields, and its number of rows by partition. The partition is ``None`` if it is unknown."""

    body: dict[str, Any]
    rows: dict[Span | None, int] = field(default_factory=dict)
    #: Whether ``rows`` has all rows. The local Polaris does not count the rows of some jobs.
    is_counted: bool = True
    bytes: int = 0
    #: When the rows of the last job can be queried, on the monotonic clock.
    available_at: float = 0.0
    #: How many rows can be queried until then; ``None`` if that is unknown.
    total_before: int | None = 0
    #: Whether each column that a job writes is added to the schema. If a user has set the schema, none is.
    is_declared_by_jobs: bool = True
    #: Fields that a test has set. They override all others.
    fields: dict[str, Any] = field(default_factory=dict)
    #: Changes of those fields to make, one for each further request for the table.
    script: list[dict[str, Any]] = field(default_factory=list)

    def add_column(self, name: str, kind: str, *, is_measure: bool) -> None:
        """Add a column to the schema if the table does not have it."""
        if any(column["name"] == name for column in self.body["queryableSchema"]):
            return
        if self.is_declared_by_jobs:
            role = {"type": "measure" if is_measure else "dimension"} if self.body["type"] == "aggregate" else {}
            self.body["schema"].append({**role, "name": name, "dataType": kind})
        is_discovered = not self.is_declared_by_jobs and name != "__time"
        self.body["queryableSchema"].append({"name": name, "dataType": kind, "isDiscovered": is_discovered})

    def update(self, body: Mapping[str, Any]) -> None:
        """Replace the fields that a user can change. The body has no fault."""
        for name in _OPTIONAL:
            self.body.pop(name, None)
        changes = {name: body[name] for name in (*_DEFAULTS, *_OPTIONAL) if body.get(name) is not None}
        self.body |= {**_DEFAULTS, **changes}
        schema = [{key: column[key] for key in _COLUMN if key in column} for column in self.body["schema"]]
        declared = [{"name": one["name"], "dataType": one["dataType"], "isDiscovered": False} for one in schema]
        names = {column["name"] for column in schema}
        kept = [column for column in self.body["queryableSchema"] if column["name"] not in names]
        self.body |= {
            "schema": schema,
            "queryableSchema": [*declared, *(kept if self.total != 0 else [])],
        }
        self.is_declared_by_jobs = False

    def forget_discovered_columns(self) -> None:
        """Remove the columns that the schema lacks, as the service does if a table has no rows any more."""
        columns = self.body["queryableSchema"]
        self.body["queryableSchema"] = [column for column in columns if not column.get("isDiscovered")]

    def columns(self) -> TableColumns:
        """Return what a job has to know of the columns."""
        schema = self.body["schema"]
        return TableColumns(
            kinds={column["name"]: column["dataType"] for column in self.body["queryableSchema"]},
            declared=frozenset(column["name"] for column in schema),
            measures=frozenset(column["name"] for column in schema if column.get("type") == "measure"),
            is_strict=self.body["schemaMode"] == "strict",
            is_aggregate=self.body["type"] == "aggregate",
            resolution=resolution_of(self.body),
        )

    @property
    def total(self) -> int | None:
        """The number of rows, ``None`` if it is unknown."""
        return sum(self.rows.values()) if self.is_counted else None


class Tables:
    """All tables of a project. A caller holds the store's lock.

    :param available_after: seconds from a job's end until its rows can be queried.
    """

    def __init__(self, user: Mapping[str, Any], available_after: float) -> None:
        self.available_after = available_after
        self._user = user
        self._tables: dict[str, StoredTable] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._tables

    def __getitem__(self, name: str) -> StoredTable:
        return self._tables[name]

    def get(self, name: str) -> StoredTable | None:
        """Return a table, ``None`` if there is none of this name."""
        return self._tables.get(name)

    def put(self, name: str, table: StoredTable | None) -> None:
        """Store a table under its name; ``None`` removes the table."""
        self._tables.pop(name, None)
        if table is not None:
            self._tables[name] = table

    def id_of(self, name: str) -> str | None:
        """Return a table's id, ``None`` if there is no such table."""
        return self._tables[name].body["id"] if name in self._tables else None

    def add(self, name: str, **fields: Any) -> StoredTable:
        """Return the table of this name; add it, empty and available, if there is none."""
        if name in self._tables:
            return self._tables[name]
        now = timestamp()
        body = {
            "id": str(uuid.uuid4()),
            "name": name,
            "type": "detail",
            "version": 0,
            "createdByUser": self._user,
            "createdOnTimestamp": now,
            "modifiedByUser": self._user,
            "modifiedOnTimestamp": now,
            **_DEFAULTS,
            "schema": [],
            "queryableSchema": [],
        }
        table = self._tables[name] = StoredTable(body | fields)
        return table

    def create(self, body: Mapping[str, Any]) -> StoredTable:
        """Add the table of a body that has no fault. There is no table of its name."""
        table = self.add(body["name"], type=body["type"])
        table.update(body)
        return table

    def update(self, name: str, body: Mapping[str, Any]) -> StoredTable:
        """Replace the fields of a table that a user can change, and return the table. The body has no fault."""
        table = self._tables[name]
        table.update(body)
        table.body |= {
            "version": table.body["version"] + 1,
            "modifiedByUser": self._user,
            "modifiedOnTimestamp": timestamp(),
        }
        return table

    def drop(self, name: str) -> None:
        """Remove a table."""
        self._tables.pop(name, None)

    def granularities(self) -> dict[str, str]:
        """Return the granularity by time of each table, by name."""
        field = "partitioningGranularity"
        return {name: table.fields.get(field, table.body[field]) for name, table in self._tables.items()}

    def columns(self, name: str) -> TableColumns:
        """Return what a job has to know of the columns of its table. There may be no such table yet."""
        return self._tables[name].columns() if name in self._tables else TableColumns()

    def load(
        self,
        name: str,
        rows: Rows | None,
        size: int,
        *,
        replaced: list[str] | None,
        columns: Iterable[tuple[str, str, bool]] = (),
        at_once: bool = False,
    ) -> None:
        """Add a completed job's rows to a table. They can be queried some time later.

        :param rows: the number of rows of each partition; ``None`` if the local Polaris cannot count them.
        :param replaced: the intervals that the job replaces; an empty list for all data, ``None`` to append.
        :param columns: the name and the type of each column that the job writes, and whether it is aggregated.
        :param at_once: whether the rows can be queried from now on.
        """
        table = self.add(name)
        before = table.total
        for column, kind, is_measure in columns:
            table.add_column(column, kind, is_measure=is_measure)
        if replaced is not None:
            self._remove(table, replaced, in_whole_partitions=False)
        for partition, count in (rows or {}).items():
            table.rows[partition] = table.rows.get(partition, 0) + count
        table.is_counted = table.is_counted and rows is not None
        table.bytes = size + (table.bytes if replaced != [] else 0)
        self._changed(table, before, at_once=at_once)

    def delete(self, name: str, intervals: list[str]) -> int | None:
        """Delete the partitions that overlap these intervals, as the service does; all of them if there are none.

        :returns: the number of deleted rows, ``None`` if the local Polaris cannot count them.
        """
        table = self._tables.get(name)
        if table is None:
            return 0  # another job has dropped it
        before, was_counted = table.total, table.is_counted
        left = sum(table.rows.values())
        self._remove(table, intervals, in_whole_partitions=True)
        self._changed(table, before)
        return left - sum(table.rows.values()) if was_counted and table.is_counted else None

    def expired(self) -> dict[str, list[Span]]:
        """Return the partitions that the storage policy of their table does not retain, by the name of the table."""
        found = {}
        for name, table in self._tables.items():
            if policy := (table.body.get("storagePolicy") or {}).get("retain"):
                spans = _retained(policy)
                found[name] = [one for one in table.rows if one is not None and not overlap(spans, one)]
        return {name: partitions for name, partitions in found.items() if partitions}

    def remove(self, name: str, partitions: Iterable[Span]) -> None:
        """Remove partitions of a table. The table stays as available as it is."""
        table = self._tables[name]
        for partition in partitions:
            del table.rows[partition]
        if table.total == 0:
            table.forget_discovered_columns()

    def partitions_in(self, name: str, intervals: list[str]) -> list[Span]:
        """Return the partitions of a table that overlap these intervals, all of them if there are no intervals."""
        table = self._tables.get(name)
        spans = spans_of(intervals)
        found = table.rows if table else {}
        return [one for one in found if one is not None and (not intervals or overlap(spans, one))]

    def _remove(self, table: StoredTable, intervals: list[str], *, in_whole_partitions: bool) -> None:
        if not intervals:
            table.rows.clear()
            table.is_counted = True
            return
        spans = spans_of(intervals)
        for partition in list(table.rows):
            if partition is None:
                table.is_counted = False  # some of these rows may be in the intervals
            elif contains(spans, partition) or (in_whole_partitions and overlap(spans, partition)):
                del table.rows[partition]
            elif overlap(spans, partition):
                table.is_counted = False

    def _changed(self, table: StoredTable, total_before: int | None, *, at_once: bool = False) -> None:
        if not at_once:
            is_queryable = time.monotonic() >= table.available_at
            table.total_before = total_before if is_queryable else table.total_before
            table.available_at = time.monotonic() + self.available_after
        table.body["modifiedOnTimestamp"] = timestamp()
        if table.total == 0:
            table.forget_discovered_columns()

    def poll(self, name: str) -> dict[str, Any]:
        """Return a table for a request. A scripted table changes with each request."""
        table = self._tables[name]
        if table.script:
            table.fields.update(table.script.pop(0))
        return self._as_of_now(table)

    def _as_of_now(self, table: StoredTable) -> dict[str, Any]:
        is_queryable = time.monotonic() >= table.available_at
        total = table.total if is_queryable else table.total_before
        return {
            **table.body,
            "availability": "available" if is_queryable else "unavailable",
            **({} if total is None else {"totalRows": total}),
            **({"segmentCount": len(table.rows)} if table.is_counted else {}),
            "totalDataSizeBytes": table.bytes,
            "precachedDataSizeBytes": table.bytes,
            **table.fields,
        }

    def poll_all(self) -> list[dict[str, Any]]:
        """Return the summaries of all tables for a request, by name.

        The vendor's OpenAPI document requires both counts there. If they are unknown, a summary has what was counted.
        """
        return [
            {
                "totalRows": sum(self._tables[name].rows.values()),
                "segmentCount": len(self._tables[name].rows),
                **{key: value for key, value in self.poll(name).items() if key not in NOT_IN_SUMMARY},
            }
            for name in sorted(self._tables)
        ]

    def list_all(self) -> list[dict[str, Any]]:
        """Return all tables, by name, without a change of scripted ones."""
        return [self._as_of_now(self._tables[name]) for name in sorted(self._tables)]


_PERIODS: Mapping[str, str | None] = {
    "millisecond": None, "second": "PT1S", "minute": "PT1M", "fifteen_minute": "PT15M", "thirty_minute": "PT30M",
    "hour": "PT1H", "day": "P1D", "week": "P1W", "month": "P1M", "quarter": "P3M", "year": "P1Y",
}  # fmt: skip


def resolution_of(body: Mapping[str, Any]) -> str | None:
    """Return the ISO 8601 period to whose start a table cuts its timestamps; ``None`` if it keeps each millisecond.

    The result may be no period, if the local Polaris does not carry out the resolution.
    """
    if body["type"] != "aggregate":
        return None
    granularity = body.get("queryGranularity") or {"granularity": body.get("timeResolution") or "millisecond"}
    if "period" in granularity:
        return str(granularity["period"])
    return _PERIODS.get(granularity["granularity"], granularity["granularity"])


def _retained(policy: Mapping[str, Any]) -> list[Span]:
    """Return the spans of time of a ``retain`` policy as of now. As the service does, it retains all of the future."""
    moment = int(now() * 1000) + EPOCH
    try:
        start = shifted(moment, policy["period"], -1) if policy.get("period") else moment
    except ValueError:  # longer than all of time
        start = BEGIN
    return merged([*map(span_of, policy.get("intervals") or ()), (start, END)])
