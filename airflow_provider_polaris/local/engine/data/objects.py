"""A folder in the place of object stores: the files that a source of ``s3`` or ``azure`` names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from airflow_provider_polaris.local.engine.data.formats import formats_of

#: The types of sources that are read from the folder.
OBJECT_STORES = ("s3", "azure")


class ObjectFile(NamedTuple):
    """A file of the folder, with the same metadata as an uploaded file, as far as a job needs them."""

    path: Path
    metadata: Mapping[str, Any]


class ObjectFolder:
    """A folder with one folder for each bucket.

    The name of a source's connection is the name of its bucket. A URI names its bucket itself.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def files_of(self, source: Mapping[str, Any]) -> list[ObjectFile]:
        """Return the files of a source, in the order of their names if the source does not name each.

        :raises FileNotFoundError: if a file that the source names is not in the folder.
        """
        if uris := source.get("uris"):
            parts = [urlsplit(uri) for uri in uris]
            return [self._named(part.netloc, part.path.lstrip("/")) for part in parts]
        bucket = source["connectionName"]
        if objects := source.get("objects"):
            return [self._named(bucket, key) for key in objects]
        prefixes, pattern = tuple(source.get("prefixes") or ()), source.get("pattern")
        return [
            self._file(path)
            for key, path in self._all(bucket)
            if (key.startswith(prefixes) if prefixes else _fits(key, str(pattern)))
        ]

    def _all(self, bucket: str) -> Iterator[tuple[str, Path]]:
        """Yield the key and the path of each file of a bucket that is not empty."""
        folder = self._inside(bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.resolve().is_relative_to(self._root) and path.stat().st_size:
                yield path.relative_to(folder).as_posix(), path

    def _named(self, bucket: str, key: str) -> ObjectFile:
        path = self._inside(f"{bucket}/{key}")
        if not path.is_file():
            raise FileNotFoundError(f"{bucket}/{key} is not in the folder of the object stores")
        return self._file(path)

    def _inside(self, name: str) -> Path:
        """Return a path of the folder.

        :raises FileNotFoundError: for a name that leads out of it.
        """
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            raise FileNotFoundError(f"{name} is not in the folder of the object stores")
        return path

    def _file(self, path: Path) -> ObjectFile:
        data_format, compression = formats_of(path.name)
        metadata = {"sizeBytes": path.stat().st_size, "dataFormat": data_format, "compressionFormat": compression}
        return ObjectFile(path, metadata)


def _fits(key: str, pattern: str) -> bool:
    """Return whether a key fits a pattern whose ``*`` and ``?`` stand for no slash."""
    parts, wanted = key.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(fnmatchcase(part, one) for part, one in zip(parts, wanted, strict=True))
