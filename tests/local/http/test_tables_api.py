"""Tables are listed."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("query", ["partitioningGranularity=Day", "segmentCount=-1", "segmentCount=x"])
def test_an_invalid_filter_of_the_tables_is_a_400(call, query):
    answer = call("GET", f"tables?{query}")
    assert (answer.status_code, answer.json()["target"]) == (400, query.partition("=")[0])
