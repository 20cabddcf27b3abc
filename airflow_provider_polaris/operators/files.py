"""PolarisUploadOperator and PolarisDeleteFilesOperator: put files there for a load, and remove them after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import BaseOperator
from airflow_provider_polaris.api.errors import PolarisFileExists, PolarisUsageError
from airflow_provider_polaris.assets.lineage_task import LineageTask
from airflow_provider_polaris.exceptions import PolarisUploadRefused
from airflow_provider_polaris.hooks.project_task import ProjectTask
from airflow_provider_polaris.waiting.deferral import called_by_airflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.api.file_calls import IfExists
    from airflow_provider_polaris.api.upload import Upload
    from airflow_provider_polaris.assets.lineage import TaskLineage

#: How often the log shows the progress of an upload, in seconds.
REPORT_SECONDS = 30.0


class PolarisUploadOperator(LineageTask, ProjectTask):
    """Upload one file or several to Imply Polaris, so that a job of the source ``uploaded`` can read them.

    The bytes are streamed: memory does not grow with the file. The task can be repeated after any failure: a file that
    is there already, with the same size and digest, is not sent again. All files of ``source`` are found before the
    first one is sent.

    The task fails with

    * :class:`~airflow_provider_polaris.exceptions.PolarisUploadRefused`, never retried, if Polaris has another file of
      a name, and ``if_exists`` does not replace it;
    * :class:`~airflow_provider_polaris.exceptions.PolarisOptionInvalid`, never retried, if two files get one name;
    * :class:`~airflow_provider_polaris.exceptions.PolarisSourceUnreadable`, retried as usual, if no file matches
      ``source``, or a file is changed while it is sent;
    * a :class:`~airflow_provider_polaris.exceptions.PolarisApiError`, retried as usual, if Polaris rejects a file or
      does not respond.

    XCom: ``return_value`` is a dict with ``names``, ``files`` and ``bytes``: see docs/reference/xcom.md. The key
    ``names`` has the names alone, before the first file is sent. So the ``fileList`` of a job spec can be
    ``upload.output["names"]``.

    :param source: a path of the worker, an address of Airflow's object storage (``s3://aws_default@bucket/key``), or an
        ``ObjectStoragePath``; with ``*``, ``?`` or ``[…]`` all files that match; or a list of these. (templated)
    :param name: the name in Polaris. If it ends with a slash, it is put before the name of each file. By default, it is
        the last part of each path. (templated)
    :param if_exists: for another file of a name: ``same`` fails, and ``replace`` deletes that file first. ``fail``
        fails for any file of a name.
    :param data_format: ``nd-json``, ``csv``, ``parquet``, …; by default Polaris takes it from the name.
    :param compression_format: ``none``, ``gz``, ``zstd``, …; by default Polaris takes it from the name.
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: overrides the project of the connection. (templated)
    """

    template_fields: Sequence[str] = ("source", "name", "polaris_conn_id", "project_id")
    ui_color = "#e0f0fa"

    def __init__(
        self,
        *,
        source: Any,
        name: str | None = None,
        if_exists: IfExists = "same",
        data_format: str | None = None,
        compression_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.name = name
        self.if_exists = if_exists
        self.data_format = data_format
        self.compression_format = compression_format
        #: For lineage: the path of each file, and the size of each that is in Polaris, by name.
        self._sources: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    @called_by_airflow
    def execute(self, context: Context) -> dict[str, Any]:
        """Upload the files, and return the dict for XCom."""
        uploads = self._uploads()
        if self.do_xcom_push:
            context["ti"].xcom_push(key="names", value=list(uploads))
        formats = {"dataFormat": self.data_format, "compressionFormat": self.compression_format}
        files = []
        with self.opened_hook() as hook:
            self.note_project(hook)
            for name, upload in uploads.items():
                progress = _Progress(self, name)
                try:
                    file, was_sent = hook.put_file(
                        upload, name, if_exists=self.if_exists, formats=formats, report=progress
                    )
                except PolarisFileExists as error:
                    raise PolarisUploadRefused(str(error)) from None
                self._sizes[name] = upload.size
                progress.end(upload.size, was_sent=was_sent)
                files.append({**file.to_dict(), "was_sent": was_sent})
        return {
            "names": [file["name"] for file in files],
            "files": files,
            "bytes": sum(file["size_bytes"] for file in files),
        }

    def known_lineage(self) -> TaskLineage:
        """Return the files that are in Polaris, and their sources. After a failure, the other files are left out."""
        from airflow_provider_polaris.assets.lineage import TaskLineage, lineage_of_upload

        return lineage_of_upload(self._project, self._sources, self._sizes) if self._project else TaskLineage()

    def _uploads(self) -> dict[str, Upload]:
        """Return what is uploaded, by name."""
        from airflow_provider_polaris.api.models import check_file_name
        from airflow_provider_polaris.api.upload import Upload
        from airflow_provider_polaris.operators.sources import find_files

        paths = find_files(self.source)
        is_folder = self.name is None or self.name.endswith("/")
        if len(paths) > 1 and not is_folder:
            raise PolarisUsageError(f"{len(paths)} files match, and name {self.name!r} is for one. End it with a slash")
        uploads: dict[str, Upload] = {}
        for path in paths:
            name = check_file_name(f"{self.name or ''}{path.name}" if is_folder else self.name)
            if name in uploads:
                raise PolarisUsageError(f"Two files get the name {name!r}. Upload them in two tasks")
            uploads[name] = Upload(path)
            self._sources[name] = str(path.absolute() if isinstance(path, Path) else path)
        return uploads


class PolarisDeleteFilesOperator(ProjectTask):
    """Delete uploaded files. A file that does not exist is no error, so that the task can be repeated.

    Uploaded files never expire. A job that has completed does not need its files any more.

    :param names: the names of the files, such as ``upload.output["names"]``. ``None`` skips the task: the upload has
        returned nothing. (templated)
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: overrides the project of the connection. (templated)
    """

    template_fields: Sequence[str] = ("names", "polaris_conn_id", "project_id")
    ui_color = "#fae3d6"

    def __init__(
        self,
        *,
        names: Sequence[str] | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.names = names

    @called_by_airflow
    def execute(self, context: Context) -> list[str]:  # noqa: ARG002
        """Delete the files, and return their names."""
        from airflow_provider_polaris._compat import AirflowSkipException

        if self.names is None:
            raise AirflowSkipException("There is no file to delete: names is None")
        if isinstance(self.names, str):
            raise PolarisUsageError(f"names must be a list of names, not the text {self.names[:100]!r}")
        names = list(self.names)
        with self.opened_hook() as hook:
            for name in names:
                hook.delete_file(name, missing_ok=True)
                self.log.info("Deleted %s", name)
        return names


class _Progress:
    """Logs how far an upload is, at most every half minute, and how it ended."""

    def __init__(self, task: BaseOperator, name: str) -> None:
        self._log = task.log
        self._name = name
        self._started = self._reported = clock.now()

    def __call__(self, sent: int, size: int) -> None:
        """Log the progress if it is time."""
        if clock.now() - self._reported >= REPORT_SECONDS:
            self._reported = clock.now()
            self._log.info("%s: %d %% of %s", self._name, 100 * sent // size, _in_words(size))

    def end(self, size: int, *, was_sent: bool) -> None:
        """Log that the file is there."""
        if was_sent:
            seconds = clock.now() - self._started
            self._log.info("Uploaded %s: %s in %.0f s", self._name, _in_words(size), seconds)
        else:
            self._log.info("%s is there already: %s with the same digest", self._name, _in_words(size))


def _in_words(size: int) -> str:
    """Return a number of bytes for a person: ``12.3 MB``."""
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size} bytes"
