"""LineageTask: the methods that OpenLineage calls at the end of a task. Cheap to import in a DAG file."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_polaris.api.client import PolarisClient
    from airflow_provider_polaris.assets.lineage import TaskLineage
    from airflow_provider_polaris.assets.uris import Project


def is_installed() -> bool:
    """Whether Airflow's OpenLineage provider is installed. The provider is not imported."""
    return find_spec("airflow.providers") is not None and find_spec("airflow.providers.openlineage") is not None


class LineageTask:
    """Mixin of a task that reports what it has read and written. Only Airflow's OpenLineage provider calls it.

    OpenLineage calls it when the task ends, by default in a copy of the task's process. So no request is sent, and no
    connection is looked up.
    """

    #: The project of the task. ``None`` until its connection is looked up.
    _project: Project | None = None

    def note_project(self, client: PolarisClient) -> None:
        """Keep the project for :meth:`known_lineage`. Best effort: no error."""
        from airflow_provider_polaris.assets.uris import Project

        try:
            connection = client.connection
        except Exception:  # noqa: BLE001
            return  # the call that needs the connection raises the error
        self._project = Project.of_url(connection.base_url, connection.project_id)

    def known_lineage(self) -> TaskLineage:
        """Return what the task has read and written, as far as this process knows. Nothing is sent."""
        raise NotImplementedError

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the lineage of a task that has succeeded. Never raises."""
        from airflow_provider_polaris.assets.facets import operator_lineage

        return operator_lineage(self.known_lineage, self, task_instance)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Return the lineage of a task that has failed. Its job may have loaded rows. Never raises."""
        return self.get_openlineage_facets_on_complete(task_instance)
