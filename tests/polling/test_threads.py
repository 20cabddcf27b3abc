"""The thread pool of a triggerer's requests: at most so many threads, and none that delays the end of the process."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, wait

import pytest

from airflow_provider_polaris.polling.threads import DaemonThreadPool


@pytest.fixture
def pool():
    return DaemonThreadPool(3, "test")


def test_a_call_returns_or_raises_through_its_future(pool):
    assert pool.submit(pow, 2, exp=5).result(5) == 32
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(5)
    assert pool.submit(int, "7").result(5) == 7, "the thread survives a call that raised"


def test_the_pool_runs_at_most_as_many_calls_at_once_as_it_has_threads(pool):
    running, most, lock = set(), [], threading.Lock()

    def call(number):
        with lock:
            running.add(number)
            most.append(len(running))
        time.sleep(0.01)
        with lock:
            running.discard(number)
        return number

    futures = [pool.submit(call, number) for number in range(30)]
    assert [future.result(5) for future in futures] == list(range(30))
    assert max(most) == 3


def test_a_call_that_hangs_does_not_delay_other_calls(pool):
    release = threading.Event()
    hanging = [pool.submit(release.wait, 30) for _ in range(2)]
    assert [pool.submit(int, number).result(5) for number in range(5)] == list(range(5))
    release.set()
    assert not wait(hanging, 5).not_done


def test_the_pool_uses_an_idle_thread_again(pool):
    names = {pool.submit(lambda: threading.current_thread().name).result(5)}
    time.sleep(0.05)  # the thread becomes idle a moment after its future is resolved
    names.add(pool.submit(lambda: threading.current_thread().name).result(5))
    assert len(names) == 1


def test_calls_one_at_a_time_use_the_thread_that_started_first(pool):
    """A thread keeps the memory of its largest response, so few threads make few calls."""
    barrier = threading.Barrier(3)
    started = [pool.submit(barrier.wait, 5) for _ in range(3)]
    assert not wait(started, 5).not_done
    time.sleep(0.05)  # the threads become idle a moment after their futures are resolved
    names = set()
    for _ in range(9):
        names.add(pool.submit(lambda: threading.current_thread().name).result(5))
        time.sleep(0.01)
    assert names == {"test_0"}


def test_a_call_is_not_made_if_it_is_cancelled_while_it_waits_for_a_thread(pool):
    release, made = threading.Event(), []
    hanging = [pool.submit(release.wait, 30) for _ in range(3)]
    late = pool.submit(made.append, 1)
    assert late.cancel()
    release.set()
    wait(hanging, 5)
    with pytest.raises(CancelledError):
        late.result(5)
    assert pool.submit(int, "7").result(5) == 7
    assert not made


def test_a_call_that_hangs_does_not_delay_the_end_of_the_process():
    program = (
        "import time\n"
        "from airflow_provider_polaris.polling.threads import DaemonThreadPool\n"
        "pool = DaemonThreadPool(2, 'test')\n"
        "started = pool.submit(lambda: time.sleep(0.01))\n"
        "pool.submit(time.sleep, 60)\n"
        "started.result()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
