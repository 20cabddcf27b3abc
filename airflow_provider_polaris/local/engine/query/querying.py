"""Answer queries from the rows of the tables."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_polaris.local.engine.project.store import Store

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_polaris.local.engine.sql.druid_query import Source

#: The longest time that a query may take, in seconds. The service has the same limit.
LIMIT_SECONDS = 60.0
#: How many rows of a result are fetched at once.
FETCHED = 2_000
_SCHEMA = "druid"


class QueryFailure(Exception):
    """A query that has no result.

    :param category: one of the categories that the API documents.
    """

    def __init__(self, category: str, message: str) -> None:
        super().__init__(message)
        self.category = category


class Result(NamedTuple):
    """The columns and the rows of a result.

    :param kinds: the type of each column in DuckDB.
    :param rows: is to be read to its end, or closed.
    """

    names: Sequence[str]
    kinds: Sequence[str]
    rows: Iterator[Sequence[Any]]


class Query:
    """A query that is valid. It reads the rows as of the moment at which it is made.

    :param parameters: for each question mark of the query, its ``type`` and its ``value``.
    :raises QueryFailure: for an invalid query.
    """

    def __init__(self, store: Store, text: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        # The import takes a fifth of a second, which only a local Polaris that gets a query needs.
        from airflow_provider_polaris.local.engine.sql.druid_names import SqlFault
        from airflow_provider_polaris.local.engine.sql.druid_query import translate_query, with_parameters
        from airflow_provider_polaris.local.engine.sql.druid_sql import SqlNotCarriedOut

        store.drop_expired()
        self._cursor = store.database.cursor()
        self._cursor.begin()  # the number of rows is checked, and the rows are read, as of one moment
        try:
            query = translate_query(
                with_parameters(text, parameters), lambda *name: source_of(store, self._cursor, *name)
            )
        except SqlFault as error:
            self.close()
            category = "UNSUPPORTED" if isinstance(error, SqlNotCarriedOut) else "INVALID_INPUT"
            raise QueryFailure(category, str(error)) from None
        except BaseException:
            self.close()
            raise
        self._sql = query.sql
        #: The names of the columns of the result.
        self.names = query.columns

    def kinds(self) -> list[str]:
        """Return the type of each column in DuckDB, and do not run the query.

        :raises QueryFailure: if the types of the query do not fit. The query is closed.
        """
        try:
            rows = self._cursor.execute(f"DESCRIBE {self._sql}").fetchall()
        except Exception as error:  # noqa: BLE001 - the answer has the reason
            self.close()
            raise _failure_of(error) from None
        return [str(row[1]) for row in rows]

    def run(self, limit_seconds: float | None = None) -> Result:
        """Run the query, and return its result as soon as its first rows are known.

        :param limit_seconds: the longest time that the query may take, with the reading of its rows.
        :raises QueryFailure: if the query has no result. Reading the rows can raise it, too.
        """
        stopped = threading.Timer(limit_seconds or 0, self.stop)
        stopped.daemon = True
        if limit_seconds is not None:
            stopped.start()
        rows = self._rows(stopped)
        next(rows)  # the query has run, and the types are known
        return Result(self.names, [str(column[1]) for column in self._cursor.description or []], rows)

    def _rows(self, stopped: threading.Timer) -> Iterator[Sequence[Any]]:
        """Yield nothing of use once, as soon as the query has run, and then its rows."""
        try:
            self._cursor.execute(self._sql)
            yield ()
            while rows := self._cursor.fetchmany(FETCHED):
                yield from rows
        except Exception as error:  # noqa: BLE001 - the answer has the reason
            raise _failure_of(error) from None
        finally:
            stopped.cancel()
            self.close()

    def stop(self) -> None:
        """End a query that runs, from another thread. It has no effect on a query that has ended."""
        with suppress(Exception):
            self._cursor.interrupt()

    def close(self) -> None:
        """Release what the query holds, also if it has not run."""
        with suppress(Exception):
            self._cursor.close()


def _failure_of(error: Exception) -> QueryFailure:
    import duckdb

    from airflow_provider_polaris.local.engine.project.plan import type_message

    if isinstance(error, duckdb.InterruptException):
        return QueryFailure("TIMEOUT", f"The query took more than {LIMIT_SECONDS:.0f} s")
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryFailure("CAPACITY_EXCEEDED", "The query needs more memory than the local Polaris has")
    if isinstance(error, (duckdb.BinderException, duckdb.InvalidInputException)):
        return QueryFailure("INVALID_INPUT", type_message(error))
    return QueryFailure("RUNTIME_FAILURE", type_message(error))


def source_of(store: Store, cursor: duckdb.DuckDBPyConnection, schema: str, name: str) -> Source | None:
    """Return the rows of a table for a query, ``None`` if there is no such table."""
    if schema.upper() == "INFORMATION_SCHEMA":
        return _information(store, name.upper())
    if schema != _SCHEMA:
        return None
    from airflow_provider_polaris.local.engine.project.plan import STORED_AS
    from airflow_provider_polaris.local.engine.sql.druid_names import quoted
    from airflow_provider_polaris.local.engine.sql.druid_query import Source
    from airflow_provider_polaris.local.engine.sql.druid_sql import SqlNotCarriedOut

    with store.database.writing, store.lock:
        if name not in store.tables:
            return None
        table = store.tables[name]
        columns = {column["name"]: column["dataType"] for column in table.body["queryableSchema"]}
        total, rows = table.total, quoted(name)
        has_values = store.database.columns(cursor, name)
        count = cursor.execute(f"SELECT count(*) FROM {rows}").fetchall()[0][0] if has_values else 0
    if total != count:
        raise SqlNotCarriedOut(f"A query of {name!r}, whose rows a script or a test has counted,")
    columns = {"__time": "timestamp"} | columns if "__time" not in columns else columns
    kinds = {one: "TIMESTAMP" if one == "__time" else STORED_AS.get(kind, "VARCHAR") for one, kind in columns.items()}
    if count and has_values >= columns.keys():
        return Source(rows, list(columns))
    # A column of the schema has no values if no job has written it, or none since the table was empty.
    chosen = ", ".join(
        quoted(one) if count and one in has_values else f"CAST(NULL AS {kind}) AS {quoted(one)}"
        for one, kind in kinds.items()
    )
    return Source(f"(SELECT {chosen} FROM {rows})" if count else f"(SELECT {chosen} WHERE false)", list(columns))


#: The type of SQL for each type of Druid, in INFORMATION_SCHEMA.
_SQL_TYPES = {
    "bigint": "BIGINT", "double": "DOUBLE", "float": "FLOAT", "long": "BIGINT", "string": "VARCHAR",
    "timestamp": "TIMESTAMP", "varchar": "VARCHAR",
}  # fmt: skip


def _information(store: Store, name: str) -> Source | None:
    """Return a table of INFORMATION_SCHEMA, ``None`` if there is no such table."""
    from airflow_provider_polaris.local.engine.sql.druid_names import quoted, text_literal
    from airflow_provider_polaris.local.engine.sql.druid_query import Source

    with store.lock:
        tables = {table["name"]: table["queryableSchema"] for table in store.tables.list_all()}
    rows: list[tuple[str, ...]]
    if name == "SCHEMATA":
        names, rows = ["CATALOG_NAME", "SCHEMA_NAME"], [("druid", "druid"), ("druid", "INFORMATION_SCHEMA")]
    elif name == "TABLES":
        names = ["TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "TABLE_TYPE"]
        rows = [("druid", _SCHEMA, table, "TABLE") for table in tables]
    elif name == "COLUMNS":
        names = ["TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME", "ORDINAL_POSITION", "DATA_TYPE"]
        rows = [
            ("druid", _SCHEMA, table, column["name"], str(place), _SQL_TYPES.get(column["dataType"], "OTHER"))
            for table, columns in tables.items()
            for place, column in enumerate(columns, 1)
        ]
    else:
        return None
    heads = ", ".join(quoted(one) for one in names)
    # A row of nulls that WHERE leaves out: a table needs one row to have columns.
    values = ", ".join(f"({', '.join(map(text_literal, row))})" for row in [*rows, ("",) * len(names)])
    number = "ORDINAL_POSITION" in names
    position = quoted("ORDINAL_POSITION")
    chosen = f"* REPLACE (TRY_CAST({position} AS BIGINT) AS {position})" if number else "*"
    return Source(f"(SELECT {chosen} FROM (VALUES {values}) AS given({heads}) WHERE {quoted(names[0])} <> '')", names)
