"""Push streaming connections: the events that were pushed to each, and how far each table has read them."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

#: The most bytes of events that a connection keeps.
MAX_BYTES = 1024**3
#: How many bytes of events are read at once. One request has no more.
READ_BYTES = 1024**2


class ConnectionFull(Exception):
    """A connection has as many events as it keeps."""


class StoredConnection:
    """A push streaming connection, kept in the API's own form, with its events in a file.

    :param path: of the file. Each event ends with a line break.
    """

    def __init__(self, body: dict[str, Any], path: Path) -> None:
        self.body = body
        self.path = path
        self._lock = threading.Lock()
        #: The place of the next event to read, by the name of the table that reads.
        self.positions: dict[str, int] = {}

    @property
    def end(self) -> int:
        """The place behind the last event."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def push(self, events: bytes) -> None:
        """Add events, one in each line. They are on the disk when this returns.

        :raises ConnectionFull: if the connection would have more than :data:`MAX_BYTES`.
        """
        if not events.endswith(b"\n"):
            events += b"\n"
        with self._lock:
            if self.end + len(events) > MAX_BYTES:
                raise ConnectionFull
            with self.path.open("ab") as file:
                file.write(events)
                file.flush()
                os.fsync(file.fileno())

    def repair(self) -> None:
        """Remove the part of an event that a server was writing when it was killed."""
        if self.end:
            data = self.path.read_bytes()
            os.truncate(self.path, data.rfind(b"\n") + 1)

    def read(self, position: int) -> bytes:
        """Return whole events from a place on, at most :data:`READ_BYTES` of them; nothing at the end."""
        try:
            with self.path.open("rb") as file:
                file.seek(position)
                data = file.read(READ_BYTES + 1)
        except FileNotFoundError:
            return b""
        return data[: data.rfind(b"\n") + 1]

    def start_of(self, point: str) -> int:
        """Return the place from which a job reads: ``earliest`` or ``latest``."""
        return 0 if point == "earliest" else self.end
