"""A page for a browser: the jobs, tables and requests of a local Polaris."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice
from typing import Any

from airflow_provider_polaris.local.engine.store import Store, StoredJob
from airflow_provider_polaris.local.http.answers import dig
from airflow_provider_polaris.local.http.faults import Faults
from airflow_provider_polaris.local.http.shell import SeenRequest

#: How many jobs and requests are shown, the newest first.
SHOWN = 50

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #8884; padding: .3rem .6rem; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: .9em; overflow-wrap: anywhere; } .quiet { opacity: .65; }
.completed, .ok, .available { color: #2a8a3e; } .failed, .error, .bad { color: #c5372c; }
.canceled, .warn, .suspended, .unavailable { color: #b06f00; } .running, .idle { color: #2563c9; }
"""
_COUNTERS = {
    "processed": "numRowsProcessed",
    "with warning": "numRowsProcessedWithWarning",
    "skipped": "numRowsSkippedByError",
}


def render(store: Store, faults: Faults, requests: Sequence[SeenRequest]) -> str:
    """Return the page. It changes no job: a scripted job keeps its place."""
    with store.lock:
        jobs = [_job_row(job) for job in islice(reversed(store.jobs.values()), SHOWN)]
        tables = [_table_row(table) for table in store.tables.list_all()]
        waiting = [("fault", fault) for fault in faults.waiting]
        waiting += [("behaviour", behaviour) for behaviour in store.behaviours.waiting]  # type: ignore[misc]
    plans = [[_cell(kind), f"<td><code>{escape(str(plan))}</code></td>"] for kind, plan in waiting]
    seen = [_request_row(request) for request in islice(reversed(requests), SHOWN)]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">',
        f"<title>Local Polaris</title><style>{_STYLE}</style></head><body><h1>Local Polaris</h1>",
        f'<p class="quiet">{len(store.jobs):,} jobs, {len(store.files):,} files, {len(requests):,} requests so far.',
        " The page reloads every two seconds.</p>",
        _table("Jobs", ["job", "type", "table", "status", "health", "progress", *_COUNTERS], jobs, "No job yet."),
        _table("Tables", ["table", "availability", "rows"], tables, "No table yet."),
        _table("Planned", ["what", "how"], plans, "No fault and no behaviour is planned."),
        _table("Requests", ["time", "request", "answer"], seen, "No request yet."),
        "</body></html>",
    ]
    return "".join(parts)


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], nothing: str) -> str:
    numbers = {"progress", "rows", "answer", *_COUNTERS}
    head = "".join(f"<th{' class=number' if name in numbers else ''}>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    if not body:
        return f'<h2>{title}</h2><p class="quiet">{nothing}</p>'
    return f"<h2>{title}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any, css: str = "") -> str:
    return f'<td class="{escape(css)}">{escape(str(value))}</td>'


def _number(value: Any) -> str:
    return _cell(f"{value:,}" if isinstance(value, int) else "", "number")


def _job_row(job: StoredJob) -> list[str]:
    body, totals = job.body, (job.metrics or {}).get("totals") or {}
    health = dig(body, ("health", "status"))
    status, why = str(job.status), f"{health} {dig(body, ('health', 'code'))}"
    wish = body.get("desiredExecutionStatus")
    wanted = f" → {wish}" if wish in ("canceled", "suspended") and wish != status else ""
    return [
        f"<td><code>{escape(str(body.get('id')))}</code></td>",
        _cell(body.get("type")),
        _cell(dig(body, ("target", "tableName"))),
        _cell(status + wanted, status),
        _cell(why, health),
        _cell(f"{job.progress:.0%}", "number"),
        *(_number(totals.get(name)) for name in _COUNTERS.values()),
    ]


def _table_row(table: dict[str, Any]) -> list[str]:
    return [
        _cell(table["name"]),
        _cell(table["availability"], str(table["availability"])),
        _number(table.get("totalRows")),
    ]


def _request_row(seen: SeenRequest) -> list[str]:
    query = f"?{seen.query}" if seen.query else ""
    clock = time.strftime("%H:%M:%S", time.localtime(seen.at))
    good = seen.status is not None and seen.status < 400
    return [
        _cell(clock, "quiet"),
        f"<td><code>{escape(f'{seen.method} {seen.path}{query}')}</code></td>",
        _cell(seen.status or "none", "number" if good else "number bad"),
    ]
