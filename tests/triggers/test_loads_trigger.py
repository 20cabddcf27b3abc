"""PolarisLoadsTrigger: an event for each good load of a table, none lost, and none without an end."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import datetime, timezone
from functools import partial

import pytest

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisUsageError
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.virtual_time import EPOCH

if not AIRFLOW_3:
    pytest.skip("Airflow 2.11 has no event-driven schedules", allow_module_level=True)

from airflow_provider_polaris.triggers.loads import KEY, STORE_SECONDS, PolarisLoadsTrigger

pytestmark = pytest.mark.usefixtures("moved_clock")
INTERVAL = 60.0


def stamp(seconds: float) -> str:
    return f"{datetime.fromtimestamp(EPOCH + seconds, timezone.utc):%Y-%m-%dT%H:%M:%S.%f}Z"


def load(polaris, completed, *, began=None, table="orders", metrics=None, **body):
    began = completed - 5 if began is None else began
    return polaris.add_job(
        metrics=metrics,
        **{
            "type": "batch",
            "executionStatus": "completed",
            "target": {"type": "table", "tableName": table},
            "createdTimestamp": stamp(began),
            "lastUpdatedTimestamp": stamp(began),
            "completedTimestamp": stamp(completed),
            **body,
        },
    )


class Store(dict):
    """The methods of the store of an asset that are used. It holds only JSON, like the original."""

    def set(self, key, value):
        self[key] = json.dumps(value)

    def get(self, key, default=None):
        return json.loads(self[key]) if key in self else default


class Triggerer:
    """Runs a trigger for some time. An event counts as stored by Airflow a second after it was fired."""

    def __init__(self, store=None):
        self.store = store
        self.stored = []
        self.at = []

    @property
    def job_ids(self):
        return [payload["job_id"] for payload in self.stored]

    async def run(self, seconds, do=(), **options):
        """Run a trigger for so many seconds, and then lose it.

        :param do: pairs of seconds and of a function to call then.
        """
        watch = PolarisLoadsTrigger("orders", **{"poll_interval": INTERVAL, **options})
        path, kwargs = watch.serialize()
        assert json.loads(json.dumps(kwargs)) == kwargs
        again = PolarisLoadsTrigger(**kwargs)
        assert again.serialize() == (path, kwargs)
        again.asset_state_store = self.store
        tasks = [asyncio.create_task(self._fire(again)), *(asyncio.create_task(_at(*one)) for one in do)]
        await asyncio.sleep(seconds)
        assert not tasks[0].done(), "the trigger never returns and never raises"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fire(self, trigger):
        async for event in trigger.run():
            asyncio.get_running_loop().call_later(1.0, self._keep, event.payload, asyncio.current_task())

    def _keep(self, payload, task):
        if not task.done():
            json.dumps(payload)
            self.stored.append(payload)
            self.at.append(clock.now())


async def _at(seconds, do):
    await asyncio.sleep(seconds)
    do()


def play(*runs, store=None):
    """Run triggers one after another. Return the triggerer."""
    triggerer = Triggerer(store)

    async def run():
        for seconds, options in runs:
            await triggerer.run(seconds, **options)

    asyncio.run(run())
    return triggerer


class TestEvents:
    def test_each_load_after_the_start_fires_one_event_with_the_dict_of_the_tasks(self, polaris):
        load(polaris, -20)
        load(polaris, -90_000)
        jobs = []
        do = [
            (100, lambda: jobs.append(load(polaris, 100, metrics={"numRowsProcessed": 7}))),
            (500, lambda: jobs.append(load(polaris, 500))),
            (500, lambda: load(polaris, 500, table="customers")),
            (500, lambda: load(polaris, 500, executionStatus="failed")),
        ]
        seen = play((1000, {"do": do}), store=Store())
        assert seen.job_ids == jobs
        assert seen.stored[0]["metrics"]["numRowsProcessed"] == 7
        assert seen.stored[0]["table"] == "orders"

    def test_a_load_that_runs_at_the_start_fires_an_event_when_it_completes(self, polaris):
        job = load(polaris, 0, began=-7200, executionStatus="running", completedTimestamp=None)
        seen = play((1000, {"do": [(300, lambda: polaris.set_status(job, "completed"))]}))
        assert seen.job_ids == [job]

    def test_since_also_fires_for_loads_of_the_past(self, polaris):
        load(polaris, -7200)
        jobs = [load(polaris, -3000), load(polaris, -100)]
        assert play((200, {"since": stamp(-3600)})).job_ids == jobs

    def test_a_refused_load_is_logged_and_fires_no_event(self, polaris, task_log):
        bad = []
        do = [
            (100, lambda: bad.append(load(polaris, 100, metrics={"numRowsProcessed": 5, "numRowsSkippedByError": 3})))
        ]
        seen = play((600, {"do": do, "max_rows_skipped_by_error": 0}), store=Store())
        assert seen.stored == []
        lines = [line for line in task_log() if "Refused, and no event: orders lost 3 rows" in line]
        assert [bad[0] in line for line in lines] == [True]

    def test_counters_that_come_late_do_not_refuse_a_load(self, polaris):
        jobs = []

        def complete():
            jobs.append(load(polaris, 100, metrics={"numRowsProcessed": 0}))

        do = [(100, complete), (190, lambda: polaris.set_metrics(jobs[0], numRowsProcessed=50))]
        assert play((600, {"do": do, "min_rows_processed": 10}), store=Store()).job_ids == jobs

    def test_a_job_that_is_gone_fires_no_event(self, polaris):
        def complete():
            job = load(polaris, 100)
            polaris.answer_next(9, status=404, body='{"code": "NotFound", "message": "x"}', match=f"/jobs/{job}")

        assert play((900, {"do": [(100, complete)]}), store=Store()).stored == []


class TestOutages:
    def test_an_hour_of_503_loses_no_load_and_logs_once_in_15_minutes(self, polaris, task_log):
        jobs = []

        def outage():
            jobs.append(load(polaris, 400))
            polaris.fail_next(100_000, status=503)

        do = [(300, outage), (3900, polaris.clear_faults)]
        seen = play((5000, {"do": do}), store=Store())
        assert seen.job_ids == jobs
        lines = [line for line in task_log() if "The wait continues after a failed poll" in line]
        assert 4 <= len(lines) <= 5

    @pytest.mark.parametrize("status", [400, 401, 403, 404])
    def test_an_error_that_ends_other_waits_does_not_end_this_one(self, polaris, status):
        jobs = []
        do = [
            (300, lambda: polaris.fail_next(100_000, status=status)),
            (900, lambda: jobs.append(load(polaris, 900))),
            (1800, polaris.clear_faults),
        ]
        assert play((3000, {"do": do}), store=Store()).job_ids == jobs

    def test_an_undefined_connection_does_not_end_the_trigger(self, monkeypatch, polaris, task_log):
        seen = play((3000, {"polaris_conn_id": "undefined"}), store=Store())
        assert seen.stored == []
        assert 1 <= sum("is not defined" in line for line in task_log()) <= 5

    def test_a_fault_of_our_own_does_not_end_the_trigger(self, polaris, monkeypatch):
        from airflow_provider_polaris.polling.loads_plan import LoadsWait

        right, faults = LoadsWait.heard, [ZeroDivisionError("a fault")]

        def heard(*args, **kwargs):
            result = right(*args, **kwargs)
            if len(args[1]) and faults:
                raise faults.pop()
            return result

        monkeypatch.setattr(LoadsWait, "heard", heard)
        jobs = []
        do = [(300, lambda: jobs.append(load(polaris, 300))), (900, lambda: jobs.append(load(polaris, 900)))]
        assert play((3000, {"do": do}), store=Store()).job_ids == jobs
        assert not faults

    def test_a_store_that_fails_does_not_end_the_trigger(self, polaris):
        class Broken(Store):
            def set(self, key, value):
                raise RuntimeError("no store today")

        jobs = []
        do = [(300, lambda: jobs.append(load(polaris, 300))), (900, lambda: jobs.append(load(polaris, 900)))]
        assert play((3000, {"do": do}), store=Broken()).job_ids == jobs


class TestRestarts:
    def test_a_load_during_a_restart_fires_an_event_afterwards(self, polaris):
        store = Store()
        first = play((500, {}), store=store)
        during = load(polaris, 505)
        second = play((300, {}), store=store)
        assert (first.job_ids, second.job_ids) == ([], [during])

    def test_a_consumer_that_was_paused_for_days_catches_up(self, polaris, moved_clock):
        store = Store()
        play((500, {"do": [(100, lambda: load(polaris, 100))]}), store=store)
        jobs = [load(polaris, 86_400 * day) for day in (1, 2, 3)]
        for n in range(150):
            load(polaris, 86_400 + n, table="customers")
        moved_clock.time += 4 * 86_400
        assert play((300, {}), store=store).job_ids == jobs

    def test_without_a_store_the_trigger_says_so_and_starts_with_new_loads(self, polaris, task_log):
        play((500, {}))
        load(polaris, 505)
        jobs = []
        assert play((300, {"do": [(100, lambda: jobs.append(load(polaris, 600)))]})).job_ids == jobs
        assert any("has no store for the state of an asset" in line for line in task_log())

    def test_several_assets_with_the_same_trigger_have_no_state(self, polaris, task_log):
        class Several(Store):
            def get(self, key, default=None):
                raise ValueError("Task has 2 concrete inlets and outlets")

        jobs = []
        do = [(100, lambda: jobs.append(load(polaris, 100)))]
        assert play((300, {"do": do}), store=Several()).job_ids == jobs
        assert any("Task has 2 concrete inlets" in line for line in task_log())

    def test_a_state_that_cannot_be_read_is_a_first_start(self, polaris, task_log):
        store = Store()
        store.set(KEY, {"completed_after": 7})
        load(polaris, -20)
        jobs = []
        do = [(100, lambda: jobs.append(load(polaris, 100)))]
        assert play((300, {"do": do}), store=store).job_ids == jobs
        assert any("The state of the trigger cannot be read" in line for line in task_log())

    def test_the_state_is_stored_from_time_to_time_without_loads(self, polaris):
        writes = []

        class Counting(Store):
            def set(self, key, value):
                writes.append(value)
                super().set(key, value)

        play((4 * STORE_SECONDS, {}), store=Counting())
        assert 3 <= len(writes) <= 6

    @pytest.mark.parametrize("seed", range(12))
    def test_a_triggerer_that_is_lost_at_any_moment_loses_no_event_and_repeats_only_the_last_interval(
        self, polaris, moved_clock, seed
    ):
        rng = random.Random(seed)  # noqa: S311 - no key
        triggerer = Triggerer(Store())
        jobs = {}
        #: For each run: when it was lost, and when each of its events was fired.
        runs = []

        async def run():
            await triggerer.run(90)  # the first start, with its state
            while moved_clock.time < EPOCH + 5000:
                now, seen = moved_clock.time - EPOCH, len(triggerer.stored)
                lasts = rng.choice([3.0, 40.0, 90.0, 200.0, 500.0]) * rng.uniform(0.5, 1.5)
                moments = [rng.uniform(0, lasts) for _ in range(rng.randrange(5))]
                add = lambda at, now=now: jobs.update({load(polaris, now + at): now + at})  # noqa: E731
                await triggerer.run(lasts, [(at, partial(add, at)) for at in moments])
                runs.append((moved_clock.time, list(zip(triggerer.job_ids[seen:], triggerer.at[seen:], strict=True))))
            await triggerer.run(400)

        asyncio.run(run())
        assert jobs
        assert not jobs.keys() - set(triggerer.job_ids), "an event was lost"
        known = set()
        for lost_at, fired in runs:
            assert not known & {job for job, _ in fired}, "an event of an older interval was repeated"
            known |= {job for job, at in fired if lost_at - at > INTERVAL + 2}


class TestArguments:
    @pytest.mark.parametrize(
        "options",
        [
            {"table": ""},
            {"table": "t", "job_types": "streaming"},
            {"table": "t", "since": "yesterday"},
            {"table": "t", "min_rows_processed": -1},
            {"table": "t", "max_error_ratio": 2},
            {"table": "t", "poll_interval": 0},
            {"table": "t", "fail_on_warnings": ["No Code"]},
        ],
        ids=str,
    )
    def test_an_invalid_argument_fails_when_the_dag_file_is_parsed(self, options):
        with pytest.raises(PolarisUsageError):
            PolarisLoadsTrigger(**options)

    def test_a_watcher_of_airflow_takes_the_trigger(self):
        from airflow.sdk import Asset, AssetWatcher

        watcher = AssetWatcher(name="orders", trigger=PolarisLoadsTrigger("orders", max_rows_skipped_by_error=0))
        assert Asset("orders_loaded", watchers=[watcher]).watchers == [watcher]
