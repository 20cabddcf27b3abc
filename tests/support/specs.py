"""A job specification that the local Polaris can run: two inline rows, loaded into the table cities."""

from __future__ import annotations

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
