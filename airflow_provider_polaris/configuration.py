"""The section ``[polaris]`` of Airflow's configuration: defaults of the tasks, declared once and read here.

Airflow reads the declaration for every process that it starts, so the imports of this module are light.
"""

from __future__ import annotations

from typing import Any

SECTION = "polaris"
#: The largest number of threads. A service with more requests at once gains nothing: they share one poll.
MAX_THREADS = 64
#: The longest time between two polls of a watched table, in seconds, unless the section sets it.
WATCH_INTERVAL_SECONDS = 30.0


def _option(kind: str, default: str, description: str) -> dict[str, Any]:
    """Return an option in the form of the provider info."""
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": None,
        "default": default,
    }


_OPTIONS = {
    "poll_interval": _option(
        "float",
        "",
        "The longest time between two polls of a job or a table, in seconds, for tasks without poke_interval or "
        "poll_interval. If it is empty, the time grows with the time waited, from 5 to 60 seconds. Cancellations, "
        "queries and watched tables have a default of their own.",
    ),
    "max_unreachable": _option(
        "float",
        "3600",
        "A wait fails after an outage of Polaris of this many seconds, for tasks without max_unreachable.",
    ),
    "mark_jobs": _option(
        "boolean",
        "True",
        "Whether a job that a task creates shows which task that is, for tasks without mark_jobs.",
    ),
    "threads": _option(
        "integer",
        "6",
        "The most requests that a triggerer sends at once with one connection. A triggerer reads it when it starts.",
    ),
}


def declared() -> dict[str, Any]:
    """Return the section in the form of the provider info."""
    return {
        SECTION: {
            "description": "Defaults of the tasks of Imply Polaris. An argument of a task comes first.",
            "options": {name: dict(option) for name, option in _OPTIONS.items()},
        }
    }


def poll_interval() -> float | None:
    """Return the longest time between two polls, in seconds. ``None``: it grows with the time waited.

    :raises PolarisUsageError: if the option is no number.
    """
    from airflow_provider_polaris.api.errors import PolarisUsageError

    value = str(_conf().get(SECTION, "poll_interval", fallback="") or "")
    try:
        return float(value) if value else None
    except ValueError:
        raise PolarisUsageError(f"[{SECTION}] poll_interval must be a number of seconds, or empty: {value!r}") from None


def watch_interval() -> float:
    """Return the longest time between two polls of a watched table, in seconds. It does not grow."""
    return poll_interval() or WATCH_INTERVAL_SECONDS


def max_unreachable() -> float:
    """Return after how many seconds of an outage a wait fails."""
    return float(_conf().getfloat(SECTION, "max_unreachable", fallback=_default("max_unreachable")))


def mark_jobs() -> bool:
    """Return whether a job shows which task created it."""
    return bool(_conf().getboolean(SECTION, "mark_jobs", fallback=_default("mark_jobs")))


def threads() -> int:
    """Return the most requests of a triggerer at once with one connection.

    :raises PolarisUsageError: if the number is too small or too large.
    """
    from airflow_provider_polaris.api.errors import PolarisUsageError

    count: int = _conf().getint(SECTION, "threads", fallback=_default("threads"))
    if not 1 <= count <= MAX_THREADS:
        raise PolarisUsageError(f"[{SECTION}] threads must be a number from 1 to {MAX_THREADS}; it is {count}")
    return count


def _conf() -> Any:
    from airflow_provider_polaris._compat import conf

    return conf


def _default(name: str) -> str:
    # A process of Airflow may not have read the declarations of the providers.
    return str(_OPTIONS[name]["default"])
