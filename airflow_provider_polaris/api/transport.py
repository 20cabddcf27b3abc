"""HTTP: one request in, JSON or a PolarisApiError out. Knows nothing of Airflow or of jobs.

One stack for workers and triggerers alike: a triggerer runs these blocking calls in threads.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
import tenacity
import urllib3.exceptions
from requests.auth import AuthBase

from airflow_provider_polaris import __version__, clock
from airflow_provider_polaris.api.connection import PolarisConnection, is_loopback
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisBadRequest,
    PolarisConnectionInvalid,
    PolarisError,
    PolarisForbidden,
    PolarisInvalidResponse,
    PolarisNotFound,
    PolarisUnauthorized,
    PolarisUnreachable,
)
from airflow_provider_polaris.api.parsing import clean
from airflow_provider_polaris.api.retries import (
    MAX_TRIES,
    Retry,
    asked_pause,
    describe,
    is_transient,
    may_have_been_received,
    may_retry,
    pause_before,
)

#: Seconds to wait for a TCP and TLS connection; the connection's own timeout where that is less.
CONNECT_TIMEOUT = 10.0

#: The longest answer that is read, in bytes: a thousand jobs take about 0.7 MB.
MAX_BODY = 64 * 1024 * 1024
READ_AT_ONCE = 64 * 1024

T = TypeVar("T")

_BASE64 = (base64.b64encode, base64.urlsafe_b64encode)


def as_it_came(answer: Any) -> Any:
    """Return the JSON of a response unread."""
    return answer


class _KeyAuth(AuthBase):
    """Sets the header late: requests would replace a plain one by what ``~/.netrc`` has for the host."""

    def __init__(self, authorization: str) -> None:
        self._authorization = authorization

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._authorization
        return request


class Transport:
    """One pool of HTTP connections to one Polaris project. Safe to share between threads.

    :param connection: where to, and with which key.
    """

    def __init__(self, connection: PolarisConnection) -> None:
        self.connection = connection
        self._secrets = _encodings(connection.api_key)
        _check_ca(connection.verify)
        self._session = requests.Session()
        # The environment's proxy cannot reach this machine's own loopback, and would be shown the key in the clear.
        self._session.trust_env = not is_loopback(urlsplit(connection.base_url).hostname or "")
        self._session.auth = _KeyAuth(connection.authorization)
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update(
            {"Accept": "application/json", "User-Agent": f"airflow-provider-polaris/{__version__}"}
        )

    def close(self) -> None:
        """Close the pooled connections. A request under way still ends, within its timeout."""
        self._session.close()

    def request(
        self,
        method: str,
        *segments: str,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        retry: Retry = Retry.SAFE,
        read: Callable[[Any], T] = as_it_came,
    ) -> T:
        """Send one request and return what ``read`` makes of the JSON in the response.

        :param segments: the path below the project, a segment each; they are quoted here.
        :param params: the query; a list repeats the name for each of its values.
        :param body: sent as JSON if not ``None``.
        :param read: takes the JSON; may raise a PolarisError that quotes it.
        :raises PolarisApiError: the kind tells what to do about it.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(MAX_TRIES),
            wait=pause_before,
            retry=tenacity.retry_if_exception(lambda error: may_retry(error, retry)),
            sleep=clock.sleep,
            reraise=True,
        )
        answer, content = retrying(self._request_once, method, segments, params, body)
        try:
            return read(answer)
        except PolarisError as error:
            fault = error
        # Its message quotes the response, which may echo the key. Not raised above: it would keep the first one in it.
        raise self._without_key(fault, read, content)

    def _request_once(
        self,
        method: str,
        segments: tuple[str, ...],
        params: Mapping[str, Any] | None,
        body: Any,
    ) -> tuple[Any, bytes]:
        path = "/".join(quote(segment, safe="") for segment in segments)
        what = f"{method} {self.connection.host}/…/{path}"
        try:
            response = self._session.request(
                method,
                f"{self.connection.base_url}/{path}",
                params=params,
                json=body,
                # A redirected PUT becomes a GET, which looks like success.
                allow_redirects=False,
                timeout=(min(CONNECT_TIMEOUT, self.connection.timeout), self.connection.timeout),
                # Given per request: on the session, REQUESTS_CA_BUNDLE would win over verify=False.
                verify=self.connection.verify,
                stream=True,
            )
            with response:
                content = _read(response, self.connection.timeout)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader) as error:
            raise PolarisConnectionInvalid(f"{what} cannot be sent: {error}") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            never_sent = not may_have_been_received(error)
            advice = f". Is the host of the connection {self.connection.conn_id!r} right?" if never_sent else ""
            raise PolarisUnreachable(f"{what}: {describe(error)}{advice}", received=not never_sent) from None
        if not 200 <= response.status_code < 300:
            raise _error(what, self.connection, response, content, self._redact(content))
        if not content:
            return None, content
        try:
            return json.loads(content), content
        except (ValueError, RecursionError):
            shown = _excerpt(response, self._redact(content))
            raise PolarisInvalidResponse(
                f"{what} was answered {response.status_code} with what is not JSON: {shown}",
                status=response.status_code,
            ) from None

    def _redact(self, content: bytes) -> bytes:
        """Replace the key in a response that a message quotes. Data stays as it came: a short key is part of words."""
        for secret in self._secrets:
            content = content.replace(secret, b"***")
        return content

    def _without_key(self, error: PolarisError, read: Callable[[Any], Any], content: bytes) -> PolarisError:
        """Return an error about the response that quotes no key: the one that a redacted copy of it raises."""
        redacted = self._redact(content)
        if redacted == content:
            return error
        with suppress(ValueError, RecursionError):  # a short key may be a part of JSON itself
            try:
                read(json.loads(redacted))
            except PolarisError as without_key:
                return without_key
        return PolarisInvalidResponse("Polaris returned a response of an unknown shape, which holds the API key")


def _read(response: requests.Response, timeout: float) -> bytes:
    """Read the body, all of it within the timeout: the one that requests knows is for each piece of it anew."""
    read_some = getattr(response.raw, "read1", None)
    if read_some is None:  # urllib3 before 2.1
        return response.content
    give_up_at = time.monotonic() + timeout
    content = bytearray()
    while piece := read_some(READ_AT_ONCE, decode_content=True):
        content += piece
        if len(content) > MAX_BODY:
            raise requests.exceptions.ContentDecodingError(f"the answer is longer than {MAX_BODY:,} bytes")
        if time.monotonic() > give_up_at:
            raise requests.exceptions.ReadTimeout(f"the answer was not whole after {timeout:g} s")
    return bytes(content)


def _error(
    what: str, connection: PolarisConnection, response: requests.Response, content: bytes, redacted: bytes
) -> PolarisApiError:
    """Return the error that the answer stands for.

    :param redacted: the content without the key, to be quoted.
    """
    status = response.status_code
    is_polaris_error = isinstance(_json_object(content).get("code"), str)
    body = _json_object(redacted)
    code = clean(str(body.get("code", "***")))[:100] if is_polaris_error else None
    told = "; ".join(_messages(body)) or _excerpt(response, redacted) or "an empty body"
    message = clean(f"{what} was answered {status}: {told}")
    if is_transient(status):
        return PolarisUnreachable(
            message,
            status=status,
            code=code,
            received=status != 429,
            retry_after=asked_pause(response.headers.get("Retry-After", "")),
        )
    if 300 <= status < 400:
        return PolarisInvalidResponse(f"{what} was redirected ({status}): this is not the Polaris API", status=status)
    if status == 401:
        other = "basic" if connection.auth == "api_key" else "api_key"
        advice = (
            f"Is the API key in the password of the connection {connection.conn_id!r} right, and not revoked? "
            f"If it is, try the extra auth={other}: it is {connection.auth} now"
        )
        return PolarisUnauthorized(f"{message}. {advice}", status=status, code=code)
    if status == 403:
        return PolarisForbidden(f"{message}. {_permission(what)}", status=status, code=code)
    if status == 404 and code:
        return PolarisNotFound(f"{message}, in project {connection.project_id}", status=status, code=code)
    if status == 404:
        return PolarisInvalidResponse(f"{message} (a 404 that is not in the service's error shape)", status=status)
    return PolarisBadRequest(f"{message}. Polaris will not take this request as it is", status=status, code=code)


def _encodings(key: str) -> list[bytes]:
    """Return the forms in which a key may be echoed, the longest first."""
    plain = {key, quote(key, safe=""), json.dumps(key)[1:-1]}
    encoded = {encode(text.encode()).decode() for encode in _BASE64 for text in (key, f"{key}:")}
    forms = plain | {form.rstrip("=") for form in encoded}
    return sorted((form.encode() for form in forms), key=len, reverse=True)


def _check_ca(verify: bool | str) -> None:
    if isinstance(verify, str):
        try:
            is_dir = Path(verify).is_dir()
            ssl.create_default_context(cafile=None if is_dir else verify, capath=verify if is_dir else None)
        except OSError as error:  # ssl.SSLError is one
            raise PolarisConnectionInvalid(f"the extra 'verify' names no CA bundle: {verify}: {error}") from None


def _permission(what: str) -> str:
    needed = "ViewTables or ManageTables" if "/tables" in what else "ManageIngestionJobs"
    return f"Does the API key have the permission {needed} in this project?"


def _json_object(content: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, Mapping) else {}


def _messages(body: Any, depth: int = 0) -> Iterator[str]:
    """Yield what an error in the service's shape says, its details and inner errors included."""
    if not isinstance(body, Mapping) or depth > 3:
        return
    said = [str(body[name])[:300] for name in ("code", "message") if body.get(name)]
    if body.get("target"):
        said.append(f"(field: {str(body['target'])[:100]})")
    if said:
        yield ", ".join(said[:2]) + "".join(f" {rest}" for rest in said[2:])
    details = body.get("details")
    for inner in [*(details[:5] if isinstance(details, list) else []), body.get("innererror")]:
        yield from _messages(inner, depth + 1)


def _excerpt(response: requests.Response, content: bytes) -> str:
    text = " ".join(content[:400].decode("utf-8", "replace").split())
    kind = response.headers.get("Content-Type", "no content type").partition(";")[0][:50]
    return f"{text[:200]!r} ({kind})" if text else ""
