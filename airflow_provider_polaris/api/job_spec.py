"""Read, check and mark a job spec before it is sent, and let its job replace an interval. Pure.

The required fields of each job type are those of the vendor's client (polaris-sdk 20250425.14.0).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_polaris.api.errors import PolarisBadRequest, PolarisUsageError
from airflow_provider_polaris.api.intervals import Interval, read_interval
from airflow_provider_polaris.api.models import JobType
from airflow_provider_polaris.api.parsing import clip

_SPACE = re.compile(r"\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/", re.DOTALL)
_VERB = re.compile(r"INSERT\b|REPLACE\b", re.IGNORECASE)
_INTO = re.compile(r"INTO\b", re.IGNORECASE)
#: A table's name, with or without Druid's only schema.
_TABLE = re.compile(r'(?:"druid"\.|druid\.)?(?:"([^"]*(?:""[^"]*)*)"|([\w.]+))')
#: A template renders text here. A service that reads the text ``"false"`` as true replaces or empties a whole table.
_FLAGS = ("replaceAll", "deleteAll", "createTableIfNotExists")

#: The key of a batch job's ``context`` that holds the marker, and the first word of the comment in a query.
CONTEXT_KEY = "airflow"
#: This provider's name, the digest of a task's clear generation, and a number that is new for each try.
_MARKER = re.compile(r"airflow-provider-polaris [0-9a-f]{32}(?: [0-9a-f]{16})?")


def read_spec(given: Any) -> dict[str, Any]:
    """Return a job spec that can be sent.

    :param given: a dict, or JSON text.
    :raises PolarisUsageError: naming the path of each invalid field.
    """
    spec = _parsed(given) if isinstance(given, str) else given
    if not isinstance(spec, dict):  # Airflow renders no other mappings
        raise PolarisUsageError(f"job_spec must be a dict or a JSON object, not {type(spec).__name__}")
    try:
        # The spec is sent as JSON. A date or a set in it gets a message here, and no traceback later.
        spec = json.loads(json.dumps(spec, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        where = next(_not_json(spec), "")  # no path is found if the spec is too deep
        raise PolarisUsageError(f"job_spec cannot be written as JSON: {where and f'{where}: '}{error}") from None
    if faults := [f"{path} {fault}" for path, fault in _faults(spec)]:
        raise PolarisUsageError(f"job_spec cannot make a job: {'; '.join(faults)}")
    return dict(spec)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolarisUsageError(f"job_spec is not JSON: {error}") from None


def _not_json(value: Any, path: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the paths of values that JSON cannot hold."""
    if depth > 50:
        return
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _not_json(part, f"{path}.{name}".removeprefix("."), depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _not_json(part, f"{path}[{number}]", depth + 1)
    elif not isinstance(value, (str, int, float, bool, type(None))) or value in (math.inf, -math.inf) or value != value:
        yield path


def _faults(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    job_type = _type_of(spec)
    if not job_type.is_known:
        yield "type", f"must be one of {', '.join(sorted(JobType.known))}, not {clip(repr(spec.get('type')), 100)}"
        return
    yield from _flag_faults(spec)
    if job_type.is_sql:
        if table_of(spec) is None:
            yield "query", "must be an INSERT INTO or a REPLACE INTO"
        return
    target = spec.get("target")
    if not isinstance(target, Mapping):
        yield "target", "is required"
    else:
        if target.get("type") != "table":
            yield "target.type", f"must be 'table', not {clip(repr(target.get('type')), 100)}"
        table = target.get("tableName")
        if not isinstance(table, str) or not 1 <= len(table) <= 255:
            yield "target.tableName", "must be a name of 1 to 255 characters"
    if job_type.has_source:
        source = spec.get("source")
        if not isinstance(source, Mapping):
            yield "source", "is required"
        elif not isinstance(source.get("type"), str):
            yield "source.type", "is required"
    if job_type.is_deletion and not isinstance(spec.get("softDelete"), bool):
        # Polaris deletes for good if nothing is said.
        yield "softDelete", "must be true, so that the data can be restored for 30 days, or false: it is gone for good"
    if job_type.has_interval and not isinstance(spec.get("interval"), str):
        yield "interval", "is required"


def _flag_faults(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _FLAGS:
        if not isinstance(spec.get(name), (bool, type(None))):
            yield name, f"must be true or false, not {clip(repr(spec[name]), 100)}"


def _type_of(spec: Mapping[str, Any]) -> JobType:
    """Return the type, an unknown one if the spec has none."""
    given = spec.get("type")
    return JobType(given if isinstance(given, str) else "")


def table_of(spec: Mapping[str, Any]) -> str | None:
    """Return the name of the table that a job writes to, ``None`` if the spec does not name one."""
    if _type_of(spec).is_sql:
        return sql_target(spec.get("query"))
    target = spec.get("target")
    table = target.get("tableName") if isinstance(target, Mapping) else None
    return table if isinstance(table, str) else None


def sql_target(query: Any) -> str | None:
    """Return the table that a query inserts into, ``None`` if the query inserts nothing."""
    if not isinstance(query, str):
        return None
    match, end = None, 0
    for part in (_VERB, _INTO, _TABLE):
        while space := _SPACE.match(query, end):
            end = space.end()
        match = part.match(query, end)
        if match is None:
            return None
        end = match.end()
    return (match[2] or match[1].replace('""', '"') or None) if match else None


#: What replaces or deletes an interval in the jobs that are not of the type ``batch``.
_INSTEAD: Mapping[str, str] = {
    JobType.SQL: "the query of a sql job names it, in REPLACE INTO … OVERWRITE WHERE …: see the guide Load a day again",
    JobType.STREAMING: "a streaming job takes events as they arrive. Replace an interval of its table with a batch job",
    JobType.DELETE_DATA: "a delete_data job has it in target.intervals of its spec",
    JobType.DROP_TABLE: "a drop_table job deletes the whole table. Use delete_data with target.intervals",
    JobType.RESTORE_DATA: "a restore_data job has it in the field interval of its spec",
}


def replacing(spec: Any, interval: str) -> dict[str, Any]:
    """Return the spec of a job that replaces exactly one interval of its table, so that it can run again.

    The job leaves out the rows of other times. A row without a valid time still fails the job. A ``filterExpression``
    of the spec still applies.

    :param spec: a ``batch`` job with a mapping of ``__time``, as a dict or as JSON text. It has no ``replaceAll`` and
        no ``target.intervals``, and its ``ingestionMode`` may be left out.
    :param interval: ``START/END``, ``START/PERIOD`` or ``PERIOD/END`` in ISO 8601, such as ``2026-11-26/P1D``. A moment
        without an offset is in UTC. The interval consists of whole partitions of the job.
    :raises PolarisUsageError: naming what to change, in one line.
    """
    spec = read_spec(spec)
    job_type = _type_of(spec)
    if not job_type.is_batch:
        raise PolarisUsageError(f"interval is only for batch jobs: {_INSTEAD[job_type]}")
    if spec.get("ingestionMode") not in (None, "replace"):
        raise PolarisUsageError(
            f"interval needs a job that replaces, and ingestionMode is {clip(repr(spec['ingestionMode']), 100)}: leave "
            "ingestionMode out"
        )
    if spec.get("replaceAll"):
        raise PolarisUsageError(
            "interval replaces a part of the table, and replaceAll all of it: leave one of them out"
        )
    if spec["target"].get("intervals"):
        raise PolarisUsageError("interval and target.intervals both name what is replaced: leave target.intervals out")
    time, replaced = _time_expression(spec), read_interval(interval)
    _check_alignment(replaced, spec.get("partitionedBy"))
    # A row whose time is null must not disappear: without the filter, it fails the job.
    own = f"(({time}) IS NULL OR TIME_IN_INTERVAL({time}, '{replaced}'))"
    given = spec.get("filterExpression")
    if not isinstance(given, (str, type(None))):
        raise PolarisUsageError(f"filterExpression must be text, not {type(given).__name__}")
    return {
        **spec,
        "ingestionMode": "replace",
        "target": {**spec["target"], "intervals": [str(replaced)]},
        "filterExpression": f"({_closed(given)}) AND {own}" if given and given.strip() else own,
    }


def _time_expression(spec: Mapping[str, Any]) -> str:
    """Return the expression of the mapping of ``__time``."""
    mappings = spec.get("mappings")
    for mapping in mappings if isinstance(mappings, list) else []:
        if isinstance(mapping, Mapping) and mapping.get("columnName") == "__time":
            expression = mapping.get("expression")
            if isinstance(expression, str) and expression.strip() and not mapping.get("isAggregation"):
                return _closed(expression)
    raise PolarisUsageError(
        "interval needs the time of a row: add a mapping of __time, with an expression that is no aggregation"
    )


def _closed(expression: str) -> str:
    """Return the expression so that text can follow it, also if it ends with a comment."""
    return f"{expression}\n" if "--" in expression else expression


def _check_alignment(interval: Interval, granularity: Any) -> None:
    """Polaris rejects an interval that is not of whole partitions. Without a granularity, only the table has it."""
    if granularity == "all":
        raise PolarisUsageError(
            f"interval {interval} is a part of the only partition of partitionedBy 'all': use replaceAll, or set "
            "another partitionedBy"
        )
    if isinstance(granularity, str) and not interval.aligns_with(granularity):
        raise PolarisUsageError(
            f"interval {interval} does not align with partitionedBy {granularity!r}: let it start and end where a "
            "partition starts, in UTC, or set a shorter partitionedBy"
        )
    if not interval.aligns_with("second"):
        raise PolarisUsageError(
            f"interval {interval} does not align with any partition, since the shortest is a second: let it start and "
            "end at a whole second"
        )


def can_be_marked(spec: Mapping[str, Any]) -> bool:
    """Whether the spec has a place for a marker: the query of a ``sql`` job, or the ``context`` of a ``batch`` job.

    A key ``airflow`` that a user put into the context is never replaced. Other types of jobs have no such place
    (OpenAPI document of March 2026).
    """
    if _type_of(spec).is_sql:
        return True
    context = {} if spec.get("context") is None else spec["context"]
    has_place = isinstance(context, Mapping) and (CONTEXT_KEY not in context or _marker_in(context) is not None)
    return _type_of(spec).is_batch and has_place


def marked(spec: Mapping[str, Any], marker: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec with a marker that identifies its job. A marker in a copied spec is replaced.

    :param spec: one that can be marked.
    :param marker: a text of the form that :func:`marker_of` finds.
    :param about: who creates the job, as plain JSON values, for a person who looks at the job.
    """
    note = {**about, "marker": marker}  # the marker is last: marker_of takes the last one of a query
    if not _type_of(spec).is_sql:
        return {**spec, "context": {**(spec.get("context") or {}), CONTEXT_KEY: note}}
    # Without a star, no value can end the comment.
    comment = json.dumps(note).replace("*", "\\u002a")
    return {**spec, "query": f"{spec['query']}\n/* {CONTEXT_KEY} {comment} */"}


def marker_of(job: Mapping[str, Any]) -> str | None:
    """Return the marker of a job, in the API's form, or of a spec. ``None`` if there is none."""
    if _type_of(job).is_sql:
        found = _MARKER.findall(str(job.get("query")))
        return found[-1] if found else None
    if not _type_of(job).is_batch:
        return None
    spec = job.get("spec")
    return _marker_in(job.get("context")) or (_marker_in(spec.get("context")) if isinstance(spec, Mapping) else None)


def _marker_in(context: Any) -> str | None:
    note = context.get(CONTEXT_KEY) if isinstance(context, Mapping) else None
    marker = note.get("marker") if isinstance(note, Mapping) else None
    return marker if isinstance(marker, str) and _MARKER.fullmatch(marker) else None


def refuses_context(spec: Mapping[str, Any], error: PolarisBadRequest) -> bool:
    """Whether the service may have rejected the marked spec for its ``context``. Then no job was created."""
    return _type_of(spec).is_batch and error.status == 400 and "context" in str(error).lower()


def comparable(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a spec decides about the data: without the marker in a context, and without ignored fields."""
    kept = {name: value for name, value in spec.items() if name not in ("desiredExecutionStatus", "context")}
    context = spec.get("context")
    if isinstance(context, Mapping) and _marker_in(context) is not None:
        context = {name: value for name, value in context.items() if name != CONTEXT_KEY}
    return {**kept, "context": context} if context else kept
