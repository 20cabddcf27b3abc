"""Asynchronous queries of a local Polaris that run when a test says so."""

from __future__ import annotations

from contextlib import contextmanager

from airflow_provider_polaris.local.engine.query.querying import QueryFailure
from airflow_provider_polaris.operators.polaris import PolarisQueryOperator
from airflow_provider_polaris.triggers.queries import PolarisQueryTrigger
from tests.support.create_tasks import Task
from tests.support.run_task import run_task

#: A query of two rows, which needs no table.
SQL = "SELECT 1 AS n, 'a' AS city UNION ALL SELECT 2 AS n, 'b' AS city"
PATH = "/query/sql/statements"


class HeldQueries:
    """The queries of a local Polaris. Each is accepted, and stays so until a test ends it."""

    def __init__(self, polaris):
        self._polaris = polaris
        self.queries = []

    def submit(self, run):
        """Keep a query, as the threads of the local Polaris would run it."""
        self.queries.append(run.__self__)

    def shutdown(self, *, wait):
        """Do nothing: there is no thread."""

    @property
    def ids(self):
        return [query.id for query in self.queries]

    @property
    def stopped(self):
        """The ids of the queries that were canceled."""
        return [query.id for query in self.queries if query._is_stopped]

    def set_running(self):
        for query in self.queries:
            if not query.is_over:
                query.state = "RUNNING"

    def run(self):
        """Run all queries to their end."""
        for query in self.queries:
            if not query.is_over:
                query.run()

    def fail(self, category="RUNTIME_FAILURE", reason="why"):
        """Let all queries fail."""
        for query in self.queries:
            query.failure, query.state = QueryFailure(category, reason), "FAILED"

    def forget(self):
        """Remove all queries from the local Polaris."""
        for query in self.queries:
            self._polaris._statements._by_id.pop(query.id, None)


@contextmanager
def held(polaris, monkeypatch):
    """Hold the asynchronous queries that start in this context."""
    queries = HeldQueries(polaris)
    with monkeypatch.context() as patch:
        patch.setattr(polaris._statements, "_workers", queries)
        yield queries
        for query in queries.queries:
            if not query.is_over:
                query.stop()
                query.run()  # releases what the query holds


def requests_of(polaris, method, end=""):
    """Return the requests on asynchronous queries with this method, whose path ends so."""
    return [one for one in polaris.requests if one.method == method and PATH in one.path and one.path.endswith(end)]


class QueryTask(Task):
    """One task instance that runs a query, over its tries."""

    def make(self, sql=SQL, **options):
        options = {"poll_interval": 60, "timeout": 600, **options}
        return PolarisQueryOperator(task_id="query", sql=sql, retries=self.retries, **options)

    def run(self, sql=SQL, between=None, **options):
        return run_task(lambda: self.make(sql, **options), between=between, context=self.context())


def query_trigger(query_id, **options):
    """Return a trigger with arguments that suit most tests."""
    defaults = {
        "polaris_conn_id": "polaris_default",
        "project_id": None,
        "poll_interval": 60.0,
        "deadline": 9e12,
        "max_unreachable": 3600.0,
    }
    return PolarisQueryTrigger(query_id=query_id, **{**defaults, **options})
