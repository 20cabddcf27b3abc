"""The form of job specs and tables as JSON Schema: the types, enums and required fields of each kind of them.

The facts come from the vendor's OpenAPI document of March 2026. It forbids no further fields, so neither do these
schemas. What a schema cannot say is in ``specs.py`` and ``table_specs.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_polaris.local.engine.intervals import GRANULARITIES

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
TABLE_NAME: Schema = {**NAME, "maxLength": 255}
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
#: The service stores 32 bits.
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 2147483647}
DURATION: Schema = {
    "type": "string",
    "pattern": r"^P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$",
    "message": "It must be an ISO 8601 duration, such as P30D",
}


def _nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _enum(*values: str) -> Schema:
    return {"enum": list(values)}


def _list_of(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def _object(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


def _variants(name: str, schemas: Mapping[str, Schema]) -> Schema:
    """Return the schema of an object whose field ``name`` chooses the schema of the whole object."""
    return {
        **_object((name,), **{name: _enum(*schemas)}),
        "allOf": [
            {"if": {"type": "object", "required": [name], "properties": {name: {"const": value}}}, "then": schema}
            for value, schema in schemas.items()
        ],
    }


TEXTS = _list_of(TEXT)
DATA_TYPES = _enum(
    "bigint", "complex<json>", "double", "float", "geo", "HLLSketch", "ipAddress", "ipPrefix", "json", "long",
    "longStringPair", "doubleArray", "floatArray", "longArray", "stringArray", "quantilesDoublesSketch", "string",
    "thetaSketch", "ingest_timeseries", "timestamp", "varchar", "variance",
)  # fmt: skip
INPUT_SCHEMA = _list_of(_object(("name", "dataType"), name=NAME, dataType=DATA_TYPES))
MAPPINGS = _list_of(
    _object(("columnName", "expression"), columnName=NAME, expression=NAME, isAggregation=_nullable(FLAG))
)
PARSE_SCHEMA = _variants(
    "type",
    {
        "connection": _object(connectionName=TEXT),
        "inline-avro": _object(schema=OBJECT),
        "inline-protobuf": _object(descriptor=TEXT, protoMessageType=TEXT),
    },
)
_FLATTEN: Mapping[str, Schema] = {"flattenSpec": _nullable(OBJECT)}
_BINARY: Mapping[str, Schema] = {**_FLATTEN, "binaryAsString": FLAG}
_PLAIN_FORMATS: Mapping[str, Schema] = {
    "avro_ocf": _object(**_BINARY, extractUnionsByType=FLAG, schema=_nullable(OBJECT)),
    "avro_stream": _object(
        ("parseSchemaProvider",), **_BINARY, extractUnionsByType=FLAG, parseSchemaProvider=PARSE_SCHEMA
    ),
    "csv": _object(columns=TEXTS, delimiter=TEXT, listDelimiter=TEXT, skipHeaderRows=COUNT),
    "nd-json": _object(**_FLATTEN),
    "orc": _object(**_BINARY),
    "parquet": _object(**_BINARY),
    "protobuf": _object(("parseSchemaProvider",), **_FLATTEN, parseSchemaProvider=PARSE_SCHEMA),
    "regex": _object(("columns", "pattern"), columns=TEXTS, pattern=TEXT),
}
#: The formats of the keys and values of a stream. A stream within a stream makes no sense, and would be recursion.
_PAYLOAD = _variants("format", _PLAIN_FORMATS)
FORMAT = _variants(
    "format",
    {
        **_PLAIN_FORMATS,
        "kafka": _object(
            ("valueFormat",),
            valueFormat=_PAYLOAD,
            keyFormat=_PAYLOAD,
            headerFormat=TEXT,
            headerLabelPrefix=TEXT,
            keyColumnName=TEXT,
            timestampColumnName=TEXT,
        ),
        "kinesis": _object(
            ("valueFormat",), valueFormat=_PAYLOAD, partitionKeyColumnName=TEXT, timestampColumnName=TEXT
        ),
    },
)
_READ: Mapping[str, Schema] = {"inputSchema": INPUT_SCHEMA, "formatSettings": FORMAT}
_OBJECT_STORE = _object(
    ("connectionName", "inputSchema"),
    **_READ,
    connectionName=NAME,
    objects=_nullable(TEXTS),
    pattern=_nullable(TEXT),
    prefixes=_nullable(TEXTS),
    uris=_nullable(TEXTS),
)
BATCH_SOURCES: Mapping[str, Schema] = {
    "inline": _object(("data", "inputSchema"), **_READ, data=TEXT),
    "uploaded": _object(("fileList", "inputSchema"), **_READ, fileList=_list_of(TEXT, minItems=1)),
    "s3": _OBJECT_STORE,
    "azure": _OBJECT_STORE,
    "table": _object(("tableName",), tableName=NAME, interval=TEXT),
}
STREAMING_SOURCES: Mapping[str, Schema] = {
    "connection": _object(
        ("connectionName",),
        connectionName=NAME,
        inputSchema=INPUT_SCHEMA,
        formatSettings={"if": {"not": {"type": "null"}}, "then": FORMAT},
    )
}
TARGET = _variants(
    "type",
    {
        "table": _object(
            ("tableName",),
            tableName=TABLE_NAME,
            intervals=_nullable(TEXTS),
        )
    },
)
_INGESTION: Mapping[str, Schema] = {
    "target": TARGET,
    "clusteringColumns": TEXTS,
    "createTableIfNotExists": FLAG,
    "filterExpression": TEXT,
    "mappings": MAPPINGS,
    "maxParseExceptions": COUNT,
    "partitionedBy": _enum(*GRANULARITIES),
}
_VERSIONS = _nullable(TEXTS)

JOB = _variants(
    "type",
    {
        "batch": _object(
            ("target", "source"),
            **_INGESTION,
            source=_variants("type", BATCH_SOURCES),
            context=OBJECT,
            ingestionMode=_enum("append", "replace"),
            replaceAll=FLAG,
        ),
        "sql": _object(
            ("query",),
            query=TEXT,
            context=OBJECT,
            createTableIfNotExists=FLAG,
            # The document calls the value an object. The vendor's own sample has a text.
            parameters=_list_of(_object(("type", "value"), type=TEXT)),
        ),
        "streaming": _object(
            ("target", "source"),
            **_INGESTION,
            source=_variants("type", STREAMING_SOURCES),
            dimensionExclusions=TEXTS,
            earlyMessageRejectionPeriod=DURATION,
            enableUpserts=_nullable(FLAG),
            lateMessageRejectionPeriod=DURATION,
            readFromPoint=_enum("earliest", "latest"),
            replaceRunning=FLAG,
            upsertKeyColumns=_nullable(TEXTS),
            upsertVersionColumn=_nullable(TEXT),
            useSchemaDiscovery=FLAG,
        ),
        "delete_data": _object(("target",), target=TARGET, deleteAll=FLAG, softDelete=FLAG, versions=_VERSIONS),
        "drop_table": _object(("target",), target=TARGET, softDelete=FLAG),
        "restore_data": _object(("target", "interval"), target=TARGET, interval=TEXT, versions=_VERSIONS),
    },
)

_MEASURE_TYPES = _enum(
    "bigint", "double", "float", "HLLSketch", "long", "longStringPair", "quantilesDoublesSketch", "string",
    "thetaSketch", "ingest_timeseries", "varchar", "variance",
)  # fmt: skip
#: The granularities of the timestamps of an aggregate table.
RESOLUTIONS = (
    "millisecond", "second", "minute", "fifteen_minute", "thirty_minute", "hour", "day", "week", "month", "quarter",
    "year", "all",
)  # fmt: skip
_POLICY: Schema = {
    "if": {"not": {"type": "null"}},
    "then": _variants(
        "type",
        {
            "period": _object(("period",), period=DURATION),
            "intervals": _object(("intervals",), intervals=TEXTS, period=_nullable(DURATION)),
        },
    ),
}
_TABLE: Mapping[str, Schema] = {
    "name": TABLE_NAME,
    "version": {"type": "integer", "minimum": 0},
    "clusteringColumns": TEXTS,
    "description": _nullable({"type": "string", "maxLength": 1000}),
    "partitioningGranularity": _enum(*GRANULARITIES, "week"),
    "schemaMode": _enum("flexible", "strict"),
    "storagePolicy": _object(cached=_POLICY, retain=_POLICY),
}
TABLE = _variants(
    "type",
    {
        "detail": _object(
            ("name",), **_TABLE, schema=_list_of(_object(("name", "dataType"), name=NAME, dataType=DATA_TYPES))
        ),
        "aggregate": _object(
            ("name",),
            **_TABLE,
            schema=_list_of(
                _variants(
                    "type",
                    {
                        "dimension": _object(("name", "dataType"), name=NAME, dataType=DATA_TYPES),
                        "measure": _object(("name", "dataType"), name=NAME, dataType=_MEASURE_TYPES),
                    },
                )
            ),
            queryGranularity=_variants(
                "type",
                {
                    "simple": _object(("granularity",), granularity=_enum(*RESOLUTIONS)),
                    "period": _object(("period",), period=DURATION, origin=_nullable(TEXT), timeZone=_nullable(TEXT)),
                },
            ),
            timeResolution=_enum(*RESOLUTIONS),
        ),
    },
)
