"""Reading the service's answers, with bounds: objects, times, and text as every database takes it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pendulum

from airflow_provider_polaris.api.errors import PolarisInvalidResponse

#: Longest free text (a health message, a log line) that goes on into events, XCom and exceptions, in characters.
MAX_TEXT = 500
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """Return the JSON object, an empty one for null; raise PolarisInvalidResponse for anything else."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise PolarisInvalidResponse(f"Polaris answered {what} that is not a JSON object: {clip(repr(value), 100)}")
    return value


def text_of(value: Any) -> str | None:
    """Return a text to go on with, ``None`` for an empty one and for anything else."""
    return clip(clean(value)) if isinstance(value, str) and value else None


def clean(text: str) -> str:
    """Return the text as every database takes it.

    Half a surrogate pair (user data cut in the middle of an emoji) cannot be encoded, and would bring a triggerer down;
    PostgreSQL takes no NUL.
    """
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def clip(text: str, length: int = MAX_TEXT) -> str:
    """Shorten the text to that many characters, and show that it was."""
    return text if len(text) <= length else text[: length - 1] + "…"


def time_of(stamp: str | None) -> datetime | None:
    """Return the moment of a timestamp as the service sends it, ``None`` for none and for what is not one."""
    if not stamp or not _STAMP.match(stamp):
        return None
    try:
        moment: object = pendulum.parse(stamp)
    except (ValueError, TypeError):  # TypeError: pendulum's own, at some texts that look like times
        return None
    return moment if isinstance(moment, datetime) else None


def part_of(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part that is good to know and decides nothing: its absence or a wrong shape is no fault."""
    part = data.get(name)
    return part if isinstance(part, Mapping) else {}
