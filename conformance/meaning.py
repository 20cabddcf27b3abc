"""What the document's schemas do not say about a job spec: which values make sense, and which of them together.

A schema says which fields there are. The descriptions in the document and the vendor's documentation say that a job
which replaces names intervals, or that a mapping names an input column.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from conformance.places import Spec

#: The file that an ``uploaded`` source reads, and its rows.
FILE = "conformance.json"
ROWS = '{"timestamp": "2026-11-01T00:00:00Z", "city": "Perth"}\n'
#: The table that exists before a job is created, and the table that a ``table`` source reads.
TABLE = "conformance"
SOURCE_TABLE = "conformance-source"

#: The sources of each type of job.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "batch": ("inline", "uploaded", "s3", "azure", "table"),
    "streaming": ("connection",),
}
#: The formats that a type of job does not take: Avro OCF is for batch jobs, and the others are records of a stream.
NOT_FOR: Mapping[str, frozenset[str]] = {
    "batch": frozenset({"avro_stream", "kafka", "kinesis"}),
    "streaming": frozenset({"avro_ocf"}),
}
#: The formats of a record that itself is in a record of a stream.
INNER = {"valueFormat", "keyFormat"}
NOT_INNER = frozenset({"kafka", "kinesis", "avro_ocf", "orc", "parquet"})

#: The value of a field, by the end of its path. Any other text is a name.
SAMPLES: Mapping[str, Any] = {
    "target.tableName": TABLE,
    "source.tableName": SOURCE_TABLE,
    "source.data": ROWS,
    "source.fileList": [FILE],
    # The first column gets each type in turn, and no expression uses it.
    "source.inputSchema": [{"name": name, "dataType": "string"} for name in ("any", "timestamp", "city")],
    "mappings": [
        {"columnName": "__time", "expression": 'TIME_PARSE("timestamp")', "isAggregation": False},
        {"columnName": "city", "expression": '"city"'},
    ],
    "connectionName": "lake",
    "clusteringColumns": ["city"],
    "filterExpression": "\"city\" <> 'Sydney'",
    "query": f'INSERT INTO "{TABLE}" SELECT * FROM "{SOURCE_TABLE}" PARTITIONED BY DAY',  # noqa: S608 - no input
    "parameters": [{"type": "VARCHAR", "value": "Perth"}],
    "interval": "2026-11-01/P1D",
    "intervals": ["2026-11-01/2026-11-02", "2026-11-03/P1D"],
    "versions": ["2026-11-01T12:00:00.460Z"],
    "earlyMessageRejectionPeriod": "P2000D",
    "lateMessageRejectionPeriod": "P30D",
    "source.pattern": "day=1/*.json",
    "source.uris": ["s3://lake/day=1/rows.json"],
    "headerFormat": "utf-8",
    "delimiter": ";",
    "listDelimiter": "|",
    "columns": ["timestamp", "city"],
    "formatSettings.pattern": "(.*);(.*)",
    "valueFormat.pattern": "(.*);(.*)",
    "keyFormat.pattern": "(.*);(.*)",
    "descriptor": "CgA=",
    "formatSettings.schema": {"type": "record", "name": "Row", "fields": []},
    "parseSchemaProvider.schema": {"type": "record", "name": "Row", "fields": []},
    "flattenSpec": {"fields": []},
    "context": {"maxNumTasks": 3, "airflow": {"dag_id": "load"}},
    "maxParseExceptions": 10,
    "partitionedBy": "day",
    "skipHeaderRows": 1,
    "enableUpserts": False,
}
#: Fields that the document requires in a description: a mapping for each field, and always one for ``__time``.
REQUIRED_IN_WORDS: Mapping[str, tuple[str, ...]] = {"batch": ("mappings",), "streaming": ("mappings",)}
#: Fields that are in every spec: the words above, and the table, which another job may have dropped.
ALWAYS = ("mappings", "createTableIfNotExists")
#: Fields that one spec cannot all have: each list holds the alternatives, of which one is added.
EXCLUSIVE = {
    "ingestionMode", "replaceAll", "target.intervals", "deleteAll", "source.uris", "source.prefixes", "source.objects",
    "source.pattern", "enableUpserts", "upsertKeyColumns", "upsertVersionColumn",
}  # fmt: skip

#: A table of each type, and with each form of granularity and policy. The fields that only an answer has are left out.
TABLES: tuple[Spec, ...] = tuple(
    {
        "name": "valid",
        "type": kind,
        "version": 0,
        "description": "Any text",
        "clusteringColumns": ["city"],
        "partitioningGranularity": "day",
        "schemaMode": "strict",
        "schema": [{**role, "name": "city", "dataType": "string"}],
        "storagePolicy": {"retain": policy, "cached": policy},
        **further,
    }
    for kind, role, policy, further in (
        ("detail", {}, {"type": "period", "period": "P3M"}, {}),
        (
            "aggregate",
            {"type": "dimension"},
            {"type": "intervals", "intervals": ["2026-01-01/2027-01-01"], "period": "P3M"},
            {"timeResolution": "hour", "queryGranularity": {"type": "simple", "granularity": "hour"}},
        ),
        (
            "aggregate",
            {"type": "dimension"},
            {"type": "intervals", "intervals": ["2026-01-01/2027-01-01"], "period": None},
            {"queryGranularity": {"type": "period", "period": "PT30M", "timeZone": None, "origin": None}},
        ),
        ("aggregate", {"type": "dimension"}, None, {"timeResolution": "day"}),
    )
)
#: Fields of a table whose other values need other fields beside them.
FIXED_IN_A_TABLE = (
    "queryGranularity.type", "schema[].type", "storagePolicy.cached.type", "storagePolicy.retain.type"
)  # fmt: skip
#: The values of a table that the local Polaris refuses, or the service itself.
NOT_CARRIED_OUT = (
    "AggregateTablePayload.timeResolution all",
    "SimpleGranularityPayload.granularity all",
    "DetailTablePayload.partitioningGranularity week",
    "AggregateTablePayload.partitioningGranularity week",
    "DetailTableColumn.dataType timestamp",
    "AggregateTableDimensionColumn.dataType timestamp",
)
#: A push streaming connection.
CONNECTION: Spec = {"name": "clicks", "type": "push_streaming", "description": "Any text"}

Patch = Mapping[str, Any]

INTERVALS = SAMPLES["intervals"]
MODES: dict[str, Patch] = {
    "append": {"ingestionMode": "append"},
    "replace all": {"ingestionMode": "replace", "replaceAll": True},
    "replace intervals": {"ingestionMode": "replace", "target.intervals": INTERVALS},
}
NO_MODE: dict[str, Patch] = {"": {}}
READ_FROM: Mapping[str, Patch] = {point: {"readFromPoint": point} for point in ("earliest", "latest")}
OBJECTS: Mapping[str, Patch] = {
    "uris": {"source.uris": SAMPLES["source.uris"]},
    "prefixes": {"source.prefixes": ["day=1/"]},
    "objects": {"source.objects": ["day=1/rows.json"]},
    "pattern": {"source.pattern": SAMPLES["source.pattern"]},
    "null": {"source.objects": ["a.json"], "source.uris": None, "source.prefixes": None, "source.pattern": None},
}
UPSERTS: Mapping[str, Patch] = {
    "no upserts": {},
    "upserts": {"enableUpserts": True, "upsertKeyColumns": ["city"], "upsertVersionColumn": "__time"},
}
DELETIONS: Mapping[str, Patch] = {
    "all": {"deleteAll": True},
    "intervals": {"target.intervals": INTERVALS},
}
_REPLACE = f'REPLACE INTO "{TABLE}" OVERWRITE ALL SELECT * FROM "{SOURCE_TABLE}" PARTITIONED BY DAY'  # noqa: S608
QUERIES: Mapping[str, Patch] = {
    "insert": {},
    "replace": {"query": _REPLACE},
}


def sample(path: str) -> Any:
    """Return a value with a meaning for the field at a path, ``None`` if any text or number will do."""
    for end, value in SAMPLES.items():
        if path == end or path.endswith(f".{end}"):
            return deepcopy(value)
    return None


def settled(spec: Spec) -> Spec:
    """Return a spec whose fields fit together: a field that contradicts another is changed or left out."""
    spec = deepcopy(spec)
    kind, target, source = spec["type"], spec.get("target", {}), spec.get("source", {})
    is_replacing = kind == "batch" and spec.get("ingestionMode") == "replace"
    if kind == "delete_data":
        _one_of_two(spec, "deleteAll")
    elif is_replacing:
        _one_of_two(spec, "replaceAll")
    else:
        target.pop("intervals", None)
        spec.pop("replaceAll", None)
    if is_replacing and target.get("intervals"):
        _align(spec)
    if source.get("type") in ("s3", "azure"):
        given = [name for name in OBJECTS if source.get(name)]
        for name in given[1:]:
            del source[name]
        if not given:
            source["prefixes"] = OBJECTS["prefixes"]["source.prefixes"]
    if kind == "streaming":
        if spec.get("enableUpserts"):
            spec |= {"upsertKeyColumns": ["city"], "upsertVersionColumn": "__time"}
        else:
            for name in ("upsertKeyColumns", "upsertVersionColumn"):
                spec.pop(name, None)
        _name_columns(source.get("formatSettings"))
    return spec


def _one_of_two(spec: Spec, everything: str) -> None:
    """Leave a spec either its intervals or the field that means all data."""
    if spec["target"].get("intervals") and not spec.get(everything):
        return
    spec[everything] = True
    spec["target"].pop("intervals", None)


def _align(spec: Spec) -> None:
    """Make the intervals of a spec align with its partitioning: a year starts with every unit of time."""
    granularity = spec.get("partitionedBy", "day")
    if granularity == "all":
        spec["replaceAll"] = True
        del spec["target"]["intervals"]
    elif granularity in ("month", "quarter", "year"):
        spec["target"]["intervals"] = ["2026-01-01/2027-01-01"]


def _name_columns(format_settings: Any) -> None:
    """Give csv in a streaming job what it needs: the names of its columns, and no rows to skip."""
    if not isinstance(format_settings, dict):
        return
    if format_settings.get("format") == "csv":
        format_settings["columns"] = SAMPLES["columns"]
        format_settings.pop("skipHeaderRows", None)
    for name in INNER:
        _name_columns(format_settings.get(name))
