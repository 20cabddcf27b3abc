"""A job spec is checked before a job is created, and an error names the wrong field."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.local_calls import status_of
from tests.support.specs import DELETE, DROP, S3, SPEC, SQL, STREAMING

SOURCE, TARGET = SPEC["source"], SPEC["target"]


SCHEMA = [{"name": "a", "dataType": "string"}]


DELETION = {"type": "delete_data", "target": TARGET}


def source(**changes):
    """Return the spec of a batch job with changes to its source."""
    return {**SPEC, "source": {**SOURCE, **changes}}


def csv(**settings):
    return source(formatSettings={"format": "csv", **settings})


def replacing(*intervals, **changes):
    return {**SPEC, "ingestionMode": "replace", "target": {**TARGET, "intervals": list(intervals)}, **changes}


def mapped(*mappings):
    return {**SPEC, "mappings": [*SPEC["mappings"], *mappings]}


def streaming(**changes):
    return {**STREAMING, **changes}


def stream_of(**settings):
    return streaming(source={**STREAMING["source"], "formatSettings": settings})


@pytest.mark.parametrize(
    ("spec", "target", "says"),
    [
        ([1], None, "a JSON object"),
        ({}, "type", "required"),
        ({**SPEC, "type": "brand_new"}, "type", "batch, sql, streaming, delete_data, drop_table, restore_data"),
        ({**SPEC, "target": None}, "target", "an object, not null"),
        ({**SPEC, "target": {"type": "topic", "tableName": "t"}}, "target.type", "one of table, not 'topic'"),
        ({**SPEC, "target": {"type": "table", "tableName": ""}}, "target.tableName", "not be empty"),
        ({**SPEC, "target": {"type": "table", "tableName": "x" * 256}}, "target.tableName", "at most 255"),
        (
            {**SPEC, "createTableIfNotExists": False, "target": {"type": "table", "tableName": "none"}},
            "target.tableName",
            "There is no table 'none'; with createTableIfNotExists",
        ),
        ({**SPEC, "createTableIfNotExists": "true"}, "createTableIfNotExists", "true or false, not 'true'"),
        ({**SPEC, "replaceAll": "false"}, "replaceAll", "true or false, not 'false'"),
        ({**SPEC, "replaceAll": None}, "replaceAll", "true or false, not null"),
        ({**SPEC, "context": "priority=1"}, "context", "an object"),
        ({**SPEC, "clusteringColumns": "city"}, "clusteringColumns", "a list, not 'city'"),
        ({**SPEC, "filterExpression": 1}, "filterExpression", "text, not 1"),
        ({**SPEC, "partitionedBy": "daily"}, "partitionedBy", "one of second, .* day, .* all, not 'daily'"),
        ({**SPEC, "maxParseExceptions": -1}, "maxParseExceptions", "0 or more"),
        ({**SPEC, "maxParseExceptions": 2**31}, "maxParseExceptions", "2147483647 or less"),
        ({**SPEC, "maxParseExceptions": True}, "maxParseExceptions", "a whole number, not True"),
        ({**SPEC, "maxParseExceptions": 1.5}, "maxParseExceptions", "a whole number"),
        ({**SPEC, "source": None}, "source", "an object"),
        ({**SPEC, "source": {"type": "ftp"}}, "source.type", "one of inline, uploaded, s3, azure, table, not 'ftp'"),
        ({**SPEC, "source": {**STREAMING["source"], "inputSchema": []}}, "source.type", "not 'connection'"),
        ({**SPEC, "source": {"type": "s3", "inputSchema": []}}, "source.connectionName", "required"),
        ({**SPEC, "source": {"type": "azure", "connectionName": "lake"}}, "source.inputSchema", "required"),
        ({**SPEC, "source": {"type": "table"}}, "source.tableName", "required"),
        ({**SPEC, "source": {"type": "table", "tableName": "t", "interval": "May"}}, "source.interval", "ISO 8601"),
        ({**S3, "source": {**S3["source"], "prefixes": None}}, "source", "one of uris, prefixes, objects, pattern"),
        ({**S3, "source": {**S3["source"], "pattern": "*"}}, "source", "one of uris, prefixes, objects, pattern"),
        ({**S3, "source": {**S3["source"], "prefixes": "a"}}, "source.prefixes", "a list, not 'a'"),
        (source(formatSettings={"format": "tsv"}), "source.formatSettings.format", "csv, .* not 'tsv'"),
        (source(formatSettings=None), "source.formatSettings", "an object"),
        (source(formatSettings={"format": "regex"}), "source.formatSettings.columns", "required"),
        (csv(delimiter="ab"), "source.formatSettings.delimiter", "one character"),
        (csv(delimiter=""), "source.formatSettings.delimiter", "one character"),
        (csv(columns=[1]), r"source.formatSettings.columns[0]", "text, not 1"),
        (csv(skipHeaderRows="1"), "source.formatSettings.skipHeaderRows", "a whole number, not '1'"),
        (source(inputSchema="x"), "source.inputSchema", "a list"),
        (source(inputSchema=[*SCHEMA, 1]), "source.inputSchema[1]", "an object"),
        (source(inputSchema=[*SCHEMA, {"name": "b"}]), "source.inputSchema[1].dataType", "required"),
        (source(inputSchema=[{"name": "b", "dataType": "text"}]), "source.inputSchema[0].dataType", "string, .*'text'"),
        (source(data=None), "source.data", "text, not null"),
        (source(type="uploaded", fileList=["no-such"]), "source.fileList[0]", "No file named 'no-such'"),
        (source(type="uploaded", fileList=[]), "source.fileList", "not be empty"),
        (source(type="uploaded", fileList=[["a"]]), "source.fileList[0]", "text, not a list"),
        ({**SPEC, "mappings": []}, "mappings", "__time"),
        ({**SPEC, "mappings": None}, "mappings", "a list"),
        ({**SPEC, "mappings": [1]}, "mappings[0]", "an object"),
        (mapped({"columnName": "a"}), "mappings[1].expression", "required"),
        (mapped({"columnName": "a", "expression": '"typo"'}), "mappings[1].expression", "no column 'typo'"),
        (
            mapped({"columnName": "a", "expression": "COUNT(*)", "isAggregation": "true"}),
            "mappings[1].isAggregation",
            "true or false",
        ),
        ({**SPEC, "ingestionMode": "merge"}, "ingestionMode", "append, replace"),
        ({**SPEC, "replaceAll": True}, "ingestionMode", "appends"),
        ({**SPEC, "ingestionMode": "replace"}, "replaceAll", "either"),
        (replacing("2026-11-01/2026-11-02", replaceAll=True), "replaceAll", "either"),
        (replacing(1), "target.intervals[0]", "text, not 1"),
        (replacing("2026-11-01"), "target.intervals[0]", "ISO 8601"),
        (replacing("2026-11-02/2026-11-01"), "target.intervals[0]", "ISO 8601"),
        (replacing("2026-11-01/P1D", "a/b"), "target.intervals[1]", "ISO 8601"),
        (replacing("2026-11-01T00:00:00Z/2026-11-01T08:00:00Z"), "target.intervals[0]", "by day"),
        (replacing("2026-11-01T00/PT30M", partitionedBy="hour"), "target.intervals[0]", "by hour"),
        (replacing("2026-11-01/P1D", partitionedBy="month"), "target.intervals[0]", "by month"),
        (replacing("2026-11-01/P1D", partitionedBy="all"), "target.intervals[0]", "by all"),
        ({"type": "sql"}, "query", "required"),
        ({"type": "sql", "query": "SELECT 1"}, "query", "INSERT INTO"),
        ({"type": "sql", "query": "-- INSERT INTO a\nSELECT 1"}, "query", "INSERT INTO"),
        ({"type": "sql", "query": "INSERT INTO nowhere SELECT 1"}, "query", "There is no table 'nowhere'"),
        ({**SQL, "parameters": [{"type": "VARCHAR"}]}, "parameters[0].value", "required"),
        (streaming(source=SOURCE), "source.type", "one of connection, not 'inline'"),
        (streaming(source={"type": "connection"}), "source.connectionName", "required"),
        (streaming(readFromPoint="now"), "readFromPoint", "one of earliest, latest, not 'now'"),
        (streaming(lateMessageRejectionPeriod="30 days"), "lateMessageRejectionPeriod", "such as P30D"),
        (streaming(earlyMessageRejectionPeriod="P"), "earlyMessageRejectionPeriod", "such as P30D"),
        (streaming(replaceRunning="false"), "replaceRunning", "true or false"),
        (streaming(enableUpserts=True, upsertKeyColumns=["a"]), "upsertVersionColumn", "none of them"),
        (streaming(upsertKeyColumns=["a"]), "upsertKeyColumns", "none of them"),
        (
            streaming(target={**STREAMING["target"], "intervals": ["2026-11-01/P1D"]}),
            "target.intervals",
            "takes no intervals",
        ),
        (stream_of(format="csv"), "source.formatSettings.columns", "requires the names"),
        (
            stream_of(format="csv", columns=["a"], skipHeaderRows=1),
            "source.formatSettings.skipHeaderRows",
            "cannot skip",
        ),
        (
            stream_of(format="kafka", valueFormat={"format": "csv"}),
            "source.formatSettings.valueFormat.columns",
            "requires the names",
        ),
        (stream_of(format="kafka"), "source.formatSettings.valueFormat", "required"),
        (
            {**DELETION, "target": {"type": "table", "tableName": "no"}, "deleteAll": True},
            "target.tableName",
            "no table",
        ),
        ({**DELETION, "deleteAll": "false"}, "deleteAll", "true or false, not 'false'"),
        ({**DELETION, "versions": "v1"}, "versions", "a list"),
        (DELETION, "target.intervals", "either"),
        ({**DELETION, "target": {**TARGET, "intervals": ["a/b"]}}, "target.intervals[0]", "ISO 8601"),
        ({**DROP, "softDelete": 1}, "softDelete", "true or false"),
        ({**DELETION, "type": "restore_data"}, "interval", "required"),
        ({**DELETION, "type": "restore_data", "interval": "May"}, "interval", "ISO 8601"),
    ],
    ids=lambda value: str(value)[-60:],
)
def test_an_invalid_spec_names_the_wrong_field_and_what_is_allowed(same_polaris, spec, target, says):
    _, call = same_polaris
    answer = call("POST", "jobs", json=spec)
    assert answer.status_code == 400
    error = answer.json()
    assert error.get("target") == target
    assert re.search(says, error["message"]), error["message"]


@pytest.mark.parametrize(
    "spec",
    [
        {**SPEC, "no_such_field": 1, "source": {**SOURCE, "neither": None}},
        {**SPEC, "desiredExecutionStatus": "canceled"},
        {**SPEC, "context": {"priority": 1, "nested": {"any": [None]}}},
        {**SPEC, "maxParseExceptions": 0, "clusteringColumns": [], "filterExpression": ""},
        {**SPEC, "source": {key: SOURCE[key] for key in ("type", "data", "inputSchema")}},
        mapped({"columnName": "n", "expression": '"city"', "isAggregation": None}),
        csv(delimiter="\t", listDelimiter="|"),
        csv(delimiter=r"\t"),
        source(formatSettings={"format": "parquet", "binaryAsString": True}),
        source(formatSettings={"format": "regex", "columns": ["a"], "pattern": "(.*)"}),
        {**SPEC, "source": {"type": "table", "tableName": "cities", "interval": "2026-11-01/P1D"}},
        replacing("2026-11-01/P1D"),
        replacing("2026-11-01T00:00:00.000Z/2026-11-02T00:00:00.000Z", "P1D/2026-12-01"),
        replacing("2026-11-01T00/PT8H", partitionedBy="hour"),
        replacing("2026-11-01/P1M", partitionedBy="month"),
        replacing("2026-10-01/P3M", partitionedBy="quarter"),
        replacing("2026-11-01T00:00+01:00/PT1H", partitionedBy="hour"),
        {**SQL, "context": {"maxParseExceptions": 3}, "parameters": [{"type": "VARCHAR", "value": "a"}]},
        streaming(lateMessageRejectionPeriod="PT1H", earlyMessageRejectionPeriod="P2000D", readFromPoint="earliest"),
        streaming(enableUpserts=True, upsertKeyColumns=["a"], upsertVersionColumn="v"),
        streaming(enableUpserts=None, upsertKeyColumns=None, upsertVersionColumn=None),
        streaming(source={**STREAMING["source"], "formatSettings": None}),
        stream_of(format="kafka", valueFormat={"format": "nd-json"}, keyFormat={"format": "csv", "columns": ["key"]}),
        stream_of(format="protobuf", parseSchemaProvider={"type": "connection", "connectionName": "registry"}),
        {**DELETION, "target": {**TARGET, "intervals": ["2026-11-01T08:15:03/PT7M"]}, "versions": None},
        {"type": "restore_data", "target": {**TARGET, "intervals": None}, "interval": "2026-11-01/P1D"},
    ],
    ids=lambda value: str(value)[-60:],
)
def test_a_valid_spec_makes_a_job_that_echoes_it(own_polaris, spec):
    _, call = own_polaris
    answer = call("POST", "jobs", json=spec)
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert job["spec"] == spec
    assert job["desiredExecutionStatus"] == "running"
    assert job.get("context") == spec.get("context")
    assert "context" not in call("GET", "jobs").json()["values"][0]


def test_intervals_align_with_the_table_if_the_job_names_no_partitioning(own_polaris):
    polaris, call = own_polaris
    polaris.add_table("hourly", partitioningGranularity="hour")
    polaris.add_table("monthly")
    polaris.set_table("monthly", partitioningGranularity="month")

    def status(table, interval):
        spec = {**SPEC, "ingestionMode": "replace", "target": {**TARGET, "tableName": table, "intervals": [interval]}}
        return call("POST", "jobs", json=spec).status_code

    assert [status("hourly", f"2026-11-01T00/{period}") for period in ("PT1H", "PT90M")] == [201, 400]
    assert [status("monthly", f"2026-11-01/{period}") for period in ("P1M", "P1D")] == [201, 400]


def test_a_table_has_one_streaming_job_unless_the_spec_replaces_it(own_polaris):
    polaris, call = own_polaris
    first = call("POST", "jobs", json=STREAMING).json()["id"]
    refused = call("POST", "jobs", json=STREAMING)
    assert (refused.status_code, refused.json()["target"]) == (400, "target.tableName")
    assert "replaceRunning" in refused.json()["message"]
    other = {**STREAMING, "target": {**STREAMING["target"], "tableName": "views"}}
    assert call("POST", "jobs", json=other).status_code == 201
    second = call("POST", "jobs", json={**STREAMING, "replaceRunning": True}).json()["id"]
    assert [status_of(call, first) for _ in range(2)] == ["pending", "canceled"]
    polaris.set_status(second, "failed")
    assert call("POST", "jobs", json=STREAMING).status_code == 201, "a job that is over writes to no table"


def test_files_of_several_formats_need_format_settings(own_polaris):
    _, call = own_polaris
    for name in ("a.json", "b.csv", "c.parquet"):
        call("POST", "files", files={"file": (name, b"")})

    def status(*names, **settings):
        spec = source(type="uploaded", fileList=list(names), **settings)
        if not settings:
            del spec["source"]["formatSettings"]
        return call("POST", "jobs", json=spec).status_code

    assert [status("a.json"), status("c.parquet"), status("a.json", "b.csv")] == [201, 201, 400]
    assert status("a.json", "b.csv", formatSettings={"format": "csv"}) == 201


def test_a_spec_with_several_faults_names_all_of_them(call):
    error = call("POST", "jobs", json={**SPEC, "maxParseExceptions": -1, "mappings": None}).json()
    assert [fault["target"] for fault in error["details"]] == ["mappings", "maxParseExceptions"]
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
        json.dumps(source(inputSchema=[{"name": "a", "dataType": "x" * 1000}] * 5000)),
    ],
    ids=lambda body: f"{body[:30]}…{body[-30:]}",
)
def test_a_hostile_spec_is_a_small_400_within_seconds(same_polaris, body):
    _, call = same_polaris
    start = time.monotonic()
    answer = call("POST", "jobs", data=body.encode(), headers=JSON)
    assert (answer.status_code, len(answer.content) < 10_000) == (400, True)
    assert time.monotonic() - start < 8
    assert call("GET", "jobs").json()["values"] == [], "a refused spec leaves no job behind"


def test_a_spec_with_very_many_columns_delays_no_other_request(own_polaris):
    _, call = own_polaris
    columns = [{"name": f"c{number}", "dataType": "string"} for number in range(30_000)]
    spec = source(inputSchema=[*columns, *SOURCE["inputSchema"]])
    with ThreadPoolExecutor() as pool:
        created = pool.submit(call, "POST", "jobs", json=spec)
        slowest = 0.0
        while not created.done():
            start = time.monotonic()
            call("GET", "jobs")
            slowest = max(slowest, time.monotonic() - start)
    assert created.result().status_code == 201
    assert slowest < 1, "the check takes several seconds"
