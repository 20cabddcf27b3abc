"""What an API key lacks, and whether the project is paused, for the connection test. Best effort: never an error.

Both requests are documented in the vendor's OpenAPI document: ``GET /v1/apikeyinfo`` of the organisation's host, and
``GET /v1/projects/{id}``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import PolarisError
from airflow_provider_polaris.api.parsing import clean, clip, part_of
from airflow_provider_polaris.api.retries import Retry
from airflow_provider_polaris.api.transport import Transport

#: How long both requests may take together, in seconds.
LIMIT_SECONDS = 5.0
_JOBS = "ManageIngestionJobs"
_TABLES = ("ViewTables", "ManageTables")
_API_DOMAIN = ".api.imply.io"
#: The documented states of a project in which jobs run.
_JOBS_RUN = ("running", "updating", "balancing")


def organisation_url(connection: PolarisConnection) -> str:
    """Return ``https://ORG.api.imply.io`` for a regional host of Imply's, and the host itself for any other."""
    parts = urlsplit(connection.base_url)
    name = parts.hostname or ""
    if not name.endswith(_API_DOMAIN) or parts.port:
        return connection.host
    return f"{parts.scheme}://{name.partition('.')[0]}{_API_DOMAIN}"


class Account(NamedTuple):
    """What is wrong with an API key and its project. Each is a sentence; ``None`` if nothing is known to be wrong.

    :param lacks_jobs: the key lacks the permission that every task needs.
    :param lacks_tables: the key may not read tables.
    :param not_running: the project is paused, or in another state in which jobs do not run.
    """

    lacks_jobs: str | None
    lacks_tables: str | None
    not_running: str | None


def findings(connection: PolarisConnection) -> list[str]:
    """Return a sentence for each permission that the API key lacks, and for a project that does not run."""
    return [sentence for sentence in check_account(connection) if sentence]


def check_account(connection: PolarisConnection) -> Account:
    """Request what the API key may do, and the state of the project.

    Responses that do not come within :data:`LIMIT_SECONDS`, or that are not as documented, are left out.
    """
    answers: dict[str, Mapping[str, Any]] = {}

    def ask(base_url: str, *segments: str) -> None:
        own = replace(connection, base_url=base_url, timeout=min(connection.timeout, LIMIT_SECONDS))
        with suppress(PolarisError), closing(Transport(own)) as transport:
            answer: Any = transport.request("GET", *segments, retry=Retry.NEVER)
            answers[segments[0]] = answer if isinstance(answer, Mapping) else {}

    # In threads: no timeout of an HTTP library limits a DNS lookup, or both requests together.
    give_up_at = time.monotonic() + LIMIT_SECONDS
    threads = [
        threading.Thread(target=ask, args=(f"{organisation_url(connection)}/v1", "apikeyinfo"), daemon=True),
        threading.Thread(target=ask, args=(f"{connection.host}/v1", "projects", connection.project_id), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, give_up_at - time.monotonic()))
    permissions = answers.get("apikeyinfo", {}).get("permissions")
    return Account(
        _lacks(permissions, (_JOBS,), f"The API key lacks the permission {_JOBS}, which every task needs"),
        _lacks(permissions, _TABLES, f"The API key lacks {' or '.join(_TABLES)}, which wait_until_available needs"),
        _not_running(answers.get("projects", {})),
    )


def _lacks(permissions: Any, any_of: tuple[str, ...], sentence: str) -> str | None:
    is_known = isinstance(permissions, list)
    return sentence if is_known and not any(name in permissions for name in any_of) else None


def _not_running(project: Mapping[str, Any]) -> str | None:
    state = part_of(project, "status").get("state")
    if not isinstance(state, str) or state in _JOBS_RUN:
        return None
    return f"The project is {clip(clean(state), 60)}: its jobs may stay pending"
