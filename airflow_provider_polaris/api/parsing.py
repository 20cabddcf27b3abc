"""Parse responses with bounds: objects, times, and text that every database accepts. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pendulum

from airflow_provider_polaris.api.errors import PolarisInvalidResponse

#: The longest free text (a health message, a log line) in events, XCom and exceptions, in characters.
MAX_TEXT = 500
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """Return the JSON object, an empty one for null. Raise PolarisInvalidResponse for anything else."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise PolarisInvalidResponse(f"Polaris returned {what} that is not a JSON object: {clip(repr(value), 100)}")
    return value


def text_of(value: Any) -> str | None:
    """Return the text, cleaned and shortened. ``None`` for an empty text and for anything else."""
    return clip(clean(value)) if isinstance(value, str) and value else None


def clean(text: str) -> str:
    """Return the text without characters that a database rejects.

    Half a surrogate pair (an emoji that was cut in two) cannot be encoded, which would end the triggerer. PostgreSQL
    rejects a NUL.
    """
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def clip(text: str, length: int = MAX_TEXT) -> str:
    """Shorten the text to that many characters. An ellipsis marks a shortened text."""
    return text if len(text) <= length else text[: length - 1] + "…"


def count_of(value: Any) -> int | None:
    """Return a counter of 0 or more. A whole number may be written ``5.0``. ``None`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    is_whole = isinstance(value, int) or value.is_integer()  # an infinite number is not whole
    return int(value) if is_whole and 0 <= value < 2**63 else None


def time_of(stamp: str | None) -> datetime | None:
    """Return the time of a timestamp in the service's form. ``None`` for no timestamp and for an invalid one."""
    if not stamp or not _STAMP.match(stamp):
        return None
    try:
        moment: object = pendulum.parse(stamp)
    except (ValueError, TypeError):  # pendulum raises TypeError for some texts that resemble times
        return None
    return moment if isinstance(moment, datetime) else None


def part_of(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an optional part of a response. A missing part, or one of a wrong shape, is empty."""
    part = data.get(name)
    return part if isinstance(part, Mapping) else {}
