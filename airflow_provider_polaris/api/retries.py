"""Whether a failed request is sent again, after which pause, and how its failure is described. Pure."""

from __future__ import annotations

import email.utils
from collections.abc import Iterator
from enum import Enum

import requests
import tenacity
import urllib3.exceptions

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisTransientError

#: The most attempts per call, the first one included.
MAX_TRIES = 5
#: The longest pause between two attempts, also if ``Retry-After`` requests more.
MAX_PAUSE_SECONDS = 30.0
_TRANSIENT = {408, 425, 429}


class Retry(Enum):
    """When a failed request is sent again."""

    #: Never: the caller polls, and its next poll is the retry.
    NEVER = "never"
    #: After every transient error: repeating the request does no harm.
    SAFE = "safe"
    #: Only if the service cannot have received the request: each received request creates something.
    UNSENT = "unsent"

    @classmethod
    def when(cls, wanted: bool) -> Retry:
        """Return SAFE if retries are wanted, and NEVER otherwise."""
        return cls.SAFE if wanted else cls.NEVER


def is_transient(status: int) -> bool:
    """Whether the same request may get another status soon."""
    return status in _TRANSIENT or status >= 500


def may_retry(error: BaseException, retry: Retry) -> bool:
    """Whether a request that failed with this error is sent again."""
    if not isinstance(error, PolarisTransientError) or retry is Retry.NEVER:
        return False
    return retry is Retry.SAFE or not error.received


def pause_before(state: tenacity.RetryCallState) -> float:
    """Return the seconds until the next attempt: the requested pause, or an exponential one, with jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = getattr(error, "retry_after", None)
    backoff = tenacity.wait_random_exponential(multiplier=1, max=MAX_PAUSE_SECONDS)(state)
    return backoff if asked is None else min(max(asked, 0.0) + backoff / 4, MAX_PAUSE_SECONDS)


def asked_pause(value: str) -> float | None:
    """Return the pause that a ``Retry-After`` header requests, in seconds. ``None`` if the header is invalid.

    :param value: a number of seconds, or a date.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - clock.now(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all errors inside it. requests wraps urllib3's errors in its arguments."""
    todo, seen = [error], set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        # __context__ is not followed: it is an error that the caller was handling, perhaps of another request.
        inner = (*one.args, getattr(one, "reason", None), one.__cause__)
        todo.extend(item for item in inner if isinstance(item, BaseException))


def may_have_been_received(error: BaseException) -> bool:
    """Whether the request may have reached the service.

    requests raises the same ConnectionError for a host that was never reached and for a response that was cut. Inside
    the error, urllib3's NewConnectionError (refused, unknown host) or ConnectTimeoutError prove that nothing was sent.
    """
    never_sent = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    return not any(isinstance(one, never_sent) for one in _chain(error))


def describe(error: BaseException) -> str:
    """Return what happened, with the innermost text. The outer texts repeat it with addresses of objects."""
    chain = list(_chain(error))
    if any(isinstance(one, requests.exceptions.SSLError) for one in chain):
        what = "TLS failed"
    elif any(isinstance(one, requests.exceptions.ProxyError) for one in chain):
        what = "the proxy failed"
    elif isinstance(error, requests.exceptions.Timeout):
        what = "no response in time"
    elif not may_have_been_received(error):
        what = "the host could not be reached"
    else:
        what = "the connection was cut"
    return f"{what}: {str(chain[-1])[:300]}"
