"""The options of a gate: which values are accepted, and the error for each other value."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.gate.options import check_threshold
from tests.support.gates import gate


@pytest.mark.parametrize("value", [5, "5", " 5 ", 5.0, "5.0"])
def test_a_threshold_may_be_digits_as_text(value):
    assert gate(min_rows_processed=value).min_rows_processed == 5


@pytest.mark.parametrize("name", ["min_rows_processed", "max_rows_skipped_by_error", "max_rows_with_warning"])
@pytest.mark.parametrize("value", [-1, "-1", "many", "", "None", 1.5, True, [], float("nan"), float("inf"), "{{ x }}"])
def test_a_threshold_that_is_no_whole_number_is_an_error(name, value):
    with pytest.raises(PolarisUsageError, match=name):
        gate(**{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.1, "2", "half", "", True, float("nan")])
def test_an_invalid_ratio_is_an_error(value):
    with pytest.raises(PolarisUsageError, match="max_error_ratio"):
        gate(max_error_ratio=value)


@pytest.mark.parametrize(
    "options",
    [
        {"wait_for": "finished"},
        {"wait_for": None},
        {"fail_on_unhealthy": "yes"},
        {"fail_on_warnings": 1},
        {"fail_on_warnings": [1]},
        {"fail_on_warnings": [""]},
        {"wait_for": "running", "min_rows_processed": 1},
    ],
    ids=repr,
)
def test_invalid_options_are_errors(options):
    with pytest.raises(PolarisUsageError):
        gate(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wait_for": "x"}, "wait_for must be 'completed' or 'running', not 'x'"),
        ({"fail_on_unhealthy": "x"}, "fail_on_unhealthy must be True or False, not 'x'"),
        ({"fail_on_warnings": 1}, "fail_on_warnings must be True, or a tuple of warning codes, not 1"),
        ({"wait_for": "running", "max_error_ratio": 1}, ("Thresholds on row counters need wait_for='completed': "
         "the counters of a running job still change")),
        ({"min_rows_processed": -1}, "min_rows_processed must be a whole number of rows, 0 or more; it is -1"),
        ({"max_rows_with_warning": 1.5}, "max_rows_with_warning must be a whole number of rows, 0 or more; it is 1.5"),
        ({"max_rows_skipped_by_error": "x" * 200}, "max_rows_skipped_by_error must be a whole number of rows, 0 or "
         "more; it is '" + "x" * 98 + "…"),
        ({"max_rows_skipped_by_error": "None"}, ("max_rows_skipped_by_error is 'None'. Did the upstream task push "
         "it to XCom? It must be a whole number of rows, 0 or more")),
        ({"max_error_ratio": 2}, "max_error_ratio must be a ratio between 0 and 1; it is 2"),
        ({"max_error_ratio": "x"}, "max_error_ratio must be a ratio between 0 and 1; it is 'x'"),
    ],
)  # fmt: skip
def test_the_message_for_an_invalid_option(options, message):
    with pytest.raises(PolarisUsageError) as caught:
        gate(**options)
    assert str(caught.value) == message


def test_undocumented_warning_codes_are_listed():
    assert gate(fail_on_warnings=("zzz", "multiple", "aaa")).unknown_warnings == ["aaa", "zzz"]
    assert gate(fail_on_warnings=True).unknown_warnings == []
    assert gate().unknown_warnings == []


@pytest.mark.parametrize(
    "name", ["min_rows_processed", "max_rows_skipped_by_error", "max_rows_with_warning", "max_error_ratio"]
)
def test_each_threshold_needs_the_counters_and_is_kept_under_its_name(name):
    one = gate(**{name: "1"})
    assert getattr(one, name) == 1
    assert one.thresholds == [name]
    assert not gate().thresholds


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("min_rows_processed", 0, -1),
        ("max_rows_skipped_by_error", 2, 2.5),
        ("max_rows_with_warning", 10**9, True),
        ("max_error_ratio", 0.5, 1.5),
        ("max_error_ratio", 1, -0.5),
    ],
)
def test_a_threshold_by_itself_is_checked_against_its_own_range(name, good, bad):
    check_threshold(name, good)
    with pytest.raises(PolarisUsageError, match=rf"^{name} must be") as caught:
        check_threshold(name, bad)
    assert repr(bad) in str(caught.value)
