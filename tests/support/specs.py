"""Job specs that the local Polaris accepts, and functions that make job specs."""

from __future__ import annotations

import json
import uuid

ROWS = (
    '{"timestamp": "2026-11-01T00:00:00Z", "city": "Sydney"}\n{"timestamp": "2026-11-01T00:00:01Z", "city": "Perth"}\n'
)
#: Two inline rows, loaded into the table cities.
SPEC = {
    "type": "batch",
    "ingestionMode": "append",
    "createTableIfNotExists": True,
    "target": {"type": "table", "tableName": "cities"},
    "source": {
        "type": "inline",
        "data": ROWS,
        "formatSettings": {"format": "nd-json"},
        "inputSchema": [{"name": "timestamp", "dataType": "string"}, {"name": "city", "dataType": "string"}],
    },
    "mappings": [{"columnName": "__time", "expression": 'TIME_PARSE("timestamp")'}],
}
#: Jobs that the local Polaris takes and does not run.
SQL = {"type": "sql", "createTableIfNotExists": True, "query": 'INSERT INTO "by_sql" SELECT 1 PARTITIONED BY ALL'}
STREAMING = {
    "type": "streaming",
    "createTableIfNotExists": True,
    "target": {"type": "table", "tableName": "clicks"},
    "source": {"type": "connection", "connectionName": "kafka"},
}
S3 = {
    **SPEC,
    "source": {
        **{key: SPEC["source"][key] for key in ("formatSettings", "inputSchema")},
        "type": "s3",
        "connectionName": "lake",
        "prefixes": ["day=1/"],
    },
}
DROP = {"type": "drop_table", "target": SPEC["target"], "softDelete": True}
DELETE = {**DROP, "type": "delete_data", "deleteAll": True}
#: The part of the documentation's sample job that is its spec, in "View and manage ingestion jobs by API".
DOCUMENTED_SPEC = {
    "type": "batch",
    "target": {"type": "table", "tableName": "Koalas Subset"},
    "source": {
        "type": "uploaded",
        "fileList": ["kttm-2019-08-19.json.gz", "kttm-2019-08-20.json.gz"],
        "inputSchema": [
            {"dataType": "string", "name": "timestamp"},
            {"dataType": "string", "name": "city"},
            {"dataType": "string", "name": "session"},
            {"dataType": "long", "name": "session_length"},
        ],
        "formatSettings": {"format": "nd-json"},
    },
    "ingestionMode": "append",
    "mappings": [
        {"columnName": "__time", "expression": 'TIME_PARSE("timestamp")'},
        {"columnName": "city", "expression": '"city"'},
        {"columnName": "session", "expression": '"session"'},
        {"columnName": "max_session_length", "expression": 'MAX("session_length")', "isAggregation": True},
        {"columnName": "__count", "expression": "COUNT(*)", "isAggregation": True},
    ],
}
#: The time of a row.
T = "2026-11-01T00:00:00Z"


def rows(*rows) -> str:
    """Return rows as nd-json; text is taken as it is."""
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def spec_of(data: str, *, format_settings=None, **changes):
    """Return the spec of a batch job that reads these rows."""
    source = {
        **SPEC["source"],
        "data": data,
        "formatSettings": format_settings or {"format": "nd-json"},
        "inputSchema": [
            {"name": "timestamp", "dataType": "string"},
            {"name": "count", "dataType": "long"},
            {"name": "amount", "dataType": "double"},
        ],
    }
    return {**SPEC, "source": source, **changes}


def load_of(table: str, *given: dict, **mappings: str):
    """Return the spec of a job that loads rows with a timestamp, a city and a count into a table that exists.

    :param mappings: the expression of each column but ``__time``.
    """
    inputs = [("timestamp", "string"), ("city", "string"), ("count", "long")]
    mapped = {"__time": 'TIME_PARSE("timestamp")', **mappings}
    return {
        "type": "batch",
        "target": {"type": "table", "tableName": table},
        "source": {
            "type": "inline",
            "data": rows(*given),
            "formatSettings": {"format": "nd-json"},
            "inputSchema": [{"name": name, "dataType": kind} for name, kind in inputs],
        },
        "mappings": [{"columnName": name, "expression": expression} for name, expression in mapped.items()],
    }


def event(city="Oslo", count=1, at="2026-11-14T10:00:00Z") -> str:
    """Return an event for such a job."""
    return json.dumps({"timestamp": at, "city": city, "count": count})


def stream_into(table: str, *, connection="clicks", format_settings=None, **changes):
    """Return the spec of a job that loads the events of a push streaming connection."""
    inputs = [("timestamp", "string"), ("city", "string"), ("count", "long")]
    return {
        "type": "streaming",
        "createTableIfNotExists": True,
        "target": {"type": "table", "tableName": table},
        "source": {
            "type": "connection",
            "connectionName": connection,
            "formatSettings": format_settings or {"format": "nd-json"},
            "inputSchema": [{"name": name, "dataType": kind} for name, kind in inputs],
        },
        "mappings": [
            {"columnName": "__time", "expression": 'TIME_PARSE("timestamp")'},
            {"columnName": "city", "expression": '"city"'},
            {"columnName": "count", "expression": '"count"'},
        ],
        **changes,
    }


def uploaded(*names: str, **changes):
    """Return the spec of a batch job that reads these files."""
    spec = spec_of("", **changes)
    spec["source"] = {**spec["source"], "type": "uploaded", "fileList": list(names)}
    del spec["source"]["data"]
    return spec


def query_into_a_new_table():
    """Return the name of a table, and the spec of a query that creates it."""
    table = f"t-{uuid.uuid4()}"
    return table, {**SQL, "query": f'INSERT INTO "{table}" SELECT 1 PARTITIONED BY ALL'}


def rows_into_a_new_table():
    """Return a spec with rows, which the local Polaris reads in real time."""
    return {**SPEC, "target": {"type": "table", "tableName": f"b-{uuid.uuid4()}"}}


def spec_into_a_new_table(kind: str):
    """Return the name of a table, and a spec for it whose job the local Polaris takes and does not run.

    :param kind: ``sql``, ``batch`` or ``streaming``.
    """
    if kind == "sql":
        return query_into_a_new_table()
    table = f"{kind}-{uuid.uuid4()}"
    return table, {**{"batch": S3, "streaming": STREAMING}[kind], "target": {"type": "table", "tableName": table}}
