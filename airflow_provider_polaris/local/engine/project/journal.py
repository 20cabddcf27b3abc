"""What a local Polaris keeps over a restart: its state as records, in the same file as the rows of its tables.

One transaction writes the rows of a job and the records that say so. So a server that is killed at any moment has both,
or none of them.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_polaris.local.engine.data.database import Database

if TYPE_CHECKING:
    import duckdb


class Record(NamedTuple):
    """A part of the state.

    :param kind: of the part: ``job``, ``table``, …
    :param value: as JSON has it; ``None`` if the part does not exist any more.
    """

    kind: str
    key: str
    value: Mapping[str, Any] | None


class FolderInUse(Exception):
    """Another local Polaris keeps its state in the same folder."""


class Journal:
    """The records of one folder. Records are only added, so that no two transactions change the same row.

    A caller holds the store's lock.

    :raises FolderInUse: if another local Polaris uses the folder.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise FolderInUse(f"Another local Polaris uses {folder}") from None
        self._cursor = database.cursor()
        self._next = 0

    def read(self) -> list[Record]:
        """Return the last record of each part, in the order of their first ones, and forget all others."""
        execute = self._cursor.execute
        execute("CREATE TABLE IF NOT EXISTS state (number BIGINT, kind VARCHAR, key VARCHAR, value VARCHAR)")
        self._cursor.begin()
        execute(
            "CREATE OR REPLACE TABLE state AS SELECT * FROM (SELECT min(number) AS number, kind, key, "
            "arg_max(value, number) AS value FROM state GROUP BY kind, key) WHERE value <> 'null'"
        )
        self._cursor.commit()
        rows = execute("SELECT number, kind, key, value FROM state ORDER BY number").fetchall()
        self._next = rows[-1][0] + 1 if rows else 0
        return [Record(kind, key, json.loads(value)) for _, kind, key, value in rows]

    def write(self, records: Iterable[Record], cursor: duckdb.DuckDBPyConnection | None = None) -> None:
        """Add records.

        :param cursor: whose transaction they belong to. Without one, they are on the disk when this returns.
        """
        rows = [(number, one.kind, one.key, json.dumps(one.value)) for number, one in enumerate(records, self._next)]
        self._next += len(rows)
        places = ", ".join(["(?, ?, ?, ?)"] * len(rows))
        values = [value for row in rows for value in row]
        (cursor or self._cursor).execute(f"INSERT INTO state VALUES {places}", values)  # noqa: S608 - question marks

    def close(self) -> None:
        """Let another local Polaris use the folder."""
        self._cursor.close()
        self._lock.close()
