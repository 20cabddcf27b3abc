"""The lineage of a hook's calls, for tasks that are no operator of this provider, such as a plain ``@task``."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from airflow_provider_polaris.assets.lineage_task import is_installed
from airflow_provider_polaris.assets.uris import Project

if TYPE_CHECKING:
    from airflow_provider_polaris.api.client import PolarisClient

log = logging.getLogger(__name__)


def report_table(hook: PolarisClient, table: str | None) -> None:
    """Add a table to the outputs of the running task. Best effort: no error.

    Nothing is imported where Airflow's OpenLineage provider is not installed. Airflow's collector takes seconds when it
    is used first in a process, and OpenLineage is its only reader here.
    """
    if not table or not is_installed():
        return
    try:
        collector = import_module("airflow.providers.common.compat.lineage.hook").get_hook_lineage_collector()
        project = Project.of_url(hook.connection.base_url, hook.connection.project_id)
        collector.add_output_asset(context=hook, uri=project.table_uri(table))
    except Exception as error:  # noqa: BLE001 - the job is created, and lineage fails no task
        log.warning("Table %r is missing in the lineage of the task: %s: %s", table, type(error).__name__, error)
