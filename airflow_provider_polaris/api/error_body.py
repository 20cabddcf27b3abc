"""Read the body of an error response, in each shape that the service documents. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def error_of(content: bytes) -> tuple[str | None, str]:
    """Return the service's error code, and all messages of the body in one text.

    The code is ``None`` if the body has none of the service's shapes, so that a gateway may have sent it. The vendor's
    OpenAPI document has these shapes:

    * ``{"code", "message", "target"?, "details"?, "innererror"?}``. Some services send a number as the code.
    * ``{"error": {"code", "message"}}``
    * ``{"error", "errorCode", "errorMessage", …}`` of SQL, by itself or in ``{"error": …}``
    """
    body = _flat(_json_object(content))
    code = body.get("code")
    has_code = isinstance(code, (str, int)) and not isinstance(code, bool) and code != ""
    return str(code) if has_code else None, "; ".join(_messages(body))


#: The categories of failed queries that another try may find gone.
RETRIED_CATEGORIES = ("CAPACITY_EXCEEDED",)


def category_of(content: bytes) -> str | None:
    """Return the category of a failed query, ``None`` if the body is no error of a query."""
    body = _json_object(content)
    inner = body.get("error")
    category = (inner if isinstance(inner, Mapping) else body).get("category")
    return category if isinstance(category, str) and category else None


def _flat(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an error of any shape in the first shape."""
    inner = body.get("error")
    if isinstance(inner, Mapping) and not body.get("code"):
        body, inner = inner, inner.get("error")
    if "errorCode" in body or "errorMessage" in body:
        return {"code": body.get("errorCode") or inner, "message": body.get("errorMessage") or inner}
    return body


def _json_object(content: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, Mapping) else {}


def _messages(body: Any, depth: int = 0) -> Iterator[str]:
    """Yield the messages of an error body, its details and inner errors included."""
    if not isinstance(body, Mapping) or depth > 3:
        return
    parts = [str(body[name])[:300] for name in ("code", "message") if body.get(name)]
    if body.get("target"):
        parts.append(f"(field: {str(body['target'])[:100]})")
    if parts:
        yield ", ".join(parts[:2]) + "".join(f" {rest}" for rest in parts[2:])
    details = body.get("details")
    for inner in [*(details[:5] if isinstance(details, list) else []), body.get("innererror")]:
        yield from _messages(inner, depth + 1)
