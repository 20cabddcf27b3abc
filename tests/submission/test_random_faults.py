"""Specs, responses, workers and markers are lost at random: a task never loads twice."""

from __future__ import annotations

import random
from datetime import datetime, timezone

import pytest

from airflow_provider_polaris.api.errors import PolarisBadRequest, PolarisUnreachable
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.submission import job_search
from airflow_provider_polaris.submission.submit_once import IN_FLIGHT_SECONDS
from tests.support.create_tasks import Task, arrived
from tests.support.specs import spec_into_a_new_table

RETRIES = 5
#: Runs of each case. 30 runs of each, in five minutes, have found no second load.
SEEDS = 3


class Sigkill(BaseException):
    pass


class Service:
    """A service and its network, which lose specs, responses and workers at random.

    A spec that was sent arrives within the time that the task waits for it.
    """

    def __init__(self, polaris, moved_clock, monkeypatch, chance, treats_marker):
        self.polaris = polaris
        self.clock = moved_clock
        self.chance = chance
        self.treats_marker = treats_marker
        self.jobs = []
        self.on_its_way = []
        moved_clock.on_sleep = self.deliver

        def create_job(hook, spec):
            return self.create(hook, spec)

        monkeypatch.setattr(PolarisHook, "create_job", create_job)

    def create(self, hook, spec):
        if "context" in spec and self.treats_marker == "refuses":
            raise PolarisBadRequest("unknown key in context", status=400)
        what = self.chance.choice(["answers", "answers", "after", "before", "late"])
        dies = what != "answers" and self.chance.random() < 0.5
        if what == "late":
            self.on_its_way.append((self.clock.time + self.chance.uniform(0, IN_FLIGHT_SECONDS - 1), spec))
        elif what != "before":
            job_id = self.arrive(spec)
            if what == "answers":
                return hook.get_job(job_id)
        raise Sigkill if dies else PolarisUnreachable("503")

    def arrive(self, spec):
        if self.treats_marker == "drops":
            spec = {name: value for name, value in spec.items() if name != "context"}
        self.jobs.append(arrived(self.polaris, spec))
        ends = self.chance.choice(["completed", "completed", "failed"])
        status = "running" if spec["type"] == "streaming" and ends == "completed" else ends
        self.polaris.script(self.jobs[-1], {}, {}, {"executionStatus": status})
        return self.jobs[-1]

    def deliver(self):
        for arrival in [arrival for arrival in self.on_its_way if arrival[0] <= self.clock.time]:
            self.on_its_way.remove(arrival)
            self.arrive(arrival[1])

    def loading(self):
        """Return the ids of the jobs that load, when each spec has arrived."""
        for at, _ in self.on_its_way:
            self.clock.time = max(self.clock.time, at)
        self.deliver()
        bodies = [self.polaris._store.jobs[job_id].body for job_id in self.jobs]
        return [body["id"] for body in bodies if body["executionStatus"] != "failed"]


@pytest.mark.parametrize("kind", ["sql", "batch", "streaming"])
@pytest.mark.parametrize("store", [True, False], ids=["3.3", "before 3.3"])
@pytest.mark.parametrize("treats_marker", ["keeps", "drops", "refuses", "is sent none"])
def test_a_task_never_loads_twice(polaris, moved_clock, monkeypatch, kind, store, treats_marker):
    ended = []
    for seed in range(SEEDS):
        chance = random.Random(f"{kind} {store} {treats_marker} {seed}")  # noqa: S311 - no secret
        job_search._FACTS.clear()
        service = Service(polaris, moved_clock, monkeypatch, chance, treats_marker)
        table, spec = spec_into_a_new_table(kind)
        for _ in range(chance.randrange(3)):
            polaris.add_job(
                type=kind, target={"type": "table", "tableName": table}, createdTimestamp="2020-01-01T00:00:00Z"
            )
        task = Task(store=store, retries=RETRIES)
        task.run_began = datetime.fromtimestamp(moved_clock.time, timezone.utc)
        outcome = None
        while task.try_number <= RETRIES:
            try:
                outcome = task.run(spec, deferrable=False, poll_interval=10, mark_jobs=treats_marker != "is sent none")
            except Sigkill:
                continue
            if outcome.kind in {"success", "PolarisJobLost"}:
                break
        loading = service.loading()
        assert len(loading) <= 1, f"seed {seed}: {loading}"
        if outcome is not None and outcome.kind == "success":
            assert loading == [outcome.xcom["job_id"]]
        ended.append(outcome.kind if outcome else "Sigkill")
    if treats_marker == "keeps" and kind != "streaming":
        assert "PolarisJobLost" not in ended
