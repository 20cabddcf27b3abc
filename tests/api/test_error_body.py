"""Error bodies: the code and the messages of each shape that the service documents, and no code for a gateway's."""

from __future__ import annotations

import json

import pytest

from airflow_provider_polaris.api.error_body import error_of

SQL = {
    "error": "druidException",
    "errorCode": "invalidInput",
    "persona": "USER",
    "category": "INVALID_INPUT",
    "errorMessage": "no such column",
    "context": {"line": "1"},
}
#: The body, the code and the text.
BODIES = {
    "flat": ({"code": "NotFound", "message": "no job"}, "NotFound", "NotFound, no job"),
    "a target": ({"code": "Bad", "message": "no", "target": "type"}, "Bad", "Bad, no (field: type)"),
    "details": (
        {"code": "Bad", "message": "two", "details": [{"code": "A", "message": "a"}, {"code": "B", "message": "b"}]},
        "Bad",
        "Bad, two; A, a; B, b",
    ),
    "an inner error": ({"code": "Bad", "message": "no", "innererror": {"code": "I"}}, "Bad", "Bad, no; I"),
    "a message that is null": ({"code": "Bad", "message": None}, "Bad", "Bad"),
    "a numeric code": ({"code": 404, "message": "no job"}, "404", "404, no job"),
    "nested": ({"error": {"code": "NotFound", "message": "no table"}}, "NotFound", "NotFound, no table"),
    "a nested numeric code": ({"error": {"code": 404, "message": "no table"}}, "404", "404, no table"),
    "nested details": (
        {"error": {"code": "Bad", "message": "no", "details": [{"code": "A", "message": "a", "target": "t"}]}},
        "Bad",
        "Bad, no; A, a (field: t)",
    ),
    "SQL": (SQL, "invalidInput", "invalidInput, no such column"),
    "SQL, nested": ({"taskId": "q", "state": "FAILED", "error": SQL}, "invalidInput", "invalidInput, no such column"),
    "SQL without a code": (
        {"error": "Plan validation failed", "errorMessage": "no such column"},
        "Plan validation failed",
        "Plan validation failed, no such column",
    ),
    "flat beside a nested one": ({"code": "A", "message": "a", "error": {"code": "B"}}, "A", "A, a"),
    # What gateways and other services send.
    "a message alone": ({"message": "Forbidden"}, None, "Forbidden"),
    "an expired token": ({"message": 'Token claims invalid: ["exp"]'}, None, 'Token claims invalid: ["exp"]'),
    "an error that is text": ({"timestamp": 1, "status": 404, "error": "Not Found", "path": "/v1"}, None, ""),
    "a nested message alone": ({"error": {"message": "no route"}}, None, "no route"),
    "a code that is no code": ({"code": True, "message": "x"}, None, "True, x"),
    "an empty code": ({"code": "", "message": "x"}, None, "x"),
    "a code that is an object": ({"code": {"a": 1}}, None, "{'a': 1}"),
    "an empty object": ({}, None, ""),
    "a list": ([{"code": "A"}], None, ""),
    "null": (None, None, ""),
}


@pytest.mark.parametrize("name", BODIES)
def test_an_error_body_has_the_code_and_the_messages_of_its_shape(name):
    body, code, text = BODIES[name]
    assert error_of(json.dumps(body).encode()) == (code, text)


@pytest.mark.parametrize("content", [b"", b"<h1>403</h1>", b"\xff\xfe", b"[" * 100_000, b'{"code": "A"', b"1" * 5000])
def test_a_body_that_is_not_json_has_no_code(content):
    assert error_of(content) == (None, "")


def test_a_body_that_nests_deeply_is_read_to_a_depth():
    body: dict = {"code": "last"}
    for depth in range(300):
        body = {"code": f"C{depth}", "innererror": body}
    assert error_of(json.dumps(body).encode()) == ("C299", "C299; C298; C297; C296")
