"""Whether the threads that send the requests of triggers have nothing left to send."""

from __future__ import annotations

import threading

from airflow_provider_polaris.polling import shared_client
from airflow_provider_polaris.polling.threads import DaemonThreadPool


def are_free(seconds: float = 10.0) -> bool:
    """Return whether all threads of the pools become free in that time."""
    pools = (shared_client.poll_threads(), shared_client.list_threads(), shared_client._spare_pool)
    return all(_is_free(pool, seconds) for pool in pools if pool._inboxes)


def _is_free(pool: DaemonThreadPool, seconds: float) -> bool:
    """All threads must reach one barrier."""
    barrier = threading.Barrier(pool._max_workers)
    reached = [pool.submit(barrier.wait, seconds) for _ in range(barrier.parties)]
    return not any(future.exception() for future in reached)
