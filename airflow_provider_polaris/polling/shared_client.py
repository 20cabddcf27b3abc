"""One Polaris client for all triggers of an event loop that use the same connection and project."""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Awaitable, Callable, Container
from functools import cache
from types import TracebackType
from typing import TypeVar

from asgiref.sync import sync_to_async

from airflow_provider_polaris import clock, configuration
from airflow_provider_polaris.api.client import NewestPage, PolarisClient, RawPage
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisConnectionMissing,
    PolarisError,
    PolarisUnreachable,
    PolarisUsageError,
)
from airflow_provider_polaris.api.models import Job, Statement, Table
from airflow_provider_polaris.hooks.polaris import load_connection
from airflow_provider_polaris.polling.job_poller import JobPoller
from airflow_provider_polaris.polling.loads_poller import LoadsPoller
from airflow_provider_polaris.polling.threads import DaemonThreadPool

T = TypeVar("T")

#: The shortest time between two lookups of a connection. A lookup takes a triggerer about 150 ms, and lookups run one
#: after another.
LOOKUP_INTERVAL_SECONDS = 10.0

#: Calls that no wait depends on run one after another: at once if there were few, then one every so many seconds.
SPARE_CALLS_AT_ONCE = 20
SPARE_CALL_SECONDS = 5.0

#: The threads that all connections share, beside those that one connection may use. A service that hangs leaves them to
#: the others.
FREE_THREADS = 2

#: The most lists that the polls of one connection read at the same time: one for jobs, one for loads.
LISTS_AT_ONCE = 2


@cache
def poll_threads() -> DaemonThreadPool:
    """Return the threads that send the requests of the polls."""
    # Not asyncio's default pool, which has 6 threads on 2 cores and serves the DNS lookups of every trigger. With 40
    # hung calls in that pool, a getaddrinfo of another trigger took a minute.
    return DaemonThreadPool(max_workers=configuration.threads() + FREE_THREADS, name="polaris")


@cache
def list_threads() -> DaemonThreadPool:
    """Return the threads that read lists of jobs.

    A thread that has read a list of 1,000 jobs keeps 1.2 MB. So the other threads read none.
    """
    return DaemonThreadPool(max_workers=LISTS_AT_ONCE + FREE_THREADS, name="polaris_list")


#: Apart from the polls, so that a spare call that hangs delays no poll.
_spare_pool = DaemonThreadPool(max_workers=2, name="polaris_spare")


class SharedClient:
    """The connection lookup, the HTTP connections and the poll that many triggers share."""

    def __init__(self, polaris_conn_id: str, project_id: str | None) -> None:
        self._conn_id = polaris_conn_id
        self._project_id = project_id
        #: ``None`` until the connection is known, and again once the last trigger has left.
        self._client: PolarisClient | None = None
        self._users = 0
        self._connection: PolarisConnection | None = None
        self._looked_up_at = -math.inf
        self._lookup_error: PolarisError | None = None
        #: Whether a trigger has joined since the last lookup.
        self._outdated = True
        self._lock = asyncio.Lock()
        self.slots = configuration.threads()
        self._slots = asyncio.Semaphore(self.slots)
        self._spare_lock = asyncio.Lock()
        #: When all earlier spare calls are paid for, in monotonic seconds.
        self._spare_paid_at = -math.inf
        self.poller = JobPoller(self)
        self.loads_poller = LoadsPoller(self)

    def join(self) -> None:
        """Count one more trigger. Its first call looks the connection up again, which may have changed."""
        self._users += 1
        self._outdated = True

    def leave(self) -> bool:
        """Count one trigger less. Close the client after the last trigger. Return whether this was the last."""
        self._users -= 1
        if not self._users:
            self._replace_client(None)
        return not self._users

    async def get_job(self, job_id: str) -> Job:
        """Request the job once."""
        return await self.call(lambda client: client.get_job(job_id, retry=False))

    async def list_active(self, wanted: Container[str], offset: int, limit: int) -> RawPage:
        """Request a page of the jobs that are not over, once."""
        return await self.call(
            lambda client: client.list_active(wanted, offset, limit, retry=False), threads=list_threads
        )

    async def list_ended(self, wanted: Container[str], offset: int, limit: int) -> RawPage:
        """Request a page of the jobs that are over, once."""
        return await self.call(
            lambda client: client.list_ended(wanted, offset, limit, retry=False), threads=list_threads
        )

    async def list_newest(self, wanted: Container[str], offset: int, limit: int) -> NewestPage:
        """Request a page of all jobs, the newest first, once."""
        return await self.call(
            lambda client: client.list_newest(wanted, offset=offset, limit=limit, retry=False), threads=list_threads
        )

    async def get_table(self, name: str) -> Table:
        """Request the table once."""
        return await self.call(lambda client: client.get_table(name, retry=False))

    async def get_statement(self, query_id: str) -> Statement:
        """Request the asynchronous query once."""
        return await self.call(lambda client: client.get_statement(query_id, retry=False))

    async def cancel_query(self, query_id: str) -> None:
        """Ask Polaris once to cancel the asynchronous query."""
        await self.call(lambda client: client.cancel_query(query_id, retry=False))

    async def cancel_job(self, job_id: str) -> Job:
        """Ask Polaris once to cancel the job."""
        return await self.call(lambda client: client.cancel_job(job_id, retry=False))

    async def spare_call(self, call: Callable[[PolarisClient], T], is_wanted: Callable[[], bool]) -> T | None:
        """Make a call that no wait depends on. The calls of all triggers take turns, so that they cost little.

        :param is_wanted: whether to make the call at all, when its turn comes. Otherwise the result is ``None``.
        """
        async with self._spare_lock:
            if not is_wanted() or self._client is None:
                return None
            now = clock.monotonic()
            self._spare_paid_at = max(self._spare_paid_at, now - SPARE_CALLS_AT_ONCE * SPARE_CALL_SECONDS)
            self._spare_paid_at += SPARE_CALL_SECONDS
            await clock.sleep_async(max(0.0, self._spare_paid_at - now))
            return await asyncio.get_running_loop().run_in_executor(_spare_pool, self._send, call)

    async def call(
        self, call: Callable[[PolarisClient], T], *, threads: Callable[[], DaemonThreadPool] = poll_threads
    ) -> T:
        """Make the call in a thread. If the call fails, and the connection has changed since, make one more call."""
        used = await self._connect()
        try:
            return await self._in_thread(call, threads)
        except PolarisApiError:
            if not await self._has_changed(used):
                raise
            return await self._in_thread(call, threads)

    async def _in_thread(self, call: Callable[[PolarisClient], T], threads: Callable[[], DaemonThreadPool]) -> T:
        # If a trigger is cancelled while its call waits for a thread, the call is dropped. A running call still ends.
        async with self._slots:
            return await asyncio.get_running_loop().run_in_executor(threads(), self._send, call)

    def _send(self, call: Callable[[PolarisClient], T]) -> T:
        client = self._client
        if client is None:  # the last trigger left while this call waited for a thread
            raise PolarisUnreachable("The trigger ended before its request was sent", received=False)
        return call(client)

    def _replace_client(self, client: PolarisClient | None) -> None:
        replaced, self._client = self._client, client
        if replaced is not None:
            replaced.close()

    async def _connect(self) -> PolarisConnection:
        async with self._lock:
            if self._connection is None or self._outdated:
                await self._look_up_if_due()
            if self._connection is None:
                raise self._lookup_error or PolarisUnreachable("The connection is not looked up yet", received=False)
            return self._connection

    async def _has_changed(self, used: PolarisConnection) -> bool:
        """Look the connection up again if that is due. Return whether the connection differs from the used one."""
        async with self._lock:
            if self._connection == used:
                await self._look_up_if_due()
            return self._connection != used

    async def _look_up_if_due(self) -> None:
        now = clock.monotonic()
        if now - self._looked_up_at < LOOKUP_INTERVAL_SECONDS:
            return
        before, self._looked_up_at = self._looked_up_at, now
        try:
            connection = await self._look_up()
            self._lookup_error, self._outdated = None, False
            if connection != self._connection:
                self._connection = connection
                self._replace_client(PolarisClient(connection))
        except PolarisError as error:
            # All triggers share the error. If a connection is known from before, they continue with that connection:
            # a key may be rotated by deleting the connection and creating it again.
            self._lookup_error = error
        except BaseException:  # cancelled: the next call looks the connection up
            self._looked_up_at = before
            raise

    async def _look_up(self) -> PolarisConnection:
        try:
            # Neither on the loop, which it would block, nor in asyncio.to_thread: Airflow 3.0 to 3.2.1 could crash
            # the triggerer there (#66412).
            return await sync_to_async(load_connection)(self._conn_id, self._project_id)
        except PolarisConnectionMissing as error:
            raise PolarisConnectionMissing(
                f"In the triggerer: {error}. An environment variable must be set for the triggerer as well as for the "
                "workers"
            ) from None
        except PolarisUsageError:
            raise
        except Exception as error:
            # A failed lookup says nothing about the job. The wait counts it as a failed poll.
            raise PolarisUnreachable(
                f"The triggerer could not look up the connection {self._conn_id!r}: {type(error).__name__}: {error}",
                received=False,
            ) from error


async def answer_within(seconds: float, request: Awaitable[T]) -> T:
    """Return the answer of a request. A service that hangs for longer counts as unreachable."""
    answer = asyncio.ensure_future(request)
    try:
        # Not wait_for, which up to Python 3.11 loses a cancellation that comes together with the response.
        await asyncio.wait({answer}, timeout=seconds)
        if not answer.done():
            raise PolarisUnreachable("No response before the deadline")
        return answer.result()
    finally:
        if not answer.cancel() and not answer.cancelled():
            answer.exception()  # retrieved, so that asyncio logs no unretrieved exception


_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str | None], SharedClient]] = (
    weakref.WeakKeyDictionary()
)


class shared_client:  # noqa: N801 - used like a function
    """As an async context manager, the running loop's client for this connection and project.

    The last user closes the client. This is a class, since a generator takes 0.6 KB in each trigger.
    """

    __slots__ = ("_client", "_clients", "_key")

    def __init__(self, polaris_conn_id: str, project_id: str | None) -> None:
        self._key = (polaris_conn_id, project_id)

    async def __aenter__(self) -> SharedClient:
        self._clients = _clients.setdefault(asyncio.get_running_loop(), {})
        self._client = self._clients.get(self._key) or self._clients.setdefault(self._key, SharedClient(*self._key))
        self._client.join()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client.leave():
            del self._clients[self._key]
