"""The rows of a batch job on their way to its table: DuckDB reads them, evaluates the expressions, and rolls up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from airflow_provider_polaris.local.engine.data.rows import Batch, Counters, JobFailure
from airflow_provider_polaris.local.engine.intervals import DAY, EPOCH, WIDTHS, Span, partition_of, spans_of
from airflow_provider_polaris.local.engine.project.plan import STORED_AS, Plan
from airflow_provider_polaris.local.engine.sql.druid_names import quoted, text_literal
from airflow_provider_polaris.local.engine.sql.druid_time import timestamp_literal, within

#: How much of a row's value a message has, in characters.
MAX_VALUE = 100
#: The first row that fails the job, and how many rows there are of each kind.
_COUNTS = (
    "SELECT min(n) FILTER (WHERE fault > 0), "
    "count(*) FILTER (WHERE keep AND NOT warns), count(*) FILTER (WHERE keep AND warns), "
    "count(*) FILTER (WHERE NOT ok), count(*) FILTER (WHERE ok AND NOT keep) FROM batch"
)


class Stage:
    """The rows of one job until they are in its table.

    :param connection: of the database. Its temporary tables belong to this job alone.
    :param settings: the ``formatSettings``.
    :param name: of the temporary table that holds the rows.
    :param accepted: for a streaming job, the span of time of the rows that it takes. It leaves out other rows, and
        skips each row for which a batch job fails.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        plan: Plan,
        spec: Mapping[str, Any],
        settings: Mapping[str, Any],
        name: str = "stage",
        accepted: Span | None = None,
    ) -> None:
        self._connection = connection
        self._name = name
        self._plan = plan
        self._accepted = accepted
        lists = settings.get("listDelimiter") or "\x01"
        self._list_delimiter = lists if plan.is_rollup and settings["format"] == "csv" else None
        self._texts = [name for name in plan.texts if name != plan.time_input]
        self._bounds = spans_of(spec["target"].get("intervals") or [])
        if self._bounds:
            connection.execute("CREATE TEMP TABLE bounds (first TIMESTAMP, last TIMESTAMP)")
            values = ", ".join(f"({timestamp_literal(a)}, {timestamp_literal(b)})" for a, b in self._bounds)
            connection.execute(f"INSERT INTO bounds VALUES {values}")
        #: The input columns that are read. An unused number still counts: the row has a warning if it is none.
        self._inputs = {name: kind for name, kind in plan.inputs.items() if name in plan.used or _is_number(kind)}
        used = [quoted(name) for name in plan.inputs if name in plan.used]
        self._batch_columns = ", ".join(["n", "ok", "keep", "warns", "t", *used])
        kept = used
        if not plan.is_rollup:
            kept = [
                f'{"t" if column.name == "__time" else column.expression} AS "o{n}"'
                for n, column in enumerate(plan.columns)
            ]
        self._kept = ", ".join(kept) or "1 AS one"
        self._has_rows = False

    def add(self, batch: Batch, counters: Counters) -> None:
        """Add the rows of a batch, and count them.

        :raises JobFailure: at a row for which the service fails the job. The rows before it are counted.
        """
        counters.skipped_by_error += batch.bad
        if not batch.lines:
            return
        execute = self._connection.execute
        execute(f"CREATE OR REPLACE TEMP TABLE batch AS {self._rows(batch)}", [batch.text])
        first, *counted = execute(_COUNTS).fetchall()[0]
        if first is not None:
            _, *counted = execute(f"{_COUNTS} WHERE n < {first}").fetchall()[0]
        counters.processed += counted[0]
        counters.with_warning += counted[1]
        counters.skipped_by_error += counted[2]
        counters.skipped_by_filter += counted[3]
        if first is not None:
            raise self._failure(batch, first, counters.read + 1)
        kept = f"SELECT {self._kept} FROM batch WHERE keep"
        execute(f"INSERT INTO {self._name} {kept}" if self._has_rows else f"CREATE TEMP TABLE {self._name} AS {kept}")
        self._has_rows = True

    def _rows(self, batch: Batch) -> str:
        """Return the query that reads the lines of a batch, evaluates the filter, and finds the rows with faults."""
        inputs, is_json = self._inputs, batch.columns is None
        if batch.columns is None:
            pointers = ", ".join(text_literal(_pointer(name)) for name in inputs)
            is_row = f"{_IS_OBJECT} AND NOT {_IS_ODD}" if batch.is_odd else _IS_OBJECT
            values = f"json_extract_string(line, [{pointers}])" if pointers else "['']"
            places = {name: place for place, name in enumerate(inputs, 1)}
        else:
            is_row, values = "true", f"string_split(line, {text_literal(batch.separator)})"
            given = {name: place for place, name in enumerate(batch.columns, 1)}
            places = {name: given.get(name, 2**31) for name in inputs}  # a place behind the last one has no value
        typed = "".join(
            f", {_typed(kind, f'v[{places[name]}]', _pointer(name) if is_json else None)} AS {quoted(name)}"
            for name, kind in inputs.items()
        )
        warns = " OR ".join(
            f"""(v[{places[name]}] <> '' AND {quoted(name)} IS NULL)"""
            for name, kind in inputs.items()
            if _is_number(kind)
        )
        # Each query reads the rows of the one before. Without its line, a bad row has no value that fails to be read.
        lines = (
            "SELECT unnest(lines) AS line, unnest(range(1, len(lines) + 1)) AS n "
            "FROM (SELECT string_split($1, chr(10)) AS lines)"
        )
        checked = f"SELECT n, line, {is_row} AS ok FROM ({lines})"
        split = (
            f"SELECT n, ok, CASE WHEN ok THEN line END AS line, CASE WHEN ok THEN {values} END AS v FROM ({checked})"
        )
        read = f"SELECT n, ok, line, v{typed} FROM ({split})"
        evaluated = (
            f"SELECT *, ok AND coalesce({self._plan.condition}, false) AS keep, "
            f"coalesce({warns or 'false'}, false) AS warns, {self._plan.time} AS t FROM ({read})"
        )
        fault = f"CASE WHEN NOT keep THEN 0 {self._faults(is_json)} ELSE 0 END"
        if self._accepted is None:
            return f"SELECT {self._batch_columns}, {fault} AS fault FROM ({evaluated})"
        taken = f"keep AND fault = 0 AND {within('t', [self._accepted])} AS keep"
        lenient = f"* REPLACE (ok AND fault = 0 AS ok, {taken}, 0 AS fault)"
        return f"SELECT {lenient} FROM (SELECT {self._batch_columns}, {fault} AS fault FROM ({evaluated}))"

    def _faults(self, is_json: bool) -> str:
        """Return the conditions of rows that fail the job. The number of a fault names its kind and its column."""
        faults = ["WHEN t IS NULL THEN 1"]
        if self._bounds:
            faults.append("WHEN NOT EXISTS (SELECT 1 FROM bounds WHERE t >= first AND t < last) THEN 2")
        for place, name in enumerate(self._texts):
            column = quoted(name)
            faults.append(f"WHEN contains({column}, chr(0)) THEN {10 + 2 * place}")
            several = "false"
            if self._list_delimiter:
                several = f"contains({column}, {text_literal(self._list_delimiter)})"
            elif self._plan.is_rollup and is_json:
                pointer = text_literal(_pointer(name))
                several = f"{column}[1] = '[' AND json_type(line, {pointer}) = 'ARRAY'"
            faults.append(f"WHEN {several} THEN {11 + 2 * place}")
        return " ".join(faults)

    def _failure(self, batch: Batch, n: int, number: int) -> JobFailure:
        """Return the failure of a row, by its place in the batch and in the data."""
        (fault,) = self._connection.execute(f"SELECT fault FROM batch WHERE n = {n}").fetchall()[0]
        if fault < 10:
            name = self._plan.time_input
            seen = "its mapping has no value" if name is None else f"{name!r} is {batch.shown(n, name)[:MAX_VALUE]}"
            if fault == 1:
                return JobFailure("null_timestamp", f"Row {number} has no valid timestamp: {seen}")
            return JobFailure("timestamp_out_of_bounds", f"Row {number} is outside target.intervals: {seen}")
        row = f"Row {number}, column {self._texts[(fault - 10) // 2]!r}"
        if fault % 2 == 0:
            return JobFailure("invalid_null_byte", f"{row}: the text has a null byte")
        message = f"{row}: the row has several values, and the job aggregates. Use MV_TO_ARRAY() in the mapping"
        return JobFailure("cannot_parse_multi_value_dimension", message)

    def roll_up(self, granularity: str, counters: Counters) -> str | None:
        """Make the rows of the table, and count them. Return the query that gives them, ``None`` if there are none.

        :param granularity: the granularity of the partitions that the job writes.
        """
        counters.persisted = 0
        if not self._has_rows:
            return None
        plan = self._plan
        if plan.is_rollup:
            columns = ", ".join(f'{column.expression} AS "o{n}"' for n, column in enumerate(plan.columns))
            groups = ", ".join(str(n) for n, column in enumerate(plan.columns, 1) if not column.is_aggregation)
            self._connection.execute(
                f"CREATE TEMP TABLE rolled AS SELECT {columns} FROM {self._name} GROUP BY {groups}"
            )
        table = "rolled" if plan.is_rollup else self._name
        time = f'"o{[column.name for column in plan.columns].index("__time")}"'
        count_partitions(self._connection, table, time, granularity, counters)
        return f"SELECT * FROM {table}"

    def as_table(self, names: Sequence[str]) -> str:
        """Return the query that gives the rows that were added, under these names. A job that aggregates has none."""
        columns = self._plan.columns
        if self._has_rows:
            values = ", ".join(f'"o{n}" AS {quoted(name)}' for n, name in enumerate(names))
            return f"SELECT {values} FROM {self._name}"
        values = ", ".join(
            f"CAST(NULL AS {STORED_AS[column.kind]}) AS {quoted(name)}"
            for name, column in zip(names, columns, strict=True)
        )
        return f"SELECT {values} WHERE false"


def count_partitions(
    connection: duckdb.DuckDBPyConnection, table: str, time: str, granularity: str, counters: Counters
) -> None:
    """Count the rows of a temporary table, and those of each partition that they belong to.

    :param time: the column with the time of a row.
    """
    width = WIDTHS.get(granularity, DAY)
    moment = f"epoch_ms({time}) + {EPOCH}"
    periods = f"SELECT ({moment}) // {width} * {width} AS period, count(*) FROM {table} GROUP BY period"
    for period, count in connection.execute(periods).fetchall():
        partition = partition_of(period, granularity)
        counters.partitions[partition] = counters.partitions.get(partition, 0) + count
        counters.persisted = (counters.persisted or 0) + count


#: The letters that may not be outside of the texts of a line: see :attr:`Batch.is_odd`. A text is in quotes.
_ODD = r",[ \t\r]*[}\]]|[nN][aA][nN]|[iI][nN][fF]"
_TEXTS = r'"(?:[^"\\]|\\.)*"'
_IS_ODD = (
    f"CASE WHEN regexp_matches(line, {text_literal(_ODD)}) "
    f"THEN regexp_matches(regexp_replace(line, {text_literal(_TEXTS)}, '', 'g'), {text_literal(_ODD)}) ELSE false END"
)
_IS_OBJECT = "json_valid(line) AND starts_with(ltrim(line, E' \\t\\r'), '{')"
_NUMBER = r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?"


def _pointer(name: str) -> str:
    """Return the JSON pointer of a field of the row."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _is_number(kind: str) -> bool:
    return STORED_AS[kind] in ("BIGINT", "DOUBLE", "FLOAT")


def _typed(kind: str, value: str, pointer: str | None) -> str:
    """Return the value of an input column as its type, null if it cannot be read.

    :param value: the value as text.
    :param pointer: where the value is in the JSON of the line, ``None`` for csv.
    """
    stored = STORED_AS[kind]
    if stored == "BIGINT":
        # A number of JSON is cut. A text must be a whole number, with or without zeros after the point.
        whole = f"TRY_CAST(split_part({value}, '.', 1) AS BIGINT)"
        cut = f"TRY_CAST(trunc(TRY_CAST({value} AS DOUBLE)) AS BIGINT)"
        number = f"WHEN json_type(line, {text_literal(pointer)}) = 'DOUBLE' THEN {cut}" if pointer else ""
        return f"CASE WHEN regexp_full_match({value}, '[+-]?[0-9]+([.]0*)?') THEN {whole} {number} END"
    if stored in ("DOUBLE", "FLOAT"):
        return f"CASE WHEN regexp_full_match({value}, {text_literal(_NUMBER)}) THEN TRY_CAST({value} AS {stored}) END"
    if stored == "VARCHAR":
        return value
    if stored == "JSON":
        return f"json_extract(line, {text_literal(pointer)})" if pointer else f"TRY_CAST({value} AS JSON)"
    item = stored.removesuffix("[]")
    items = f"""TRY_CAST(from_json({value}, '["VARCHAR"]') AS {item}[])"""
    return f"CASE WHEN {value}[1] = '[' AND json_valid({value}) THEN {items} END"
