"""The lines with a job's progress in the log of a wait: when they are due, and what they say.

No wait depends on these lines. A request for them never delays a poll by more than :data:`READ_SECONDS`, and its
failure never ends a wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.errors import PolarisError

#: A wait reports after so many seconds, and then once in each further interval.
EARLY_SECONDS = (60.0, 120.0, 300.0, 600.0)
INTERVAL_SECONDS = 900.0
#: How long a poll on a worker waits for the numbers.
READ_SECONDS = 2.0


def next_report(waited: float) -> float:
    """Return when the next line is due: 1, 2, 5, 10 and 15 minutes after the beginning, then every 15 minutes.

    Both times are seconds since the wait began. The result is always later than ``waited``.
    """
    early = next((seconds for seconds in EARLY_SECONDS if seconds > waited), None)
    return early or (waited // INTERVAL_SECONDS + 1) * INTERVAL_SECONDS


def read_progress(client: PolarisClient, job_id: str) -> str:
    """Return how far the job is: ``37 %, 8,876 in, 3 lost``. A number that cannot be read is left out."""
    numbers = []
    with suppress(PolarisError):
        progress = client.get_job_progress(job_id, retry=False)
        numbers += [f"{100 * progress:.0f} %"] if 0 <= progress <= 1 else []
    with suppress(PolarisError):
        numbers.append(str(client.get_job_metrics(job_id, retry=False)))
    return ", ".join(filter(None, numbers))


class ReportTimer:
    """As a context manager in a triggerer: starts a task for each line when the line is due.

    Between two lines there is only a timer. A task that sleeps takes 2 KB, and a triggerer has a thousand waits.

    :param report: logs one line. If it raises, no further line is due.
    """

    __slots__ = ("_began", "_due", "_report", "_task", "_timer")

    def __init__(self, report: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._report = report
        self._began = clock.monotonic()
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._start_timer()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for started in (self._timer, self._task):
            if started:
                started.cancel()

    def _start_timer(self) -> None:
        # An event loop may wake a little early.
        waited = clock.monotonic() - self._began
        self._due = next_report(max(self._due, waited))
        self._timer = asyncio.get_running_loop().call_later(self._due - waited, self._start_task)

    def _start_task(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        await self._report()
        self._task = None
        self._start_timer()


class ProgressReader:
    """Reads a job's progress on a worker, for a short time at most."""

    def __init__(self, client: PolarisClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._thread: threading.Thread | None = None

    def read(self) -> str:
        """Return how far the job is. Empty if Polaris takes longer than :data:`READ_SECONDS`."""
        if self._thread and self._thread.is_alive():
            return ""  # the request before still hangs
        answers: list[str] = []
        # A daemon thread: a request that hangs must not keep the task's process alive.
        self._thread = threading.Thread(
            target=lambda: answers.append(read_progress(self._client, self._job_id)), daemon=True
        )
        self._thread.start()
        self._thread.join(READ_SECONDS)
        return answers[0] if answers else ""
