"""A pytest plugin for whoever tests DAGs: a local Polaris, and the connection that leads to it.

pytest finds it by its entry point wherever this provider is installed; the fixtures need the extra ``local``. It loads
nothing until a test asks for one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_polaris.local import LocalPolaris

#: The connection that the hook, the sensor and the operators use unless told otherwise.
CONN_ID = "polaris_default"


@pytest.fixture
def local_polaris() -> Iterator[LocalPolaris]:
    """Give a local Polaris of its own for each test: empty, on a free port of loopback, gone when the test is over."""
    try:
        from airflow_provider_polaris.local import LocalPolaris
    except ImportError as error:
        pytest.fail(f"local_polaris needs the extra: pip install 'airflow-provider-polaris[local]' ({error})")
    with LocalPolaris() as polaris:
        yield polaris


@pytest.fixture
def local_polaris_connection(local_polaris: LocalPolaris, monkeypatch: pytest.MonkeyPatch) -> str:
    """Define an Airflow connection to ``local_polaris`` for as long as the test runs; return its id."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", local_polaris.connection_json)
    return CONN_ID
