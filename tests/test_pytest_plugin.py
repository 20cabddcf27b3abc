"""The pytest plugin has fixtures for tests of DAGs."""

from __future__ import annotations

from airflow_provider_polaris.hooks.polaris import PolarisHook


def test_the_connection_fixture_leads_to_the_local_polaris(local_polaris, local_polaris_connection):
    hook = PolarisHook(local_polaris_connection)
    assert hook.get_job(local_polaris.add_job()).execution_status == "pending"
    assert [request.method for request in local_polaris.requests] == ["GET"]
    hook.close()
