"""Create jobs from specs that schemathesis derives from the document, and send it random queries.

A random spec is of the right shape and nearly always without a meaning, so no job is created. Therefore the fields that
need a value with a meaning get one. All other fields keep their random value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from airflow_provider_polaris.local import LocalPolaris
from conformance.client import Client
from conformance.document import PROJECT, SCHEMAS, Document
from conformance.jobs import create, end_stream, read_job
from conformance.meaning import NOT_FOR, REQUIRED_IN_WORDS, SOURCES, sample, settled
from conformance.places import Spec, nodes, put
from conformance.specs import Variations

#: At least this many different jobs must be created.
LEAST_JOBS = 100
#: How many random specs there are of each type, repetitions included.
_SPECS = {"batch": 120, "streaming": 60, "sql": 30, "delete_data": 30, "drop_table": 15, "restore_data": 15}
_QUERIES = 50
#: The largest offset of a page: the document does not say that it has more than 32 bits.
_LARGEST_OFFSET = 2**31 - 1
#: Fields that keep their random value although :data:`conformance.specs.SAMPLES` has one.
_KEPT = ("context", "data", "flattenSpec", "schema", "columnName", "expression", "isAggregation", "value", "name")


class RandomJobs:
    """The run of all random requests.

    :ivar created: how many different specs became a job, by type.
    :ivar refused: the specs that were refused, and why.
    :ivar queries: how many random queries were sent.
    """

    def __init__(self, polaris: LocalPolaris, client: Client, document: Document) -> None:
        self._polaris = polaris
        self._client = client
        self._document = document
        self._sources = {
            one.choices[""]: one.spec["source"] for one in Variations(document).whole() if "source" in one.spec
        }
        self.created: Counter[str] = Counter()
        self.refused: list[str] = []
        self.queries = 0

    def run(self) -> None:
        """Send random specs, and random queries of the lists."""
        seen: set[str] = set()

        def send_spec(case: Any) -> None:
            spec = self._with_a_meaning(case.body)
            if repr(spec) not in seen:
                seen.add(repr(spec))
                self._send(spec)

        def send_query(case: Any) -> None:
            path = case.operation.path.removeprefix(f"{PROJECT}/")
            query = dict(case.query or {})
            if query.get("paginationOffset", 0) > _LARGEST_OFFSET:
                query["paginationOffset"] = _LARGEST_OFFSET
            answer = self._client("GET", path, params=query)
            self.queries += 1
            if answer.status_code != 200:
                self.refused.append(f"GET {path} {query}: {answer.text[:300]}")

        for kind, reference in self._document.schemas["CreateJobRequest"]["discriminator"]["mapping"].items():
            self._each(self._api_of(reference), f"{PROJECT}/jobs", "POST", _SPECS[kind], send_spec)
        for path in ("jobs", "files", "tables"):
            self._each(self._document.api, f"{PROJECT}/{path}", "GET", _QUERIES, send_query)

    def _api_of(self, reference: str) -> dict[str, Any]:
        """Return the document with one type of job only: otherwise most specs are of the types with few fields."""
        api = deepcopy(self._document.api)
        body = api["paths"][f"{PROJECT}/jobs"]["post"]["requestBody"]
        body["content"]["application/json"]["schema"] = {"$ref": reference}
        return api

    def _each(self, api: dict[str, Any], path: str, method: str, examples: int, send: Callable[[Any], None]) -> None:
        """Call a function with random requests, the same ones in each run."""
        strategy = schemathesis.openapi.from_dict(api)[path][method].as_strategy()
        limits = settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        limits(given(strategy)(send))()

    def _send(self, spec: Spec) -> None:
        answer = create(self._polaris, self._client, spec)
        if answer.status_code != 201:
            self.refused.append(f"{spec}: {answer.text[:300]}")
            return
        job = answer.json()
        self.created[job["type"]] += 1
        read_job(self._client, job["id"])
        end_stream(self._polaris, job)

    def _with_a_meaning(self, spec: Spec) -> Spec:
        """Return a spec of the right shape as a spec that has a meaning."""
        kind = spec["type"]
        source = spec.get("source", {})
        if kind in SOURCES and source["type"] not in SOURCES[kind]:
            spec = {**spec, "source": self._sources[kind]}
        elif kind in SOURCES and (source.get("formatSettings") or {}).get("format") in NOT_FOR[kind]:
            spec = {**spec, "source": {**source, "formatSettings": {"format": "nd-json"}}}
        if kind in REQUIRED_IN_WORDS:
            spec = {**spec, **{name: sample(name) for name in REQUIRED_IN_WORDS[kind]}}
        for node in list(nodes(self._document, {"$ref": f"{SCHEMAS}CreateJobRequest"}, spec)):
            value = sample(node.path)
            if value is not None and node.path.rpartition(".")[2] not in _KEPT:
                spec = put(spec, node.place, value)
        return settled(spec)
