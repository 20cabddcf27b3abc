"""The command that serves a local Polaris."""

from __future__ import annotations

import errno
import json
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
import requests

from airflow_provider_polaris.local.__main__ import _is_loopback, main


@pytest.mark.parametrize(("host", "warns"), [("127.0.0.1", False), ("0.0.0.0", True)])  # noqa: S104 - the test is about it
def test_the_command_warns_if_it_listens_to_other_machines(host, warns):
    command = [sys.executable, "-m", "airflow_provider_polaris.local", "--port", "0", "--host", host]
    with subprocess.Popen([*command, "--without", "ManageFiles"], stdout=subprocess.PIPE, text=True) as process:
        head = [process.stdout.readline() for _ in range(6)]
        key, project = (head[number].split()[-1] for number in (1, 2))
        url = head[0].split()[-1].replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        get = f"{url}/v1/projects/{project}/files"
        assert requests.get(get, headers={"Authorization": f"Basic {key}"}, timeout=5).status_code == 403
        process.terminate()
        rest = process.stdout.read()
    assert ("anyone who can reach this port" in rest) == warns
    assert process.returncode == 0


@pytest.mark.parametrize("memory", ["512", "lots", "1 GB", "-5MB", ""])
def test_a_memory_that_is_no_size_is_refused(monkeypatch, memory):
    monkeypatch.setattr(sys, "argv", ["local", "--port", "0", f"--memory={memory}"])
    with pytest.raises(ValueError, match="memory must be a number of MB or GB, such as 512MB"):
        main()


@pytest.fixture
def run_main(monkeypatch, capsys):
    """Return a function that runs the command in this process for a moment, and returns its output."""

    def run(*arguments):
        def stop_soon(number, handler):
            """Take the handler of a signal, and stop as soon as the command is ready for the signal."""
            if number == signal.SIGTERM:
                threading.Timer(0.1, handler).start()

        monkeypatch.setattr(sys, "argv", ["local", *arguments])
        monkeypatch.setattr(signal, "signal", stop_soon)
        main()
        return capsys.readouterr().out

    return run


def test_the_command_prints_the_connection_and_stops_at_a_signal(run_main):
    printed = run_main("--port", "0", "--api-key", "pok_given", "--project-id", "given", "--counters", "older")
    assert re.search(r"^URL +http://127\.0\.0\.1:\d+$", printed, re.MULTILINE)
    assert re.search(r"^API key +pok_given$", printed, re.MULTILINE)
    assert re.search(r"^Project id +given$", printed, re.MULTILINE)
    connection = json.loads(printed.partition("AIRFLOW_CONN_POLARIS_DEFAULT='")[2].rstrip("\n'"))
    assert (connection["password"], connection["extra"]["project_id"]) == ("pok_given", "given")
    assert connection["extra"]["job_url_template"] == f"{connection['host']}:{connection['port']}/#{{job_id}}"


def test_the_command_names_a_port_that_is_taken(run_main):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemExit, match=rf"^Port {port} of 127\.0\.0\.1 is taken"):
            run_main("--port", str(port))


def test_the_command_does_not_hide_another_error_of_the_network(run_main):
    with pytest.raises(OSError, match=r".*") as caught:
        run_main("--port", "0", "--host", "203.0.113.1")  # no address of this machine
    assert caught.value.errno != errno.EADDRINUSE


def test_a_host_name_other_than_localhost_may_be_another_machine():
    assert _is_loopback("localhost")
    assert _is_loopback("::1")
    assert not _is_loopback("polaris.example")


def test_the_command_prints_a_warning_for_an_address_of_all_interfaces(run_main):
    printed = run_main("--port", "0", "--host", "0.0.0.0")  # noqa: S104 - the test is about it
    assert "anyone who can reach this port and has the key can use it" in printed
