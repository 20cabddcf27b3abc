"""Queries as a connection of PEP 249, the interface that Airflow's SQL operators use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.models import QueryResult
from airflow_provider_polaris.api.query_calls import QueryCalls

#: The style of parameters: a question mark for each.
paramstyle = "qmark"


class Cursor:
    """Runs queries, and holds the result of the last one."""

    arraysize = 1000

    def __init__(self, client: QueryCalls) -> None:
        self._client = client
        self._result: QueryResult | None = None
        self._next = 0

    @property
    def description(self) -> list[tuple[Any, ...]] | None:
        """The name and the type of SQL of each column, ``None`` before the first query."""
        if self._result is None:
            return None
        return [(column.name, column.sql_type, None, None, None, None, True) for column in self._result.columns]

    @property
    def rowcount(self) -> int:
        """The number of rows of the result, -1 before the first query."""
        return -1 if self._result is None else len(self._result)

    def execute(self, operation: str, parameters: Sequence[Any] | None = None) -> Cursor:
        """Run a query. Its parameters are sent apart from it."""
        self._result, self._next = self._client.query(operation, parameters), 0
        return self

    def _rows(self) -> Sequence[tuple[Any, ...]]:
        if self._result is None:
            raise PolarisUsageError("There is no result before a query")
        return self._result.rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, ``None`` at the end."""
        return next(iter(self.fetchmany(1)), None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Return the next rows."""
        rows = self._rows()[self._next : self._next + (self.arraysize if size is None else size)]
        self._next += len(rows)
        return list(rows)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows that are left."""
        rows = self._rows()[self._next :]
        self._next += len(rows)
        return list(rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while (row := self.fetchone()) is not None:
            yield row

    def close(self) -> None:
        """Forget the result."""
        self._result = None


class Connection:
    """A connection to one project. A query changes nothing, so there is nothing to commit."""

    def __init__(self, client: QueryCalls) -> None:
        self._client = client

    def cursor(self) -> Cursor:
        """Return a new cursor."""
        return Cursor(self._client)

    def commit(self) -> None:
        """Do nothing."""

    def rollback(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Close the pooled HTTP connections."""
        self._client.close()
