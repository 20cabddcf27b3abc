"""A task that creates a job, over several tries, and the requests that it has sent."""

from __future__ import annotations

import json
import time
import uuid
from types import SimpleNamespace

from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator
from tests.support.airflow_versions import FakeTaskInstance, context_of
from tests.support.run_task import outcome_of, run_task
from tests.support.specs import SQL

#: Options that leave enough time, with a moved clock, for rows that the local Polaris reads in real time.
LONG = {"poll_interval": 1, "timeout": 10**8}


class FakeStore(dict):
    """The methods of Airflow 3.3's task state store that are used. It holds only JSON, like the original."""

    def set(self, key, value):
        self[key] = json.dumps(value)

    def get(self, key, default=None):
        return json.loads(self[key]) if key in self else default


class Task:
    """One task instance over its tries, as Airflow counts them."""

    def __init__(self, *, store=True, retries=2):
        self.retries = retries
        self.run_id = f"run-{uuid.uuid4()}"
        self.store = FakeStore() if store else None
        self.try_number = 0
        self.max_tries = retries
        self.run_began = None

    def clear(self, *, running=False):
        """Clear the task as a user does. The next try of a running task counts as a retry."""
        if not running:
            self.max_tries = self.try_number + self.retries

    def context(self):
        self.try_number += 1
        ti = FakeTaskInstance()
        ti.try_number, ti.max_tries, ti.run_id = self.try_number, self.max_tries, self.run_id
        context = {**context_of(ti), "dag_run": SimpleNamespace(start_date=self.run_began)}
        return context | ({} if self.store is None else {"task_state_store": self.store})

    def run(self, spec=SQL, between=None, **options):
        def make():
            return PolarisCreateJobOperator(
                task_id="load", job_spec=spec, retries=self.retries, **{"poll_interval": 60, "timeout": 600, **options}
            )

        return run_task(make, between=between, context=self.context())


class Running:
    """A task on a worker whose ``on_kill`` is called during its wait, as by a signal."""

    def __init__(self, polaris, moved_clock, **options):
        self.polaris = polaris
        self.store = FakeStore()
        self.task = Task()
        self.task.store = self.store
        self.operator = PolarisCreateJobOperator(
            task_id="load", retries=2, deferrable=False,
            **{"job_spec": SQL, "poll_interval": 60, "timeout": 600, **options},
        )  # fmt: skip
        self.on_kill_took = None
        self.clock = moved_clock

    def kill(self):
        began = time.monotonic()
        self.operator.on_kill()
        self.on_kill_took = time.monotonic() - began

    def run(self, kill_at=2):
        def on_sleep():
            if len(self.clock.slept) == kill_at:
                self.kill()

        self.clock.on_sleep = on_sleep if kill_at else None
        context = self.task.context()
        return outcome_of(lambda: self.operator.execute(context), context["ti"])


def arrived(polaris, spec, /, **fields):
    """Create the job of a spec whose request was lost or delayed. Return its id."""
    with polaris._store.lock:
        job = polaris._store.submit(spec)
        job.body.update({"health": {"status": "ok"}, **fields})
    return job.body["id"]


def posts(polaris):
    return [request.body for request in polaris.requests if (request.method, request.path[-5:]) == ("POST", "/jobs")]


def puts(polaris):
    return [request for request in polaris.requests if request.method == "PUT"]


def jobs_of(hook, table="by_sql"):
    return list(hook.list_jobs(target_table_name=table))
