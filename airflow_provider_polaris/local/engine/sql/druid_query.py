"""Translate queries of Druid SQL into DuckDB SQL: SELECT with joins, subqueries, common table expressions, UNION ALL.

A query sees only the tables that its caller names. All other parts are refused, as in ``druid_sql.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType
from sqlglot.tokens import Tokenizer

from airflow_provider_polaris.local.engine.sql.druid_names import SqlFault, quoted, shown, text_literal
from airflow_provider_polaris.local.engine.sql.druid_sql import MAX_LENGTH, ExpressionWriter, SqlNotCarriedOut, parse

#: The parts of a SELECT that are written here. A query with any other part is refused.
_SELECT_PARTS = {
    "with_", "expressions", "distinct", "from_", "joins", "where", "group", "having", "order", "limit", "offset",
}  # fmt: skip
_JOINS = {"": "JOIN", "LEFT": "LEFT JOIN", "RIGHT": "RIGHT JOIN", "FULL": "FULL JOIN"}
#: Returns the source of a table, by its schema and its name; ``None`` if there is no such table.
Catalog = Callable[[str, str], "Source | None"]


@dataclass(frozen=True)
class Source:
    """Rows that a query can read.

    :param sql: what stands after FROM in DuckDB. Its columns have the names that :func:`physical` gives.
    :param columns: the names of the columns, in the order of ``SELECT *``.
    """

    sql: str
    columns: Sequence[str]


@dataclass(frozen=True)
class Query:
    """A query of DuckDB, and the names of the columns of its result."""

    sql: str
    columns: Sequence[str]


def _text(value: Any) -> str:
    return text_literal(str(value))


#: How Druid writes a parameter of each type as a literal.
_PARAMETERS: Mapping[str, Callable[[Any], str]] = {
    "BIGINT": lambda value: str(int(value)),
    "BOOLEAN": lambda value: "TRUE" if str(value).lower() == "true" else "FALSE",
    "CHAR": _text,
    "DATE": lambda value: f"CAST({_text(value)} AS DATE)",
    "DECIMAL": lambda value: f"CAST('{float(value)!r}' AS DOUBLE)",
    "DOUBLE": lambda value: f"CAST('{float(value)!r}' AS DOUBLE)",
    "FLOAT": lambda value: f"CAST('{float(value)!r}' AS FLOAT)",
    "INTEGER": lambda value: str(int(value)),
    "SMALLINT": lambda value: str(int(value)),
    "TIMESTAMP": lambda value: f"CAST({value if isinstance(value, int) else _text(value)} AS TIMESTAMP)",
    "TINYINT": lambda value: str(int(value)),
    "VARCHAR": _text,
}


def with_parameters(text: str, parameters: Sequence[Mapping[str, Any]]) -> str:
    """Return a query with its parameters in the places of its question marks.

    :raises SqlFault: if the query is too long, there are too few or too many, or a value does not have its type.
    """
    if len(text) > MAX_LENGTH:
        raise SqlFault(f"It must have at most {MAX_LENGTH:,} characters")
    try:
        marks = [one for one in Tokenizer().tokenize(text) if one.token_type == TokenType.PLACEHOLDER]
    except SqlglotError:
        return text  # the parser says what is wrong
    if len(marks) != len(parameters):
        raise SqlFault(f"The query has {len(marks)} question marks, and {len(parameters)} parameters")
    parts, end = [], 0
    for mark, parameter in zip(marks, parameters, strict=True):
        kind, value = str(parameter.get("type", "")).upper(), parameter.get("value")
        if kind not in _PARAMETERS:
            raise SqlNotCarriedOut(f"A parameter of the type {shown(kind)}")
        try:
            literal = "NULL" if value is None else _PARAMETERS[kind](value)
        except (TypeError, ValueError, OverflowError):
            raise SqlFault(f"{shown(str(value))} is no {kind}") from None
        parts += [text[end : mark.start], f" {literal} "]
        end = mark.end + 1
    return "".join([*parts, text[end:]])


def translate_query(text: str, catalog: Catalog) -> Query:
    """Translate a query.

    :param catalog: returns the source of a table, by its schema and its name; ``None`` if there is none.
    :raises SqlFault: if Druid rejects the query.
    :raises SqlNotCarriedOut: if the local Polaris does not carry it out.
    """
    statements = [node for node in parse(text) if node is not None]
    if len(statements) != 1:
        raise SqlFault("It must be one query")
    return _Translator(catalog, {}).top(statements[0])


class _Translator:
    """Translates the queries of one level.

    :param ctes: the common table expressions that the queries can read.
    """

    def __init__(self, catalog: Catalog, ctes: Mapping[str, Source]) -> None:
        self._catalog = catalog
        self._ctes = ctes

    def top(self, node: exp.Expr) -> Query:
        """Translate a query at the top level, where Druid takes UNION ALL."""
        if not isinstance(node, exp.Union):
            return self.select(node)
        if node.args.get("distinct") or any(node.args.get(part) for part in ("order", "limit", "offset", "with_")):
            raise SqlFault("Druid takes only UNION ALL of whole queries")
        first, second = self.top(node.this), self.top(node.expression)
        if len(first.columns) != len(second.columns):
            raise SqlFault("The queries of a UNION ALL must have the same number of columns")
        return Query(f"({first.sql}) UNION ALL ({second.sql})", first.columns)

    def select(self, node: exp.Expr) -> Query:
        """Translate a SELECT."""
        if isinstance(node, exp.Union):
            raise SqlFault("Druid takes UNION ALL only at the top level of a query")
        if not isinstance(node, exp.Select):
            raise SqlFault("Only SELECT is allowed")
        if unknown := [part for part, value in node.args.items() if value and part not in _SELECT_PARTS]:
            raise SqlNotCarriedOut(f"{unknown[0].strip('_').upper()} in a query")
        with_ = node.args.get("with_")
        if with_ is not None:
            if with_.args.get("recursive"):
                raise SqlFault("Druid takes no recursive query")
            inner = _Translator(self._catalog, self._ctes)
            for cte in with_.expressions:
                query = inner.select(cte.this)
                inner = _Translator(self._catalog, {**inner._ctes, cte.alias: _source_of(query)})
            return inner._body(node)
        return self._body(node)

    def _body(self, node: exp.Select) -> Query:
        sources, joined = self._from(node)
        writer = _QueryWriter(sources, self)
        names, items = self._items(node, writer)
        parts = [f"SELECT {'DISTINCT ' if node.args.get('distinct') else ''}{', '.join(items)}"]
        if joined:
            parts.append(f"FROM {joined}")
        if where := node.args.get("where"):
            parts.append(f"WHERE {writer.scalar(where.this)}")
        if group := node.args.get("group"):
            if any(value for part, value in group.args.items() if part != "expressions"):
                raise SqlNotCarriedOut("GROUPING SETS, ROLLUP or CUBE")
            parts.append(
                f"GROUP BY {', '.join(_ordinal(one, len(names)) or writer.scalar(one) for one in group.expressions)}"
            )
        if having := node.args.get("having"):
            parts.append(f"HAVING {writer.write(having.this)}")
        if order := node.args.get("order"):
            parts.append(f"ORDER BY {', '.join(self._ordered(one, names, writer) for one in order.expressions)}")
        for part in ("limit", "offset"):
            if clause := node.args.get(part):
                count = clause.expression
                if not isinstance(count, exp.Literal) or not re.fullmatch(r"\d{1,18}", str(count.this)):
                    raise SqlFault(f"{part.upper()} takes a whole number")
                parts.append(f"{part.upper()} {count.this}")
        return Query(" ".join(parts), names)

    def _items(self, node: exp.Select, writer: _QueryWriter) -> tuple[list[str], list[str]]:
        """Return the names and the expressions of the columns of the result."""
        if not node.expressions:
            raise SqlFault("SELECT needs a column")
        names: list[str] = []
        items: list[str] = []
        for item in node.expressions:
            if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
                table = item.table if isinstance(item, exp.Column) else None
                for alias, column in writer.all_columns(table):
                    names.append(column)
                    items.append(writer.qualified(alias, column))
                continue
            inner = item.this if isinstance(item, exp.Alias) else item
            if isinstance(item, exp.Alias):
                names.append(item.alias)
            else:
                names.append(item.name if isinstance(item, exp.Column) else f"EXPR${len(names)}")
            items.append(writer.write(inner))
        named = [f"{item} AS {quoted(name)}" for name, item in zip(names, items, strict=True)]
        return names, named

    def _ordered(self, node: exp.Ordered, names: Sequence[str], writer: _QueryWriter) -> str:
        """Return a part of ORDER BY. In Druid null is less than any value."""
        key = node.this
        if isinstance(key, exp.Column) and not key.table and key.name in names:
            written = quoted(key.name)
        else:
            written = _ordinal(key, len(names)) or writer.write(key)
        nulls = "FIRST" if node.args.get("nulls_first") else "LAST"
        return f"{written} {'DESC' if node.args.get('desc') else 'ASC'} NULLS {nulls}"

    def _from(self, node: exp.Select) -> tuple[dict[str, Sequence[str]], str]:
        """Return the columns of each table of the query by its alias, and the tables as DuckDB joins them."""
        from_ = node.args.get("from_")
        if from_ is None:
            return {}, ""
        alias, source = self._table(from_.this)
        sources, joined = {alias: source.columns}, f"{source.sql} AS {quoted(alias)}"
        for join in node.args.get("joins") or []:
            alias, source = self._table(join.this)
            if alias in sources:
                raise SqlFault(f"Two tables have the name {shown(alias)}")
            sources[alias] = source.columns
            joined += self._join(join, alias, source, sources)
        return sources, joined

    def _join(self, join: exp.Join, alias: str, source: Source, sources: dict[str, Sequence[str]]) -> str:
        kind, side, on = str(join.args.get("kind") or ""), str(join.args.get("side") or ""), join.args.get("on")
        if join.args.get("using") or join.args.get("method") or kind not in ("", "INNER", "OUTER", "CROSS"):
            raise SqlNotCarriedOut(f"A {' '.join(filter(None, (side, kind)))} JOIN with USING or a method")
        right = f"{source.sql} AS {quoted(alias)}"
        if on is None and (side or kind not in ("", "CROSS")):
            raise SqlFault(f"A {side or kind} JOIN needs ON")
        if on is None:
            return f" CROSS JOIN {right}"
        return f" {_JOINS[side]} {right} ON {_QueryWriter(sources, self).scalar(on)}"

    def _table(self, node: exp.Expr) -> tuple[str, Source]:
        """Return a table of the query, and its alias."""
        alias = node.args.get("alias")
        others = {part for part, value in node.args.items() if value} - {"this", "db", "alias"}
        if others or (isinstance(alias, exp.TableAlias) and alias.args.get("columns")):
            raise SqlNotCarriedOut(shown(node.sql(dialect="druid")))
        if isinstance(node, exp.Subquery):
            query = self.select(node.this)
            return node.alias or "", _source_of(query)
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise SqlNotCarriedOut(shown(node.sql(dialect="druid")))
        schema, name = node.db, node.name
        source = self._ctes.get(name) if not schema else None
        source = source or self._catalog(schema or "druid", name)
        if source is None:
            raise SqlFault(f"There is no table {shown(f'{schema}.{name}' if schema else name)}")
        return node.alias or name, source


class _QueryWriter(ExpressionWriter):
    """Writes the expressions of a query, whose columns belong to tables.

    :param sources: the columns of each table, by its alias.
    """

    def __init__(self, sources: Mapping[str, Sequence[str]], translator: _Translator) -> None:
        super().__init__({column for columns in sources.values() for column in columns})
        self._sources = sources
        self._translator = translator

    def all_columns(self, table: str | None) -> list[tuple[str, str]]:
        """Return each column with its table, of all tables or of one."""
        if table is not None and table not in self._sources:
            raise SqlFault(f"There is no table {shown(table)}")
        if not self._sources:
            raise SqlFault("SELECT * needs a table")
        return [
            (alias, column) for alias, columns in self._sources.items() if table in (None, alias) for column in columns
        ]

    def qualified(self, table: str, column: str) -> str:
        """Return a column of a table."""
        return f"{quoted(table)}.{quoted(column)}"

    def column(self, name: str) -> str:
        """Return a column of any table.

        :raises SqlFault: if there is no such column, or more than one.
        """
        super().column(name)
        owners = [alias for alias, columns in self._sources.items() if name in columns]
        if len(owners) > 1:
            raise SqlFault(f"The column {shown(name)} is in more than one table")
        return self.qualified(owners[0], name)

    def column_of(self, table: str, name: str) -> str:
        """Return a column of one table."""
        if table not in self._sources:
            raise SqlFault(f"There is no table {shown(table)}")
        if name not in self._sources[table]:
            raise SqlFault(f"There is no column {shown(f'{table}.{name}')}")
        return self.qualified(table, name)

    def subquery(self, node: exp.Expr) -> str:
        """Return a query in an expression, which sees no column of this query."""
        query = self._translator.select(node.this if isinstance(node, exp.Subquery) else node)
        if len(query.columns) != 1:
            raise SqlFault("A query in an expression must have one column")
        return f"({query.sql})"


def _source_of(query: Query) -> Source:
    if len(set(query.columns)) != len(query.columns):
        raise SqlFault("The columns of an inner query must have different names")
    return Source(f"({query.sql})", query.columns)


def _ordinal(node: exp.Expr, count: int) -> str | None:
    """Return the number of a column of the result, ``None`` if the expression is none."""
    if not isinstance(node, exp.Literal) or node.is_string or not str(node.this).isdigit():
        return None
    if not 1 <= int(node.this) <= count:
        raise SqlFault(f"There is no column number {node.this}")
    return str(int(node.this))
