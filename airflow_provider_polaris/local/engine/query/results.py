"""The result of a query in the formats of the SQL API."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain
from typing import Any

#: The type of Druid at run time and in SQL, for each type of DuckDB.
_TYPES: Mapping[str, tuple[str, str]] = {
    "BIGINT": ("LONG", "BIGINT"),
    "BOOLEAN": ("LONG", "BOOLEAN"),
    "DATE": ("LONG", "DATE"),
    "DOUBLE": ("DOUBLE", "DOUBLE"),
    "FLOAT": ("FLOAT", "FLOAT"),
    "HUGEINT": ("LONG", "BIGINT"),
    "INTEGER": ("LONG", "BIGINT"),
    "JSON": ("COMPLEX<json>", "OTHER"),
    "TIMESTAMP": ("LONG", "TIMESTAMP"),
    "VARCHAR": ("STRING", "VARCHAR"),
    "BIGINT[]": ("ARRAY<LONG>", "ARRAY"),
    "DOUBLE[]": ("ARRAY<DOUBLE>", "ARRAY"),
    "VARCHAR[]": ("ARRAY<STRING>", "ARRAY"),
}
_UNKNOWN = ("COMPLEX", "OTHER")
LINES = ("objectLines", "arrayLines", "csv")
FORMATS = ("object", "array", *LINES)
#: A part of a result is sent when it has so many characters.
PART = 64 * 1024


@dataclass(frozen=True)
class Header:
    """What the first rows of a result say.

    :param names: whether they have the names of the columns.
    :param types: whether they have Druid's types at run time.
    :param sql_types: whether they have the types of SQL.
    """

    names: bool = False
    types: bool = False
    sql_types: bool = False


def value_of(value: Any) -> Any:
    """Return a value of DuckDB as Druid's JSON has it. An array is a text of JSON there, as by default in Druid."""
    if isinstance(value, datetime):
        return f"{value.isoformat(timespec='milliseconds')}Z"
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00.000Z"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return json.dumps([value_of(item) for item in value], ensure_ascii=False, separators=(",", ":"))
    return value


def types_of(kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Return the type of Druid at run time and in SQL, for each type of DuckDB."""
    return [_TYPES.get(kind, _UNKNOWN) for kind in kinds]


def written(
    rows: Iterable[Sequence[Any]], names: Sequence[str], kinds: Sequence[str], result_format: str, header: Header
) -> Iterator[str]:
    """Yield the text of a result in parts of about :data:`PART` characters.

    The formats of lines end with an empty line, so that a reader can tell whether the result is complete.

    :param rows: the rows, each with a value for each column.
    :param kinds: the type of each column in DuckDB.
    """
    types = types_of(kinds)
    row_of: Callable[[Sequence[Any]], Any]
    if result_format.startswith("object"):
        heads: list[Any] = [_object_head(names, types, header)] if header.names else []
        row_of = lambda row: dict(zip(names, map(value_of, row), strict=True))  # noqa: E731 - one of two
    else:
        heads = [*_array_heads(names, types, header)]
        row_of = lambda row: [value_of(value) for value in row]  # noqa: E731 - one of two
    write = _csv if result_format == "csv" else _lines if result_format in LINES else _list
    part: list[str] = []
    size = 0
    for text in write(chain(heads, (row_of(row) for row in rows))):
        part.append(text)
        size += len(text)
        if size >= PART:
            yield "".join(part)
            part, size = [], 0
    yield "".join(part)


def _object_head(names: Sequence[str], types: Sequence[tuple[str, str]], header: Header) -> dict[str, Any]:
    if not header.types and not header.sql_types:
        return dict.fromkeys(names)
    return {
        name: {**({"type": kind} if header.types else {}), **({"sqlType": sql} if header.sql_types else {})}
        for name, (kind, sql) in zip(names, types, strict=True)
    }


def _array_heads(names: Sequence[str], types: Sequence[tuple[str, str]], header: Header) -> list[Sequence[str]]:
    if not header.names:
        return []
    heads: list[Sequence[str]] = [names]
    if header.types:
        heads.append([kind for kind, _ in types])
    if header.sql_types:
        heads.append([sql for _, sql in types])
    return heads


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _list(rows: Iterable[Any]) -> Iterator[str]:
    mark = "["
    for row in rows:
        yield f"{mark}{_json(row)}"
        mark = ","
    yield "[]\n" if mark == "[" else "]\n"


def _lines(rows: Iterable[Any]) -> Iterator[str]:
    for row in rows:
        yield f"{_json(row)}\n"
    yield "\n"


def _csv(rows: Iterable[Any]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([str(value).lower() if isinstance(value, bool) else value for value in row])
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield "\n"
