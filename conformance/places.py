"""The values in a spec: where each is, what its schema allows, and how to change one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from conformance.document import Document, Schema

Spec = dict[str, Any]
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Node:
    """A value in a spec, and what its schema allows.

    :param place: the keys and indexes that lead to it.
    :param path: the same as text, without the numbers of list elements: ``mappings[].columnName``.
    :param label: the schema that defines the field, and the field: ``InputToTableSchemaMapping.columnName``.
    :param schema: its schema, resolved.
    """

    place: Place
    path: str
    label: str
    schema: Schema
    is_required: bool
    is_nullable: bool

    @property
    def enum(self) -> tuple[Any, ...]:
        """The values that the schema lists, ``null`` left out."""
        return tuple(value for value in self.schema.get("enum", ()) if value is not None)


def nodes(document: Document, schema: Schema, value: Any) -> Iterator[Node]:
    """Yield each value in a spec, the spec itself first. Of a list, only the first element is yielded."""
    yield from _nodes(document, schema, value, (), "", "", is_required=True)


def _nodes(
    document: Document, schema: Schema, value: Any, place: Place, path: str, label: str, **is_: bool
) -> Iterator[Node]:
    name, schema = document.resolve(schema)
    is_nullable = "null" in schema.get("type", ()) or {"type": "null"} in schema.get("oneOf", schema.get("anyOf", ()))
    while value is not None and ("oneOf" in schema or "anyOf" in schema):
        if "anyOf" in schema:  # a reference to a schema, or null
            chosen = schema["anyOf"][0]
        else:
            discriminator = schema["discriminator"]
            chosen = {"$ref": discriminator["mapping"][value[discriminator["propertyName"]]]}
        name, schema = document.resolve(chosen)
    label = label or name or ""
    yield Node(place, path, label, schema, is_["is_required"], is_nullable)
    if isinstance(value, dict):
        owner = name or label
        for key, inner in schema.get("properties", {}).items():
            if key in value:
                yield from _nodes(
                    document, inner, value[key], (*place, key), f"{path}.{key}" if path else key, f"{owner}.{key}",
                    is_required=key in schema.get("required", ()),
                )  # fmt: skip
    elif isinstance(value, list) and value and "items" in schema:
        inner = schema["items"]
        yield from _nodes(document, inner, value[0], (*place, 0), f"{path}[]", f"{label}[]", is_required=False)


def put(spec: Spec, place: Place, value: Any) -> Any:
    """Return a spec with another value at a place; the spec itself is at the place ``()``."""
    if not place:
        return value
    made: Any = deepcopy(spec)
    holder = made
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return made


def without(spec: Spec, place: Place) -> Spec:
    """Return a spec without the value at a place."""
    made: Any = deepcopy(spec)
    holder = made
    for key in place[:-1]:
        holder = holder[key]
    del holder[place[-1]]
    return made  # type: ignore[no-any-return]


def patched(spec: Spec, patch: Mapping[str, Any]) -> Spec:
    """Return a spec with further fields; a key of the patch is a path."""
    made = deepcopy(spec)
    for path, value in patch.items():
        *parents, name = path.split(".")
        place = made
        for parent in parents:
            place = place[parent]
        place[name] = deepcopy(value)
    return made
