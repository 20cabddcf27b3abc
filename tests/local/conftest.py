"""What the tests of the local Polaris share: raw calls, and jobs that read rows."""

from __future__ import annotations

import json

import pytest
import requests

from tests.conftest import API_KEY
from tests.support.job_specs import SPEC

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


def uploaded(*names: str, **changes):
    """Return the spec of a batch job that reads these files."""
    spec = spec_of("", **changes)
    spec["source"] = {**spec["source"], "type": "uploaded", "fileList": list(names)}
    del spec["source"]["data"]
    return spec


def caller_of(polaris):
    """Return a function that sends any request to a local Polaris, with the right key unless told otherwise."""

    def send(method, path, **kwargs):
        headers = {"Authorization": f"Basic {polaris.api_key}", **kwargs.pop("headers", {})}
        base = polaris.url if path.startswith("/") else f"{polaris.url}/v1/projects/{polaris.project_id}/"
        return requests.request(method, f"{base}{path}", headers=headers, timeout=10, **kwargs)

    return send


@pytest.fixture
def call(polaris):
    assert polaris.api_key == API_KEY
    return caller_of(polaris)


@pytest.fixture
def ingest(hook, wait_until):
    """Run a job to its end; return it and its counters."""

    def run(spec):
        job_id = hook.create_job(spec).id
        assert wait_until(lambda: hook.get_job(job_id).execution_status.is_over)
        return hook.get_job(job_id), hook.get_job_metrics(job_id)

    return run
