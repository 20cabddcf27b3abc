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

    At its exit, Python waits for the threads of every ``ThreadPoolExecutor``. When a triggerer of Airflow 2.11 is
    stopped, a request that hangs would delay its exit by up to the connection's ``timeout``: 29 s were measured.

    :param max_workers: the most threads. A thread starts when no other thread is free.
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
        """Call the function as soon as a thread is free. Return the future of its result."""
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
            del future, call  # otherwise they hold the result until the next call
            self._idle.release()


def _resolve(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - the future raises the error to its waiter
        future.set_exception(error)
    else:
        future.set_result(result)
