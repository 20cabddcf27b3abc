"""Run SQL jobs: INSERT and REPLACE, from the project's tables, from uploaded files and from inline data."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import duckdb

from airflow_provider_polaris.local.engine.data.rows import Counters, JobFailure
from airflow_provider_polaris.local.engine.intervals import spans_of
from airflow_provider_polaris.local.engine.jobs.stage import Stage, count_partitions
from airflow_provider_polaris.local.engine.project.plan import STORED_AS, Column, Plan, column_of, type_message
from airflow_provider_polaris.local.engine.project.specs import form_faults_of, format_read_here
from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.query.querying import source_of
from airflow_provider_polaris.local.engine.sql.dml import EXTERNAL, parse_dml
from airflow_provider_polaris.local.engine.sql.druid_names import SqlFault, quoted, shown
from airflow_provider_polaris.local.engine.sql.druid_query import Source, translate_query, with_parameters
from airflow_provider_polaris.local.engine.sql.druid_sql import SqlNotCarriedOut
from airflow_provider_polaris.local.engine.sql.druid_time import within

#: The name of the temporary table of the rows that a job has made.
RESULT = "result"
_UNNAMED = re.compile(r"EXPR\$\d+")
_TARGET = {"type": "table", "tableName": "any"}
_TIME = [{"columnName": "__time", "expression": "CURRENT_TIMESTAMP"}]


class ExternalData(NamedTuple):
    """Data that a query reads from outside of the project.

    :param source: as a batch job has it.
    :param settings: the ``formatSettings``.
    :param stage: where its rows are kept until the query runs.
    """

    source: Mapping[str, Any]
    settings: Mapping[str, Any]
    stage: Stage


class SqlJob:
    """An SQL job that the local Polaris can run.

    :param cursor: of the database. Its temporary tables belong to this job alone.
    :raises SqlFault: if Druid rejects the query.
    :raises SqlNotCarriedOut: if the local Polaris does not carry it out.
    """

    def __init__(self, store: Store, cursor: duckdb.DuckDBPyConnection, spec: Mapping[str, Any]) -> None:
        self._store = store
        self._cursor = cursor
        self._dml = parse_dml(with_parameters(spec["query"], spec.get("parameters") or []))
        self.replaced = self._dml.replaced
        self.external = [self._external(number, source) for number, source in enumerate(self._dml.sources)]
        #: The rows of the tables that the query reads.
        self._rows_read = 0

    def _external(self, number: int, source: Mapping[str, Any]) -> ExternalData:
        spec = {"type": "batch", "target": _TARGET, "source": source, "mappings": _TIME}
        if faults := form_faults_of(spec):
            raise SqlFault(f"{faults[0].target}: {faults[0].message}")
        with self._store.lock:
            project = self._store.project()
        for name in source.get("fileList", ()):
            if name not in project.files:
                raise SqlFault(f"No file named {shown(name)} was uploaded")
        settings = format_read_here(spec, project)
        if settings is None:
            raise SqlNotCarriedOut(f"Data of the source {source['type']!r} in this format")
        inputs = {column["name"]: column["dataType"] for column in source["inputSchema"]}
        if len(inputs) != len(source["inputSchema"]):
            raise SqlFault("The columns of the data must have different names")
        for kind in inputs.values():
            if kind not in STORED_AS:
                raise SqlNotCarriedOut(f"The type {kind!r} of a column")
        # The names keep a column __time of the data from being taken for the time of the row.
        columns = [Column(f"input {n}", quoted(name), kind, False) for n, (name, kind) in enumerate(inputs.items())]
        plan = Plan(inputs, columns, "true", "TIMESTAMP '1970-01-01'", None, frozenset(inputs), [])
        return ExternalData(source, settings, Stage(self._cursor, plan, spec, settings, name=f"external{number}"))

    def columns(self) -> list[Column]:
        """Return the columns that the job writes. Their expressions belong to the rows of the query."""
        return self._planned()[1]

    def _planned(self) -> tuple[str, list[Column]]:
        """Return the query in DuckDB, and the columns that the job writes."""
        query = translate_query(self._dml.select, self._source)
        if unnamed := [name for name in query.columns if _UNNAMED.fullmatch(name)]:
            raise SqlFault(f"Each column needs a name: {unnamed[0]} has none")
        if len(set(query.columns)) != len(query.columns):
            raise SqlFault("The columns must have different names")
        try:
            described = self._cursor.execute(f"DESCRIBE {query.sql}").fetchall()
        except duckdb.Error as error:
            raise SqlFault(type_message(error)) from None
        with self._store.lock:
            table = self._store.tables.columns(self._dml.table)
        columns = [
            column_of(name, quoted(name), str(row[1]), name in table.measures, table)
            for name, row in zip(query.columns, described, strict=True)
        ]
        if "__time" not in query.columns:
            if self._dml.granularity != "all":
                raise SqlFault(f"PARTITIONED BY {self._dml.granularity.upper()} needs the column __time")
            columns.append(Column("__time", "TIMESTAMP '1970-01-01'", "timestamp", is_aggregation=False))
        return query.sql, columns

    def _source(self, schema: str, name: str) -> Source | None:
        if schema == EXTERNAL:
            known = {str(number): one for number, one in enumerate(self.external)}
            if name not in known:
                return None  # a user has written the name of the schema
            one = known[name]
            names = [column["name"] for column in one.source["inputSchema"]]
            return Source(f"({one.stage.as_table(names)})", names)
        source = source_of(self._store, self._cursor, schema, name)
        if source is not None and schema == "druid":
            with self._store.lock:
                self._rows_read += self._store.tables[name].total or 0
        return source

    def make_rows(self, counters: Counters) -> list[Column]:
        """Make the rows of the table as the temporary table :data:`RESULT`, count them, and return their columns.

        :raises JobFailure: for a row for which the service fails the job.
        """
        self._cursor.begin()  # the rows of all tables are of one moment
        self._rows_read = 0
        sql, columns = self._planned()
        values = ", ".join(f'{column.expression} AS "o{n}"' for n, column in enumerate(columns))
        self._cursor.execute(f"CREATE TEMP TABLE {RESULT} AS SELECT {values} FROM ({sql})")  # noqa: S608 - translated
        self._cursor.commit()
        counters.processed += self._rows_read
        time = f'"o{next(n for n, column in enumerate(columns) if column.name == "__time")}"'
        self._check(time)
        counters.persisted = 0
        count_partitions(self._cursor, RESULT, time, self._dml.granularity, counters)
        return columns

    def _check(self, time: str) -> None:
        inside = within(time, spans_of(self.replaced or []))
        counts = f"count(*) FILTER ({time} IS NULL), count(*) FILTER (NOT ({inside}))"
        missing, outside = self._cursor.execute(f"SELECT {counts} FROM {RESULT}").fetchall()[0]  # noqa: S608
        if missing:
            raise JobFailure("null_timestamp", f"{missing} rows have no __time")
        if outside:
            raise JobFailure("timestamp_out_of_bounds", f"{outside} rows are outside OVERWRITE WHERE")


def reason_not_run(store: Store, spec: Mapping[str, Any]) -> str | None:
    """Return why the local Polaris does not run an SQL job, ``None`` if it does."""
    with store.database.cursor() as cursor:
        try:
            SqlJob(store, cursor, spec).columns()
        except SqlFault as fault:
            return str(fault)
    return None


@contextmanager
def interrupted_by(canceled: threading.Event, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Interrupt the statements of a block as soon as the event is set."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if canceled.is_set():
                cursor.interrupt()

    thread = threading.Thread(target=watch, name="polaris-cancel", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
