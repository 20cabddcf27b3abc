"""A local Polaris: a real HTTP server that speaks the Jobs API and really reads the data it is given.

For demos, for tests of DAGs and for this provider's own tests. Needs the extra ``local``.
"""

from __future__ import annotations

from airflow_provider_polaris.local.server import LocalPolaris

__all__ = ["LocalPolaris"]
