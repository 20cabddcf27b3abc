"""The report of `make scale` shows each figure with its limit, and finds each figure that exceeds a limit."""

from __future__ import annotations

import pytest

from scale.report import Figure, Report


@pytest.mark.parametrize(
    ("value", "limits", "is_within"),
    [
        (5.0, {}, True),
        (5.0, {"limit": 5.0}, True),
        (5.1, {"limit": 5.0}, False),
        (0.0, {"least": 1.0}, False),
        (1.0, {"least": 1.0, "limit": 2.0}, True),
        (299.0, {"least": 300.0, "limit": 300.0}, False),
    ],
    ids=["no limit", "at the limit", "above", "below the least", "between", "not exactly"],
)
def test_a_figure_knows_whether_it_keeps_its_limits(value, limits, is_within):
    assert Figure("waits", value, **limits).is_within is is_within


def test_the_table_has_a_row_with_unit_and_limit_for_each_figure():
    report = Report()
    report.add("active jobs", 1200)
    report.add("memory", 361.7, unit="MB", limit=400, digits=1)
    report.add("look-ups", 2, least=1, limit=3)
    report.exactly("events", 300, 300)
    assert report.table().splitlines() == [
        "| measurement | result | limit |",
        "| --- | ---: | --- |",
        "| active jobs | 1,200 |  |",
        "| memory | 361.7 MB | at most 400.0 MB |",
        "| look-ups | 2 | at least 1, at most 3 |",
        "| events | 300 | exactly 300 |",
    ]
    assert report.faults == []


def test_a_figure_that_exceeds_its_limit_is_named_with_the_limit():
    report = Report()
    report.add("requests", 12, limit=6)
    report.exactly("waits", 299, 300)
    faults = ["requests: 12, and the limit is at most 6", "waits: 299, and the limit is exactly 300"]
    assert report.faults == faults
    assert report.to_dict()["faults"] == faults
    assert report.to_dict()["figures"][0]["value"] == 12
