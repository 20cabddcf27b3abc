"""Send every violation of the request schemas, one at a time, and count those that are taken."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import requests

from airflow_provider_polaris.local import LocalPolaris
from conformance.client import Client
from conformance.document import Document
from conformance.jobs import create, end_stream
from conformance.meaning import CONNECTION, TABLES, settled
from conformance.places import Spec, patched
from conformance.specs import Builder, Variation, Variations
from conformance.violations import Violation, violations_of, violations_of_parameters

_SETTINGS = "source.formatSettings"
_REFUSED = (400, 415)
_JSON = {"Content-Type": "application/json"}


class Refusals:
    """The run of all violations.

    :ivar sent: how many violations were sent.
    :ivar distinct: the key of each violation.
    :ivar taken: the names of the specs in which a violation was taken, by its key.
    :ivar misnamed: the violations that were refused because of another field, by key.
    :ivar unusable: the valid specs that were refused: their violations prove nothing.
    """

    def __init__(self, polaris: LocalPolaris, client: Client, document: Document) -> None:
        self._polaris = polaris
        self._client = client
        self._document = document
        self.sent = 0
        self.distinct: set[str] = set()
        self.taken: dict[str, list[str]] = defaultdict(list)
        self.misnamed: dict[str, list[str]] = defaultdict(list)
        self.unusable: list[str] = []

    def run(self) -> None:
        """Send all violations."""
        for spec, below in self._valid_specs():
            self._must_be_taken(spec)
            for violation in violations_of(self._document, "CreateJobRequest", spec, below):
                self._count(violation, self._post(violation.spec), violation.path)
        self._update()
        self._parameters()
        self._queries()
        self._tables()
        self._connections()
        self._bodies()

    def _valid_specs(self) -> Iterator[tuple[Variation, str]]:
        """Yield each maximal spec, and the path below which its fields are new: the settings of each format."""
        variations = Variations(self._document)
        builder = Builder(self._document)
        for whole in variations.whole():
            yield whole, ""
            for choices in variations.formats_of(whole.choices[""], whole.choices.get("source", "")):
                if _SETTINGS in choices:
                    settings = builder.build(choices, maximal=True)["source"]["formatSettings"]
                    spec = patched(whole.spec, {_SETTINGS: settings})
                    yield Variation(" ".join(choices.values()), settled(spec), choices), _SETTINGS

    def _post(self, spec: Any) -> requests.Response:
        if spec is None:
            return self._client("POST", "jobs", data="null", headers=_JSON)
        answer: requests.Response = create(self._polaris, self._client, spec)
        if answer.status_code == 201:
            end_stream(self._polaris, answer.json())
        return answer

    def _must_be_taken(self, valid: Variation) -> None:
        answer = self._post(valid.spec)
        if answer.status_code != 201:
            self.unusable.append(f"{valid.name}: {answer.text[:300]}")

    def _count(self, violation: Violation, answer: requests.Response, path: str) -> None:
        self.sent += 1
        self.distinct.add(violation.key)
        if answer.status_code not in _REFUSED:
            self.taken[violation.key].append(violation.where)
        elif answer.status_code == 400 and path and not _names(answer.json(), path):
            self.misnamed[violation.key].append(f"{violation.where}: {answer.text[:300]}")

    def _update(self) -> None:
        """Send the violations of an update of a job."""
        for method, path in (("PUT", "jobs/{}"), ("POST", "jobs/{}/status")):
            valid = Variation(f"{method} {path.format('ID')}", {"desiredExecutionStatus": "canceled"})
            for violation in violations_of(self._document, "UpdateJobStatusRequest", valid):
                job_id = self._stream()
                body = json.dumps(violation.spec)
                answer = self._client(method, path.format(job_id), data=body, headers=_JSON)
                self._count(violation, answer, violation.path)

    def _stream(self) -> str:
        """Return the id of a new job that can be updated."""
        spec = next(one.spec for one in Variations(self._document).whole() if one.choices[""] == "streaming")
        return str(create(self._polaris, self._client, patched(spec, {"replaceRunning": True})).json()["id"])

    def _queries(self) -> None:
        """Send the violations of queries. Their errors have no field that names the wrong part."""
        parameters = [{"type": "BIGINT", "value": 1}]
        request = {"query": "SELECT ? AS n", "context": {"sqlTimeZone": "UTC"}, "parameters": parameters}
        direct = {**request, "resultFormat": "object", "header": True, "typesHeader": True, "sqlTypesHeader": True}
        for path, schema, body in (
            ("query/sql", "SqlRequest", direct),
            ("query/sql/statements", "SqlRequestAsync", request),
        ):
            answer = self._client("POST", path, json=body)
            if answer.status_code != 200:
                self.unusable.append(f"POST {path}: {answer.text[:300]}")
            for violation in violations_of(self._document, schema, Variation(f"POST {path}", body)):
                answer = self._client("POST", path, data=json.dumps(violation.spec), headers=_JSON)
                self._count(violation, answer, "")

    def _tables(self) -> None:
        """Send the violations of tables. The table exists, so that a violation that is overlooked is a conflict."""
        for number, whole in enumerate(TABLES):
            valid = {**whole, "name": f"valid-{number}"}
            for method, path, status in (("POST", "tables", 201), ("PUT", f"tables/{valid['name']}", 200)):
                self._each(method, path, "TablePayload", valid, status)

    def _connections(self) -> None:
        """Send the violations of a connection. The connection exists."""
        self._each("POST", "connections", "CreateConnectionRequest", CONNECTION, 201)
        path = f"connections/{CONNECTION['name']}"
        update = {name: value for name, value in CONNECTION.items() if name != "name"}
        self._each("PATCH", path, "UpdateConnectionRequest", update, 200)

    def _each(self, method: str, path: str, schema: str, body: Spec, status: int) -> None:
        """Send a valid body, and then each of its violations."""
        answer = self._client(method, path, json=body)
        if answer.status_code != status:
            self.unusable.append(f"{method} {path}: {answer.text[:300]}")
        if method == "PUT":
            body = {**body, "version": answer.json()["version"]}
        for violation in violations_of(self._document, schema, Variation(f"{method} {path}", body)):
            answer = self._client(method, path, data=json.dumps(violation.spec), headers=_JSON)
            self._count(violation, answer, violation.path)

    def _parameters(self) -> None:
        """Send the violations of query parameters."""
        for key, call, query in violations_of_parameters(self._document):
            method, _, path = call.partition(" ")
            file = {"file": (f"{len(self.distinct)}.json", b"{}")}
            answer = self._client(method, path, params=query, files=file if method == "POST" else None)
            self._count(Violation(key, "", call, query), answer, next(iter(query)))

    def _bodies(self) -> None:
        """Send bodies that are no JSON object, or are not said to be one."""
        job_id = self._stream()
        spec: Spec = next(Variations(self._document).whole()).spec
        for method, path, body in (
            ("POST", "jobs", json.dumps(spec)),
            ("PUT", f"jobs/{job_id}", '{"desiredExecutionStatus": "canceled"}'),
            ("POST", f"jobs/{job_id}/status", '{"desiredExecutionStatus": "canceled"}'),
        ):
            call = f"{method} {path.replace(job_id, 'ID')}"
            for name, data, content_type in (
                ("no content type", body, None),
                ("another content type", body, "text/plain"),
                ("no body", "", "application/json"),
                ("cut off", body[:-2], "application/json"),
                ("two objects", body * 2, "application/json"),
            ):
                answer = self._client(method, path, data=data, headers={"Content-Type": content_type})
                self._count(Violation(f"{call}: {name}", "", call, data), answer, "")


def _names(error: dict[str, Any], path: str) -> bool:
    """Whether an error names a field, the object that holds it, or a field in it."""
    for one in (error, *error.get("details", ())):
        target = re.sub(r"\[\d+\]", "[]", one.get("target", ""))
        if target and (target.startswith(path) or path.startswith(target)):
            return True
    return False
