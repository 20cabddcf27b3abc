"""The jobs, files, tables and connections of a local Polaris, and how a job changes its status."""

from __future__ import annotations

import tempfile
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris.local.engine.data.connections import StoredConnection
from airflow_provider_polaris.local.engine.data.database import MEMORY, Database
from airflow_provider_polaris.local.engine.data.objects import ObjectFile, ObjectFolder
from airflow_provider_polaris.local.engine.project.behaviours import FLAPPING, Behaviours
from airflow_provider_polaris.local.engine.project.journal import Journal, Record
from airflow_provider_polaris.local.engine.project.saved import (
    connection_of,
    connection_record,
    constants_of,
    file_of,
    file_record,
    job_of,
    state_of,
    table_of,
    table_record,
)
from airflow_provider_polaris.local.engine.project.specs import (
    DEFAULT_GRANULARITY,
    Project,
    format_read_here,
    reason_stream_not_run,
)
from airflow_provider_polaris.local.engine.project.stored import OVER, SHOWN, USER, StoredFile, StoredJob, log_entry
from airflow_provider_polaris.local.engine.project.tables import Rows, Tables
from airflow_provider_polaris.local.engine.sql.queries import partitioning_of, replaces, target_of
from airflow_provider_polaris.local.engine.timestamps import timestamp

if TYPE_CHECKING:
    import duckdb

#: The code of the warning of a job that nothing runs.
WAITS = "unable_to_proceed"
#: The fields that a job of each type has beyond those of all jobs, for a job that a test adds.
_REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "batch": {"source": {"type": "inline", "data": "", "inputSchema": []}},
    "sql": {"query": 'INSERT INTO "table" SELECT 1 PARTITIONED BY ALL'},
    "streaming": {"source": {"type": "connection", "connectionName": "connection"}},
    "restore_data": {"interval": "2026-11-01/2026-11-02"},
}


class Store:
    """All state of one project, behind one lock.

    :param cancel_checks: how many requests still see a scripted job running after its cancellation was accepted.
    :param available_after: seconds from a job's end until its rows can be queried.
    :param memory: the most memory that the rows take.
    :param s3_root: the folder in the place of object stores.
    :param data: the folder that keeps the state over a restart; ``None`` to keep nothing.
    :raises FolderInUse: if another local Polaris keeps its state there.
    """

    def __init__(
        self,
        *,
        cancel_checks: int = 1,
        available_after: float = 0.0,
        memory: str = MEMORY,
        s3_root: Path | None = None,
        data: Path | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.jobs: dict[str, StoredJob] = {}
        self.files: dict[str, StoredFile] = {}
        self.tables = Tables(USER, available_after)
        self.database = Database(lambda: self._folder_of("database"), memory)
        self.behaviours = Behaviours()
        self.objects = ObjectFolder(s3_root) if s3_root else None
        #: The push streaming connections, by name.
        self.connections: dict[str, StoredConnection] = {}
        self.cancel_checks = cancel_checks
        #: What names the project: its id and its key, if they were kept.
        self.identity: Mapping[str, Any] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._data = data
        self._journal: Journal | None = None
        #: The transaction that what changes now belongs to.
        self._cursor: duckdb.DuckDBPyConnection | None = None
        if data:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._journal = Journal(data, self.database)
            self._restore(self._journal.read())

    def close(self) -> None:
        """Remove the rows and the uploaded files, or keep them with all else."""
        if self._journal:
            with self.lock:
                self._save(*map(state_of, self.jobs.values()))
                self._journal.close()
        self.database.close()
        if self._folder:
            self._folder.cleanup()

    def _restore(self, records: Sequence[Record]) -> None:
        """Restore the state of the last server, and remove the files that belong to nothing."""
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for record in records:
            found[record.kind][record.key] = record.value
        files, events = self._folder_of("files"), self._folder_of("events")
        self.identity = found["project"].get("project", {})
        self.files = {name: file_of(value, files) for name, value in found["file"].items()}
        self.connections = {name: connection_of(value, events) for name, value in found["connection"].items()}
        for name, value in found["table"].items():
            self.tables.put(name, table_of(value))
        for job_id, constants in found["spec"].items():
            job = self.jobs[job_id] = job_of(constants, found["job"][job_id])
            if job.body.get("desiredExecutionStatus") == "canceled":
                job.canceled.set()
        kept = {*(file.path for file in self.files.values()), *(one.path for one in self.connections.values())}
        for path in (*files.iterdir(), *events.iterdir(), *self.statement_folder().iterdir()):
            if path not in kept:
                path.unlink()
        for connection in self.connections.values():
            connection.repair()

    def keep_identity(self, identity: Mapping[str, Any]) -> None:
        """Keep what names the project."""
        with self.lock:
            self.identity = identity
            self._save(Record("project", "project", identity))

    def unfinished(self) -> list[StoredJob]:
        """Return the jobs that the last server had not ended. Each runs from its start: no row of it is stored."""
        return [job for job in self.jobs.values() if job.is_run and job.status not in OVER]

    def _save(self, *records: Record) -> None:
        """Keep parts of the state. A caller holds the lock."""
        if self._journal and records:
            self._journal.write(records, self._cursor)

    @contextmanager
    def transaction(self, table: str, job: StoredJob | None = None) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """Change the rows of a table, the table and its job together.

        :returns: the cursor of the transaction, ``None`` if the database has not been opened: then it has no rows.
        """
        with self.database.writing, self.database.cursor_if_open() as cursor, self.lock:
            if cursor:
                cursor.begin()
            with self.committing(cursor, table, job):
                yield cursor

    @contextmanager
    def committing(
        self, cursor: duckdb.DuckDBPyConnection | None, table: str, job: StoredJob | None = None
    ) -> Iterator[None]:
        """Change a table and its job, and commit that with the transaction of a cursor: all of it, or nothing of it.

        A caller holds the lock.
        """
        before, job_before = deepcopy(self.tables.get(table)), job and job.snapshot()
        self._cursor = cursor
        try:
            yield
            self._save(table_record(table, self.tables.get(table)))
            if cursor:
                cursor.commit()
        except BaseException:
            self.tables.put(table, before)
            if job and job_before:
                job.restore(job_before)
            if cursor:
                with suppress(Exception):  # a commit that fails has ended the transaction
                    cursor.rollback()
            raise
        finally:
            self._cursor = None

    def files_of(self, source: Mapping[str, Any]) -> Sequence[StoredFile | ObjectFile]:
        """Return the files of a source, uploaded or of an object store.

        :raises FileNotFoundError: if there is no such file.
        """
        if source["type"] != "uploaded":
            return self.objects.files_of(source) if self.objects else ()
        with self.lock:
            if missing := [name for name in source["fileList"] if name not in self.files]:
                raise FileNotFoundError(f"{missing[0]} was deleted")
            return [self.files[name] for name in source["fileList"]]

    def add_connection(self, name: str, description: str | None) -> StoredConnection | None:
        """Add a push streaming connection. Return ``None`` if there is a connection of its name."""
        now = timestamp()
        body = {
            "type": "push_streaming",
            "name": name,
            **({} if description is None else {"description": description}),
            "submittedByUser": USER,
            "submittedOnTimestamp": now,
            "modifiedByUser": USER,
            "modifiedOnTimestamp": now,
        }
        with self.lock:
            if name in self.connections:
                return None
            made = self.connections[name] = StoredConnection(body, self._folder_of("events") / str(uuid.uuid4()))
            self._save(connection_record(made))
        return made

    def save_connection(self, connection: StoredConnection) -> None:
        """Keep a connection that has changed. A caller holds the lock."""
        self._save(connection_record(connection))

    def remove_connection(self, name: str) -> None:
        """Remove a connection with its events. A caller holds the lock."""
        removed = self.connections.pop(name)
        self._save(Record("connection", name, None))
        removed.path.unlink(missing_ok=True)

    def is_streamed_from(self, name: str) -> bool:
        """Return whether a job that is not over reads from a connection. A caller holds the lock."""
        return any(
            job.status not in OVER and (job.body.get("source") or {}).get("connectionName") == name
            for job in self.jobs.values()
        )

    def new_file_path(self) -> Path:
        """Return a path for a new file. It does not depend on the name under which the file is uploaded."""
        return self._folder_of("files") / str(uuid.uuid4())

    def add_file(self, file: StoredFile) -> bool:
        """Add an uploaded file. Return false if there is a file of its name."""
        name = file.metadata["name"]
        with self.lock:
            if name in self.files:
                return False
            self.files[name] = file
            self._save(file_record(file))
        return True

    def remove_file(self, name: str) -> None:
        """Remove an uploaded file."""
        with self.lock:
            if removed := self.files.pop(name, None):
                self._save(Record("file", name, None))
                removed.path.unlink(missing_ok=True)

    def statement_folder(self) -> Path:
        """Return the folder for the results of asynchronous queries."""
        return self._folder_of("statements")

    def _folder_of(self, name: str) -> Path:
        folder = self._root() / name
        folder.mkdir(exist_ok=True)
        return folder

    def _root(self) -> Path:
        if self._data:
            return self._data
        with self.lock:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="local-polaris-")
            return Path(self._folder.name)

    def add_job(self, body: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> StoredJob:
        """Store a job as the API would have it. A field that is missing gets the value of a new job."""
        with self.lock:
            job = self._new_job(body, metrics)
            self._save(constants_of(job), state_of(job))
        return job

    def _new_job(self, body: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> StoredJob:
        now = timestamp()
        required = _REQUIRED.get(str(body.get("type", "batch")), {})
        full = {
            "type": "batch",
            "id": str(uuid.uuid4()),
            "target": {"type": "table", "tableName": "table"},
            "desiredExecutionStatus": "running",
            "createdBy": USER,
            "lastModifiedBy": USER,
            "executionStatus": "pending",
            "health": {"status": "ok"},
            "createdTimestamp": now,
            "lastUpdatedTimestamp": now,
            **required,
            **body,
        }
        target = {} if full["type"] == "sql" else {"target": full["target"]}
        full.setdefault("spec", {"type": full["type"], **target, **{name: full[name] for name in required}})
        job = StoredJob(full, metrics=None if metrics is None else {"totals": dict(metrics)})
        job.note_change(now)
        self.jobs[full["id"]] = job
        return job

    def remove_job(self, job_id: str) -> None:
        """Remove a job, as the service removes old history."""
        with self.lock:
            self.jobs.pop(job_id).canceled.set()  # its worker stops reading
            self._save(Record("spec", job_id, None), Record("job", job_id, None))

    def project(self) -> Project:
        """Return what a spec can refer to. A caller holds the lock."""
        return Project(
            {name: file.metadata for name, file in self.files.items()},
            self.tables.granularities(),
            self._streamed_to(),
            self.objects,
            self.connections,
        )

    def _streamed_to(self) -> dict[str, StoredJob]:
        """Return the streaming jobs that are neither over nor being canceled, by their table."""
        return {
            job.table: job
            for job in self.jobs.values()
            if job.body.get("type") == "streaming" and job.status not in OVER and not job.canceled.is_set()
        }

    def submit(self, spec: Mapping[str, Any], *, not_run_because: str | None = None) -> StoredJob:
        """Store the job of a spec, and the job's table if the job creates one.

        :param not_run_because: why the local Polaris does not run the query of an SQL job; ``None`` if it does.
        """
        is_sql = spec["type"] == "sql"
        target: Any = {"type": "table", "tableName": target_of(spec["query"])} if is_sql else spec["target"]
        table = target["tableName"]
        shown = {key: value for key, value in spec.items() if key in SHOWN}
        with self.lock:
            if spec["type"] == "streaming" and table in (streamed_to := self._streamed_to()):
                self.cancel(streamed_to[table])  # the spec has replaceRunning
            chosen = partitioning_of(spec["query"]) if is_sql else spec.get("partitionedBy")
            if spec.get("createTableIfNotExists"):
                aggregates = any(mapping.get("isAggregation") for mapping in spec.get("mappings") or [])
                kind = "aggregate" if aggregates else "detail"
                self.tables.add(table, type=kind, partitioningGranularity=chosen or DEFAULT_GRANULARITY)
            job = self._new_job({**shown, "target": target, "spec": dict(spec)})
            job.granularity = chosen or self.tables.granularities()[table]
            project = self.project()
            job.settings = format_read_here(spec, project)
            job.behaviour = self.behaviours.take(table)
            reason = _reason_not_run(spec, project, not_run_because)
            # A query and a stream that are run have no share of rows at which a test could end them.
            job.is_run = reason is None and not (job.behaviour and spec["type"] in ("sql", "streaming"))
            self._prepare(job, reason or "")
            self._save(table_record(table, self.tables.get(table)), constants_of(job), state_of(job))
        return job

    def _prepare(self, job: StoredJob, not_run_because: str) -> None:
        if job.behaviour and job.behaviour.kind == "flap":
            job.masks = list(FLAPPING)
        if job.is_run:
            return
        if job.behaviour:
            job.metrics = {"totals": dict(job.behaviour.metrics)}
            job.script = job.behaviour.states(job.body["type"])
        else:
            message = f"Waits for a test to change it. The local Polaris does not run it: {not_run_because}"
            entry = log_entry("warn", WAITS, message)
            job.logs = [entry]
            job.body["health"] = {"status": "warn", "code": WAITS, "log": entry}

    def add_table(self, name: str, **fields: Any) -> None:
        """Add a table that is empty and available, if there is none of its name."""
        with self.lock:
            self._save(table_record(name, self.tables.add(name, **fields)))

    def create_table(self, body: Mapping[str, Any]) -> bool:
        """Store the table of a body that has no fault. Return false if there is a table of its name."""
        name = body["name"]
        with self.lock:
            if name in self.tables:
                return False
            self._save(table_record(name, self.tables.create(body)))
        return True

    def update_table(self, name: str, body: Mapping[str, Any]) -> None:
        """Replace the fields of a table that a user can change. The body has no fault."""
        with self.lock:
            self._save(table_record(name, self.tables.update(name, body)))

    def has_active_jobs(self, table: str) -> bool:
        """Return whether a job that is not over writes to a table. A caller holds the lock."""
        kinds = ("batch", "sql", "streaming")
        return any(
            job.table == table and job.status not in OVER and job.body.get("type") in kinds
            for job in self.jobs.values()
        )

    def drop_expired(self) -> None:
        """Delete the rows that the storage policies of their tables do not retain any more."""
        with self.lock:
            if not self.tables.expired():
                return
        with self.database.writing, self.lock:
            for name, partitions in self.tables.expired().items():
                with self.transaction(name) as cursor:
                    self.database.delete(cursor, name, partitions)
                    self.tables.remove(name, partitions)

    def drop_table(self, name: str) -> None:
        """Remove a table and its rows."""
        with self.transaction(name) as cursor:
            self.forget_table(cursor, name)

    def forget_table(self, cursor: duckdb.DuckDBPyConnection | None, name: str) -> None:
        """Remove a table and its rows, in the transaction of a cursor."""
        self.database.drop(cursor, name)
        self.tables.drop(name)
        for connection in self.connections.values():
            if connection.positions.pop(name, None) is not None:
                self._save(connection_record(connection))

    def update(self, job: StoredJob, **changes: Any) -> None:
        """Change fields of a job's body. Only scripts may change a job that is over.

        ``lastUpdatedTimestamp`` is the time of the last update by a user, and ``completedTimestamp`` that of the change
        to ``completed``: the vendor's OpenAPI document says so. A failed or canceled job has no such time.
        """
        now = timestamp()
        with self.lock:
            was, status = job.status, changes.get("executionStatus", job.status)
            is_completed = status == "completed" and was != "completed"
            if status != was and (job.body.get("health") or {}).get("code") == WAITS:
                job.body["health"] = {"status": "ok"}
            if status == "running":
                job.body.setdefault("startedTimestamp", now)
            if "lastModifiedBy" in changes:
                job.body["lastUpdatedTimestamp"] = now
            if is_completed:
                job.body["completedTimestamp"] = now
            elif status != "completed":
                job.body.pop("completedTimestamp", None)
            job.body.update(changes)
            job.note_change(now)
            if is_completed and was not in OVER:
                job.progress = 1.0
                self._load_scripted(job)
            self._save(state_of(job))

    def override(self, job: StoredJob, **changes: Any) -> None:
        """Change a job for a test. If the new status is final, the job's script and worker end."""
        with self.lock:
            if changes.get("executionStatus") in OVER:
                job.script.clear()
                job.masks.clear()
                if job.is_run:
                    job.canceled.set()  # its worker stops reading
            self.update(job, **changes)

    def _load_scripted(self, job: StoredJob) -> None:
        """Add the rows that a job counts to its table if no worker read them."""
        body = job.body
        if job.is_run or body.get("type") not in ("batch", "sql", "restore_data") or not job.table:
            return
        replaces_by_spec = body["type"] == "batch" and body.get("ingestionMode") == "replace"
        replaced = (body["target"].get("intervals") or []) if replaces_by_spec else None
        rows = None if replaces(body.get("query")) else _rows_in((job.metrics or {}).get("totals") or {})
        self.tables.load(job.table, rows, 0, replaced=replaced)
        self._save(table_record(job.table, self.tables.get(job.table)))

    def cancel(self, job: StoredJob) -> None:
        """Accept a cancellation. The job ends later."""
        with self.lock:
            self.update(job, desiredExecutionStatus="canceled", lastModifiedBy=USER)
            job.canceled.set()
            job.checks_until_canceled = self.cancel_checks

    def end_canceled(self, job: StoredJob) -> None:
        """End a job that a user canceled."""
        health = {"status": "error", "code": "canceled", "message": "The job was canceled by a user"}
        self.update(job, executionStatus="canceled", health=health)

    def end_failed(self, job: StoredJob, health: Mapping[str, Any]) -> None:
        """End a failed job. Only streaming jobs log each row that cannot be parsed; batch jobs do not."""
        entry = log_entry("error", health.get("code"), str(health.get("message", "")))
        job.logs = [*job.logs, entry] if job.body.get("type") == "streaming" else [entry]
        self.update(job, executionStatus="failed", health={**health, "log": entry})

    def poll(self, job: StoredJob) -> dict[str, Any]:
        """Return the job's body for a request. A scripted job changes with each request."""
        with self.lock:
            if job.script and (changes := job.script.pop(0)):
                self.update(job, **changes)
            if job.canceled.is_set() and not job.is_run and job.status not in OVER:
                job.checks_until_canceled -= 1
                if job.checks_until_canceled < 0:
                    job.script.clear()
                    self.end_canceled(job)
            if not job.masks:
                return dict(job.body)
            body = {**job.body, "executionStatus": job.masks.pop(0), "health": {"status": "ok"}}
            body.pop("completedTimestamp", None)
            return body


def _reason_not_run(spec: Mapping[str, Any], project: Project, reason: str | None) -> str | None:
    """Return why the local Polaris does not run a job, ``None`` if it does.

    :param reason: why it does not run the query of an SQL job.
    """
    if spec["type"] == "streaming":
        return reason_stream_not_run(spec, project)
    if spec["type"] == "batch" and format_read_here(spec, project) is None:
        return "its data is elsewhere"
    return "it restores no data" if spec["type"] == "restore_data" else reason


def _rows_in(totals: Mapping[str, Any]) -> Rows | None:
    """Return the number of rows that a job's counters report as stored, ``None`` if they do not report it."""
    stored = totals.get("numRowsPersisted")
    if stored is None and "numRowsProcessed" in totals:
        stored = sum(totals.get(name) or 0 for name in ("numRowsProcessed", "numRowsProcessedWithWarning"))
    return None if stored is None else {None: stored} if stored else {}
