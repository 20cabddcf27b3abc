"""PolarisLoadsTrigger: an event for each good load of a table, none lost, and none without an end."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
from datetime import datetime, timezone
from functools import partial

import pytest

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisUsageError
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.local_calls import connection_without_page
from tests.support.virtual_time import EPOCH

if not AIRFLOW_3:
    pytest.skip("Airflow 2.11 has no event-driven schedules", allow_module_level=True)

from airflow_provider_polaris.triggers.loads import STORE_SECONDS, PolarisLoadsTrigger

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
        watch = PolarisLoadsTrigger(**{"table": "orders", "poll_interval": INTERVAL, **options})
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

    def test_since_in_the_future_fires_only_for_loads_after_that(self, polaris):
        jobs = []
        do = [(100, lambda: load(polaris, 100)), (900, lambda: jobs.append(load(polaris, 900)))]
        assert play((2000, {"do": do, "since": stamp(600)}), store=Store()).job_ids == jobs

    def test_since_without_a_time_zone_is_utc(self, polaris):
        jobs = [load(polaris, -3000)]
        since = datetime.fromtimestamp(EPOCH - 3600, timezone.utc).replace(tzinfo=None)
        assert play((200, {"since": since}), store=Store()).job_ids == jobs

    @pytest.mark.parametrize("table", ["a/b", "Bestellungen ä", "x'; drop table", "%2e", "?", "-", "😀", "T" * 255])
    def test_a_table_may_have_any_name(self, polaris, table):
        jobs = []
        do = [(100, lambda: jobs.append(load(polaris, 100, table=table))), (100, lambda: load(polaris, 100))]
        assert play((300, {"do": do, "table": table}), store=Store()).job_ids == jobs

    def test_two_triggers_of_one_table_judge_each_load_for_themselves(self, polaris):
        strict, lax = Triggerer(Store()), Triggerer(Store())
        jobs = []

        async def run():
            do = [(100, lambda: jobs.append(load(polaris, 100, metrics={"numRowsProcessed": 7})))]
            await asyncio.gather(strict.run(300, do, min_rows_processed=10), lax.run(300, min_rows_processed=5))

        asyncio.run(run())
        assert (strict.job_ids, lax.job_ids) == ([], jobs)

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


class TestManyTables:
    COUNT = 60
    HOUR = 3600

    def watch(self, do=()):
        """Run a trigger for each table for an hour and a bit. Return the triggerers."""
        triggerers = [Triggerer(Store()) for _ in range(self.COUNT)]

        async def run():
            runs = [one.run(self.HOUR + 100, table=f"table {n}") for n, one in enumerate(triggerers)]
            await asyncio.gather(*runs, *(_at(*one) for one in do))

        asyncio.run(run())
        return triggerers

    def requests(self, polaris):
        lists = sum(seen.path.endswith("/jobs") for seen in polaris.requests)
        return lists, len(polaris.requests) - lists

    def test_many_watched_tables_share_one_request_for_each_interval(self, polaris):
        for n in range(300):
            load(polaris, -30 * n, table="of others")
        self.watch()
        lists, others = self.requests(polaris)
        assert self.HOUR / INTERVAL <= lists <= self.HOUR / (0.9 * INTERVAL) + 5
        assert others == 0

    def test_loads_that_run_for_hours_cost_one_more_request_for_each_interval(self, polaris):
        for n in range(20):
            load(polaris, 0, began=-9000, table=f"table {n}", executionStatus="running", completedTimestamp=None)
        for n in range(300):
            load(polaris, -30 * n, table="of others")
        self.watch()
        lists, others = self.requests(polaris)
        assert lists <= 2 * (self.HOUR / (0.9 * INTERVAL) + 5)
        assert others == 0

    def test_a_load_costs_the_requests_for_its_job_and_its_counters(self, polaris):
        jobs = []
        do = [
            (300 + 50 * n, lambda n=n: jobs.append(load(polaris, 300 + 50 * n, table=f"table {n}")))
            for n in range(self.COUNT)
        ]
        seen = self.watch(do)
        assert [one.job_ids for one in seen] == [[job] for job in jobs]
        lists, others = self.requests(polaris)
        assert lists <= 2 * (self.HOUR / (0.9 * INTERVAL) + 5)
        assert others == 2 * self.COUNT


class TestOutages:
    def test_an_hour_of_503_loses_no_load_and_logs_once_in_15_minutes(self, polaris, task_log):
        jobs = []

        def outage():
            jobs.append(load(polaris, 400))
            polaris.fail_next(100_000, status=503)

        do = [(300, outage), (3900, polaris.clear_faults)]
        seen = play((5000, {"do": do}), store=Store())
        assert seen.job_ids == jobs
        lines = [line for line in task_log() if "The trigger continues after a failed poll" in line]
        assert 4 <= len(lines) <= 5

    @pytest.mark.parametrize(
        "answer",
        [
            *({"status": status} for status in [301, 400, 401, 403, 404, 418, 429, 500, 599]),
            {"status": 200, "body": "<html>"},
            {"status": 200, "body": "[]"},
            {"status": 200, "body": "null"},
            {"status": 200, "body": '{"values": 7}'},
            {"status": 200, "body": '{"values": [7]}'},
            {"status": 200, "body": '{"values": [{"target": {"tableName": "orders"}}]}'},
            {"status": 200, "body": '{"values": [], "moreResultsAvailable": true}'},
            {"status": 200, "body": "[" * 100_000},
        ],
        ids=lambda answer: f"{answer['status']} {answer.get('body', '')[:60]}",
    )
    def test_an_hour_of_bad_answers_loses_no_load_and_logs_once_in_15_minutes(self, polaris, task_log, answer):
        jobs, requests = [], []
        do = [
            (300, lambda: polaris.answer_next(100_000, **{"body": "{}", **answer})),
            (900, lambda: jobs.append(load(polaris, 900))),
            (3900, polaris.clear_faults),
            (3900, lambda: requests.append(len(polaris.requests))),
        ]
        assert play((5000, {"do": do}), store=Store()).job_ids == jobs
        lines = [line for line in task_log() if "The trigger continues after" in line or "The poll of" in line]
        assert 4 <= len(lines) <= 5
        assert not any("five minutes" in line or "second poll" in line for line in lines), "no limit ends the trigger"
        assert requests[0] <= 3900 / (0.9 * INTERVAL) + 5, "no restart loop"

    def test_a_row_with_an_odd_table_is_left_out(self, polaris):
        jobs = []
        do = [
            (90, lambda: load(polaris, 90, target={"type": "table", "tableName": ["orders"]})),
            (90, lambda: load(polaris, 90, target=["orders"])),
            (300, lambda: jobs.append(load(polaris, 300))),
        ]
        assert play((900, {"do": do}), store=Store()).job_ids == jobs

    def test_an_hour_without_dns_loses_no_load_and_logs_once_in_15_minutes(self, polaris, task_log, monkeypatch):
        right, jobs, lookups = socket.getaddrinfo, [], []

        def getaddrinfo(*args, **kwargs):
            lookups.append(args)
            if 300 <= clock.now() - EPOCH < 3900:
                raise socket.gaierror(-2, "Name or service not known")
            return right(*args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        do = [(300, polaris.drop_next), (900, lambda: jobs.append(load(polaris, 900)))]
        assert play((5000, {"do": do}), store=Store()).job_ids == jobs
        assert 10 <= len(lookups) <= 100
        assert 4 <= sum("The trigger continues after a failed poll" in line for line in task_log()) <= 10

    def test_an_outage_with_many_causes_logs_each_cause_once_in_15_minutes(self, polaris, task_log):
        def fail():
            for n in range(40):
                polaris.fail_next(status=(500, 503, 401, 404)[n % 4])

        play((300 + 40 * INTERVAL, {"do": [(300, fail)]}), store=Store())
        assert sum("The trigger continues after a failed poll" in line for line in task_log()) <= 4 * 3

    def test_a_connection_that_is_deleted_for_an_hour_loses_no_load(self, polaris, task_log, monkeypatch):
        jobs, connection = [], connection_without_page(polaris)
        first = {"do": [(100, lambda: monkeypatch.delenv("AIRFLOW_CONN_POLARIS_DEFAULT"))]}
        again = {
            "do": [
                (300, lambda: jobs.append(load(polaris, 600))),
                (3600, lambda: monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", connection)),
            ]
        }
        assert play((300, first), (5000, again), store=Store()).job_ids == jobs
        assert 4 <= sum("is not defined" in line for line in task_log()) <= 5

    def test_a_wrong_project_for_an_hour_loses_no_load(self, polaris, task_log, monkeypatch):
        jobs, right = [], connection_without_page(polaris)
        wrong = right.replace(polaris.project_id, "00000000-0000-4000-8000-000000000000")
        do = [
            (300, lambda: monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", wrong)),
            (300, lambda: polaris.fail_next(status=503)),  # the connection is looked up again
            (900, lambda: jobs.append(load(polaris, 900))),
            (3900, lambda: monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", right)),
        ]
        assert play((5000, {"do": do}), store=Store()).job_ids == jobs
        assert 4 <= sum("The trigger continues after a failed poll" in line for line in task_log()) <= 6

    def test_a_job_with_an_odd_id_does_not_stop_the_events_of_other_loads(self, polaris):
        jobs = []
        do = [
            (100, lambda: load(polaris, 100, id="../tables")),
            (100, lambda: load(polaris, 0, id="a b", executionStatus="running", completedTimestamp=None)),
            (300, lambda: jobs.append(load(polaris, 300))),
            (900, lambda: jobs.append(load(polaris, 900))),
        ]
        assert play((3000, {"do": do}), store=Store()).job_ids == jobs

    def test_a_job_from_the_future_does_not_hide_later_loads(self, polaris):
        jobs = []
        do = [
            (100, lambda: load(polaris, 10**8, began=10**8, table="customers")),
            (300, lambda: jobs.append(load(polaris, 300))),
            (900, lambda: jobs.append(load(polaris, 900))),
        ]
        assert play((3000, {"do": do}), store=Store()).job_ids == jobs

    def test_an_hour_without_counters_loses_no_load(self, polaris, task_log):
        jobs = []
        do = [
            (100, lambda: polaris.fail_next(100_000, status=503, match="/metrics")),
            (300, lambda: jobs.append(load(polaris, 300, metrics={"numRowsProcessed": 7}))),
            (900, lambda: jobs.append(load(polaris, 900, metrics={"numRowsProcessed": 7}))),
            (3900, polaris.clear_faults),
        ]
        assert sorted(play((5000, {"do": do, "min_rows_processed": 5}), store=Store()).job_ids) == sorted(jobs)
        assert 4 <= sum("The load is not checked yet" in line for line in task_log()) <= 5

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
        load(polaris, 499)
        jobs = []
        assert play((300, {"do": [(100, lambda: jobs.append(load(polaris, 600)))]})).job_ids == jobs
        assert any("has no store for the state of an asset" in line for line in task_log())

    def test_a_consumer_that_was_paused_catches_up_over_many_pages_of_the_list(self, polaris, moved_clock):
        store = Store()
        running = load(polaris, 0, began=-50, executionStatus="running", completedTimestamp=None)
        play((500, {}), store=store)
        jobs = []
        for n in range(2500):
            job = load(polaris, 600 + 200 * n, table="orders" if n % 500 == 7 else "customers")
            jobs += [job] if n % 500 == 7 else []
        moved_clock.time += 6 * 86_400
        polaris.set_status(running, "completed")
        assert sorted(play((300, {}), store=store).job_ids) == sorted([*jobs, running])
        assert play((300, {}), store=store).job_ids == []

    def test_several_assets_with_the_same_trigger_have_no_state(self, polaris, task_log):
        class Several(Store):
            def get(self, key, default=None):
                raise ValueError("Task has 2 concrete inlets and outlets")

        jobs = []
        do = [(100, lambda: jobs.append(load(polaris, 100)))]
        assert play((300, {"do": do}), store=Several()).job_ids == jobs
        assert any("Task has 2 concrete inlets" in line for line in task_log())

    @pytest.mark.parametrize(
        "stored",
        [
            {"completed_after": 7},
            {},
            [],
            "text",
            7,
            {"completed_after": "2026-11-01T00:00:00+00:00", "read_from": "soon"},
            {"completed_after": "2026-11-01T00:00:00+00:00", "read_from": 1.0, "running": [7]},
            {"completed_after": "2026-11-01T00:00:00+00:00", "read_from": 1.0, "running": ["../tables"]},
            {"completed_after": "2026-11-01T00:00:00+00:00", "read_from": 1.0, "delivered": ["x"]},
            {"completed_after": "2026-11-01T00:00:00+00:00", "read_from": 1.0, "delivered": {"x": None}},
        ],
        ids=str,
    )
    def test_a_state_that_cannot_be_read_is_a_first_start(self, polaris, task_log, stored):
        class Garbage(Store):
            def get(self, key, default=None):
                return stored

        load(polaris, -20)
        jobs = []
        do = [(100, lambda: jobs.append(load(polaris, 100)))]
        assert play((300, {"do": do}), store=Garbage()).job_ids == jobs
        assert sum("The state of the trigger" in line for line in task_log()) == 1

    def test_a_state_of_a_newer_release_is_read(self, polaris):
        store = Store()
        play((300, {}), store=store)
        ((key, stored),) = store.items()
        store.set(key, {**json.loads(stored), "a_new_field": {"x": 1}})
        job = load(polaris, 310)
        assert play((300, {}), store=store).job_ids == [job]

    def test_a_load_between_the_first_start_and_the_first_poll_is_not_lost(self, polaris):
        load(polaris, -1)
        job = load(polaris, 0)
        assert play((300, {}), store=Store()).job_ids == [job]

    @pytest.mark.parametrize("ahead", [-120, 120])
    def test_a_clock_that_differs_from_that_of_polaris_loses_no_load_after_the_first_poll(
        self, polaris, moved_clock, ahead
    ):
        jobs = []
        do = [(t, lambda t=t: jobs.append(load(polaris, t - ahead))) for t in (10, 100, 300)]
        store = Store()
        assert play((200, {"do": do[:2]}), (300, {"do": [(100, do[2][1])]}), store=store).job_ids == jobs

    def test_a_load_between_two_first_starts_is_not_lost(self, polaris):
        store = Store()
        load(polaris, -20)
        play((0.5, {}), store=store)  # one poll, and no state of it
        job = load(polaris, 5)
        assert play((300, {}), store=store).job_ids == [job]

    @pytest.mark.parametrize("store", [Store(), None], ids=["store", "no store"])
    def test_a_load_during_an_outage_at_the_first_start_is_not_lost(self, polaris, store):
        load(polaris, -20)
        polaris.fail_next(100_000, status=503)
        jobs = []
        do = [(300, lambda: jobs.append(load(polaris, 300))), (600, polaris.clear_faults)]
        assert play((1000, {"do": do}), store=store).job_ids == jobs

    def test_an_undefined_connection_at_the_first_start_loses_no_load(self, monkeypatch, polaris):
        load(polaris, -20)
        jobs, connection = [], os.environ["AIRFLOW_CONN_POLARIS_DEFAULT"]
        do = [
            (300, lambda: jobs.append(load(polaris, 300))),
            (600, lambda: monkeypatch.setenv("AIRFLOW_CONN_POLARIS_LATE", connection)),
        ]
        assert play((1000, {"do": do, "polaris_conn_id": "polaris_late"}), store=None).job_ids == jobs

    def test_a_store_that_cannot_be_read_is_asked_again(self, polaris, task_log):
        class Down(Store):
            faults = 0

            def get(self, key, default=None):
                if self.faults:
                    self.faults -= 1
                    raise errors[self.faults % len(errors)]
                return super().get(key, default)

        errors = [RuntimeError("no store today"), json.JSONDecodeError("no JSON", "", 0)]
        store = Down()
        play((300, {}), store=store)
        job = load(polaris, 310)
        store.faults = 20
        assert play((1000, {}), store=store).job_ids == [job]
        assert not any("Loads before this start fire no event" in line for line in task_log())

    def test_a_state_that_was_not_stored_is_stored_at_the_next_poll(self, polaris):
        class Flaky(Store):
            faults = 0

            def set(self, key, value):
                if self.faults:
                    self.faults -= 1
                    raise RuntimeError("no store today")
                super().set(key, value)

        store = Flaky()
        jobs = []

        def complete():
            jobs.append(load(polaris, 100))
            store.faults = 1

        assert play((400, {"do": [(100, complete)]}), store=store).job_ids == jobs
        assert play((200, {}), store=store).job_ids == []

    def test_a_fault_right_after_an_event_does_not_keep_the_state_from_being_stored(self, polaris, monkeypatch):
        from airflow_provider_polaris.polling.loads_plan import LoadsWait

        right, faults = LoadsWait.heard, []

        def heard(*args, **kwargs):
            if faults:
                raise faults.pop()
            return right(*args, **kwargs)

        monkeypatch.setattr(LoadsWait, "heard", heard)
        store, jobs = Store(), []
        do = [(100, lambda: jobs.append(load(polaris, 100)))]
        fail = (100 + INTERVAL + 2, lambda: faults.append(ZeroDivisionError("a fault")))
        assert play((500, {"do": [*do, fail]}), store=store).job_ids == jobs
        assert not faults
        assert play((200, {}), store=store).job_ids == []

    def test_the_state_is_not_stored_before_the_events_of_a_slow_judgement(self, polaris, monkeypatch):
        right = PolarisLoadsTrigger._judge

        async def judge(self, client, job):
            await clock.sleep_async(1.5 * INTERVAL)
            return await right(self, client, job)

        monkeypatch.setattr(PolarisLoadsTrigger, "_judge", judge)
        triggerer = Triggerer(Store())
        stored_at = []

        class Watching(Store):
            def set(self, key, value):
                stored_at.append((clock.now(), set(value["delivered"])))
                super().set(key, value)

        triggerer.store = Watching()
        jobs = []
        asyncio.run(triggerer.run(900, [(100, lambda: jobs.extend([load(polaris, 100), load(polaris, 101)]))]))
        assert triggerer.job_ids == jobs
        in_database = dict(zip(triggerer.job_ids, triggerer.at, strict=True))
        noted = [(at, job) for at, jobs_noted in stored_at for job in jobs_noted]
        assert noted
        assert all(at > in_database[job] for at, job in noted)

    def test_triggers_of_one_asset_for_several_tables_keep_a_state_each(self, polaris):
        store = Store()
        running = load(polaris, 0, began=-7200, executionStatus="running", completedTimestamp=None)
        play((300, {}), (300, {"table": "customers"}), store=store)
        for n in range(3):
            load(polaris, 610 + n, table="customers")
        polaris.set_status(running, "completed")
        seen = play((300, {}), (300, {"table": "customers"}), store=store)
        assert running in seen.job_ids
        assert len(seen.job_ids) == 4
        assert len(store) == 2

    def test_a_changed_gate_continues_with_the_state(self, polaris):
        store = Store()
        play((300, {"min_rows_processed": 5}), store=store)
        job = load(polaris, 310)
        assert play((300, {"poll_interval": 30.0}), store=store).job_ids == [job]

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
            {"table": "t", "poll_interval": float("inf")},
            {"table": "t", "poll_interval": float("nan")},
            {"table": ".."},
            {"table": None},
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
