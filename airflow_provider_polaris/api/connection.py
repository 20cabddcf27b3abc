"""What an Airflow connection must hold to reach a Polaris project, read and checked. Pure."""

from __future__ import annotations

import base64
import ipaddress
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_polaris.api.errors import PolarisConnectionInvalid, PolarisUsageError
from airflow_provider_polaris.connection_form import FIELDS

log = logging.getLogger(__name__)

CONN_TYPE = "imply_polaris"  # Apache Polaris, the catalog, is something else
DEFAULT_CONN_ID = "polaris_default"
#: Seconds to wait for an answer, unless the extra ``timeout`` says otherwise.
DEFAULT_TIMEOUT = 30.0

# Ids become one segment of a path: nothing that a URL gives a meaning to, and no dots, which paths are made of.
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def rendered_to_nothing(name: str, value: Any) -> str:
    """Return what is said of an option whose template found nothing."""
    return f"{name} is {value!r}. Did the task that should have given it push it to XCom?"


def check_id(value: Any, name: str) -> str:
    """Return the id if it can be one; raise PolarisUsageError, before anything is sent, if it cannot."""
    if value in (None, "", "None"):
        raise PolarisUsageError(rendered_to_nothing(name, value))
    if isinstance(value, Mapping) and "job_id" in value:  # the XCom of a task that waited for a job
        raise PolarisUsageError(
            f'{name} is the whole output of a task, a dict. Use its id: {name}=load.output["job_id"], if that is load'
        )
    if isinstance(value, str) and ("{{" in value or "{%" in value):
        raise PolarisUsageError(f"{name} is an unrendered template: {value[:100]!r}")
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise PolarisUsageError(
            f"{name} must be an id as Polaris gives them, of letters, digits, '-' and '_'; it is {repr(value)[:100]}"
        )
    return value


@dataclass(frozen=True)
class PolarisConnection:
    """A checked connection. Its ``repr`` shows no secret.

    :param base_url: ``https://ORG.REGION.CLOUD.api.imply.io/v1/projects/PROJECT_ID``.
    :param verify: whether to check the server's certificate, or the path of the CA bundle to check it with.
    :param timeout: seconds to wait for an answer.
    """

    base_url: str
    project_id: str
    api_key: str = field(repr=False)
    auth: str = "api_key"
    timeout: float = DEFAULT_TIMEOUT
    verify: bool | str = True
    job_url_template: str | None = None
    conn_id: str = ""

    @property
    def host(self) -> str:
        """The host, with its scheme, for messages."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def authorization(self) -> str:
        """The ``Authorization`` header's value."""
        if self.auth == "basic":
            return "Basic " + base64.b64encode(f"{self.api_key}:".encode()).decode()
        return f"Basic {self.api_key}"

    def job_url(self, job_id: str) -> str | None:
        """Return where a person sees the job: its own page by the template, else the organisation's console."""
        if self.job_url_template:
            return self.job_url_template.replace("{project_id}", self.project_id).replace("{job_id}", job_id)
        organisation, _, rest = (urlsplit(self.base_url).hostname or "").partition(".")
        return f"https://{organisation}.app.imply.io" if rest.endswith("api.imply.io") else None

    @classmethod
    def from_airflow(cls, conn: Any, project_id: str | None = None) -> PolarisConnection:
        """Read an Airflow connection.

        :param conn: anything with ``conn_id``, ``host``, ``port``, ``schema``, ``password`` and ``extra``.
        :param project_id: wins over the extra ``project_id``.
        :raises PolarisUsageError: if the given project id cannot be one.
        :raises PolarisConnectionInvalid: naming the connection and what is wrong with it, without its secrets.
        """
        if project_id is not None:  # an option of a task, and no fault of the connection
            check_id(project_id, "project_id")
        try:
            return cls._read(conn, project_id)
        except PolarisUsageError as error:
            raise PolarisConnectionInvalid(f"Connection {conn.conn_id!r}: {error}") from None

    @classmethod
    def _read(cls, conn: Any, project_id: str | None) -> PolarisConnection:
        extra = _extras(conn)
        # A task's project id that renders to nothing is an error: it must not silently mean another project.
        project = _text(extra, "project_id") if project_id is None else project_id
        if project is None:
            raise PolarisUsageError(
                "no project id. Set the extra 'project_id' (or the task's project_id): the URLs without a project, "
                "/v2/jobs, were removed in September 2024, and every project has its id in the console's address bar"
            )
        host = _base_url(conn, allow_http=_flag(extra, "allow_http", default=False))
        auth = _text(extra, "auth") or "api_key"
        if auth not in (known := FIELDS["auth"]["schema"]["enum"]):
            raise PolarisUsageError(f"the extra 'auth' must be one of {', '.join(known)}, not {auth!r}")
        return cls(
            base_url=f"{host}/v1/projects/{check_id(project, 'project_id')}",
            project_id=project,
            api_key=_api_key(conn.password),
            auth=auth,
            timeout=_seconds(extra, "timeout", default=DEFAULT_TIMEOUT),
            verify=_verify(extra),
            job_url_template=_web_address(extra, "job_url_template"),
            conn_id=str(conn.conn_id),
        )


def _api_key(password: Any) -> str:
    if not password:
        raise PolarisUsageError("no API key. Put it into the password")
    # What an HTTP header cannot carry would make requests quote the key in its complaint.
    if not isinstance(password, str) or not password.isascii() or not password.isprintable() or " " in password:
        raise PolarisUsageError("the password is not an API key: it holds blanks or characters that no key has")
    return password


def _extras(conn: Any) -> Mapping[str, Any]:
    raw = conn.extra
    try:
        extra = json.loads(raw) if isinstance(raw, str) and raw.strip() else (raw or {})
    except ValueError:
        raise PolarisUsageError("its extra is not JSON") from None
    if not isinstance(extra, Mapping):
        raise PolarisUsageError("its extra must be a JSON object")
    unknown = sorted(str(name) for name in extra if name not in FIELDS)
    if unknown:
        log.warning("Connection %r has extras that this provider does not know: %s", conn.conn_id, ", ".join(unknown))
    # The connection form stores fields that were left alone as null or as an empty text.
    return {name: value for name, value in extra.items() if value is not None and str(value).strip() != ""}


def _text(extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    if value is None or isinstance(value, str):
        return value.strip() or None if value else None
    raise PolarisUsageError(f"the extra {name!r} must be text, not {type(value).__name__}")


def _web_address(extra: Mapping[str, Any], name: str) -> str | None:
    address = _text(extra, name)
    if address is not None and not address.startswith(("https://", "http://")):
        raise PolarisUsageError(f"the extra {name!r} must be a web address, with {{project_id}} and {{job_id}} in it")
    return address


def _flag(extra: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = extra.get(name, default)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _WORDS:  # a connection given as a URI has only text
        return _WORDS[value.strip().lower()]
    raise PolarisUsageError(f"the extra {name!r} must be true or false")


def _verify(extra: Mapping[str, Any]) -> bool | str:
    value = extra.get("verify", True)
    if isinstance(value, str) and value.strip().lower() not in _WORDS:
        return value.strip()
    return _flag(extra, "verify", default=True)


def _seconds(extra: Mapping[str, Any], name: str, *, default: float) -> float:
    value = extra.get(name, default)
    try:
        seconds = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if not 0 < seconds <= 600:
        raise PolarisUsageError(f"the extra {name!r} must be a number of seconds, more than 0 and at most 600")
    return seconds


def _base_url(conn: Any, *, allow_http: bool) -> str:
    """Return ``scheme://host[:port]`` of the regional API endpoint."""
    host = (conn.host or "").strip()
    if not host:
        raise PolarisUsageError("no host. Use the regional endpoint, https://ORG.REGION.CLOUD.api.imply.io")
    scheme = (conn.schema or "").strip().lower() or "https"
    if scheme not in {"http", "https"}:
        raise PolarisUsageError(
            "its schema must be empty, 'https' or 'http': the API's path is not part of a connection"
        )
    try:
        parts = urlsplit(host if "://" in host else f"{scheme}://{host}")
        port = int(parts.port or conn.port or 0)  # some forms store an empty port as 0
    except (ValueError, TypeError):
        raise PolarisUsageError("its host is not a host name") from None
    name = parts.hostname or ""
    if "@" in parts.netloc:
        raise PolarisUsageError("its host holds credentials: the API key goes into the password")
    if parts.path.rstrip("/") or parts.query or parts.fragment:
        raise PolarisUsageError("its host has a path. Give the host alone, https://ORG.REGION.CLOUD.api.imply.io")
    plain = parts.netloc.lower().rpartition(":")[0] if parts.port else parts.netloc.lower().rstrip(":")
    whole = plain == (f"[{name}]" if ":" in name else name)  # urlsplit drops what stands behind a bracket
    if parts.scheme not in {"http", "https"} or not whole or not (_HOST.fullmatch(name) or _is_ip(name)):
        raise PolarisUsageError("its host is not a host name, with or without https://")
    if not 0 <= port <= 65535:
        raise PolarisUsageError("its port is none")
    if parts.scheme == "http" and not (allow_http or is_loopback(name)):
        raise PolarisUsageError(
            "plain http:// would send the API key in the clear. Use https://, or set the extra 'allow_http'"
        )
    if name.endswith(".app.imply.io"):
        name = name.removesuffix(".app.imply.io") + ".api.imply.io"
        log.info("Connection %r names the console; using the API's host %s", conn.conn_id, name)
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}{f':{port}' if port else ''}"


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Whether the host is this machine, and no network lies between."""
    return name == "localhost" or (_is_ip(name) and ipaddress.ip_address(name).is_loopback)
