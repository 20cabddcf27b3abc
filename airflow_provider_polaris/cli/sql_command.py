"""The command ``sql``: run a query, and show its rows as a table, as JSON or as CSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from typing import Any

from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.cli.session import OK, Session, command


@command
def sql(session: Session) -> int:
    """Run a query."""
    text = sys.stdin.read() if session.args.query == "-" else session.args.query
    result = session.hook.query(text.strip().rstrip(";"), [_value(one) for one in session.args.param or []])
    names = [column.name for column in result.columns]
    if session.is_json:
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise PolarisUsageError(f"Two columns have the name {twice[0]!r}. Give each a name of its own with AS")
        session.show_json(result.dicts())
    elif session.output == "csv":
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([names, *result.rows])
        session.write(buffer.getvalue())
    else:
        session.show_table(names, [list(map(_cell, row)) for row in result])
        session.note(f"{len(result):,} row{'' if len(result) == 1 else 's'}")
    return OK


def _value(text: str) -> Any:
    """Return a parameter: a number, a boolean, null or an object of JSON, or the text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _cell(value: Any) -> str:
    return "null" if value is None else value if isinstance(value, str) else json.dumps(value)
