"""The plan of a batch job: its columns and its filter as DuckDB writes them, and the faults of its expressions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import duckdb

from airflow_provider_polaris.local.engine.project.tables import TableColumns
from airflow_provider_polaris.local.engine.sql.druid_names import SqlFault, logical, quoted, shown
from airflow_provider_polaris.local.engine.sql.druid_sql import SqlNotCarriedOut, Translation, translate_expression
from airflow_provider_polaris.local.engine.sql.druid_time import TimeError, duckdb_period

#: How DuckDB stores the columns of each type of Druid, of the types that the local Polaris reads.
STORED_AS: Mapping[str, str] = {
    "bigint": "BIGINT", "complex<json>": "JSON", "double": "DOUBLE", "doubleArray": "DOUBLE[]", "float": "FLOAT",
    "floatArray": "FLOAT[]", "json": "JSON", "long": "BIGINT", "longArray": "BIGINT[]", "string": "VARCHAR",
    "stringArray": "VARCHAR[]", "timestamp": "VARCHAR", "varchar": "VARCHAR",
}  # fmt: skip
#: The type of Druid for each type that an expression may have in DuckDB, and how its value is stored.
_TYPE_OF: Mapping[str, tuple[str, str]] = {
    "BIGINT": ("long", "{}"),
    "BIGINT[]": ("longArray", "{}"),
    "BOOLEAN": ("long", "CAST({} AS BIGINT)"),
    "DATE": ("long", "epoch_ms(CAST({} AS TIMESTAMP))"),
    "DOUBLE": ("double", "{}"),
    "DOUBLE[]": ("doubleArray", "{}"),
    "FLOAT": ("float", "{}"),
    "FLOAT[]": ("floatArray", "{}"),
    "HUGEINT": ("long", "CAST({} AS BIGINT)"),
    "INTEGER": ("long", "CAST({} AS BIGINT)"),
    "JSON": ("json", "{}"),
    "TIMESTAMP": ("long", "epoch_ms({})"),
    "VARCHAR": ("string", "{}"),
    "VARCHAR[]": ("stringArray", "{}"),
    '"NULL"': ("string", "CAST({} AS VARCHAR)"),
}
#: How ``__time`` is made of a value of each type: a number is milliseconds, and a text is read like TIME_PARSE does.
_TIME_FROM: Mapping[str, str] = {
    "BIGINT": "make_timestamp(CAST({} AS BIGINT) * 1000)",
    "DATE": "CAST({} AS TIMESTAMP)",
    "TIMESTAMP": "{}",
    "VARCHAR": "druid_time_parse({})",
    '"NULL"': "CAST({} AS TIMESTAMP)",
}
#: The types between which a value can be converted.
_NUMBERS = ("BIGINT", "DOUBLE", "FLOAT")
#: In a message of DuckDB: the function, which has another name there than in Druid, and the types that it got.
_TYPES_GIVEN = re.compile(r"given name and argument types '\w+(\(.*?\))'")
#: A name in such a message.
_NAME = re.compile(r"\b(n(?:[0-9a-f]{2})+)\b")


class PlanFault(NamedTuple):
    """A message, and the path of the wrong field in the spec.

    :param is_limit: whether only the local Polaris rejects it.
    """

    path: str
    message: str
    is_limit: bool


class Column(NamedTuple):
    """A column that a job writes.

    :param expression: the value as DuckDB writes it.
    :param kind: the type of Druid.
    """

    name: str
    expression: str
    kind: str
    is_aggregation: bool


@dataclass(frozen=True)
class Plan:
    """How a batch job makes the rows of its table.

    :param inputs: the type of each input column, by name.
    :param columns: the columns that the job writes.
    :param condition: the filter as DuckDB writes it.
    :param time: the value of ``__time`` as DuckDB writes it, a timestamp.
    :param time_input: the input column that ``__time`` comes from, ``None`` if there are several or none.
    :param used: the input columns that the columns of the table and the filter need.
    :param texts: the input columns of texts that are mapped as they are.
    :param is_rollup: whether rows with equal dimensions become one row.
    """

    inputs: Mapping[str, str]
    columns: Sequence[Column]
    condition: str
    time: str
    time_input: str | None
    used: frozenset[str]
    texts: Sequence[str]
    is_rollup: bool = False


class Planner:
    """Makes the plan of a batch job, and finds the faults of its expressions.

    :param connection: of the database, which finds out the types of expressions.
    :param table: the columns of the table. A mapping to one that it aggregates needs no ``isAggregation``.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        spec: Mapping[str, Any],
        table: TableColumns = TableColumns(),  # noqa: B008 - it cannot be changed
    ) -> None:
        self._connection = connection
        self._spec = spec
        self._table = table
        self.faults: list[PlanFault] = []
        self._inputs: dict[str, str] = {}
        #: The columns of types that the local Polaris does not read. Nothing is known about their expressions.
        self._unread: set[str] = set()
        for number, column in enumerate(spec["source"]["inputSchema"]):
            if column["dataType"] in STORED_AS:
                self._inputs[column["name"]] = column["dataType"]
            else:
                self._unread.add(column["name"])
                self._refuse(f"source.inputSchema[{number}].dataType", SqlNotCarriedOut(f"{column['dataType']!r}"))
        columns = ", ".join(f"CAST(NULL AS {STORED_AS[kind]}) AS {quoted(name)}" for name, kind in self._inputs.items())
        self._no_rows = f"(SELECT {columns or '1'})"

    def plan(self) -> Plan:
        """Return the plan. It is complete if ``faults`` is empty."""
        mappings = self._spec.get("mappings") or []
        translations = [self._translated(mapping, number) for number, mapping in enumerate(mappings)]
        kinds = self._types_of(translations)
        columns: list[Column] = []
        texts: list[str] = []
        used: set[str] = set()
        time, time_input = "NULL", None
        for number, (mapping, translation) in enumerate(zip(mappings, translations, strict=True)):
            if translation is None:
                continue
            try:
                column = self._column(mapping["columnName"], translation, kinds.get(translation.sql))
            except SqlFault as fault:
                self._refuse(f"mappings[{number}].expression", fault)
                continue
            columns.append(column)
            used |= translation.columns
            one = next(iter(translation.columns)) if len(translation.columns) == 1 else None
            if column.name == "__time":
                time, time_input = column.expression, one
                columns[-1] = self._cut(column)
            elif one and self._inputs[one] in ("string", "varchar") and translation.sql == quoted(one):
                texts.append(one)
        condition = "true"
        if text := self._spec.get("filterExpression"):
            try:
                translation = translate_expression(text, self._inputs.keys() | self._unread)
                if not translation.columns & self._unread:
                    condition = self._condition(translation)
                    used |= translation.columns
            except SqlFault as fault:
                self._refuse("filterExpression", fault)
        is_rollup = self._table.is_aggregate or any(column.is_aggregation for column in columns)
        return Plan(self._inputs, columns, condition, time, time_input, frozenset(used), texts, is_rollup)

    def _cut(self, time: Column) -> Column:
        """Return the column ``__time``, cut to the resolution of the table."""
        if self._table.resolution is None:
            return time
        try:
            interval, origin = duckdb_period(self._table.resolution)
        except TimeError as error:
            self._refuse("target.tableName", SqlNotCarriedOut(f"{error} of the table"))
            return time
        return time._replace(expression=f"time_bucket({interval}, {time.expression}, {origin})")

    def _translated(self, mapping: Mapping[str, Any], number: int) -> Translation | None:
        """Return the translation of a mapping, ``None`` if it has a fault."""
        name, given = mapping["columnName"], mapping.get("isAggregation")
        is_wanted = name in self._table.measures if given is None else bool(given)
        try:
            translation = translate_expression(mapping["expression"], self._inputs.keys() | self._unread)
            if translation.is_aggregation and not is_wanted:
                raise SqlFault("It aggregates, so the mapping needs isAggregation")
            if is_wanted and not translation.is_aggregation:
                raise SqlFault("With isAggregation it must have an aggregation function")
            if name == "__time" and translation.is_aggregation:
                raise SqlFault("__time cannot be an aggregation")
        except SqlFault as fault:
            self._refuse(f"mappings[{number}].expression", fault)
            return None
        return None if translation.columns & self._unread else translation

    def _column(self, name: str, translation: Translation, kind: str | None) -> Column:
        """Return the column of a translation.

        :param kind: the type in DuckDB, ``None`` if it is not known yet.
        """
        kind = kind or self._duckdb_type(translation.sql)
        return column_of(name, translation.sql, kind, translation.is_aggregation, self._table)

    def _condition(self, translation: Translation) -> str:
        if translation.is_aggregation:
            raise SqlFault("A filter cannot aggregate")
        if self._duckdb_type(translation.sql) not in {"BOOLEAN", '"NULL"'}:
            raise SqlFault("A filter must be true or false")
        return translation.sql

    def _refuse(self, path: str, fault: SqlFault) -> None:
        self.faults.append(PlanFault(path, str(fault), isinstance(fault, SqlNotCarriedOut)))

    def _types_of(self, translations: Sequence[Translation | None]) -> dict[str, str]:
        """Return the type of each expression in DuckDB; none of a group that has a fault.

        One statement for all takes a second for 30,000 columns. One for each would take hours.
        """
        kinds: dict[str, str] = {}
        for is_aggregation in (False, True):
            found = [one.sql for one in translations if one and one.is_aggregation is is_aggregation]
            try:
                kinds |= dict(zip(found, self._described(found), strict=True))
            except duckdb.Error:
                continue  # the types are asked for one by one, to find the fault
        return kinds

    def _described(self, expressions: Sequence[str]) -> list[str]:
        if not expressions:
            return []
        items = ", ".join(f"{expression} AS x{n}" for n, expression in enumerate(expressions))
        return [
            str(row[1]) for row in self._connection.execute(f"DESCRIBE SELECT {items} FROM {self._no_rows}").fetchall()
        ]

    def _duckdb_type(self, expression: str) -> str:
        """Return the type of an expression.

        :raises SqlFault: if its parts have types that do not fit.
        """
        try:
            return self._described([expression])[0]
        except duckdb.Error as error:
            raise SqlFault(type_message(error)) from None


def column_of(
    name: str,
    expression: str,
    kind: str,
    is_aggregation: bool = False,
    table: TableColumns = TableColumns(),  # noqa: B008 - it cannot be changed
) -> Column:
    """Return the column that a job writes, for an expression of this type in DuckDB.

    :raises SqlFault: if the table takes no such column.
    :raises SqlNotCarriedOut: if the local Polaris does not store values of the type.
    """
    if name == "__time":
        if kind not in _TIME_FROM:
            raise SqlFault(f"__time must be a timestamp, not a {kind}")
        return Column(name, _TIME_FROM[kind].format(expression), "timestamp", is_aggregation=False)
    if table.is_strict and name not in table.declared:
        raise SqlFault(f"The table is strict, and its schema has no column {shown(name)}")
    if is_aggregation and name in table.declared - table.measures:
        raise SqlFault(f"The column {shown(name)} of the table is no measure")
    if kind not in _TYPE_OF:
        raise SqlNotCarriedOut(f"An expression of the type {kind}")
    given, form = _TYPE_OF[kind]
    wanted = table.kinds.get(name, given)
    if wanted not in STORED_AS:
        raise SqlNotCarriedOut(f"The type {wanted!r} of the column {shown(name)}")
    source, stored = STORED_AS[given], STORED_AS[wanted]
    value = form.format(expression)
    if source != stored:
        if kind != '"NULL"' and (source not in _NUMBERS or stored not in (*_NUMBERS, "VARCHAR")):
            raise SqlFault(f"The column {shown(name)} of the table has the type {wanted}, and the value is a {given}")
        whole = f"trunc({value})" if stored == "BIGINT" and kind != '"NULL"' else value
        value = f"TRY_CAST({whole} AS {stored})"
    return Column(name, value, wanted, is_aggregation)


def stored_as(column: Column) -> str:
    """Return the type of a column of a table in DuckDB."""
    return "TIMESTAMP" if column.name == "__time" else STORED_AS[column.kind]


def type_message(error: Exception) -> str:
    """Return the reason for which DuckDB rejects an expression or a query, in one line."""
    first = str(error).split("\n", 1)[0]
    reason = first.partition("Error: ")[2] or first
    types = _TYPES_GIVEN.search(reason)
    reason = f"no function takes {types[1]}" if types else _NAME.sub(lambda name: logical(name[1]), reason)
    return f"The SQL has a fault: {reason}"
