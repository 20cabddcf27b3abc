"""A pool of threads for blocking calls, which never delays the end of the process."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

_Call = tuple[Future[Any], Callable[[], Any]]


class DaemonThreadPool(Executor):
    """Like ``ThreadPoolExecutor``, with daemon threads.

    At its exit, Python waits for the threads of every ``ThreadPoolExecutor``. When a triggerer of Airflow 2.11 is
    stopped, a request that hangs would delay its exit by up to the connection's ``timeout``: 29 s were measured.

    The thread that became idle last makes the next call. A few calls at a time then use few threads, however many have
    started. Each thread has an arena of the C allocator, which keeps about twice the size of the largest response that
    the thread has read. Eight threads that took turns kept 7 MB after they had read lists of 1,000 jobs.

    :param max_workers: the most threads. A thread starts when no other thread is free.
    :param name: the start of the threads' names.
    """

    def __init__(self, max_workers: int, name: str) -> None:
        self._max_workers = max_workers
        self._name = name
        #: Calls that wait for a thread.
        self._calls: deque[_Call] = deque()
        #: The inboxes of the threads that are idle, the thread that became idle last at the end.
        self._idle: list[queue.SimpleQueue[_Call]] = []
        self._lock = threading.Lock()
        self._threads = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call the function as soon as a thread is free. Return the future of its result."""
        future: Future[T] = Future()
        call = (future, partial(fn, *args, **kwargs))
        with self._lock:
            if self._idle:
                self._idle.pop().put(call)
            elif self._threads < self._max_workers:
                name = f"{self._name}_{self._threads}"
                self._threads += 1
                inbox: queue.SimpleQueue[_Call] = queue.SimpleQueue()
                inbox.put(call)
                threading.Thread(target=self._work, args=(inbox,), name=name, daemon=True).start()
            else:
                self._calls.append(call)
        return future

    def _work(self, inbox: queue.SimpleQueue[_Call]) -> None:
        while True:
            future, call = inbox.get()
            if future.set_running_or_notify_cancel():
                _resolve(future, call)
            del future, call  # otherwise they hold the result until the next call
            with self._lock:
                if self._calls:
                    inbox.put(self._calls.popleft())
                else:
                    self._idle.append(inbox)


def _resolve(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - the future raises the error to its waiter
        future.set_exception(error)
    else:
        future.set_result(result)
