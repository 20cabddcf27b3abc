"""The command that serves a local Polaris."""

from __future__ import annotations

import subprocess
import sys

import pytest
import requests


@pytest.mark.parametrize(("host", "says"), [("127.0.0.1", False), ("0.0.0.0", True)])  # noqa: S104 - that is the point
def test_the_command_warns_if_it_listens_to_other_machines(host, says):
    command = [sys.executable, "-m", "airflow_provider_polaris.local", "--port", "0", "--host", host]
    with subprocess.Popen([*command, "--without", "ManageFiles"], stdout=subprocess.PIPE, text=True) as process:
        head = [process.stdout.readline() for _ in range(6)]
        key, project = (head[number].split()[-1] for number in (1, 2))
        url = head[0].split()[-1].replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        get = f"{url}/v1/projects/{project}/files"
        assert requests.get(get, headers={"Authorization": f"Basic {key}"}, timeout=5).status_code == 403
        process.terminate()
        rest = process.stdout.read()
    assert ("anyone who can reach this port" in rest) == says
    assert process.returncode == 0
