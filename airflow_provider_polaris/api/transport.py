"""Send one HTTP request, and return the JSON of the response or raise a PolarisApiError.

Workers and triggerers share this code: a triggerer runs these blocking calls in threads.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

import requests
import tenacity
import urllib3.exceptions
from requests.auth import AuthBase

from airflow_provider_polaris import __version__, clock
from airflow_provider_polaris.api.connection import PolarisConnection, is_loopback
from airflow_provider_polaris.api.error_body import RETRIED_CATEGORIES, category_of, error_of
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisBadRequest,
    PolarisConflict,
    PolarisConnectionInvalid,
    PolarisError,
    PolarisForbidden,
    PolarisInvalidResponse,
    PolarisNotFound,
    PolarisQueryFailed,
    PolarisResponseTooLarge,
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

#: Seconds to wait for a TCP and TLS connection. A shorter timeout of the connection is used instead.
CONNECT_TIMEOUT_SECONDS = 10.0

#: The longest response that is read, in bytes. A thousand jobs take about 0.7 MB.
MAX_BODY = 64 * 1024 * 1024
READ_AT_ONCE = 64 * 1024

if TYPE_CHECKING:
    from airflow_provider_polaris.api.upload import Form

T = TypeVar("T")

_BASE64 = (base64.b64encode, base64.urlsafe_b64encode)


def as_it_came(answer: Any) -> Any:
    """Return the JSON of a response as it is."""
    return answer


class _KeyAuth(AuthBase):
    """Set the header last: requests would replace an earlier one with the host's entry in ``~/.netrc``."""

    def __init__(self, authorization: str) -> None:
        self._authorization = authorization

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._authorization
        return request


class Transport:
    """A pool of HTTP connections to one Polaris project. Threads may share it.

    :param connection: the project and the API key.
    :raises PolarisConnectionInvalid: if the CA bundle cannot be read.
    """

    def __init__(self, connection: PolarisConnection) -> None:
        self.connection = connection
        self._secrets = _encodings(connection.api_key)
        _check_ca(connection.verify)
        self._session = requests.Session()
        # A proxy cannot reach the loopback of this machine, and would see the unencrypted key.
        self._session.trust_env = not is_loopback(urlsplit(connection.base_url).hostname or "")
        self._session.auth = _KeyAuth(connection.authorization)
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update(
            {"Accept": "application/json", "User-Agent": f"airflow-provider-polaris/{__version__}"}
        )

    def close(self) -> None:
        """Close the pooled connections. A request that is being sent still ends within its timeout."""
        self._session.close()

    def request(
        self,
        method: str,
        *segments: str,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        form: Callable[[], AbstractContextManager[Form]] | None = None,
        retry: Retry = Retry.SAFE,
        parse: Callable[[bytes], Any] = json.loads,
        read: Callable[[Any], T] = as_it_came,
        most: int | None = None,
        least_timeout: float = 0.0,
    ) -> T:
        """Send one request, and return the parsed JSON of the response.

        :param segments: the segments of the path below the project. They are quoted here.
        :param params: the query. A list repeats the name for each of its values.
        :param body: sent as JSON, unless it is ``None``.
        :param form: makes the form that is sent instead, anew for each try.
        :param parse: makes the JSON of the response's bytes.
        :param read: parses the JSON. It may raise a PolarisError that quotes the JSON.
        :param most: the largest response that is read, in bytes, if it is not MAX_BODY.
        :param least_timeout: seconds to wait for the response, if the timeout of the connection is shorter.
        :raises PolarisApiError: if the request failed. The class of the error is the kind of failure.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(MAX_TRIES),
            wait=pause_before,
            retry=tenacity.retry_if_exception(lambda error: may_retry(error, retry)),
            sleep=clock.sleep,
            reraise=True,
        )
        limit = MAX_BODY if most is None else most
        timeout = max(self.connection.timeout, least_timeout)
        sent = _Request(method, segments, params, body, form, parse, limit, timeout)
        answer, content = retrying(self._request_once, sent)
        try:
            return read(answer)
        except PolarisError as error:
            fault = error
        # The message quotes the response, which may echo the key. Raised inside the except block, the new error would
        # keep the first one as its context.
        raise self._without_key(fault, lambda body: read(parse(body)), content)

    def _request_once(self, sent: _Request) -> tuple[Any, bytes]:
        path = "/".join(quote(segment, safe="") for segment in sent.segments)
        what = f"{sent.method} {self.connection.host}/…/{path}"
        try:
            with sent.form() if sent.form else nullcontext() as data:
                response = self._session.request(
                    sent.method,
                    f"{self.connection.base_url}/{path}",
                    params=sent.params,
                    json=sent.body,
                    data=data,
                    headers={"Content-Type": data.content_type} if data else None,
                    # requests turns a redirected PUT into a GET, whose response could be mistaken for success.
                    allow_redirects=False,
                    timeout=(min(CONNECT_TIMEOUT_SECONDS, self.connection.timeout), sent.timeout),
                    # Passed per request: on the session, REQUESTS_CA_BUNDLE would override verify=False.
                    verify=self.connection.verify,
                    stream=True,
                )
                with response:
                    content = _read(response, sent.timeout, sent.most)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader) as error:
            raise PolarisConnectionInvalid(f"The request cannot be sent: {error} ({what})") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            never_sent = not may_have_been_received(error)
            advice = f". Check the host of {self.connection.label}" if never_sent else ""
            raise PolarisUnreachable(
                f"No response from Polaris: {describe(error)}{advice} ({what})", received=not never_sent
            ) from None
        is_success = 200 <= response.status_code < 300
        if content is None and is_success:
            raise PolarisResponseTooLarge(
                f"The response has more than {sent.most:,} bytes, and this provider reads no larger one. "
                f"{_advice_on_size(path)} ({what})",
                status=response.status_code,
                location=response.headers.get("Location"),
            )
        content = content or b""
        if not is_success:
            raise _error(what, self.connection, response, content, self._redact(content))
        if not content and sent.parse is json.loads:
            return None, content
        try:
            return sent.parse(content), content
        except PolarisInvalidResponse as error:
            raise PolarisInvalidResponse(f"{error} ({what})", status=response.status_code) from None
        except (ValueError, RecursionError):
            shown = _excerpt(response, self._redact(content))
            raise PolarisInvalidResponse(
                f"HTTP {response.status_code} with a body that is not JSON: {shown} ({what})",
                status=response.status_code,
            ) from None

    def _redact(self, content: bytes) -> bytes:
        """Return the body for a message, without the key. Data is never changed: a short key may be part of words."""
        for secret in self._secrets:
            content = content.replace(secret, b"***")
        return content

    def _without_key(self, error: PolarisError, read: Callable[[bytes], Any], content: bytes) -> PolarisError:
        """Return the error that the body without the key raises, so that the message quotes no key."""
        redacted = self._redact(content)
        if redacted == content:
            return error
        with suppress(ValueError, RecursionError):  # a short key may be part of the JSON syntax
            try:
                read(redacted)
            except PolarisError as without_key:
                return without_key
        return PolarisInvalidResponse("Polaris returned an invalid response, which contains the API key")


class _Request(NamedTuple):
    """What is sent, and how its response is read. See :meth:`Transport.request`."""

    method: str
    segments: tuple[str, ...]
    params: Mapping[str, Any] | None
    body: Any
    form: Callable[[], AbstractContextManager[Form]] | None
    parse: Callable[[bytes], Any]
    most: int
    timeout: float


def _read(response: requests.Response, timeout: float, limit: int) -> bytes | None:
    """Read the whole body within the timeout. The timeout of requests applies to each piece of a response only.

    :return: ``None`` if the body is larger than the limit, in bytes. The rest of it is not read.
    """
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        return None
    read_some = getattr(response.raw, "read1", None)
    pieces = (
        iter(partial(read_some, READ_AT_ONCE, decode_content=True), b"")
        if read_some
        else response.raw.stream(READ_AT_ONCE, decode_content=True)  # urllib3 before 2.1
    )
    give_up_at = time.monotonic() + timeout
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > limit:
            return None
        if time.monotonic() > give_up_at:
            raise requests.exceptions.ReadTimeout(f"the response was incomplete after {timeout:g} s")
    return bytes(content)


def _error(
    what: str, connection: PolarisConnection, response: requests.Response, content: bytes, redacted: bytes
) -> PolarisApiError:
    """Return the error for a response whose status is not 2xx.

    The message ends with the request: a screen shows the beginning of a line, which is for the reason.

    :param redacted: the content without the key, for the message.
    """
    status = response.status_code
    has_code = error_of(content)[0] is not None
    shown_code, messages = error_of(redacted)
    code = clean(shown_code or "***")[:100] if has_code else None
    details = messages or _excerpt(response, redacted) or "an empty body"
    reason, request = clean(f"HTTP {status}: {details}"), f" ({what})"
    category = category_of(content) if "/…/query" in what and status not in (401, 403, 404) else None
    is_busy = category in RETRIED_CATEGORIES
    # Only a POST sends a query. For another request, the category says nothing about the query.
    if category is not None and not is_busy and what.startswith("POST"):
        return PolarisQueryFailed(f"{reason}{request}", status=status, code=code, category=category)
    if is_busy or is_transient(status):
        return PolarisUnreachable(
            f"{reason}{request}",
            status=status,
            code=code,
            # A project that is too busy has not started the query.
            received=status != 429 and not is_busy,
            retry_after=asked_pause(response.headers.get("Retry-After", "")),
        )
    if 300 <= status < 400:
        return PolarisInvalidResponse(f"HTTP {status}, a redirect: this is not the Polaris API{request}", status=status)
    if status == 401:
        return PolarisUnauthorized(f"{reason}. {_advice_on_key(connection)}{request}", status=status, code=code)
    if status in {400, 403, 404} and code is None:
        # A filter in between may have forwarded the request before, so that ``received`` stays true.
        otherwise = f". If Polaris sent it: {_permission(what)}" if status == 403 else ""
        return PolarisInvalidResponse(
            f"{reason}. This {status} has no error code of the Polaris API: a gateway may have sent it"
            f"{otherwise}{request}",
            status=status,
        )
    if status == 403:
        return PolarisForbidden(f"{reason}: {_permission(what)}{request}", status=status, code=code)
    if status == 404:
        return PolarisNotFound(f"{reason}, in project {connection.project_id}{request}", status=status, code=code)
    kind = PolarisConflict if status == 409 else PolarisBadRequest
    return kind(f"{reason}. Polaris rejects this request{request}", status=status, code=code)


def _encodings(key: str) -> list[bytes]:
    """Return the forms in which a response may echo the key, the longest first."""
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
            raise PolarisConnectionInvalid(
                f"the extra 'verify' is not the path of a CA bundle: {verify}: {error}"
            ) from None


def _advice_on_key(connection: PolarisConnection) -> str:
    if connection.auth == "bearer":
        return (
            f"The access token, the password of {connection.label}, may have expired: Polaris accepts a token for five "
            "minutes. For tasks that wait, use an API key, and remove the extra auth=bearer"
        )
    other = "basic" if connection.auth == "api_key" else "api_key"
    return (
        f"Check the API key, the password of {connection.label}: it may be wrong or revoked. "
        f"If the key is right, set the extra auth={other}; it is {connection.auth} now"
    )


def _advice_on_size(path: str) -> str:
    if path.startswith("query"):
        return "Let the query return fewer rows, or aggregate in the query"
    return (
        "A job's inline data is in its response, twice. Look at the job in the console, and load large data from files"
    )


#: The permission that a call needs, by a part of its path.
_PERMISSIONS = {
    "/…/tables": "ViewTables or ManageTables",
    "/…/files": "ManageFiles",
    "/…/query/sql/statements": "AccessQueries, and also ManageIngestionJobs,",
    "/…/query": "AccessQueries",
}


def _permission(what: str) -> str:
    needed = next((permission for part, permission in _PERMISSIONS.items() if part in what), "ManageIngestionJobs")
    return f"give the API key the permission {needed} in this project"


def _excerpt(response: requests.Response, content: bytes) -> str:
    text = " ".join(content[:400].decode("utf-8", "replace").split())
    kind = response.headers.get("Content-Type", "no content type").partition(";")[0][:50]
    return f"{text[:200]!r} ({kind})" if text else ""
