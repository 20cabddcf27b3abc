"""Jobs and tables as the Polaris API describes them: parsed, checked, and asked what their status means. Pure.

Facts about the service come from the vendor's page "View and manage ingestion jobs by API" and from its Python client.
Missing and new fields are no error. A value that is not known yet is kept as the service sent it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar

from airflow_provider_polaris.api.errors import PolarisInvalidResponse, PolarisUsageError
from airflow_provider_polaris.api.parsing import clean, clip, count_of, mapping, part_of, text_of, time_of

#: The longest name of a table in a line that a person reads, in characters.
MAX_SUBJECT = 40
#: The most unknown counters that are kept.
MAX_OTHER = 10


WordType = TypeVar("WordType", bound="_Word")


class _Word(str):
    """A word of the service's vocabulary. It is text, since an enum would reject a new word."""

    __slots__ = ()
    known: ClassVar[frozenset[str]]
    #: The object of each known word: a thousand jobs share it.
    _shared: ClassVar[Mapping[str, Any]] = {}

    def __new__(cls: type[WordType], text: str) -> WordType:
        shared: WordType | None = cls._shared.get(text) if isinstance(text, str) else None
        return super().__new__(cls, text) if shared is None else shared

    @property
    def is_known(self) -> bool:
        """Whether the vendor's documentation lists this value."""
        return str(self) in self.known


class ExecutionStatus(_Word):
    """``executionStatus`` of a job. The vendor has added values before: a new value is not over, and no success."""

    __slots__ = ()
    PENDING: ClassVar[ExecutionStatus]
    RUNNING: ClassVar[ExecutionStatus]
    IDLE: ClassVar[ExecutionStatus]
    SUSPENDED: ClassVar[ExecutionStatus]
    UNKNOWN: ClassVar[ExecutionStatus]
    COMPLETED: ClassVar[ExecutionStatus]
    FAILED: ClassVar[ExecutionStatus]
    CANCELED: ClassVar[ExecutionStatus]

    @property
    def is_over(self) -> bool:
        """Whether a job of this status never changes again. It may have succeeded or not."""
        return self in _OVER


class HealthStatus(_Word):
    """``health.status`` of a job. ``warning``, which the vendor's client knows, is read as ``warn``."""

    __slots__ = ()
    OK: ClassVar[HealthStatus]
    WARN: ClassVar[HealthStatus]
    ERROR: ClassVar[HealthStatus]


class JobType(_Word):
    """``type`` of a job. A streaming job never completes. Polaris cannot update a deletion."""

    __slots__ = ()
    BATCH: ClassVar[JobType]
    SQL: ClassVar[JobType]
    STREAMING: ClassVar[JobType]
    DELETE_DATA: ClassVar[JobType]
    DROP_TABLE: ClassVar[JobType]
    RESTORE_DATA: ClassVar[JobType]

    @property
    def is_deletion(self) -> bool:
        """Whether Polaris refuses to update, and so to cancel, jobs of this type."""
        return self in {JobType.DELETE_DATA, JobType.DROP_TABLE}

    @property
    def is_streaming(self) -> bool:
        """Whether a job of this type runs until somebody ends it."""
        return self == JobType.STREAMING

    @property
    def is_batch(self) -> bool:
        """Whether a job of this type reads a source once, and its spec has a ``context``."""
        return self == JobType.BATCH

    @property
    def is_sql(self) -> bool:
        """Whether a query names the table, and not a target."""
        return self == JobType.SQL

    @property
    def has_source(self) -> bool:
        """Whether the spec must name a source."""
        return self in {JobType.BATCH, JobType.STREAMING}

    @property
    def has_interval(self) -> bool:
        """Whether the spec must name an interval."""
        return self == JobType.RESTORE_DATA

    @property
    def drops_table(self) -> bool:
        """Whether the table does not exist after the job."""
        return self == JobType.DROP_TABLE


#: The warning codes that the vendor documents.
WARNING_CODES = frozenset(
    {"lost_connection_to_source", "no_rows_found", "invalid_rows_found", "unable_to_proceed", "multiple"}
)


def _define(kind: type[_Word], words: tuple[str, ...]) -> None:
    kind.known = frozenset(words)
    kind._shared = {word: kind(word) for word in words}
    for word in words:
        setattr(kind, word.upper(), kind(word))


_define(
    ExecutionStatus,
    ("pending", "running", "idle", "suspended", "unknown", "completed", "failed", "canceled"),
)
_define(HealthStatus, ("ok", "warn", "error"))
_define(JobType, ("batch", "sql", "streaming", "delete_data", "drop_table", "restore_data"))
_OVER = frozenset({ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELED})
#: Every documented status of a job that is not over, and of a job that is.
ACTIVE_STATUSES = sorted(ExecutionStatus.known - _OVER)
ENDED_STATUSES = sorted(_OVER)
#: The statuses that a user can request.
DESIRED_STATUSES = (ExecutionStatus.RUNNING, ExecutionStatus.SUSPENDED, ExecutionStatus.CANCELED)


@dataclass(frozen=True)
class LogEntry:
    """One line of a job's log. Every field is optional. Only streaming jobs log each row that did not parse."""

    timestamp: str | None = None
    health_status: HealthStatus | None = None
    code: str | None = None
    message: str | None = None

    @classmethod
    def from_api(cls, data: Any) -> LogEntry:
        """Parse an entry of ``GET …/logs``, or ``health.log``."""
        data = mapping(data, "a log entry")
        status = text_of(data.get("healthStatus"))
        return cls(
            timestamp=text_of(data.get("timestamp")),
            health_status=_health_status(status) if status else None,
            code=text_of(data.get("code")),
            message=text_of(data.get("message")),
        )

    def __str__(self) -> str:
        return clip(" ".join(part for part in (self.timestamp, self.health_status, self.code, self.message) if part))


def _health_status(text: str) -> HealthStatus:
    return HealthStatus.WARN if text == "warning" else HealthStatus(clip(text, 60))


@dataclass(frozen=True)
class Health:
    """``health`` of a job. ``warn`` and ``error`` have a code, and often a log entry. ``error`` has a message."""

    status: HealthStatus
    code: str | None = None
    message: str | None = None
    log: LogEntry | None = None

    @classmethod
    def from_api(cls, data: Any) -> Health | None:
        """Parse the field. ``None`` if it is missing. Raises PolarisInvalidResponse if it is invalid."""
        data = mapping(data, "a health")
        status = data.get("status")
        if status is None:
            return None
        if not isinstance(status, str):
            raise PolarisInvalidResponse(f"Polaris returned an invalid health.status: {clip(repr(status), 100)}")
        log = data.get("log")
        return cls(
            status=_health_status(clean(status)),
            code=text_of(data.get("code")),
            message=text_of(data.get("message")),
            log=LogEntry.from_api(log) if isinstance(log, Mapping) else None,
        )

    @property
    def is_ok(self) -> bool:
        """Whether the job has no fault."""
        return self.status == HealthStatus.OK

    @property
    def is_warning(self) -> bool:
        """Whether the job has a fault that did not stop it."""
        return self.status == HealthStatus.WARN

    @property
    def is_error(self) -> bool:
        """Whether the job has a fault that stops it."""
        return self.status == HealthStatus.ERROR

    def to_dict(self) -> dict[str, str | None]:
        """Return status, code and message as plain JSON. A missing message is replaced by that of the log entry."""
        message = self.message or (self.log.message if self.log else None)
        return {"status": str(self.status), "code": self.code, "message": clip(message) if message else None}

    @property
    def fault(self) -> str:
        """The code and the message: ``internal_error: The disk is full``. Empty if the service gives neither."""
        parts = self.to_dict()
        return ": ".join(part for part in (parts["code"], parts["message"]) if part)

    def __str__(self) -> str:
        return f"health {self.status}" + (f", {self.fault}" if self.fault else "")


#: The fields of a response that :meth:`Job.from_api` reads.
JOB_FIELDS = (
    "id", "executionStatus", "type", "desiredExecutionStatus", "health", "target", "createdBy", "lastModifiedBy",
    "createdTimestamp", "lastUpdatedTimestamp", "startedTimestamp", "completedTimestamp",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """An ingestion job. Timestamps are text as the service sent them: RFC 3339, UTC, up to nanoseconds."""

    id: str
    execution_status: ExecutionStatus
    type: JobType | None = None
    desired_execution_status: ExecutionStatus | None = None
    health: Health | None = None
    table: str | None = None
    created_by: str | None = None
    last_modified_by: str | None = None
    created_at: str | None = None
    last_updated_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    #: The whole response, with the fields of the job's type: source, mappings, ingestionMode, query, …
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_api(cls, data: Any) -> Job:
        """Parse a job. Raises PolarisInvalidResponse if the response has no id or no execution status."""
        data = mapping(data, "a job")
        job_id, status = text_of(data.get("id")), text_of(data.get("executionStatus"))
        if job_id is None or status is None:
            given = ", ".join(f"{name} is {clip(repr(data.get(name)), 100)}" for name in ("id", "executionStatus"))
            raise PolarisInvalidResponse(f"Polaris returned an invalid job: {given}")
        kind, desired = text_of(data.get("type")), text_of(data.get("desiredExecutionStatus"))
        return cls(
            id=job_id,
            execution_status=ExecutionStatus(clip(status, 60)),
            type=JobType(kind) if kind else None,
            desired_execution_status=ExecutionStatus(desired) if desired else None,
            health=Health.from_api(data.get("health")),
            table=text_of(part_of(data, "target").get("tableName")),
            created_by=text_of(part_of(data, "createdBy").get("username")),
            last_modified_by=text_of(part_of(data, "lastModifiedBy").get("username")),
            created_at=text_of(data.get("createdTimestamp")),
            last_updated_at=text_of(data.get("lastUpdatedTimestamp")),
            started_at=text_of(data.get("startedTimestamp")),
            completed_at=text_of(data.get("completedTimestamp")),
            raw=data,
        )

    @property
    def is_over(self) -> bool:
        """Whether the job's status never changes again. A job that is over may have failed."""
        return self.execution_status.is_over

    @property
    def has_completed(self) -> bool:
        """Whether the job ended by itself. Its health and counters tell whether its data is good."""
        return self.execution_status == ExecutionStatus.COMPLETED

    @property
    def has_failed(self) -> bool:
        """Whether the job ended, and loaded nothing."""
        return self.execution_status == ExecutionStatus.FAILED

    @property
    def was_canceled(self) -> bool:
        """Whether the job ended because somebody canceled it."""
        return self.execution_status == ExecutionStatus.CANCELED

    @property
    def is_being_canceled(self) -> bool:
        """Whether somebody asked to cancel the job, whatever its status is now."""
        return self.was_canceled or self.desired_execution_status == ExecutionStatus.CANCELED

    @property
    def is_running(self) -> bool:
        """Whether the job runs: ``running``, or ``idle`` for a stream without new data."""
        return self.execution_status in {ExecutionStatus.RUNNING, ExecutionStatus.IDLE}

    @property
    def is_suspended(self) -> bool:
        """Whether the job waits for a person to resume it."""
        return self.execution_status == ExecutionStatus.SUSPENDED

    @property
    def has_known_status(self) -> bool:
        """Whether this provider knows the job's status."""
        return self.execution_status.is_known

    @property
    def is_streaming(self) -> bool:
        """Whether the job runs until somebody ends it. ``False`` if its type is missing."""
        return self.type is not None and self.type.is_streaming

    @property
    def is_deletion(self) -> bool:
        """Whether Polaris refuses to update, and so to cancel, this job."""
        return self.type is not None and self.type.is_deletion

    def to_event(self) -> dict[str, Any]:
        """Return the job in the API's own form, as small plain JSON. :meth:`from_api` reads it again."""
        health = self.health and {key: value for key, value in self.health.to_dict().items() if value is not None}
        return {
            "id": self.id,
            "type": self.type and str(self.type),
            "executionStatus": str(self.execution_status),
            "desiredExecutionStatus": self.desired_execution_status and str(self.desired_execution_status),
            "health": health,
            "target": {"tableName": self.table},
            "createdBy": {"username": self.created_by},
            "lastModifiedBy": {"username": self.last_modified_by},
            "createdTimestamp": self.created_at,
            "lastUpdatedTimestamp": self.last_updated_at,
            "startedTimestamp": self.started_at,
            "completedTimestamp": self.completed_at,
        }

    def to_dict(self, metrics: JobMetrics | None = None) -> dict[str, Any]:
        """Return the XCom of a task, as docs/reference/xcom.md describes it: plain JSON, the same in every mode."""
        return {
            "job_id": self.id,
            "job_type": self.type and str(self.type),
            "table": self.table,
            "execution_status": str(self.execution_status),
            "health": (self.health.to_dict() if self.health else {"status": None, "code": None, "message": None}),
            "created_at": self.created_at,
            "started_at": self.started_at,
            "completed_at": self.completed_at,
            "duration_seconds": self.duration_seconds,
            "metrics": (metrics or JobMetrics()).to_dict(),
        }

    @property
    def created_time(self) -> float | None:
        """When the job was created, in seconds since the epoch. ``None`` if the timestamp is missing or invalid."""
        created = time_of(self.created_at)
        return created.timestamp() if created else None

    @property
    def completed_time(self) -> float | None:
        """When a completed job completed, in seconds since the epoch. ``None`` if Polaris reports no such time.

        Without a ``completedTimestamp``, it is the time of the last update by a user.
        """
        completed = time_of(self.completed_at) or time_of(self.last_updated_at)
        return completed.timestamp() if completed and self.has_completed else None

    @property
    def end_time(self) -> float | None:
        """When the job ended, in seconds since the epoch. ``None`` if it runs, or if Polaris reports no such time."""
        ended = time_of(self.completed_at)
        return ended.timestamp() if ended and self.is_over else None

    @property
    def duration_seconds(self) -> float | None:
        """Seconds from start to completion. ``None`` if one of the timestamps is missing or invalid."""
        start, end = time_of(self.started_at), time_of(self.completed_at)
        return round((end - start).total_seconds(), 3) if start and end and start <= end else None

    def __str__(self) -> str:
        kind = f"{self.type} " if self.type else ""
        return f"Polaris {kind}job {self.id}" + (f" into table {self.table!r}" if self.table else "")

    @property
    def subject(self) -> str:
        """The table, or the kind of job if it names no table, as the subject of a line that a person reads."""
        return clip(self.table, MAX_SUBJECT) if self.table else f"the {self.type} job" if self.type else "the job"

    @property
    def state(self) -> str:
        """Status and health in words, for log lines and messages. A health of ``ok`` is left out."""
        status = clip(self.execution_status, 60)
        if self.health is None:
            return f"{status} (no health reported)" if self.is_over else status
        return status if self.health.is_ok else f"{status} ({self.health})"


@dataclass(frozen=True)
class JobMetrics:
    """Row counters of a job: ``totals`` of ``GET …/metrics``. ``None`` means not reported, which is not zero.

    ``rows_persisted`` counts rows after rollup, so that it may be less than ``rows_processed`` without any loss.
    """

    rows_processed: int | None = None
    rows_processed_with_warning: int | None = None
    rows_skipped_by_filter: int | None = None
    rows_skipped_by_error: int | None = None
    rows_persisted: int | None = None
    bytes_processed: int | None = None
    #: Counters that this provider does not know yet, by their names in the API.
    other: Mapping[str, int] = field(default_factory=dict)

    NAMES: ClassVar[Mapping[str, str]] = {
        "numRowsProcessed": "rows_processed",
        "numRowsProcessedWithWarning": "rows_processed_with_warning",
        "numRowsSkippedByFilter": "rows_skipped_by_filter",
        "numRowsSkippedByError": "rows_skipped_by_error",
        "numRowsPersisted": "rows_persisted",
        "numBytesProcessed": "bytes_processed",
    }

    @classmethod
    def from_api(cls, data: Any) -> JobMetrics:
        """Parse the response. Raises PolarisInvalidResponse if it is not a JSON object of counters."""
        totals = mapping(mapping(data, "metrics").get("totals"), "metrics.totals")
        counters = {
            # The vendor's status reference page spells this counter with an s.
            "numRowsProcessedWithWarning" if name == "numRowsProcessedWithWarnings" else name: value
            for name, count in totals.items()
            if (value := count_of(count)) is not None and len(name) <= 100
        }
        known = {field_name: counters.pop(name, None) for name, field_name in cls.NAMES.items()}
        return cls(**known, other=dict(list(counters.items())[:MAX_OTHER]))

    def to_dict(self) -> dict[str, int | None]:
        """Return every counter by its name in the API: the six known ones (``None`` if not reported), and new ones."""
        return {name: getattr(self, field_name) for name, field_name in self.NAMES.items()} | dict(self.other)

    def __str__(self) -> str:
        """Return the counters in words: ``23,988 in, 5 in part, 7 lost``. Empty if no such counter is reported."""
        counters = (
            (self.rows_processed, "in"),
            (self.rows_processed_with_warning or None, "in part"),
            (self.rows_skipped_by_error or None, "lost"),
        )
        return ", ".join(f"{count:,} {word}" for count, word in counters if count is not None)


@dataclass(frozen=True)
class Table:
    """A table.

    :param availability: ``available``, ``unavailable``, ``deleting``, or a new value. ``None`` if not reported.
    :param total_rows: the rows that can be queried, after rollup. ``None`` if not reported.
    :param raw: the whole response.
    """

    name: str
    availability: str | None
    total_rows: int | None
    raw: Mapping[str, Any]

    @classmethod
    def from_api(cls, data: Any) -> Table:
        """Parse the response. Raises PolarisInvalidResponse if it is not a table."""
        name = data.get("name") if isinstance(data, Mapping) else None
        if not isinstance(name, str):
            raise PolarisInvalidResponse(f"Polaris returned an invalid table: {clip(repr(data), 100)}")
        availability = data.get("availability")
        return cls(
            name=clean(name),
            availability=clip(clean(availability), 60) if isinstance(availability, str) else None,
            total_rows=count_of(data.get("totalRows")),
            raw=data,
        )


@dataclass(frozen=True)
class File:
    """An uploaded file.

    :param size: in bytes, as uploaded.
    :param md5: the digest that Polaris reports, ``None`` if it reports none.
    :param data_format: ``nd-json``, ``csv``, …
    :param compression_format: ``none``, ``gz``, …
    :param uploaded_at: RFC 3339.
    :param raw: the whole response.
    """

    name: str
    size: int
    md5: str | None
    data_format: str | None
    compression_format: str | None
    uploaded_at: str | None
    raw: Mapping[str, Any]

    @classmethod
    def from_api(cls, data: Any) -> File:
        """Parse the response. Raises PolarisInvalidResponse if it is not a file."""
        name = data.get("name") if isinstance(data, Mapping) else None
        size = count_of(data.get("sizeBytes")) if isinstance(data, Mapping) else None
        if not isinstance(name, str) or size is None:
            raise PolarisInvalidResponse(f"Polaris returned an invalid file: {clip(repr(data), 100)}")
        digest = part_of(data, "digest")
        is_md5 = str(digest.get("algo")).lower() == "md5" and isinstance(digest.get("hash"), str)
        return cls(
            name=name,
            size=size,
            md5=digest["hash"].lower() if is_md5 else None,
            data_format=text_of(data.get("dataFormat")),
            compression_format=text_of(data.get("compressionFormat")),
            uploaded_at=text_of(data.get("uploadedOnDatetime")),
            raw=data,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the file as the XCom of a task has it."""
        return {
            "name": self.name,
            "size_bytes": self.size,
            "md5": self.md5,
            "data_format": self.data_format,
            "compression_format": self.compression_format,
        }


class QueryColumn(NamedTuple):
    """A column of a result.

    :param sql_type: ``VARCHAR``, ``BIGINT``, ``DOUBLE``, ``TIMESTAMP``, …
    :param native_type: how Druid stores it: ``STRING``, ``LONG``, …
    """

    name: str
    sql_type: str
    native_type: str


@dataclass(frozen=True)
class QueryResult:
    """The whole result of a query. Iterating yields its rows.

    :param rows: each row has a value for each column. A timestamp is ISO 8601 text in UTC.
    """

    columns: Sequence[QueryColumn]
    rows: Sequence[tuple[Any, ...]]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def dicts(self) -> list[dict[str, Any]]:
        """Return each row as a dict, by the names of the columns."""
        names = [column.name for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.rows]


class StatementPage(NamedTuple):
    """A page of the result of an asynchronous query.

    :param rows: how many rows it has, ``None`` if not reported.
    """

    id: int
    rows: int | None


@dataclass(frozen=True)
class Statement:
    """An asynchronous query. Polaris calls it a statement.

    :param state: ``ACCEPTED``, ``RUNNING``, ``SUCCESS``, ``FAILED``, or a new value.
    :param columns: the columns of the result. Empty if not reported yet.
    :param total_rows: the rows of the result. ``None`` until the query has succeeded, or if not reported.
    :param pages: the pages of the result. Empty until the query has succeeded, or if not reported.
    :param error: why the query failed, in one line. ``None`` unless it failed and says why.
    :param category: the category of that failure, such as ``INVALID_INPUT``. ``None`` if not reported.
    :param duration_seconds: how long the query ran. ``None`` while it runs, or if not reported.
    :param raw: the whole response. It may hold the first rows of the result.
    """

    id: str
    state: str
    columns: Sequence[QueryColumn] = ()
    total_rows: int | None = None
    pages: Sequence[StatementPage] = ()
    error: str | None = None
    category: str | None = None
    created_at: str | None = None
    duration_seconds: float | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_api(cls, data: Any) -> Statement:
        """Parse the response. Raises PolarisInvalidResponse if it has no id, no state, or an invalid page."""
        data = mapping(data, "a query")
        query_id, state = text_of(data.get("queryId")), text_of(data.get("state"))
        if query_id is None or state is None:
            given = ", ".join(f"{name} is {clip(repr(data.get(name)), 100)}" for name in ("queryId", "state"))
            raise PolarisInvalidResponse(f"Polaris returned an invalid query: {given}")
        result = part_of(data, "result")
        failure = part_of(data, "errorDetails") or part_of(data, "error")
        duration = count_of(data.get("durationMs"))
        return cls(
            id=query_id,
            state=clip(state, 60),
            columns=[_column_of(column) for column in _list_of(data, "schema")],
            total_rows=count_of(result.get("numTotalRows")),
            pages=[_page_of(page) for page in _list_of(result, "pages")],
            error=text_of(failure.get("errorMessage")) or text_of(failure.get("error")),
            category=text_of(failure.get("category")),
            created_at=text_of(data.get("createdAt")),
            duration_seconds=None if duration is None else duration / 1000,
            raw=data,
        )

    @property
    def has_succeeded(self) -> bool:
        """Whether the result can be read."""
        return self.state == "SUCCESS"

    @property
    def has_failed(self) -> bool:
        """Whether the query ended without a result. A query that was canceled has failed, too."""
        return self.state == "FAILED"

    @property
    def was_canceled(self) -> bool:
        """Whether the query ended because somebody canceled it."""
        return self.has_failed and self.category == "CANCELED"

    @property
    def is_over(self) -> bool:
        """Whether the state never changes again. A state that this provider does not know is not over."""
        return self.has_succeeded or self.has_failed


def _list_of(data: Mapping[str, Any], name: str) -> list[Any]:
    """Return an optional list of a response. A missing list is empty."""
    value = data.get(name)
    if value is not None and not isinstance(value, list):
        raise PolarisInvalidResponse(f"Polaris returned an invalid {name} of a query: {clip(repr(value), 100)}")
    return value or []


def _column_of(data: Any) -> QueryColumn:
    column = mapping(data, "a column of a query")
    return QueryColumn(*(str(column.get(name) or "") for name in ("name", "type", "nativeType")))


def _page_of(data: Any) -> StatementPage:
    page = mapping(data, "a page of a result")
    number = count_of(page.get("id"))
    if number is None:
        raise PolarisInvalidResponse(f"Polaris returned an invalid page of a result: {clip(repr(data), 100)}")
    return StatementPage(number, count_of(page.get("numRows")))


def check_file_name(name: Any) -> str:
    """Return the name of an uploaded file. It may have slashes, and no part of it is empty or only dots.

    :raises PolarisUsageError: for a name that Polaris, or the form of an upload, cannot have.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= 1024 or not name.isprintable():
        raise PolarisUsageError(f"A file needs a name of 1 to 1,024 printable characters; it is {repr(name)[:100]}")
    if {"", ".", ".."} & set(name.split("/")) or '"' in name or "\\" in name:
        raise PolarisUsageError(f"The name of a file has no empty part, quote or backslash; it is {repr(name)[:100]}")
    return name


def check_table_name(name: Any) -> None:
    """Raise PolarisUsageError if this cannot be a table's name. Dots alone would name another path, even quoted."""
    if not isinstance(name, str) or not 1 <= len(name) <= 255 or name in {".", ".."}:
        raise PolarisUsageError(f"table must be a name of 1 to 255 characters; it is {repr(name)[:100]}")
