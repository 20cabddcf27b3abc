"""PolarisHook: an Airflow connection and the Jobs calls of Imply Polaris."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from airflow_provider_polaris import connection_form
from airflow_provider_polaris._compat import AirflowNotFoundException, BaseHook
from airflow_provider_polaris.api.connection import CONN_TYPE, DEFAULT_CONN_ID, PolarisConnection, check_id
from airflow_provider_polaris.api.errors import (
    PolarisAuthError,
    PolarisConnectionMissing,
    PolarisError,
    PolarisNotFound,
    PolarisUnreachable,
    PolarisUsageError,
    sentences,
)
from airflow_provider_polaris.api.models import ExecutionStatus, Job, JobMetrics, LogEntry, Table, check_table_name
from airflow_provider_polaris.api.retries import Retry
from airflow_provider_polaris.api.transport import Transport
from airflow_provider_polaris.exceptions import PolarisOptionError

T = TypeVar("T")

#: The most jobs that one page of the list may hold.
PAGE_LIMIT = 1000
#: Every status known of a job that is not over.
NOT_OVER = sorted(status for status in ExecutionStatus.known if not ExecutionStatus(status).is_over)


class ActivePage(NamedTuple):
    """A page of the list, not decoded any further: that takes seven times as long as reading its JSON.

    :param rows: those that were wanted, by their id in lower case, as they came.
    :param size: how many jobs the page has in all.
    :param more: whether there is another page.
    """

    rows: Mapping[str, Mapping[str, Any]]
    size: int
    more: bool


class PolarisHook(BaseHook):
    """Talk to the Jobs API of one Polaris project.

    Making a hook costs nothing; the connection is looked up at the first call. A hook may be shared between threads
    once that has happened.

    Every call raises a :class:`~airflow_provider_polaris.exceptions.PolarisApiError` if it fails, and
    :class:`~airflow_provider_polaris.exceptions.PolarisUsageError` before anything is sent for an id or a connection
    that cannot be right. Reading, updating and canceling are tried again, with growing pauses, where that may help;
    :meth:`create_job` only where Polaris cannot have received the job.

    :param polaris_conn_id: a connection of type ``imply_polaris``.
    :param project_id: wins over the connection's extra ``project_id``.
    """

    conn_name_attr = "polaris_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = "Imply Polaris"

    def __init__(
        self, polaris_conn_id: str = DEFAULT_CONN_ID, project_id: str | None = None, **sql_hook_params: Any
    ) -> None:
        super().__init__()
        if sql_hook_params:  # Airflow's SQL operators give a hook each extra of its connection
            raise PolarisOptionError(
                f"PolarisHook takes no argument {', '.join(map(repr, sorted(sql_hook_params)))}. If a SQL operator "
                f"made it: the connection {polaris_conn_id!r} does not serve Airflow's SQL operators yet"
            )
        self.polaris_conn_id = polaris_conn_id
        self.project_id = project_id
        self._reloading = threading.Lock()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields, for Airflow 2.11 to 3.1."""
        return connection_form.widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what becomes of the form's standard fields, for Airflow 2.11 to 3.1."""
        return connection_form.field_behaviour()

    @cached_property
    def transport(self) -> Transport:
        """The HTTP side, made from the connection at first use."""
        return Transport(self.load_connection())

    def get_conn(self) -> Transport:
        """Return the HTTP side, as Airflow's hooks do."""
        return self.transport

    def load_connection(self) -> PolarisConnection:
        """Look the connection up, now. Raises PolarisConnectionMissing if it is not defined here."""
        try:
            conn = self.get_connection(self.polaris_conn_id)
        except AirflowNotFoundException:
            raise PolarisConnectionMissing(
                f"The connection {self.polaris_conn_id!r} is not defined. Define it in the UI, or as "
                f"AIRFLOW_CONN_{self.polaris_conn_id.upper()}"
            ) from None
        return PolarisConnection.from_airflow(conn, self.project_id)

    def use(self, connection: PolarisConnection) -> bool:
        """Go on with this connection; return whether it differs from the one in use."""
        current = self.__dict__.get("transport")
        if current is not None and current.connection == connection:
            return False
        # Set first: a thread that asks in between must not look the connection up by itself.
        self.__dict__["transport"] = Transport(connection)
        if current is not None:
            current.close()
        return True

    def reload(self) -> bool:
        """Look the connection up again, since a key may have been rotated; return whether it has changed."""
        return self.use(self.load_connection())

    def job_url(self, job_id: str) -> str | None:
        """Return where a person sees the job, ``None`` if the connection does not tell."""
        return self.transport.connection.job_url(job_id)

    def close(self) -> None:
        """Close the pooled HTTP connections; the next call opens new ones."""
        current = self.__dict__.pop("transport", None)
        if current is not None:
            current.close()

    def get_job(self, job_id: str, *, retry: bool = True) -> Job:
        """Return the job. ``retry=False`` is for those who poll anyway."""
        job_id = check_id(job_id, "job_id")

        def read(answer: Any) -> Job:
            job = Job.from_api(answer)
            if job.id.lower() != job_id.lower():
                raise PolarisUnreachable(f"Polaris was asked for job {job_id} and answered with job {job.id[:100]}")
            return job

        return self._get("jobs", job_id, retry=Retry.when(retry), read=read)

    def get_job_status(self, job_id: str) -> ExecutionStatus:
        """Return where the job stands; what it means is told by status and health together."""
        return self._get("jobs", check_id(job_id, "job_id"), "status", read=_status_of)

    def get_job_metrics(self, job_id: str, *, retry: bool = True) -> JobMetrics:
        """Return the job's row counters."""
        segments = ("jobs", check_id(job_id, "job_id"), "metrics")
        return self._get(*segments, retry=Retry.when(retry), read=JobMetrics.from_api)

    def get_job_logs(self, job_id: str, *, retry: bool = True) -> list[LogEntry]:
        """Return the job's log, in the order that the service gives it."""
        return self._get("jobs", check_id(job_id, "job_id"), "logs", retry=Retry.when(retry), read=_log_of)

    def get_job_progress(self, job_id: str) -> float:
        """Return how far the job is, from 0.0 to 1.0."""
        return self._get("jobs", check_id(job_id, "job_id"), "progress", read=_progress_of)

    def list_jobs(
        self,
        *,
        execution_status: str | Iterable[str] | None = None,
        health_status: str | Iterable[str] | None = None,
        type: str | Iterable[str] | None = None,  # noqa: A002 - the API's own word
        connection_name: str | Iterable[str] | None = None,
        target_table_name: str | None = None,
        target_table_id: str | None = None,
        search_string: str | None = None,
        sort_column: str = "created_date_time",
        sort_order: str = "ASC",
        page_size: int = PAGE_LIMIT,
        retry: bool = True,
    ) -> Iterator[Job]:
        """Yield every job that fits, page by page, each once.

        Several values of one filter are alternatives; different filters must all hold. The default order, the oldest
        first, is the one in which jobs that come and go between two pages make the least trouble: a new one is found at
        the end.

        :param connection_name: of the Polaris connection that a job reads from; nothing of Airflow's.
        :param sort_column: ``created_date_time``, ``last_updated_date_time``, ``execution_status``, ``type``,
            ``target_table_name``, ``source_name``, ``source_type``, ``created_by_user_name``, …
        :param page_size: jobs per request, 1 to 1000.
        """
        query = {
            "executionStatus": _values(execution_status),
            "healthStatus": _values(health_status),
            "type": _values(type),
            "connectionName": _values(connection_name),
            "targetTableName": target_table_name,
            "targetTableId": target_table_id,
            "searchString": search_string,
            "sortColumn": sort_column,
            "sortOrder": sort_order,
            "paginationLimit": page_size,
        }
        return self._pages({name: value for name, value in query.items() if value is not None}, Retry.when(retry))

    def list_active(self, wanted: Container[str], offset: int = 0, *, retry: bool = True) -> ActivePage:
        """Return one page of all jobs that are not over, the oldest first: a job that ends in between moves the others
        up, so a later page can only leave one out.

        :param wanted: ids in lower case; other rows are counted only.
        """
        query = {
            "executionStatus": NOT_OVER,
            "sortColumn": "created_date_time",
            "sortOrder": "ASC",
            "paginationLimit": PAGE_LIMIT,
            "paginationOffset": offset,
        }

        def read(page: Any) -> ActivePage:
            values = _rows_of(page)
            rows = {}
            for row in values:
                if not isinstance(row, dict) or not isinstance(row.get("id"), str):
                    what = f"Polaris answered a list with what is no job: {repr(row)[:100]}"
                    raise PolarisUnreachable(what, status=200)
                if (key := row["id"].lower()) in wanted:
                    rows[key] = row
            more = page.get("moreResultsAvailable") is True
            if more and not values:
                raise PolarisUnreachable(f"Polaris says that there are more jobs, and shows none at offset {offset}")
            return ActivePage(rows, len(values), more)

        return self._get("jobs", params=query, retry=Retry.when(retry), read=read)

    def _pages(self, query: Mapping[str, Any], retry: Retry) -> Iterator[Job]:
        seen: set[str] = set()
        offset = 0
        while True:
            jobs, more = self._get("jobs", params={**query, "paginationOffset": offset}, retry=retry, read=_jobs_of)
            fresh = [job for job in jobs if job.id not in seen]
            seen.update(job.id for job in fresh)
            yield from fresh
            offset += len(jobs)
            if not more:
                return
            if not fresh:
                raise PolarisUnreachable(f"Polaris says that there are more jobs, and shows none at offset {offset}")

    def latest_job(self, table: str, job_type: str | None = None) -> Job | None:
        """Return the job created last for a table, whoever made it; ``None`` if there is none.

        :param job_type: only of this type: ``batch``, ``sql``, ``streaming``, …
        """
        check_table_name(table)
        newest_first = self.list_jobs(
            target_table_name=table,
            type=job_type,
            sort_column="created_date_time",
            sort_order="DESC",
            page_size=10,
        )
        return next((job for job in newest_first if job.table == table), None)

    def create_job(self, spec: Mapping[str, Any]) -> Job:
        """Create an ingestion job and return it, not waiting for it.

        Every call that Polaris receives makes a new job, so a call whose answer was lost is not sent again: it raises
        PolarisUnreachable, and the job may exist (look with :meth:`latest_job`).

        :param spec: the job's specification, as the API takes it.
        """
        if not isinstance(spec, Mapping):
            raise PolarisUsageError(f"The job spec must be a dict, not {spec.__class__.__name__}")
        try:
            return self._request("POST", "jobs", body=dict(spec), retry=Retry.UNSENT, read=Job.from_api)
        except PolarisUnreachable as error:
            if not error.received:
                raise
            raise PolarisUnreachable(
                sentences(
                    error, "Polaris may have made the job all the same: look for it before you send the spec again"
                ),
                status=error.status,
                code=error.code,
            ) from None

    def update_job(self, job_id: str, desired_status: str, *, retry: bool = True) -> Job:
        """Ask for a status: ``running``, ``suspended`` or ``canceled``. Return the job as it stood when asked.

        Polaris takes the wish and works on it: the job's execution status follows later.
        """
        if desired_status not in {"running", "suspended", "canceled"}:
            raise PolarisUsageError(f"desired_status must be running, suspended or canceled, not {desired_status!r}")
        body = {"desiredExecutionStatus": str(desired_status)}
        segments = ("jobs", check_id(job_id, "job_id"))
        return self._request("PUT", *segments, body=body, retry=Retry.when(retry), read=Job.from_api)

    def cancel_job(self, job_id: str, *, retry: bool = True) -> Job:
        """Ask Polaris to cancel the job. A canceled job cannot be resumed. See :meth:`update_job`."""
        return self.update_job(job_id, ExecutionStatus.CANCELED, retry=retry)

    def get_table(self, name: str, *, retry: bool = True) -> Table:
        """Return a table; its key needs ``ViewTables`` or ``ManageTables``."""
        check_table_name(name)
        return self._get("tables", name, retry=Retry.when(retry), read=Table.from_api)

    def test_connection(self) -> tuple[bool, str]:
        """Try the connection by listing one job, and say in words what is wrong with it; never raises."""
        try:
            connection = self.transport.connection
            next(self.list_jobs(page_size=1, retry=False), None)
        except PolarisNotFound as error:
            return False, f"There is no project {connection.project_id} that this API key may see. {error}"
        except PolarisUnreachable as error:
            if error.status is not None and error.status < 500 and error.status != 429:
                return False, f"{connection.base_url} is not the Polaris API. {error}"
            return False, f"Polaris cannot be reached now. {error}"
        except PolarisError as error:
            return False, str(error)
        except Exception as error:  # noqa: BLE001 - the button in the UI shows text, not tracebacks
            return False, f"{type(error).__name__}: {error}"
        return True, f"Polaris answers, and the API key may read the jobs of project {connection.project_id}"

    def _request(self, method: str, *segments: str, read: Callable[[Any], T], **kwargs: Any) -> T:
        used = self.transport
        try:
            return used.request(method, *segments, read=read, **kwargs)
        except PolarisAuthError:
            with self._reloading:
                # Another thread may have read the rotated key in the meantime.
                if self.transport is used and not self.reload():
                    raise
        return self.transport.request(method, *segments, read=read, **kwargs)

    def _get(
        self,
        *segments: str,
        read: Callable[[Any], T],
        params: Mapping[str, Any] | None = None,
        retry: Retry = Retry.SAFE,
    ) -> T:
        return self._request("GET", *segments, read=read, params=params, retry=retry)


def _status_of(answer: Any) -> ExecutionStatus:
    status = answer.get("executionStatus") if isinstance(answer, Mapping) else None
    if not isinstance(status, str) or not status:
        raise PolarisUnreachable(f"Polaris answered a status that is not one: {repr(answer)[:100]}")
    return ExecutionStatus(status)


def _log_of(answer: Any) -> list[LogEntry]:
    entries = answer.get("logs") if isinstance(answer, Mapping) else None
    if not isinstance(entries, list):
        raise PolarisUnreachable(f"Polaris answered a log that is not one: {repr(answer)[:100]}")
    return [LogEntry.from_api(entry) for entry in entries]


def _progress_of(answer: Any) -> float:
    progress = answer.get("overallProgress") if isinstance(answer, Mapping) else None
    if isinstance(progress, bool) or not isinstance(progress, (int, float)):
        raise PolarisUnreachable(f"Polaris answered a progress that is not one: {repr(answer)[:100]}")
    return float(progress)


def _jobs_of(page: Any) -> tuple[list[Job], bool]:
    """Return a page's jobs, and whether there are more."""
    jobs = [Job.from_api(row) for row in _rows_of(page)]
    return jobs, page.get("moreResultsAvailable") is True


def _rows_of(page: Any) -> list[Any]:
    rows = page.get("values") if isinstance(page, Mapping) else None
    if not isinstance(rows, list):
        raise PolarisUnreachable(f"Polaris answered a list of jobs that is not one: {repr(page)[:100]}", status=200)
    return rows


def _values(values: str | Iterable[str] | None) -> list[str] | None:
    if values is None:
        return None
    return [str(values)] if isinstance(values, str) else [str(value) for value in values]
