"""Fixtures for the tests of the local Polaris: raw requests, and jobs that read rows."""

from __future__ import annotations

import os

import pytest

from airflow_provider_polaris.local import LocalPolaris
from tests.support.checked_answers import CheckedAnswers
from tests.support.local_calls import caller_of

#: The checks of all answers, if POLARIS_OPENAPI names the vendor's OpenAPI document.
CHECKED = CheckedAnswers.of(os.environ.get("POLARIS_OPENAPI"))


@pytest.fixture(autouse=True)
def _answers_conform(request):
    """Fail a test in which an answer of a local Polaris violates the document."""
    if CHECKED is None:
        yield
        return
    CHECKED.clear()
    yield
    if not request.node.get_closest_marker("odd_answers"):
        assert CHECKED.faults() == []


@pytest.fixture
def call(polaris):
    """Return a function that sends a raw request to the shared local Polaris."""
    return caller_of(polaris)


@pytest.fixture
def own_polaris():
    """Yield a local Polaris with the table cities for one test, and a function that sends raw requests to it."""
    with LocalPolaris() as polaris:
        polaris.add_table("cities")
        yield polaris, caller_of(polaris)


@pytest.fixture(scope="module")
def same_polaris():
    """Yield the same as ``own_polaris`` to all tests of a file that change nothing. A server takes 0.2 s to stop."""
    with LocalPolaris() as polaris:
        polaris.add_table("cities")
        yield polaris, caller_of(polaris)


@pytest.fixture
def ingest(hook, wait_until):
    """Return a function that runs a job to its end, and returns the job and its counters."""

    def run(spec):
        job_id = hook.create_job(spec).id
        assert wait_until(lambda: hook.get_job(job_id).execution_status.is_over)
        return hook.get_job(job_id), hook.get_job_metrics(job_id)

    return run
