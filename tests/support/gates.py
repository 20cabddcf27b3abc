"""Gates for tests, made of an operator's options as a task reads them."""

from __future__ import annotations

from airflow_provider_polaris.gate.options import Gate

DEFAULTS = {
    "wait_for": "completed",
    "fail_on_warnings": ("no_rows_found", "unable_to_proceed"),
    "fail_on_unhealthy": False,
    "min_rows_processed": None,
    "max_rows_skipped_by_error": None,
    "max_rows_with_warning": None,
    "max_error_ratio": None,
}


def gate(**options) -> Gate:
    """Return the gate of a task with these options and the default of each other option."""
    return Gate.from_options(**{**DEFAULTS, **options})
