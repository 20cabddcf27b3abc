"""The URIs of assets, ``polaris://HOST/PROJECT_ID/TABLE``: made, checked, and named for OpenLineage.

Airflow imports this module for each DAG file that has such an asset, so the module is cheap to import.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from airflow_provider_polaris.api.connection import is_id
from airflow_provider_polaris.api.errors import PolarisUsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Asset

#: What a DAG file imports. Airflow finds the other functions by their paths.
__all__ = ["PolarisTable"]

SCHEME = "polaris"


@dataclass(frozen=True)
class DatasetId:
    """The name of a dataset in OpenLineage. Equal names are one dataset, whoever reports it."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Project:
    """A project, by the host of its API and its id. It holds no key.

    :param host: host and port in lower case, as in ``acme.us-east-1.aws.api.imply.io``.
    """

    host: str
    id: str

    @classmethod
    def of_url(cls, base_url: str, project_id: str) -> Project:
        """Return the project of a connection's ``base_url`` and ``project_id``."""
        return cls(urlsplit(base_url).netloc.lower(), project_id)

    def table(self, name: str) -> DatasetId:
        """Return a table of the project: namespace ``polaris://HOST``, name ``PROJECT_ID.TABLE``."""
        return DatasetId(f"{SCHEME}://{self.host}", f"{self.id}.{name}")

    def file(self, name: str) -> DatasetId:
        """Return an uploaded file of the project: namespace ``polaris://HOST``, name ``PROJECT_ID/files/NAME``."""
        return DatasetId(f"{SCHEME}://{self.host}", f"{self.id}/files/{name}")

    def connection(self, name: str, path: str = "") -> DatasetId:
        """Return what a job reads through a connection of the project: ``PROJECT_ID/connections/NAME/PATH``.

        Only the connection in Polaris names the bucket, and the job does not.
        """
        return DatasetId(f"{SCHEME}://{self.host}", "/".join(filter(None, (f"{self.id}/connections/{name}", path))))

    def table_uri(self, name: str) -> str:
        """Return the URI of a table of the project: ``polaris://HOST/PROJECT_ID/TABLE``."""
        return f"{SCHEME}://{self.host}/{self.id}/{quote(name, safe='')}"


def PolarisTable(  # noqa: N802 - a DAG file reads it like Asset(…)
    table: str,
    *,
    host: str | None = None,
    project_id: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Asset:
    """Return the asset of a table: ``polaris://HOST/PROJECT_ID/TABLE``, or the short ``polaris://TABLE``.

    On Airflow 2.11 the result is a dataset. No connection is looked up.

    :param table: the name of the table.
    :param host: the host of the connection, with or without ``https://``.
    :param project_id: the id of the project. Without host and project, the URI has the short form.
    :param extra: the ``extra`` of the asset.
    :raises PolarisUsageError: for a name, a host or an id that Polaris cannot have.
    """
    from airflow_provider_polaris._compat import asset_class

    _check_table(table)
    if host is None and project_id is None:
        uri = f"{SCHEME}://{quote(table, safe='')}"
    elif host is None or project_id is None:
        raise PolarisUsageError("A PolarisTable needs host and project_id, or none of them")
    else:
        uri = _project_of(host, project_id).table_uri(table)
    asset: Asset = asset_class()(uri, extra=dict(extra) if extra else {})
    return asset


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Return the URI in its only form: the host in lower case, and the table's name quoted.

    The short form ``polaris://TABLE`` is returned as it is. Airflow calls this for each asset of the scheme.

    :raises ValueError: for another form, and for a URI with a user, a query or an unusable name. The message never has
        the user, which may be an API key.
    """
    if "@" in uri.netloc:
        raise ValueError("A polaris:// URI has no user and no key: write polaris://HOST/PROJECT_ID/TABLE")
    if not uri.path.strip("/"):
        return uri
    project, table = _address_of(uri)
    return urlsplit(project.table_uri(table))


def address_of(uri: str) -> tuple[Project, str] | None:
    """Return the project and the table of an asset's URI; ``None`` for the short form and for another URI."""
    parts = urlsplit(uri)
    if parts.scheme != SCHEME or not parts.path.strip("/") or "@" in parts.netloc:
        return None
    try:
        return _address_of(parts)
    except ValueError:
        return None


def to_openlineage(asset: Asset, lineage_context: Any) -> Any:  # noqa: ARG001 - Airflow passes a hook or None
    """Return the OpenLineage dataset of an asset; ``None`` for the short form, which names no project."""
    address = address_of(asset.uri)
    if address is None:
        return None
    project, table = address
    named = project.table(table)
    # Not an import statement: a type checker would need the package, which Airflow does not require.
    return import_module("openlineage.client.event_v2").Dataset(namespace=named.namespace, name=named.name)


def _address_of(uri: SplitResult) -> tuple[Project, str]:
    """Return the project and the table of a URI. Raises ValueError."""
    parts = uri.path.strip("/").split("/")
    if len(parts) != 2 or not uri.netloc or uri.query:
        raise ValueError(f"{urlunsplit(uri)} must have the form polaris://HOST/PROJECT_ID/TABLE")
    project_id, table = map(unquote, parts)
    try:
        _check_table(table)
        return _project_of(uri.netloc, project_id), table
    except PolarisUsageError as error:
        raise ValueError(f"{urlunsplit(uri)} names no table: {error}") from None


def _project_of(host: str, project_id: str) -> Project:
    if "@" in host:
        raise PolarisUsageError("The host of a table has no user and no key")
    parts = urlsplit(host if "://" in host else f"//{host}")
    if not parts.netloc or parts.path.strip("/") or parts.query or parts.fragment or not host.isascii() or " " in host:
        raise PolarisUsageError(f"The host of a table must be that of the connection; it is {host[:100]!r}")
    if not is_id(project_id):
        raise PolarisUsageError(f"The project_id of a table must be a Polaris id; it is {repr(project_id)[:100]}")
    return Project(parts.netloc.lower(), project_id)


def _check_table(name: Any) -> None:
    # As api.models.check_table_name. The import of that module takes a tenth of a second.
    if not isinstance(name, str) or not 1 <= len(name) <= 255 or name in {".", ".."}:
        raise PolarisUsageError(f"table must be a name of 1 to 255 characters; it is {repr(name)[:100]}")
