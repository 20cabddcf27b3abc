"""The command ``upload``: upload files, each with a bar."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.models import check_file_name
from airflow_provider_polaris.api.upload import Upload
from airflow_provider_polaris.cli.live_progress import bar
from airflow_provider_polaris.cli.session import OK, Session, command
from airflow_provider_polaris.operators.sources import find_files


@command
def upload(session: Session) -> int:
    """Upload files. Repeating the command sends no file again."""
    done: list[dict[str, Any]] = []
    try:
        for name, path in _named(session.args.source, session.args.name).items():
            done.append(_send(session, name, path))
    finally:  # the files before an error are in Polaris
        if session.is_json:
            session.show_json(done)
        elif done:
            rows = [(one["name"], f"{one['size_bytes']:,}", "sent" if one["was_sent"] else "there") for one in done]
            session.show_table(("FILE", "BYTES", "STATE"), rows, fixed=("BYTES", "STATE"))
    return OK


def _named(sources: list[str], name: str | None) -> dict[str, Any]:
    """Return the files by their names in Polaris. All are checked before one is sent."""
    paths = find_files(sources)
    is_folder = name is None or name.endswith("/")
    if len(paths) > 1 and not is_folder:
        raise PolarisUsageError(f"{len(paths)} files match, and --name {name} is for one. End it with a slash")
    named: dict[str, Any] = {}
    for path in paths:
        own = check_file_name(f"{name or ''}{path.name}" if is_folder else name)
        if own in named:
            raise PolarisUsageError(f"Two files get the name {own!r}. Upload them in two commands")
        named[own] = path
    return named


def _send(session: Session, name: str, path: Any) -> dict[str, Any]:
    with bar(session, name) as shown, closing(Upload(path)) as source:
        file, was_sent = session.hook.put_file(
            source, name, if_exists=session.args.if_exists, formats={}, report=partial(shown.update, name)
        )
    return {**file.to_dict(), "was_sent": was_sent}
