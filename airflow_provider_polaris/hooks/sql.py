"""PolarisSqlHook: the Airflow connection of this provider for Airflow's SQL operators.

The import of Airflow's SQL hook takes half a second. So no sensor and no operator of this provider imports this module.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_polaris.api.connection import CONN_TYPE, DEFAULT_CONN_ID
from airflow_provider_polaris.api.dbapi import Connection
from airflow_provider_polaris.hooks.polaris import PolarisHook, load_connection


class PolarisSqlHook(DbApiHook):
    """Query the tables of one Polaris project, with Airflow's SQL operators or by itself.

    ``SQLExecuteQueryOperator(conn_id="polaris_default", sql=…)`` and Airflow's SQL checks find this hook by the type of
    the connection. Parameters are a list, one for each ``?`` of the query, and are sent apart from it. Only SELECT is
    allowed. A query that fails raises :class:`~airflow_provider_polaris.exceptions.PolarisQueryFailed`.

    :param polaris_conn_id: a connection of type ``imply_polaris``.
    :param project_id: overrides the connection's extra ``project_id``.
    """

    conn_name_attr = "polaris_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = PolarisHook.hook_name
    supports_autocommit = False
    supports_executemany = False
    _placeholder = "?"

    def __init__(self, polaris_conn_id: str = DEFAULT_CONN_ID, project_id: str | None = None, **kwargs: Any) -> None:
        # Airflow's SQL operators pass each extra of the connection. PolarisHook reads them from the connection itself.
        options = {name: value for name, value in kwargs.items() if name in ("schema", "log_sql")}
        super().__init__(polaris_conn_id=polaris_conn_id, **options)
        self.polaris_conn_id = polaris_conn_id
        self.project_id = project_id

    get_connection_form_widgets = PolarisHook.get_connection_form_widgets
    get_ui_field_behaviour = PolarisHook.get_ui_field_behaviour

    def get_conn(self) -> Connection:
        """Return a connection of PEP 249."""
        return Connection(PolarisHook(self.polaris_conn_id, self.project_id))

    def get_uri(self) -> str:
        """Return the address of the project. It has no key, since it appears in logs and in lineage."""
        project = load_connection(self.polaris_conn_id, self.project_id)
        return f"polaris://{urlsplit(project.base_url).netloc}/{project.project_id}"

    def test_connection(self) -> tuple[bool, str]:  # type: ignore[override]  # as Airflow calls it
        """Return whether the connection works: see :meth:`PolarisHook.test_connection`."""
        return PolarisHook(self.polaris_conn_id, self.project_id).test_connection()
