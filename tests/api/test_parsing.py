"""Responses are parsed with bounds: objects, text that every database accepts, and times."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from airflow_provider_polaris.api.errors import PolarisInvalidResponse
from airflow_provider_polaris.api.parsing import MAX_TEXT, clean, clip, count_of, mapping, part_of, text_of, time_of


def test_null_is_an_empty_object():
    assert mapping({"a": 1}, "a job") == {"a": 1}
    assert mapping(None, "a job") == {}


@pytest.mark.parametrize("value", [[], "text", 7, False])
def test_a_value_that_is_no_object_is_an_invalid_response(value):
    with pytest.raises(PolarisInvalidResponse, match="Polaris returned a job that is not a JSON object"):
        mapping(value, "a job")


def test_a_large_value_is_quoted_in_part():
    with pytest.raises(PolarisInvalidResponse) as caught:
        mapping("x" * 10_000, "a job")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("value", "text"), [("a", "a"), ("", None), (None, None), (7, None), ("a\x00", "a\ufffd")])
def test_only_text_with_characters_is_text(value, text):
    assert text_of(value) == text


def test_text_is_cut_at_the_limit_with_an_ellipsis():
    assert clip("a" * MAX_TEXT) == "a" * MAX_TEXT
    assert clip("a" * (MAX_TEXT + 1)) == "a" * (MAX_TEXT - 1) + "…"
    assert clip("abcd", 3) == "ab…"


def test_characters_that_a_database_rejects_are_replaced():
    assert clean("half an emoji \ud83d, and a NUL \x00") == "half an emoji ?, and a NUL \ufffd"


@pytest.mark.parametrize(
    "stamp",
    [None, "", "soon", "2022-13-09T22:34:46Z", "2022-02-30T22:34:46Z", "2022-08-09T25:34:46Z", "2022-08-09T22:34:46Zz"],
)
def test_a_missing_or_invalid_timestamp_has_no_time(stamp):
    assert time_of(stamp) is None


def test_a_timestamp_may_have_nanoseconds():
    assert time_of("2022-08-09T22:34:46.716017658Z") == datetime(2022, 8, 9, 22, 34, 46, 716017, tzinfo=timezone.utc)


def test_a_part_of_a_wrong_shape_is_empty():
    assert part_of({"target": {"tableName": "t"}}, "target") == {"tableName": "t"}
    assert part_of({}, "target") == part_of({"target": "t"}, "target") == {}


@pytest.mark.parametrize(
    ("value", "count"),
    [(0, 0), (7, 7), (5.0, 5), (-0.0, 0), (2**63 - 1, 2**63 - 1)]
    + [
        (value, None)
        for value in (-1, 5.5, -5.0, 2**63, 1e300, float("inf"), float("nan"), True, False, "5", None, [5], {})
    ],
    ids=str,
)
def test_a_counter_is_a_whole_number_of_0_or_more(value, count):
    assert count_of(value) == count
    assert type(count_of(value)) in (int, type(None))
