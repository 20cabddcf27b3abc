"""Load the vendor's OpenAPI document: repair its defects, and resolve its discriminators into plain JSON Schema.

The document is OpenAPI 3.0. Its base types have a discriminator, and each variant repeats its base in ``allOf``. A
validator that follows both never ends, and a validator that follows neither checks only the base. Therefore each
variant becomes one object with all of its fields, and each base a ``oneOf`` of its variants. The result is OpenAPI
3.1, whose schemas every JSON Schema library reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = "/v1/projects/{projectId}"
#: The calls that the local Polaris answers, by their path.
SERVED: Mapping[str, tuple[str, ...]] = {
    f"{PROJECT}/jobs": ("get", "post"),
    f"{PROJECT}/jobs/{{jobId}}": ("get", "put"),
    f"{PROJECT}/jobs/{{jobId}}/status": ("get", "post"),
    f"{PROJECT}/jobs/{{jobId}}/metrics": ("get",),
    f"{PROJECT}/jobs/{{jobId}}/logs": ("get",),
    f"{PROJECT}/jobs/{{jobId}}/progress": ("get",),
    f"{PROJECT}/jobs/{{jobId}}/reset": ("post",),
    f"{PROJECT}/files": ("get", "post"),
    f"{PROJECT}/files/{{name}}": ("get", "delete"),
    f"{PROJECT}/tables": ("get", "post"),
    f"{PROJECT}/tables/{{tableName}}": ("get", "put"),
    f"{PROJECT}/connections": ("get", "post"),
    f"{PROJECT}/connections/{{name}}": ("get", "patch", "delete"),
    f"{PROJECT}/events/{{connectionName}}": ("post",),
    f"{PROJECT}/query/sql": ("post",),
    f"{PROJECT}/query/sql/statements": ("post",),
    f"{PROJECT}/query/sql/statements/{{queryId}}": ("get", "delete"),
    f"{PROJECT}/query/sql/statements/{{queryId}}/results": ("get",),
    "/v1/projects/{id}": ("get",),
    "/v1/apikeyinfo": ("get",),
}
SCHEMAS = "#/components/schemas/"
_ANNOTATIONS = {
    "deprecated", "description", "example", "examples", "externalDocs", "nullable", "readOnly", "summary", "title",
}  # fmt: skip

Schema = dict[str, Any]


@dataclass(frozen=True)
class Repair:
    """A defect of the document.

    :param reason: why the document cannot mean what it says.
    :param apply: changes the document; raises ``KeyError`` if the document no longer has the place.
    """

    reason: str
    apply: Callable[[dict[str, Any]], None]


def _warn(document: dict[str, Any]) -> None:
    mapping = document["components"]["schemas"]["JobHealthV2"]["discriminator"]["mapping"]
    if "warning" in mapping:
        mapping["warn"] = mapping.pop("warning")


def _any_parameter(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["SqlParameter"]["properties"]["value"].pop("type", None)


def _granularity_of_a_list(document: dict[str, Any]) -> None:
    for parameter in document["paths"][f"{PROJECT}/tables"]["get"]["parameters"]:
        if parameter.get("name") == "partitioningGranularity":
            parameter["schema"] = {"$ref": f"{SCHEMAS}TablePartitioningGranularity"}


#: All defects that matter here.
REPAIRS = (
    Repair("The health status is called warn in its enum, and warning in the discriminator of health.", _warn),
    Repair("The value of a SQL parameter is said to be an object; the example beside it is a text.", _any_parameter),
    Repair(
        "The filter of the list of tables is said to be an object; it is a text of an enum in a query.",
        _granularity_of_a_list,
    ),
)


class Document:
    """The repaired document.

    :ivar api: the document as OpenAPI 3.1, with only the calls that the local Polaris answers.
    :ivar schemas: its schemas by name.
    """

    def __init__(self, api: dict[str, Any]) -> None:
        self.api = api
        self.schemas: dict[str, Schema] = api["components"]["schemas"]

    @classmethod
    def load(cls, path: Path) -> Document:
        """Load the document from a file."""
        document = json.loads(path.read_text())
        for repair in REPAIRS:
            repair.apply(document)
        return cls(resolved(document, SERVED))

    def resolve(self, schema: Schema) -> tuple[str | None, Schema]:
        """Return the name and the schema behind a chain of references. The name of an inline schema is ``None``."""
        name = None
        while "$ref" in schema:
            name = schema["$ref"].removeprefix(SCHEMAS)
            schema = self.schemas[name]
        return name, schema

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield method, path template and description of each call."""
        for template, calls in self.api["paths"].items():
            for method, operation in calls.items():
                yield method.upper(), template, operation

    def strict(self) -> dict[str, Schema]:
        """Return the schemas without undocumented fields: each object has only the fields that its schema names."""
        return {name: _closed(schema) for name, schema in self.schemas.items()}


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") != "string":
        closed.setdefault("additionalProperties", False)
    return closed


def resolved(document: dict[str, Any], calls: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return a document of OpenAPI 3.0 as OpenAPI 3.1: these calls, and the schemas that they need.

    :param calls: the methods of each path.
    """
    paths = {path: _calls(document, path, methods) for path, methods in calls.items()}
    raw = _used(document["components"]["schemas"], paths)
    bases = {name for name, schema in raw.items() if "mapping" in schema.get("discriminator", {})}
    variants = {
        reference.removeprefix(SCHEMAS): (base, value)
        for base in bases
        for value, reference in raw[base]["discriminator"]["mapping"].items()
    }
    schemas: dict[str, Schema] = {}
    for name, schema in raw.items():
        if name in bases:
            schemas[name] = _union(schema)
        elif name in variants:
            schemas[name] = _variant(raw, name, *variants[name])
        else:
            schemas[name] = _modern(schema)
    info = {"title": "The calls of Imply Polaris that the local Polaris answers", "version": "1"}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _used(schemas: Mapping[str, Schema], paths: Any) -> dict[str, Schema]:
    """Return the schemas that the calls need."""
    used: dict[str, Schema] = {}
    waiting = list(_references(paths))
    while waiting:
        name = waiting.pop()
        if name not in used:
            used[name] = schemas[name]
            waiting.extend(_references(schemas[name]))
    return dict(sorted(used.items()))


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, str) and part.startswith(SCHEMAS):
        yield part.removeprefix(SCHEMAS)
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _references(inner)


def _union(base: Schema) -> Schema:
    """Return a base as a choice among its variants."""
    discriminator = base["discriminator"]
    choice: Schema = {
        "oneOf": [{"$ref": reference} for reference in discriminator["mapping"].values()],
        "discriminator": discriminator,
    }
    if base.get("nullable"):
        choice["oneOf"].append({"type": "null"})
    return choice


def _variant(raw: Mapping[str, Schema], name: str, base: str, value: str) -> Schema:
    """Return a variant as one object: the fields of its base, its own, and its value of the discriminator."""
    whole: Schema = {"type": "object", "properties": {}, "required": []}
    for part in (raw[base], *_parts(raw, raw[name])):
        whole["properties"] |= {key: _modern(field) for key, field in part.get("properties", {}).items()}
        whole["required"] += [key for key in part.get("required", []) if key not in whole["required"]]
    whole["properties"][raw[base]["discriminator"]["propertyName"]] = {"type": "string", "enum": [value]}
    return whole


def _parts(raw: Mapping[str, Schema], schema: Schema) -> Iterator[Schema]:
    """Yield the parts of a schema that consists of others, and the schema itself."""
    for part in schema.get("allOf", []):
        yield from _parts(raw, raw[part["$ref"].removeprefix(SCHEMAS)] if "$ref" in part else part)
    yield schema


def _modern(schema: Any) -> Any:
    """Return a schema of OpenAPI 3.0 as JSON Schema: ``nullable`` becomes a type, and an ``allOf`` of one its part."""
    if isinstance(schema, list):
        return [_modern(part) for part in schema]
    if not isinstance(schema, dict):
        return deepcopy(schema)
    modern: Schema = {}
    for key, part in schema.items():
        if key == "properties":
            modern[key] = {name: _modern(field) for name, field in part.items()}
        elif key not in _ANNOTATIONS and not key.startswith("x-"):
            modern[key] = _modern(part)
    if len(modern.get("allOf", [])) == 1:
        modern = modern["allOf"][0]
    if "$ref" in modern:
        modern = {"$ref": modern["$ref"]}  # the other keys are annotations
    if schema.get("nullable") is not True:
        return modern
    if "enum" in modern:
        modern["enum"].append(None)
    return {**modern, "type": [modern["type"], "null"]} if "type" in modern else {"anyOf": [modern, {"type": "null"}]}


def _calls(document: Mapping[str, Any], path: str, methods: tuple[str, ...]) -> dict[str, Any]:
    """Return the calls of a path, with all references but those to schemas resolved."""
    item = document["paths"][path]
    calls = {}
    for method in methods:
        operation = _inlined(document, item[method])
        parameters = [_inlined(document, one) for one in item.get("parameters", [])]
        operation["parameters"] = parameters + operation.get("parameters", [])
        operation["responses"] = {
            status: {"description": "", **response} for status, response in operation["responses"].items()
        }
        calls[method] = _keep(operation)
    return calls


def _keep(operation: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        key: operation[key] for key in ("operationId", "parameters", "requestBody", "responses") if key in operation
    }
    for parameter in kept["parameters"]:
        parameter.pop("description", None)
        parameter.pop("example", None)
        parameter["schema"] = _modern(parameter["schema"])
    for body in (kept.get("requestBody", {}), *kept["responses"].values()):
        body["description"] = ""
        for part in (*body.get("content", {}).values(), *body.get("headers", {}).values()):
            for annotation in ("example", "examples"):
                part.pop(annotation, None)
            part["schema"] = _modern(part["schema"])
    return kept


def _inlined(document: Mapping[str, Any], part: Any) -> Any:
    if isinstance(part, list):
        return [_inlined(document, inner) for inner in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if isinstance(reference, str) and not reference.startswith(SCHEMAS):
        place: Any = document
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]
        return _inlined(document, place)
    return {key: _inlined(document, inner) for key, inner in part.items()}
