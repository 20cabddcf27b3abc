"""Fixtures for the tests of operators."""

from __future__ import annotations

import pytest

from tests.support.queries import held


@pytest.fixture
def queries(polaris, monkeypatch):
    """Hold the asynchronous queries of the local Polaris until the test ends them."""
    with held(polaris, monkeypatch) as queries:
        yield queries
