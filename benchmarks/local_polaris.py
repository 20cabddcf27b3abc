"""Measure the local Polaris: rows per second, memory, and requests per second with 2,000 jobs.

python -m benchmarks.local_polaris [--rows N] prints a table, or with --json one line of JSON. Figures are per second
of the server's own CPU time, so that other processes have little effect. Linux only: the benchmark reads /proc.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import requests

JOBS = 2_000
REQUESTS = 1_000


class Server(NamedTuple):
    """A local Polaris in a process of its own, and a session for its requests."""

    process: subprocess.Popen[str]
    base: str
    session: requests.Session

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Send a request. Return the JSON of the response, or raise if the status is an error."""
        answer = self.session.request(method, f"{self.base}/{path}", timeout=60, **options)
        answer.raise_for_status()
        return answer.json()

    def cpu(self) -> float:
        """Return the CPU time that the server has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, what: str) -> float:
        """Return the memory of the server in MB: ``VmRSS`` is the current one, ``VmHWM`` the largest so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(rf"{what}:\s+(\d+) kB", status)
        return int(match[1]) / 1000 if match else 0.0


def start(memory: str) -> Server:
    """Start a server, and wait until it listens."""
    command = [sys.executable, "-m", "airflow_provider_polaris.local", "--port", "0", "--memory", memory]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    head = "".join(process.stdout.readline() for _ in range(3)) if process.stdout else ""
    url, key, project = (line.split()[-1] for line in head.splitlines())
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Basic {key}"
    return Server(process, f"{url}/v1/projects/{project}", session)


def spec_of(name: str) -> dict[str, Any]:
    """Return the spec of a job that reads the file."""
    columns = {"timestamp": "string", "city": "string", "session": "string", "items": "long", "amount": "double"}
    return {
        "type": "batch",
        "createTableIfNotExists": True,
        "target": {"type": "table", "tableName": "orders"},
        "source": {
            "type": "uploaded",
            "fileList": [name],
            "formatSettings": {"format": "nd-json"},
            "inputSchema": [{"name": column, "dataType": kind} for column, kind in columns.items()],
        },
        "mappings": [{"columnName": "__time", "expression": 'TIME_PARSE("timestamp")'}],
    }


def write(path: Path, rows: int) -> None:
    """Write a gzip of orders, some with a broken value. The rows repeat after 10,000: gzip sees fewer rows at once."""
    block = []
    for number in range(min(rows, 10_000)):
        minute, second = divmod(number // 2, 60)
        moment = f"2026-11-{1 + number % 28:02}T{minute // 60 % 24:02}:{minute % 60:02}:{second:02}Z"
        amount = '"N/A"' if number % 1000 == 0 else f"{number % 997 / 7:.2f}"
        block.append(
            f'{{"timestamp": "{moment}", "city": "city {number % 91}", "session": "S{number * 7919}", '
            f'"items": {number % 9}, "amount": {amount}}}\n'
        )
    with gzip.open(path, "wt", compresslevel=1) as data:
        for start in range(0, rows, len(block)):
            data.writelines(block[: rows - start])


def read_rows(server: Server, rows: int) -> dict[str, float]:
    """Let the server read a large file. Return its speed and its largest memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.json.gz"
        write(path, rows)
        with path.open("rb") as data:
            server.call("POST", "files", files={"file": (path.name, data)})
    before = server.cpu()
    job = f"jobs/{server.call('POST', 'jobs', json=spec_of('orders.json.gz'))['id']}"
    while server.call("GET", f"{job}/status")["executionStatus"] not in ("completed", "failed"):
        time.sleep(0.5)
    seconds = max(server.cpu() - before, 0.01)  # the CPU clock has steps of 10 ms
    counters = server.call("GET", f"{job}/metrics")["totals"]
    read = counters["numRowsPersisted"]
    if read != rows:
        raise AssertionError(f"{read} of {rows} rows were read")
    return {"rows_per_cpu_second": rows / seconds, "peak_mb": server.memory("VmHWM")}


def answer_requests(server: Server) -> dict[str, float]:
    """Create many jobs. Return how many requests of each kind the server answers in a second of CPU time."""
    query = "INSERT INTO t SELECT 1 PARTITIONED BY ALL"
    spec = {"type": "sql", "createTableIfNotExists": True, "query": query}
    ids = [server.call("POST", "jobs", json=spec)["id"] for _ in range(JOBS)]

    def rate(count: int, *paths: str) -> float:
        before = server.cpu()
        for number in range(count):
            server.call("GET", paths[number % len(paths)])
        return count / max(server.cpu() - before, 0.01)

    by_id = [f"jobs/{job}" for job in ids]
    return {
        "by_id_per_cpu_second": rate(REQUESTS, *by_id),
        "list_of_100_per_cpu_second": rate(REQUESTS // 5, "jobs?executionStatus=pending"),
        "list_of_1000_per_cpu_second": rate(REQUESTS // 20, "jobs?executionStatus=pending&paginationLimit=1000"),
        "mixed_per_cpu_second": rate(REQUESTS, *by_id[:9], "jobs?executionStatus=pending"),
        "mb_with_jobs": server.memory("VmRSS"),
    }


def measure(rows: int, memory: str) -> dict[str, float]:
    """Return all figures."""
    server = start(memory)
    try:
        return {"mb_idle": server.memory("VmRSS"), **read_rows(server, rows), **answer_requests(server)}
    finally:
        server.session.close()
        server.process.terminate()
        server.process.communicate(timeout=30)


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--memory", default="512MB", help="of the local Polaris (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.rows, options.memory)
    if options.json:
        print(json.dumps(figures))
        return
    print(f"A gzip of {options.rows:,} rows of nd-json; then {JOBS:,} jobs")
    for name, value in figures.items():
        print(f"  {name.replace('_', ' '):28} {value:12,.0f}")


if __name__ == "__main__":
    main()
