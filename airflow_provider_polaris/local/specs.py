"""What the local Polaris makes of a job spec before it takes it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SpecFault:
    """What is wrong, and the path of the wrong field."""

    target: str
    message: str


def check_spec(spec: Any, files: Container[str]) -> SpecFault | None:
    """Return the first fault of a spec, ``None`` if the job can be made.

    :param files: the names of the files that were uploaded.
    """
    if not isinstance(spec, dict):
        return SpecFault("", "The body must be a job spec, a JSON object")
    kind = spec.get("type")
    if kind in ("sql", "streaming"):
        return None  # scripted: made, and then moved on by the test that made them
    if kind != "batch":
        return SpecFault("type", "The local Polaris knows batch, sql and streaming")
    target = spec.get("target")
    if not isinstance(target, dict) or target.get("type") != "table":
        return SpecFault("target.type", "It must be table")
    table = target.get("tableName")
    if not isinstance(table, str) or not 1 <= len(table) <= 255:
        return SpecFault("target.tableName", "It must be a text of 1 to 255 characters")
    most = spec.get("maxParseExceptions", 0)
    if isinstance(most, bool) or not isinstance(most, int) or most < 0:
        return SpecFault("maxParseExceptions", "It must be a whole number, 0 or more")
    return _check_source(spec.get("source"), files) or _check_mappings(spec.get("mappings"))


def _check_source(source: Any, files: Container[str]) -> SpecFault | None:
    if not isinstance(source, dict):
        return SpecFault("source", "It is required")
    settings = source.get("formatSettings")
    if not isinstance(settings, dict) or settings.get("format") != "nd-json":
        return SpecFault("source.formatSettings.format", "The local Polaris reads nd-json")
    schema = source.get("inputSchema")
    if not isinstance(schema, list) or not all(
        isinstance(one, dict) and isinstance(one.get("dataType", ""), str) for one in schema
    ):
        return SpecFault("source.inputSchema", "It must be a list of columns with name and dataType")
    if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in schema):
        return SpecFault("source.inputSchema", "It must be a list of columns with name and dataType")
    if source.get("type") == "inline":
        return None if isinstance(source.get("data"), str) else SpecFault("source.data", "It must be text")
    if source.get("type") != "uploaded":
        return SpecFault("source.type", "The local Polaris reads inline and uploaded data")
    names = source.get("fileList")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return SpecFault("source.fileList", "It must be a list of names of uploaded files")
    missing = [name for name in names if name not in files]
    return SpecFault("source.fileList", f"No file of that name was uploaded: {', '.join(missing)}") if missing else None


def _check_mappings(mappings: Any) -> SpecFault | None:
    if not isinstance(mappings, list) or not all(isinstance(one, dict) for one in mappings):
        return SpecFault("mappings", "It must be a list of mappings with columnName and expression")
    if not any(mapping.get("columnName") == "__time" for mapping in mappings):
        return SpecFault("mappings", "A mapping to __time is required")
    return None
