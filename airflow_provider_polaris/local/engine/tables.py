"""The tables of a local Polaris, and how completed jobs change them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_polaris.local.engine.specs import day_bounds, within
from airflow_provider_polaris.local.engine.timestamps import timestamp

#: The fields that the summaries in the list of tables lack.
NOT_IN_SUMMARY = {"schema", "clusteringColumns"}


@dataclass
class StoredTable:
    """A table: its constant fields, and its number of rows by the ordinal of their day."""

    body: dict[str, Any]
    rows: dict[int, int] = field(default_factory=dict)
    bytes: int = 0
    #: When the rows of the last job can be queried, on the monotonic clock.
    available_at: float = 0.0
    #: How many rows can be queried until then.
    rows_before: int = 0
    #: Fields that a test has set. They override all others.
    fields: dict[str, Any] = field(default_factory=dict)
    #: Changes of those fields to make, one for each further request for the table.
    script: list[dict[str, Any]] = field(default_factory=list)


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
            "clusteringColumns": [],
        }
        table = self._tables[name] = StoredTable(body | fields)
        return table

    def drop(self, name: str) -> None:
        """Remove a table."""
        self._tables.pop(name, None)

    def load(self, name: str, rows: Mapping[int, int], size: int, *, replaced: list[str] | None) -> None:
        """Add a completed job's rows to a table. They can be queried some time later.

        :param rows: the number of rows for each day.
        :param replaced: the intervals that the job replaces; an empty list for all data, ``None`` to append.
        """
        table = self.add(name)
        before = self._visible(table)
        if replaced is not None:
            self._remove(table, replaced)
        for day, count in rows.items():
            table.rows[day] = table.rows.get(day, 0) + count
        table.bytes = size + (table.bytes if replaced != [] else 0)
        self._changed(table, before)

    def delete(self, name: str, intervals: list[str]) -> None:
        """Delete the rows of these intervals; all of them if there are none."""
        table = self._tables.get(name)
        if table is None:
            return  # another job has dropped it
        before = self._visible(table)
        self._remove(table, intervals)
        self._changed(table, before)

    def _remove(self, table: StoredTable, intervals: list[str]) -> None:
        bounds = day_bounds(intervals)
        table.rows = {day: count for day, count in table.rows.items() if bounds and not within(bounds, day)}

    def _changed(self, table: StoredTable, visible_before: int) -> None:
        table.rows_before = visible_before
        table.available_at = time.monotonic() + self.available_after
        table.body["modifiedOnTimestamp"] = timestamp()

    def _visible(self, table: StoredTable) -> int:
        return table.rows_before if time.monotonic() < table.available_at else sum(table.rows.values())

    def poll(self, name: str) -> dict[str, Any]:
        """Return a table for a request. A scripted table changes with each request."""
        table = self._tables[name]
        if table.script:
            table.fields.update(table.script.pop(0))
        return self._as_of_now(table)

    def _as_of_now(self, table: StoredTable) -> dict[str, Any]:
        return {
            **table.body,
            "availability": "unavailable" if time.monotonic() < table.available_at else "available",
            "totalRows": self._visible(table),
            "segmentCount": len(table.rows),
            "totalDataSizeBytes": table.bytes,
            "precachedDataSizeBytes": table.bytes,
            **table.fields,
        }

    def poll_all(self) -> list[dict[str, Any]]:
        """Return the summaries of all tables for a request, by name."""
        return [
            {key: value for key, value in self.poll(name).items() if key not in NOT_IN_SUMMARY}
            for name in sorted(self._tables)
        ]

    def list_all(self) -> list[dict[str, Any]]:
        """Return all tables, by name, without a change of scripted ones."""
        return [self._as_of_now(self._tables[name]) for name in sorted(self._tables)]
