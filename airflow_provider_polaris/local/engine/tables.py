"""The tables of a local Polaris, and how completed jobs change them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_polaris.local.engine.intervals import Span, contains, overlap, spans_of
from airflow_provider_polaris.local.engine.timestamps import timestamp

#: The fields that the summaries in the list of tables lack.
NOT_IN_SUMMARY = {"schema", "queryableSchema", "clusteringColumns"}

Rows = Mapping[Span | None, int]


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
    #: Fields that a test has set. They override all others.
    fields: dict[str, Any] = field(default_factory=dict)
    #: Changes of those fields to make, one for each further request for the table.
    script: list[dict[str, Any]] = field(default_factory=list)

    def add_column(self, name: str, kind: str, *, is_measure: bool) -> None:
        """Add a column to the schema if the table does not have it."""
        if any(column["name"] == name for column in self.body["queryableSchema"]):
            return
        role = {"type": "measure" if is_measure else "dimension"} if self.body["type"] == "aggregate" else {}
        self.body["schema"].append({**role, "name": name, "dataType": kind})
        self.body["queryableSchema"].append({"name": name, "dataType": kind, "isDiscovered": False})

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
            "partitioningGranularity": "day",
            "schemaMode": "flexible",
            "schema": [],
            "queryableSchema": [],
            "clusteringColumns": [],
        }
        table = self._tables[name] = StoredTable(body | fields)
        return table

    def drop(self, name: str) -> None:
        """Remove a table."""
        self._tables.pop(name, None)

    def granularities(self) -> dict[str, str]:
        """Return the granularity by time of each table, by name."""
        field = "partitioningGranularity"
        return {name: table.fields.get(field, table.body[field]) for name, table in self._tables.items()}

    def measures(self, name: str) -> set[str]:
        """Return the names of the columns that a table aggregates; none if there is no such table."""
        schema = self._tables[name].body["schema"] if name in self._tables else []
        return {column["name"] for column in schema if column.get("type") == "measure"}

    def load(
        self,
        name: str,
        rows: Rows | None,
        size: int,
        *,
        replaced: list[str] | None,
        columns: Iterable[tuple[str, str, bool]] = (),
    ) -> None:
        """Add a completed job's rows to a table. They can be queried some time later.

        :param rows: the number of rows of each partition; ``None`` if the local Polaris cannot count them.
        :param replaced: the intervals that the job replaces; an empty list for all data, ``None`` to append.
        :param columns: the name and the type of each column that the job writes, and whether it is aggregated.
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
        self._changed(table, before)

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

    def _changed(self, table: StoredTable, total_before: int | None) -> None:
        is_queryable = time.monotonic() >= table.available_at
        table.total_before = total_before if is_queryable else table.total_before
        table.available_at = time.monotonic() + self.available_after
        table.body["modifiedOnTimestamp"] = timestamp()

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
