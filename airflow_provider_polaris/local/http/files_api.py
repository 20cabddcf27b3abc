"""The calls on files of the local Polaris."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_polaris.local.engine.data.formats import COMPRESSIONS, DATA_FORMATS, formats_of
from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.project.stored import USER, StoredFile
from airflow_provider_polaris.local.engine.timestamps import timestamp
from airflow_provider_polaris.local.http.answers import ApiError, Endpoint, bounded, dig, one_of, whole

MANAGE_FILES = ("ManageFiles",)
#: The space for uploaded files, in bytes.
SPACE = 10 * 1024**3
_SORT_KEYS: Mapping[str, tuple[str, ...]] = {
    "compression_format": ("compressionFormat",),
    "data_format": ("dataFormat",),
    "digest_algo": ("digest", "algo"),
    "digest_hash": ("digest", "hash"),
    "name": ("name",),
    "size_bytes": ("sizeBytes",),
    "uploaded_by_user_name": ("uploadedBy", "username"),
    "uploaded_on_dt": ("uploadedOnDatetime",),
}


class FilesApi:
    """Answers the calls on files from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def endpoints(self) -> list[Endpoint]:
        """Return the calls, their paths under the project."""
        return [
            Endpoint("GET", "/files", self._list_files, MANAGE_FILES),
            Endpoint("POST", "/files", self._upload, MANAGE_FILES),
            Endpoint("GET", "/files/{name:path}", self._get_file, MANAGE_FILES),
            Endpoint("DELETE", "/files/{name:path}", self._delete_file, MANAGE_FILES),
        ]

    async def _upload(self, request: Request) -> Response:
        query = request.query_params
        try:
            async with bounded(request, SPACE - self._used()).form(max_files=1, max_fields=5) as form:
                upload = form.get("file")
                if upload is None or isinstance(upload, str):
                    raise ApiError(400, "A part named 'file', with a file name, is missing", "file")
                name = _checked(upload.filename or "")
                data_format, compression = formats_of(name)
                metadata: dict[str, Any] = {
                    "name": name,
                    "dataFormat": one_of(query, "dataFormat", data_format, DATA_FORMATS),
                    "compressionFormat": one_of(query, "compressionFormat", compression, ["none", *COMPRESSIONS]),
                    "uploadedBy": USER,
                    "uploadedOnDatetime": timestamp(),
                }
                path = self._store.new_file_path()
                size, digest = await run_in_threadpool(_copy, upload.file, path)
        except ApiError:
            raise
        except HTTPException as error:
            raise ApiError(400, str(error.detail), "file") from None
        except UnicodeError:
            raise ApiError(400, "The name of the file cannot be read", "file") from None
        metadata |= {"id": path.name, "sizeBytes": size, "digest": {"algo": "md5", "hash": digest}}
        if not self._store.add_file(StoredFile(path, metadata)):
            path.unlink()
            raise ApiError(409, f"There is a file named {name!r} already", "file")
        return JSONResponse(metadata, 201)

    def _used(self) -> int:
        return sum(file.metadata["sizeBytes"] for file in self._store.files.values())

    async def _list_files(self, request: Request) -> Response:
        query = request.query_params
        limit = whole(query, "paginationLimit", 1000, 1, 1000)
        offset = whole(query, "paginationOffset", 0, 0, 2**31)
        key = _SORT_KEYS[one_of(query, "sortColumn", "uploaded_on_dt", _SORT_KEYS)]
        order = one_of(query, "sortOrder", "DESC", ("ASC", "DESC"))
        text = query.get("searchString", "").lower()
        with self._store.lock:
            files = [file.metadata for file in self._store.files.values() if text in file.metadata["name"].lower()]
            used = self._used()
        files.sort(
            key=lambda file: file["sizeBytes"] if key == ("sizeBytes",) else dig(file, key), reverse=order == "DESC"
        )
        space = {"allocatedBytes": SPACE, "usedBytes": used, "remainingBytes": SPACE - used}
        page = files[offset : offset + limit]
        return JSONResponse({"files": page, "space": space, "totalCount": len(files), "links": {}})

    def _file(self, request: Request) -> StoredFile:
        file = self._store.files.get(request.path_params["name"])
        if file is None:
            raise ApiError(404, "There is no such file", "name")
        return file

    async def _get_file(self, request: Request) -> Response:
        return JSONResponse(self._file(request).metadata)

    async def _delete_file(self, request: Request) -> Response:
        file = self._file(request)
        self._store.remove_file(file.metadata["name"])
        return Response(status_code=204)


def _checked(name: str) -> str:
    """Return the name of a file, which must be a valid path of a URL. It is no path of this machine."""
    if not 1 <= len(name) <= 1024 or not name.isprintable() or {"", ".", ".."} & set(name.split("/")):
        raise ApiError(400, "It must be a name of 1 to 1,024 printable characters that a URL can end with", "file")
    return name


def _copy(source: Any, path: Path) -> tuple[int, str]:
    """Write a file; return its size and its md5."""
    size, digest = 0, hashlib.md5(usedforsecurity=False)
    with path.open("wb") as target:
        while chunk := source.read(1 << 16):
            digest.update(chunk)
            size += target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return size, digest.hexdigest()
