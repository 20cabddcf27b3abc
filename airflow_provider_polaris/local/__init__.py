"""A local Polaris: an HTTP server that answers the Jobs API and reads the data of its jobs.

It is for demos, for tests of DAGs and for this provider's own tests. It needs the extra ``local``.
"""

from __future__ import annotations

from airflow_provider_polaris.local.server import LocalPolaris

__all__ = ["LocalPolaris"]
