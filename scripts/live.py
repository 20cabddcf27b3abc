"""make live: a read-only check against a real Polaris project. It sends GET requests only.

    POLARIS_URL=https://ORG.REGION.CLOUD.api.imply.io POLARIS_PROJECT_ID=… POLARIS_API_KEY=… make live

Skipped without these variables. It prints how the service responds where its documentation is silent or contradictory.
It prints no key and no data.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from itertools import islice
from typing import Any

from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import AUTH_FORMS, PolarisConnection
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisNotFound
from airflow_provider_polaris.api.models import Job

NEEDED = ("POLARIS_URL", "POLARIS_PROJECT_ID", "POLARIS_API_KEY")
#: Jobs that each list request returns.
PAGE_SIZE = 5


def main() -> int:
    """Run all checks, and return the number of checks that failed."""
    given = {name: os.environ.get(name, "") for name in NEEDED}
    if not all(given.values()):
        print(f"Skipped: set {', '.join(name for name, value in given.items() if not value)} to check a real project.")
        return 0
    url, project_id, api_key = given.values()
    working = []
    for auth in AUTH_FORMS:
        client = PolarisClient(
            PolarisConnection.from_values(host=url, project_id=project_id, api_key=api_key, auth=auth)
        )
        if _check(f"authentication as {auth}", lambda client=client: _list(client)):
            working.append(client)
    if not working:
        return 2
    client = working[0]
    failed = 0
    jobs = _list(client, sort_column="created_date_time", sort_order="DESC")
    for name, value in (
        ("execution_status", ["completed", "failed"]),
        ("health_status", ["ok"]),
        ("type", ["batch", "sql"]),
        ("target_table_name", (jobs[0].table if jobs else None) or "no_such_table"),
        ("search_string", "a"),
    ):
        failed += not _check(f"list by {name}", lambda name=name, value=value: _list(client, **{name: value}))
    failed += not _check("one job", lambda: _one_job(client, jobs))
    failed += not _check("the response for a missing job", lambda: _missing_job(client))
    return failed


def _check(what: str, call: Callable[[], Any]) -> bool:
    try:
        found = call()
    except PolarisApiError as error:
        print(f"FAILED  {what}: {error}")
        return False
    print(f"ok      {what}: {f'{len(found)} jobs' if isinstance(found, list) else found}")
    return True


def _list(client: PolarisClient, **query: Any) -> list[Job]:
    """Return the jobs of the first page."""
    return list(islice(client.list_jobs(page_size=PAGE_SIZE, retry=False, **query), PAGE_SIZE))


def _one_job(client: PolarisClient, jobs: list[Job]) -> str:
    if not jobs:
        return "the project has no job"
    job = client.get_job(jobs[0].id, retry=False)
    metrics = client.get_job_metrics(job.id, retry=False)
    words = (job.execution_status, job.type, job.health and job.health.status)
    unknown = [word for word in words if word and not word.is_known]
    return (
        f"a {job.type} job, {job.execution_status}; fields {', '.join(sorted(job.raw))}; "
        f"counters {', '.join(name for name, value in metrics.to_dict().items() if value is not None)}; "
        f"unknown values: {unknown or 'none'}"
    )


def _missing_job(client: PolarisClient) -> str:
    try:
        client.get_job(str(uuid.uuid4()), retry=False)
    except PolarisNotFound as error:
        return f"a 404 in the error shape that this provider knows, code {error.code!r}"
    raise PolarisApiError("Polaris returned a job for a random id")


if __name__ == "__main__":
    sys.exit(main())
