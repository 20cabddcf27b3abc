"""Take the query of an SQL job apart: its table, its SELECT, the rows that it replaces, and the data that it reads.

sqlglot does not know ``PARTITIONED BY``, ``OVERWRITE`` and ``TABLE(POLARIS_UPLOADED(…))``. Its tokenizer does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType
from sqlglot.tokens import Tokenizer

from airflow_provider_polaris.local.engine.intervals import GRANULARITIES, is_aligned, span_of
from airflow_provider_polaris.local.engine.sql.druid_names import SqlFault, shown
from airflow_provider_polaris.local.engine.sql.druid_sql import SqlNotCarriedOut, parse
from airflow_provider_polaris.local.engine.sql.queries import target_of

#: The schema of the data that a query reads from outside of the project. Druid has no schema of this name.
EXTERNAL = "external data"
#: The type of Druid for each type of a column in ``EXTEND``.
_TYPES: Mapping[str, str] = {
    "BIGINT": "long", "BIGINT ARRAY": "longArray", "DOUBLE": "double", "DOUBLE ARRAY": "doubleArray", "FLOAT": "float",
    "FLOAT ARRAY": "floatArray", "TYPE ( COMPLEX<json> )": "json", "VARCHAR": "string", "VARCHAR ARRAY": "stringArray",
}  # fmt: skip
_OPEN, _CLOSE = {TokenType.L_PAREN, TokenType.L_BRACKET}, {TokenType.R_PAREN, TokenType.R_BRACKET}


@dataclass(frozen=True)
class Dml:
    """The query of an SQL job.

    :param select: the SELECT. The name of a table in the schema :data:`EXTERNAL` is the number of its source.
    :param sources: the data from outside of the project, each as the ``source`` of a batch job has it.
    :param granularity: of the partitions that the job writes.
    :param replaced: the intervals that the job replaces; an empty list for all data, ``None`` to append.
    """

    table: str
    select: str
    sources: Sequence[Mapping[str, Any]]
    granularity: str
    replaced: list[str] | None


def parse_dml(text: str) -> Dml:
    """Take a query apart.

    :raises SqlFault: if Druid rejects the query.
    :raises SqlNotCarriedOut: if the local Polaris does not carry it out.
    """
    table = target_of(text)
    if table is None:
        raise SqlFault("It must be an INSERT INTO or a REPLACE INTO a table")
    try:
        tokens = Tokenizer().tokenize(text)
    except SqlglotError:
        raise SqlFault("A text or a comment has no end") from None
    tops = _at_top(tokens)
    start = next((n for n in tops if tokens[n].token_type in (TokenType.SELECT, TokenType.WITH)), None)
    end = next((n for n in reversed(tops) if tokens[n].token_type == TokenType.PARTITION_BY), None)
    if start is None or end is None or end < start:
        raise SqlFault("It must have a SELECT, and PARTITIONED BY after it")
    granularity = _granularity(tokens[end + 1 :])
    head = tokens[:start]
    select, sources = _without_sources(text[tokens[start].start : tokens[end].start], tokens[start:end])
    return Dml(table, select, sources, granularity, _replaced(text, head, tokens[start].start, granularity))


def _at_top(tokens: Sequence[Token]) -> list[int]:
    """Return the places of the tokens that are in no brackets."""
    depth, places = 0, []
    for place, token in enumerate(tokens):
        depth += (token.token_type in _OPEN) - (token.token_type in _CLOSE)
        if depth == 0:
            places.append(place)
    return places


def _words(tokens: Sequence[Token]) -> str:
    return " ".join(token.text for token in tokens)


def _granularity(tokens: Sequence[Token]) -> str:
    """Return the granularity after PARTITIONED BY. A clustering has no effect here."""
    words = _words(tokens).upper().partition(" CLUSTERED BY ")[0]
    if match := re.fullmatch(r"FLOOR \( __TIME TO (\w+) \)", words):
        words = match[1]
    name = words.removesuffix(" TIME").lower()
    if name not in GRANULARITIES:
        raise SqlNotCarriedOut(f"PARTITIONED BY {shown(words)}")
    return name


def _replaced(text: str, head: Sequence[Token], end: int, granularity: str) -> list[str] | None:
    """Return the intervals that a query replaces.

    :param head: the tokens before the SELECT.
    :param end: where the SELECT begins.
    """
    if head[0].text.upper() != "REPLACE":
        if _words(head[-1:]) == ")":
            raise SqlNotCarriedOut("INSERT with a list of columns")
        return None
    place = next((n for n, token in enumerate(head) if token.token_type == TokenType.OVERWRITE), None)
    rest = head[place + 1 :] if place is not None else []
    if _words(rest).upper() == "ALL":
        return []
    if not rest or rest[0].token_type != TokenType.WHERE:
        raise SqlFault("REPLACE needs OVERWRITE ALL, or OVERWRITE WHERE with a condition")
    condition = text[rest[0].end + 1 : end]
    (select,) = parse(f"SELECT 1 FROM t WHERE {condition}")  # noqa: S608 - nothing runs it
    intervals = _intervals(select.args["where"].this) if select else []
    for interval in intervals:
        if not is_aligned(span_of(interval), granularity):
            raise SqlFault(f"OVERWRITE WHERE does not align with PARTITIONED BY {granularity.upper()}: {interval}")
    return intervals


def _intervals(node: exp.Expr) -> list[str]:
    """Return the intervals of time that a condition of OVERWRITE WHERE describes."""
    if isinstance(node, exp.Paren):
        return _intervals(node.this)
    if isinstance(node, exp.Or):
        return [*_intervals(node.left), *_intervals(node.right)]
    if isinstance(node, exp.And) and isinstance(node.left, exp.GTE) and isinstance(node.right, exp.LT):
        interval = f"{_moment(node.left)}/{_moment(node.right)}"
        try:
            span_of(interval)
        except ValueError:
            raise SqlFault(f"OVERWRITE WHERE needs a time that is before another: {interval}") from None
        return [interval]
    raise SqlNotCarriedOut("OVERWRITE WHERE other than __time >= … AND __time < …, perhaps with OR,")


def _moment(node: exp.Binary) -> str:
    """Return the moment that ``__time`` is compared with."""
    column, moment = node.left, node.right
    if not isinstance(column, exp.Column) or column.name != "__time" or not isinstance(moment, exp.Cast):
        raise SqlNotCarriedOut("OVERWRITE WHERE with anything but __time and a TIMESTAMP")
    return str(moment.this.name).replace(" ", "T")


def _without_sources(text: str, tokens: Sequence[Token]) -> tuple[str, list[Mapping[str, Any]]]:
    """Return a SELECT in which a table stands for each source of data, and the sources."""
    parts: list[str] = []
    sources: list[Mapping[str, Any]] = []
    begin, done = tokens[0].start, 0
    place = 0
    while place < len(tokens):
        if tokens[place].token_type != TokenType.TABLE or _words(tokens[place + 1 : place + 2]) != "(":
            place += 1
            continue
        end = _closing(tokens, place + 1)
        inner = tokens[place + 2 : end]
        extended: Sequence[Token] = ()
        if _words(tokens[end + 1 : end + 3]).upper() == "EXTEND (":
            last = _closing(tokens, end + 2)
            extended, end = tokens[end + 3 : last], last
        parts += [text[done : tokens[place].start - begin], f'"{EXTERNAL}"."{len(sources)}"']
        sources.append(_source(inner, _columns(extended)))
        done = tokens[end].end + 1 - begin
        place = end + 1
    return "".join([*parts, text[done:]]), sources


def _closing(tokens: Sequence[Token], place: int) -> int:
    """Return the place of the bracket that closes the one at a place."""
    depth = 0
    for end in range(place, len(tokens)):
        depth += (tokens[end].token_type in _OPEN) - (tokens[end].token_type in _CLOSE)
        if depth == 0:
            return end
    raise SqlFault("A bracket is not closed")


def _columns(tokens: Sequence[Token]) -> list[dict[str, str]]:
    """Return the columns of EXTEND, as an ``inputSchema`` has them."""
    columns = []
    for part in _split(tokens):
        name, kind = part[0].text, _words(part[1:])
        druid = _TYPES.get(kind if kind.startswith("TYPE") else kind.upper())
        if druid is None:
            raise SqlNotCarriedOut(f"The type {shown(kind)} of a column")
        columns.append({"name": name, "dataType": druid})
    return columns


def _split(tokens: Sequence[Token]) -> list[list[Token]]:
    """Return the parts between the commas that are in no brackets."""
    depth = 0
    parts: list[list[Token]] = [[]] if tokens else []
    for token in tokens:
        depth += (token.token_type in _OPEN) - (token.token_type in _CLOSE)
        if token.token_type == TokenType.COMMA and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    if not all(parts):
        raise SqlFault("An argument is empty")
    return parts


def _source(call: Sequence[Token], columns: list[dict[str, str]]) -> Mapping[str, Any]:
    """Return the data that a function of a table reads, as the ``source`` of a batch job.

    :param call: the function with its arguments.
    :param columns: of EXTEND.
    """
    name = call[0].text.upper() if call else ""
    if _words(call[1:2]) != "(" or _closing(call, 1) != len(call) - 1:
        raise SqlFault("TABLE needs a function with arguments")
    arguments = _arguments(call[2:-1])
    if name == "POLARIS_SOURCE" and not columns:
        source = _json(arguments.get("source") or arguments.get("0") or [])
        if not isinstance(source, dict) or not isinstance(source.get("inputSchema"), list):
            raise SqlFault("POLARIS_SOURCE takes the source of a job, with its inputSchema")
        return source
    if name == "POLARIS_UPLOADED":
        files, kind = _texts(arguments.pop("files", [])), "".join(_texts(arguments.pop("format", [])))
        skipped = _words(arguments.pop("skipRows", []))
        if arguments or not re.fullmatch(r"\d{0,4}", skipped):
            raise SqlNotCarriedOut(f"POLARIS_UPLOADED with {', '.join(map(shown, arguments)) or 'these values'}")
        if not files or not columns:
            raise SqlFault("POLARIS_UPLOADED takes files, and EXTEND has their columns")
        settings: dict[str, Any] = {"format": "nd-json" if kind == "json" else kind}
        if kind == "csv":
            settings |= {"columns": [column["name"] for column in columns], "skipHeaderRows": int(skipped or 0)}
        return {"type": "uploaded", "fileList": files, "inputSchema": columns, "formatSettings": settings}
    raise SqlNotCarriedOut(f"TABLE({name}(…))")


def _arguments(tokens: Sequence[Token]) -> dict[str, list[Token]]:
    """Return the values of the arguments by their names, or by their numbers."""
    found = {}
    for number, part in enumerate(_split(tokens)):
        is_named = len(part) > 2 and part[1].token_type == TokenType.FARROW
        found[part[0].text if is_named else str(number)] = part[2:] if is_named else part
    return found


def _texts(tokens: Sequence[Token]) -> list[str]:
    """Return the texts of a text, or of ``ARRAY['a', 'b']``."""
    return [token.text for token in tokens if token.token_type == TokenType.STRING]


def _json(tokens: Sequence[Token]) -> Any:
    try:
        return json.loads("".join(_texts(tokens)))
    except ValueError:
        return None
