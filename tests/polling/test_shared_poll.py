"""One poll for all the jobs that wait: what it sends, and that no wait ends wrongly, is forgotten, or is told twice."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.polling import list_policy as listing_module
from airflow_provider_polaris.polling.list_policy import LIST_RETRY_SECONDS, PAGE_COST
from tests.support.run_task import all_events
from tests.support.triggers import trigger


class Waits:
    """Many triggers in one loop, under a clock that moves: each time the poll sleeps, an interval has gone by."""

    def __init__(self, polaris, moved_clock, jobs, *, others=0, **options):
        self.polaris = polaris
        self.clock = moved_clock
        self.ids = [polaris.add_job(executionStatus="running") for _ in range(jobs)]
        for _ in range(others):
            polaris.add_job(executionStatus="running")
        self.options = options
        self.at_interval = {}
        self.sent = []

    def then(self, interval, do):
        """Do something once so many intervals have gone by."""
        self.at_interval[interval] = do
        return self

    def end(self, *job_ids):
        for job_id in job_ids or self.ids:
            self.polaris.set_status(job_id, "completed")

    def run(self):
        """Let all wait until each has its event; return the events by job. ``sent`` holds each interval's requests."""
        intervals = itertools.count(1)
        self.polaris.requests.clear()

        def on_sleep():
            self.sent.append([f"{request.path}?{request.query}".rstrip("?") for request in self.polaris.requests])
            self.polaris.requests.clear()
            interval = next(intervals)
            assert interval < 500, "they wait for ever"
            self.at_interval.pop(interval, lambda: None)()

        self.clock.on_sleep = on_sleep

        async def run():
            waits = [all_events(trigger(job_id, **self.options)) for job_id in self.ids]
            return await asyncio.gather(*waits)

        events = asyncio.run(run())
        assert all(len(one) == 1 for one in events), "one event each"
        self.sent.append([f"{request.path}?{request.query}".rstrip("?") for request in self.polaris.requests])
        return {job_id: one[0].payload for job_id, one in zip(self.ids, events, strict=True)}


def lists(sent):
    return [target for target in sent if "?" in target]


def by_id(sent):
    return [target for target in sent if "?" not in target]


@pytest.fixture
def polaris(monkeypatch):
    """One of its own: what else is active matters here."""
    with LocalPolaris() as polaris:
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", polaris.connection_json)
        yield polaris


@pytest.mark.usefixtures("moved_clock")
class TestWhatIsSent:
    def test_a_thousand_waits_are_a_handful_of_requests(self, polaris, moved_clock, monkeypatch):
        looked_up = []
        right = PolarisHook.get_connection
        monkeypatch.setattr(PolarisHook, "get_connection", lambda *args: looked_up.append(1) or right(args[-1]))
        waits = Waits(polaris, moved_clock, 1000, others=1000)
        waits.then(6, lambda: waits.end(*waits.ids[:7])).then(10, waits.end)
        events = waits.run()
        assert {event["outcome"] for event in events.values()} == {"job"}
        quiet, ending = waits.sent[1:6] + waits.sent[7:10], waits.sent[6]
        assert max(map(len, quiet)) <= 4
        assert all(len(lists(sent)) == 2 for sent in quiet), "2,000 jobs are two pages"
        assert len(ending) <= 4 + 7
        assert len(waits.sent[0]) <= 4 + PAGE_COST, "the first few may be asked for before the others come"
        assert len(waits.sent[10]) <= 4 + 993
        assert looked_up == [1]

    def test_few_are_asked_for_by_id(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, PAGE_COST)
        waits.then(5, waits.end)
        waits.run()
        assert not lists(itertools.chain(*waits.sent))

    def test_the_list_is_asked_for_what_is_not_over_the_oldest_first(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, PAGE_COST + 1)
        waits.then(3, waits.end)
        waits.run()
        (target,) = lists(waits.sent[1])
        assert target.partition("?")[2] == (
            "executionStatus=idle&executionStatus=pending&executionStatus=running&executionStatus=suspended&"
            "executionStatus=unknown&sortColumn=created_date_time&sortOrder=ASC&paginationLimit=1000&paginationOffset=0"
        )

    def test_each_is_asked_for_by_id_in_its_turn(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 20)
        waits.then(30, waits.end)
        waits.run()
        asked = [by_id(sent) for sent in waits.sent[2:22]]
        assert all(len(one) == 1 for one in asked)
        assert len({one[0] for one in asked}) == 20

    def test_it_goes_at_the_shortest_interval_but_not_below_five_seconds(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 20, poll_interval=1.0)
        waits.then(10, waits.end)
        waits.run()
        assert all(4.5 <= pause <= 5 for pause in moved_clock.slept[1:])
        moved_clock.slept.clear()
        waits = Waits(polaris, moved_clock, 20, poll_interval=40.0)
        waits.then(10, waits.end)
        waits.run()
        assert all(36 <= pause <= 40 for pause in moved_clock.slept[1:])

    def test_with_many_others_in_the_project_ids_are_cheaper(self, polaris, moved_clock, caplog):
        waits = Waits(polaris, moved_clock, 15, others=1500)
        waits.then(100, waits.end)
        waits.run()
        assert sum(map(len, map(lists, waits.sent))) <= 4, "it tries again every ten minutes"
        assert sum("so many other active jobs" in record.message for record in caplog.records) == 1

    def test_nothing_is_logged_per_poll(self, polaris, moved_clock, caplog):
        caplog.set_level(logging.DEBUG, "airflow_provider_polaris")
        waits = Waits(polaris, moved_clock, 30)
        waits.then(10, waits.end)
        waits.run()
        said = [record for record in caplog.records if record.name.startswith("airflow_provider_polaris")]
        assert len(said) <= 2 * 30 + 1, "each says that it runs, and that it is over"

    def test_two_triggers_of_one_job_are_one_request(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 1)
        waits.ids *= 5
        waits.then(3, waits.end)
        events = waits.run()
        assert len(events) == 1
        assert all(len(sent) == 1 for sent in waits.sent[:4])


@pytest.mark.usefixtures("moved_clock")
class TestWhenTheListIsOfNoUse:
    @pytest.fixture
    def waits(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 12)
        return waits.then(40, waits.end)

    @pytest.mark.parametrize("status", [403, 404, 400])
    def test_one_that_is_forbidden_is_done_without(self, waits, caplog, status):
        waits.polaris.fail_next(9999, status=status, match=r"GET .*/jobs$")
        events = waits.run()
        assert {event["outcome"] for event in events.values()} == {"job"}
        assert not any(event["failed_polls"] for event in events.values())
        assert sum("cannot be read" in record.message for record in caplog.records) == 1
        assert sum(map(len, map(lists, waits.sent))) <= 5

    @pytest.mark.parametrize(
        "body", ["<html>", '{"values": 5}', '{"values": [7]}', '{"values": [], "moreResultsAvailable": true}']
    )
    def test_so_is_one_that_is_broken_twice(self, waits, caplog, body):
        waits.polaris.answer_next(9999, body=body, match=r"GET .*/jobs$")
        events = waits.run()
        assert {event["outcome"] for event in events.values()} == {"job"}
        assert {event["failed_polls"] for event in events.values()} <= {0, 1}
        assert sum("cannot be read" in record.message for record in caplog.records) == 1

    def test_one_bad_answer_is_one_failed_poll(self, waits, caplog):
        waits.then(5, lambda: waits.polaris.fail_next(1, status=503, match=r"GET .*/jobs$"))
        events = waits.run()
        assert {event["failed_polls"] for event in events.values()} <= {0, 1}
        assert len(waits.sent[5]) == 2
        assert "by id from now on" not in caplog.text
        assert all(len(lists(sent)) == 1 for sent in waits.sent[1:40])

    def test_it_is_tried_again_after_a_while(self, waits, moved_clock):
        waits.polaris.fail_next(1, status=403, match=r"GET .*/jobs$")
        waits.at_interval.clear()
        began = moved_clock.time

        def look():
            if moved_clock.time > began + 2 * LIST_RETRY_SECONDS:
                waits.end()

        for interval in range(1, 499):
            waits.then(interval, look)
        waits.run()
        seen = [bool(lists(sent)) for sent in waits.sent]
        assert seen[-1]
        assert seen[0]
        assert not any(seen[1:10])

    def test_a_list_that_says_other_things_for_ever_is_not_believed(self, polaris, moved_clock, monkeypatch, caplog):
        """It goes on to show jobs as running that are over."""
        waits = Waits(polaris, moved_clock, 12)
        stale = {job_id: {"id": job_id, "executionStatus": "running"} for job_id in waits.ids}
        monkeypatch.setattr(PolarisClient, "list_active", lambda *args, **_: _page(stale))
        waits.then(3, waits.end)
        events = waits.run()
        assert {event["job"]["executionStatus"] for event in events.values()} == {"completed"}
        assert sum("differs from the response" in record.message for record in caplog.records) == 1
        assert len(waits.sent) <= 9, "found out within two polls"

    def test_a_list_that_shows_nothing_ends_nothing(self, polaris, moved_clock, monkeypatch, caplog):
        waits = Waits(polaris, moved_clock, 30)
        monkeypatch.setattr(PolarisClient, "list_active", lambda *args, **_: _page({}))
        waits.then(8, waits.end)
        events = waits.run()
        assert {event["job"]["executionStatus"] for event in events.values()} == {"completed"}
        assert sum("does not show jobs" in record.message for record in caplog.records) == 1

    def test_a_stream_that_the_list_shows_running_is_asked_for_until_it_is(self, polaris, moved_clock, monkeypatch):
        waits = Waits(polaris, moved_clock, 12, wait_for="running")
        rows = {}
        for job_id in waits.ids:
            polaris.set_fields(job_id, type="streaming", executionStatus="pending", health={"status": "ok"})
            rows[job_id] = {"id": job_id, "type": "streaming", "executionStatus": "running", "health": {"status": "ok"}}
        monkeypatch.setattr(listing_module.JobListPolicy, "is_trusted", lambda *_: True)
        monkeypatch.setattr(PolarisClient, "list_active", lambda *args, **_: _page(rows))
        waits.then(5, lambda: [polaris.set_status(job_id, "running") for job_id in waits.ids])
        events = waits.run()
        assert {event["job"]["executionStatus"] for event in events.values()} == {"running"}
        assert len(waits.sent) <= 7


def _page(rows):
    from airflow_provider_polaris.api.client import ActivePage

    return ActivePage(rows, len(rows), more=False)


@pytest.mark.usefixtures("moved_clock")
class TestAnOutage:
    @pytest.mark.parametrize("jobs", [5, 200])
    @pytest.mark.parametrize("status", [503, 401])
    def test_is_two_probes_per_interval_and_then_all_are_served_at_once(self, polaris, moved_clock, jobs, status):
        waits = Waits(polaris, moved_clock, jobs, poll_interval=10.0)
        waits.then(5, lambda: polaris.fail_next(10**6, status=status))
        waits.then(30, lambda: (polaris.clear_faults(), waits.end()))
        events = waits.run()
        assert {event["outcome"] for event in events.values()} == {"job"}
        settled = 10  # by then all know of it
        probes = sum(map(len, waits.sent[settled:30]))
        intervals = sum(moved_clock.slept[settled:30]) / 9
        assert probes <= 2 * intervals + 2
        assert sum(moved_clock.slept[30:]) <= 10, "all are served in the interval after it"
        assert all(event["failed_polls"] >= intervals / 2 - 2 for event in events.values())

    def test_ends_the_waits_that_have_no_more_patience(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 50, poll_interval=10.0, max_unreachable=100.0)
        waits.then(5, lambda: polaris.fail_next(10**6, status=503))
        events = waits.run()
        assert {event["error"]["type"] for event in events.values()} == {"PolarisUnreachable"}
        assert len(waits.sent) <= 18

    def test_that_is_one_jobs_own_is_no_outage(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 8, poll_interval=10.0, max_unreachable=100.0)
        polaris.fail_next(10**6, status=503, match=waits.ids[0])
        waits.then(30, waits.end)
        events = waits.run()
        outcomes = [events[job_id]["outcome"] for job_id in waits.ids]
        assert outcomes == ["error"] + ["job"] * 7
        assert not any(events[job_id]["failed_polls"] for job_id in waits.ids[1:])

    @pytest.mark.parametrize("bad", [2, 3, 7])
    def test_that_is_some_jobs_own_is_no_outage_of_the_others(self, polaris, moved_clock, bad):
        waits = Waits(polaris, moved_clock, 8, poll_interval=10.0, max_unreachable=300.0)
        polaris.fail_next(10**6, status=503, match="|".join(waits.ids[:bad]))
        waits.then(200, lambda: waits.end(*waits.ids[bad:]))
        events = waits.run()
        assert [event["outcome"] for event in events.values()] == ["error"] * bad + ["job"] * (8 - bad)

    def test_asks_no_sooner_than_it_is_told_to(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 50, poll_interval=5.0)
        waits.then(5, lambda: polaris.fail_next(6, status=503, retry_after=20))
        waits.then(12, waits.end)
        waits.run()
        assert all(19.99 <= pause <= 21 for pause in moved_clock.slept[6:8])


@pytest.mark.usefixtures("moved_clock")
class TestOneOfMany:
    def test_a_job_that_is_not_there_ends_after_a_second_look(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 30, poll_interval=300.0)
        waits.then(4, lambda: waits.end(*waits.ids[1:]))
        waits.ids[0] = "no-such-job"
        events = waits.run()
        assert events["no-such-job"]["error"]["type"] == "PolarisJobNotFound"
        assert events["no-such-job"]["failed_polls"] == 1, "and the second ended it"
        assert [event["outcome"] for event in events.values()].count("job") == 29

    def test_each_has_its_own_deadline(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 30)
        deadlines = iter([moved_clock.time + 100 * n for n in range(1, 31)])
        polls = {}

        async def wait(job_id, deadline):
            (event,) = await all_events(trigger(job_id, deadline=deadline))
            polls[deadline] = moved_clock.time
            return event.payload["outcome"]

        async def run():
            return await asyncio.gather(*(wait(job_id, next(deadlines)) for job_id in waits.ids))

        assert asyncio.run(run()) == ["timeout"] * 30
        assert all(0 <= ended - deadline <= 1 for deadline, ended in polls.items())

    def test_one_that_is_cancelled_just_leaves(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 20)

        async def run():
            tasks = [asyncio.create_task(all_events(trigger(job_id))) for job_id in waits.ids]
            moved_clock.on_sleep = lambda: (
                tasks[3].cancel()
                if len(moved_clock.slept) == 3
                else (waits.end() if len(moved_clock.slept) == 6 else None)
            )
            return await asyncio.gather(*tasks, return_exceptions=True)

        results = asyncio.run(run())
        assert isinstance(results[3], asyncio.CancelledError)
        assert all(result[0].payload["outcome"] == "job" for n, result in enumerate(results) if n != 3)

    def test_a_fault_in_the_poll_reaches_all_and_hangs_none(self, polaris, moved_clock, monkeypatch, caplog):
        waits = Waits(polaris, moved_clock, 20)
        monkeypatch.setattr(PolarisClient, "list_active", lambda *args, **_: 1 / 0)
        events = waits.run()
        assert {event["outcome"] for event in events.values()} == {"error"}
        assert all("ZeroDivisionError" in event["error"]["message"] for event in events.values())

    def test_what_all_share_is_logged_by_none_of_them(self, polaris, moved_clock, caplog):
        import contextvars

        whose = contextvars.ContextVar("whose", default="nobody")
        heard = []

        class Hear(logging.Handler):
            def emit(self, record):
                heard.append((record.name.rpartition(".")[2], whose.get()))

        hear = Hear()
        logger = logging.getLogger("airflow_provider_polaris.polling.list_policy")
        logger.addHandler(hear)
        waits = Waits(polaris, moved_clock, 12)
        waits.polaris.fail_next(1, status=403, match=r"GET .*/jobs$")
        waits.then(4, waits.end)

        async def one(job_id):
            whose.set(job_id)
            return await all_events(trigger(job_id))

        async def run():
            moved_clock.on_sleep = lambda: waits.end() if len(moved_clock.slept) == 4 else None
            await asyncio.gather(*(asyncio.create_task(one(job_id)) for job_id in waits.ids))

        try:
            asyncio.run(run())
        finally:
            logger.removeHandler(hear)
        assert heard == [("list_policy", "nobody")]

    def test_the_last_to_leave_stops_it(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 20)

        async def run():
            moved_clock.on_sleep = lambda: waits.end() if len(moved_clock.slept) == 4 else None
            await asyncio.gather(*(all_events(trigger(job_id)) for job_id in waits.ids))
            await asyncio.sleep(0)
            return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

        assert asyncio.run(run()) == []
