"""What is needed to reach a Polaris project: host, API key, project id and settings, all checked. Pure."""

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

log = logging.getLogger(__name__)

CONN_TYPE = "imply_polaris"  # "polaris" would suggest Apache Polaris, the catalog
DEFAULT_CONN_ID = "polaris_default"
#: Seconds to wait for a response, unless the connection has its own ``timeout``.
DEFAULT_TIMEOUT_SECONDS = 30.0
MAX_TIMEOUT_SECONDS = 600
#: How the password is sent: an API key by itself, an API key as the user name of HTTP basic authentication, or an OAuth
#: access token. A token is accepted for five minutes.
AUTH_FORMS = ("api_key", "basic", "bearer")
#: What the form of Airflow 2.11 puts before the name of an extra.
FORM_PREFIX = f"extra__{CONN_TYPE}__"
#: The extras of an Airflow connection that this provider reads.
EXTRAS = ("project_id", "auth", "timeout", "verify", "allow_http", "job_url_template")

# An id becomes one segment of a path. A URL resolves segments of dots, and gives a meaning to other characters.
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def rendered_to_nothing(name: str, value: Any) -> str:
    """Return the message for an option whose template rendered to ``None`` or to an empty text."""
    return f"{name} is {value!r}. Did the upstream task push it to XCom?"


def is_id(value: Any) -> bool:
    """Whether Polaris can have given such an id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def check_id(value: Any, name: str) -> str:
    """Return the id. Raises PolarisUsageError if Polaris cannot have given such an id."""
    if value in (None, "", "None"):
        raise PolarisUsageError(rendered_to_nothing(name, value))
    if isinstance(value, Mapping) and "job_id" in value:  # the XCom of a task that waited for a job
        raise PolarisUsageError(
            f'{name} is the whole output of a task, a dict. Use the id in it, for example {name}=load.output["job_id"]'
        )
    if isinstance(value, str) and ("{{" in value or "{%" in value):
        raise PolarisUsageError(f"{name} is an unrendered template: {value[:100]!r}")
    if not is_id(value):
        raise PolarisUsageError(
            f"{name} must be a Polaris id, of letters, digits, '-' and '_'; it is {repr(value)[:100]}"
        )
    return str(value)


@dataclass(frozen=True)
class PolarisConnection:
    """A checked connection, made by :meth:`from_values` or :meth:`from_airflow`. Its ``repr`` shows no secret.

    :param base_url: ``https://ORG.REGION.CLOUD.api.imply.io/v1/projects/PROJECT_ID``.
    :param auth: one of :data:`AUTH_FORMS`.
    :param timeout: seconds to wait for a response.
    :param verify: whether to check the server's certificate, or the path of the CA bundle to check it with.
    :param conn_id: the id of the Airflow connection, empty if there is none.
    """

    base_url: str
    project_id: str
    api_key: str = field(repr=False)
    auth: str = "api_key"
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    verify: bool | str = True
    job_url_template: str | None = None
    conn_id: str = ""
    #: The extras that this provider does not know.
    ignored: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """The host with its scheme, for messages."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def label(self) -> str:
        """The name of the connection in messages."""
        return f"the connection {self.conn_id!r}" if self.conn_id else "this connection"

    @property
    def authorization(self) -> str:
        """The value of the ``Authorization`` header."""
        if self.auth == "basic":
            return "Basic " + base64.b64encode(f"{self.api_key}:".encode()).decode()
        return f"{'Bearer' if self.auth == 'bearer' else 'Basic'} {self.api_key}"

    def job_url(self, job_id: str) -> str | None:
        """Return the web page that shows the job: by the template, or else the organisation's console.

        ``None`` without a template, if the host is not one of Imply's.
        """
        if self.job_url_template:
            return self.job_url_template.replace("{project_id}", self.project_id).replace("{job_id}", job_id)
        organisation, _, rest = (urlsplit(self.base_url).hostname or "").partition(".")
        return f"https://{organisation}.app.imply.io" if rest.endswith("api.imply.io") else None

    @classmethod
    def from_values(
        cls,
        *,
        host: str,
        project_id: str,
        api_key: str,
        auth: str = "api_key",
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        verify: bool | str = True,
        allow_http: bool = False,
        job_url_template: str | None = None,
    ) -> PolarisConnection:
        """Check the values and return the connection. Airflow is not needed.

        :param host: the regional endpoint, ``ORG.REGION.CLOUD.api.imply.io``, with or without ``https://``.
        :param api_key: with the permissions that the calls need.
        :param auth: ``api_key`` sends the key by itself, ``basic`` as a user name. With ``bearer``, ``api_key`` is an
            access token, which Polaris accepts for five minutes.
        :param timeout: seconds to wait for a response, at most 600.
        :param verify: ``False`` skips the check of the server's certificate; or the path of a CA bundle.
        :param allow_http: allow ``http://`` to other hosts than this machine. The key is then sent unencrypted.
        :param job_url_template: the web page of a job, with ``{project_id}`` and ``{job_id}`` in it.
        :raises PolarisConnectionInvalid: naming the invalid value. The message holds no secret.
        """
        try:
            return cls._checked(
                host=_base_url(host, None, None, allow_http=_flag("allow_http", allow_http)),
                project_id=project_id,
                api_key=api_key,
                auth=auth,
                timeout=timeout,
                verify=verify,
                job_url_template=job_url_template,
            )
        except PolarisUsageError as error:
            raise PolarisConnectionInvalid(f"Polaris connection: {error}") from None

    @classmethod
    def from_airflow(cls, conn: Any, project_id: str | None = None) -> PolarisConnection:
        """Read an Airflow connection.

        :param conn: an object with ``conn_id``, ``host``, ``port``, ``schema``, ``password`` and ``extra``.
        :param project_id: overrides the extra ``project_id``.
        :raises PolarisUsageError: if ``project_id`` is given and invalid.
        :raises PolarisConnectionInvalid: naming the connection and the invalid value. The message holds no secret.
        """
        if project_id is not None:  # an option of a task, and not a fault of the connection
            check_id(project_id, "project_id")
        try:
            extra, ignored = _extras(conn)
            return cls._checked(
                host=_base_url(
                    conn.host, conn.port, conn.schema, allow_http=_flag("allow_http", extra.get("allow_http", False))
                ),
                # A task's project id that renders to nothing must not select the connection's project.
                project_id=_text("project_id", extra.get("project_id")) if project_id is None else project_id,
                api_key=conn.password,
                auth=_text("auth", extra.get("auth")) or "api_key",
                timeout=extra.get("timeout", DEFAULT_TIMEOUT_SECONDS),
                verify=extra.get("verify", True),
                job_url_template=extra.get("job_url_template"),
                conn_id=str(conn.conn_id),
                ignored=ignored,
            )
        except PolarisUsageError as error:
            raise PolarisConnectionInvalid(f"Connection {conn.conn_id!r}: {error}") from None

    @classmethod
    def _checked(
        cls,
        *,
        host: str,
        project_id: Any,
        api_key: Any,
        auth: Any,
        timeout: Any,
        verify: Any,
        job_url_template: Any,
        conn_id: str = "",
        ignored: tuple[str, ...] = (),
    ) -> PolarisConnection:
        if not project_id:
            raise PolarisUsageError(
                "no project id. Set 'project_id': the console's address bar shows the id. Polaris removed the URLs "
                "without a project (/v2/jobs) in September 2024"
            )
        if auth not in AUTH_FORMS:
            raise PolarisUsageError(f"'auth' must be one of {', '.join(AUTH_FORMS)}, not {auth!r}")
        return cls(
            base_url=f"{host}/v1/projects/{check_id(project_id, 'project_id')}",
            project_id=project_id,
            api_key=_api_key(api_key),
            auth=auth,
            timeout=_seconds("timeout", timeout),
            verify=_verify(verify),
            job_url_template=_web_address("job_url_template", job_url_template),
            conn_id=conn_id,
            ignored=ignored,
        )


def _api_key(key: Any) -> str:
    if not key:
        raise PolarisUsageError("no API key. In an Airflow connection, the API key is the password")
    # requests would quote a key that an HTTP header cannot carry.
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or " " in key:
        raise PolarisUsageError("the password is not an API key: a key has no blanks and no special characters")
    return key


def _extras(conn: Any) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return the extras that have a value, and the names of those that are unknown."""
    raw = conn.extra
    try:
        extra = json.loads(raw) if isinstance(raw, str) and raw.strip() else (raw or {})
    except ValueError:
        raise PolarisUsageError("its extra is not JSON") from None
    if not isinstance(extra, Mapping):
        raise PolarisUsageError("its extra must be a JSON object")
    # The form of Airflow 2.11 tests a connection with each extra twice, with and without a prefix.
    unknown = tuple(sorted(str(name) for name in extra if str(name).removeprefix(FORM_PREFIX) not in EXTRAS))
    if unknown:
        log.warning("Connection %r has extras that this provider does not know: %s", conn.conn_id, ", ".join(unknown))
    # The connection form stores an empty field as null or as an empty text.
    return {name: value for name, value in extra.items() if value is not None and str(value).strip() != ""}, unknown


def _text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value.strip() or None if value else None
    raise PolarisUsageError(f"{name!r} must be text, not {type(value).__name__}")


def _web_address(name: str, value: Any) -> str | None:
    address = _text(name, value)
    if address is not None and not address.startswith(("https://", "http://")):
        raise PolarisUsageError(f"{name!r} must be a web address, with {{project_id}} and {{job_id}} in it")
    return address


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _WORDS:  # a connection given as a URI holds only text
        return _WORDS[value.strip().lower()]
    raise PolarisUsageError(f"{name!r} must be true or false")


def _verify(value: Any) -> bool | str:
    if isinstance(value, str) and value.strip() and value.strip().lower() not in _WORDS:
        return value.strip()
    return _flag("verify", value)  # requests would not check the certificate for an empty path


def _seconds(name: str, value: Any) -> float:
    try:
        seconds = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise PolarisUsageError(f"{name!r} must be a number of seconds, more than 0 and at most {MAX_TIMEOUT_SECONDS}")
    return seconds


def _base_url(host: Any, port: Any, schema: Any, *, allow_http: bool) -> str:
    """Return ``scheme://host[:port]`` of the regional API endpoint."""
    host = host.strip() if isinstance(host, str) else ""
    if not host:
        raise PolarisUsageError("no host. Use the regional endpoint, https://ORG.REGION.CLOUD.api.imply.io")
    scheme = (schema or "").strip().lower() or "https"
    if scheme not in {"http", "https"}:
        raise PolarisUsageError("its schema must be empty, 'https' or 'http'; the API's path does not belong there")
    try:
        parts = urlsplit(host if "://" in host else f"{scheme}://{host}")
        number = int(parts.port or port or 0)  # some forms store an empty port as 0
    except (ValueError, TypeError):
        raise PolarisUsageError("its host is not a host name") from None
    name = parts.hostname or ""
    if "@" in parts.netloc:
        raise PolarisUsageError("its host holds credentials. The API key belongs into the password")
    if parts.path.rstrip("/") or parts.query or parts.fragment:
        raise PolarisUsageError("its host has a path. Use only the host, https://ORG.REGION.CLOUD.api.imply.io")
    plain = parts.netloc.lower().rpartition(":")[0] if parts.port else parts.netloc.lower().rstrip(":")
    whole = plain == (f"[{name}]" if ":" in name else name)  # urlsplit drops text that follows a bracket
    if parts.scheme not in {"http", "https"} or not whole or not (_HOST.fullmatch(name) or _is_ip(name)):
        raise PolarisUsageError("its host is not a host name, with or without https://")
    if not 0 <= number <= 65535:
        raise PolarisUsageError("its port is not a port number")
    if parts.scheme == "http" and not (allow_http or is_loopback(name)):
        raise PolarisUsageError(
            "plain http:// would send the API key unencrypted. Use https://, or set the extra 'allow_http'"
        )
    if name.endswith(".app.imply.io"):
        raise PolarisUsageError("its host is the console. Use the API endpoint, ORG.REGION.CLOUD.api.imply.io")
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}{f':{number}' if number else ''}"


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Whether the host is this machine, so that no network is used."""
    return name == "localhost" or (_is_ip(name) and ipaddress.ip_address(name).is_loopback)
