"""Write the rows of a job into its table: in the database, and in the number of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_polaris.local.engine.data.rows import Counters
from airflow_provider_polaris.local.engine.intervals import spans_of
from airflow_provider_polaris.local.engine.project.store import Store

if TYPE_CHECKING:
    import duckdb

    from airflow_provider_polaris.local.engine.project.plan import Column


class Loaded(NamedTuple):
    """What a job has made of its data.

    :param rows: the query that gives the rows, ``None`` if there are none.
    :param replaced: the intervals that the job replaces; an empty list for all data, ``None`` to append.
    """

    columns: Sequence[Column]
    rows: str | None
    replaced: list[str] | None

    def write(self, store: Store, cursor: duckdb.DuckDBPyConnection, table: str) -> None:
        """Write the rows in the transaction of a cursor. A caller holds ``database.writing``."""
        from airflow_provider_polaris.local.engine.project.plan import stored_as

        if self.replaced is not None:
            store.database.delete(cursor, table, spans_of(self.replaced))
        if self.rows is not None:
            store.database.insert(cursor, table, [(one.name, stored_as(one)) for one in self.columns], self.rows)

    def count_rows(self, store: Store, table: str, counters: Counters, *, at_once: bool = False) -> None:
        """Count the rows that are in the database now. A caller holds the store's lock.

        :param at_once: whether the rows can be queried from now on, not some time later.
        """
        store.tables.load(
            table,
            counters.partitions,
            counters.bytes,
            replaced=self.replaced,
            columns=[(one.name, one.kind, one.is_aggregation) for one in self.columns],
            at_once=at_once,
        )
