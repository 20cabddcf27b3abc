"""The base of the operators that call a Polaris project and do not wait for a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris._compat import BaseOperator

if TYPE_CHECKING:
    from airflow_provider_polaris.hooks.polaris import PolarisHook


class ProjectTask(BaseOperator):
    """A task with the options that select the Polaris project.

    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: overrides the project of the connection. (templated)
    """

    def __init__(
        self, *, polaris_conn_id: str = "polaris_default", project_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.polaris_conn_id = polaris_conn_id
        self.project_id = project_id

    @contextmanager
    def opened_hook(self) -> Iterator[PolarisHook]:
        """Return a hook of the project. Its HTTP connections are closed afterwards."""
        from airflow_provider_polaris.hooks.polaris import PolarisHook

        with closing(PolarisHook(self.polaris_conn_id, self.project_id)) as hook:
            yield hook
