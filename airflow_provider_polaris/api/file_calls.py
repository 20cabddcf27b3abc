"""The calls on the files of a project: jobs of the source ``uploaded`` read them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Literal, get_args

from airflow_provider_polaris.api.caller import Caller
from airflow_provider_polaris.api.errors import (
    PolarisConflict,
    PolarisFileExists,
    PolarisInvalidResponse,
    PolarisNotFound,
    PolarisUsageError,
)
from airflow_provider_polaris.api.models import File, check_file_name
from airflow_provider_polaris.api.retries import Retry
from airflow_provider_polaris.api.upload import Report, Upload

#: What an upload does if the project has a file of its name.
IfExists = Literal["same", "replace", "fail"]
#: How often an upload replaces a file, if another client uploads one of the same name each time.
MAX_REPLACEMENTS = 3
#: Seconds to wait for the response to an upload: the service may still store the file.
UPLOAD_SECONDS = 300.0
_PAGE = 1000

log = logging.getLogger(__name__)


class FileCalls(Caller):
    """The calls on files. The API key needs the permission ``ManageFiles``."""

    def upload_file(
        self,
        source: Any,
        name: str | None = None,
        *,
        if_exists: IfExists = "same",
        data_format: str | None = None,
        compression_format: str | None = None,
    ) -> File:
        """Upload a file, and return it as Polaris has it. The bytes are streamed: memory does not grow with the file.

        The call can be repeated after any failure. A file of the same name, size and digest is taken for this one.

        :param source: a path, Airflow's ``ObjectStoragePath``, or a binary stream.
        :param name: the name in Polaris, which may have slashes. By default, the last part of the path.
        :param if_exists: for another file of this name: ``same`` raises an error, and ``replace`` deletes that file
            first. ``fail`` raises an error for any file of this name.
        :param data_format: ``nd-json``, ``csv``, ``parquet``, …; by default Polaris takes it from the name.
        :param compression_format: ``none``, ``gz``, ``zstd``, …; by default Polaris takes it from the name.
        :raises PolarisFileExists: if the project has another file of this name.
        :raises PolarisSourceUnreadable: if the source changes while it is read.
        """
        formats = {"dataFormat": data_format, "compressionFormat": compression_format}
        with closing(Upload(source)) as upload:
            return self.put_file(upload, name, if_exists=if_exists, formats=formats)[0]

    def put_file(
        self,
        upload: Upload,
        name: str | None,
        *,
        if_exists: str,
        formats: Mapping[str, str | None],
        report: Report = lambda _sent, _size: None,
    ) -> tuple[File, bool]:
        """Upload a file. Return it, and whether it was sent. See :meth:`upload_file`.

        :param formats: the query of the request.
        :param report: is called while the file is sent.
        """
        name = check_file_name(upload.name if name is None else name)
        if if_exists not in get_args(IfExists):
            raise PolarisUsageError(f"if_exists must be same, replace or fail, not {if_exists!r}")
        sent_before = False
        for _ in range(MAX_REPLACEMENTS):
            found = self._find_file(name)
            if found is not None and (if_exists != "fail" or sent_before) and _is_same(found, upload):
                return found, sent_before
            if found is not None and if_exists != "replace":
                raise _other(found, upload)
            if found is not None:
                self.delete_file(name, missing_ok=True)
            try:
                return self._send(upload, name, formats, report), True
            except PolarisConflict:  # another client was faster, or the response to this upload was lost
                sent_before = True
        raise PolarisFileExists(f"Another client uploads {name!r} again and again")

    def _send(self, upload: Upload, name: str, formats: Mapping[str, str | None], report: Report) -> File:
        query = {key: value for key, value in formats.items() if value is not None}
        form = partial(upload.form, name, report)
        stored = self._request(
            "POST", "files", params=query, form=form, retry=Retry.SAFE, read=File.from_api, least_timeout=UPLOAD_SECONDS
        )
        if not _is_same(stored, upload):
            raise PolarisInvalidResponse(
                f"Polaris stored {stored.size:,} bytes as {name!r}, and {upload.size:,} other bytes were sent. Delete "
                "the file, and upload it again"
            )
        return stored

    def get_file(self, name: str, *, retry: bool = True) -> File:
        """Return the file's metadata."""
        return self._get("files", check_file_name(name), retry=Retry.when(retry), read=File.from_api)

    def _find_file(self, name: str) -> File | None:
        try:
            return self.get_file(name)
        except PolarisNotFound:
            return None

    def list_files(self, search: str | None = None) -> Iterator[File]:
        """Yield each file of the project, in the order of their names. Pages are requested as they are needed.

        :param search: only files that have this text in their name.
        """
        query: dict[str, Any] = {"sortColumn": "name", "sortOrder": "ASC", "paginationLimit": _PAGE}
        if search:
            query["searchString"] = search
        offset = 0
        while True:
            files = self._get("files", params={**query, "paginationOffset": offset}, read=_files_of)
            yield from files
            offset += len(files)
            if len(files) < _PAGE:
                return

    def delete_file(self, name: str, *, missing_ok: bool = False) -> None:
        """Delete a file. Jobs that have read it are not affected.

        :param missing_ok: whether a file that does not exist is no error.
        """
        with _allowing(missing_ok):
            self._request("DELETE", "files", check_file_name(name), retry=Retry.SAFE, read=lambda _: None)


@contextmanager
def _allowing(missing_ok: bool) -> Iterator[None]:
    try:
        yield
    except PolarisNotFound:
        if not missing_ok:
            raise


def _files_of(page: Any) -> list[File]:
    files = page.get("files") if isinstance(page, Mapping) else None
    if not isinstance(files, list):
        raise PolarisInvalidResponse(f"Polaris returned an invalid list of files: {repr(page)[:100]}")
    return [File.from_api(file) for file in files]


def _is_same(file: File, upload: Upload) -> bool:
    """Return whether a file of Polaris has the bytes of an upload.

    The vendor does not say whether the digest of a compressed file is that of the data inside.
    """
    if file.size != upload.size:
        return False
    if file.md5 in (None, upload.md5()):
        return True
    if file.compression_format in (None, "none"):
        return False
    if file.compression_format == "gz":
        return file.md5 == upload.md5_of_gzip()
    log.warning("%s has the size of the upload and another digest, perhaps that of the data inside", file.name)
    return True


def _other(found: File, upload: Upload) -> PolarisFileExists:
    size = f"{found.size:,} bytes" if found.size != upload.size else "the same size and other bytes"
    return PolarisFileExists(
        f"Polaris has another file named {found.name!r}: {size}, uploaded {found.uploaded_at}. "
        "Choose another name, or if_exists='replace'"
    )
