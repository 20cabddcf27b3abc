"""A StatsD server for tests: it keeps what Airflow sends to it over UDP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.airflow_versions import AIRFLOW_3


class StatsdServer:
    """Receives metrics. Each is ``name,tag=value:number|type``."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self.port = self._socket.getsockname()[1]

    def received(self) -> dict[str, tuple[float, dict[str, str]]]:
        """Return the number and the tags of each of this provider's metrics, by name. Equal names are added up."""
        found: dict[str, tuple[float, dict[str, str]]] = {}
        while True:
            try:
                packet = self._socket.recv(65536).decode()
            except TimeoutError:
                return found
            head, _, number = packet.partition(":")
            name, *tags = head.split(",")
            if name.startswith("airflow.polaris."):
                name = name.removeprefix("airflow.polaris.")
                total = float(number.partition("|")[0]) + found.get(name, (0.0, {}))[0]
                found[name] = total, dict(tag.split("=", 1) for tag in tags)

    def close(self) -> None:
        """Free the port."""
        self._socket.close()


def settings(port: int) -> dict[str, str]:
    """Return the environment in which Airflow sends its metrics to this port, with tags."""
    options = {
        "STATSD_ON": "True",
        "STATSD_HOST": "127.0.0.1",
        "STATSD_PORT": port,
        "STATSD_INFLUXDB_ENABLED": "True",
        "METRICS_USE_PATTERN_MATCH": "True",  # 2.11 warns without it
    }
    return {f"AIRFLOW__METRICS__{name}": str(value) for name, value in options.items()}


@contextmanager
def sending() -> Iterator[None]:
    """Let this process send metrics as the environment says. Airflow decides that once, when a process starts."""
    if AIRFLOW_3:
        from airflow.sdk._shared.observability.metrics import stats
        from airflow.sdk.observability.metrics import stats_utils

        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
        yield
        backend = stats._backend
        stats.initialize(factory=stats.NoStatsLogger, export_legacy_names=True)
    else:
        from airflow.metrics.base_stats_logger import NoStatsLogger
        from airflow.metrics.statsd_logger import get_statsd_logger
        from airflow.stats import Stats

        type(Stats).factory, Stats.instance = get_statsd_logger, None
        yield
        backend = Stats.instance
        type(Stats).factory, Stats.instance = NoStatsLogger, None
    if client := getattr(backend, "statsd", None):
        client.close()
