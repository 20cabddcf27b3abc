"""Check a job spec before a job is created: the fields that each type requires, and the path of each wrong field.

The required fields come from the vendor's client (polaris-sdk 20250425.14.0) and its documentation of the Jobs API.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from airflow_provider_polaris.local.engine.queries import target_of

#: The sources whose rows the local Polaris reads.
READ_HERE = ("inline", "uploaded")
_BATCH_SOURCES = (*READ_HERE, "s3", "azure", "table", "connection")
_WITH_SCHEMA = (*READ_HERE, "s3", "azure")
_FORMATS = ("nd-json", "csv", "tsv")
_PLAIN_COLUMN = re.compile(r'"([^"]+)"')
_TIME_PARSE = re.compile(r'TIME_PARSE\(\s*"([^"]+)"\s*\)', re.IGNORECASE)

#: The most faults that one error names.
MAX_FAULTS = 20
#: The most intervals that one job may replace or delete.
MAX_INTERVALS = 10_000


@dataclass(frozen=True)
class SpecFault:
    """A message, and the path of the wrong field."""

    target: str
    message: str


Faults = Iterator[SpecFault]


def faults_of(spec: Any, files: Mapping[str, Any], tables: Container[object]) -> list[SpecFault]:
    """Return the faults of a spec, none if a job can be created.

    :param files: the metadata of each uploaded file, by name.
    :param tables: the names of the existing tables.
    """
    if not isinstance(spec, dict):
        return [SpecFault("", "The body must be a job spec, a JSON object")]
    check = _CHECKS.get(spec["type"]) if isinstance(spec.get("type"), str) else None
    if check is None:
        return [SpecFault("type", f"It must be one of {', '.join(_CHECKS)}")]
    return list(islice(check(spec, files, tables), MAX_FAULTS))


def column_in(expression: str) -> str | None:
    """Return the input column of an expression that is a plain column or its TIME_PARSE; ``None`` for any other."""
    match = _TIME_PARSE.fullmatch(expression.strip()) or _PLAIN_COLUMN.fullmatch(expression.strip())
    return match.group(1) if match else None


def day_bounds(intervals: list[str]) -> list[tuple[int, int]]:
    """Return ISO 8601 intervals as pairs of day ordinals, the end excluded, sorted and merged.

    :raises ValueError: if an interval is invalid, empty or not of whole days, or if there are too many.
    """
    if len(intervals) > MAX_INTERVALS:
        raise ValueError(f"more than {MAX_INTERVALS:,} intervals")
    bounds: list[tuple[int, int]] = []
    for first, last in sorted(_days_of(interval) for interval in intervals):
        if bounds and first <= bounds[-1][1]:
            bounds[-1] = (bounds[-1][0], max(last, bounds[-1][1]))
        else:
            bounds.append((first, last))
    return bounds


def _days_of(interval: str) -> tuple[int, int]:
    start, _, end = interval.partition("/")
    days = [datetime.fromisoformat(moment.removesuffix("Z")) for moment in (start, end)]
    if days[0] >= days[1] or any(moment.time() != datetime.min.time() or moment.tzinfo for moment in days):
        raise ValueError(interval)
    return days[0].toordinal(), days[1].toordinal()


def within(bounds: list[tuple[int, int]], day: int) -> bool:
    """Return whether a day is in one of the intervals that :func:`day_bounds` returned."""
    place = bisect_right(bounds, (day, sys.maxsize)) - 1
    return place >= 0 and day < bounds[place][1]


def _batch(spec: Mapping[str, Any], files: Mapping[str, Any], tables: Container[object]) -> Faults:
    yield from _target(spec, tables, create=spec.get("createTableIfNotExists"))
    yield from _replacing(spec)
    yield from _at_least_0(spec, "maxParseExceptions")
    source = spec.get("source")
    if not isinstance(source, dict):
        yield SpecFault("source", "It is required")
    elif source.get("type") not in _BATCH_SOURCES:
        yield SpecFault("source.type", f"It must be one of {', '.join(_BATCH_SOURCES)}")
    else:
        if source["type"] in READ_HERE:
            yield from _format(source.get("formatSettings"))
            yield from _data(source, files)
        else:
            yield from _text(source, "tableName" if source["type"] == "table" else "connectionName", "source.")
        if source["type"] in _WITH_SCHEMA:
            yield from _schema(source.get("inputSchema"))
            yield from _mappings(spec.get("mappings"), _names_in(source.get("inputSchema")))
        else:
            yield from _mappings_if_given(spec)


def _sql(spec: Mapping[str, Any], _files: object, tables: Container[object]) -> Faults:
    table = target_of(spec.get("query"))
    if table is None or len(table) > 255:
        yield SpecFault("query", "It must be an INSERT INTO or a REPLACE INTO, of a table of up to 255 characters")
    elif table not in tables and spec.get("createTableIfNotExists") is not True:
        yield SpecFault("query", f"There is no table {table!r}; with createTableIfNotExists the job makes it")


def _streaming(spec: Mapping[str, Any], _files: object, tables: Container[object]) -> Faults:
    yield from _target(spec, tables, create=spec.get("createTableIfNotExists"))
    source = spec.get("source")
    if not isinstance(source, dict) or source.get("type") != "connection":
        yield SpecFault("source.type", "It must be connection")
    else:
        yield from _text(source, "connectionName", "source.")
    yield from _mappings_if_given(spec)


def _deletion(spec: Mapping[str, Any], _files: object, tables: Container[object]) -> Faults:
    yield from _target(spec, tables, create=False)
    if spec["type"] == "restore_data":
        yield from _text(spec, "interval")
    elif spec["type"] == "delete_data" and bool(spec.get("deleteAll")) == bool(_intervals(spec)):
        yield SpecFault("target.intervals", "It takes either intervals or deleteAll")


_CHECKS: Mapping[str, Callable[..., Faults]] = {
    "batch": _batch,
    "sql": _sql,
    "streaming": _streaming,
    "delete_data": _deletion,
    "drop_table": _deletion,
    "restore_data": _deletion,
}


def _text(holder: Mapping[str, Any], name: str, path: str = "") -> Faults:
    if not isinstance(holder.get(name), str) or not holder[name]:
        yield SpecFault(f"{path}{name}", "It must be text, and is required")


def _at_least_0(holder: Mapping[str, Any], name: str, path: str = "") -> Faults:
    value = holder.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        yield SpecFault(f"{path}{name}", "It must be a whole number, 0 or more")


def _intervals(spec: Mapping[str, Any]) -> Any:
    target = spec.get("target")
    return target.get("intervals") if isinstance(target, dict) else None


def _target(spec: Mapping[str, Any], tables: Container[object], *, create: object) -> Faults:
    target = spec.get("target")
    if not isinstance(target, dict) or target.get("type") != "table":
        yield SpecFault("target.type", "It must be table")
        return
    table = target.get("tableName")
    if not isinstance(table, str) or not 1 <= len(table) <= 255:
        yield SpecFault("target.tableName", "It must be a text of 1 to 255 characters")
    elif table not in tables and create is not True:
        more = "" if create is False else "; with createTableIfNotExists the job makes it"
        yield SpecFault("target.tableName", f"There is no table {table!r}{more}")
    intervals = target.get("intervals") or []
    try:
        day_bounds(intervals)
    except (TypeError, ValueError, AttributeError):
        yield SpecFault("target.intervals", 'It must be a list of ISO 8601 intervals of whole days, "START/END"')


def _replacing(spec: Mapping[str, Any]) -> Faults:
    mode = spec.get("ingestionMode", "append")
    if mode not in ("append", "replace"):
        yield SpecFault("ingestionMode", "It must be append or replace")
    elif mode == "append" and (spec.get("replaceAll") or _intervals(spec)):
        yield SpecFault("ingestionMode", "A job that appends takes neither replaceAll nor target.intervals")
    elif mode == "replace" and bool(spec.get("replaceAll")) == bool(_intervals(spec)):
        yield SpecFault("replaceAll", "A job that replaces takes either replaceAll or target.intervals")


def _names_in(schema: Any) -> set[str]:
    columns = schema if isinstance(schema, list) else []
    return {column["name"] for column in columns if isinstance(column, dict) and isinstance(column.get("name"), str)}


def _schema(schema: Any) -> Faults:
    if not isinstance(schema, list):
        yield SpecFault("source.inputSchema", "It must be a list of columns with name and dataType")
    for number, column in enumerate(schema if isinstance(schema, list) else []):
        if not isinstance(column, dict):
            yield SpecFault(f"source.inputSchema[{number}]", "It must be a column with name and dataType")
        else:
            yield from _text(column, "name", f"source.inputSchema[{number}].")
            yield from _text(column, "dataType", f"source.inputSchema[{number}].")


def _data(source: Mapping[str, Any], files: Mapping[str, Any]) -> Faults:
    if source["type"] == "inline":
        if not isinstance(source.get("data"), str):
            yield SpecFault("source.data", "It must be text")
        return
    names = source.get("fileList")
    if not isinstance(names, list) or not names:
        yield SpecFault("source.fileList", "It must be a list of names of uploaded files")
    for number, name in enumerate(names if isinstance(names, list) else []):
        if not isinstance(name, str) or name not in files:
            yield SpecFault(f"source.fileList[{number}]", f"No file named {name!r} was uploaded")
        elif files[name]["compressionFormat"] not in ("none", "gz"):
            yield SpecFault(f"source.fileList[{number}]", "The local Polaris reads plain and gz files")


def _format(settings: Any) -> Faults:
    path = "source.formatSettings."
    if not isinstance(settings, dict) or settings.get("format") not in _FORMATS:
        yield SpecFault(f"{path}format", f"The local Polaris reads {', '.join(_FORMATS)}")
        return
    delimiter = settings.get("delimiter", ",")
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        yield SpecFault(f"{path}delimiter", "It must be one character")
    columns = settings.get("columns", [])
    if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
        yield SpecFault(f"{path}columns", "It must be a list of names")
    yield from _at_least_0(settings, "skipHeaderRows", path)


def _mappings_if_given(spec: Mapping[str, Any]) -> Faults:
    """Check the mappings of a job whose spec has no input columns."""
    if spec.get("mappings") is not None:
        yield from _mappings(spec["mappings"], None)


def _mappings(mappings: Any, inputs: Container[str] | None) -> Faults:
    if not isinstance(mappings, list):
        yield SpecFault("mappings", "It must be a list of mappings with columnName and expression")
        return
    for number, mapping in enumerate(mappings):
        path = f"mappings[{number}]"
        if not isinstance(mapping, dict):
            yield SpecFault(path, "It must be a mapping with columnName and expression")
            continue
        yield from _text(mapping, "columnName", f"{path}.")
        yield from _text(mapping, "expression", f"{path}.")
        column = column_in(mapping["expression"]) if isinstance(mapping.get("expression"), str) else None
        if inputs is not None and column is not None and column not in inputs:
            yield SpecFault(f"{path}.expression", f"There is no column {column!r} in source.inputSchema")
    if not any(isinstance(mapping, dict) and mapping.get("columnName") == "__time" for mapping in mappings):
        yield SpecFault("mappings", "A mapping to __time is required")
