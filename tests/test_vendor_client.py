"""The vendor's own client runs against the local Polaris, and knows no word that we don't."""

from __future__ import annotations

import gzip
import io

import pytest

from airflow_provider_polaris.gate import Gate
from airflow_provider_polaris.jobs import WARNING_CODES, ExecutionStatus, HealthStatus, JobType

polaris_sdk = pytest.importorskip("polaris.sdk.client", reason="a test dependency: make test installs it")
from polaris.sdk.project_api import models  # noqa: E402

from tests.test_hook import SPEC  # noqa: E402


@pytest.fixture
def vendor(polaris):
    with polaris_sdk.ProjectClient.from_endpoint(polaris.project_id, polaris.url, polaris.api_key) as client:
        yield client


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ExecutionStatus.known, models.JobExecutionStatusV2),
        (ExecutionStatus.known, models.JobResponseExecutionStatus),
        (HealthStatus.known, models.JobHealthStatusV2),
        (JobType.known, models.JobTypeV2),
    ],
    ids=["status", "status in an answer", "health", "type"],
)
def test_the_vendor_knows_no_value_that_we_do_not(ours, theirs):
    assert {value.value for value in theirs} - {"unknown"} == ours - {"unknown"}


def test_the_warnings_that_refuse_by_default_are_codes_of_the_vendor():
    assert {code.value for code in models.JobWarningCodeV2} == WARNING_CODES
    assert Gate().fail_on_warnings <= WARNING_CODES


def test_it_creates_reads_and_lists_a_job(polaris, vendor, wait_until):
    created = vendor.jobs.create_job(SPEC)
    assert wait_until(lambda: vendor.jobs.describe_job_status(created.id).execution_status == "completed")
    job = vendor.jobs.describe_job(created.id)
    assert (job.id, job.type, job.health.status) == (created.id, "batch", "ok")
    assert job.target.table_name == "cities"
    assert job.spec is not None
    assert vendor.jobs.describe_job_metrics(created.id).totals.num_rows_processed == 2
    assert vendor.jobs.describe_job_logs(created.id).logs == []
    assert vendor.jobs.describe_job_overall_progress(created.id).overall_progress == 1.0
    listed = vendor.jobs.list_jobs(execution_status=["completed"], type=["batch"], target_table_name="cities")
    assert created.id in {one.id for one in listed.values}


def test_it_reads_why_a_job_failed(polaris, vendor, hook, wait_until):
    spec = {**SPEC, "source": {**SPEC["source"], "data": "no row\n"}, "maxParseExceptions": 0}
    created = vendor.jobs.create_job(spec)
    assert wait_until(lambda: hook.get_job(created.id).execution_status.is_over)
    job = vendor.jobs.describe_job(created.id)
    assert (job.execution_status, job.health.status, job.health.code) == ("failed", "error", "cannot_parse_source")
    logs = vendor.jobs.describe_job_logs(created.id).logs
    assert [(entry.code, entry.health_status) for entry in logs] == [("cannot_parse_source", "error")]


def test_it_cancels_both_ways(polaris, vendor, hook):
    for update in (vendor.jobs.update_job, vendor.jobs.update_job_status):
        job_id = polaris.add_job(executionStatus="running", spec={})
        update(job_id, {"desiredExecutionStatus": "canceled"})
        assert hook.get_job(job_id).desired_execution_status == "canceled"


def test_it_decodes_our_errors(polaris, vendor):
    error = vendor.jobs.describe_job("00000000-0000-4000-8000-000000000000")
    assert (error.code, error.target) == ("NotFound", "jobId")
    over = polaris.add_job(executionStatus="completed")
    assert vendor.jobs.update_job(over, {"desiredExecutionStatus": "canceled"}).code == "BadRequest"


def test_it_sees_and_deletes_files(polaris, vendor):
    import requests

    requests.post(
        f"{polaris.url}/v1/projects/{polaris.project_id}/files",
        files={"file": ("vendor.json.gz", io.BytesIO(gzip.compress(b"{}\n")))},
        headers={"Authorization": f"Basic {polaris.api_key}"},
        timeout=5,
    ).raise_for_status()
    assert vendor.files.get_file_metadata("vendor.json.gz").name == "vendor.json.gz"
    vendor.files.delete_file("vendor.json.gz")
    assert vendor.files.get_file_metadata("vendor.json.gz").code == "NotFound"
