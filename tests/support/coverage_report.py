"""A pytest plugin for ``make test``: names the files with little coverage, in one line before pytest's own summary."""

from __future__ import annotations

import json
from pathlib import Path

#: Files below this are named, in percent; pytest-cov fails the run if the whole package is below it.
LIMIT = 95


def pytest_terminal_summary(terminalreporter, config):
    plugin = config.pluginmanager.getplugin("_cov")
    if plugin and plugin.cov_total is not None:  # otherwise the report is an earlier run's
        report = json.loads(Path(config.option.cov_report["json"]).read_text())
        terminalreporter.write_line(files_below(report, LIMIT))


def files_below(report, limit):
    """Return one line about a JSON report of coverage: the files below a limit, the lowest first."""
    percent = {file: entry["summary"]["percent_covered"] for file, entry in report["files"].items()}
    low = sorted((share, file.partition("/")[2]) for file, share in percent.items() if share < limit)
    return f"Files below {limit} %: " + (", ".join(f"{file} ({int(share)} %)" for share, file in low) or "none")
