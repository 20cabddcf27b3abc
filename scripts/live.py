"""make live: a read-only check against a real Polaris project. It sends nothing but GET.

    POLARIS_URL=https://ORG.REGION.CLOUD.api.imply.io POLARIS_PROJECT_ID=… POLARIS_API_KEY=… make live

Skipped without them. Prints what the service really answers where the documentation is silent or disagrees; no key, no
data.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisNotFound
from airflow_provider_polaris.api.models import Job, JobMetrics
from airflow_provider_polaris.api.retries import Retry
from airflow_provider_polaris.api.transport import Transport

NEEDED = ("POLARIS_URL", "POLARIS_PROJECT_ID", "POLARIS_API_KEY")


def main() -> int:
    """Check, and return how many checks failed."""
    given = {name: os.environ.get(name) for name in NEEDED}
    if not all(given.values()):
        print(f"Skipped: set {', '.join(name for name, value in given.items() if not value)} to check a real project.")
        return 0
    conn = SimpleNamespace(
        conn_id="live",
        host=given["POLARIS_URL"],
        password=given["POLARIS_API_KEY"],
        port=None,
        schema=None,
        extra={"project_id": given["POLARIS_PROJECT_ID"]},
    )
    connection = PolarisConnection.from_airflow(conn)
    transports = {}
    for auth in ("api_key", "basic"):
        transport = Transport(replace(connection, auth=auth))
        if _check(f"authentication as {auth}", lambda transport=transport: _list(transport, paginationLimit=1)):
            transports[auth] = transport
    if not transports:
        return 2
    transport = next(iter(transports.values()))
    failed = 0
    jobs = _list(transport, paginationLimit=5, sortColumn="created_date_time", sortOrder="DESC")
    for name, value in (
        ("executionStatus", ["completed", "failed"]),
        ("healthStatus", ["ok"]),
        ("type", ["batch", "sql"]),
        ("targetTableName", jobs[0].table if jobs else "no_such_table"),
        ("searchString", "a"),
    ):
        failed += not _check(f"list by {name}", lambda name=name, value=value: _list(transport, **{name: value}))
    failed += not _check("one job", lambda: _one_job(transport, jobs))
    failed += not _check("the answer for a job that is not there", lambda: _not_there(transport))
    return failed


def _check(what: str, call: Callable[[], Any]) -> bool:
    try:
        found = call()
    except PolarisApiError as error:
        print(f"FAILED  {what}: {error}")
        return False
    print(f"ok      {what}: {f'{len(found)} jobs' if isinstance(found, list) else found}")
    return True


def _list(transport: Transport, **query: Any) -> list[Job]:
    page = transport.request("GET", "jobs", params=query, retry=Retry.NEVER)
    return [Job.from_api(row) for row in page["values"]]


def _one_job(transport: Transport, jobs: list[Job]) -> str:
    if not jobs:
        return "the project has none"
    body = transport.request("GET", "jobs", jobs[0].id, retry=Retry.NEVER)
    job = Job.from_api(body)
    metrics = JobMetrics.from_api(transport.request("GET", "jobs", job.id, "metrics", retry=Retry.NEVER))
    words = (job.execution_status, job.type, job.health and job.health.status)
    unknown = [word for word in words if word and not word.is_known]
    return (
        f"a {job.type} job, {job.execution_status}; fields {', '.join(sorted(body))}; "
        f"counters {', '.join(name for name, value in metrics.to_dict().items() if value is not None)}; "
        f"values not known yet: {unknown or 'none'}"
    )


def _not_there(transport: Transport) -> str:
    try:
        transport.request("GET", "jobs", str(uuid.uuid4()), retry=Retry.NEVER)
    except PolarisNotFound as error:
        return f"a 404 in the error shape this provider knows, code {error.code!r}"
    raise PolarisApiError("there was an answer to a job id that was made up")


if __name__ == "__main__":
    sys.exit(main())
