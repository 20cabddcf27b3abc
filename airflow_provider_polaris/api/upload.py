"""The source of an upload: its size, its digest, and its bytes as a form, again for each try. Memory stays flat."""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from airflow_provider_polaris.api.errors import PolarisSourceUnreadable, PolarisUsageError

#: How many bytes are read and sent at once.
CHUNK = 256 * 1024

#: Gets how many bytes of a file have been sent, and how many there are.
Report = Callable[[int, int], None]


@runtime_checkable
class OpenableSource(Protocol):
    """A path of this machine, or Airflow's ``ObjectStoragePath``."""

    @property
    def name(self) -> str:
        """The last part of the path."""

    def open(self, mode: str) -> IO[bytes]:
        """Open the file."""

    def stat(self) -> Any:
        """Return an object with the size of the file, ``st_size``."""


class Upload:
    """A file that can be sent, again if the first try fails.

    :param source: a path, an object with ``open``, ``stat`` and ``name``, or a binary stream. A stream that cannot
        seek is copied to a temporary file.
    :raises PolarisUsageError: for anything else.
    """

    def __init__(self, source: Any) -> None:
        self._stream: IO[bytes] | None = None
        self._copy: IO[bytes] | None = None
        self._start = 0
        if isinstance(source, (str, os.PathLike)) and not isinstance(source, OpenableSource):
            source = Path(source)
        if isinstance(source, OpenableSource):
            self._path = source
            self.name: str | None = source.name
            self.size = int(source.stat().st_size)
        elif hasattr(source, "read"):
            self.name = None
            self._copy = None if _can_seek(source) else _copied(source)
            self._stream = self._copy or source
            self._start = self._stream.tell()
            self.size = self._stream.seek(0, os.SEEK_END) - self._start
        else:
            raise PolarisUsageError(f"A file is uploaded from a path or a binary stream, not from {source!r}"[:300])
        self._digests: dict[bool, str] = {}

    def close(self) -> None:
        """Delete the temporary file, if there is one."""
        if self._copy:
            self._copy.close()

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self._stream is not None:
            self._stream.seek(self._start)
            yield self._stream
            return
        with self._path.open("rb") as file:
            yield file

    def md5(self) -> str:
        """Return the MD5 of the bytes, as Polaris reports it."""
        if False not in self._digests:
            digest = hashlib.md5(usedforsecurity=False)
            with self._opened() as file:
                while data := file.read(CHUNK):
                    digest.update(data)
            self._digests[False] = digest.hexdigest()
        return self._digests[False]

    def md5_of_gzip(self) -> str | None:
        """Return the MD5 of the data that a gzip holds, ``None`` if the file is none."""
        digest = hashlib.md5(usedforsecurity=False)
        reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
        with self._opened() as file:
            try:
                while data := file.read(CHUNK):
                    while data:
                        digest.update(reader.decompress(data, CHUNK))
                        data = reader.unconsumed_tail
                        if reader.eof:
                            data, reader = reader.unused_data, zlib.decompressobj(zlib.MAX_WBITS | 16)
            except zlib.error:
                return None
        return digest.hexdigest()

    @contextmanager
    def form(self, name: str, report: Report) -> Iterator[Form]:
        """Return the bytes as a form with one file."""
        with self._opened() as file:
            yield Form(self, file, name, report)

    def note_digest(self, digest: str) -> None:
        """Keep the digest of the bytes that were sent."""
        self._digests[False] = digest


class Form:
    """The body of a request: a form with one file, made while it is sent.

    :param name: of the file in Polaris. It may have slashes.
    :raises PolarisSourceUnreadable: while it is read, if the file has not the size that it had before.
    """

    def __init__(self, upload: Upload, file: IO[bytes], name: str, report: Report) -> None:
        self._upload = upload
        self._file = file
        self._report = report
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._head) + self._upload.size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        size, sent, digest = self._upload.size, 0, hashlib.md5(usedforsecurity=False)
        try:
            while data := self._file.read(CHUNK):
                sent += len(data)
                if sent > size:
                    break
                digest.update(data)
                yield data
                self._report(sent, size)
        except OSError as error:  # otherwise requests would take it for an error of the network
            raise PolarisSourceUnreadable(f"The file could not be read: {error}") from error
        if sent != size:
            raise PolarisSourceUnreadable(f"The file had {size:,} bytes, and was changed while it was sent")
        self._upload.note_digest(digest.hexdigest())
        yield self._tail


def _can_seek(stream: Any) -> bool:
    seekable = getattr(stream, "seekable", None)
    return bool(seekable and seekable())


def _copied(stream: Any) -> IO[bytes]:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - it is deleted as soon as nothing refers to it
    while data := stream.read(CHUNK):
        copy.write(data)
    copy.seek(0)
    return copy
