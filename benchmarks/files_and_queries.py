"""Measure uploads and queries of this provider beside plain requests: ``python -m benchmarks.files_and_queries``.

It prints the memory that an upload takes, and the time of Airflow's SQL hook for 100,000 rows as a multiple of the time
of a request whose JSON is parsed. Linux and macOS: the memory comes from ``resource``.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import IO, Any

import requests

from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.dbapi import Connection
from airflow_provider_polaris.local import LocalPolaris

#: The most memory that an upload may take, in MB, and the longest time of a query, in times of a plain one.
MAX_MEMORY, MAX_RATIO = 100, 2.0
TIMES = 5
QUERY = 'SELECT "n", "city", __time FROM "rows"'


class Zeros(io.RawIOBase):
    """A source of so many bytes that are in no file."""

    name = "zeros.json"

    def __init__(self, size: int) -> None:
        self._size = self._left = size

    def stat(self) -> Any:
        """Return an object with the size."""
        return type("Stat", (), {"st_size": self._size})

    def open(self, _mode: str) -> IO[bytes]:
        """Start again."""
        self._left = self._size
        return self  # type: ignore[return-value]

    def read(self, most: int = -1) -> bytes:
        """Return the next bytes."""
        part = min(most, self._left)
        self._left -= part
        return bytes(part)

    def close(self) -> None:
        """Stay open, for another try."""


def peak() -> float:
    """Return the largest memory of this process so far, in MB."""
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def load(client: PolarisClient, rows: int) -> None:
    """Load so many rows."""
    lines = "".join(f'{{"t": "2026-11-01T00:00:00Z", "n": {n}, "city": "city {n % 100}"}}\n' for n in range(rows))
    client.upload_file(io.BytesIO(lines.encode()), "rows.json")
    inputs = [{"name": "t", "dataType": "string"}, {"name": "n", "dataType": "long"}]
    mapped = {"__time": 'TIME_PARSE("t")', "n": '"n"', "city": '"city"'}
    job = client.create_job(
        {
            "type": "batch",
            "createTableIfNotExists": True,
            "target": {"type": "table", "tableName": "rows"},
            "source": {
                "type": "uploaded",
                "fileList": ["rows.json"],
                "inputSchema": [*inputs, {"name": "city", "dataType": "string"}],
                "formatSettings": {"format": "nd-json"},
            },
            "mappings": [{"columnName": name, "expression": text} for name, text in mapped.items()],
        }
    )
    while not client.get_job(job.id).execution_status.is_over:
        time.sleep(0.1)


def plain(polaris: LocalPolaris) -> int:
    """Query with requests alone."""
    answer = requests.post(
        f"{polaris.url}/v1/projects/{polaris.project_id}/query/sql",
        json={"query": QUERY, "resultFormat": "array"},
        headers={"Authorization": f"Basic {polaris.api_key}"},
        timeout=60,
    )
    return len(json.loads(answer.content))


def cursor(client: PolarisClient) -> int:
    """Query as Airflow's SQL operators do."""
    return len(Connection(client).cursor().execute(QUERY).fetchall())


def seconds(run: Callable[[], int], rows: int) -> float:
    """Return how long a run takes."""
    started = time.monotonic()
    if run() != rows:
        raise SystemExit("A query returned too few rows")
    return time.monotonic() - started


def main() -> int:
    """Print the figures. Return 1 if one is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--megabytes", type=int, default=500, help="the size of the upload")
    options = parser.parse_args()
    with LocalPolaris() as polaris:
        connection = PolarisConnection.from_values(
            host=polaris.url, project_id=polaris.project_id, api_key=polaris.api_key
        )
        client = PolarisClient(connection)
        client.upload_file(io.BytesIO(b"{}"), "first.json")
        before = peak()  # before anything else takes more memory
        client.upload_file(Zeros(options.megabytes * 1_000_000))
        memory = peak() - before
        load(client, options.rows)
        ratios = []
        for _ in range(TIMES):  # in turns, so that both have the same machine
            base = seconds(lambda: plain(polaris), options.rows)
            ratios.append(seconds(lambda: cursor(client), options.rows) / base)
        ratio = statistics.median(ratios)
        client.close()
    print(f"{'an upload of ' + str(options.megabytes) + ' MB takes':48}{memory:8.0f} MB   at most {MAX_MEMORY}")
    print(f"{f'{options.rows:,} rows, times a plain request':48}{ratio:8.2f}      at most {MAX_RATIO}")
    return int(memory > MAX_MEMORY or ratio > MAX_RATIO)


if __name__ == "__main__":
    sys.exit(main())
