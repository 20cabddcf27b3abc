"""Build job specs from the document's schemas: every documented variation of a job."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.document import SCHEMAS, Document, Schema
from conformance.meaning import (
    ALWAYS,
    DELETIONS,
    EXCLUSIVE,
    INNER,
    MODES,
    NO_MODE,
    NOT_FOR,
    NOT_INNER,
    OBJECTS,
    QUERIES,
    READ_FROM,
    REQUIRED_IN_WORDS,
    SOURCES,
    UPSERTS,
    Patch,
    sample,
    settled,
)
from conformance.places import Spec, nodes, patched, put, without


@dataclass(frozen=True)
class Variation:
    """A valid spec.

    :param name: the type, source, format and mode, and whether the spec is minimal or maximal.
    """

    name: str
    spec: Spec
    choices: Mapping[str, str] = field(default_factory=dict)


class Builder:
    """Builds specs from the schema of a request."""

    def __init__(self, document: Document, schema: str = "CreateJobRequest") -> None:
        self.document = document
        self.root: Schema = {"$ref": f"{SCHEMAS}{schema}"}

    def build(self, choices: Mapping[str, str], *, maximal: bool) -> Spec:
        """Return a spec without the fields that exclude each other.

        :param choices: the variant of each field that has variants, by the path of the field; ``""`` is the spec.
        """
        spec: Spec = self._value(self.root, "", choices, maximal=maximal)
        return spec | {name: sample(name) for name in REQUIRED_IN_WORDS.get(choices[""], ())}

    def _value(self, schema: Schema, path: str, choices: Mapping[str, str], *, maximal: bool) -> Any:
        _, schema = self.document.resolve(schema)
        if path and (value := sample(path)) is not None:
            return value
        if "oneOf" in schema:
            mapping = schema["discriminator"]["mapping"]
            chosen = choices.get(path) or _default(path, choices, mapping)
            return self._value({"$ref": mapping[chosen]}, path, choices, maximal=maximal)
        if "anyOf" in schema:
            return self._value(schema["anyOf"][0], path, choices, maximal=maximal)
        if "enum" in schema:
            return schema.get("default", schema["enum"][0])
        kind = schema.get("type")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object":
            return self._object(schema, path, choices, maximal=maximal)
        if kind == "array":
            return [self._value(schema["items"], f"{path}[0]", choices, maximal=maximal)]
        return {"string": "name", "integer": 1, "boolean": True, None: "any"}[kind]

    def _object(self, schema: Schema, path: str, choices: Mapping[str, str], *, maximal: bool) -> Spec:
        made = {}
        for name, inner in schema.get("properties", {}).items():
            here = f"{path}.{name}" if path else name
            if name in schema.get("required", ()) or here in choices or (maximal and here not in EXCLUSIVE):
                made[name] = self._value(inner, here, choices, maximal=maximal)
        return made


def _default(path: str, choices: Mapping[str, str], mapping: Mapping[str, str]) -> str:
    """Return the variant of a field for which a spec makes no choice."""
    if path.endswith("parseSchemaProvider"):
        inner = choices.get(path.rpartition(".")[0], "")
        return "inline-protobuf" if inner == "protobuf" else "inline-avro"
    return "nd-json" if "nd-json" in mapping else next(iter(mapping))


class Variations:
    """All documented variations of a job."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._builder = Builder(document)
        self.types = document.schemas["CreateJobRequest"]["discriminator"]["mapping"]
        self.formats = tuple(document.schemas["DataFormatSettings"]["discriminator"]["mapping"])

    def all(self) -> Iterator[Variation]:
        """Yield each variation: the combinations, then each value and each field alone."""
        yield from self.combinations()
        for variation in self.whole():
            yield from self._single_fields(variation)

    def whole(self) -> Iterator[Variation]:
        """Yield one maximal spec of each type and source."""
        for kind in self.types:
            for source in SOURCES.get(kind, ("",)):
                choices = {"": kind} | ({"source": source} if source else {})
                spec = self._builder.build(choices, maximal=True)
                spec = settled(patched(spec, _FULLEST.get(kind, {})))
                yield Variation(" ".join(filter(None, (kind, source, "maximal"))), spec, choices)

    def combinations(self) -> Iterator[Variation]:
        """Yield each type with each source, format, mode and other alternative, minimal and maximal."""
        for kind in self.types:
            for source in SOURCES.get(kind, ("",)):
                for choices, maximal in itertools.product(self.formats_of(kind, source), (False, True)):
                    spec = self._builder.build(choices, maximal=maximal)
                    for combination in itertools.product(*(axis.items() for axis in _axes(kind, source, choices))):
                        made, names = spec, [*choices.values()]
                        for name, patch in combination:
                            made, names = patched(made, patch), [*names, name]
                        name = " ".join(filter(None, (*names, "maximal" if maximal else "minimal")))
                        yield Variation(name, settled(made), choices)

    def formats_of(self, kind: str, source: str) -> Iterator[dict[str, str]]:
        """Yield the choices of each format of a source, the format left out included."""
        choices = {"": kind} | ({"source": source} if source else {})
        yield choices
        if not source or source == "table":
            return
        for name in self.formats:
            if name in NOT_FOR[kind]:
                continue
            chosen = {**choices, "source.formatSettings": name}
            yield chosen
            for path in self._inner_paths(name):
                for inner in self._inner_values(path, name):
                    yield {**chosen, path: inner}

    def _inner_paths(self, name: str) -> Iterator[str]:
        _, schema = self._document.resolve(
            {"$ref": self._document.schemas["DataFormatSettings"]["discriminator"]["mapping"][name]}
        )
        for inner in schema["properties"]:
            if inner in INNER or inner == "parseSchemaProvider":
                yield f"source.formatSettings.{inner}"

    def _inner_values(self, path: str, name: str) -> Iterator[str]:
        if path.endswith("parseSchemaProvider"):
            yield from ("connection", "inline-protobuf" if name == "protobuf" else "inline-avro")
        else:
            yield from (inner for inner in self.formats if inner not in NOT_INNER)

    def _single_fields(self, whole: Variation) -> Iterator[Variation]:
        """Yield a maximal spec with one field changed: left out, null, or each value of its enum."""
        for node in nodes(self._document, self._builder.root, whole.spec):
            if node.path in ALWAYS or node.path.endswith("[]"):
                continue
            if not node.is_required:
                yield _changed(whole, f"without {node.path}", without(whole.spec, node.place))
            if node.is_nullable:
                yield _changed(whole, f"with {node.path} null", put(whole.spec, node.place, None))
            for value in node.enum if len(node.enum) > 1 else ():
                yield _changed(whole, f"with {node.path} {value}", put(whole.spec, node.place, value))


def _changed(whole: Variation, how: str, spec: Spec) -> Variation:
    return Variation(f"{whole.name} {how}", settled(spec), whole.choices)


def _axes(kind: str, source: str, choices: Mapping[str, str]) -> list[Mapping[str, Patch]]:
    """Return the alternatives of a spec: for each choice that it has, the names and the fields of its possibilities."""
    is_plain = len(choices) <= 2
    if kind == "batch" and source in ("s3", "azure"):
        return [NO_MODE | MODES, OBJECTS if is_plain else {"": {}}]
    if kind == "streaming":
        return [UPSERTS, READ_FROM] if is_plain else []
    return {"batch": [NO_MODE | MODES], "delete_data": [DELETIONS], "sql": [QUERIES]}.get(kind, [])


#: The alternative of which a maximal spec has the fields.
_FULLEST: Mapping[str, Patch] = {
    "batch": MODES["replace intervals"],
    "delete_data": DELETIONS["intervals"],
    "streaming": UPSERTS["upserts"],
}
