"""PolarisClient: every call of the Polaris API that this provider uses. It needs no Airflow."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from airflow_provider_polaris.api.connection import check_id, is_id
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisInvalidResponse,
    PolarisResponseTooLarge,
    PolarisTransientError,
    PolarisUsageError,
    sentences,
)
from airflow_provider_polaris.api.file_calls import FileCalls
from airflow_provider_polaris.api.models import (
    ACTIVE_STATUSES,
    DESIRED_STATUSES,
    ENDED_STATUSES,
    JOB_FIELDS,
    ExecutionStatus,
    Job,
    JobMetrics,
    LogEntry,
    Table,
    check_table_name,
)
from airflow_provider_polaris.api.parsing import mapping, part_of, text_of, time_of
from airflow_provider_polaris.api.query_calls import QueryCalls
from airflow_provider_polaris.api.retries import Retry
from airflow_provider_polaris.api.statement_calls import StatementCalls

#: The most jobs that one page of the list can hold.
PAGE_LIMIT = 1000
#: The largest page of raw jobs that is read, in bytes. A thousand jobs take about 0.7 MB. Parsing a large page would
#: delay all triggers of a triggerer, also in a thread: Python's parser holds the GIL, for a second for 50 MB.
MAX_RAW_PAGE = 4 * 1024 * 1024
#: A page that is too large to be read is requested again with half as many jobs, down to this many.
MIN_PAGE_LIMIT = 10


#: The objects that many jobs of a page have alike.
_SHARED_FIELDS = ("createdBy", "lastModifiedBy", "target", "health")


class RawPage(NamedTuple):
    """A page of a list of jobs. Its rows stay raw: decoding them takes seven times as long as reading them.

    :param rows: the wanted rows by job id in lower case, with the fields that :class:`Job` has.
    :param size: the number of jobs on the page, wanted or not.
    :param more: whether the list has another page.
    """

    rows: Mapping[str, Mapping[str, Any]]
    size: int
    more: bool


class NewestPage(NamedTuple):
    """A page of the list of all jobs, the newest job first.

    :param jobs: the jobs of the wanted tables, without ``raw``.
    :param newest: when the first job on the page was created, in seconds since the epoch; ``None`` if unknown.
    :param oldest: the same of the last job.
    :param size: the number of jobs on the page, wanted or not.
    :param more: whether the list has another page.
    """

    jobs: list[Job]
    newest: float | None
    oldest: float | None
    size: int
    more: bool


class PolarisClient(FileCalls, QueryCalls, StatementCalls):
    """Call the Jobs, Tables, Files and Query API of one Polaris project. A client may be shared between threads.

    Every call raises a :class:`~airflow_provider_polaris.exceptions.PolarisApiError` if it fails. An invalid id or
    argument raises :class:`~airflow_provider_polaris.exceptions.PolarisUsageError` before anything is sent.

    Calls that read, update or cancel are sent again, with growing pauses, after an error that may be temporary.
    ``retry=False`` sends them once. :meth:`create_job` and :meth:`start_query` are sent again only if Polaris cannot
    have received the request.

    :param connection: the project to call, and the API key. A function that returns them is called at the first
        request, and again after a 401, since the key may have been rotated.
    """

    def job_url(self, job_id: str) -> str | None:
        """Return the web page that shows the job, ``None`` if the connection does not name one."""
        return self.connection.job_url(job_id)

    def get_job(self, job_id: str, *, retry: bool = True) -> Job:
        """Return the job."""
        job_id = check_id(job_id, "job_id")

        def read(answer: Any) -> Job:
            job = Job.from_api(answer)
            if job.id.lower() != job_id.lower():
                raise PolarisInvalidResponse(f"Polaris returned job {job.id[:100]} instead of job {job_id}")
            return job

        return self._get("jobs", job_id, retry=Retry.when(retry), read=read)

    def get_job_status(self, job_id: str, *, retry: bool = True) -> ExecutionStatus:
        """Return the job's execution status. Only status and health together tell whether its data is good.

        The response is small, also if that of :meth:`get_job` is too large to be read.
        """
        return self._get("jobs", check_id(job_id, "job_id"), "status", retry=Retry.when(retry), read=_status_of)

    def get_job_metrics(self, job_id: str, *, retry: bool = True) -> JobMetrics:
        """Return the job's row counters."""
        segments = ("jobs", check_id(job_id, "job_id"), "metrics")
        return self._get(*segments, retry=Retry.when(retry), read=JobMetrics.from_api)

    def get_job_logs(self, job_id: str, *, retry: bool = True) -> list[LogEntry]:
        """Return the job's log, in the order of the response."""
        return self._get("jobs", check_id(job_id, "job_id"), "logs", retry=Retry.when(retry), read=_log_of)

    def get_job_progress(self, job_id: str, *, retry: bool = True) -> float:
        """Return the job's progress, from 0.0 to 1.0."""
        return self._get("jobs", check_id(job_id, "job_id"), "progress", retry=Retry.when(retry), read=_progress_of)

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
        """Yield every job that matches all filters, each job once. Pages are requested as they are needed.

        A filter with several values matches any of them. The default order is the oldest job first: a job that is
        created between two pages then appears at the end, and hides no other job.

        :param connection_name: of the Polaris connection that a job reads from. It is not an Airflow connection.
        :param sort_column: ``created_date_time``, ``last_updated_date_time``, ``execution_status``, ``type``,
            ``target_table_name``, ``source_name``, ``source_type``, ``created_by_user_name``, …
        :param sort_order: ``ASC`` or ``DESC``.
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

    def list_active(
        self, wanted: Container[str], offset: int = 0, limit: int = PAGE_LIMIT, *, retry: bool = True
    ) -> RawPage:
        """Return one page of all jobs that are not over, the oldest job first.

        A job that ends between two requests moves later jobs up. A later page can therefore leave a job out, and never
        shows a job that is over.

        :param wanted: job ids in lower case. Rows of other jobs are only counted.
        :param offset: the number of jobs on the pages before.
        :param limit: the most jobs on the page, 1 to 1000.
        :raises PolarisResponseTooLarge: if the page has more than 4 MB. The list holds the data of inline jobs.
        """
        query = {"executionStatus": ACTIVE_STATUSES, "sortColumn": "created_date_time", "sortOrder": "ASC"}
        return self._raw_page(query, wanted, offset, limit, Retry.when(retry))

    def list_ended(
        self, wanted: Container[str], offset: int = 0, limit: int = PAGE_LIMIT, *, retry: bool = True
    ) -> RawPage:
        """Return one page of all jobs that are over, the job that was updated last first.

        A user updates a job, for example by canceling it. The other jobs are in the order of their creation: the list
        cannot be sorted by the time of completion. The parameters and the errors are those of :meth:`list_active`.
        """
        query = {"executionStatus": ENDED_STATUSES, "sortColumn": "last_updated_date_time", "sortOrder": "DESC"}
        return self._raw_page(query, wanted, offset, limit, Retry.when(retry))

    def list_newest(
        self,
        wanted: Container[str],
        *,
        table: str | None = None,
        offset: int = 0,
        limit: int = PAGE_LIMIT,
        retry: bool = True,
    ) -> NewestPage:
        """Return one page of all jobs, whatever their status, the job that was created last first.

        A job that is created between two requests moves the others down. A later page can therefore repeat a job, and
        never leaves one out. The list cannot be sorted by the time of completion.

        :param wanted: the names of tables. Jobs of other tables are only counted.
        :param table: list only the jobs of this table.
        :param offset: the number of jobs on the pages before.
        :param limit: the most jobs on the page, 1 to 1000.
        :raises PolarisResponseTooLarge: if a page of more than 10 jobs has more than 4 MB. The list holds the data of
            inline jobs.
        """
        query: dict[str, Any] = {
            "sortColumn": "created_date_time",
            "sortOrder": "DESC",
            "paginationLimit": limit,
            "paginationOffset": offset,
        }
        if table is not None:
            check_table_name(table)
            query["targetTableName"] = table

        def read(page: Any) -> NewestPage:
            rows = [mapping(row, "a job in a list") for row in _rows_of(page)]
            jobs = [Job.from_api(row) for row in rows if text_of(part_of(row, "target").get("tableName")) in wanted]
            more = page.get("moreResultsAvailable") is True
            if more and not rows:
                raise _no_progress(offset)
            newest, oldest = _first_created(rows), _first_created(reversed(rows))
            return NewestPage([replace(job, raw={}) for job in jobs], newest, oldest, len(rows), more)

        most = MAX_RAW_PAGE if limit > MIN_PAGE_LIMIT else None
        return self._get("jobs", params=query, retry=Retry.when(retry), read=read, most=most)

    def latest_job(self, table: str, job_type: str | None = None) -> Job | None:
        """Return the job that was created last for a table, by any user; ``None`` if the table has no job.

        :param job_type: only jobs of this type: ``batch``, ``sql``, ``streaming``, …
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
        """Create an ingestion job and return it. The call does not wait for the job.

        Every request that Polaris receives creates another job. So a request whose response was lost is not sent
        again. It raises a PolarisTransientError, and the job may exist: :meth:`latest_job` finds it.

        If the response is too large to be read, the job that is returned has the id of the new job, the status
        ``unknown``, and the type and the table of the spec.

        :param spec: the job's specification, as the API takes it.
        """
        if not isinstance(spec, Mapping):
            raise PolarisUsageError(f"The job spec must be a dict, not {spec.__class__.__name__}")
        try:
            return self._request("POST", "jobs", body=dict(spec), retry=Retry.UNSENT, read=Job.from_api)
        except PolarisResponseTooLarge as error:
            job_id = (error.location or "").rpartition("/")[2]
            if not is_id(job_id):
                raise _may_exist(error, PolarisInvalidResponse) from None
            known = {"type": spec.get("type"), "target": spec.get("target")}
            return Job.from_api({"id": job_id, "executionStatus": ExecutionStatus.UNKNOWN, **known})
        except PolarisTransientError as error:
            if not error.received:
                raise
            raise _may_exist(error, type(error)) from None

    def update_job(self, job_id: str, desired_status: str, *, retry: bool = True) -> Job:
        """Ask for a status, and return the job as it was when Polaris accepted the request.

        The job's execution status follows later. If the response is too large to be read, the job that is returned has
        only its id and its statuses.

        :param desired_status: ``running``, ``suspended`` or ``canceled``.
        """
        if desired_status not in DESIRED_STATUSES:
            raise PolarisUsageError(f"desired_status must be running, suspended or canceled, not {desired_status!r}")
        body = {"desiredExecutionStatus": str(desired_status)}
        segments = ("jobs", check_id(job_id, "job_id"))
        try:
            return self._request("PUT", *segments, body=body, retry=Retry.when(retry), read=Job.from_api)
        except PolarisResponseTooLarge:  # Polaris has accepted the request
            status = self.get_job_status(job_id, retry=retry)
            return Job(job_id, status, desired_execution_status=ExecutionStatus(desired_status))

    def cancel_job(self, job_id: str, *, retry: bool = True) -> Job:
        """Ask Polaris to cancel the job. A canceled job cannot be resumed. See :meth:`update_job`."""
        return self.update_job(job_id, ExecutionStatus.CANCELED, retry=retry)

    def active_stream(self, table: str) -> Job | None:
        """Return the streaming job of a table that is neither over nor being canceled; ``None`` if there is none."""
        check_table_name(table)
        jobs = self.list_jobs(
            target_table_name=table,
            type="streaming",
            execution_status=ACTIVE_STATUSES,
            sort_column="created_date_time",
            sort_order="DESC",
            page_size=10,
        )
        return next((job for job in jobs if job.table == table and not job.is_being_canceled), None)

    def reset_job(self, job_id: str) -> None:
        """Let a streaming job read from its ``readFromPoint`` again. It may load rows twice.

        The request is sent again only if Polaris cannot have received it.
        """
        segments = ("jobs", check_id(job_id, "job_id"), "reset")
        self._request("POST", *segments, retry=Retry.UNSENT, read=lambda _: None)

    def get_table(self, name: str, *, retry: bool = True) -> Table:
        """Return the table. The API key needs the permission ``ViewTables`` or ``ManageTables``."""
        check_table_name(name)
        return self._get("tables", name, retry=Retry.when(retry), read=Table.from_api)

    def _raw_page(
        self, query: Mapping[str, Any], wanted: Container[str], offset: int, limit: int, retry: Retry
    ) -> RawPage:
        """Return one page of the list with this query."""

        def read(page: Any) -> RawPage:
            values = _rows_of(page)
            rows = {}
            for row in values:
                if not isinstance(row, dict) or not isinstance(row.get("id"), str):
                    raise PolarisInvalidResponse(f"Polaris returned an invalid job in a list: {repr(row)[:100]}")
                if (key := row["id"].lower()) in wanted:
                    rows[key] = row
            more = page.get("moreResultsAvailable") is True
            if more and not values:
                raise _no_progress(offset)
            return RawPage(rows, len(values), more)

        # The other fields of a job, such as its source, are freed before the next job is decoded.
        parse = partial(json.loads, object_hook=partial(_shortened, wanted, {}))
        params = {**query, "paginationLimit": limit, "paginationOffset": offset}
        return self._get("jobs", params=params, retry=retry, parse=parse, read=read, most=MAX_RAW_PAGE)

    def _pages(self, query: Mapping[str, Any], retry: Retry) -> Iterator[Job]:
        seen: set[str] = set()
        offset = 0
        limit = query["paginationLimit"]
        while True:
            page = {**query, "paginationLimit": limit, "paginationOffset": offset}
            try:
                jobs, more = self._get("jobs", params=page, retry=retry, read=_jobs_of)
            except PolarisResponseTooLarge:
                if not isinstance(limit, int) or limit <= 1:
                    raise
                limit //= 2
                continue
            fresh = [job for job in jobs if job.id not in seen]
            seen.update(job.id for job in fresh)
            yield from fresh
            offset += len(jobs)
            if not more:
                return
            if not fresh:
                raise _no_progress(offset)


def _may_exist(error: PolarisApiError, kind: type[PolarisTransientError]) -> PolarisTransientError:
    """Return the error of a request that may have created a job."""
    what_next = "Polaris may have created the job. Look for the job before you send the spec again"
    return kind(sentences(error, what_next), status=error.status, code=error.code)


def _no_progress(offset: int) -> PolarisInvalidResponse:
    return PolarisInvalidResponse(f"Polaris reports more jobs, and returned no further job at offset {offset}")


def _status_of(answer: Any) -> ExecutionStatus:
    status = answer.get("executionStatus") if isinstance(answer, Mapping) else None
    if not isinstance(status, str) or not status:
        raise PolarisInvalidResponse(f"Polaris returned an invalid job status: {repr(answer)[:100]}")
    return ExecutionStatus(status)


def _log_of(answer: Any) -> list[LogEntry]:
    entries = answer.get("logs") if isinstance(answer, Mapping) else None
    if not isinstance(entries, list):
        raise PolarisInvalidResponse(f"Polaris returned an invalid job log: {repr(answer)[:100]}")
    return [LogEntry.from_api(entry) for entry in entries]


def _progress_of(answer: Any) -> float:
    progress = answer.get("overallProgress") if isinstance(answer, Mapping) else None
    if isinstance(progress, bool) or not isinstance(progress, (int, float)):
        raise PolarisInvalidResponse(f"Polaris returned an invalid job progress: {repr(answer)[:100]}")
    return float(progress)


def _jobs_of(page: Any) -> tuple[list[Job], bool]:
    """Return a page's jobs, and whether the list has more."""
    jobs = [Job.from_api(row) for row in _rows_of(page)]
    return jobs, page.get("moreResultsAvailable") is True


def _rows_of(page: Any) -> list[Any]:
    rows = page.get("values") if isinstance(page, Mapping) else None
    if not isinstance(rows, list):
        raise PolarisInvalidResponse(f"Polaris returned an invalid list of jobs: {repr(page)[:100]}")
    return rows


def _shortened(
    wanted: Container[str], shared: dict[tuple[tuple[str, Any], ...], Any], part: dict[str, Any]
) -> dict[str, Any]:
    """Return a job of a list with the fields that are needed, and any other object as it is.

    :param wanted: job ids in lower case. Only the id of any other job is needed.
    :param shared: parts of the jobs before. Jobs share equal parts: a page has a thousand jobs, and few creators.
    """
    if "executionStatus" not in part or not isinstance(job_id := part.get("id"), str):
        return part
    if job_id.lower() not in wanted:
        return {"id": job_id}
    row = {name: part[name] for name in JOB_FIELDS if name in part}
    with suppress(TypeError):  # a value has a list or an object: such a health comes last
        for name in _SHARED_FIELDS:
            if isinstance(value := row.get(name), dict):
                row[name] = shared.setdefault(tuple(value.items()), value)
    return row


def _first_created(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Return when the first of these jobs was created. Parsing a thousand timestamps would take 20 ms."""
    created = (time_of(text_of(row.get("createdTimestamp"))) for row in rows)
    return next((moment.timestamp() for moment in created if moment), None)


def _values(values: str | Iterable[str] | None) -> list[str] | None:
    if values is None:
        return None
    return [str(values)] if isinstance(values, str) else [str(value) for value in values]
