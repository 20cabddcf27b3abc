"""Check a job spec before a job is created: its form by ``spec_schemas.py``, and the rules that a schema cannot say.

The rules come from the vendor's OpenAPI document of March 2026 and its documentation of the Jobs API.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, ValidationError

from airflow_provider_polaris.local.engine.data.database import Database
from airflow_provider_polaris.local.engine.data.objects import OBJECT_STORES, ObjectFolder
from airflow_provider_polaris.local.engine.intervals import MAX_INTERVALS, Span, is_aligned, span_of
from airflow_provider_polaris.local.engine.project.spec_schemas import JOB
from airflow_provider_polaris.local.engine.project.tables import TableColumns
from airflow_provider_polaris.local.engine.sql.queries import target_of

#: The compressions of files that are read here, by format.
_COMPRESSIONS_READ_HERE = {"csv": ("none", "gz"), "nd-json": ("none", "gz"), "parquet": ("none",)}
#: The granularity of a table that nobody chose.
DEFAULT_GRANULARITY = "day"
_JOB = Draft202012Validator(JOB)
_WORDS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "an object",
    "string": "text",
}

#: The most faults that one error names.
MAX_FAULTS = 20
#: How much of a wrong value an error has, in characters.
MAX_VALUE = 60


@dataclass(frozen=True)
class SpecFault:
    """A message, and the path of the wrong field."""

    target: str
    message: str


class Project(NamedTuple):
    """What a spec can refer to.

    :param files: the metadata of each uploaded file, by name.
    :param tables: the granularity of each table, by name.
    :param streaming: the names of the tables that a streaming job writes to.
    :param objects: the folder in the place of object stores, if there is one.
    :param connections: the names of the push streaming connections.
    """

    files: Mapping[str, Mapping[str, Any]]
    tables: Mapping[str, str]
    streaming: Container[str]
    objects: ObjectFolder | None = None
    connections: Container[str] = ()


Faults = Iterator[SpecFault]


def form_faults_of(spec: Any) -> list[SpecFault]:
    """Return the faults of a spec's form, none if it has the fields, types and values that the API documents.

    A spec with many thousand columns takes seconds.
    """
    return faults_of_form(spec, _JOB, "a job spec")


def faults_of_form(body: Any, schema: Draft202012Validator, what: str) -> list[SpecFault]:
    """Return the faults of a body that a schema finds.

    :param what: names the body in a message.
    """
    if not isinstance(body, dict):
        return [SpecFault("", f"The body must be {what}, a JSON object")]
    return list(islice(map(_fault_of, schema.iter_errors(body)), MAX_FAULTS))


def rule_faults_of(spec: Mapping[str, Any], project: Project) -> list[SpecFault]:
    """Return the faults of a spec whose form has none, none if a job can be created."""
    return list(islice(_CHECKS[spec["type"]](spec, project), MAX_FAULTS))


def expression_faults_of(
    spec: Mapping[str, Any], project: Project, database: Database, table: TableColumns
) -> list[SpecFault]:
    """Return the faults of the expressions of a job that reads inputs, none if all of them can be evaluated.

    :param table: the columns of the job's table.

    Of a job whose data the local Polaris does not read, it evaluates nothing. So such a job may have expressions that
    the local Polaris does not carry out.
    """
    if not _has_inputs(spec, project):
        return []
    # The import takes a fifth of a second, which only a local Polaris that gets such a job needs.
    from airflow_provider_polaris.local.engine.project.plan import Planner

    with database.cursor() as cursor:
        planner = Planner(cursor, spec, table)
        planner.plan()
    is_run = format_read_here(spec, project) is not None
    faults = [fault for fault in planner.faults if is_run or not fault.is_limit]
    return [SpecFault(fault.path, fault.message) for fault in faults[:MAX_FAULTS]]


def _has_inputs(spec: Mapping[str, Any], project: Project) -> bool:
    """Return whether a job makes its rows of the columns that its source lists."""
    if spec["type"] == "streaming":
        return reason_stream_not_run(spec, project) is None
    return bool(spec["type"] == "batch" and spec["source"]["type"] != "table")


def reason_stream_not_run(spec: Mapping[str, Any], project: Project) -> str | None:
    """Return why the local Polaris does not run a streaming job, ``None`` if it does."""
    source = spec["source"]
    if source["connectionName"] not in project.connections:
        return "its data is elsewhere"
    for name in ("enableUpserts", "useSchemaDiscovery", "dimensionExclusions"):
        if spec.get(name):
            return f"{name} is not carried out"
    if not source.get("inputSchema") or not spec.get("mappings"):
        return "it has no inputSchema or no mappings"
    if format_read_here(spec, project) is None:
        return "it reads only nd-json and csv"
    return None


def format_read_here(spec: Mapping[str, Any], project: Project) -> Mapping[str, Any] | None:
    """Return the format settings of a job's data; ``None`` if the local Polaris cannot read the data.

    Without settings, the service takes the format from the names of the files.
    """
    source = spec.get("source") or {}
    if spec["type"] not in ("batch", "streaming") or (found := _files_read_here(source, project)) is None:
        return None
    settings: Mapping[str, Any] = source.get("formatSettings") or {
        "format": found[0]["dataFormat"] if found else "nd-json"
    }
    readable = _COMPRESSIONS_READ_HERE.get(settings["format"], ())
    if source["type"] in ("inline", "connection") and settings["format"] == "parquet":
        return None
    is_plain = all(file["compressionFormat"] in readable for file in found)
    return settings if readable and is_plain and not settings.get("flattenSpec") else None


def _files_read_here(source: Mapping[str, Any], project: Project) -> list[Mapping[str, Any]] | None:
    """Return the metadata of the files of a source; ``None`` if the local Polaris cannot read it."""
    if source["type"] == "uploaded":
        return [project.files[name] for name in source["fileList"]]
    if source["type"] in OBJECT_STORES and project.objects:
        try:
            return [file.metadata for file in project.objects.files_of(source)]
        except FileNotFoundError:
            return []  # the job fails when it reads
    is_pushed = source["type"] == "connection" and source["connectionName"] in project.connections
    return [] if source["type"] == "inline" or is_pushed else None


def _fault_of(error: ValidationError) -> SpecFault:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    if error.validator == "required":
        missing = next(name for name in error.validator_value if error.message.startswith(repr(name)))
        return SpecFault(f"{path}.{missing}".removeprefix("."), "It is required")
    return SpecFault(path.removeprefix("."), _message(error))


def _message(error: ValidationError) -> str:
    limit: Any = error.validator_value
    given = error.instance
    if error.validator == "type":
        kind = limit if isinstance(limit, str) else limit[0]
        return f"It must be {_WORDS[kind]}, not {_shown(given)}"
    if error.validator == "enum":
        return f"It must be one of {', '.join(limit)}, not {_shown(given)}"
    messages = {
        "minItems": "It must not be empty",
        "minLength": "It must not be empty",
        "maxLength": f"It must have at most {limit} characters",
        "minimum": f"It must be {limit} or more",
        "maximum": f"It must be {limit} or less",
    }
    return messages.get(str(error.validator)) or str(error.schema["message"])


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return _WORDS["object" if isinstance(value, dict) else "array"]
    text = repr(value[: MAX_VALUE + 1] if isinstance(value, str) else value)
    return "null" if value is None else text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _batch(spec: Mapping[str, Any], project: Project) -> Faults:
    yield from _target(spec, project)
    yield from _replacing(spec, project)
    source = spec["source"]
    if source["type"] == "uploaded":
        yield from _files(source, project.files)
    elif source["type"] == "table" and "interval" in source:
        yield from interval_faults_of(source["interval"], "source.interval")
    elif source["type"] in OBJECT_STORES and sum(bool(source.get(name)) for name in _OBJECTS) != 1:
        yield SpecFault("source", f"It takes one of {', '.join(_OBJECTS)}")
    yield from _csv(source.get("formatSettings"), "source.formatSettings")
    if source["type"] == "table":
        yield from _mappings(spec)
    else:
        yield from _mappings({"mappings": [], **spec})


_OBJECTS = ("uris", "prefixes", "objects", "pattern")


def _sql(spec: Mapping[str, Any], project: Project) -> Faults:
    table = target_of(spec["query"])
    if table is None or len(table) > 255:
        yield SpecFault("query", "It must be an INSERT INTO or a REPLACE INTO, of a table of up to 255 characters")
    elif table not in project.tables and not spec.get("createTableIfNotExists"):
        yield SpecFault("query", f"There is no table {table!r}; with createTableIfNotExists the job makes it")


def _streaming(spec: Mapping[str, Any], project: Project) -> Faults:
    yield from _target(spec, project)
    yield from _without_intervals(spec, "A streaming job")
    if spec["target"]["tableName"] in project.streaming and not spec.get("replaceRunning"):
        yield SpecFault("target.tableName", "Another streaming job writes to this table; replaceRunning replaces it")
    settings = spec["source"].get("formatSettings") or {}
    for name in ("", "valueFormat", "keyFormat"):
        part = settings.get(name) if name else settings
        path = f"source.formatSettings.{name}".removesuffix(".")
        yield from _csv(part, path)
        if part and part["format"] == "csv":
            if not part.get("columns"):
                yield SpecFault(f"{path}.columns", "A streaming job requires the names of the columns")
            if part.get("skipHeaderRows"):
                yield SpecFault(f"{path}.skipHeaderRows", "A streaming job cannot skip rows")
    for name in ("upsertKeyColumns", "upsertVersionColumn"):
        if bool(spec.get(name)) != bool(spec.get("enableUpserts")):
            yield SpecFault(name, "A job has enableUpserts, upsertKeyColumns and upsertVersionColumn, or none of them")
    yield from _mappings(spec)


def _deletion(spec: Mapping[str, Any], project: Project) -> Faults:
    yield from _target(spec, project, can_create=False)
    if spec["type"] == "restore_data":
        yield from _without_intervals(spec, "A job that restores data")
        yield from interval_faults_of(spec["interval"], "interval")
    elif spec["type"] == "delete_data":
        yield from _intervals(spec)
        if bool(spec.get("deleteAll")) == bool(spec["target"].get("intervals")):
            yield SpecFault("target.intervals", "It takes either intervals or deleteAll")


_CHECKS: Mapping[str, Callable[[Mapping[str, Any], Project], Faults]] = {
    "batch": _batch,
    "sql": _sql,
    "streaming": _streaming,
    "delete_data": _deletion,
    "drop_table": _deletion,
    "restore_data": _deletion,
}


def _target(spec: Mapping[str, Any], project: Project, *, can_create: bool = True) -> Faults:
    table = spec["target"]["tableName"]
    if table not in project.tables and not (can_create and spec.get("createTableIfNotExists")):
        more = "; with createTableIfNotExists the job makes it" if can_create else ""
        yield SpecFault("target.tableName", f"There is no table {table!r}{more}")


def _replacing(spec: Mapping[str, Any], project: Project) -> Faults:
    replaces_all, intervals = bool(spec.get("replaceAll")), bool(spec["target"].get("intervals"))
    if spec.get("ingestionMode") != "replace":
        if replaces_all or intervals:
            yield SpecFault("ingestionMode", "A job that appends takes neither replaceAll nor target.intervals")
    elif replaces_all == intervals:
        yield SpecFault("replaceAll", "A job that replaces takes either replaceAll or target.intervals")
    else:
        tables = project.tables
        yield from _intervals(
            spec, spec.get("partitionedBy") or tables.get(spec["target"]["tableName"], DEFAULT_GRANULARITY)
        )


def _without_intervals(spec: Mapping[str, Any], what: str) -> Faults:
    if spec["target"].get("intervals"):
        yield SpecFault("target.intervals", f"{what} takes no intervals")


def _intervals(spec: Mapping[str, Any], granularity: str | None = None) -> Faults:
    """Check the intervals of the target.

    :param granularity: the granularity of the partitions that the intervals must consist of; ``None`` for any interval.
    """
    intervals = spec["target"].get("intervals") or []
    if len(intervals) > MAX_INTERVALS:
        yield SpecFault("target.intervals", f"It must have at most {MAX_INTERVALS:,} intervals")
        return
    for number, interval in enumerate(intervals):
        path = f"target.intervals[{number}]"
        span = _span(interval)
        if span is None:
            yield from interval_faults_of(interval, path)
        elif granularity and not is_aligned(span, granularity):
            yield SpecFault(path, f"It does not align with the partitions of the job, by {granularity}")


def _span(interval: str) -> Span | None:
    try:
        return span_of(interval)
    except ValueError:
        return None


def interval_faults_of(interval: str, path: str) -> Faults:
    """Yield the fault of an interval, nothing if it is valid."""
    if _span(interval) is None:
        yield SpecFault(path, "It must be an ISO 8601 interval, START/END, START/PERIOD or PERIOD/END")


def _files(source: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> Faults:
    names = source["fileList"]
    for number, name in enumerate(names):
        if name not in files:
            yield SpecFault(f"source.fileList[{number}]", f"No file named {_shown(name)} was uploaded")
    formats = {files[name]["dataFormat"] for name in names if name in files}
    if len(formats) > 1 and not source.get("formatSettings"):
        yield SpecFault("source.fileList", f"All files must have one format, not {', '.join(sorted(formats))}")


def _csv(settings: Mapping[str, Any] | None, path: str) -> Faults:
    if settings and settings["format"] == "csv":
        delimiter = settings.get("delimiter", ",")
        if delimiter != r"\t" and (len(delimiter) != 1 or delimiter in '"\r\n'):
            yield SpecFault(f"{path}.delimiter", r"It must be one character, or \t")


def _mappings(spec: Mapping[str, Any]) -> Faults:
    """Check the mappings if there are any."""
    mappings = spec.get("mappings")
    if mappings is not None and not any(mapping["columnName"] == "__time" for mapping in mappings):
        yield SpecFault("mappings", "A mapping to __time is required")
