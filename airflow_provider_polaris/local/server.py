"""LocalPolaris: the local Polaris as a Python object, served by a thread."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn

from airflow_provider_polaris.local.engine.data.database import MEMORY
from airflow_provider_polaris.local.engine.data.rows import Edition
from airflow_provider_polaris.local.engine.jobs.runner import IDLE_SECONDS, Runner
from airflow_provider_polaris.local.engine.project.behaviours import Behaviour, Kind
from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.query.statements import Statements
from airflow_provider_polaris.local.http.account_api import AccountApi
from airflow_provider_polaris.local.http.admin import AdminApi
from airflow_provider_polaris.local.http.app import PERMISSIONS, Gatekeeper
from airflow_provider_polaris.local.http.connections_api import ConnectionsApi
from airflow_provider_polaris.local.http.faults import HANG_SECONDS, Fault, Faults
from airflow_provider_polaris.local.http.files_api import FilesApi
from airflow_provider_polaris.local.http.jobs_api import JobsApi
from airflow_provider_polaris.local.http.page import PageApi
from airflow_provider_polaris.local.http.query_api import QueryApi
from airflow_provider_polaris.local.http.shell import SeenRequest, Shell, protocol
from airflow_provider_polaris.local.http.tables_api import TablesApi


class LocalPolaris:
    """A Polaris project on this machine, as a context manager.

    The server accepts every type of job. Batch jobs whose data is ``inline`` or was uploaded (nd-json or csv, plain or
    gz, and uploaded parquet) are read row by row. SQL jobs run that read tables or such data. Streaming jobs load the
    events that are pushed to their connection. Deletions are carried out. Any other job stays pending until
    :meth:`next_job`, :meth:`script` or :meth:`set_status` changes it. Its health says why.

    :param host: the address to listen on, loopback by default. On any other address, only the key protects the server.
    :param port: the port to listen on; 0 takes a free port.
    :param permissions: what the key may do: some of ``ManageIngestionJobs``, ``ManageFiles``, ``ViewTables``,
        ``ManageTables``, ``ManageConnections`` and ``AccessQueries``; all by default.
    :param rows_per_second: the most rows that a job reads per second, so that a test has time to wait; ``None`` for no
        limit.
    :param cancel_checks: how many requests still see a scripted job running after its cancellation was accepted.
    :param available_after: seconds from a job's end until its rows can be queried. The table is ``unavailable`` until
        then.
    :param counters: the counters of batch jobs: ``newer`` for those that the newer documentation lists (rows processed,
        skipped by error, persisted), ``older`` for the four of its older sample (rows processed, processed with a
        warning, skipped by filter, skipped by error).
    :param idle_after: seconds without an event after which a streaming job is ``idle``.
    :param memory: the most memory that rows and queries take, such as ``512MB`` or ``2GB``. What needs more is kept in
        files of a temporary folder.
    :param s3_root: a folder with one folder for each bucket, from which jobs of ``s3`` and ``azure`` read. The name of
        a connection is that of its bucket.
    :param data: a folder that keeps jobs, files, tables and connections, the project's id and its key over a restart.
        What a test has planned is not kept. By default, nothing is.
    :param certfile: the certificate with which to serve https; ``keyfile`` holds its key.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        project_id: str | None = None,
        api_key: str | None = None,
        permissions: Iterable[str] = PERMISSIONS,
        rows_per_second: float | None = None,
        cancel_checks: int = 1,
        available_after: float = 0.0,
        counters: Edition = "newer",
        idle_after: float = IDLE_SECONDS,
        memory: str = MEMORY,
        s3_root: str | Path | None = None,
        data: str | Path | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
    ) -> None:
        self._scheme = "https" if certfile else "http"
        self.requests: list[SeenRequest] = []
        self._store = Store(
            cancel_checks=cancel_checks,
            available_after=available_after,
            memory=memory,
            s3_root=Path(s3_root) if s3_root else None,
            data=Path(data) if data else None,
        )
        identity = {"id": str(uuid.uuid4()), "apiKey": f"pok_{secrets.token_urlsafe(24)}", **self._store.identity}
        self.project_id = project_id or identity["id"]
        self._gatekeeper = Gatekeeper(self.project_id, api_key or identity["apiKey"])
        self._store.keep_identity({"id": self.project_id, "apiKey": self.api_key})
        self.permissions = permissions
        self._runner = Runner(self._store, rows_per_second=rows_per_second, counters=counters, idle_after=idle_after)
        self._statements = Statements(self._store)
        self._faults = Faults()
        self._lines: dict[Any, asyncio.Transport] = {}
        self._account = AccountApi(self.project_id, lambda: self.permissions)
        app = self._gatekeeper.app(
            [
                *JobsApi(self._store, self._runner).endpoints(),
                *FilesApi(self._store).endpoints(),
                *TablesApi(self._store).endpoints(),
                *ConnectionsApi(self._store, self._runner).endpoints(),
                *QueryApi(self._store, self._statements).endpoints(),
            ],
            [
                *self._account.endpoints(),
                *PageApi(self._store, self._faults, self.requests).endpoints(),
                *AdminApi(self._store, self._faults, self.requests).endpoints(),
            ],
        )
        config = uvicorn.Config(
            Shell(app, self._faults, self.requests, self._lines),
            http=protocol(self._lines),
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            timeout_graceful_shutdown=1,
            # As load balancers do: a client that polls each half minute keeps its connection.
            timeout_keep_alive=75,
            ssl_certfile=certfile,
            ssl_keyfile=keyfile,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="local-polaris", daemon=True)
        self._failure: BaseException | None = None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - __enter__ reports it
            self._failure = error

    @property
    def url(self) -> str:
        """``http://HOST:PORT``, or ``https`` with a certificate."""
        host, port = self._socket.getsockname()[:2]
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def api_key(self) -> str:
        """The one valid key. Assign another key to rotate it."""
        return self._gatekeeper.api_key

    @api_key.setter
    def api_key(self, key: str) -> None:
        self._gatekeeper.api_key = key
        self._store.keep_identity({"id": self.project_id, "apiKey": key})

    @property
    def permissions(self) -> frozenset[str]:
        """The permissions of the key. Assign other permissions to change them."""
        return self._gatekeeper.permissions

    @permissions.setter
    def permissions(self, permissions: Iterable[str]) -> None:
        given = frozenset(permissions)
        if unknown := given - PERMISSIONS:
            raise ValueError(f"No such permission: {', '.join(sorted(unknown))}")
        self._gatekeeper.permissions = given

    @property
    def project_state(self) -> str:
        """The state of the project that ``GET /v1/projects/{id}`` reports. Assign ``paused`` to report that."""
        return self._account.state

    @project_state.setter
    def project_state(self, state: str) -> None:
        self._account.set_state(state)

    def new_access_token(self) -> str:
        """Return an OAuth access token, which ``Authorization: Bearer`` sends. It is accepted for five minutes."""
        return self._gatekeeper.new_token()

    @property
    def page_url(self) -> str:
        """The address of a page for a browser that shows the jobs and requests.

        The address ends with the key, which the page keeps in the browser. A browser does not send that part of an
        address to the server.
        """
        return f"{self.url}/#key={quote(self.api_key, safe='')}"

    @property
    def cancel_checks(self) -> int:
        """How many requests still see a scripted job running after its cancellation was accepted."""
        return self._store.cancel_checks

    @cancel_checks.setter
    def cancel_checks(self, checks: int) -> None:
        self._store.cancel_checks = checks

    @property
    def rows_per_second(self) -> float | None:
        """The most rows per second that a job reads which starts from now on."""
        return self._runner.rows_per_second

    @rows_per_second.setter
    def rows_per_second(self, speed: float | None) -> None:
        self._runner.rows_per_second = speed

    @property
    def counters(self) -> str:
        """Which counters batch jobs report, ``newer`` or ``older``."""
        return self._runner.counters

    @counters.setter
    def counters(self, edition: Edition) -> None:
        self._runner.counters = edition

    @property
    def idle_after(self) -> float:
        """Seconds without an event after which a streaming job is ``idle``."""
        return self._runner.streams.idle_after

    @idle_after.setter
    def idle_after(self, seconds: float) -> None:
        self._runner.streams.idle_after = seconds

    @property
    def connection_json(self) -> str:
        """An Airflow connection to this server, for ``AIRFLOW_CONN_POLARIS_DEFAULT``."""
        # The button "Test Connection" of Airflow 3.3.1 and 3.3.2 needs the port in its own field.
        host, _, port = self.url.rpartition(":")
        return json.dumps(
            {
                "conn_type": "imply_polaris",
                "host": host,
                "port": int(port),
                "password": self.api_key,
                "extra": {"project_id": self.project_id, "job_url_template": f"{self.url}/#{{job_id}}"},
            }
        )

    def __enter__(self) -> LocalPolaris:
        for job in self._store.unfinished():
            self._runner.start(job)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                self.__exit__()
                raise RuntimeError(f"The local Polaris did not start: {self._failure!r}")
            time.sleep(0.005)
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
        self._runner.close()
        self._statements.close()
        self._store.close()

    def add_job(self, *, metrics: Mapping[str, Any] | None = None, **body: Any) -> str:
        """Add a job that nothing runs, and return its id.

        :param metrics: the job's counters, by the API's names.
        :param body: the API's own fields (``executionStatus="running"``, ``type="streaming"``, …). A field that is
            missing has the value of a new job.
        """
        return str(self._store.add_job(body, metrics).body["id"])

    def set_status(self, job_id: str, status: str, **changes: Any) -> None:
        """Move a job to a status; ``changes`` are further fields of the API: ``health={"status": "warn", …}``."""
        self._store.override(self._store.jobs[job_id], executionStatus=status, **changes)

    def next_job(
        self,
        kind: Kind,
        *,
        times: int = 1,
        at: float = 0.8,
        table: str | None = None,
        metrics: Mapping[str, int] | None = None,
        health: Mapping[str, Any] | None = None,
    ) -> None:
        """Choose how the next jobs that are created behave.

        :param kind: ``"complete"``; ``"fail"`` after the share ``at`` of the rows; ``"hang"`` there until it is
            canceled; ``"flap"`` between ``running`` and ``unknown`` for six requests before it completes.
        :param times: for how many jobs.
        :param table: only for jobs into this table.
        :param metrics: the counters, by the API's names, of a job whose data is not read here.
        :param health: the health with which the job ends.
        """
        self._store.behaviours.add(Behaviour(kind, times, at, table, dict(metrics or {}), health))

    def script(self, job_id: str, *changes: Mapping[str, Any]) -> None:
        """Change a job at each further request for it: one mapping of the API's fields for each request."""
        self._store.jobs[job_id].script = [dict(change) for change in changes]

    def set_fields(self, job_id: str, **fields: Any) -> None:
        """Change fields of a job to any value, valid or not."""
        self._store.jobs[job_id].body.update(fields)

    def remove_field(self, job_id: str, name: str) -> None:
        """Remove a field of a job."""
        self._store.jobs[job_id].body.pop(name, None)

    def set_metrics(self, job_id: str, **counters: int) -> None:
        """Set a job's counters, by the API's names."""
        self._store.jobs[job_id].metrics = {"totals": counters}

    def set_logs(self, job_id: str, *entries: Mapping[str, Any]) -> None:
        """Set a job's log."""
        self._store.jobs[job_id].logs = [dict(entry) for entry in entries]

    def remove_job(self, job_id: str) -> None:
        """Remove a job, as the service removes old history."""
        self._store.remove_job(job_id)

    def add_table(self, name: str, **fields: Any) -> None:
        """Add a table that is empty and available; ``fields`` are the API's own."""
        self._store.add_table(name, **fields)

    def set_table(self, name: str, **fields: Any) -> None:
        """Change fields of a table to any value: ``availability="deleting"``."""
        with self._store.lock:
            self._store.tables[name].fields.update(fields)

    def script_table(self, name: str, *changes: Mapping[str, Any]) -> None:
        """Change a table at each further request for it: one mapping of the API's fields for each request."""
        with self._store.lock:
            self._store.tables[name].script = [dict(change) for change in changes]

    def remove_table(self, name: str) -> None:
        """Remove a table and its rows."""
        self._store.drop_table(name)

    def fail_next(self, times: int = 1, *, status: int = 503, retry_after: object = None, match: str = "") -> None:
        """Answer the next requests with an error in the service's shape.

        :param match: only requests for which this regular expression is found in ``"METHOD /path"``.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._faults.add(Fault(times, match, status=status, headers=headers))

    def answer_next(
        self,
        times: int = 1,
        *,
        body: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        match: str = "",
    ) -> None:
        """Answer the next requests with any body, of type ``text/html`` unless the headers have another."""
        self._faults.add(
            Fault(
                times,
                match,
                status=status,
                body=body.encode(),
                headers={"Content-Type": "text/html", **(headers or {})},
            )
        )

    def drop_next(self, times: int = 1, *, when: str = "before", match: str = "") -> None:
        """Cut the connection ``before`` the next requests are read, ``after`` they are carried out, or ``mid-body``."""
        self._faults.add(Fault(times, match, cut=when))

    def delay_next(self, times: int = 1, *, seconds: float, match: str = "") -> None:
        """Delay the next requests before they are carried out."""
        self._faults.add(Fault(times, match, delay=seconds))

    def hang_next(self, times: int = 1, *, match: str = "") -> None:
        """Never answer the next requests."""
        self._faults.add(Fault(times, match, delay=HANG_SECONDS))

    def clear_faults(self) -> None:
        """Remove all planned faults of requests and behaviours of jobs. Requests that wait for a fault are answered."""
        self._faults.clear()
        self._store.behaviours.clear()
