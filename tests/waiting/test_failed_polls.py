"""Failed polls: every fault, alone and mixed, in every mode, in the first poll and later."""

from __future__ import annotations

import itertools
import json
import random
import re
import socket

import pytest
import requests
import urllib3.util.connection

from airflow_provider_polaris.gate.outage_tolerance import KEY_ROTATION_SECONDS
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from tests.support.local_calls import connection_without_page
from tests.support.run_task import run_task

pytestmark = pytest.mark.usefixtures("moved_clock")


def raising(error):
    """Return a function that makes the next attempts to connect fail."""

    def arm(_polaris, times, monkeypatch):
        right = urllib3.util.connection.create_connection
        left = [times]

        def create_connection(*args, **kwargs):
            if left[0]:
                left[0] -= 1
                raise error
            return right(*args, **kwargs)

        monkeypatch.setattr(urllib3.util.connection, "create_connection", create_connection)
        # Otherwise a kept-alive connection would be used again.
        monkeypatch.setattr(requests.Session, "request", _closing(requests.Session.request))

    return arm


def _closing(request):
    def closing(session, *args, **kwargs):
        session.close()
        return request(session, *args, **kwargs)

    return closing


def tls_failing(_polaris, times, monkeypatch):
    """Raise the error of requests for a failed TLS handshake. The local Polaris uses plain http here."""
    right = requests.adapters.HTTPAdapter.send
    left = [times]

    def send(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED")
        return right(*args, **kwargs)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)


def server(how):
    return lambda polaris, times, _monkeypatch: how(polaris, times)


def hang(polaris, times, monkeypatch):
    """Let the next requests hang for longer than the connection's timeout."""
    connection = json.loads(connection_without_page(polaris))
    connection["extra"]["timeout"] = 0.05
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))
    polaris.delay_next(times, seconds=0.3)


def job_body(**changes):
    return lambda polaris, times, _: polaris.answer_next(times, body=json.dumps({"id": JOB_ID, **changes}))


JOB_ID = "11111111-2222-4333-8444-555555555555"
#: Faults that a wait tolerates.
PASSING = {
    "connection refused": raising(ConnectionRefusedError(111, "Connection refused")),
    "no such host": raising(socket.gaierror(-2, "Name or service not known")),
    "no route": raising(OSError(113, "No route to host")),
    "connect timeout": raising(TimeoutError("timed out")),
    "read timeout": hang,
    "TLS failure": tls_failing,
    "cut before the answer": server(lambda polaris, times: polaris.drop_next(times)),
    "reset in mid-body": server(lambda polaris, times: polaris.drop_next(times, when="mid-body")),
    **{
        f"429, Retry-After {value!r}": server(
            lambda polaris, times, value=value: polaris.fail_next(times, status=429, retry_after=value)
        )
        for value in ("3", "Wed, 21 Oct 2065 07:28:00 GMT", "99999999999", "-1", "soon", "")
    },
    **{
        str(status): server(lambda polaris, times, status=status: polaris.fail_next(times, status=status))
        for status in (408, 429, 500, 502, 503, 504)
    },
    "redirect": server(
        lambda polaris, times: polaris.answer_next(times, status=302, body="", headers={"Location": polaris.url})
    ),
    "HTML with 200": server(lambda polaris, times: polaris.answer_next(times, body="<html>Sign in</html>")),
    "HTML with 404": server(lambda polaris, times: polaris.answer_next(times, status=404, body="<h1>Not Found</h1>")),
    "nothing with 200": server(lambda polaris, times: polaris.answer_next(times, body="")),
    "truncated JSON": server(lambda polaris, times: polaris.answer_next(times, body='{"id": "1111')),
    "null": server(lambda polaris, times: polaris.answer_next(times, body="null")),
    "a list": server(lambda polaris, times: polaris.answer_next(times, body='[{"id": 1}]')),
    "a status that is a number": job_body(executionStatus=3),
    "a status that is missing": job_body(health={"status": "ok"}),
    "a health that is text": job_body(executionStatus="completed", health="ok"),
    "a health that is a list": job_body(executionStatus="completed", health=["ok"]),
    "a health without a meaning": job_body(executionStatus="running", health={"status": "brand_new"}),
    "a health that is null": job_body(executionStatus="running", health=None),
    "another job's answer": server(
        lambda polaris, times: polaris.answer_next(
            times, body='{"id": "x", "executionStatus": "completed", "health": {"status": "ok"}}'
        )
    ),
}
MODES = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferrable": {"deferrable": True},
}


def gate(mode, **options):
    return lambda: PolarisJobSensor(
        task_id="gate", job_id=JOB_ID, **{"poke_interval": 60, "timeout": 9 * 3600, **MODES[mode], **options}
    )


@pytest.fixture
def wait(polaris, monkeypatch, moved_clock, airflow_3):
    """Return a function that runs a sensor to its end, and reschedules it as Airflow does.

    ``later`` is called after the first poll, which finds the job running.
    """
    if not airflow_3:
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: None)
    polaris.add_job(id=JOB_ID, executionStatus="running", metrics={"numRowsProcessed": 7})

    def run(mode, *, at_first=None, later=None, **options):
        at_first and at_first()
        for pokes in itertools.count():
            outcome = run_task(gate(mode, **options), between=later if pokes == 0 else None, most_deferrals=9)
            if outcome.kind != "rescheduled":
                return outcome
            assert pokes < 500, "the sensor is rescheduled without an end"
            moved_clock.sleep(60)
            if pokes == 0 and later:
                later()
        raise AssertionError

    return run


def complete_after(polaris, moved_clock, pauses):
    """Complete the job after that many pauses."""

    def move_on():
        if len(moved_clock.slept) >= pauses:
            polaris.set_status(JOB_ID, "completed")

    moved_clock.on_sleep = move_on


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["at_first", "later"])
@pytest.mark.parametrize("fault", PASSING)
def test_a_wait_continues_after_a_fault_and_ends_with_success(
    polaris, wait, monkeypatch, moved_clock, fault, when, mode
):
    complete_after(polaris, moved_clock, 3 if when == "at_first" or mode == "poke" else 2)
    if when == "later" and mode == "poke":  # the fault begins after the first pause, when a poll has succeeded
        first = moved_clock.on_sleep

        def break_once():
            moved_clock.on_sleep = first
            PASSING[fault](polaris, 2, monkeypatch)

        moved_clock.on_sleep = break_once
        outcome = wait(mode)
    else:
        outcome = wait(mode, **{when: lambda: PASSING[fault](polaris, 2, monkeypatch)})
    assert outcome.kind == "success", outcome.error
    assert outcome.xcom["execution_status"] == "completed"
    assert outcome.xcom["metrics"]["numRowsProcessed"] == 7


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(8))
def test_a_wait_survives_many_different_faults(polaris, wait, monkeypatch, moved_clock, mode, seed):
    chance = random.Random(seed)  # noqa: S311
    # Only the faults of the server: any other fault replaces the fault before.
    by_patching = {"connection refused", "no such host", "no route", "connect timeout", "read timeout", "TLS failure"}
    for name in chance.choices([name for name in PASSING if name not in by_patching], k=12):
        PASSING[name](polaris, chance.randint(1, 3), monkeypatch)
    complete_after(polaris, moved_clock, 30)
    outcome = wait(mode)
    assert outcome.kind == "success", outcome.error
    assert outcome.xcom["execution_status"] == "completed"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["at_first", "later"])
@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (400, "PolarisBadRequest", "400"),
        (403, "PolarisForbidden", "permission ManageIngestionJobs"),
        (409, "PolarisConflict", "409"),
    ],
)
def test_a_final_response_ends_the_wait_at_once(polaris, wait, moved_clock, status, kind, advice, when, mode):
    if mode == "poke" and when == "later":
        moved_clock.on_sleep = lambda: polaris.fail_next(99, status=status)
        outcome = wait(mode)
    else:
        outcome = wait(mode, **{when: lambda: polaris.fail_next(99, status=status)})
    assert outcome.kind == kind
    assert len(moved_clock.slept) <= (0 if when == "at_first" else 1)
    for part in (JOB_ID, advice):
        assert part in str(outcome.error)
    if mode != "reschedule":  # a rescheduled poke does not know the pokes before
        assert ("The job was not reported yet" if when == "at_first" else "running") in str(outcome.error)


@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_key_in_the_first_poll_ends_the_wait_at_once(polaris, wait, moved_clock, mode):
    outcome = wait(mode, at_first=lambda: polaris.fail_next(99, status=401))
    assert outcome.kind == "PolarisUnauthorized"
    assert JOB_ID in str(outcome.error)
    assert "API key" in str(outcome.error)
    assert not moved_clock.slept


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_key_that_becomes_invalid_is_tolerated_for_five_minutes(polaris, wait, moved_clock, mode):
    rotate = {"poke": {}, "deferrable": {"later": lambda: polaris.fail_next(999, status=401)}}[mode]
    if mode == "poke":
        moved_clock.on_sleep = lambda: polaris.fail_next(999, status=401)
    start = moved_clock.time
    outcome = wait(mode, **rotate)
    assert outcome.kind == "PolarisUnauthorized"
    assert KEY_ROTATION_SECONDS <= moved_clock.time - start <= KEY_ROTATION_SECONDS + 120


def test_an_invalid_key_ends_a_rescheduled_poke(polaris, wait, moved_clock):
    outcome = wait("reschedule", later=lambda: polaris.fail_next(999, status=401))
    assert outcome.kind == "PolarisUnauthorized"
    assert len(moved_clock.slept) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("late", [False, True])
def test_a_wait_survives_a_rotation_of_the_key(polaris, wait, monkeypatch, moved_clock, mode, late):
    """The service accepts only the new key. Airflow's connection has it at once, or later."""

    def rotate():
        polaris.api_key = "pok_rotated"
        moved_clock.on_sleep = update_connection
        if not late:
            update_connection()

    def update_connection():
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", connection_without_page(polaris))
        complete_after(polaris, moved_clock, len(moved_clock.slept) + 1)

    if mode == "poke":
        moved_clock.on_sleep = rotate
        outcome = wait(mode)
    else:
        outcome = wait(mode, later=rotate)
    expected = "PolarisUnauthorized" if (late and mode == "reschedule") else "success"
    assert outcome.kind == expected, outcome.error


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["at_first", "later"])
def test_a_job_that_does_not_exist_is_requested_twice(polaris, wait, moved_clock, when, mode):
    if mode == "poke" and when == "later":
        moved_clock.on_sleep = lambda: (setattr(moved_clock, "on_sleep", None), polaris.remove_job(JOB_ID))
        outcome = wait(mode)
    else:
        outcome = wait(mode, **{when: lambda: polaris.remove_job(JOB_ID)})
    assert outcome.kind == "PolarisJobNotFound"
    was_seen = when == "later" and mode != "reschedule"  # a rescheduled poke does not know the pokes before
    reason = "Polaris no longer has the job" if was_seen else "job id or the project is wrong, or Polaris has removed"
    for part in (JOB_ID, reason):
        assert part in str(outcome.error)
    assert moved_clock.slept[-1] == pytest.approx(10)
    assert [request.path.endswith(JOB_ID) for request in polaris.requests[-2:]] == [True, True]


@pytest.mark.parametrize("mode", MODES)
def test_one_404_does_not_end_the_wait(polaris, wait, moved_clock, mode):
    complete_after(polaris, moved_clock, 1)
    assert wait(mode, at_first=lambda: polaris.fail_next(1, status=404)).kind == "success"


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_an_outage_of_45_minutes_is_tolerated_by_default(polaris, moved_clock, mode):
    polaris.add_job(id=JOB_ID, executionStatus="running")
    start = moved_clock.time
    ended = []

    def outage():
        elapsed = moved_clock.time - start
        polaris.clear_faults()
        if 60 <= elapsed < 60 + 45 * 60:
            polaris.fail_next(9, status=503)
        elif elapsed >= 60 + 45 * 60 and not ended:
            ended.append(moved_clock.time)
            polaris.set_status(JOB_ID, "failed", health={"status": "error", "code": "row_too_large"})

    moved_clock.on_sleep = outage
    outcome = run_task(lambda: PolarisJobSensor(task_id="gate", job_id=JOB_ID, deferrable=mode == "deferrable"))
    assert outcome.kind == "PolarisGateRefused"
    assert "row_too_large" in str(outcome.error)
    assert moved_clock.time - (start + 60 + 45 * 60) <= 60, "the wait ends within one interval after the outage"


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_an_outage_of_more_than_an_hour_ends_the_wait_and_says_that_the_job_may_still_be_running(
    polaris, wait, moved_clock, mode
):
    if mode == "poke":
        moved_clock.on_sleep = lambda: polaris.fail_next(9, status=503)
        outcome = wait(mode)
    else:
        outcome = wait(mode, later=lambda: polaris.fail_next(999, status=503))
    assert outcome.kind == "PolarisUnreachable"
    message = str(outcome.error)
    assert re.search(r"unreachable for 3,6\d\d s", message)
    assert "may still be running" in message
    assert "table was running when last seen" in message


def test_in_reschedule_mode_only_the_timeout_ends_an_outage(polaris, wait, monkeypatch, moved_clock, airflow_3):
    from datetime import datetime, timezone

    from tests.support.airflow_versions import FakeTaskInstance

    began = datetime.fromtimestamp(moved_clock.time, timezone.utc)
    if airflow_3:
        monkeypatch.setattr(FakeTaskInstance, "get_first_reschedule_date", lambda *_: began)
        sensor_timezone = "airflow.sdk.bases.sensor.timezone.utcnow"
    else:
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: began)
        sensor_timezone = "airflow.sensors.base.timezone.utcnow"
    monkeypatch.setattr(sensor_timezone, lambda: datetime.fromtimestamp(moved_clock.time, timezone.utc))
    outcome = wait("reschedule", at_first=lambda: polaris.fail_next(9999, status=503), timeout=3 * 3600)
    assert outcome.kind == "timeout"
    assert moved_clock.time - began.timestamp() >= 3 * 3600


@pytest.mark.parametrize("mode", MODES)
def test_a_missing_connection_is_named_in_the_error(polaris, wait, monkeypatch, mode, airflow_db):
    outcome = wait(mode, at_first=lambda: monkeypatch.delenv("AIRFLOW_CONN_POLARIS_DEFAULT"))
    assert outcome.kind == "PolarisConnectionMissing"
    assert "polaris_default" in str(outcome.error)
