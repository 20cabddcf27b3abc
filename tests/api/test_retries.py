"""The rules for retries: whether a request is sent again, and after which pause."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
import requests
import urllib3.exceptions as urllib3

from airflow_provider_polaris.api.errors import PolarisUnauthorized, PolarisUnreachable
from airflow_provider_polaris.api.retries import (
    MAX_PAUSE_SECONDS,
    Retry,
    asked_pause,
    describe,
    is_transient,
    may_have_been_received,
    may_retry,
    pause_before,
)

POOL = SimpleNamespace(host="h", port=443)
REFUSED = urllib3.NewConnectionError(POOL, "Connection refused")
SLOW_CONNECT = urllib3.ConnectTimeoutError(POOL, "connect timed out")
CUT = urllib3.ProtocolError("Connection broken")


def wrapped(reason, kind=requests.exceptions.ConnectionError):
    """Return a failure as requests wraps it."""
    return kind(urllib3.MaxRetryError(POOL, "/", reason))


@pytest.mark.parametrize(
    ("status", "transient"),
    [(200, False), (400, False), (401, False), (404, False), (408, True), (409, False), (425, True), (428, False),
     (429, True), (430, False), (499, False), (500, True), (503, True), (599, True)],
)  # fmt: skip
def test_408_425_429_and_5xx_are_transient(status, transient):
    assert is_transient(status) is transient


@pytest.mark.parametrize(
    ("error", "retry", "again"),
    [
        (PolarisUnreachable("x", received=True), Retry.SAFE, True),
        (PolarisUnreachable("x", received=False), Retry.SAFE, True),
        (PolarisUnreachable("x", received=True), Retry.UNSENT, False),
        (PolarisUnreachable("x", received=False), Retry.UNSENT, True),
        (PolarisUnreachable("x", received=False), Retry.NEVER, False),
        (PolarisUnauthorized("x"), Retry.SAFE, False),
        (ValueError("x"), Retry.SAFE, False),
    ],
)
def test_a_request_is_sent_again_only_if_its_retry_rule_allows_that(error, retry, again):
    assert may_retry(error, retry) is again


def test_retry_when_selects_safe_or_never():
    assert Retry.when(True) is Retry.SAFE
    assert Retry.when(False) is Retry.NEVER


@pytest.mark.parametrize(
    ("error", "received"),
    [
        (wrapped(REFUSED), False),
        (wrapped(SLOW_CONNECT, requests.exceptions.ConnectTimeout), False),
        (requests.exceptions.ConnectionError(CUT), True),
        (requests.exceptions.ReadTimeout(urllib3.ReadTimeoutError(POOL, "/", "timed out")), True),
        (requests.exceptions.ChunkedEncodingError(CUT), True),
        (wrapped(urllib3.SSLError("handshake")), True),
    ],
)
def test_only_errors_of_connecting_prove_that_the_request_was_not_received(error, received):
    assert may_have_been_received(error) is received


def test_only_the_causes_of_an_error_count():
    cut = requests.exceptions.ConnectionError(CUT)
    cut.__context__ = wrapped(REFUSED)
    assert may_have_been_received(cut) is True
    cut.__cause__ = wrapped(REFUSED)
    assert may_have_been_received(cut) is False


def test_errors_that_contain_each_other_are_visited_once():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert may_have_been_received(one) is True


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (wrapped(REFUSED), "the host could not be reached: "),
        (wrapped(SLOW_CONNECT, requests.exceptions.ConnectTimeout), "no response in time: "),
        (requests.exceptions.ReadTimeout("t"), "no response in time: t"),
        (requests.exceptions.ConnectionError(CUT), "the connection was cut: Connection broken"),
        (requests.exceptions.SSLError(urllib3.SSLError("CERTIFICATE_VERIFY_FAILED")), "TLS failed: CERTIFICATE_VERIFY"),
        (requests.exceptions.ProxyError(wrapped(REFUSED)), "the proxy failed: "),
    ],
)
def test_a_failure_is_described_by_its_kind_and_innermost_text(error, said):
    assert describe(error).startswith(said)
    assert len(describe(requests.exceptions.ConnectionError("x" * 999))) == len("the connection was cut: ") + 300


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), (" 7 ", 7.0), ("0", 0.0), ("9" * 400, 999_999_999.0), ("-3", None), ("1.5", None), ("soon", None),
     ("", None), ("\u0663", None), ("Mon, 99 Foo 2026", None)],
)  # fmt: skip
def test_retry_after_may_be_a_number_of_seconds(value, seconds):
    assert asked_pause(value) == seconds


def test_retry_after_may_be_a_date(moved_clock):
    now = datetime.fromtimestamp(moved_clock.time, timezone.utc)
    assert asked_pause(format_datetime(now + timedelta(seconds=9), usegmt=True)) == 9.0
    assert asked_pause(format_datetime(now - timedelta(seconds=9), usegmt=True)) == 0.0


def pauses(tries, asked=None, n=200):
    error = PolarisUnreachable("x", retry_after=asked)
    outcome = SimpleNamespace(exception=lambda: error)
    return [pause_before(SimpleNamespace(attempt_number=tries, outcome=outcome)) for _ in range(n)]


def test_pauses_grow_with_jitter_up_to_a_cap():
    for tries, most in ((1, 1), (2, 2), (3, 4), (9, MAX_PAUSE_SECONDS)):
        some = pauses(tries)
        assert most / 2 < max(some) <= most
        assert min(some) < most / 2
        assert len(set(some)) > 100


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(7.0, 7.0, 7.25), (0.0, 0.0, 0.25), (-5.0, 0.0, 0.25), (999.0, 30.0, 30.0)]
)
def test_the_requested_pause_is_waited_with_jitter(asked, least, most):
    some = pauses(1, asked)
    assert least <= min(some) <= max(some) <= most


def test_a_first_attempt_has_no_outcome():
    assert 0 <= pause_before(SimpleNamespace(attempt_number=1, outcome=None)) <= 1
