"""When a failed call is tried again, after what pause, and what its failure says of it. Pure."""

from __future__ import annotations

import email.utils
from collections.abc import Iterator
from enum import Enum

import requests
import tenacity
import urllib3.exceptions

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import PolarisTransientError

#: Tries per call, the first one included, where a call is tried again at all.
MAX_TRIES = 5
#: The longest pause between two tries, whatever ``Retry-After`` asks for, in seconds.
MAX_PAUSE = 30.0
_TRANSIENT = {408, 425, 429}


class Retry(Enum):
    """When a call is tried again."""

    #: Not here: the caller polls, and its next poll is the retry.
    NEVER = "never"
    #: Whenever it might help: the call does no harm twice.
    SAFE = "safe"
    #: Only where the service cannot have acted on it: the call makes something new each time.
    UNSENT = "unsent"

    @classmethod
    def when(cls, wanted: bool) -> Retry:
        """Return SAFE, or NEVER if it is not wanted."""
        return cls.SAFE if wanted else cls.NEVER


def is_transient(status: int) -> bool:
    """Whether an answer of that status may be another one soon."""
    return status in _TRANSIENT or status >= 500


def may_retry(error: BaseException, retry: Retry) -> bool:
    """Whether the call that failed so is tried again."""
    if not isinstance(error, PolarisTransientError) or retry is Retry.NEVER:
        return False
    return retry is Retry.SAFE or not error.received


def pause_before(state: tenacity.RetryCallState) -> float:
    """Return the seconds until the next try: what the service asked for, or an exponential pause with jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = getattr(error, "retry_after", None)
    backoff = tenacity.wait_random_exponential(multiplier=1, max=MAX_PAUSE)(state)
    return backoff if asked is None else min(max(asked, 0.0) + backoff / 4, MAX_PAUSE)


def asked_pause(value: str) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, given in seconds or as a date; ``None`` for rubbish."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - clock.now(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what is wrapped in it: requests hides urllib3's errors in its arguments."""
    todo, seen = [error], set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        # Not __context__: that is whatever error the caller was handling when it asked, perhaps of another request.
        inner = (*one.args, getattr(one, "reason", None), one.__cause__)
        todo.extend(item for item in inner if isinstance(item, BaseException))


def may_have_been_received(error: BaseException) -> bool:
    """Whether the request may have reached the service.

    requests raises one ConnectionError for a host that was never reached and for a line cut in mid-answer; urllib3's
    NewConnectionError (refused, no such host) and ConnectTimeoutError inside it prove the former.
    """
    never_sent = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    return not any(isinstance(one, never_sent) for one in _chain(error))


def describe(error: BaseException) -> str:
    """Return what happened in words, with the innermost text: the outer ones repeat it with addresses of objects."""
    chain = list(_chain(error))
    if any(isinstance(one, requests.exceptions.SSLError) for one in chain):
        what = "TLS failed"
    elif any(isinstance(one, requests.exceptions.ProxyError) for one in chain):
        what = "the proxy failed"
    elif isinstance(error, requests.exceptions.Timeout):
        what = "no answer in time"
    elif not may_have_been_received(error):
        what = "the host could not be reached"
    else:
        what = "the line was cut"
    return f"{what}: {str(chain[-1])[:300]}"
