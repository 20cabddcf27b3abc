"""The key of the tests' local Polaris, and raw requests to it, without the provider's code."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone

import requests

#: Has the form of a Polaris key, and characters that differ between the encodings of a key.
API_KEY = "pok_Kn0wn~Sekret+/4Tests?"


def caller_of(polaris):
    """Return a function that sends any request to a local Polaris, with the right key by default."""

    def send(method, path, **kwargs):
        headers = {"Authorization": f"Basic {polaris.api_key}", **kwargs.pop("headers", {})}
        base = polaris.url if path.startswith("/") else f"{polaris.url}/v1/projects/{polaris.project_id}/"
        return requests.request(method, f"{base}{path}", headers=headers, timeout=10, **kwargs)

    return send


def status_of(call, job_id):
    """Return the status of a job, with one request."""
    return call("GET", f"jobs/{job_id}").json()["executionStatus"]


def add_load(polaris, table, *, lost=0, ago=0.0):
    """Add a load that completes now, or so many seconds ago. Return the id of its job.

    :param lost: the number of rows that were skipped.
    """
    moment = f"{datetime.fromtimestamp(time.time() - ago, timezone.utc):%Y-%m-%dT%H:%M:%S.%f}Z"
    return polaris.add_job(
        type="batch",
        executionStatus="completed",
        target={"type": "table", "tableName": table},
        createdTimestamp=moment,
        lastUpdatedTimestamp=moment,
        completedTimestamp=moment,
        metrics={"numRowsProcessed": 7, "numRowsSkippedByError": lost},
    )


def connection_without_page(polaris) -> str:
    """Return a connection that names no page of a job. On 2.11, a task pushes the address of the page to XCom."""
    connection = json.loads(polaris.connection_json)
    del connection["extra"]["job_url_template"]
    return json.dumps(connection)
