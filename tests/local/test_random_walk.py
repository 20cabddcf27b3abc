"""The invariants of the API hold after any requests in any order."""

from __future__ import annotations

import json
import tempfile

import pytest
import requests
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from airflow_provider_polaris.local import LocalPolaris
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.specs import S3, SQL, STREAMING, T, rows, spec_of

OVER = {"completed", "failed", "canceled"}
STATUSES = ["pending", "running", "idle", "suspended", "unknown", *sorted(OVER)]
WORDS = st.sampled_from(["running", "suspended", "canceled", "completed", "", None, 7])
SPECS = st.sampled_from(
    [
        spec_of(rows(*[{"timestamp": T}] * 900, "broken")),
        spec_of("", maxParseExceptions=0),
        SQL,
        S3,
        STREAMING,
        {"type": "delete_data", "deleteAll": True, "target": S3["target"]},
        {"type": "sql"},
    ]
)


class Walk(RuleBasedStateMachine):
    """A client that sends random requests."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.session = requests.Session()
        self.start()
        self.polaris.add_table("cities")
        self.seen: dict[str, dict] = {}
        self.counters: dict[str, dict] = {}
        self.progress: dict[str, float] = {}

    def start(self, data=None) -> None:
        self.polaris = LocalPolaris(rows_per_second=3000, data=data).__enter__()
        self.session.headers["Authorization"] = f"Basic {self.polaris.api_key}"
        self.base = f"{self.polaris.url}/v1/projects/{self.polaris.project_id}"

    def teardown(self) -> None:
        self.session.close()
        self.polaris.__exit__()
        self.folder.cleanup()

    def call(self, method, path, **options):
        answer = self.session.request(method, f"{self.base}/{path}", timeout=20, **options)
        is_query = path == "query/sql"
        assert answer.status_code in {200, 201, 400, 404, *([501] if is_query else [])}, answer.text
        if answer.status_code >= 400:
            error = answer.json()
            code, message = ("errorCode", "errorMessage") if is_query else ("code", "message")
            assert error[code], error[message]
        return answer

    def note(self, job: dict) -> None:
        """Check that a job that is over stays over, keeps its type and target, and that its time only goes forward."""
        before = self.seen.setdefault(job["id"], job)
        assert job["createdTimestamp"] == before["createdTimestamp"]
        assert job["lastUpdatedTimestamp"] >= before["lastUpdatedTimestamp"]
        assert (job["type"], job["target"]) == (before["type"], before["target"])
        if before["executionStatus"] in OVER:
            assert job["executionStatus"] == before["executionStatus"]
            assert job.get("completedTimestamp") == before.get("completedTimestamp")
        assert (job["executionStatus"] == "completed") == ("completedTimestamp" in job)
        self.seen[job["id"]] = job

    @rule(target=jobs, spec=SPECS, kind=st.sampled_from([None, "complete", "fail", "hang", "flap"]))
    def create(self, spec, kind):
        if kind:
            self.polaris.next_job(kind)
        answer = self.call("POST", "jobs", json=spec)
        self.polaris.clear_faults()
        if answer.status_code != 201:
            return multiple()
        self.note(answer.json())
        return answer.json()["id"]

    @rule(job_id=jobs, wish=WORDS, by_put=st.booleans())
    def update(self, job_id, wish, by_put):
        method, path = ("PUT", f"jobs/{job_id}") if by_put else ("POST", f"jobs/{job_id}/status")
        answer = self.call(method, path, json={"desiredExecutionStatus": wish})
        was_over = self.seen[job_id]["executionStatus"] in OVER
        assert answer.status_code == 400 or not was_over
        if by_put and answer.status_code == 200:
            self.note(answer.json())

    @rule(job_id=jobs)
    def reset(self, job_id):
        self.call("POST", f"jobs/{job_id}/reset")

    @rule(job_id=jobs)
    def read(self, job_id):
        self.note(self.call("GET", f"jobs/{job_id}").json())

    @rule(job_id=jobs)
    def count(self, job_id):
        """Check that counters and progress only grow."""
        totals = self.call("GET", f"jobs/{job_id}/metrics").json()["totals"]
        for name, value in self.counters.setdefault(job_id, totals).items():
            assert totals[name] >= value
        self.counters[job_id] = totals
        answer = self.call("GET", f"jobs/{job_id}/progress")
        if answer.status_code == 200:
            progress = answer.json()["overallProgress"]
            assert 0 <= self.progress.get(job_id, 0.0) <= progress <= 1
            self.progress[job_id] = progress

    @rule(
        limit=st.integers(1, 5),
        order=st.sampled_from(["ASC", "DESC"]),
        column=st.sampled_from(["created_date_time", "type", "target_table_name", "created_by_user_name"]),
    )
    def pages(self, limit, order, column):
        """Check that the pages of a list that is sorted by a constant field have each job once."""
        query = f"jobs?sortColumn={column}&sortOrder={order}"
        whole = [job["id"] for job in self.call("GET", f"{query}&paginationLimit=1000").json()["values"]]
        assert sorted(whole) == sorted(self.seen)
        paged, more = [], True
        while more:
            page = self.call("GET", f"{query}&paginationLimit={limit}&paginationOffset={len(paged)}").json()
            paged += [job["id"] for job in page["values"]]
            more = page["moreResultsAvailable"]
            assert len(page["values"]) == limit or not more
        assert paged == whole

    @rule(statuses=st.lists(st.sampled_from(STATUSES), max_size=3), kinds=st.lists(st.sampled_from(["batch", "sql"])))
    def filters(self, statuses, kinds):
        """Check that each job in a filtered list matches the filter."""
        query = "&".join([*(f"executionStatus={one}" for one in statuses), *(f"type={kind}" for kind in kinds)])
        for job in self.call("GET", f"jobs?paginationLimit=1000&{query}").json()["values"]:
            self.note(job)
            assert not statuses or job["executionStatus"] in statuses
            assert not kinds or job["type"] in kinds

    @rule(body=st.one_of(st.binary(max_size=40), st.recursive(st.none() | st.integers(), st.lists).map(json.dumps)))
    def send_an_invalid_body(self, body):
        answer = self.call("POST", "jobs", data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400

    @rule()
    def query(self):
        """Check that a query finds as many rows as a table reports, or says that it has not all of them."""
        for name in [table["name"] for table in self.call("GET", "tables").json()["values"]]:
            text = f'SELECT COUNT(*) AS n FROM "{name}"'  # noqa: S608 - a name of this test
            before = self.call("GET", f"tables/{name}")
            answer = self.call("POST", "query/sql", json={"query": text})
            rows, after = (one.json().get("totalRows") for one in (before, self.call("GET", f"tables/{name}")))
            if before.status_code == 200 and rows == after:  # no job has ended in between
                if answer.status_code == 200:
                    assert answer.json() == [{"n": rows}]
                else:
                    assert answer.json()["category"] == "UNSUPPORTED"

    @rule(job_id=consumes(jobs))
    def forget(self, job_id):
        self.polaris.remove_job(job_id)
        for kept in (self.seen, self.counters, self.progress):
            kept.pop(job_id, None)
        assert self.call("GET", f"jobs/{job_id}").status_code == 404

    @invariant()
    def each_table_is_available_with_no_negative_number_of_rows(self):
        for table in self.call("GET", "tables").json()["values"]:
            assert table["totalRows"] >= 0
            assert table["availability"] == "available"


class WalkWithRestarts(Walk):
    """A client whose server keeps its state, and is stopped and started again."""

    def start(self, data=None) -> None:
        super().start(self.folder.name)

    @rule()
    def restart(self):
        """Check that each job, table and row is there after a restart. A job that had not ended starts again."""
        self.polaris.__exit__()
        tables = self.polaris._store.tables.list_all()
        self.start()
        self.counters, self.progress = {}, {}
        found = {job["id"]: job for job in self.call("GET", "jobs?paginationLimit=1000").json()["values"]}
        assert found.keys() == self.seen.keys()
        for job in found.values():
            self.note(job)
        after = {table["name"]: table for table in self.call("GET", "tables").json()["values"]}
        assert after.keys() >= {table["name"] for table in tables if table.get("totalRows")}


def _test(walk, examples):
    case = pytest.mark.skipif(not AIRFLOW_3, reason="it does not depend on the version of Airflow")(walk.TestCase)
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,  # without it, a run fails by chance, and not for a change
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    return case


TestWalk, TestWalkWithRestarts = _test(Walk, 15), _test(WalkWithRestarts, 10)
