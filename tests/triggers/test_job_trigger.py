"""The job's trigger: one event, frozen arguments, a wall-clock deadline, and an event loop that is never blocked."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import logging
import pkgutil
import socket
import time
from dataclasses import fields
from pathlib import Path

import pytest

from airflow_provider_polaris import configuration
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import PolarisNotFound, PolarisUnreachable
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.options import Gate
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.polling import shared_client as client_module
from airflow_provider_polaris.polling.shared_client import shared_client
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from airflow_provider_polaris.triggers.polaris import PolarisJobTrigger, PolarisTableTrigger
from airflow_provider_polaris.waiting.crossing import JobTriggerArgs
from tests.support import pool_threads
from tests.support.airflow_versions import (
    FakeTaskInstance,
    context_of,
    event_through_the_database,
    trigger_through_the_database,
)
from tests.support.local_calls import API_KEY
from tests.support.run_task import all_events, one_event, outcome_of, run_task
from tests.support.triggers import trigger

GOLDEN = Path(__file__).parent / "golden" / "deferred_by_the_first_slice.json"


class TestArguments:
    def test_every_argument_is_serialised_and_comes_back_through_airflow(self):
        names = {field.name for field in fields(JobTriggerArgs)}
        last_job = Job.from_api({"id": "j", "executionStatus": "running"}).to_event()
        odd = {
            "project_id": "p", "wait_for": "running", "fail_on_unhealthy": True, "poll_interval": 1.5, "deadline": 2.5,
            "max_unreachable": 3.5, "exponential_backoff": True, "max_wait": 4.5, "waiting_since": 3.25,
            "failing": {"at": 5.5, "unreachable_since": 4.5, "unauthorized_since": None},
            "polaris_conn_id": "c", "job_id": "j",
            "last_job": last_job, "cancel_on_kill": True, "takes_list": True,
            "logical_date": "2026-11-01T10:00:00+00:00",
        }  # fmt: skip
        assert set(odd) == names, "a new argument needs a value here, and a default in JobTriggerArgs"
        before = PolarisJobTrigger(**odd)
        _, kwargs = before.serialize()
        assert kwargs == odd
        assert json.loads(json.dumps(kwargs)) == kwargs
        after = trigger_through_the_database(before)
        assert type(after) is PolarisJobTrigger
        assert after.serialize() == before.serialize()

    def test_a_task_that_the_first_release_deferred_continues(self, polaris, moved_clock):
        """The first release wrote the golden file. Its names are frozen, and new arguments need defaults."""
        golden = json.loads(GOLDEN.read_text())
        kwargs = golden["kwargs"]
        after = trigger_through_the_database(PolarisJobTrigger(**kwargs))
        path, arguments = after.serialize()
        assert path == golden["classpath"]
        new = {"cancel_on_kill": False, "logical_date": None, "waiting_since": None, "takes_list": False}
        assert arguments == {**kwargs, **new}
        polaris.add_job(id=kwargs["job_id"], executionStatus="completed")
        event = one_event(after).payload
        assert event["outcome"] == "job"
        assert set(golden["event"]) <= set(event), "each release reads the events of the other"
        moved_clock.time = 1_800_000_000.0
        sensor = PolarisJobSensor(task_id="gate", job_id=kwargs["job_id"], deferrable=True)
        resumed = sensor.execute_complete(context_of(FakeTaskInstance()), golden["event"])
        assert resumed["execution_status"] == "completed"

    def test_a_task_that_waits_for_its_table_continues_under_a_later_release(self):
        """The class path and the names of the arguments are frozen. New arguments need defaults."""
        golden = json.loads((GOLDEN.parent / "deferred_for_a_table.json").read_text())
        after = trigger_through_the_database(PolarisTableTrigger(**golden["kwargs"]))
        assert type(after) is PolarisTableTrigger
        assert after.serialize() == (golden["classpath"], golden["kwargs"])

    @pytest.mark.parametrize("kind", [PolarisJobTrigger, PolarisTableTrigger])
    def test_the_stored_class_path_leads_to_the_class(self, kind):
        assert pkgutil.resolve_name(kind.class_path) is kind

    def test_every_option_that_the_trigger_needs_reaches_the_trigger(self, polaris, moved_clock):
        """Each option of the sensor reaches the trigger, or stays on the worker for a stated reason."""
        job_id = polaris.add_job(executionStatus="running", type="streaming", health={"status": "error"})
        polaris.script(job_id, {"executionStatus": "pending"})
        values = {
            "job_id": job_id, "polaris_conn_id": "polaris_default", "project_id": polaris.project_id,
            "wait_for": "running", "fail_on_unhealthy": True, "max_unreachable": 77,
            "poke_interval": 11, "timeout": 444,
        }  # fmt: skip
        on_the_worker = {
            "min_rows_processed", "max_rows_skipped_by_error", "max_rows_with_warning", "max_error_ratio",
            "fail_on_warnings",  # judged when the job is over, which always ends the deferral
            "wait_until_available",  # decides whether another trigger waits after this one
            "partition_key",  # of the events of the task
            "deferrable",
        }  # fmt: skip
        options = set(inspect.signature(PolarisJobSensor).parameters) - {"kwargs"}
        assert options == set(values) | on_the_worker
        assert {name for name in vars(Gate()) if name not in on_the_worker} == {"wait_for", "fail_on_unhealthy"}
        sensor = PolarisJobSensor(task_id="t", deferrable=True, exponential_backoff=True, max_wait=99, **values)
        ti = FakeTaskInstance()
        kwargs = outcome_of(lambda: sensor.execute(context_of(ti)), ti).error.trigger.serialize()[1]
        assert kwargs.pop("last_job")["executionStatus"] == "pending"
        assert kwargs == {
            **{name: value for name, value in values.items() if name not in {"poke_interval", "timeout"}},
            "poll_interval": 11, "deadline": moved_clock.time + 444, "exponential_backoff": True, "max_wait": 99,
            "failing": None, "cancel_on_kill": False, "logical_date": None, "waiting_since": None,
            "takes_list": True,
        }  # fmt: skip


@pytest.mark.usefixtures("moved_clock")
class TestEvents:
    @pytest.mark.parametrize("status", ["completed", "failed", "canceled"])
    def test_a_job_that_is_over_ends_the_wait_in_one_poll(self, polaris, status):
        job_id = polaris.add_job(executionStatus=status)
        polaris.requests.clear()
        event = event_through_the_database(one_event(trigger(job_id)))
        assert event["outcome"] == "job"
        assert event["job"]["executionStatus"] == status
        assert event["polls"] == 1
        assert len(polaris.requests) == 1

    def test_nothing_is_sent_after_the_event(self, polaris):
        job_id = polaris.add_job(executionStatus="completed")
        one_event(trigger(job_id))
        sent = len(polaris.requests)
        assert len(polaris.requests) == sent

    def test_a_trigger_only_sends_get_requests(self, polaris):
        job_id = polaris.add_job(executionStatus="running")
        polaris.script(job_id, {}, {}, {"executionStatus": "failed"})
        one_event(trigger(job_id))
        assert {request.method for request in polaris.requests} == {"GET"}

    def test_a_deadline_is_kept_to_the_second_and_the_job_is_in_the_event(self, polaris, moved_clock):
        job_id = polaris.add_job(executionStatus="running")
        start = moved_clock.time
        event = one_event(trigger(job_id, deadline=start + 1000, poll_interval=300)).payload
        assert event["outcome"] == "timeout"
        assert event["job"]["executionStatus"] == "running"
        assert event["deadline"] == start + 1000
        assert moved_clock.time == pytest.approx(start + 1000)

    def test_a_trigger_polls_once_if_its_deadline_passed_while_no_triggerer_ran(self, polaris, moved_clock):
        job_id = polaris.add_job(executionStatus="completed")
        assert one_event(trigger(job_id, deadline=moved_clock.time - 999)).payload["outcome"] == "job"
        polaris.set_status(job_id, "running")
        assert one_event(trigger(job_id, deadline=moved_clock.time - 999)).payload["outcome"] == "timeout"

    def test_a_short_outage_is_tolerated_and_a_long_one_ends_the_wait(self, polaris, moved_clock):
        job_id = polaris.add_job(executionStatus="completed")
        polaris.fail_next(10)
        event = one_event(trigger(job_id, max_unreachable=3600)).payload
        assert (event["outcome"], event["failed_polls"]) == ("job", 10)
        polaris.fail_next(999)
        start = moved_clock.time
        event = one_event(trigger(job_id, max_unreachable=600)).payload
        assert event["error"]["type"] == "PolarisUnreachable"
        assert job_id in event["error"]["message"]
        assert 600 <= moved_clock.time - start <= 660

    def test_a_deferral_after_a_failed_poll_waits_and_keeps_when_the_outage_began(self, polaris, moved_clock):
        job_id = polaris.add_job(executionStatus="completed")
        failing = {"at": moved_clock.time, "unreachable_since": moved_clock.time - 5, "unauthorized_since": None}
        event = one_event(trigger(job_id, failing=failing)).payload
        assert event["failing"]["unreachable_since"] == failing["unreachable_since"]
        assert 54 <= sum(moved_clock.slept) <= 60, (
            "the poll before this deferral failed, so the next one is not immediate"
        )

    def test_an_outage_of_hours_ago_does_not_count_when_the_triggerer_restarts(self, polaris, moved_clock):
        """The arguments of a trigger do not change after the deferral."""
        job_id = polaris.add_job(executionStatus="completed")
        began = moved_clock.time - 5 * 3600
        polaris.fail_next(1)
        event = one_event(trigger(job_id, failing={"at": began, "unreachable_since": began - 60})).payload
        assert (event["outcome"], event["failed_polls"]) == ("job", 1)

    def test_retry_after_delays_a_poll(self, polaris, moved_clock):
        job_id = polaris.add_job(executionStatus="completed")
        polaris.fail_next(1, status=429, retry_after=25)
        polaris.fail_next(1, status=429, retry_after=9999)
        one_event(trigger(job_id, poll_interval=5))
        assert moved_clock.slept == [25, 30]

    def test_a_404_counts_only_if_a_second_poll_returns_it_too(self, polaris, moved_clock):
        job_id = polaris.add_job(executionStatus="completed")
        polaris.fail_next(1, status=404)
        assert one_event(trigger(job_id)).payload["outcome"] == "job"
        assert moved_clock.slept == [10.0]
        event = one_event(trigger("not-there")).payload
        assert event["error"]["type"] == "PolarisJobNotFound"
        assert "Polaris has removed the job" in event["error"]["message"]

    @pytest.mark.parametrize(("status", "kind"), [(400, "PolarisBadRequest"), (403, "PolarisForbidden")])
    def test_a_final_response_ends_the_wait_at_once(self, polaris, moved_clock, status, kind):
        polaris.fail_next(99, status=status)
        assert one_event(trigger()).payload["error"]["type"] == kind
        assert not moved_clock.slept

    def test_a_rotated_key_is_read_again(self, polaris, moved_clock, monkeypatch):
        job_id = polaris.add_job(executionStatus="running")
        polaris.script(job_id, {}, {}, {"executionStatus": "completed"})

        def rotate():
            polaris.api_key = "pok_rotated"
            if len(moved_clock.slept) == 2:
                monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", polaris.connection_json)

        moved_clock.on_sleep = rotate
        event = one_event(trigger(job_id)).payload
        assert (event["outcome"], event["failed_polls"]) == ("job", 1)

    def test_a_key_that_stays_invalid_ends_the_wait_after_five_minutes(self, polaris, moved_clock):
        polaris.fail_next(99, status=401)
        start = moved_clock.time
        assert one_event(trigger()).payload["error"]["type"] == "PolarisUnauthorized"
        assert 300 <= moved_clock.time - start <= 360

    def test_a_connection_that_is_not_defined_names_the_triggerer(self, airflow_db):
        event = one_event(trigger(polaris_conn_id="no_such")).payload
        assert event["error"]["type"] == "PolarisConnectionMissing"
        assert "triggerer" in event["error"]["message"]

    def test_a_failed_lookup_of_the_connection_is_a_failed_poll(self, polaris, monkeypatch):
        job_id = polaris.add_job(executionStatus="completed")
        right = PolarisHook.get_connection
        answers = [OSError("database is locked"), OSError("again")]
        monkeypatch.setattr(
            PolarisHook,
            "get_connection",
            lambda *args: (_ for _ in ()).throw(answers.pop()) if answers else right(args[-1]),
        )
        event = one_event(trigger(job_id)).payload
        assert (event["outcome"], event["failed_polls"]) == ("job", 2)

    @pytest.mark.parametrize("soft_fail", [False, True])
    def test_a_bug_in_the_wait_fails_the_task_and_is_not_hidden_by_soft_fail(self, polaris, monkeypatch, soft_fail):
        job_id = polaris.add_job(executionStatus="running")
        monkeypatch.setattr("airflow_provider_polaris.triggers.polaris.decide", lambda *_: 1 / 0)
        outcome = run_task(
            lambda: PolarisJobSensor(task_id="t", job_id=job_id, deferrable=True, soft_fail=soft_fail, poke_interval=1)
        )
        assert outcome.kind == "PolarisError"
        assert "ZeroDivisionError" in str(outcome.error)

    def test_two_triggers_of_one_wait_fire_the_same_event(self, polaris):
        job_id = polaris.add_job(executionStatus="completed")

        async def twice():
            return await asyncio.gather(*(all_events(trigger(job_id, deadline=9e9)) for _ in range(2)))

        one, other = asyncio.run(twice())
        assert [event.payload for event in one] == [event.payload for event in other]


class TestTheEventLoop:
    """These tests measure real time."""

    @pytest.fixture
    def hanging(self, polaris, monkeypatch):
        """Let every request hang."""
        connection = json.loads(polaris.connection_json)
        connection["extra"]["timeout"] = 4
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))
        polaris.delay_next(9999, seconds=3)
        return polaris

    @staticmethod
    async def under_way(polaris, count: int = 2, seconds: float = 10.0) -> None:
        """Wait until so many requests have arrived. Many waits send one for the list and one for a job."""
        end = time.perf_counter() + seconds
        while len(polaris.requests) < count:
            assert time.perf_counter() < end, "the requests never arrived"
            await asyncio.sleep(0.01)

    @staticmethod
    async def lag(seconds: float) -> float:
        """Return by how much sleeps are too long, as the 99th percentile, in seconds."""
        late = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            await asyncio.sleep(0.002)
            late.append(time.perf_counter() - start - 0.002)
        return sorted(late)[int(len(late) * 0.99)]

    def test_hanging_requests_do_not_block_the_loop(self, hanging):
        async def measure():
            idle = await self.lag(1.0)
            waits = [asyncio.create_task(all_events(trigger(f"job-{n}"))) for n in range(100)]
            await self.under_way(hanging)
            start = time.perf_counter()
            await asyncio.get_running_loop().getaddrinfo("localhost", 80, family=socket.AF_INET)
            resolved = time.perf_counter() - start
            busy = await self.lag(1.0)
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            return idle, busy, resolved

        idle, busy, resolved = asyncio.run(measure())
        # A blocked loop would stop for the 3 s of a request. Less than 20 ms is noise of the machine.
        assert busy <= max(3 * idle, 0.020), f"idle {idle * 1000:.2f} ms, with 100 hanging waits {busy * 1000:.2f} ms"
        assert resolved < 2

    def test_cancelled_triggers_send_no_request_and_log_no_error(self, hanging, caplog, recwarn):
        async def cancel():
            # Debug mode logs slow callbacks, which this test does not check.
            asyncio.get_running_loop().slow_callback_duration = 60
            waits = [asyncio.create_task(all_events(trigger(f"job-{n}"))) for n in range(40)]
            await self.under_way(hanging)
            for wait in waits:
                wait.cancel()
            results = await asyncio.gather(*waits, return_exceptions=True)
            return results, len(hanging.requests)

        with caplog.at_level(logging.DEBUG, logger="asyncio"):
            results, sent = asyncio.run(cancel(), debug=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results), "every wait is cancelled"
            assert sent == 2, "the list and one job"
            assert pool_threads.are_free(), "a running request ends within its timeout"
        gc.collect()
        assert len(hanging.requests) == sent
        assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno > logging.INFO]
        assert not recwarn.list

    def test_a_cancelled_trigger_closes_its_client(self, polaris):
        job_id = polaris.add_job(executionStatus="running")

        async def cancel():
            wait = asyncio.create_task(all_events(trigger(job_id)))
            await self.under_way(polaris, 1)
            during = {key: client._users for key, client in client_module._clients[asyncio.get_running_loop()].items()}
            wait.cancel()
            await asyncio.gather(wait, return_exceptions=True)
            return during, dict(client_module._clients[asyncio.get_running_loop()])

        during, after = asyncio.run(cancel())
        assert during == {("polaris_default", None): 1}
        assert after == {}

    def test_many_waits_share_one_lookup_of_the_connection(self, polaris, monkeypatch):
        looked_up = []
        load = client_module.load_connection
        monkeypatch.setattr(client_module, "load_connection", lambda *args: looked_up.append(args) or load(*args))
        job_ids = [polaris.add_job(executionStatus="completed") for _ in range(60)]

        async def run():
            return await asyncio.gather(*(all_events(trigger(job_id)) for job_id in job_ids))

        assert all(events[0].payload["outcome"] == "job" for events in asyncio.run(run()))
        assert len(looked_up) == 1

    def test_a_trigger_that_starts_later_uses_the_changed_connection(self, polaris, moved_clock, monkeypatch):
        running = polaris.add_job(executionStatus="running")
        wrong = json.loads(polaris.connection_json)
        wrong["extra"]["project_id"] = "another"
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(wrong))

        async def run():
            async with shared_client("polaris_default", None) as held:  # an old wait keeps the client open
                with pytest.raises(PolarisNotFound):
                    await held.get_job(running)
                monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", polaris.connection_json)
                moved_clock.sleep(60)
                async with shared_client("polaris_default", None) as later:
                    return (await later.get_job(running)).id, (await held.get_job(running)).id

        assert asyncio.run(run()) == (running, running)

    def test_a_failed_lookup_of_the_connection_is_shared(self, polaris, moved_clock, monkeypatch):
        tried = []

        def fail(_):
            tried.append(1)
            raise OSError("database is locked")

        monkeypatch.setattr(PolarisHook, "get_connection", fail)

        async def run():
            async with shared_client("polaris_default", None) as client:
                return await asyncio.gather(*(client.get_job("j") for _ in range(20)), return_exceptions=True)

        assert {type(result) for result in asyncio.run(run())} == {PolarisUnreachable}
        assert len(tried) == 1

    def test_a_service_that_hangs_leaves_threads_to_other_connections(self, hanging, monkeypatch):
        with LocalPolaris() as healthy:
            monkeypatch.setenv("AIRFLOW_CONN_HEALTHY", healthy.connection_json)
            job_id = healthy.add_job(executionStatus="completed")

            async def run():
                hung = [asyncio.create_task(all_events(trigger(f"job-{n}"))) for n in range(10)]
                await self.under_way(hanging, configuration.threads())
                start = time.perf_counter()
                events = await all_events(trigger(job_id, polaris_conn_id="healthy"))
                took = time.perf_counter() - start
                for wait in hung:
                    wait.cancel()
                await asyncio.gather(*hung, return_exceptions=True)
                return events, took

            events, took = asyncio.run(run())
        assert events[0].payload["outcome"] == "job"
        assert took < 2, "it waited for a request that hangs"

    def test_a_service_that_hangs_does_not_delay_the_deadline(self, hanging, monkeypatch):
        monkeypatch.setattr("airflow_provider_polaris.polling.poller.LAST_REQUEST_SECONDS", 0.1)

        async def run():
            deadline = time.time() + 0.5
            waits = [all_events(trigger(f"job-{n}", deadline=deadline)) for n in range(30)]
            events = await asyncio.gather(*waits)
            return [event.payload["outcome"] for (event,) in events], time.time() - deadline

        outcomes, late = asyncio.run(run())
        assert outcomes == ["timeout"] * 30
        assert late < 1.5, "it waited for a request that hangs"

    def test_the_connection_is_not_looked_up_on_the_loop(self, polaris, monkeypatch):
        job_id = polaris.add_job(executionStatus="completed")
        right = PolarisHook.get_connection

        def off_the_loop(*args):
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return right(args[-1])

        monkeypatch.setattr(PolarisHook, "get_connection", off_the_loop)
        assert one_event(trigger(job_id)).payload["outcome"] == "job"

    def test_event_loops_and_projects_have_clients_of_their_own(self, polaris):
        async def clients():
            async with (
                shared_client("a", None) as one,
                shared_client("a", "p") as two,
                shared_client("a", None) as three,
            ):
                return one, two, three

        one, two, three = asyncio.run(clients())
        assert one is three
        assert one is not two
        assert asyncio.run(clients())[0] is not one


def test_a_connection_in_use_shows_no_key():
    assert API_KEY not in repr(PolarisConnection("https://x/v1/projects/p", "p", API_KEY))
