"""The local Polaris starts, listens and stops without leaving anything behind."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import requests

from airflow_provider_polaris.local import LocalPolaris
from tests.support.local_calls import caller_of


def test_the_server_listens_on_ipv6():
    with LocalPolaris(host="::1") as other:
        assert caller_of(other)("GET", "jobs").status_code == 200


def test_an_unknown_permission_is_an_error():
    with pytest.raises(ValueError, match="ManageEverything"):
        LocalPolaris(permissions=["ManageEverything"])


def test_the_server_leaves_no_thread_behind():
    def own():
        return {thread for thread in threading.enumerate() if "local-polaris" in thread.name}

    before = own()
    with LocalPolaris() as other:
        url = other.url
        assert requests.get(f"{url}/local/state", timeout=5).status_code == 401
        assert own() > before
    assert own() == before
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)


def test_a_failed_start_leaves_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match=r".*"), LocalPolaris(host="203.0.113.1"):  # no address of this machine
        pass
    wrong = tmp_path / "no-certificate"
    wrong.write_text("x")
    with pytest.raises((RuntimeError, OSError)), LocalPolaris(certfile=str(wrong)):
        pass
    assert list(tmp_path.iterdir()) == [wrong]


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_an_invalid_speed_is_an_error(speed):
    with pytest.raises(ValueError, match="rows_per_second"):
        LocalPolaris(rows_per_second=speed)


def test_the_server_leaves_no_folder_behind():
    with LocalPolaris() as polaris:
        assert caller_of(polaris)("POST", "files", files={"file": ("x", b"")}).status_code == 201
        folder = Path(polaris._store._folder.name)
        assert folder.is_dir()
    assert not folder.exists()


def test_the_server_starts_without_the_libraries_that_only_rows_need():
    """Their import takes a fifth of a second, and a local Polaris may run no job that reads rows."""
    program = "import sys; import airflow_provider_polaris.local; print({'duckdb', 'sqlglot'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
