"""Check an answer of the local Polaris against the document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from conformance.deviations import UNDOCUMENTED_BODIES, UNDOCUMENTED_STATUSES
from conformance.document import PROJECT, SCHEMAS, Document

_FORMATS = FormatChecker(["uuid"])
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_URI = "urn:polaris:"
#: The shape of an error of a status that a call does not list.
_ERROR = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "target": {"type": "string"}},
}


@_FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    if not _TIMESTAMP.fullmatch(value):
        return False
    datetime.fromisoformat(value[:19])
    return True


class Answers:
    """The checks of all answers that the document describes.

    An undocumented field of an answer is a fault too: code that reads it would fail on the service.

    :param is_strict: whether to look for undocumented fields. The service echoes the unknown fields of a spec.
    """

    def __init__(self, document: Document, *, is_strict: bool = True) -> None:
        # A schema of its own URI is found without a walk through the document, which takes half of the time.
        schemas = _with_uris(document.strict() if is_strict else document.schemas)
        resources = {f"{_URI}{name}": DRAFT202012.create_resource(schema) for name, schema in schemas.items()}
        self._registry: Registry[Any] = Registry().with_resources(resources.items())
        self._routes = [
            (method, re.compile(_pattern(template)), template.removeprefix(PROJECT), operation["responses"])
            for method, template, operation in document.operations()
        ]
        self._validators: dict[str, Any] = {}

    def faults(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> list[str]:
        """Return what is wrong with an answer, nothing if it conforms.

        :param path: the path of the request, still quoted.
        :param headers: the headers of the answer, with names in lower case.
        """
        template, responses = self._responses_to(method, path)
        response = responses.get(str(status))
        if response is None:
            schema: dict[str, Any] | None = self._undocumented(f"{method} {template}", status)
            if schema is None:
                return [f"{status} is not documented for {method} {template or path}"]
        else:
            schema = response.get("content", {}).get("application/json", {}).get("schema")
            if status >= 400 and f"{method} {template}" in UNDOCUMENTED_BODIES:
                schema = _ERROR
        if schema is None:
            return ["a body, where none is documented"] if body else []
        found = [f"no {name} header" for name in (response or {}).get("headers", {}) if name.lower() not in headers]
        if headers.get("content-type", "").partition(";")[0] != "application/json":
            return [*found, f"the body is {headers.get('content-type')!r}, not application/json"]
        try:
            data = json.loads(body)
        except ValueError:
            return [*found, "the body is not JSON"]
        return [*found, *self._violations(schema, data)]

    def _undocumented(self, call: str, status: int) -> dict[str, Any] | None:
        """Return the schema of an answer that the document does not list; ``None`` if there may be no such answer."""
        if f"{call} {status}" in UNDOCUMENTED_STATUSES:
            return {"$ref": f"{SCHEMAS}SqlErrorResponse"} if " /query/sql" in call else _ERROR
        if f"* {status}" not in UNDOCUMENTED_STATUSES:
            return None
        # The error of an expired access token has only a message.
        return {**_ERROR, "required": ["message"]} if status == 401 else _ERROR

    def _responses_to(self, method: str, path: str) -> tuple[str | None, Mapping[str, Any]]:
        for its_method, pattern, template, responses in self._routes:
            if its_method == method and pattern.fullmatch(path):
                return template, responses
        return None, {}

    def _violations(self, schema: dict[str, Any], data: Any) -> Iterator[str]:
        key = json.dumps(schema)
        if key not in self._validators:
            self._validators[key] = _Validator(_with_uris(schema), registry=self._registry, format_checker=_FORMATS)
        for error in self._validators[key].iter_errors(data):
            yield f"{error.json_path}: {error.message[:200]}"


def _with_uris(schemas: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(schemas).replace(f'"{SCHEMAS}', f'"{_URI}'))


def _one_of(validator: Any, choices: list[Any], value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """Check a value against the one variant that its discriminator names, so that the error names the wrong field."""
    if value is None and {"type": "null"} in choices:
        return
    name, mapping = schema["discriminator"]["propertyName"], schema["discriminator"]["mapping"]
    chosen = value.get(name) if isinstance(value, dict) else None
    if isinstance(chosen, str) and chosen in mapping:
        yield from validator.descend(value, {"$ref": mapping[chosen]})
    else:
        yield ValidationError(f"{name} is {chosen!r}, none of {', '.join(mapping)}")


#: JSON Schema, with discriminators as in OpenAPI.
_Validator = validators.extend(Draft202012Validator, {"oneOf": _one_of})


def _pattern(template: str) -> str:
    """Return a regular expression for the paths of a template. The name of a file or table may contain slashes."""
    parts = re.split(r"(\{\w+\})", template)
    any_text = {"{name}": ".+", "{tableName}": ".+"}
    return "".join(any_text.get(part, "[^/]+") if part.startswith("{") else re.escape(part) for part in parts)
