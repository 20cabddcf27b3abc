"""The command ``wait``: the verdict of the sensor, its timeouts, and Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from airflow_provider_polaris.exceptions import PolarisGateRefused
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from tests.support.airflow_versions import FakeTaskInstance, context_of

COMPLETED = {
    "executionStatus": "completed",
    "type": "batch",
    "target": {"tableName": "orders"},
    "health": {"status": "ok"},
    "metrics": {"numRowsProcessed": 10, "numRowsSkippedByError": 3},
}
LIMIT = {"max_rows_skipped_by_error": 0}


def test_a_good_job_passes_with_the_line_of_the_sensor(polaris, run, moved_clock):
    job_id = polaris.add_job(**COMPLETED)
    ended = run("wait", job_id)
    assert ended == (0, f"Gate opens: orders completed, 10 in, 3 lost. Job {job_id}. Polled 1 time.\n", "")
    result = json.loads(run("wait", job_id, "--output", "json").out)
    assert (result["verdict"], result["table"], result["metrics"]["numRowsProcessed"]) == ("pass", "orders", 10)


def test_a_refused_job_fails_with_the_message_of_the_sensor(polaris, run, moved_clock):
    job_id = polaris.add_job(**COMPLETED)
    sensor = PolarisJobSensor(task_id="gate", job_id=job_id, **LIMIT)
    with pytest.raises(PolarisGateRefused) as refused:
        sensor.execute(context_of(FakeTaskInstance()))
    ended = run("wait", job_id, "--max-rows-skipped-by-error", "0")
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[0] == "Refused: orders lost 3 rows, max_rows_skipped_by_error is 0"
    assert lines == str(refused.value).splitlines()[: len(lines)]
    result = json.loads(run("wait", job_id, "--max-rows-skipped-by-error", "0", "-o", "json").out)
    assert result["verdict"] == "refused"


@pytest.mark.parametrize(
    ("options", "job", "code"),
    [
        (["--min-rows-processed", "11"], {}, 1),
        (["--min-rows-processed", "10"], {}, 0),
        (["--max-error-ratio", "0.1"], {}, 1),
        (["--max-rows-with-warning", "0"], {"metrics": {"numRowsProcessedWithWarning": 1}}, 1),
        ([], {"health": {"status": "warn", "code": "no_rows_found"}}, 1),
        (["--fail-on-warnings", "none"], {"health": {"status": "warn", "code": "no_rows_found"}}, 0),
        ([], {"health": {"status": "warn", "code": "invalid_rows_found"}}, 0),
        (["--fail-on-warnings", "any"], {"health": {"status": "warn", "code": "invalid_rows_found"}}, 1),
        (["--fail-on-warnings", "multiple, invalid_rows_found"], {"health": {"status": "warn", "code": "multiple"}}, 1),
        (["--fail-on-unhealthy"], {"executionStatus": "running", "health": {"status": "error"}}, 1),
        (["--wait-for", "running"], {"executionStatus": "running", "type": "streaming"}, 0),
        ([], {"executionStatus": "running", "type": "streaming"}, 2),
        ([], {"executionStatus": "canceled"}, 1),
        ([], {"executionStatus": "failed", "health": {"status": "error"}}, 1),
    ],
    ids=str,
)
def test_each_option_of_the_gate_decides(polaris, run, moved_clock, options, job, code):
    job_id = polaris.add_job(**{**COMPLETED, **job})
    assert run("wait", job_id, *options).code == code


def test_an_undocumented_warning_code_is_named(polaris, run, moved_clock):
    ended = run("wait", polaris.add_job(**COMPLETED), "--fail-on-warnings", "no_rows_fuond")
    assert ended.code == 0
    assert "names no_rows_fuond, which is not documented" in ended.err


def test_wait_until_available_also_waits_for_the_table(polaris, run, moved_clock):
    polaris.add_table("orders")
    ended = run("wait", polaris.add_job(**COMPLETED), "--wait-until-available")
    assert ended.code == 0
    assert "table 'orders' is available" in ended.out
    assert moved_clock.moved >= 30


def test_a_key_that_cannot_read_the_table_is_named_when_the_wait_begins(polaris, run, moved_clock, monkeypatch):
    monkeypatch.setattr(polaris._gatekeeper, "permissions", frozenset({"ManageIngestionJobs"}))
    job_id = polaris.add_job(**{**COMPLETED, "executionStatus": "running"})
    ended = run("wait", job_id, "--wait-until-available")
    assert ended.code == 3
    assert "wait_until_available is set, and the availability of table 'orders' cannot be read" in ended.err
    assert moved_clock.slept == []


def test_changes_of_a_job_are_lines_on_stderr(polaris, run, moved_clock):
    job_id = polaris.add_job(**{**COMPLETED, "executionStatus": "pending"})
    polaris.script(job_id, {"executionStatus": "pending"}, {"executionStatus": "running"}, COMPLETED)
    ended = run("wait", job_id)
    assert ended.code == 0
    assert ended.err.splitlines() == [f"orders is pending. Job {job_id}", f"orders is running. Job {job_id}"]
    assert moved_clock.slept == [10.0, 10.0]


def test_a_timeout_names_the_job_and_has_an_exit_code_of_its_own(polaris, run, moved_clock):
    job_id = polaris.add_job(**{**COMPLETED, "executionStatus": "running"})
    ended = run("wait", job_id, "--timeout", "25")
    assert ended.code == 4
    assert ended.out.splitlines() == [
        "Timeout: orders was running after 25 s (timeout)",
        "The job was not canceled. To wait longer, raise --timeout",
        f"Job {job_id}",
    ]
    result = json.loads(run("wait", job_id, "--timeout", "25", "-o", "json").out)
    assert (result["verdict"], result["job_id"]) == ("timeout", job_id)
    assert not [request for request in polaris.requests if request.method != "GET"]


def test_a_wait_survives_a_short_outage_and_a_long_one_is_an_outage(polaris, run, moved_clock):
    job_id = polaris.add_job(**COMPLETED)
    polaris.fail_next(3, status=503)
    ended = run("wait", job_id)
    assert ended.code == 0
    assert "The wait continues after a failed poll" in ended.err
    polaris.fail_next(99, status=503)
    ended = run("wait", job_id, "--max-unreachable", "60")
    assert (ended.code, ended.out) == (3, "")
    assert "max_unreachable 60" in ended.err


COMMAND = [sys.executable, "-W", "ignore", "-m", "airflow_provider_polaris"]


def test_ctrl_c_leaves_the_job_and_says_so(polaris):
    job_id = polaris.add_job(**{**COMPLETED, "executionStatus": "running"})
    with subprocess.Popen(
        [*COMMAND, "wait", job_id, "--poll-interval", "30"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first = next(line for line in process.stderr if "orders is running" in line)
        # As a person does, again if nothing happens: Python may be at a place where it drops the first one. Not soon:
        # a second one would interrupt the end of the process.
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                out, err = process.communicate(timeout=30)
                break
    assert first
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == f"Interrupted: orders was running. The job was not canceled. Job {job_id}"
    assert not [request for request in polaris.requests if request.method != "GET"]


def on_a_terminal(argv, env):
    """Run a command on a terminal of 80 columns, and return its exit code, its stdout and what the terminal got."""
    reader, writer = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | env
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=writer, stdin=writer, env=env) as process:
        os.close(writer)
        shown = b""
        while True:
            try:
                piece = os.read(reader, 4096)
            except OSError:  # the end of the terminal
                break
            if not piece:
                break
            shown += piece
        out = process.stdout.read()
    os.close(reader)
    return process.returncode, out.decode(), shown.decode()


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_shows_a_bar_and_stdout_has_only_the_result(polaris, no_color):
    job_id = polaris.add_job(**{**COMPLETED, "executionStatus": "running"})
    polaris.script(job_id, *[{"executionStatus": "running"}] * 4, {"executionStatus": "completed"})
    argv = [*COMMAND, "wait", job_id, "--poll-interval", "0.3", "-o", "json"]
    env = {"TERM": "xterm-256color", "COLUMNS": "80", **({"NO_COLOR": no_color} if no_color else {})}
    code, out, shown = on_a_terminal(argv, env)
    assert code == 0
    assert json.loads(out)["verdict"] == "pass"
    assert f"orders is running. Job {job_id}\r\n" in shown
    assert re.search("orders: running, 10 in, 3 lost .* 0%", shown)
    colors = re.search(r"\x1b\[(?:3[0-9]|9[0-7]|38;)", shown)
    assert bool(colors) != bool(no_color)


def test_a_terminal_shows_the_progress_of_an_upload(polaris, tmp_path):
    path = tmp_path / "large.csv"
    path.write_bytes(b"x\n" * 4_000_000)
    argv = [*COMMAND, "upload", path]
    code, out, shown = on_a_terminal(argv, {"TERM": "xterm", "COLUMNS": "80"})
    assert code == 0
    assert out.splitlines()[1].split() == ["large.csv", "8,000,000", "sent"]
    without_colors = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(r"large\.csv .* [1-9][0-9]*%", without_colors)


def test_a_dumb_terminal_gets_lines_and_no_bar(polaris):
    job_id = polaris.add_job(**{**COMPLETED, "executionStatus": "running"})
    polaris.script(job_id, {"executionStatus": "running"}, {"executionStatus": "completed"})
    argv = [*COMMAND, "wait", job_id, "--poll-interval", "0.1"]
    code, out, shown = on_a_terminal(argv, {"TERM": "dumb"})
    assert code == 0
    assert out.startswith("Gate opens: orders completed")
    assert "\x1b" not in shown
    assert f"orders is running. Job {job_id}" in shown
