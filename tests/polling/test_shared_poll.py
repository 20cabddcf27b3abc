"""The triggers of one event loop share a poll: its requests, and one correct event for every wait."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading

import pytest

from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.polling import list_policy as listing_module
from airflow_provider_polaris.polling.list_policy import LIST_RETRY_SECONDS, PAGE_COST
from tests.support.run_task import all_events
from tests.support.triggers import trigger

pytestmark = pytest.mark.usefixtures("no_reports")


class Waits:
    """Many triggers in one event loop, with a clock that moves: the poll sleeps once per interval."""

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
        """Call a function after that many intervals."""
        self.at_interval[interval] = do
        return self

    def end(self, *job_ids):
        for job_id in job_ids or self.ids:
            self.polaris.set_status(job_id, "completed")

    def run(self):
        """Run all triggers to their events. Return the events by job. ``sent`` holds the requests of each interval."""
        intervals = itertools.count(1)
        self.polaris.requests.clear()

        def on_sleep():
            self.sent.append([f"{request.path}?{request.query}".rstrip("?") for request in self.polaris.requests])
            self.polaris.requests.clear()
            interval = next(intervals)
            assert interval < 500, "the waits never end"
            self.at_interval.pop(interval, lambda: None)()

        self.clock.on_sleep = on_sleep

        async def run():
            waits = [all_events(trigger(job_id, **self.options)) for job_id in self.ids]
            return await asyncio.gather(*waits)

        events = asyncio.run(run())
        assert all(len(fired) == 1 for fired in events), "each trigger fires one event"
        self.sent.append([f"{request.path}?{request.query}".rstrip("?") for request in self.polaris.requests])
        return {job_id: fired[0].payload for job_id, fired in zip(self.ids, events, strict=True)}


def lists(sent):
    return [target for target in sent if "?" in target]


def by_id(sent):
    return [target for target in sent if "?" not in target]


@pytest.fixture
def polaris(monkeypatch):
    """Yield a local Polaris for one test: other active jobs would matter here."""
    with LocalPolaris() as polaris:
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", polaris.connection_json)
        yield polaris


@pytest.mark.usefixtures("moved_clock")
class TestRequestsOfThePoll:
    def test_a_thousand_waits_cost_a_few_requests_per_interval(self, polaris, moved_clock, monkeypatch):
        looked_up = []
        right = PolarisHook.get_connection
        monkeypatch.setattr(PolarisHook, "get_connection", lambda *args: looked_up.append(1) or right(args[-1]))
        waits = Waits(polaris, moved_clock, 1000, others=1000)
        waits.then(6, lambda: waits.end(*waits.ids[:7])).then(10, waits.end)
        events = waits.run()
        assert {event["outcome"] for event in events.values()} == {"job"}
        quiet, ending = waits.sent[1:6] + waits.sent[7:10], waits.sent[6]
        assert max(map(len, quiet)) <= 4
        assert all(len(lists(sent)) == 2 for sent in quiet), "2,000 jobs fill two pages"
        assert len(ending) <= 4 + 7, "seven jobs are requested by id"
        assert len(waits.sent[0]) <= 4 + PAGE_COST, "the first jobs may be requested by id before the other waits begin"
        assert len(waits.sent[10]) <= 4 + 1, "a page of the list of ended jobs has the other 993 jobs"
        assert looked_up == [1]

    def test_only_the_threads_for_lists_read_lists(self, polaris, moved_clock, monkeypatch):
        threads = {}
        for name in ("list_active", "list_ended", "get_job"):
            call = getattr(PolarisClient, name)

            def recorded(*args, name=name, call=call, **options):
                threads.setdefault(name, set()).add(threading.current_thread().name.rpartition("_")[0])
                return call(*args, **options)

            monkeypatch.setattr(PolarisClient, name, recorded)
        waits = Waits(polaris, moved_clock, 20)
        waits.then(4, waits.end)
        waits.run()
        lists = {"polaris_list"}
        assert threads == {"list_active": lists, "list_ended": lists, "get_job": {"polaris"}}

    def test_each_wait_has_one_task(self, polaris, moved_clock):
        """A task takes 1 KB or more."""
        waits = Waits(polaris, moved_clock, 50)
        tasks = []
        waits.then(3, lambda: tasks.append(len(asyncio.all_tasks()))).then(4, waits.end)
        waits.run()
        assert tasks[0] <= 50 + 5, "the others are those of the poll and of the test"

    def test_few_jobs_are_requested_by_id(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, PAGE_COST)
        waits.then(5, waits.end)
        waits.run()
        assert not lists(itertools.chain(*waits.sent))

    def test_the_list_is_requested_with_active_jobs_only_and_the_oldest_first(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, PAGE_COST + 1)
        waits.then(3, waits.end)
        waits.run()
        (target,) = lists(waits.sent[1])
        assert target.partition("?")[2] == (
            "executionStatus=idle&executionStatus=pending&executionStatus=running&executionStatus=suspended&"
            "executionStatus=unknown&sortColumn=created_date_time&sortOrder=ASC&paginationLimit=1000&paginationOffset=0"
        )

    def test_one_job_per_interval_is_requested_by_id_in_turn(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 20)
        waits.then(30, waits.end)
        waits.run()
        asked = [by_id(sent) for sent in waits.sent[2:22]]
        assert all(len(paths) == 1 for paths in asked)
        assert len({paths[0] for paths in asked}) == 20

    def test_the_list_is_read_at_the_shortest_interval_of_all_waits_and_at_most_every_five_seconds(
        self, polaris, moved_clock
    ):
        waits = Waits(polaris, moved_clock, 20, poll_interval=1.0)
        waits.then(10, waits.end)
        waits.run()
        assert all(4.5 <= pause <= 5 for pause in moved_clock.slept[1:])
        moved_clock.slept.clear()
        waits = Waits(polaris, moved_clock, 20, poll_interval=40.0)
        waits.then(10, waits.end)
        waits.run()
        assert all(36 <= pause <= 40 for pause in moved_clock.slept[1:])

    def test_jobs_are_requested_by_id_if_the_project_has_many_other_active_jobs(self, polaris, moved_clock, caplog):
        waits = Waits(polaris, moved_clock, 15, others=1500)
        waits.then(100, waits.end)
        waits.run()
        assert sum(map(len, map(lists, waits.sent))) <= 4, "the list is requested again every ten minutes"
        assert sum("so many other active jobs" in record.message for record in caplog.records) == 1

    def test_a_poll_without_news_is_not_logged(self, polaris, moved_clock, caplog):
        caplog.set_level(logging.DEBUG, "airflow_provider_polaris")
        waits = Waits(polaris, moved_clock, 30)
        waits.then(10, waits.end)
        waits.run()
        lines = [record for record in caplog.records if record.name.startswith("airflow_provider_polaris")]
        assert len(lines) <= 2 * 30 + 1, "each wait logs that its job runs, and that its job is over"

    def test_triggers_of_one_job_share_one_request(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 1)
        waits.ids *= 5
        waits.then(3, waits.end)
        events = waits.run()
        assert len(events) == 1
        assert all(len(sent) == 1 for sent in waits.sent[:4])


@pytest.mark.usefixtures("moved_clock")
class TestAUselessListOfJobs:
    @pytest.fixture
    def waits(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 12)
        return waits.then(40, waits.end)

    @pytest.mark.parametrize("status", [403, 404, 400])
    def test_waits_continue_by_id_if_the_list_is_forbidden(self, waits, caplog, status):
        waits.polaris.fail_next(9999, status=status, match=r"GET .*/jobs$")
        events = waits.run()
        assert {event["outcome"] for event in events.values()} == {"job"}
        assert not any(event["failed_polls"] for event in events.values())
        assert sum("cannot be read" in record.message for record in caplog.records) == 1
        assert sum(map(len, map(lists, waits.sent))) <= 5

    @pytest.mark.parametrize(
        "body", ["<html>", '{"values": 5}', '{"values": [7]}', '{"values": [], "moreResultsAvailable": true}']
    )
    def test_waits_continue_by_id_if_the_list_is_broken_twice(self, waits, caplog, body):
        waits.polaris.answer_next(9999, body=body, match=r"GET .*/jobs$")
        events = waits.run()
        assert {event["outcome"] for event in events.values()} == {"job"}
        assert {event["failed_polls"] for event in events.values()} <= {0, 1}
        assert sum("cannot be read" in record.message for record in caplog.records) == 1

    def test_one_failed_response_of_the_list_is_one_failed_poll(self, waits, caplog):
        waits.then(5, lambda: waits.polaris.fail_next(1, status=503, match=r"GET .*/jobs$"))
        events = waits.run()
        assert {event["failed_polls"] for event in events.values()} <= {0, 1}
        assert len(waits.sent[5]) == 2
        assert "by id from now on" not in caplog.text
        assert all(len(lists(sent)) == 1 for sent in waits.sent[1:40])

    def test_a_forbidden_list_is_requested_again_after_ten_minutes(self, waits, moved_clock):
        waits.polaris.fail_next(1, status=403, match=r"GET .*/jobs$")
        waits.at_interval.clear()
        began = moved_clock.time

        def end_after_two_retries():
            if moved_clock.time > began + 2 * LIST_RETRY_SECONDS:
                waits.end()

        for interval in range(1, 499):
            waits.then(interval, end_after_two_retries)
        waits.run()
        seen = [bool(lists(sent)) for sent in waits.sent]
        assert seen[-1]
        assert seen[0]
        assert not any(seen[1:10])

    def test_a_list_that_differs_from_responses_by_id_is_given_up(self, polaris, moved_clock, monkeypatch, caplog):
        """The list keeps showing jobs as running that are over."""
        waits = Waits(polaris, moved_clock, 12)
        stale = {job_id: {"id": job_id, "executionStatus": "running"} for job_id in waits.ids}
        monkeypatch.setattr(PolarisClient, "list_active", lambda *args, **_: _page(stale))
        waits.then(3, waits.end)
        events = waits.run()
        assert {event["job"]["executionStatus"] for event in events.values()} == {"completed"}
        assert sum("differs from the response" in record.message for record in caplog.records) == 1
        assert len(waits.sent) <= 9, "two polls show the difference"

    def test_a_list_that_shows_no_job_ends_no_wait(self, polaris, moved_clock, monkeypatch, caplog):
        waits = Waits(polaris, moved_clock, 30)
        monkeypatch.setattr(PolarisClient, "list_active", lambda *args, **_: _page({}))
        waits.then(8, waits.end)
        events = waits.run()
        assert {event["job"]["executionStatus"] for event in events.values()} == {"completed"}
        assert sum("does not show jobs" in record.message for record in caplog.records) == 1

    def test_a_streaming_job_that_only_the_list_shows_as_running_is_requested_until_it_runs(
        self, polaris, moved_clock, monkeypatch
    ):
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
    from airflow_provider_polaris.api.client import RawPage

    return RawPage(rows, len(rows), more=False)


@pytest.mark.usefixtures("moved_clock")
class TestAnOutageOfAllJobs:
    @pytest.mark.parametrize("jobs", [5, 200])
    @pytest.mark.parametrize("status", [503, 401])
    def test_an_outage_costs_two_requests_per_interval_and_all_waits_end_within_one_interval_after_it(
        self, polaris, moved_clock, jobs, status
    ):
        waits = Waits(polaris, moved_clock, jobs, poll_interval=10.0)
        waits.then(5, lambda: polaris.fail_next(10**6, status=status))
        waits.then(30, lambda: (polaris.clear_faults(), waits.end()))
        events = waits.run()
        assert {event["outcome"] for event in events.values()} == {"job"}
        settled = 10  # by then every wait has failed polls
        probes = sum(map(len, waits.sent[settled:30]))
        intervals = sum(moved_clock.slept[settled:30]) / 9
        assert probes <= 2 * intervals + 2
        assert sum(moved_clock.slept[30:]) <= 10, "all waits end within one interval after the outage"
        assert all(event["failed_polls"] >= intervals / 2 - 2 for event in events.values())

    def test_an_outage_longer_than_max_unreachable_ends_the_waits(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 50, poll_interval=10.0, max_unreachable=100.0)
        waits.then(5, lambda: polaris.fail_next(10**6, status=503))
        events = waits.run()
        assert {event["error"]["type"] for event in events.values()} == {"PolarisUnreachable"}
        assert len(waits.sent) <= 18

    def test_errors_of_one_job_are_no_outage_for_other_jobs(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 8, poll_interval=10.0, max_unreachable=100.0)
        polaris.fail_next(10**6, status=503, match=waits.ids[0])
        waits.then(30, waits.end)
        events = waits.run()
        outcomes = [events[job_id]["outcome"] for job_id in waits.ids]
        assert outcomes == ["error"] + ["job"] * 7
        assert not any(events[job_id]["failed_polls"] for job_id in waits.ids[1:])

    @pytest.mark.parametrize("bad", [2, 3, 7])
    def test_errors_of_some_jobs_are_no_outage_for_other_jobs(self, polaris, moved_clock, bad):
        waits = Waits(polaris, moved_clock, 8, poll_interval=10.0, max_unreachable=300.0)
        polaris.fail_next(10**6, status=503, match="|".join(waits.ids[:bad]))
        waits.then(200, lambda: waits.end(*waits.ids[bad:]))
        events = waits.run()
        assert [event["outcome"] for event in events.values()] == ["error"] * bad + ["job"] * (8 - bad)

    def test_the_poll_pauses_for_as_long_as_retry_after_requests(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 50, poll_interval=5.0)
        waits.then(5, lambda: polaris.fail_next(6, status=503, retry_after=20))
        waits.then(12, waits.end)
        waits.run()
        assert all(19.99 <= pause <= 21 for pause in moved_clock.slept[6:8])


@pytest.mark.usefixtures("moved_clock")
class TestOneWaitAmongMany:
    def test_a_missing_job_ends_its_wait_after_a_second_check(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 30, poll_interval=300.0)
        waits.then(4, lambda: waits.end(*waits.ids[1:]))
        waits.ids[0] = "no-such-job"
        events = waits.run()
        assert events["no-such-job"]["error"]["type"] == "PolarisJobNotFound"
        assert events["no-such-job"]["failed_polls"] == 1, "the second 404 ended the wait"
        assert [event["outcome"] for event in events.values()].count("job") == 29

    def test_each_wait_ends_at_its_own_deadline(self, polaris, moved_clock):
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

    def test_a_cancelled_trigger_does_not_disturb_other_waits(self, polaris, moved_clock):
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

    def test_a_fault_in_the_poll_ends_every_wait_with_an_error(self, polaris, moved_clock, monkeypatch, caplog):
        waits = Waits(polaris, moved_clock, 20)
        monkeypatch.setattr(PolarisClient, "list_active", lambda *args, **_: 1 / 0)
        events = waits.run()
        assert {event["outcome"] for event in events.values()} == {"error"}
        assert all("ZeroDivisionError" in event["error"]["message"] for event in events.values())

    def test_lines_about_the_whole_poll_belong_to_no_task(self, polaris, moved_clock, caplog):
        import contextvars

        task_of = contextvars.ContextVar("task_of", default="no task")
        lines = []

        class Recorder(logging.Handler):
            def emit(self, record):
                lines.append((record.name.rpartition(".")[2], task_of.get()))

        recorder = Recorder()
        logger = logging.getLogger("airflow_provider_polaris.polling.list_policy")
        logger.addHandler(recorder)
        waits = Waits(polaris, moved_clock, 12)
        waits.polaris.fail_next(1, status=403, match=r"GET .*/jobs$")
        waits.then(4, waits.end)

        async def wait(job_id):
            task_of.set(job_id)
            return await all_events(trigger(job_id))

        async def run():
            moved_clock.on_sleep = lambda: waits.end() if len(moved_clock.slept) == 4 else None
            await asyncio.gather(*(asyncio.create_task(wait(job_id)) for job_id in waits.ids))

        try:
            asyncio.run(run())
        finally:
            logger.removeHandler(recorder)
        assert lines == [("list_policy", "no task")]

    def test_the_poll_stops_with_its_last_trigger(self, polaris, moved_clock):
        waits = Waits(polaris, moved_clock, 20)

        async def run():
            moved_clock.on_sleep = lambda: waits.end() if len(moved_clock.slept) == 4 else None
            await asyncio.gather(*(all_events(trigger(job_id)) for job_id in waits.ids))
            await asyncio.sleep(0)
            return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

        assert asyncio.run(run()) == []
