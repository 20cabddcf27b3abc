"""Job specs that the local Polaris accepts."""

from __future__ import annotations

import uuid

ROWS = (
    '{"timestamp": "2026-11-01T00:00:00Z", "city": "Sydney"}\n{"timestamp": "2026-11-01T00:00:01Z", "city": "Perth"}\n'
)

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
SQL = {"type": "sql", "createTableIfNotExists": True, "query": 'INSERT INTO "by_sql" SELECT 1 PARTITIONED BY ALL'}
STREAMING = {
    "type": "streaming",
    "createTableIfNotExists": True,
    "target": {"type": "table", "tableName": "clicks"},
    "source": {"type": "connection", "connectionName": "kafka"},
}


def query_into_a_new_table():
    """Return the name of a table, and the spec of a query that creates it."""
    table = f"t-{uuid.uuid4()}"
    return table, {**SQL, "query": f'INSERT INTO "{table}" SELECT 1 PARTITIONED BY ALL'}


def rows_into_a_new_table():
    """Return a spec with rows, which has no place for a marker."""
    return {**SPEC, "target": {"type": "table", "tableName": f"b-{uuid.uuid4()}"}}
