"""A pool of threads for blocking calls, which never delays the end of the process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonThreadPool(Executor):
    """Like ``ThreadPoolExecutor``, with daemon threads.

    Python waits at its exit for the threads of every ``ThreadPoolExecutor``. A triggerer of Airflow 2.11 that is told
    to end would wait for a request that hangs, up to the connection's ``timeout``: 29 s were measured.

    :param max_workers: the most threads; each is started when it is first needed.
    :param name: the start of the threads' names.
    """

    def __init__(self, max_workers: int, name: str) -> None:
        self._max_workers = max_workers
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call the function in a thread as soon as one is free; return its future result."""
        future: Future[T] = Future()
        self._calls.put((future, partial(fn, *args, **kwargs)))
        with self._lock:
            if not self._idle.acquire(blocking=False) and self._threads < self._max_workers:
                name = f"{self._name}_{self._threads}"
                self._threads += 1
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            future, call = self._calls.get()
            if future.set_running_or_notify_cancel():
                _resolve(future, call)
            del future, call  # they hold the result until the next call comes
            self._idle.release()


def _resolve(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - whoever waits for the future gets it
        future.set_exception(error)
    else:
        future.set_result(result)
