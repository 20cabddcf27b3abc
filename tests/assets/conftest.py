"""The process in which DAGs run with OpenLineage."""

from __future__ import annotations

import pytest

from tests.support.lineage_run import lineage_runner
from tests.support.local_calls import connection_without_page


@pytest.fixture(scope="session")
def lineage(_server, airflow_db, tmp_path_factory):
    with lineage_runner(tmp_path_factory.mktemp("lineage"), connection_without_page(_server)) as runner:
        yield runner
