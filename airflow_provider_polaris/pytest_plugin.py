"""A pytest plugin for tests of DAGs: a local Polaris, and an Airflow connection to it.

pytest finds the plugin by its entry point if this provider is installed. The fixtures need the extra ``local``. The
plugin loads nothing until a test uses one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_polaris.local import LocalPolaris

__all__ = ["local_polaris", "local_polaris_connection"]

#: The default connection of the hook, the sensor and the operators.
CONN_ID = "polaris_default"


@pytest.fixture
def local_polaris() -> Iterator[LocalPolaris]:
    """Yield a new local Polaris for one test, without jobs and tables, on a free port of loopback."""
    try:
        from airflow_provider_polaris.local import LocalPolaris
    except ImportError as error:
        pytest.fail(f"local_polaris needs the extra: pip install 'airflow-provider-polaris[local]' ({error})")
    with LocalPolaris() as polaris:
        yield polaris


@pytest.fixture
def local_polaris_connection(local_polaris: LocalPolaris, monkeypatch: pytest.MonkeyPatch) -> str:
    """Define an Airflow connection to ``local_polaris`` for one test, and return its id."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", local_polaris.connection_json)
    return CONN_ID
