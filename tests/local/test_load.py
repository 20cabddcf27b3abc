"""The local Polaris is fast, and needs little memory: limits for the figures of ``make bench``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.airflow_versions import AIRFLOW_3

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads CPU time and memory from /proc"),
    pytest.mark.skipif(not AIRFLOW_3, reason="it does not depend on the version of Airflow"),
]


def test_a_million_rows_need_little_memory_and_2000_jobs_leave_time_for_200_requests_per_second():
    command = [sys.executable, "-m", "benchmarks.local_polaris", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    figures = json.loads(run.stdout)
    assert figures["peak_mb"] < 400, figures  # DuckDB may take 512 MB
    assert figures["rows_per_cpu_second"] >= 100_000, figures
    assert figures["mixed_per_cpu_second"] >= 200, figures
