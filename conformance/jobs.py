"""Create every documented variation of a job, and call every endpoint in every state of the jobs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any, get_args

from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.local.engine.project.behaviours import Kind
from conformance.client import Client
from conformance.document import PROJECT, SCHEMAS, Document
from conformance.meaning import (
    CONNECTION,
    FILE,
    FIXED_IN_A_TABLE,
    NOT_CARRIED_OUT,
    ROWS,
    SOURCE_TABLE,
    TABLE,
    TABLES,
)
from conformance.places import nodes, patched, put
from conformance.specs import Variation, Variations

NO_ID = "00000000-0000-4000-8000-000000000000"
#: Rows of which the local Polaris reads some, or none.
_ODD_ROWS = ("", "no row\n", f"{ROWS}no row\n", '{"timestamp": null}\n', '{"timestamp": "2020-01-01T00:00:00Z"}\n')
#: The fields of a maximal streaming job with which the local Polaris does not run it.
_NOT_STREAMED = (
    "dimensionExclusions", "enableUpserts", "upsertKeyColumns", "upsertVersionColumn", "useSchemaDiscovery"
)  # fmt: skip
_OVER = ("completed", "failed", "canceled")


def prepare(polaris: LocalPolaris, client: Client) -> None:
    """Add the tables and the file that the specs name."""
    polaris.add_table(TABLE)
    polaris.add_table(SOURCE_TABLE)
    client("POST", "files", files={"file": (FILE, ROWS.encode())})


def create(polaris: LocalPolaris, client: Client, spec: Any) -> Any:
    """Send a spec to a project that has its tables and no other streaming job; return the answer."""
    polaris.add_table(TABLE)  # a job may have dropped it
    return client("POST", "jobs", json=spec)


def end_stream(polaris: LocalPolaris, job: Any) -> None:
    """Make room for another streaming job: there is one for each table."""
    if job["type"] == "streaming":
        polaris.set_status(job["id"], "canceled")


def read_job(client: Client, job_id: str) -> dict[str, Any]:
    """Send each request that reads a job; return the job."""
    job: dict[str, Any] = client("GET", f"jobs/{job_id}").json()
    for part in ("status", "metrics", "logs", "progress"):
        client("GET", f"jobs/{job_id}/{part}")
    return job


class Jobs:
    """The run of all variations.

    :ivar refused: the name of each valid spec that was refused, and the error.
    :ivar created: how many jobs were created.
    """

    def __init__(self, polaris: LocalPolaris, client: Client, document: Document) -> None:
        self._polaris = polaris
        self._client = client
        self._document = document
        self.refused: list[str] = []
        self.created = 0

    def run(self) -> None:
        """Create the jobs, and call all endpoints."""
        variations = Variations(self._document)
        for variation in variations.all():
            self._create_and_read(variation)
        for variation in variations.whole():
            self._live(variation)
        self._read_rows()
        self._read_until_all_are_over()
        self._tables()
        self._events()
        self._list()
        self._files()
        self._account()
        self._errors()

    def _create_and_read(self, variation: Variation) -> None:
        answer = create(self._polaris, self._client, variation.spec)
        if answer.status_code != 201:
            self.refused.append(f"{variation.name}: {answer.text[:300]}")
            return
        self.created += 1
        job = answer.json()
        read_job(self._client, job["id"])
        end_stream(self._polaris, job)

    def _live(self, variation: Variation) -> None:
        """Follow a job through each behaviour that a test can choose, and through each update."""
        healths: tuple[dict[str, Any] | None, ...] = (None, {"status": "warn", "code": "multiple"})
        for kind, health in itertools.product(get_args(Kind), healths):
            self._polaris.next_job(kind, health=health, metrics={"numRowsProcessed": 1})
            answer = create(self._polaris, self._client, variation.spec)
            if answer.status_code != 201:
                continue  # the run of all variations has the error
            job_id = answer.json()["id"]
            for _ in range(5):
                read_job(self._client, job_id)
                self._client("GET", "jobs", params={"searchString": job_id})
            for wish in ("suspended", "running", "canceled"):
                self._client("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": wish})
                self._client("GET", f"jobs/{job_id}")
                self._client("POST", f"jobs/{job_id}/status", json={"desiredExecutionStatus": wish})
                self._client("POST", f"jobs/{job_id}/reset")
            read_job(self._client, job_id)
            self._client("GET", "jobs", params={"searchString": job_id})
            self._polaris.set_status(job_id, "failed", health=None)  # a deletion that hangs cannot be canceled
            read_job(self._client, job_id)
            self._polaris.clear_faults()

    def _read_rows(self) -> None:
        """Create jobs that lose rows."""
        inline = next(one for one in Variations(self._document).whole() if one.choices.get("source") == "inline")
        for rows, most in itertools.product(_ODD_ROWS, (0, 10)):
            create(
                self._polaris,
                self._client,
                patched(inline.spec, {"source.data": rows, "maxParseExceptions": most}),
            )

    def _read_until_all_are_over(self) -> None:
        """Wait for the jobs that the local Polaris runs, and read some jobs of each final status."""
        idle, deadline = 0, time.monotonic() + 30
        while idle < 3 and time.monotonic() < deadline:  # a worker may be between two jobs
            idle = 0 if any(self._pages(executionStatus="running", type=["batch", "delete_data"])) else idle + 1
            time.sleep(0.1)
        for status in _OVER:
            for job in [*self._pages(executionStatus=status)][:50]:
                read_job(self._client, job["id"])

    def _pages(self, **query: Any) -> Iterator[dict[str, Any]]:
        for offset in itertools.count(0, 200):
            page = self._client("GET", "jobs", params={**query, "paginationLimit": 200, "paginationOffset": offset})
            yield from page.json()["values"]
            if not page.json()["moreResultsAvailable"]:
                return

    def _tables(self) -> None:
        """Create a table with each value of each enum, update it, and read it."""
        number = 0
        for whole in TABLES:
            root = {"$ref": f"{SCHEMAS}TablePayload"}
            for node in nodes(self._document, root, whole):
                if node.path in ("type", *FIXED_IN_A_TABLE):
                    continue
                for value in node.enum or (None,):
                    if f"{node.label} {value}" in NOT_CARRIED_OUT:
                        continue
                    number += 1
                    body = whole if value is None else put(whole, node.place, value)
                    body = {**body, "name": f"t-{number}"}
                    self._taken("POST", "tables", body, 201)
                    self._taken("PUT", f"tables/t-{number}", {**body, "description": None}, 200)
                    self._client("POST", "tables", json=body)
                    self._client("PUT", f"tables/t-{number}", json=body)
        self._client("PUT", "tables/none", json=TABLES[0])

    def _events(self) -> None:
        """Push events to a connection whose job runs, and call each endpoint of connections."""
        self._taken("POST", "connections", CONNECTION, 201)
        stream = next(one.spec for one in Variations(self._document).whole() if one.choices[""] == "streaming")
        plain = {"format": "nd-json"}
        spec = patched(stream, {"source.formatSettings": plain, "source.connectionName": CONNECTION["name"]})
        spec = {name: value for name, value in spec.items() if name not in _NOT_STREAMED}
        answer = create(self._polaris, self._client, spec)
        job_id = answer.json()["id"]
        for _ in range(20):
            self._client("POST", f"events/{CONNECTION['name']}", data=f"{ROWS}no event\n".encode())
            read_job(self._client, job_id)
        for wish in ("suspended", "running", "canceled"):
            self._client("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": wish})
            self._client("POST", f"events/{CONNECTION['name']}", data=ROWS.encode())
            read_job(self._client, job_id)
        for path in ("connections", f"connections/{CONNECTION['name']}", "connections/none"):
            self._client("GET", path)
        for name in (CONNECTION["name"], "none"):
            self._client("PATCH", f"connections/{name}", json=CONNECTION)
            self._client("DELETE", f"connections/{name}")
            self._client("POST", f"events/{name}", data=b"{}")
        self._client("POST", "connections", json={**CONNECTION, "name": "again"})
        self._client("POST", "connections", json={**CONNECTION, "name": "again"})

    def _taken(self, method: str, path: str, body: Any, status: int) -> None:
        """Send a valid request, and note it if it is refused."""
        answer = self._client(method, path, json=body)
        if answer.status_code != status:
            self.refused.append(f"{method} {path} {body}: {answer.text[:300]}")

    def _list(self) -> None:
        """Send each documented value of each parameter of each list."""
        for method, template, operation in self._document.operations():
            is_list = method == "GET" and template.startswith(f"{PROJECT}/") and "{" not in template[len(PROJECT) :]
            for parameter in operation["parameters"] if is_list else ():
                if parameter["in"] != "query":
                    continue
                _, schema = self._document.resolve(parameter["schema"])
                _, schema = self._document.resolve(schema.get("items", schema))
                limits = [schema[limit] for limit in ("minimum", "maximum", "default") if limit in schema]
                for value in (*schema.get("enum", ()), *limits):
                    self._client("GET", template[len(PROJECT) + 1 :], params={parameter["name"]: value})
        self._client("GET", "tables/conformance")
        self._client("GET", f"tables/{SOURCE_TABLE}")

    def _files(self) -> None:
        """Upload a file in each format and compression, and read and delete it."""
        formats = self._document.schemas["DataFormat"]["enum"]
        compressions = self._document.schemas["CompressionFormat"]["enum"]
        for number, (data_format, compression) in enumerate(itertools.product((None, *formats), (None, *compressions))):
            query = {"dataFormat": data_format, "compressionFormat": compression}
            name = f"folder/{number}.json"
            self._client("POST", "files", params=query, files={"file": (name, ROWS.encode())})
            self._client("GET", f"files/folder%2F{number}.json")
            self._client("GET", "files", params={"searchString": name})
            self._client("POST", "files", files={"file": (name, b"")})
            self._client("DELETE", f"files/folder%2F{number}.json")
            self._client("GET", f"files/folder%2F{number}.json")
            self._client("DELETE", f"files/folder%2F{number}.json")

    def _account(self) -> None:
        """Read the key and the project."""
        self._client("GET", "/v1/apikeyinfo")
        self._client("GET", f"/v1/projects/{self._polaris.project_id}")
        self._client("GET", f"/v1/projects/{NO_ID}")

    def _errors(self) -> None:
        """Get each kind of error."""
        for path in (f"jobs/{NO_ID}", "tables/none", "files/none", "none"):
            self._client("GET", path)
        for part in ("status", "metrics", "logs", "progress"):
            self._client("GET", f"jobs/{NO_ID}/{part}")
        for method, path in (
            ("PUT", f"jobs/{NO_ID}"),
            ("POST", f"jobs/{NO_ID}/status"),
            ("POST", f"jobs/{NO_ID}/reset"),
        ):
            self._client(method, path, json={"desiredExecutionStatus": "canceled"})
        self._client("PATCH", "jobs", json={})
        for path in ("jobs", "files", "tables", f"jobs/{NO_ID}"):
            self._client("GET", path, headers={"Authorization": "Basic wrong"})
