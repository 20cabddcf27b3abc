"""The local Polaris answers the calls on jobs as the service does."""

from __future__ import annotations

import pytest

from tests.support.specs import S3, SPEC, SQL, STREAMING, T, rows, spec_of


@pytest.mark.parametrize("spec", [SQL, STREAMING, S3], ids=lambda spec: spec["type"])
def test_a_job_that_nothing_runs_waits_and_can_be_canceled(hook, spec):
    job_id = hook.create_job(spec).id
    assert hook.get_job(job_id).execution_status == "pending"
    assert "Waits for a test to change it" in hook.get_job_logs(job_id)[0].message
    hook.cancel_job(job_id)
    assert [hook.get_job(job_id).execution_status for _ in range(2)] == ["pending", "canceled"]


def test_a_streaming_job_is_suspended_resumed_reset_and_idle(polaris, hook, call):
    job_id = hook.create_job(STREAMING).id
    polaris.set_status(job_id, "running")
    for wish in ("suspended", "running"):
        assert hook.update_job(job_id, wish).execution_status == wish
        assert hook.get_job(job_id).desired_execution_status == wish
    polaris.set_status(job_id, "idle")
    assert hook.get_job(job_id).execution_status == "idle"
    answer = call("POST", f"jobs/{job_id}/reset")
    assert (answer.status_code, answer.content) == (200, b"")
    assert call("GET", f"jobs/{job_id}/progress").status_code == 400
    hook.cancel_job(job_id)
    assert call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "running"}).status_code == 400
    batch = polaris.add_job(executionStatus="running")
    assert call("POST", f"jobs/{batch}/reset").json()["target"] == "jobId"


@pytest.mark.parametrize("wish", [["canceled"], "x", None, 1])
def test_an_invalid_desired_status_is_a_400(polaris, call, wish):
    job_id = polaris.add_job(executionStatus="running")
    for method, path in (("PUT", f"jobs/{job_id}"), ("POST", f"jobs/{job_id}/status")):
        answer = call(method, path, json={"desiredExecutionStatus": wish})
        assert (answer.status_code, answer.json()["target"]) == (400, "desiredExecutionStatus")


def test_a_new_job_has_a_location_and_its_spec(call):
    answer = call("POST", "jobs", json=SPEC)
    assert answer.status_code == 201
    assert answer.headers["Location"].endswith(f"/jobs/{answer.json()['id']}")
    assert answer.json()["spec"] == SPEC
    assert answer.json()["executionStatus"] == "pending"


def test_a_summary_lacks_the_large_fields(polaris, call):
    call("POST", "jobs", json={**SPEC, "source": {**SPEC["source"], "data": ""}})
    for row in call("GET", "jobs").json()["values"]:
        assert not {"spec", "mappings", "ingestionMode"} & set(row)
        assert not {"inputSchema", "formatSettings"} & set(row.get("source", ()))
        assert {"executionStatus", "desiredExecutionStatus", "health", "target", "type", "createdTimestamp"} <= set(row)


def test_the_list_is_filtered_sorted_and_paged(polaris, hook, call):
    names = [f"list-{number}" for number in range(7)]
    for number, name in enumerate(names):
        polaris.add_table(name)
        polaris.add_job(
            target={"type": "table", "tableName": name},
            executionStatus="running" if number % 2 else "completed",
            health={"status": "warn", "code": "multiple"} if number == 2 else {"status": "ok"},
            type="streaming" if number == 3 else "batch",
            source={"type": "s3", "connectionName": f"lake-{number}"},
        )

    def tables(query):
        answer = call("GET", f"jobs?searchString=list-&sortColumn=target_table_name&sortOrder=ASC&{query}").json()
        return [job["target"]["tableName"] for job in answer["values"]], answer["moreResultsAvailable"]

    assert tables("") == (names, False)
    assert tables("paginationLimit=3") == (names[:3], True)
    assert tables("paginationLimit=3&paginationOffset=6") == (names[6:], False)
    assert tables("paginationLimit=3&paginationOffset=4") == (names[4:], False)
    assert tables("executionStatus=running")[0] == names[1::2]
    assert tables("executionStatus=running&executionStatus=completed")[0] == names
    assert tables("executionStatus=completed&healthStatus=warn")[0] == [names[2]]
    assert tables("type=streaming")[0] == [names[3]]
    assert tables("connectionName=lake-4&connectionName=lake-5")[0] == names[4:6]
    assert tables("targetTableName=list-6")[0] == [names[6]]
    table_id = call("GET", "tables/list-5").json()["id"]
    assert tables(f"targetTableId={table_id}")[0] == [names[5]]
    assert tables("targetTableId=00000000-0000-4000-8000-000000000000")[0] == []


@pytest.mark.parametrize(
    "query",
    [
        "executionStatus=running&executionStatus=done",
        "healthStatus=warning",
        "type=Batch",
        "connectionName=",
        f"connectionName={65 * 'x'}",
        f"targetTableName={256 * 'x'}",
        "targetTableId=none",
        "paginationLimit=1001",
    ],
)
def test_an_invalid_filter_of_the_list_is_a_400(call, query):
    answer = call("GET", f"jobs?{query}")
    assert (answer.status_code, answer.json()["target"]) == (400, query.partition("=")[0])


def test_a_job_that_is_over_cannot_be_updated(polaris, call):
    for body in (polaris.add_job(executionStatus="completed"), polaris.add_job(type="drop_table")):
        assert call("PUT", f"jobs/{body}", json={"desiredExecutionStatus": "canceled"}).status_code == 400
    running = polaris.add_job(executionStatus="running")
    assert call("PUT", f"jobs/{running}", json={"desiredExecutionStatus": "suspended"}).status_code == 400


def test_a_summary_shows_only_the_head_of_inline_data(own_polaris):
    _, call = own_polaris
    call("POST", "jobs", json=spec_of(rows(*[{"timestamp": T}] * 1000)))
    (job,) = call("GET", "jobs").json()["values"]
    assert len(job["source"]["data"]) == 1000
