"""Every violation of a request schema by one field: a valid spec in which one value is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from conformance.document import PROJECT, SCHEMAS, Document, Schema
from conformance.places import Node, Spec, nodes, put, without
from conformance.specs import Variation

#: A value of each type, for the fields of another type. A text that looks like the right value is the likely mistake.
_WRONG: dict[str, tuple[tuple[str, Any], ...]] = {
    "string": (("a number", 7), ("a boolean", True), ("a list", ["x"]), ("an object", {"x": 1})),
    "boolean": (("the text false", "false"), ("the text True", "True"), ("a number", 1), ("a list", [True])),
    "integer": (("a text", "5"), ("a fraction", 1.5), ("a boolean", True), ("a list", [5]), ("an object", {})),
    "array": (("a text", "x"), ("a number", 7), ("a boolean", False), ("an object", {"x": 1})),
    "object": (("a text", "x"), ("a number", 7), ("a boolean", True), ("a list", [{}])),
}


@dataclass(frozen=True)
class Violation:
    """A spec with one wrong value.

    :param key: ``SCHEMA.FIELD: VIOLATION``, the same in all specs.
    :param path: the path of the field in the spec.
    :param where: the name of the valid spec.
    """

    key: str
    path: str
    where: str
    spec: Any


def violations_of(document: Document, schema: str, valid: Variation, below: str = "") -> Iterator[Violation]:
    """Yield each violation of a valid spec.

    :param schema: the name of the schema of the request.
    :param below: only of the fields below this path.
    """
    root: Schema = {"$ref": f"{SCHEMAS}{schema}"}
    for node in nodes(document, root, valid.spec):
        if not node.path.startswith(below):
            continue
        for name, spec in _of_a_value(node, valid.spec):
            yield Violation(f"{node.label}: {name}", node.path, valid.name, spec)


def _of_a_value(node: Node, spec: Spec) -> Iterator[tuple[str, Any]]:
    if node.is_required and node.place:
        yield "missing", without(spec, node.place)
    for name, value in _wrong_values(node.schema, is_nullable=node.is_nullable):
        yield name, put(spec, node.place, value)


def _wrong_values(schema: Schema, *, is_nullable: bool) -> Iterator[tuple[str, Any]]:
    """Yield a name and a value for each way in which a value can violate its schema."""
    kinds = schema.get("type")
    if kinds is None:
        return
    kind = next(one for one in kinds if one != "null") if isinstance(kinds, list) else kinds
    if not is_nullable:
        yield "null", None
    yield from _WRONG[kind]
    if "enum" in schema:
        first = next(value for value in schema["enum"] if value is not None)
        yield "an unknown value", "unknown-value"
        yield "an empty text", ""
        yield "another case", first.swapcase()
        yield "a space after the value", f"{first} "
    if schema.get("minLength", 0) > 0:
        yield "too short", "x" * (schema["minLength"] - 1)
    if "maxLength" in schema:
        yield "too long", "x" * (schema["maxLength"] + 1)
    if "minimum" in schema:
        yield "below the minimum", schema["minimum"] - 1
    if "maximum" in schema:
        yield "above the maximum", schema["maximum"] + 1
    if schema.get("format") == "uuid":
        yield "no uuid", "not-a-uuid"


def violations_of_parameters(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the key, the method with the path, and the wrong query of each violation by a query parameter."""
    for method, template, operation in document.operations():
        if not template.startswith(f"{PROJECT}/"):
            continue
        path = template.removeprefix(f"{PROJECT}/")
        for parameter in operation["parameters"]:
            if parameter["in"] == "query" and "{" not in path:
                _, schema = document.resolve(parameter["schema"])
                if schema.get("type") == "array":
                    _, schema = document.resolve(schema["items"])
                for name, value in _wrong_texts(schema):
                    query = {parameter["name"]: value}
                    yield f"{method} /{path} ?{parameter['name']}: {name}", f"{method} {path}", query


def _wrong_texts(schema: Schema) -> Iterator[tuple[str, str]]:
    """Yield a name and a text for each way in which a parameter can violate its schema: a query has only texts."""
    if schema["type"] == "integer":
        yield "no number", "x"
        yield "a fraction", "1.5"
        yield "empty", ""
    for name, value in _wrong_values(schema, is_nullable=True):
        is_of_the_type = isinstance(value, str if schema["type"] == "string" else int) and not isinstance(value, bool)
        if is_of_the_type and name != "a text":
            yield name, str(value)
