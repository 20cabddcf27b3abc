"""A wait tolerates some failed polls, each for a fixed time."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.api.errors import (
    PolarisBadRequest,
    PolarisConnectionMissing,
    PolarisForbidden,
    PolarisJobNotFound,
    PolarisNotFound,
    PolarisQueryNotFound,
    PolarisUnauthorized,
    PolarisUnreachable,
)
from airflow_provider_polaris.gate.outage_tolerance import (
    KEY_ROTATION_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    SECOND_CHECK_SECONDS,
    STALE_OUTAGE_SECONDS,
    ListTolerance,
    OutageTolerance,
    QueryTolerance,
)

DOWN = PolarisUnreachable("down", status=503, code="c")
AWAY = PolarisUnauthorized("away", status=401)
GONE = PolarisNotFound("gone", status=404, code="NotFound")


def test_an_outage_is_tolerated_for_max_unreachable_seconds():
    tolerance = OutageTolerance(600.0, 30.0)
    assert tolerance.failed(DOWN, 1000.0) is None
    assert tolerance.failed(DOWN, 1599.9) is None
    with pytest.raises(PolarisUnreachable, match=r"unreachable for 600 s \(max_unreachable 600\)") as caught:
        tolerance.failed(DOWN, 1600.0)
    assert str(caught.value).endswith("The last error:\ndown")
    assert (caught.value.status, caught.value.code) == (503, "c")


def test_a_successful_poll_ends_an_outage():
    tolerance = OutageTolerance(600.0, 30.0)
    tolerance.failed(DOWN, 1000.0)
    tolerance.succeeded()
    assert tolerance.worked
    assert tolerance.failed(DOWN, 1600.0) is None
    assert tolerance.unreachable_since == 1600.0


def test_a_max_unreachable_of_zero_tolerates_no_failed_poll():
    with pytest.raises(PolarisUnreachable):
        OutageTolerance(0.0).failed(DOWN, 1.0)


def test_an_outage_never_ends_a_wait_that_cannot_know_when_it_began():
    tolerance = OutageTolerance(None)
    assert tolerance.failed(DOWN, 0.0) is None
    assert tolerance.failed(DOWN, 1e9) is None


@pytest.mark.parametrize(
    ("interval", "asked", "again"),
    [
        (5.0, 25.0, 25.0),
        (5.0, 9999.0, MAX_RETRY_AFTER_SECONDS),
        (60.0, 25.0, None),
        (25.0, 25.0, None),
        (5.0, None, None),
    ],
)
def test_retry_after_delays_the_next_poll_if_it_is_more_than_the_interval(interval, asked, again):
    assert OutageTolerance(600.0, interval).failed(PolarisUnreachable("x", retry_after=asked), 0.0) == again


@pytest.mark.parametrize(("usual", "again"), [(None, None), (5.0, 20.0), (19.9, 20.0), (20.0, None), (60.0, None)])
def test_retry_after_is_compared_with_the_pause_of_the_moment_if_that_is_shorter_than_the_interval(usual, again):
    tolerance = OutageTolerance(600.0, 60.0)
    assert tolerance.failed(PolarisUnreachable("x", retry_after=20.0), 0.0, usual) == again


def test_a_401_at_the_first_poll_ends_the_wait():
    with pytest.raises(PolarisUnauthorized):
        OutageTolerance(600.0, 30.0).failed(AWAY, 0.0)


def test_a_401_after_a_successful_poll_is_tolerated_for_five_minutes():
    tolerance = OutageTolerance(600.0, 30.0, worked=True)
    assert tolerance.failed(AWAY, 1000.0) is None
    assert tolerance.failed(AWAY, 1000.0 + KEY_ROTATION_SECONDS - 0.1) is None
    with pytest.raises(PolarisUnauthorized):
        tolerance.failed(AWAY, 1000.0 + KEY_ROTATION_SECONDS)


def test_a_successful_poll_restarts_the_five_minutes_of_a_401():
    tolerance = OutageTolerance(600.0, 30.0, worked=True)
    tolerance.failed(AWAY, 0.0)
    tolerance.succeeded()
    assert tolerance.failed(AWAY, KEY_ROTATION_SECONDS) is None


def test_a_401_ends_a_wait_at_once_that_cannot_know_when_it_began():
    with pytest.raises(PolarisUnauthorized):
        OutageTolerance(None, worked=True).failed(AWAY, 0.0)


def test_a_401_ends_an_outage():
    tolerance = OutageTolerance(600.0, 30.0, worked=True)
    tolerance.failed(DOWN, 0.0)
    tolerance.failed(AWAY, 100.0)
    assert tolerance.unreachable_since is None
    assert tolerance.failed(DOWN, 650.0) is None


def test_an_outage_does_not_extend_the_five_minutes_of_a_401():
    tolerance = OutageTolerance(600.0, 30.0, worked=True)
    tolerance.failed(AWAY, 0.0)
    tolerance.failed(DOWN, 100.0)
    with pytest.raises(PolarisUnauthorized):
        tolerance.failed(AWAY, KEY_ROTATION_SECONDS)


def test_a_second_404_after_ten_seconds_ends_the_wait():
    tolerance = OutageTolerance(600.0, 30.0)
    assert tolerance.failed(GONE, 100.0) == SECOND_CHECK_SECONDS
    assert tolerance.failed(GONE, 104.0) == SECOND_CHECK_SECONDS - 4.0
    with pytest.raises(PolarisJobNotFound, match="Polaris has removed the job") as caught:
        tolerance.failed(GONE, 100.0 + SECOND_CHECK_SECONDS)
    assert (caught.value.status, caught.value.code) == (404, "NotFound")
    assert "gone" in str(caught.value)


def test_a_successful_poll_restarts_the_ten_seconds_of_a_404():
    tolerance = OutageTolerance(600.0, 30.0)
    tolerance.failed(GONE, 100.0)
    tolerance.succeeded()
    assert tolerance.failed(GONE, 200.0) == SECOND_CHECK_SECONDS


@pytest.mark.parametrize("error", [PolarisBadRequest("400"), PolarisForbidden("403"), PolarisConnectionMissing("c")])
def test_a_permanent_error_is_raised_at_once(error):
    with pytest.raises(type(error)) as caught:
        OutageTolerance(600.0, 30.0, worked=True).failed(error, 0.0)
    assert caught.value is error


def test_another_process_resumes_the_same_tolerance():
    tolerance = OutageTolerance(600.0, 30.0, worked=True)
    assert tolerance.to_dict(5.0) is None
    tolerance.failed(DOWN, 100.0)
    told = tolerance.to_dict(130.0)
    assert told == {"at": 130.0, "unreachable_since": 100.0, "unauthorized_since": None}
    other = OutageTolerance(600.0, 30.0, worked=True)
    assert other.resume(told, 150.0) is True
    with pytest.raises(PolarisUnreachable):
        other.failed(DOWN, 700.0)
    tolerance.failed(AWAY, 140.0)
    assert tolerance.to_dict(141.0) == {"at": 141.0, "unreachable_since": None, "unauthorized_since": 140.0}
    third = OutageTolerance(600.0, 30.0)
    assert third.resume(tolerance.to_dict(141.0), 141.0) is True
    assert third.unauthorized_since == 140.0


def test_a_tolerance_that_is_too_old_is_not_resumed():
    told = {"at": 1000.0, "unreachable_since": 900.0, "unauthorized_since": None}
    limit = 1000.0 + STALE_OUTAGE_SECONDS + 3 * 30.0
    assert OutageTolerance(600.0, 30.0).resume(told, limit) is True
    stale = OutageTolerance(600.0, 30.0)
    assert stale.resume(told, limit + 0.1) is False
    assert stale.unreachable_since is None


@pytest.mark.parametrize("told", [None, {}, {"at": None}, {"at": "x"}, {"unreachable_since": 1.0}])
def test_an_absent_or_invalid_tolerance_is_not_resumed(told):
    assert OutageTolerance(600.0, 30.0).resume(told, 0.0) is False


def test_a_job_that_exists_ends_a_404_and_shows_that_the_key_works():
    tolerance = OutageTolerance(3600, 30)
    assert tolerance.failed(GONE, 0) is not None
    tolerance.job_exists()
    assert tolerance.failed(GONE, 60) is not None, "the ten seconds begin again"
    assert tolerance.failed(AWAY, 90) is None, "the key may be in rotation"


@pytest.mark.parametrize(
    ("kind", "error", "lines"),
    [
        (
            ListTolerance,
            PolarisNotFound,
            [
                "Polaris has no such project",
                "Check the project id: the extra project_id of the connection, or project_id of the task",
                "gone",
            ],
        ),
        (
            QueryTolerance,
            PolarisQueryNotFound,
            [
                "Polaris no longer has the query",
                "Its result was removed, or another project or service responds",
                "A retry, or a clear, runs the query again",
                "gone",
            ],
        ),
    ],
    ids=["list", "query"],
)
def test_a_second_404_names_what_the_polls_request(kind, error, lines):
    tolerance = kind(600.0, 30.0)
    assert tolerance.failed(GONE, 1000.0) == SECOND_CHECK_SECONDS
    with pytest.raises(PolarisNotFound) as caught:
        tolerance.failed(GONE, 1000.0 + SECOND_CHECK_SECONDS)
    assert type(caught.value) is error
    assert str(caught.value).splitlines() == lines
    assert (caught.value.status, caught.value.code) == (404, "NotFound")


def test_the_message_of_an_outage_says_what_a_retry_of_a_query_does():
    tolerance = QueryTolerance(600.0, 30.0)
    tolerance.failed(DOWN, 1000.0)
    with pytest.raises(PolarisUnreachable, match=r"From Airflow 3\.3 on, a retry continues with the query"):
        tolerance.failed(DOWN, 1600.0)
