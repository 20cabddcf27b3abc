"""No output of a task, a hook or the local Polaris contains the API key."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from urllib.parse import quote

import pytest

from airflow_provider_polaris.exceptions import PolarisApiError, PolarisInvalidResponse
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from tests.support.airflow_versions import FakeTaskInstance, context_of
from tests.support.local_calls import API_KEY, connection_without_page
from tests.support.run_task import outcome_of, run_task

FORMS = {
    API_KEY,
    quote(API_KEY),
    quote(API_KEY, safe=""),
    json.dumps(API_KEY)[1:-1],
    *(
        encode(text.encode()).decode().rstrip("=")
        for encode in (base64.b64encode, base64.urlsafe_b64encode)
        for text in (API_KEY, f"{API_KEY}:", f":{API_KEY}")
    ),
}

pytestmark = pytest.mark.usefixtures("moved_clock")


def shown(error: BaseException | None) -> str:
    """Return the texts of an exception and its causes."""
    parts = []
    while error is not None:
        parts += [str(error), repr(error), repr(error.args)]
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


@pytest.fixture
def nothing_leaks(caplog, capfd):
    """Collect every visible text, and search it for the key at the end of the test."""
    caplog.set_level("DEBUG")
    seen: list[str] = []
    yield seen.append
    out, err = capfd.readouterr()
    everything = "\n".join([*map(str, seen), out, err, caplog.text, *(str(vars(record)) for record in caplog.records)])
    assert len(everything) > 100, "no text was collected: this test could not fail"
    assert not [form for form in FORMS if form in everything]


def break_it(polaris, how):
    {
        "nothing": lambda: None,
        "401": lambda: polaris.fail_next(99, status=401),
        "403": lambda: polaris.fail_next(99, status=403),
        "503": lambda: polaris.fail_next(9999, status=503),
        "cut": lambda: polaris.drop_next(9999),
        "echoed": lambda: polaris.answer_next(99, status=400, body=f"You sent Authorization: Basic {API_KEY}"),
        "echoed in JSON": lambda: polaris.answer_next(
            99, status=403, body=json.dumps({"code": "x", "message": base64.b64encode(f"{API_KEY}:".encode()).decode()})
        ),
    }[how]()


@pytest.mark.parametrize("auth", ["api_key", "basic"])
@pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])
@pytest.mark.parametrize("how", ["nothing", "401", "403", "503", "cut", "echoed", "echoed in JSON"])
def test_a_wait_shows_no_key(polaris, monkeypatch, nothing_leaks, how, deferrable, auth):
    connection = json.loads(connection_without_page(polaris))
    connection["extra"]["auth"] = auth
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))
    job_id = polaris.add_job(executionStatus="running")
    polaris.script(job_id, {}, {}, {"executionStatus": "completed"})

    def make():
        return PolarisJobSensor(task_id="gate", job_id=job_id, deferrable=deferrable, max_unreachable=300)

    sensor = make()
    sensor.render_template_fields(context_of(FakeTaskInstance()))
    nothing_leaks([getattr(sensor, name) for name in sensor.template_fields])
    if deferrable:
        ti = FakeTaskInstance()
        deferred = outcome_of(lambda: sensor.execute(context_of(ti)), ti)
        nothing_leaks(repr(deferred))
        trigger = getattr(deferred.error, "trigger", None)
        nothing_leaks([repr(trigger), trigger and trigger.serialize()])
    outcome = run_task(make, between=lambda: break_it(polaris, how) if deferrable else None)
    if not deferrable:
        break_it(polaris, how)
        outcome = run_task(make)
    assert (outcome.kind == "success") == (how == "nothing")
    nothing_leaks([outcome.xcom, outcome.pushed, outcome.event, shown(outcome.error), repr(sensor), vars(sensor)])


@pytest.mark.parametrize("how", ["nothing", "401", "echoed"])
def test_a_cancellation_shows_no_key(polaris, nothing_leaks, how):
    job_id = polaris.add_job(executionStatus="running")
    break_it(polaris, how)
    outcome = run_task(lambda: PolarisCancelJobOperator(task_id="cancel", job_id=job_id))
    nothing_leaks([outcome, shown(outcome.error)])


def test_a_hook_shows_no_key(polaris, nothing_leaks):
    hook = PolarisHook()
    hook.get_job(polaris.add_job())
    nothing_leaks([repr(hook), repr(hook.get_conn()), repr(hook.connection), str(vars(hook)), hook.test_connection()])
    nothing_leaks([vars(request) for request in polaris.requests])


def test_the_local_polaris_prints_only_its_own_key_and_only_at_its_start():
    """The user copies the key from the output. A key that a request carries is in none of the output."""
    import re
    import threading

    import requests

    command = [sys.executable, "-m", "airflow_provider_polaris.local", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        killer = threading.Timer(20, process.kill)
        killer.start()
        head = "".join(process.stdout.readline() for _ in range(6))
        url = re.search(r"URL\s+(\S+)", head).group(1)
        project = re.search(r"Project id\s+(\S+)", head).group(1)
        own_key = re.search(r"API key\s+(\S+)", head).group(1)
        for key in (API_KEY, own_key):
            for path in ("jobs", "jobs/x", "nowhere", "files"):
                requests.get(
                    f"{url}/v1/projects/{project}/{path}", headers={"Authorization": f"Basic {key}"}, timeout=5
                )
        process.terminate()
        rest = process.stdout.read()
        killer.cancel()
    assert process.returncode == 0
    assert own_key not in rest
    assert not [form for form in FORMS if form in head + rest]
    connection = json.loads(re.search(r"export AIRFLOW_CONN_POLARIS_DEFAULT='(.*)'", head).group(1))
    assert (f"{connection['host']}:{connection['port']}", connection["password"]) == (url, own_key)


@pytest.fixture
def key(polaris, monkeypatch):
    """Set another key for the local Polaris and its connection."""

    def set_key(key):
        polaris.api_key = key
        connection = json.loads(connection_without_page(polaris))
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps({**connection, "password": key}))

    return set_key


@pytest.mark.parametrize("word", ["test", "completed", "id", "executionStatus", "b", '"', "1"])
def test_a_short_key_changes_no_data(polaris, key, word):
    key(word)
    job_id = polaris.add_job(
        executionStatus="completed",
        target={"type": "table", "tableName": "test_orders"},
        metrics={"numRowsProcessed": 11},
    )
    hook = PolarisHook()
    job = hook.get_job(job_id)
    assert (job.id, job.table, job.execution_status) == (job_id, "test_orders", "completed")
    assert hook.get_job_metrics(job_id).rows_processed == 11
    assert [one.id for one in hook.list_jobs(target_table_name="test_orders")] == [job_id]


@pytest.mark.parametrize("body", [{"headers": f"Basic {API_KEY}"}, [API_KEY], {"id": 7, "x": "y" * 20 + API_KEY}])
@pytest.mark.parametrize("call", ["get_job", "get_job_status", "get_job_metrics", "get_job_logs", "get_job_progress"])
def test_a_response_of_a_wrong_shape_that_echoes_the_key_is_quoted_without_it(polaris, nothing_leaks, body, call):
    """A gateway in front of the service may return the request as its response."""
    job_id = polaris.add_job()
    polaris.answer_next(9, status=200, body=json.dumps(body))
    try:
        answer = getattr(PolarisHook(), call)(job_id)
    except PolarisApiError as error:
        nothing_leaks([shown(error), "*" * 100])
    else:
        assert call == "get_job_metrics", "an object without counters is valid: no counter is reported"
        nothing_leaks([str(answer), "*" * 100])
    finally:
        polaris.clear_faults()


def test_an_invalid_response_that_consists_of_the_key_is_not_quoted(polaris, key):
    key("7")
    job_id = polaris.add_job(executionStatus="running")
    polaris.answer_next(1, status=200, body='{"id": 7, "executionStatus": "running"}')
    with pytest.raises(PolarisInvalidResponse) as raised:
        PolarisHook().get_job(job_id)
    assert "7" not in str(raised.value).replace(job_id, "")
