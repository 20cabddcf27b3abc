"""PolarisHook: a PolarisClient that takes its connection from Airflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from airflow_provider_polaris import connection_form
from airflow_provider_polaris._compat import AirflowNotFoundException, BaseHook
from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import CONN_TYPE, DEFAULT_CONN_ID, PolarisConnection
from airflow_provider_polaris.api.connection_check import findings
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisConnectionInvalid,
    PolarisConnectionMissing,
    PolarisError,
    PolarisForbidden,
    PolarisInvalidResponse,
    PolarisNotFound,
    PolarisResponseTooLarge,
    PolarisTransientError,
    PolarisUnauthorized,
    sentences,
)
from airflow_provider_polaris.api.job_spec import table_of
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.api.parsing import clip
from airflow_provider_polaris.assets.hook_lineage import report_table


class PolarisHook(PolarisClient, BaseHook):
    """Call the Jobs, Tables, Files and Query API of one Polaris project, with an Airflow connection.

    The calls are those of :class:`~airflow_provider_polaris.api.client.PolarisClient`. The hook looks its connection up
    at the first call, and again after a 401, since the API key may have been rotated.

    :param polaris_conn_id: a connection of type ``imply_polaris``.
    :param project_id: overrides the connection's extra ``project_id``.
    :param reports_lineage: whether :meth:`create_job` adds the job's table to the outputs of the running task, for
        OpenLineage. A task that reports its lineage itself needs no second report.
    """

    conn_name_attr = "polaris_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = "Imply Polaris"

    def __init__(
        self,
        polaris_conn_id: str = DEFAULT_CONN_ID,
        project_id: str | None = None,
        *,
        reports_lineage: bool = True,
    ) -> None:
        BaseHook.__init__(self)
        PolarisClient.__init__(self, partial(load_connection, polaris_conn_id, project_id))
        self.polaris_conn_id = polaris_conn_id
        self.project_id = project_id
        self._reports_lineage = reports_lineage

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form, for Airflow 2.11 to 3.1."""
        return connection_form.widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the labels and placeholders of the form's standard fields, for Airflow 2.11 to 3.1."""
        return connection_form.field_behaviour()

    def get_conn(self) -> PolarisClient:
        """Look the connection up, and return this hook, which is the client."""
        _ = self.connection  # raises if the connection is missing or invalid
        return self

    def create_job(self, spec: Mapping[str, Any]) -> Job:
        """Create an ingestion job and return it: see :meth:`PolarisClient.create_job`.

        If OpenLineage is installed, the table of the job becomes an output of the task that calls this.
        """
        job = super().create_job(spec)
        if self._reports_lineage:
            report_table(self, job.table or table_of(spec))
        return job

    def test_connection(self) -> tuple[bool, str]:
        """List one job. Return whether that works, and a message for the connection form. Never raises.

        The message also names the permissions that the key lacks, and a project that does not run, if Polaris reports
        them within five seconds.
        """
        try:
            return self._test_connection()
        except PolarisConnectionInvalid as error:
            # Airflow tests a connection under a random id, which would only confuse.
            return False, str(error).removeprefix(f"Connection {self.polaris_conn_id!r}: ")
        except PolarisError as error:
            return False, str(error)
        except Exception as error:  # noqa: BLE001 - the form shows text, not tracebacks
            return False, f"{type(error).__name__}: {error}"

    def _test_connection(self) -> tuple[bool, str]:
        connection = self.connection
        ignored = [f"Ignored: {clip(', '.join(connection.ignored), 100)}"] if connection.ignored else []
        try:
            next(self.list_jobs(page_size=1, retry=False), None)
        except PolarisResponseTooLarge:
            pass  # Polaris responds, with a job that is too large to be read
        except PolarisApiError as error:
            missing = findings(connection) if isinstance(error, PolarisForbidden) else []
            return False, sentences(explain_failure(error, connection), *missing, *ignored)
        works = "Polaris responds, and the API key can read this project's jobs"
        short = ["An access token is accepted for five minutes only"] if connection.auth == "bearer" else []
        return True, sentences(works, *short, *findings(connection), *ignored)


#: The end of a call's message, which names the request.
_REQUEST = re.compile(r" \([A-Z]+ \S+\)$")
#: The most characters of a failure in the answer of the connection test.
MAX_FAILURE = 110


def explain_failure(error: PolarisApiError, connection: PolarisConnection) -> str:
    """Return in a sentence or two why the test of a connection failed: the form shows a few lines."""
    failure = clip(_REQUEST.sub("", str(error)).partition(". ")[0], MAX_FAILURE)
    if isinstance(error, PolarisUnauthorized):
        if connection.auth == "bearer":
            return "Polaris rejects the access token (401). It may have expired after five minutes: use an API key"
        other = "basic" if connection.auth == "api_key" else "api_key"
        return f"Polaris rejects the API key (401). Check the API key; if it is right, try Authentication {other}"
    if isinstance(error, PolarisForbidden):
        return "Polaris refuses (403). Give the API key the permission ManageIngestionJobs in this project"
    if isinstance(error, PolarisNotFound):
        return f"This API key can see no project {connection.project_id}. Check the project ID"
    if isinstance(error, PolarisInvalidResponse):
        return f"This host is not the Polaris API, or a gateway responds in its place: {failure}"
    if isinstance(error, PolarisTransientError):
        return failure if error.status is None else f"Polaris is not available now: {failure}"
    return f"Polaris rejects the request: {failure}"


def load_connection(conn_id: str = DEFAULT_CONN_ID, project_id: str | None = None) -> PolarisConnection:
    """Look an Airflow connection up, and check it.

    :param conn_id: a connection of type ``imply_polaris``.
    :param project_id: overrides the connection's extra ``project_id``.
    :raises PolarisConnectionMissing: if the connection is not defined where this runs.
    :raises PolarisUsageError: if the project id or the connection is invalid.
    """
    try:
        conn = PolarisHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise PolarisConnectionMissing(
            f"The connection {conn_id!r} is not defined. Define it in the UI, or as AIRFLOW_CONN_{conn_id.upper()}"
        ) from None
    return PolarisConnection.from_airflow(conn, project_id)
