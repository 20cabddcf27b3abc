"""The DuckDB database behind the local Polaris, which can reach nothing but its own folder."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_polaris.local.engine.intervals import Span
from airflow_provider_polaris.local.engine.sql.druid_names import logical, physical, quoted
from airflow_provider_polaris.local.engine.sql.druid_time import within

if TYPE_CHECKING:
    import duckdb

#: The most memory that the database takes if nothing else is said. What needs more is kept in files.
MEMORY = "512MB"
_MEMORY = re.compile(r"\d{1,6}(\.\d+)?(MB|GB)")
#: A moment in ISO 8601 with days, as Druid's TIME_PARSE reads it: a date, a time after ``T`` or a space, an offset.
_DATE = "[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?"
_TIME = "[T ][0-9]{2}(:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?)?"
_OFFSET = "(Z|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)?"
#: The most common form, which DuckDB reads as it is, ten times as fast. It has no part of a millisecond to cut.
_COMMON = "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,3})?Z?"
#: Of a moment that DuckDB does not read as it is: the missing parts are added.
_COMPLETE = (
    "CASE WHEN length(d) = 4 THEN d || '-01-01' WHEN length(d) = 7 THEN d || '-01' ELSE d END || ' ' || "
    "CASE WHEN t = '' THEN '00:00:00' WHEN length(t) = 3 THEN t[2:] || ':00:00' WHEN length(t) = 6 THEN t[2:] || ':00' "
    "ELSE replace(t[2:], ',', '.') END"
)

#: The longest text that an expression may make, in characters. DuckDB does not count such a text as its memory, and
#: cannot be interrupted while it makes the text.
MAX_TEXT = 4_000_000


def _fitting(length: str, argument: str) -> str:
    """Return an argument of a function, or an error if the function's text would be too long.

    DuckDB evaluates a branch of CASE that it does not need if all its parts are constant. It needs every argument.
    """
    message = f"A text would have more than {MAX_TEXT:,} characters"
    return f"CASE WHEN {length} > {MAX_TEXT} THEN error('{message}') ELSE {argument} END"


def _pad(function: str) -> str:
    """Return the macro of LPAD or RPAD. An empty padding adds nothing."""
    return f"""
CREATE OR REPLACE MACRO druid_{function}(a, n, b) AS CASE WHEN b = '' THEN left(a, CAST(n AS INTEGER))
    ELSE {function}(a, CAST({_fitting("n", "n")} AS INTEGER), CASE WHEN b = '' THEN ' ' ELSE b END) END;"""


_MACROS = f"""
CREATE OR REPLACE MACRO druid_complete(d, t, o) AS date_trunc('milliseconds', timezone('UTC', TRY_CAST(
    {_COMPLETE} || CASE WHEN o = '' THEN 'Z' ELSE o END AS TIMESTAMPTZ)));
CREATE OR REPLACE MACRO druid_time_parse(s) AS CASE
    WHEN regexp_full_match(s, '{_COMMON}') THEN TRY_CAST(s AS TIMESTAMP)
    WHEN regexp_full_match(s, '{_DATE}({_TIME}{_OFFSET})?') THEN druid_complete(
    regexp_extract(s, '^{_DATE}'), regexp_extract(s, '{_TIME}'),
    regexp_extract(s, '[T ][0-9:.,]*{_OFFSET}$', 1)) END;
CREATE OR REPLACE MACRO druid_to_timestamp(x) AS CASE
    WHEN typeof(x) IN ('TIMESTAMP', 'DATE', '"NULL"') THEN TRY_CAST(x AS TIMESTAMP)
    WHEN typeof(x) = 'VARCHAR' THEN druid_time_parse(CAST(x AS VARCHAR))
    ELSE make_timestamp(TRY_CAST(CAST(x AS VARCHAR) AS BIGINT) * 1000) END;
CREATE OR REPLACE MACRO druid_to_long(x) AS CASE
    WHEN typeof(x) IN ('TIMESTAMP', 'DATE') THEN epoch_ms(TRY_CAST(CAST(x AS VARCHAR) AS TIMESTAMP))
    WHEN typeof(x) IN ('DOUBLE', 'FLOAT') THEN TRY_CAST(trunc(TRY_CAST(x AS DOUBLE)) AS BIGINT)
    WHEN typeof(x) = 'VARCHAR' AND NOT regexp_full_match(CAST(x AS VARCHAR), '[+-]?[0-9]+')
        THEN TRY_CAST(trunc(TRY_CAST(x AS DOUBLE)) AS BIGINT)
    ELSE TRY_CAST(x AS BIGINT) END;
CREATE OR REPLACE MACRO druid_concat(a, b) AS a || {_fitting("length(a) + length(b)", "b")};
CREATE OR REPLACE MACRO druid_repeat(a, n) AS repeat(a, {_fitting("length(a)::HUGEINT * n", "n")});
CREATE OR REPLACE MACRO druid_replace(a, b, c) AS replace(a, b, {
    _fitting("CASE WHEN contains(a, b) THEN (length(a) + 1)::HUGEINT * (length(c) + 1) ELSE 0 END", "c")
});
{_pad("lpad")}
{_pad("rpad")}
CREATE OR REPLACE MACRO druid_mv_to_array(x) AS CASE
    WHEN x IS NULL THEN NULL
    WHEN x[1] = '[' AND json_valid(x) THEN from_json(x, '["VARCHAR"]')
    ELSE [x] END;
"""


class Database:
    """The rows of all tables. The database is opened when it is first needed: many tests load no row.

    :param folder: returns the folder of its files.
    :param memory: the most memory that it takes, such as ``512MB``. What needs more is kept in the folder.
    :raises ValueError: for a memory that is no number of MB or GB.
    """

    def __init__(self, folder: Callable[[], Path], memory: str = MEMORY) -> None:
        if not _MEMORY.fullmatch(memory):
            raise ValueError(f"memory must be a number of MB or GB, such as {MEMORY}, not {memory!r}")
        self._folder = folder
        self._memory = memory
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        #: Held while the rows of a table and their number change.
        self.writing = threading.RLock()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a new connection to the database, with temporary tables of its own."""
        with self._lock:
            if self._connection is None:
                self._connection = _open(self._folder(), self._memory)
            return self._connection.cursor()

    @contextmanager
    def cursor_if_open(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Return a new connection, ``None`` if the database has not been opened: then it has no rows."""
        if self._connection is None:
            yield None
            return
        with self.cursor() as cursor:
            yield cursor

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def insert(
        self, cursor: duckdb.DuckDBPyConnection, table: str, columns: Sequence[tuple[str, str]], rows: str
    ) -> None:
        """Add rows to a table. The table and its columns are made if they do not exist.

        An empty table is made anew: the types of its columns may have changed.

        :param columns: the name of each column, and its type in DuckDB.
        :param rows: the query that gives the rows.
        """
        name = quoted(table)
        stored = ", ".join(f"{quoted(column)} {kind}" for column, kind in columns)
        if self.has(cursor, table) and not cursor.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchall():
            cursor.execute(f"DROP TABLE {name}")
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {name} ({stored})")
        for column, kind in columns:
            cursor.execute(f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {quoted(column)} {kind}")
        cursor.execute(f"INSERT INTO {name} ({', '.join(quoted(column) for column, _ in columns)}) {rows}")

    def delete(self, cursor: duckdb.DuckDBPyConnection | None, table: str, spans: Sequence[Span]) -> None:
        """Delete the rows of a table in these spans of time, all rows if there are none.

        :param cursor: ``None`` if the database has not been opened.
        """
        if cursor is None or not self.has(cursor, table):
            return
        cursor.execute(f"DELETE FROM {quoted(table)} WHERE {within(quoted('__time'), spans)}")

    def drop(self, cursor: duckdb.DuckDBPyConnection | None, table: str) -> None:
        """Delete a table with its rows."""
        if cursor is not None:
            cursor.execute(f"DROP TABLE IF EXISTS {quoted(table)}")

    def has(self, cursor: duckdb.DuckDBPyConnection, table: str) -> bool:
        """Return whether a table has had rows."""
        return bool(self.columns(cursor, table))

    def columns(self, cursor: duckdb.DuckDBPyConnection, table: str) -> set[str]:
        """Return the names of the columns in which a table has had rows; none if it has had no rows."""
        found = cursor.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = $1", [physical(table)])
        return {logical(name) for (name,) in found.fetchall()}


def _open(folder: Path, memory: str) -> duckdb.DuckDBPyConnection:
    """Open the database in a folder, or make it. It reaches no other file, and its settings cannot be changed.

    The import takes a tenth of a second, which only a local Polaris that loads rows needs.
    """
    import duckdb

    connection = duckdb.connect(
        folder / "tables.duckdb",
        config={
            "memory_limit": memory,
            "threads": 2,
            "max_temp_directory_size": "4GB",
            "temp_directory": str(folder / "tmp"),
            "allow_community_extensions": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        },
    )
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET GLOBAL integer_division = true")
    connection.execute(_MACROS)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection
