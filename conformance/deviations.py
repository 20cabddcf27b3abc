"""Where the local Polaris deviates from the vendor's OpenAPI document on purpose, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping

#: Violations of a request schema that the local Polaris takes, as ``SCHEMA.FIELD: VIOLATION``. At most ten.
TAKEN: Mapping[str, str] = {
    f"{kind}TablePayload.version: missing": "The description says not to give the version of a new table."
    for kind in ("Aggregate", "Detail")
}

#: Calls whose errors have no body in the document, as ``METHOD PATH``. Here they have the usual one.
UNDOCUMENTED_BODIES: Mapping[str, str] = {
    "POST /events/{connectionName}": "The document lists only the statuses of its errors.",
}

#: Statuses that the document does not list for a call, as ``METHOD PATH STATUS``. ``*`` is any call.
UNDOCUMENTED_STATUSES: Mapping[str, str] = {
    "* 401": "Every call needs a key. The document lists no 401 for jobs, files and tables.",
    "* 403": "Every call needs a permission, which the documentation names for each call.",
    "* 404": "The project of a path, or the path itself, does not exist.",
    "* 405": "A method that the path does not have.",
    "* 408": "The body does not arrive in time.",
    "* 413": "The body is too large; the documentation names a limit for files.",
    "POST /jobs/{jobId}/status 400": "The PUT of the same update has it, with the same reasons.",
    "POST /query/sql 415": "The body of a query is application/json, as that of a job.",
    "GET /query/sql/statements/{queryId} 404": "The DELETE of the same query has it.",
    "POST /files 409": "The documentation of uploads names it for a name that is taken.",
}
