"""Translate expressions of Druid SQL into DuckDB SQL.

sqlglot parses the text. Each kind of node that may appear has a method here that writes it as DuckDB SQL, and each
function a template in ``druid_functions.py``. Everything else is refused. So DuckDB never gets a name, a function or a
statement that this module does not know: no files, no settings, no other tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp, tokens
from sqlglot.dialects.druid import Druid
from sqlglot.errors import SqlglotError

from airflow_provider_polaris.local.engine.sql.druid_functions import (
    AGGREGATES,
    ALIASES,
    NOT_CARRIED_OUT,
    SCALARS,
    TAKE_DISTINCT,
    VARIADIC,
)
from airflow_provider_polaris.local.engine.sql.druid_names import SqlFault, quoted, shown, text_literal
from airflow_provider_polaris.local.engine.sql.druid_time import (
    TimeError,
    duckdb_period,
    duckdb_time_format,
    span_as_sql,
)

#: The deepest nesting of an expression. Deeper ones would exhaust Python's stack.
MAX_DEPTH = 150
#: The longest expression or query, in characters.
MAX_LENGTH = 100_000


class SqlNotCarriedOut(SqlFault):
    """An expression or query that Druid accepts, and the local Polaris does not carry out."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not carried out by the local Polaris")


@dataclass(frozen=True)
class Translation:
    """An expression of DuckDB.

    :param is_aggregation: whether the expression aggregates rows.
    :param columns: the names of the columns that the expression uses.
    """

    sql: str
    is_aggregation: bool
    columns: frozenset[str]


class _Dialect(Druid):
    """Druid without sqlglot's own functions: each function call keeps its name and its arguments."""

    class Tokenizer(tokens.Tokenizer):
        # DIV is a function of Druid, and an operator of others.
        KEYWORDS = {word: kind for word, kind in tokens.Tokenizer.KEYWORDS.items() if word != "DIV"}  # noqa: RUF012

    class Parser(Druid.Parser):  # type: ignore[valid-type, misc] # the metaclass sets it
        FUNCTIONS: Mapping[str, Any] = {}


def translate_expression(text: str, columns: Container[str]) -> Translation:
    """Translate one expression, such as that of a mapping.

    :param columns: the names of the columns that the expression can use.
    :raises SqlFault: if Druid rejects the expression.
    :raises SqlNotCarriedOut: if the local Polaris does not carry it out.
    """
    # The line break ends a comment that the text may begin.
    first, *others = parse(f"SELECT {text}\n")
    parts = [value for name, value in first.args.items() if value and name != "expressions"] if first else []
    nodes = first.expressions if isinstance(first, exp.Select) and not others and not parts else []
    if len(nodes) != 1 or isinstance(nodes[0], (exp.Alias, exp.Star)):
        raise SqlFault(f"It must be one SQL expression, not {shown(text)}")
    writer = ExpressionWriter(columns)
    return Translation(writer.write(nodes[0]), writer.aggregations > 0, frozenset(writer.used))


def parse(text: str) -> Sequence[exp.Expr | None]:
    """Return the statements of a text.

    :raises SqlFault: if it has a syntax error, or is too long or nested too deeply.
    """
    if len(text) > MAX_LENGTH:
        raise SqlFault(f"It must have at most {MAX_LENGTH:,} characters")
    try:
        statements = _Dialect().parse(text)
        _check_depth(statements)
    except RecursionError:
        raise SqlFault("It is nested too deeply") from None
    except SqlglotError as error:
        raise SqlFault(_syntax_error(error)) from None
    return statements


def _check_depth(statements: Sequence[exp.Expr | None]) -> None:
    level = [node for node in statements if node]
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [child for node in level for child in node.iter_expressions()]
    raise SqlFault("It is nested too deeply")


def _syntax_error(error: SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if not details:
        return f"The SQL has a syntax error: {str(error).splitlines()[0]}"
    near = str(details[0].get("highlight") or "").strip()
    return f"The SQL has a syntax error near {shown(near)}" if near else "The SQL has a syntax error at its end"


_TYPES = {
    exp.DType.BIGINT: "BIGINT",
    exp.DType.INT: "BIGINT",
    exp.DType.SMALLINT: "BIGINT",
    exp.DType.TINYINT: "BIGINT",
    exp.DType.BOOLEAN: "BOOLEAN",
    exp.DType.CHAR: "VARCHAR",
    exp.DType.VARCHAR: "VARCHAR",
    exp.DType.DATE: "DATE",
    exp.DType.DECIMAL: "DOUBLE",
    exp.DType.DOUBLE: "DOUBLE",
    exp.DType.FLOAT: "FLOAT",
    exp.DType.TIMESTAMP: "TIMESTAMP",
}
_OPERATORS: Mapping[type[exp.Expr], str] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.And: "AND", exp.Or: "OR",
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.Like: "LIKE",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM", exp.NullSafeNEQ: "IS DISTINCT FROM",
}  # fmt: skip
_UNITS = ("SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR")
#: The units of DATE_TRUNC, FLOOR and CEIL, as periods.
_PERIODS = {
    "SECOND": "PT1S", "MINUTE": "PT1M", "HOUR": "PT1H", "DAY": "P1D", "WEEK": "P1W", "MONTH": "P1M",
    "QUARTER": "P3M", "YEAR": "P1Y", "DECADE": "P10Y",
}  # fmt: skip
#: The units of EXTRACT and TIME_EXTRACT, as parts of DuckDB.
_PARTS = {
    "EPOCH": "epoch", "MILLISECOND": "millisecond", "SECOND": "second", "MINUTE": "minute", "HOUR": "hour",
    "DAY": "day", "DOW": "isodow", "ISODOW": "isodow", "DOY": "doy", "WEEK": "week", "MONTH": "month",
    "QUARTER": "quarter", "YEAR": "year", "ISOYEAR": "isoyear", "DECADE": "decade",
}  # fmt: skip
_DOUBLED = str.maketrans({"{": "{{", "}": "}}"})
_JAVA_GROUP = re.compile(r"\\(.)|\$(\d)|(\$)", re.DOTALL)


class ExpressionWriter:
    """Writes a parsed expression as DuckDB SQL.

    :param columns: the names of the columns that the expression can use.
    """

    def __init__(self, columns: Container[str]) -> None:
        self._columns = columns
        #: How many aggregations were written.
        self.aggregations = 0
        #: The columns that were written.
        self.used: set[str] = set()

    def write(self, node: exp.Expr) -> str:
        """Return a node as DuckDB SQL.

        :raises SqlFault: if Druid rejects the expression.
        :raises SqlNotCarriedOut: if the local Polaris does not carry it out.
        """
        method = _WRITERS.get(type(node))
        if method is not None:
            return method(self, node)
        operator = _OPERATORS.get(type(node))
        if operator is not None:
            return f"({self.write(node.this)} {operator} {self.write(node.expression)})"
        raise SqlNotCarriedOut(shown(node.sql(dialect="druid")))

    def column(self, name: str) -> str:
        """Return a column.

        :raises SqlFault: if there is no such column.
        """
        if name not in self._columns:
            raise SqlFault(f"There is no column {shown(name)}")
        self.used.add(name)
        return quoted(name)

    def column_of(self, table: str, name: str) -> str:  # noqa: ARG002 - a query needs both
        """Return a column of a table. An expression alone has none.

        :raises SqlFault: if there is no such table or column.
        """
        raise SqlFault(f"There is no table {shown(table)} in an expression")

    def subquery(self, node: exp.Expr) -> str:
        """Return a query in an expression. An expression alone has none."""
        raise SqlNotCarriedOut(shown(node.sql(dialect="druid")))

    # Each method below writes the nodes of one kind.

    def _column(self, node: exp.Column) -> str:
        if node.table:
            return self.column_of(node.table, node.name)
        if node.name.upper() == "PI" and not node.this.quoted:
            return "pi()"
        return self.column(node.name)

    def _literal(self, node: exp.Literal) -> str:
        text = str(node.this)
        if node.is_string:
            return text_literal(text)
        if re.fullmatch(r"\d{1,18}", text):
            return f"CAST({text} AS BIGINT)"
        if not re.fullmatch(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", text):
            raise SqlFault(f"{shown(text)} is no number")
        return f"CAST('{text}' AS {'BIGINT' if text.isdigit() else 'DOUBLE'})"

    def _constant(self, node: exp.Expr) -> str:
        return "NULL" if isinstance(node, exp.Null) else str(bool(node.this)).upper()

    def _paren(self, node: exp.Paren) -> str:
        return f"({self.write(node.this)})"

    def _not(self, node: exp.Not) -> str:
        return f"(NOT {self.write(node.this)})"

    def _negative(self, node: exp.Neg) -> str:
        return f"(-{self.write(node.this)})"

    def _quotient(self, node: exp.Div) -> str:
        return f"({self.write(node.this)} / nullif({self.write(node.expression)}, 0))"

    def _remainder(self, node: exp.Mod) -> str:
        return f"({self.write(node.this)} % nullif({self.write(node.expression)}, 0))"

    def _concatenation(self, node: exp.DPipe) -> str:
        return self._concatenated([node.this, node.expression])

    def _concatenated(self, nodes: Sequence[exp.Expr]) -> str:
        first, *others = (f"CAST({self.write(node)} AS VARCHAR)" for node in nodes)
        for other in others:
            first = f"druid_concat({first}, {other})"
        return first

    def _is(self, node: exp.Is) -> str:
        return f"({self.write(node.this)} IS {self._constant(node.expression)})"

    def _between(self, node: exp.Between) -> str:
        value, low, high = (self.write(node.args[name]) for name in ("this", "low", "high"))
        return f"({value} BETWEEN {low} AND {high})"

    def _in(self, node: exp.In) -> str:
        if query := node.args.get("query"):
            return f"({self.write(node.this)} IN {self.subquery(query)})"
        return f"({self.write(node.this)} IN ({self._list(node.expressions)}))"

    def _escape(self, node: exp.Escape) -> str:
        if not isinstance(node.this, exp.Like):
            raise SqlFault("ESCAPE belongs to LIKE")
        return f"({self.write(node.this)[1:-1]} ESCAPE {text_literal(_text(node.expression, 'ESCAPE'))})"

    def _case(self, node: exp.Case) -> str:
        subject = f" {self.write(node.this)}" if node.this else ""
        branches = "".join(
            f" WHEN {self.write(branch.this)} THEN {self.write(branch.args['true'])}" for branch in node.args["ifs"]
        )
        default = node.args.get("default")
        return f"CASE{subject}{branches} ELSE {self.write(default) if default else 'NULL'} END"

    def _array(self, node: exp.Array) -> str:
        return f"[{self._list(node.expressions)}]"

    def _cast(self, node: exp.Cast) -> str:
        """Write a cast. A value that cannot be cast is null, and a number is cut, not rounded."""
        return self._cast_to(self.write(node.this), node.to)

    def _cast_to(self, value: str, kind: exp.DataType) -> str:
        wanted = _TYPES.get(kind.this)
        if wanted is None or kind.args.get("nested"):
            raise SqlNotCarriedOut(f"CAST to {kind.sql(dialect='druid')}")
        if wanted == "BIGINT":
            return f"druid_to_long({value})"
        if wanted == "TIMESTAMP":
            return f"druid_to_timestamp({value})"
        if wanted == "DATE":
            return f"date_trunc('day', druid_to_timestamp({value}))"
        return f"TRY_CAST({value} AS {wanted})"

    def _now(self, _node: exp.Expr) -> str:
        return "date_trunc('milliseconds', timezone('UTC', now()))"

    def _today(self, _node: exp.Expr) -> str:
        return "date_trunc('day', timezone('UTC', now()))"

    def _interval(self, node: exp.Interval) -> str:
        unit = node.args.get("unit")
        name, count = str(unit.name if unit else "").upper(), _text(node.this, "INTERVAL")
        if name not in _UNITS or not re.fullmatch(r"[+-]?\d{1,9}", count):
            raise SqlNotCarriedOut(shown(node.sql(dialect="druid")))
        return f"INTERVAL '{int(count)}' {name}"

    def _trim(self, node: exp.Trim) -> str:
        function = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or "").upper(), "trim")
        chars = self.write(node.expression) if node.expression else "' '"
        return f"{function}({self.write(node.this)}, {chars})"

    def _position(self, node: exp.StrPosition) -> str:
        if node.args.get("position"):
            raise SqlNotCarriedOut("POSITION with FROM")
        return f"strpos({self.write(node.this)}, {self.write(node.args['substr'])})"

    def _substring(self, node: exp.Substring) -> str:
        given = [node.this, node.args.get("start"), node.args.get("length")]
        return self._called("SUBSTRING", [one for one in given if one])

    def _rounded(self, node: exp.Floor | exp.Ceil) -> str:
        unit, name = node.args.get("to"), "FLOOR" if isinstance(node, exp.Floor) else "CEIL"
        if not unit:
            return self._called(name, [node.this])
        return self._bucket(f"TIME_{name}", node.this, self._unit_period(unit.name))

    def _extract(self, node: exp.Extract) -> str:
        return self._part(node.expression, node.this.name)

    def _json_value(self, node: exp.JSONValue) -> str:
        if node.args.get("on_condition"):
            raise SqlNotCarriedOut("JSON_VALUE with ON")
        wanted = node.args.get("returning")
        value = f"json_extract_string({self.write(node.this)}, {text_literal(_json_path(node.args['path']))})"
        return self._cast_to(value, wanted) if wanted else value

    def _string_agg(self, node: exp.GroupConcat) -> str:
        separator = node.args.get("separator")
        return self._aggregated("STRING_AGG", [node.this, *([separator] if separator else [])])

    def _filtered(self, node: exp.Filter) -> str:
        call = node.this
        name = ALIASES.get(call.name.upper(), call.name.upper())
        if not isinstance(call, exp.Anonymous) or name not in AGGREGATES:
            raise SqlFault("FILTER belongs to an aggregation")
        return self._aggregated(name, call.expressions, f" FILTER (WHERE {self.scalar(node.expression.this)})")

    def _list(self, nodes: Sequence[exp.Expr]) -> str:
        return ", ".join(map(self.write, nodes))

    def scalar(self, node: exp.Expr) -> str:
        """Write an expression that must not aggregate."""
        before = self.aggregations
        written = self.write(node)
        if self.aggregations != before:
            raise SqlFault("An aggregation cannot contain an aggregation")
        return written

    # Functions

    def _function(self, node: exp.Anonymous) -> str:
        given = str(node.this).upper()
        name = ALIASES.get(given, given)
        arguments: list[exp.Expr] = node.expressions
        if name in _SPECIAL:
            return _SPECIAL[name](self, name, arguments)
        if name in AGGREGATES:
            return self._aggregated(name, arguments)
        if name in VARIADIC:
            if not arguments:
                raise SqlFault(f"{given} has no arguments")
            return f"{VARIADIC[name]}({self._list(arguments)})"
        if name in SCALARS:
            return self._called(name, arguments)
        if given in NOT_CARRIED_OUT:
            raise SqlNotCarriedOut(f"The function {given}")
        raise SqlFault(f"There is no function {shown(given)}")

    def _called(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        return _filled(name, SCALARS[name], [self.write(argument) for argument in arguments])

    def _aggregated(self, name: str, arguments: list[exp.Expr], filtered: str = "") -> str:
        distinct = ""
        if len(arguments) >= 1 and isinstance(arguments[0], exp.Distinct):
            if name not in TAKE_DISTINCT or len(arguments[0].expressions) != 1:
                raise SqlFault(f"{name} takes no DISTINCT")
            arguments, distinct = [arguments[0].expressions[0], *arguments[1:]], "DISTINCT "
        if name == "COUNT" and not distinct and len(arguments) == 1 and isinstance(arguments[0], exp.Star):
            written = ["*"]
        else:
            written = [self.scalar(argument) for argument in arguments]
        self.aggregations += 1
        if written:
            written[0] = distinct + written[0]
        # The template first: an argument may have a @ too.
        templates = {
            count: (template if "@" in template else f"{template}@").replace("@", filtered.translate(_DOUBLED))
            for count, template in AGGREGATES[name].items()
        }
        return _filled(name, templates, written)

    def _by_time(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        """Write EARLIEST and LATEST, which take the row by the time of the table."""
        if "__time" not in self._columns:
            raise SqlNotCarriedOut(f"{name} without a column __time")
        _check_count(name, arguments, (1, 2))
        self.aggregations += 1
        return f"{'arg_min' if name == 'EARLIEST' else 'arg_max'}({self.write(arguments[0])}, {self.column('__time')})"

    def _concat(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        if not arguments:
            raise SqlFault(f"{name} has no arguments")
        return self._concatenated(arguments)

    def _regexp(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        _check_count(name, arguments, {"REGEXP_LIKE": (2,), "REGEXP_EXTRACT": (2, 3)}.get(name, (3,)))
        value, pattern = self.write(arguments[0]), text_literal(_text(arguments[1], name))
        if name == "REGEXP_LIKE":
            return f"regexp_matches({value}, {pattern})"
        if name == "REGEXP_REPLACE":
            new = _JAVA_GROUP.sub(_re2_group, _text(arguments[2], name))
            return f"regexp_replace({value}, {pattern}, {text_literal(new)}, 'g')"
        group = _number(arguments[2], name) if len(arguments) == 3 else 0
        return f"CASE WHEN regexp_matches({value}, {pattern}) THEN regexp_extract({value}, {pattern}, {group}) END"

    def _time_parse(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        _check_count(name, arguments, (1, 2, 3))
        _refuse_zone(name, arguments[2:])
        value = self.write(arguments[0])
        if len(arguments) == 1 or isinstance(arguments[1], exp.Null):
            return f"druid_time_parse({value})"
        return f"try_strptime({value}, {text_literal(_time_format(arguments[1], name))})"

    def _time_format(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        _check_count(name, arguments, (1, 2, 3))
        _refuse_zone(name, arguments[2:])
        pattern = "%Y-%m-%dT%H:%M:%S.%gZ" if len(arguments) == 1 else _time_format(arguments[1], name)
        return f"strftime({self.write(arguments[0])}, {text_literal(pattern)})"

    def _time_bucket(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        _check_count(name, arguments, (2, 3, 4))
        _refuse_zone(name, arguments[2:])
        return self._bucket(name, arguments[0], _text(arguments[1], name))

    def _date_trunc(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        _check_count(name, arguments, (2,))
        return self._bucket("TIME_FLOOR", arguments[1], self._unit_period(_text(arguments[0], name)))

    def _unit_period(self, unit: str) -> str:
        if unit.upper() not in _PERIODS:
            raise SqlNotCarriedOut(f"The unit {shown(unit)}")
        return _PERIODS[unit.upper()]

    def _bucket(self, name: str, node: exp.Expr, period: str) -> str:
        interval, origin = _period(period)
        value = self.write(node)
        floor = f"time_bucket({interval}, {value}, {origin})"
        if name == "TIME_FLOOR":
            return floor
        return f"CASE WHEN {floor} = {value} THEN {value} ELSE {floor} + {interval} END"

    def _time_shift(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        _check_count(name, arguments, (3, 4))
        _refuse_zone(name, arguments[3:])
        interval, _ = _period(_text(arguments[1], name))
        return f"({self.write(arguments[0])} + {interval} * CAST({self.write(arguments[2])} AS INTEGER))"

    def _time_extract(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        _check_count(name, arguments, (2, 3))
        _refuse_zone(name, arguments[2:])
        return self._part(arguments[0], _text(arguments[1], name))

    def _part(self, node: exp.Expr, unit: str) -> str:
        if unit.upper() not in _PARTS:
            raise SqlNotCarriedOut(f"The unit {shown(unit)}")
        remainder = " % 1000" if unit.upper() == "MILLISECOND" else ""
        return f"(CAST(floor(date_part('{_PARTS[unit.upper()]}', {self.write(node)})) AS BIGINT){remainder})"

    def _time_in_interval(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        _check_count(name, arguments, (2,))
        try:
            start, end = span_as_sql(_text(arguments[1], name))
        except ValueError:
            raise SqlFault(f"{shown(_text(arguments[1], name))} is no ISO 8601 interval") from None
        value = self.write(arguments[0])
        return f"({value} >= {start} AND {value} < {end})"

    def _timestamp_add(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        _check_count(name, arguments, (3,))
        unit = arguments[0].name.upper()
        if unit not in _UNITS:
            raise SqlNotCarriedOut(f"The unit {shown(unit)}")
        first, last = self.write(arguments[1]), self.write(arguments[2])
        if name == "TIMESTAMPADD":
            return f"({last} + INTERVAL '1' {unit} * CAST({first} AS INTEGER))"
        return f"date_sub('{unit.lower()}', {first}, {last})"

    def _array_contains(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        _check_count(name, arguments, (2,))
        function = "list_has_all" if isinstance(arguments[1], exp.Array) else "list_contains"
        return f"{function}({self._list(arguments)})"

    def _mv_to_array(self, name: str, arguments: Sequence[exp.Expr]) -> str:
        _check_count(name, arguments, (1,))
        return f"druid_mv_to_array({self.write(arguments[0])})"


_WRITERS: Mapping[type[exp.Expr], Callable[[ExpressionWriter, Any], str]] = {
    exp.Anonymous: ExpressionWriter._function,
    exp.Array: ExpressionWriter._array,
    exp.Between: ExpressionWriter._between,
    exp.Boolean: ExpressionWriter._constant,
    exp.Case: ExpressionWriter._case,
    exp.Cast: ExpressionWriter._cast,
    exp.Ceil: ExpressionWriter._rounded,
    exp.Column: ExpressionWriter._column,
    exp.CurrentDate: ExpressionWriter._today,
    exp.CurrentTimestamp: ExpressionWriter._now,
    exp.DPipe: ExpressionWriter._concatenation,
    exp.Div: ExpressionWriter._quotient,
    exp.Escape: ExpressionWriter._escape,
    exp.Extract: ExpressionWriter._extract,
    exp.Filter: ExpressionWriter._filtered,
    exp.Floor: ExpressionWriter._rounded,
    exp.GroupConcat: ExpressionWriter._string_agg,
    exp.In: ExpressionWriter._in,
    exp.Interval: ExpressionWriter._interval,
    exp.Is: ExpressionWriter._is,
    exp.JSONValue: ExpressionWriter._json_value,
    exp.Literal: ExpressionWriter._literal,
    exp.Mod: ExpressionWriter._remainder,
    exp.Neg: ExpressionWriter._negative,
    exp.Not: ExpressionWriter._not,
    exp.Null: ExpressionWriter._constant,
    exp.Paren: ExpressionWriter._paren,
    exp.StrPosition: ExpressionWriter._position,
    exp.Subquery: lambda writer, node: writer.subquery(node),
    exp.Substring: ExpressionWriter._substring,
    exp.Trim: ExpressionWriter._trim,
}
#: Functions whose arguments must be literals, or whose meaning depends on them.
_SPECIAL: Mapping[str, Callable[[ExpressionWriter, str, list[exp.Expr]], str]] = {
    "ARRAY_CONTAINS": ExpressionWriter._array_contains,
    "CONCAT": ExpressionWriter._concat,
    "DATE_TRUNC": ExpressionWriter._date_trunc,
    "EARLIEST": ExpressionWriter._by_time,
    "LATEST": ExpressionWriter._by_time,
    "MV_TO_ARRAY": ExpressionWriter._mv_to_array,
    "REGEXP_EXTRACT": ExpressionWriter._regexp,
    "REGEXP_LIKE": ExpressionWriter._regexp,
    "REGEXP_REPLACE": ExpressionWriter._regexp,
    "TIMESTAMPADD": ExpressionWriter._timestamp_add,
    "TIMESTAMPDIFF": ExpressionWriter._timestamp_add,
    "TIME_CEIL": ExpressionWriter._time_bucket,
    "TIME_EXTRACT": ExpressionWriter._time_extract,
    "TIME_FLOOR": ExpressionWriter._time_bucket,
    "TIME_FORMAT": ExpressionWriter._time_format,
    "TIME_IN_INTERVAL": ExpressionWriter._time_in_interval,
    "TIME_PARSE": ExpressionWriter._time_parse,
    "TIME_SHIFT": ExpressionWriter._time_shift,
}


def _filled(name: str, templates: Mapping[int, str], arguments: Sequence[str]) -> str:
    _check_count(name, arguments, tuple(templates))
    return templates[len(arguments)].format(*arguments)


def _check_count(name: str, arguments: Sequence[Any], allowed: tuple[int, ...]) -> None:
    if len(arguments) not in allowed:
        raise SqlFault(f"{name} takes {' or '.join(map(str, allowed))} arguments, not {len(arguments)}")


def _text(node: exp.Expr, name: str) -> str:
    """Return the text of a literal argument."""
    if not isinstance(node, exp.Literal):
        raise SqlNotCarriedOut(f"{name} with an argument that is no literal")
    return str(node.this)


def _json_path(node: exp.Expr) -> str:
    """Return a path of JSON that consists of names and numbers."""
    path = ""
    for part in node.expressions if isinstance(node, exp.JSONPath) else [node]:
        if isinstance(part, exp.JSONPathRoot):
            path += "$"
        elif isinstance(part, exp.JSONPathKey) and isinstance(part.this, str) and '"' not in part.this:
            path += f'."{part.this}"'
        elif isinstance(part, exp.JSONPathSubscript) and isinstance(part.this, int):
            path += f"[{part.this}]"
        else:
            raise SqlNotCarriedOut(f"The JSON path {shown(node.sql(dialect='druid'))}")
    return path


def _number(node: exp.Expr, name: str) -> int:
    text = _text(node, name)
    if not re.fullmatch(r"\d{1,3}", text):
        raise SqlFault(f"{name} takes a whole number, not {shown(text)}")
    return int(text)


def _refuse_zone(name: str, arguments: Sequence[exp.Expr]) -> None:
    if any(not isinstance(argument, exp.Null) for argument in arguments):
        raise SqlNotCarriedOut(f"{name} with an origin or a time zone")


def _period(text: str) -> tuple[str, str]:
    try:
        return duckdb_period(text)
    except TimeError as error:
        raise SqlNotCarriedOut(str(error)) from None


def _time_format(node: exp.Expr, name: str) -> str:
    try:
        return duckdb_time_format(_text(node, name))
    except TimeError as error:
        raise SqlNotCarriedOut(str(error)) from None


def _re2_group(match: re.Match[str]) -> str:
    r"""Return a part of a Java replacement as one of RE2: ``$1`` is ``\1``."""
    escaped, group, dollar = match.groups()
    if dollar:
        raise SqlFault("A $ in a replacement needs the number of a group")
    return f"\\{group}" if group else "\\\\" if escaped == "\\" else escaped
