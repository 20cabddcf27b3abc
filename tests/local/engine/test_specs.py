"""A job spec is checked before a job is created, and an error names the wrong field."""

from __future__ import annotations

import json
import time

import pytest

from airflow_provider_polaris.local.engine.specs import day_bounds, within
from tests.support.specs import DELETE, SPEC, STREAMING

SOURCE, TARGET = SPEC["source"], SPEC["target"]


SCHEMA = [{"name": "a", "dataType": "string"}]


DELETION = {"type": "delete_data", "target": TARGET}


@pytest.mark.parametrize(
    ("spec", "target"),
    [
        ([1], None),
        ({**SPEC, "type": "brand_new"}, "type"),
        ({**SPEC, "target": None}, "target.type"),
        ({**SPEC, "target": {"type": "table", "tableName": ""}}, "target.tableName"),
        ({**SPEC, "target": {"type": "table", "tableName": "x" * 256}}, "target.tableName"),
        (
            {**SPEC, "createTableIfNotExists": False, "target": {"type": "table", "tableName": "none"}},
            "target.tableName",
        ),
        ({**SPEC, "source": None}, "source"),
        ({**SPEC, "source": {"type": "ftp"}}, "source.type"),
        ({**SPEC, "source": {"type": "s3"}}, "source.connectionName"),
        ({**SPEC, "source": {"type": "azure", "connectionName": "lake"}}, "source.inputSchema"),
        ({**SPEC, "source": {"type": "table"}}, "source.tableName"),
        ({**SPEC, "source": {**SOURCE, "formatSettings": {"format": "orc"}}}, "source.formatSettings.format"),
        ({**SPEC, "source": {**SOURCE, "formatSettings": None}}, "source.formatSettings.format"),
        (
            {**SPEC, "source": {**SOURCE, "formatSettings": {"format": "csv", "delimiter": "ab"}}},
            "source.formatSettings.delimiter",
        ),
        (
            {**SPEC, "source": {**SOURCE, "formatSettings": {"format": "csv", "columns": [1]}}},
            "source.formatSettings.columns",
        ),
        (
            {**SPEC, "source": {**SOURCE, "formatSettings": {"format": "csv", "skipHeaderRows": "1"}}},
            "source.formatSettings.skipHeaderRows",
        ),
        ({**SPEC, "source": {**SOURCE, "inputSchema": "x"}}, "source.inputSchema"),
        ({**SPEC, "source": {**SOURCE, "inputSchema": [*SCHEMA, 1]}}, "source.inputSchema[1]"),
        ({**SPEC, "source": {**SOURCE, "inputSchema": [*SCHEMA, {"name": "b"}]}}, "source.inputSchema[1].dataType"),
        ({**SPEC, "source": {**SOURCE, "data": None}}, "source.data"),
        ({**SPEC, "source": {**SOURCE, "type": "uploaded", "fileList": ["no-such"]}}, "source.fileList[0]"),
        ({**SPEC, "source": {**SOURCE, "type": "uploaded", "fileList": []}}, "source.fileList"),
        ({**SPEC, "source": {**SOURCE, "type": "uploaded", "fileList": [["a"]]}}, "source.fileList[0]"),
        ({**SPEC, "mappings": []}, "mappings"),
        ({**SPEC, "mappings": None}, "mappings"),
        ({**SPEC, "mappings": [1]}, "mappings[0]"),
        ({**SPEC, "mappings": [*SPEC["mappings"], {"columnName": "a"}]}, "mappings[1].expression"),
        (
            {**SPEC, "mappings": [*SPEC["mappings"], {"columnName": "a", "expression": '"typo"'}]},
            "mappings[1].expression",
        ),
        ({**SPEC, "maxParseExceptions": -1}, "maxParseExceptions"),
        ({**SPEC, "maxParseExceptions": True}, "maxParseExceptions"),
        ({**SPEC, "ingestionMode": "merge"}, "ingestionMode"),
        ({**SPEC, "replaceAll": True}, "ingestionMode"),
        ({**SPEC, "ingestionMode": "replace"}, "replaceAll"),
        (
            {
                **SPEC,
                "ingestionMode": "replace",
                "replaceAll": True,
                "target": {**TARGET, "intervals": ["2026-11-01/2026-11-02"]},
            },
            "replaceAll",
        ),
        *(
            ({**SPEC, "ingestionMode": "replace", "target": {**TARGET, "intervals": [interval]}}, "target.intervals")
            for interval in (
                "2026-11-01",
                "2026-11-02/2026-11-01",
                "2026-11-01T00:00:00Z/2026-11-01T08:00:00Z",
                "a/b",
                1,
            )
        ),
        ({"type": "sql"}, "query"),
        ({"type": "sql", "query": "SELECT 1"}, "query"),
        ({"type": "sql", "query": "-- INSERT INTO a\nSELECT 1"}, "query"),
        ({"type": "sql", "query": "INSERT INTO nowhere SELECT 1"}, "query"),
        ({**STREAMING, "source": SOURCE}, "source.type"),
        ({**STREAMING, "source": {"type": "connection"}}, "source.connectionName"),
        ({**DELETION, "target": {"type": "table", "tableName": "none"}, "deleteAll": True}, "target.tableName"),
        (DELETION, "target.intervals"),
        ({**DELETION, "type": "restore_data"}, "interval"),
    ],
    ids=lambda value: str(value)[-60:],
)
def test_an_invalid_spec_names_the_wrong_field(polaris, call, spec, target):
    polaris.add_table("cities")
    answer = call("POST", "jobs", json=spec)
    assert answer.status_code == 400
    assert answer.json().get("target") == target


def test_a_spec_with_several_faults_names_all_of_them(call):
    error = call("POST", "jobs", json={**SPEC, "maxParseExceptions": -1, "mappings": None}).json()
    assert [fault["target"] for fault in error["details"]] == ["maxParseExceptions", "mappings"]
    assert {key: error[key] for key in ("code", "message", "target")} == error["details"][0]


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({**SPEC, "target": {**SPEC["target"], "z": 0}}).replace('"z": 0', '"z": 1e999'),
        json.dumps({**SPEC, "note": 0}).replace('"note": 0', '"note": -Infinity'),
        json.dumps({**SPEC, "inputSchema": [0] * 400_000, "mappings": [0] * 100_000}),
        json.dumps({**DELETE, "deleteAll": False, "target": {**DELETE["target"], "intervals": ["a/b"] * 20_000}}),
        json.dumps({"type": "sql", "query": f'INSERT INTO "{"a" * 5_000_000}" '}),
        json.dumps({"type": "sql", "query": '"' * 3_000_000}),
        json.dumps({"type": "sql", "createTableIfNotExists": True, "query": f'INSERT INTO "{"t" * 256}" SELECT 1'}),
        json.dumps({**SPEC, "source": {"type": "table", "tableName": "cities"}, "mappings": [1]}),
        json.dumps({**STREAMING, "mappings": 5}),
    ],
    ids=lambda body: f"{body[:30]}…{body[-30:]}",
)
def test_a_hostile_spec_is_a_small_400_within_seconds(own_polaris, body):
    _, call = own_polaris
    start = time.monotonic()
    answer = call("POST", "jobs", data=body.encode(), headers=JSON)
    assert (answer.status_code, len(answer.content) < 10_000) == (400, True)
    assert time.monotonic() - start < 8
    assert call("GET", "jobs").json()["values"] == [], "a refused spec leaves no job behind"


def test_overlapping_intervals_are_merged():
    bounds = day_bounds(
        ["2026-01-04/2026-01-06", "2026-01-01/2026-01-03", "2026-01-02/2026-01-04", "2026-02-01/2026-02-02"]
    )
    assert len(bounds) == 2
    first = bounds[0][0]
    assert [day - first for day in range(first - 1, first + 40) if within(bounds, day)] == [0, 1, 2, 3, 4, 31]
