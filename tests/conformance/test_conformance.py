"""The comparison finds what it is for: wrong answers, and every violation of a request."""

from __future__ import annotations

import json

import pytest

from airflow_provider_polaris.local import LocalPolaris, server
from conformance.answers import Answers
from conformance.deviations import TAKEN, UNDOCUMENTED_BODIES, UNDOCUMENTED_STATUSES
from conformance.document import Document, resolved
from conformance.meaning import settled
from conformance.places import nodes, put, without
from conformance.report import Report
from conformance.specs import Variation
from conformance.violations import violations_of
from tests.support.checked_answers import CheckedAnswers
from tests.support.local_calls import caller_of

REF = "#/components/schemas/"
JOB = {"content": {"application/json": {"schema": {"$ref": f"{REF}Job"}}}}
CALLS = {"/v1/projects/{projectId}/jobs": ("get", "post"), "/v1/projects/{projectId}/jobs/{jobId}": ("get",)}


@pytest.fixture
def document():
    """A document in the style of the vendor's: a base with a discriminator, whose variants repeat it in ``allOf``."""
    schemas = {
        "Job": {
            "type": "object",
            "required": ["kind"],
            "properties": {
                "kind": {"type": "string"},
                "at": {"type": "string", "format": "date-time", "nullable": True},
            },
            "discriminator": {"propertyName": "kind", "mapping": {"load": f"{REF}Load", "drop": f"{REF}Drop"}},
        },
        "Load": {
            "allOf": [
                {"$ref": f"{REF}Job"},
                {
                    "type": "object",
                    "required": ["rows"],
                    "properties": {
                        "rows": {"type": "integer", "minimum": 0},
                        "mode": {"$ref": f"{REF}Mode"},
                        "names": {"type": "array", "items": {"type": "string", "maxLength": 3}},
                        "next": {"allOf": [{"$ref": f"{REF}Job"}], "description": "A job in a job."},
                        "all": {"type": "boolean"},
                    },
                },
            ]
        },
        "Drop": {"allOf": [{"$ref": f"{REF}Job"}]},
        "Mode": {"type": "string", "enum": ["append", "replace"], "description": "How."},
        "Unused": {"type": "object"},
    }
    body = {"required": True, **JOB}
    answers = {"200": JOB, "201": {**JOB, "headers": {"Location": {"schema": {"type": "string"}}}}, "204": {}}
    jobs = {"get": {"responses": {"200": JOB}}, "post": {"requestBody": body, "responses": answers}}
    paths = dict(zip(CALLS, (jobs, {"get": {"responses": {"200": JOB}}}), strict=True))
    return Document(resolved({"paths": paths, "components": {"schemas": schemas}}, CALLS))


def test_a_base_becomes_a_choice_of_variants_that_have_all_fields(document):
    assert set(document.schemas) == {"Job", "Load", "Drop", "Mode"}
    assert [choice["$ref"] for choice in document.schemas["Job"]["oneOf"]] == [f"{REF}Load", f"{REF}Drop"]
    load = document.schemas["Load"]
    assert load["required"] == ["kind", "rows"]
    assert load["properties"]["kind"] == {"type": "string", "enum": ["load"]}
    assert load["properties"]["at"] == {"type": ["string", "null"], "format": "date-time"}
    assert load["properties"]["next"] == {"$ref": f"{REF}Job"}


LOAD = {"kind": "load", "rows": 1}


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (200, LOAD, None),
        (200, {"kind": "drop", "at": None}, None),
        (200, {"kind": "load", "rows": 1, "next": {"kind": "load"}}, "$.next: 'rows' is a required property"),
        (200, {"kind": "load", "rows": -1}, "$.rows: -1 is less than the minimum of 0"),
        (200, {"kind": "copy"}, "$: kind is 'copy', none of load, drop"),
        (200, {**LOAD, "at": "2026-11-01"}, "$.at: '2026-11-01' is not a 'date-time'"),
        (200, {**LOAD, "at": "2026-11-31T00:00:00Z"}, "$.at: '2026-11-31T00:00:00Z' is not a 'date-time'"),
        (200, {**LOAD, "at": "2026-11-01T00:00:00.123456789Z"}, None),
        (200, {**LOAD, "size": 1}, "$: Additional properties are not allowed ('size' was unexpected)"),
        (201, LOAD, "no Location header"),
        (204, LOAD, "a body, where none is documented"),
        (302, LOAD, "302 is not documented for POST /jobs"),
        (401, {"message": "expired"}, None),
        (405, {"message": "no code"}, "$: 'code' is a required property"),
    ],
)
def test_an_answer_is_checked_against_the_variant_that_it_names(document, status, body, fault):
    data, headers = json.dumps(body).encode(), {"content-type": "application/json"}
    found = Answers(document).faults("POST", "/v1/projects/p/jobs", status, headers, data)
    assert found == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("content_type", "body", "fault"),
    [
        ("text/html", b"{}", "the body is 'text/html', not application/json"),
        ("application/json", b"{", "the body is not JSON"),
    ],
)
def test_an_answer_that_is_no_json_is_a_fault(document, content_type, body, fault):
    found = Answers(document).faults("GET", "/v1/projects/p/jobs/1", 200, {"content-type": content_type}, body)
    assert found == [fault]


def test_undocumented_fields_are_allowed_where_a_spec_is_echoed(document):
    body = json.dumps({**LOAD, "size": 1}).encode()
    answers = Answers(document, is_strict=False)
    assert answers.faults("GET", "/v1/projects/p/jobs", 200, {"content-type": "application/json"}, body) == []


def test_every_violation_by_one_field_is_found(document):
    spec = {
        **LOAD,
        "mode": "append",
        "names": ["a"],
        "at": "2026-11-01T00:00:00Z",
        "all": True,
        "next": {"kind": "drop"},
    }
    found = [violation.key for violation in violations_of(document, "Job", Variation("load", spec))]
    assert len(found) == len(set(found))
    assert {
        "Load: a list", "Load.kind: missing", "Load.kind: another case", "Load.rows: missing", "Load.rows: null",
        "Load.rows: below the minimum", "Load.rows: a text", "Load.rows: a fraction", "Load.rows: a boolean",
        "Load.mode: an unknown value", "Load.mode: a space after the value", "Load.mode: an object",
        "Load.names: a number", "Load.names[]: too long", "Load.names[]: a number", "Load.at: a number",
        "Load.all: the text false", "Load.all: a number", "Load.next: null", "Drop.kind: an unknown value",
    } <= set(found)  # fmt: skip
    assert not {"Load.at: null", "Load.at: missing", "Load.mode: missing"} & set(found)


def test_every_violation_violates_the_schema(document):
    spec = {**LOAD, "mode": "append", "names": ["a"], "all": True}
    answers, headers = Answers(document), {"content-type": "application/json"}
    for violation in violations_of(document, "Job", Variation("load", spec)):
        body = json.dumps(violation.spec).encode()
        assert answers.faults("GET", "/v1/projects/p/jobs", 200, headers, body), violation.key


def test_a_value_is_changed_at_its_place_only(document):
    spec = {**LOAD, "names": ["a"], "next": {"kind": "drop"}}
    places = {node.path: node.place for node in nodes(document, {"$ref": f"{REF}Job"}, spec)}
    assert places == {
        "": (), "kind": ("kind",), "rows": ("rows",), "names": ("names",), "names[]": ("names", 0), "next": ("next",),
        "next.kind": ("next", "kind"),
    }  # fmt: skip
    assert put(spec, places["names[]"], 7) == {**spec, "names": [7]}
    assert without(spec, places["next.kind"]) == {**spec, "next": {}}
    assert spec["names"] == ["a"]
    assert [node.path for node in nodes(document, {"anyOf": [{"$ref": f"{REF}Job"}, {"type": "null"}]}, None)] == [""]


TARGET = {"type": "table", "tableName": "t"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "batch", "replaceAll": True}, {"type": "batch"}),
        (
            {"type": "batch", "ingestionMode": "replace"},
            {"type": "batch", "ingestionMode": "replace", "replaceAll": True},
        ),
        ({"type": "delete_data"}, {"type": "delete_data", "deleteAll": True}),
    ],
)
def test_a_settled_spec_has_no_fields_that_contradict_each_other(spec, expected):
    assert settled({**spec, "target": TARGET}) == {**expected, "target": TARGET}


def test_the_check_of_the_tests_finds_a_wrong_answer(document, monkeypatch):
    checks, shell = CheckedAnswers(document), server.Shell
    monkeypatch.setattr(server, "Shell", lambda app, *rest: shell(checks.around(app), *rest))
    with LocalPolaris() as polaris:
        polaris.fail_next(1)
        caller_of(polaris)("GET", "jobs")
        assert checks.faults() == []  # planned faults are no answers of the API
        caller_of(polaris)("GET", "jobs")
    assert [fault.partition(": ")[2] for fault in checks.faults()] == ["$: kind is None, none of load, drop"]


def test_at_most_ten_violations_are_accepted_and_each_has_a_reason():
    assert len(TAKEN) <= 10
    assert all(reason.endswith(".") for reason in {**TAKEN, **UNDOCUMENTED_BODIES, **UNDOCUMENTED_STATUSES}.values())


def test_a_failure_is_printed_below_the_table_and_fails_the_command(capsys):
    good = Report()
    good.row("jobs", "3 of 3")
    good.fail("Refused", [])
    assert good.end() == 0
    good.fail("Refused", [f"spec {number}" for number in range(42)])
    assert good.end() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["0", "s", "jobs", "3", "of", "3"]
    assert (lines[2], lines[3], lines[-1]) == ("Refused: 42", "  spec 0", "  and 2 more")
