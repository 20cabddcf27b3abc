"""The local Polaris's own paths plan faults and behaviours, and change jobs and tables."""

from __future__ import annotations

import pytest

from tests.support.specs import SQL


@pytest.mark.parametrize(
    ("path", "asked", "target"),
    [
        ("faults", {}, None),
        ("faults", {"status": "503"}, "status"),
        ("faults", {"status": 42}, "status"),
        ("faults", {"times": True, "status": 503}, "times"),
        ("faults", {"cut": "sideways"}, None),
        ("faults", {"match": "[", "status": 503}, None),
        ("faults", {"match": "(a+)+ZZ$", "status": 503}, "match"),
        ("faults", {"match": "a*b*c*d", "status": 503}, "match"),
        ("faults", {"match": "a{99999999999999}", "status": 503}, None),
        ("faults", {"match": 7, "status": 503}, "match"),
        ("faults", {"retry_after": "1\r\nX: y"}, "retry_after"),
        ("faults", {"retry_after": "€"}, "retry_after"),
        ("faults", {"retry_after": [1]}, "retry_after"),
        ("faults", {"times": 0, "status": 503}, None),
        ("faults", {"delay": -1}, None),
        ("faults", {"typo": 1}, "typo"),
        ("faults", [], None),
        ("behaviours", {}, None),
        ("behaviours", {"kind": "explode"}, None),
        ("behaviours", {"kind": "fail", "at": 80}, None),
        ("behaviours", {"kind": "fail", "metrics": 1}, "metrics"),
        ("behaviours", {"kind": "fail", "metrics": {"numRowsProcessed": "5"}}, None),
        ("behaviours", {"kind": "fail", "health": "abc"}, "health"),
        ("behaviours", {"kind": "fail", "table": ["t"]}, "table"),
        ("behaviours", {"kind": "fail", "times": 0}, None),
    ],
)
def test_an_invalid_fault_or_behaviour_is_a_400(own_polaris, path, asked, target):
    _, call = own_polaris
    answer = call("POST", f"/local/{path}", json=asked)
    assert answer.status_code == 400
    assert answer.json().get("target") == target
    assert call("GET", f"/local/{path}").json() == {"values": []}


def test_faults_and_behaviours_are_listed_and_removed(own_polaris):
    _, call = own_polaris
    call("POST", "/local/faults", json={"times": 9, "status": 503, "retry_after": 1, "body": "no"})
    call("POST", "/local/behaviours", json={"kind": "hang"})
    (fault,) = call("GET", "/local/faults").json()["values"]
    assert (fault["times"], fault["status"], fault["body"]) == (9, 503, "no")
    (behaviour,) = call("GET", "/local/behaviours").json()["values"]
    assert behaviour["kind"] == "hang"
    assert call("GET", "jobs").status_code == 503
    for path in ("faults", "behaviours"):
        assert call("DELETE", f"/local/{path}").status_code == 204
        assert call("GET", f"/local/{path}").json() == {"values": []}
    assert call("GET", "jobs").status_code == 200


def test_a_job_and_a_table_are_changed_over_http(own_polaris):
    _, call = own_polaris
    job_id = call("POST", "jobs", json=SQL).json()["id"]
    changes = {"executionStatus": "completed", "metrics": {"numRowsProcessed": 3}, "logs": [{"message": "done"}]}
    assert call("PATCH", f"/local/jobs/{job_id}", json=changes).json()["executionStatus"] == "completed"
    assert call("GET", f"jobs/{job_id}/metrics").json()["totals"] == {"numRowsProcessed": 3}
    assert call("GET", f"jobs/{job_id}/logs").json() == {"logs": [{"message": "done"}]}
    assert call("PATCH", "/local/tables/by_sql", json={"availability": "deleting"}).json()["totalRows"] == 3
    assert call("GET", "tables/by_sql").json()["availability"] == "deleting"
    assert call("PATCH", "/local/jobs/none", json={}).status_code == 404
    assert call("PATCH", "/local/tables/none", json={}).status_code == 404
    for wrong in ({"metrics": 1}, {"metrics": {"numRowsProcessed": "5"}}, {"metrics": {}, "logs": 5}):
        assert call("PATCH", f"/local/jobs/{job_id}", json=wrong).status_code == 400
    assert call("GET", f"jobs/{job_id}/metrics").json()["totals"] == {"numRowsProcessed": 3}


def test_the_local_paths_need_the_key_and_are_not_recorded(own_polaris):
    polaris, call = own_polaris
    polaris.fail_next(1)
    for path in ("/local/state", "/local/requests", "/local/faults"):
        assert call("GET", path).status_code == 200
        assert call("GET", path, headers={"Authorization": ""}).status_code == 401
    assert polaris.requests == []
    call("GET", "jobs?x=1")
    (seen,) = call("GET", "/local/requests").json()["values"]
    assert (seen["method"], seen["query"], seen["status"]) == ("GET", "x=1", 503)
