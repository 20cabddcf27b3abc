"""Find the files that an upload names: paths of the worker, and objects of Airflow's object storage."""

from __future__ import annotations

import re
from glob import glob
from pathlib import Path
from typing import Any

from airflow_provider_polaris._compat import object_path
from airflow_provider_polaris.api.errors import PolarisSourceUnreadable, PolarisUsageError
from airflow_provider_polaris.api.upload import OpenableSource

_PATTERN = re.compile(r"[*?\[]")


def find_files(source: Any) -> list[OpenableSource]:
    """Return the files of a source, those of a pattern in the order of their names.

    :param source: a path, an address, a pattern of these, an ``ObjectStoragePath``, or a list of them.
    :raises PolarisSourceUnreadable: if a path does not exist or is a folder, or if nothing matches.
    :raises PolarisUsageError: for anything else.
    """
    if isinstance(source, (list, tuple)):
        found = [file for one in source for file in find_files(one)]
        if not found:
            raise PolarisUsageError("source is an empty list")
        return found
    if isinstance(source, str) and _PATTERN.search(source):
        return _matching(source)
    return [_file(source)]


def _file(source: Any) -> OpenableSource:
    path: Any = object_path(source) if isinstance(source, str) and "://" in source else source
    path = Path(path) if isinstance(path, str) else path
    if not isinstance(path, OpenableSource):
        raise PolarisUsageError(f"source must be a path, an ObjectStoragePath or a list, not {repr(source)[:100]}")
    if not path.is_file():  # type: ignore[attr-defined]
        reason = "is a folder: end it with /*" if path.is_dir() else "does not exist"  # type: ignore[attr-defined]
        raise PolarisSourceUnreadable(f"The file {source} {reason}")
    return path


def _matching(pattern: str) -> list[OpenableSource]:
    found: list[Any]
    if "://" in pattern:
        # The part without a wildcard is the folder that is searched. glob() of the path itself, and a path that is
        # made of two parts, warn on Airflow 2.11.
        fixed = _PATTERN.split(pattern, maxsplit=1)[0].rpartition("/")[0]
        folder = object_path(fixed)
        names = folder.fs.glob(f"{folder.path}{pattern[len(fixed) :]}")
        found = [object_path(f"{fixed}/{name.removeprefix(folder.path).lstrip('/')}") for name in names]
    else:
        found = [Path(path) for path in glob(pattern, recursive=True)]  # noqa: PTH207 - a pattern may be absolute
    files = sorted((path for path in found if path.is_file()), key=str)
    if not files:
        raise PolarisSourceUnreadable(f"No file matches {pattern}")
    return files
