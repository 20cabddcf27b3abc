"""What a task has read and written, as plain data."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_polaris.api.models import Job, JobMetrics
from airflow_provider_polaris.assets.lineage import (
    MAX_DATASETS,
    Check,
    Input,
    Output,
    TaskLineage,
    inputs_of,
    lineage_of_checks,
    lineage_of_job,
    lineage_of_query,
    lineage_of_upload,
    object_id,
    rows_written,
)
from airflow_provider_polaris.assets.uris import DatasetId, Project
from airflow_provider_polaris.gate.decision import ThresholdCheck, UntilOver, check_each_threshold
from tests.support.gates import gate
from tests.support.specs import S3, SPEC, SQL, STREAMING, uploaded

PROJECT = Project("acme.us-east-1.aws.api.imply.io", "p1")
HERE = "polaris://acme.us-east-1.aws.api.imply.io"


def job(status="completed", **fields):
    return Job.from_api({"id": "j", "executionStatus": status, "target": {"tableName": "orders"}, **fields})


@pytest.mark.parametrize(
    ("metrics", "rows"),
    [
        (None, None),
        (JobMetrics(), None),
        (JobMetrics(rows_persisted=8, rows_processed=9), 8),
        (JobMetrics(rows_persisted=0, rows_processed=9), 0),
        (JobMetrics(rows_processed=9), 9),
        (JobMetrics(rows_processed=9, rows_processed_with_warning=2), 11),
        (JobMetrics(rows_processed_with_warning=2, bytes_processed=7), None),
    ],
)
def test_the_written_rows_are_those_that_polaris_persisted_or_else_processed(metrics, rows):
    assert rows_written(metrics) == rows


@pytest.mark.parametrize(
    ("options", "metrics", "value", "passed"),
    [
        ({"min_rows_processed": 10}, JobMetrics(rows_processed=6, rows_processed_with_warning=4), 10, True),
        ({"min_rows_processed": 10}, JobMetrics(rows_processed=9), 9, False),
        ({"min_rows_processed": 0}, JobMetrics(), None, False),
        ({"max_rows_skipped_by_error": 1}, JobMetrics(rows_skipped_by_error=1), 1, True),
        ({"max_rows_skipped_by_error": 1}, JobMetrics(rows_skipped_by_error=2), 2, False),
        ({"max_rows_with_warning": 1}, JobMetrics(rows_processed_with_warning=2), 2, False),
        ({"max_error_ratio": 0.5}, JobMetrics(rows_processed=1, rows_skipped_by_error=1), 0.5, True),
        ({"max_error_ratio": 0.4}, JobMetrics(rows_processed=1, rows_skipped_by_error=1), 0.5, False),
        ({"max_error_ratio": 0.4}, JobMetrics(rows_processed=0, rows_skipped_by_error=0), None, False),
        ({"max_error_ratio": 0.4}, None, None, False),
    ],
)
def test_each_threshold_is_checked_by_itself(options, metrics, value, passed):
    ((name, limit),) = options.items()
    assert check_each_threshold(metrics, gate(**options)) == [ThresholdCheck(name, limit, value, passed)]
    other = "max_rows_with_warning" if name == "min_rows_processed" else "min_rows_processed"
    both = {check.threshold: check for check in check_each_threshold(metrics, gate(**{**options, other: 10**9}))}
    assert both[name].passed == passed
    assert set(both) == {name, other}


def test_a_gate_without_thresholds_has_no_checks():
    assert check_each_threshold(JobMetrics(rows_processed=1), gate()) == []


def test_a_completed_job_has_its_table_its_rows_and_its_checks():
    metrics, limits = JobMetrics(rows_processed=9), gate(min_rows_processed=10)
    table = Output(
        DatasetId(HERE, "p1.orders"),
        row_count=9,
        checks=(Check("min_rows_processed", False, expected="10", actual="9"),),
    )
    assert lineage_of_job(PROJECT, "j", job(), metrics, limits, None) == TaskLineage((), (table,), "j")


@pytest.mark.parametrize("status", ["failed", "canceled", "running"])
def test_only_a_completed_job_has_checks(status):
    lineage = lineage_of_job(PROJECT, "j", job(status), JobMetrics(rows_processed=9), gate(min_rows_processed=1), None)
    assert lineage.outputs == (Output(DatasetId(HERE, "p1.orders"), row_count=9),)


def test_a_cancellation_has_no_checks():
    (table,) = lineage_of_job(PROJECT, "j", job(), JobMetrics(rows_persisted=3), UntilOver(), None).outputs
    assert table == Output(DatasetId(HERE, "p1.orders"), row_count=3)


def test_a_job_that_was_never_seen_has_the_table_of_its_spec():
    assert lineage_of_job(PROJECT, "j", None, None, gate(), SPEC).outputs == (Output(DatasetId(HERE, "p1.cities")),)
    assert lineage_of_job(PROJECT, "j", None, None, gate(), None) == TaskLineage((), (), "j")
    unnamed = Job.from_api({"id": "j", "executionStatus": "completed"})
    assert lineage_of_job(PROJECT, "j", unnamed, None, gate(), SQL).outputs[0].id == DatasetId(HERE, "p1.by_sql")


def reading(**source):
    return {**SPEC, "source": {"inputSchema": [], **source}}


@pytest.mark.parametrize(
    ("spec", "inputs"),
    [
        (SPEC, []),
        (uploaded("b.json", "in/a.json", "b.json"), [(HERE, "p1/files/b.json"), (HERE, "p1/files/in/a.json")]),
        (reading(type="table", tableName="raw"), [(HERE, "p1.raw")]),
        (S3, [(HERE, "p1/connections/lake/day=1/")]),
        (reading(type="s3", connectionName="lake", objects=["a/b.json"]), [(HERE, "p1/connections/lake/a/b.json")]),
        (reading(type="s3", connectionName="lake", pattern="a/*.json"), [(HERE, "p1/connections/lake/a/*.json")]),
        (reading(type="s3", connectionName="lake", uris=["s3://b/c/d.json"]), [("s3://b", "c/d.json")]),
        (reading(type="azure", connectionName="lake", uris=["azure://box/d.json"]), [("azure://box", "d.json")]),
        (STREAMING, [(HERE, "p1/connections/kafka")]),
        ({**SQL, "query": "INSERT INTO t SELECT * FROM a, b"}, [(HERE, "p1.a"), (HERE, "p1.b")]),
        ({**SQL, "query": None}, []),
        (reading(type="uploaded", fileList="a.json"), []),
        (reading(type="uploaded", fileList=[None, 1, "", "a.json"]), [(HERE, "p1/files/a.json")]),
        (reading(type="table", tableName=None), []),
        ({"type": None, "source": 1}, []),
        ({}, []),
    ],
)
def test_a_spec_names_what_its_job_reads(spec, inputs):
    assert [(one.namespace, one.name) for one in inputs_of(PROJECT, spec)] == inputs


def test_a_job_has_a_limited_number_of_inputs():
    names = [f"{n}.json" for n in range(MAX_DATASETS + 1)]
    assert [one.name for one in inputs_of(PROJECT, uploaded(*names))] == [f"p1/files/{one}" for one in names[:-1]]


@pytest.mark.parametrize(
    ("address", "namespace", "name"),
    [
        ("s3://bucket/a/b.json", "s3://bucket", "a/b.json"),
        ("s3://bucket/a.json?X-Amz-Signature=secret&X-Amz-Credential=secret", "s3://bucket", "a.json"),
        ("s3://bucket/a.json#secret", "s3://bucket", "a.json"),
        ("s3://user:secret@bucket/a.json", "s3://bucket", "a.json"),
        ("s3://aws_default@bucket/a.json", "s3://bucket", "a.json"),
        ("s3://bucket", "s3://bucket", "/"),
        ("file:///data/a.json", "file", "/data/a.json"),
        ("/data/a.json", "file", "/data/a.json"),
    ],
)
def test_the_name_of_an_object_has_no_signature_and_no_user(address, namespace, name):
    assert object_id(address) == DatasetId(namespace, name)


def test_an_upload_has_the_files_that_are_in_polaris_and_their_sources():
    sources = {"in/a.json": "/data/a.json", "in/b.json": "s3://aws_default@lake/b.json", "in/c.json": "/data/c.json"}
    assert lineage_of_upload(PROJECT, sources, {"in/a.json": 7, "in/b.json": 0}) == TaskLineage(
        (Input(DatasetId("file", "/data/a.json")), Input(DatasetId("s3://lake", "b.json"))),
        (
            Output(DatasetId(HERE, "p1/files/in/a.json"), size_bytes=7),
            Output(DatasetId(HERE, "p1/files/in/b.json"), size_bytes=0),
        ),
    )


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("orders", ["p1.orders"]),
        ('"Koalas Subset"', ["p1.Koalas Subset"]),
        ("druid.orders", ["p1.orders"]),
        ("(SELECT * FROM a JOIN b USING (x))", ["p1.a", "p1.b"]),
        ("INFORMATION_SCHEMA.TABLES", []),
    ],
)
def test_a_check_with_sql_has_the_checked_table_as_its_input(table, names):
    check = Check("has_rows", True)
    expected = tuple(Input(DatasetId(HERE, name), (check,)) for name in names)
    assert lineage_of_checks(PROJECT, table, [check]) == TaskLineage(expected)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("SELECT COUNT(*) FROM orders", ["p1.orders"]),
        ('SELECT * FROM "Koalas Subset" AS k JOIN druid.users USING (id)', ["p1.Koalas Subset", "p1.users"]),
        ("WITH big AS (SELECT * FROM orders) SELECT * FROM big", ["p1.orders"]),
        ("SELECT * FROM INFORMATION_SCHEMA.TABLES", []),
        ("SELECT 1", []),
    ],
)
def test_a_query_has_the_tables_that_it_reads_as_inputs(query, names):
    inputs = tuple(Input(DatasetId(HERE, name)) for name in names)
    assert lineage_of_query(PROJECT, "query-1", query) == TaskLineage(inputs, (), "query-1")


def test_a_query_has_a_limited_number_of_inputs():
    tables = [f"t{n}" for n in range(MAX_DATASETS + 1)]
    inputs = lineage_of_query(PROJECT, "query-1", f"SELECT * FROM {', '.join(tables)}").inputs  # noqa: S608
    assert [one.id.name for one in inputs] == [f"p1.{table}" for table in tables[:-1]]


def test_nothing_of_openlineage_is_loaded_where_it_is_not_installed(polaris):
    """A process of its own creates a job with the hook, and the provider of OpenLineage cannot be found there."""
    program = f"""
import importlib.util, sys
find = importlib.util.find_spec
import airflow_provider_polaris.assets.lineage_task as lineage_task
lineage_task.find_spec = lambda name: None if name == "airflow.providers.openlineage" else find(name)
sys.modules["airflow.providers.openlineage"] = None
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
hook = PolarisHook()
before = set(sys.modules)
assert hook.create_job({SPEC!r}).id
added = set(sys.modules) - before
print([name for name in added if "lineage" in name])
print(PolarisCreateJobOperator(task_id="t", job_spec={{}}).get_openlineage_facets_on_complete(None))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stdout.splitlines()[-2:] == ["[]", "None"], run.stderr
