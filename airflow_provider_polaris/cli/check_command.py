"""The command ``check``: find and name what is wrong with a connection, one finding a line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.connection_check import check_account
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisConnectionInvalid,
    PolarisConnectionMissing,
    PolarisForbidden,
    PolarisInvalidResponse,
    PolarisNotFound,
    PolarisResponseTooLarge,
    PolarisTransientError,
    PolarisUnauthorized,
)
from airflow_provider_polaris.cli.session import FAILED, OK, Session, command
from airflow_provider_polaris.hooks.polaris import explain_failure

#: The forms in which an API key can be sent.
_KEY_FORMS = ("api_key", "basic")


class Finding(NamedTuple):
    """A line of the result.

    :param state: ``ok``, ``warning`` or ``fault``. Only a fault fails the command.
    :param about: ``connection``, ``host``, ``key``, ``permissions``, ``project``, ``jobs``, ``table`` or ``sql``.
    """

    state: str
    about: str
    message: str


@command
def check(session: Session) -> int:
    """Show each finding. A fault that hides the next checks ends them."""
    findings = list(_findings(session))
    is_good = all(finding.state != "fault" for finding in findings)
    if session.is_json:
        session.show_json({"ok": is_good, "findings": [finding._asdict() for finding in findings]})
    else:
        session.show_table(("STATE", "CHECK", "FINDING"), findings, fixed=("STATE", "CHECK"))
    return OK if is_good else FAILED


def _findings(session: Session) -> Iterator[Finding]:
    try:
        connection = session.hook.connection
    except (PolarisConnectionMissing, PolarisConnectionInvalid) as error:
        variable = f"AIRFLOW_CONN_{session.args.conn_id.upper()}"
        is_broken = isinstance(error, PolarisConnectionMissing) and os.environ.get(variable)
        # Airflow takes a connection that it cannot parse for one that is not defined.
        broken = f"Airflow cannot read the connection in {variable}. Check that its JSON is complete"
        yield Finding("fault", "connection", broken if is_broken else str(error))
        return
    yield Finding("ok", "connection", f"{connection.label}: {connection.host}, project {connection.project_id}")
    for name in connection.ignored:
        yield Finding("warning", "connection", f"The extra {name} is not known, and has no effect")
    try:
        next(session.hook.list_jobs(page_size=1, retry=False), None)
    except PolarisResponseTooLarge:
        pass  # Polaris responds, with a job that is too large to be read
    except PolarisApiError as error:
        yield from _refused(error, connection)
        return
    yield Finding("ok", "host", "Polaris responds")
    yield Finding("ok", "key", f"Polaris accepts the {_kind_of(connection)}")
    yield from _account(connection)
    yield Finding("ok", "jobs", "The key can read the jobs of the project")
    if session.args.table is not None:
        yield _table(session)
    if session.args.sql:
        yield _sql(session)


def _kind_of(connection: PolarisConnection) -> str:
    return "access token" if connection.auth == "bearer" else "API key"


def _refused(error: PolarisApiError, connection: PolarisConnection) -> Iterator[Finding]:
    """Yield why the list of jobs cannot be read."""
    message = explain_failure(error, connection)
    if isinstance(error, PolarisTransientError):
        advice = ". Use the API endpoint, ORG.REGION.CLOUD.api.imply.io" if _is_wrong_host(error) else ""
        yield Finding("fault", "host", f"{message.rstrip('.')}{advice}")
        return
    yield Finding("ok", "host", "Polaris responds")
    if isinstance(error, PolarisUnauthorized):
        yield Finding("fault", "key", _other_form(connection) or message)
        return
    yield Finding("ok", "key", f"Polaris accepts the {_kind_of(connection)}")
    if isinstance(error, PolarisForbidden):
        yield Finding("fault", "permissions", message)
    else:
        about = "project" if isinstance(error, PolarisNotFound) else "jobs"
        yield Finding("fault", about, message)


def _is_wrong_host(error: PolarisTransientError) -> bool:
    return isinstance(error, PolarisInvalidResponse) or (error.status is None and not error.received)


def _other_form(connection: PolarisConnection) -> str | None:
    """Return what to set if Polaris accepts the key in the other form; ``None`` if it does not."""
    for form in (form for form in _KEY_FORMS if form != connection.auth):
        with closing(PolarisClient(replace(connection, auth=form))) as client:
            try:
                next(client.list_jobs(page_size=1, retry=False), None)
            except PolarisUnauthorized:
                continue
            except PolarisApiError:
                pass  # Polaris accepts this form, and something else is wrong
            return f"Polaris accepts this key as auth={form}, not as auth={connection.auth}. Set the extra auth={form}"
    return None


def _account(connection: PolarisConnection) -> Iterator[Finding]:
    account = check_account(connection)
    if account.lacks_jobs:
        yield Finding("fault", "permissions", account.lacks_jobs)
    if account.lacks_tables:
        yield Finding("warning", "permissions", account.lacks_tables)
    if account.not_running:
        yield Finding("fault", "project", account.not_running)


def _table(session: Session) -> Finding:
    name = session.args.table
    try:
        table = session.hook.get_table(name, retry=False)
    except PolarisNotFound:
        return Finding("fault", "table", f"The project has no table {name!r}. Check the name, also its capital letters")
    except PolarisForbidden:
        return Finding("fault", "table", "Give the API key the permission ViewTables or ManageTables in this project")
    except PolarisApiError as error:
        return Finding("fault", "table", str(error))
    return Finding("ok", "table", f"The key can read the table {name!r}: {table.availability or 'no availability'}")


def _sql(session: Session) -> Finding:
    try:
        session.hook.query("SELECT 1 AS one", retry=False)
    except PolarisForbidden:
        return Finding("fault", "sql", "Give the API key the permission AccessQueries in this project")
    except PolarisApiError as error:
        return Finding("fault", "sql", str(error))
    return Finding("ok", "sql", "The key can run queries")
