"""One HTTP request: when it is sent again, which error a response becomes, and what a message may quote."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisBadRequest,
    PolarisConflict,
    PolarisForbidden,
    PolarisInvalidResponse,
    PolarisNotFound,
    PolarisResponseTooLarge,
    PolarisUnauthorized,
    PolarisUnreachable,
    PolarisUsageError,
)
from airflow_provider_polaris.api.retries import MAX_PAUSE_SECONDS, MAX_TRIES, Retry
from airflow_provider_polaris.api.transport import Transport
from tests.support.local_calls import API_KEY


@pytest.fixture
def transport(polaris):
    transport = Transport(PolarisConnection(f"{polaris.url}/v1/projects/{polaris.project_id}", "p", API_KEY))
    yield transport
    transport.close()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def refused() -> Transport:
    return Transport(PolarisConnection(f"http://127.0.0.1:{unused_port()}/v1/projects/p", "p", API_KEY))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_a_request_is_sent_again_after_a_transient_status(polaris, transport, moved_clock, status):
    polaris.fail_next(2, status=status)
    assert transport.request("GET", "jobs")["values"] is not None
    assert len(polaris.requests) == 3
    assert len(moved_clock.slept) == 2


@pytest.mark.parametrize("how", ["before", "mid-body", "after"])
def test_a_request_is_sent_again_after_a_cut_connection(polaris, transport, moved_clock, how):
    polaris.drop_next(2, when=how)
    assert transport.request("GET", "jobs")
    assert len(polaris.requests) == 3


def test_retries_end_after_the_most_attempts(polaris, transport, moved_clock):
    polaris.fail_next(99)
    with pytest.raises(PolarisUnreachable, match="503"):
        transport.request("GET", "jobs")
    assert len(polaris.requests) == MAX_TRIES
    assert all(0 <= pause <= MAX_PAUSE_SECONDS for pause in moved_clock.slept)


def test_a_poll_is_sent_once(polaris, transport, moved_clock):
    polaris.fail_next(1)
    with pytest.raises(PolarisUnreachable):
        transport.request("GET", "jobs", retry=Retry.NEVER)
    assert len(polaris.requests) == 1
    assert not moved_clock.slept


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, PolarisBadRequest),
        (401, PolarisUnauthorized),
        (403, PolarisForbidden),
        (404, PolarisNotFound),
        (409, PolarisConflict),
        (415, PolarisBadRequest),
        (418, PolarisBadRequest),
    ],
)
def test_a_request_is_sent_once_if_its_error_is_final(polaris, transport, moved_clock, status, kind):
    polaris.fail_next(1, status=status)
    with pytest.raises(kind) as caught:
        transport.request("GET", "jobs")
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert len(polaris.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_redirect_is_never_followed(polaris, transport, moved_clock, status, method):
    polaris.answer_next(9, status=status, body="", headers={"Location": f"{polaris.url}/elsewhere"})
    with pytest.raises(PolarisInvalidResponse, match="not the Polaris API"):
        transport.request(method, "jobs", retry=Retry.NEVER)
    assert len(polaris.requests) == 1


@pytest.mark.parametrize("body", ["<html>Sign in</html>", '{"values": [', "[" * 100_000, "\xff"])
def test_a_body_that_is_not_json_is_an_invalid_response(polaris, transport, moved_clock, body):
    polaris.answer_next(9, body=body)
    with pytest.raises(PolarisInvalidResponse, match="not JSON"):
        transport.request("GET", "jobs", retry=Retry.NEVER)


@pytest.mark.parametrize("body", ["", "<h1>404</h1>", "{}", '{"message": "no such route"}', "[]"])
def test_a_404_without_an_error_code_is_an_invalid_response(polaris, transport, moved_clock, body):
    polaris.answer_next(1, status=404, body=body)
    with pytest.raises(PolarisInvalidResponse, match="404"):
        transport.request("GET", "jobs", retry=Retry.NEVER)


@pytest.mark.parametrize("body", ["", "<h1>Blocked</h1>", '{"message": "Forbidden"}', "[]"])
@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_without_an_error_code_may_be_forwarded_and_temporary(polaris, transport, moved_clock, status, body):
    polaris.answer_next(2, status=status, body=body)
    with pytest.raises(PolarisInvalidResponse, match=f"This {status} has no error code") as caught:
        transport.request("POST", "jobs", body={}, retry=Retry.UNSENT)
    assert caught.value.received
    assert ("permission ManageIngestionJobs" in str(caught.value)) == (status == 403)
    assert len(polaris.requests) == 1
    assert transport.request("GET", "jobs")
    assert len(polaris.requests) == 3


@pytest.mark.parametrize("auth", ["api_key", "basic", "bearer"])
def test_a_401_advises_on_the_kind_of_the_secret(polaris, auth):
    transport = Transport(PolarisConnection(f"{polaris.url}/v1/projects/p", "p", "wrong", auth=auth))
    with pytest.raises(PolarisUnauthorized) as caught:
        transport.request("GET", "jobs")
    advice = {
        "api_key": "set the extra auth=basic",
        "basic": "set the extra auth=api_key",
        "bearer": "may have expired",
    }
    assert advice[auth] in str(caught.value)


def test_an_access_token_is_accepted_for_five_minutes(polaris, moved_clock):
    token = polaris.new_access_token()
    url = f"{polaris.url}/v1/projects/{polaris.project_id}"
    transport = Transport(PolarisConnection(url, "p", token, auth="bearer"))
    moved_clock.time += 299
    assert transport.request("GET", "jobs")
    moved_clock.time += 2
    with pytest.raises(PolarisUnauthorized, match="Token claims invalid"):
        transport.request("GET", "jobs")


def test_an_error_quotes_the_whole_error_body(polaris, transport):
    polaris.answer_next(
        1,
        status=400,
        body='{"code": "Bad", "message": "No", "target": "spec", "details": [{"code": "D", "message": "why"}],'
        ' "innererror": {"code": "I", "message": "deeper"}}',
    )
    with pytest.raises(PolarisBadRequest, match=r"Bad, No \(field: spec\); D, why; I, deeper") as caught:
        transport.request("GET", "jobs", "x")
    assert f"GET {polaris.url}/…/jobs/x" in str(caught.value)
    assert caught.value.code == "Bad"


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("7", 7, 8), ("0", 0, 1), ("999999", 30, 30), ("9" * 400, 30, 30), ("soon", 0, 2), ("-3", 0, 2), ("", 0, 2)],
)
def test_retry_after_in_seconds_is_respected_up_to_a_cap(polaris, transport, moved_clock, asked, least, most):
    polaris.fail_next(1, status=429, retry_after=asked)
    transport.request("GET", "jobs")
    assert least <= moved_clock.slept[0] <= most


def test_retry_after_as_a_date_is_respected(polaris, transport, moved_clock):
    then = datetime.fromtimestamp(moved_clock.time, timezone.utc) + timedelta(seconds=9)
    polaris.fail_next(1, status=503, retry_after=format_datetime(then, usegmt=True))
    transport.request("GET", "jobs")
    assert 9 <= moved_clock.slept[0] <= 10


@pytest.mark.parametrize("cut", ["before", "after", "mid-body"])
def test_a_request_that_may_have_been_received_is_not_sent_again(polaris, transport, moved_clock, cut):
    polaris.drop_next(1, when=cut)
    with pytest.raises(PolarisUnreachable) as caught:
        transport.request("POST", "jobs", body={}, retry=Retry.UNSENT)
    assert caught.value.received
    assert len(polaris.requests) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_post_is_not_sent_again_after_a_5xx(polaris, transport, moved_clock, status):
    polaris.fail_next(1, status=status)
    with pytest.raises(PolarisUnreachable):
        transport.request("POST", "jobs", body={}, retry=Retry.UNSENT)
    assert len(polaris.requests) == 1


def test_a_post_is_sent_again_after_a_429(polaris, transport, moved_clock):
    polaris.fail_next(2, status=429)
    with pytest.raises(PolarisBadRequest):
        transport.request("POST", "jobs", body={}, retry=Retry.UNSENT)
    assert len(polaris.requests) == 3


def test_a_refused_connection_received_nothing(moved_clock):
    with pytest.raises(PolarisUnreachable) as caught:
        refused().request("POST", "jobs", body={}, retry=Retry.UNSENT)
    assert not caught.value.received
    assert "refused" in str(caught.value)
    assert len(moved_clock.slept) == MAX_TRIES - 1


def test_an_unknown_host_received_nothing(moved_clock):
    transport = Transport(PolarisConnection("https://polaris.invalid/v1/projects/p", "p", API_KEY))
    with pytest.raises(PolarisUnreachable) as caught:
        transport.request("POST", "jobs", body={}, retry=Retry.UNSENT)
    assert not caught.value.received


def test_a_slow_response_counts_as_unreachable(polaris, moved_clock):
    transport = Transport(
        PolarisConnection(f"{polaris.url}/v1/projects/{polaris.project_id}", "p", API_KEY, timeout=0.1)
    )
    polaris.delay_next(1, seconds=0.5)
    with pytest.raises(PolarisUnreachable, match="timed out") as caught:
        transport.request("GET", "jobs", retry=Retry.NEVER)
    assert caught.value.received
    transport.close()


def test_a_tls_failure_counts_as_unreachable(polaris, moved_clock):
    transport = Transport(
        PolarisConnection(polaris.url.replace("http://", "https://") + "/v1/projects/p", "p", API_KEY)
    )
    with pytest.raises(PolarisUnreachable, match="SSL"):
        transport.request("GET", "jobs", retry=Retry.NEVER)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_invalid_ca_bundle_is_named(tmp_path, content):
    bundle = tmp_path / "ca.pem"
    if content:
        bundle.write_text(content)
    with pytest.raises(PolarisUsageError, match=r"ca\.pem"):
        Transport(PolarisConnection("https://127.0.0.1:1/v1/projects/p", "p", API_KEY, verify=str(bundle)))


def test_the_error_of_another_request_does_not_count(polaris, transport, moved_clock):
    """A POST is not sent again, although the caller was handling a refused connection of another request."""
    polaris.drop_next(1, when="after", match="POST")
    try:
        refused().request("GET", "jobs", retry=Retry.NEVER)
    except PolarisUnreachable:
        with pytest.raises(PolarisUnreachable) as caught:
            transport.request("POST", "jobs", body={}, retry=Retry.UNSENT)
    assert caught.value.received
    assert len(polaris.requests) == 1


def test_a_response_that_drips_ends_at_the_timeout():
    """The timeout of requests starts anew with each piece of a response."""

    def drip(server):
        line, _ = server.accept()
        with line:
            line.recv(65536)
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            try:
                for _ in range(100):
                    line.sendall(b" ")
                    time.sleep(0.05)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1/projects/p"
        start = time.monotonic()
        with pytest.raises(PolarisUnreachable, match="incomplete after"):
            Transport(PolarisConnection(url, "p", API_KEY, timeout=0.3)).request("GET", "jobs", retry=Retry.NEVER)
        assert time.monotonic() - start < 2
        thread.join()


@pytest.mark.parametrize("size", [1001, 5000, 1_000_000])
def test_a_response_that_is_too_large_is_refused_and_not_requested_again(polaris, transport, monkeypatch, size):
    monkeypatch.setattr("airflow_provider_polaris.api.transport.MAX_BODY", 1000)
    polaris.answer_next(1, body="x" * size, status=201, headers={"Location": "/a/b"})
    with pytest.raises(PolarisResponseTooLarge, match="more than 1,000 bytes") as caught:
        transport.request("GET", "jobs")
    assert (caught.value.status, caught.value.location) == (201, "/a/b")
    assert len(polaris.requests) == 1


def test_a_response_of_the_largest_size_is_read(polaris, transport, monkeypatch):
    monkeypatch.setattr("airflow_provider_polaris.api.transport.MAX_BODY", 1000)
    polaris.answer_next(1, body=f'"{"x" * 998}"')
    assert transport.request("GET", "jobs") == "x" * 998


def test_an_error_page_that_is_too_large_is_an_error_page(polaris, transport, monkeypatch):
    monkeypatch.setattr("airflow_provider_polaris.api.transport.MAX_BODY", 1000)
    polaris.answer_next(1, body="x" * 5000, status=502)
    with pytest.raises(PolarisUnreachable, match="HTTP 502"):
        transport.request("GET", "jobs", retry=Retry.NEVER)


@pytest.mark.parametrize("head", [b"Content-Length: 70000000000", b"Transfer-Encoding: chunked"])
def test_the_rest_of_a_response_that_is_too_large_is_not_downloaded(monkeypatch, head):
    monkeypatch.setattr("airflow_provider_polaris.api.transport.MAX_BODY", 200_000)
    sent = []

    def serve(server):
        line, _ = server.accept()
        with line:
            line.recv(65536)
            try:
                line.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
                for _ in range(5000):
                    line.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
                    sent.append(10_000)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1/projects/p"
        with pytest.raises(PolarisResponseTooLarge):
            Transport(PolarisConnection(url, "p", API_KEY, timeout=5)).request("GET", "jobs")
        thread.join()
    assert sum(sent) < 20_000_000, "a few buffers of the sockets, of 50 MB"


def test_the_proxy_is_not_used_for_this_machine(polaris, transport, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
    assert transport.request("GET", "jobs", retry=Retry.NEVER)


def test_the_proxy_is_used_for_other_hosts(polaris, monkeypatch, moved_clock):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{unused_port()}")
    transport = Transport(PolarisConnection("https://polaris.invalid/v1/projects/p", "p", API_KEY))
    with pytest.raises(PolarisUnreachable, match="the proxy failed"):
        transport.request("GET", "jobs", retry=Retry.NEVER)


def test_a_segment_of_a_path_is_quoted(polaris, transport):
    with pytest.raises(PolarisApiError):
        transport.request("GET", "jobs", "a/../../x?y#z", retry=Retry.NEVER)
    assert polaris.requests[0].path == f"/v1/projects/{polaris.project_id}/jobs/a%2F..%2F..%2Fx%3Fy%23z"
    assert polaris.requests[0].query == ""


@pytest.mark.parametrize("auth", ["api_key", "basic"])
def test_netrc_does_not_replace_the_key(polaris, monkeypatch, tmp_path, auth):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    transport = Transport(PolarisConnection(f"{polaris.url}/v1/projects/{polaris.project_id}", "p", API_KEY, auth=auth))
    assert transport.request("GET", "jobs", retry=Retry.NEVER)
    transport.close()


def test_cookies_are_not_stored(polaris, transport):
    polaris.answer_next(1, body="{}", headers={"Set-Cookie": "a=b"})
    transport.request("GET", "jobs")
    assert not list(transport._session.cookies)


ECHOES = [
    API_KEY,
    f"Basic {API_KEY}",
    base64.b64encode(f"{API_KEY}:".encode()).decode(),
    base64.urlsafe_b64encode(API_KEY.encode()).decode(),
]


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("padding", [0, 180, 290])
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_an_echoed_key_is_not_quoted(polaris, transport, echo, status, padding):
    polaris.answer_next(9, status=status, body=f"{'x' * padding} You sent {echo}")
    with pytest.raises(PolarisApiError) as caught:
        transport.request("GET", "jobs", retry=Retry.NEVER)
    assert ("***" in str(caught.value)) == (padding < 190)  # a longer text is cut before the key
    assert not [part for part in (echo[:12], echo[-12:].rstrip("=")) if part in str(caught.value)]


@pytest.mark.parametrize("echo", ECHOES)
def test_a_key_that_is_echoed_as_json_is_not_quoted(polaris, transport, echo):
    polaris.answer_next(1, status=400, body=json.dumps({"code": echo, "message": echo, "details": [{"target": echo}]}))
    with pytest.raises(PolarisApiError) as caught:
        transport.request("GET", "jobs", retry=Retry.NEVER)
    assert echo.rstrip("=") not in f"{caught.value} {caught.value.code}"
