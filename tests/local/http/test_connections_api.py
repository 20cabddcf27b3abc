"""Push streaming connections are created, changed and deleted."""

from __future__ import annotations

import pytest


@pytest.fixture
def call(own_polaris):
    """Return a function that sends requests to a local Polaris of its own."""
    return own_polaris[1]


def push_streaming(name, **fields):
    return {"type": "push_streaming", "name": name, **fields}


def test_a_connection_is_created_read_changed_and_deleted(call):
    answer = call("POST", "connections", json=push_streaming("clicks", description="Clicks"))
    assert (answer.status_code, answer.headers["Location"][-19:]) == (201, "/connections/clicks")
    connection = answer.json()
    assert (connection["type"], connection["name"], connection["description"]) == ("push_streaming", "clicks", "Clicks")
    endpoint = connection["endpointUrl"]
    assert call("POST", endpoint[endpoint.index("/v1/") :], data="{}").status_code == 200
    assert call("GET", "connections/clicks").json() == connection
    assert call("GET", "connections").json() == {"values": [connection]}
    changed = call("PATCH", "connections/clicks", json={"type": "push_streaming", "description": "New"}).json()
    assert (changed["description"], changed["submittedOnTimestamp"]) == ("New", connection["submittedOnTimestamp"])
    assert call("POST", "connections", json=push_streaming("clicks")).status_code == 409
    assert (call("DELETE", "connections/clicks").status_code, call("GET", "connections").json()) == (
        200,
        {"values": []},
    )
    for method in ("GET", "PATCH", "DELETE"):
        assert call(method, "connections/clicks", json=push_streaming("x")).status_code == 404


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ([], ""),
        ({"name": "x"}, "type"),
        ({"type": "s3", "name": "x"}, "type"),
        ({"type": "other", "name": "x"}, "type"),
        (push_streaming(""), "name"),
        (push_streaming("a b"), "name"),
        (push_streaming("x" * 65), "name"),
        (push_streaming(7), "name"),
        (push_streaming("x", description=7), "description"),
    ],
)
def test_a_connection_that_is_invalid_is_a_400(call, body, target):
    answer = call("POST", "connections", json=body)
    assert (answer.status_code, answer.json().get("target", "")) == (400, target)


def test_a_connection_that_a_job_reads_from_cannot_be_deleted(call):
    call("POST", "connections", json=push_streaming("clicks"))
    spec = {
        "type": "streaming",
        "target": {"type": "table", "tableName": "cities"},
        "source": {"type": "connection", "connectionName": "clicks"},
    }
    job_id = call("POST", "jobs", json=spec).json()["id"]
    assert call("DELETE", "connections/clicks").json()["message"] == "A job reads from this connection"
    call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "canceled"})
    for _ in range(3):
        call("GET", f"jobs/{job_id}")
    assert call("DELETE", "connections/clicks").status_code == 200
