"""What all calls share: the connection, looked up once and again after a 401, and the requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import PolarisUnauthorized
from airflow_provider_polaris.api.retries import Retry
from airflow_provider_polaris.api.transport import Transport

T = TypeVar("T")


class Caller:
    """The base of :class:`~airflow_provider_polaris.api.client.PolarisClient`: it sends requests, and has no call."""

    def __init__(self, connection: PolarisConnection | Callable[[], PolarisConnection]) -> None:
        self._source = connection
        self._opened: Transport | None = None
        # A thread that looks the connection up holds this lock. The others wait instead of looking it up themselves.
        self._lock = threading.Lock()

    @property
    def connection(self) -> PolarisConnection:
        """The connection in use."""
        return self._transport.connection

    def close(self) -> None:
        """Close the pooled HTTP connections. The next call opens new ones."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    @property
    def _transport(self) -> Transport:
        if (opened := self._opened) is not None:
            return opened
        with self._lock:
            if self._opened is None:
                self._opened = Transport(self._find_connection())
            return self._opened

    def _find_connection(self) -> PolarisConnection:
        return self._source if isinstance(self._source, PolarisConnection) else self._source()

    def _has_changed(self, used: Transport) -> bool:
        """Whether the connection differs from the one that was used. If it does, the next request uses the new one."""
        with self._lock:
            if self._opened is used:  # otherwise another thread has found the new connection
                connection = self._find_connection()
                if connection == used.connection:
                    return False
                self._opened = Transport(connection)
                used.close()
            return True

    def _request(self, method: str, *segments: str, read: Callable[[Any], T], **kwargs: Any) -> T:
        used = self._transport
        try:
            return used.request(method, *segments, read=read, **kwargs)
        except PolarisUnauthorized:
            if not self._has_changed(used):
                raise
        return self._transport.request(method, *segments, read=read, **kwargs)

    def _get(
        self,
        *segments: str,
        read: Callable[[Any], T],
        params: Mapping[str, Any] | None = None,
        retry: Retry = Retry.SAFE,
        **limits: Any,
    ) -> T:
        return self._request("GET", *segments, read=read, params=params, retry=retry, **limits)
