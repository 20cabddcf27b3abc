"""Files that are staged in the local Polaris, and the tables that its jobs fill."""

from __future__ import annotations

import hashlib

import pytest

from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.local.http import files_api
from tests.local.conftest import caller_of, rows, spec_of


def test_a_file_from_its_upload_to_its_end(call):
    answer = call("POST", "files", files={"file": ("notes/über.csv.gz", b"abc")})
    assert answer.status_code == 201
    seen = answer.json()
    assert {**seen, "id": "", "uploadedOnDatetime": ""} == {
        "id": "",
        "name": "notes/über.csv.gz",
        "sizeBytes": 3,
        "dataFormat": "csv",
        "compressionFormat": "gz",
        "digest": {"algo": "md5", "hash": hashlib.md5(b"abc").hexdigest()},  # noqa: S324 - the service's own choice
        "uploadedBy": {"username": "local-polaris", "userId": "00000000-0000-4000-8000-000000000000"},
        "uploadedOnDatetime": "",
    }
    assert call("POST", "files", files={"file": ("notes/über.csv.gz", b"")}).status_code == 409
    assert call("GET", "files/notes%2F%C3%BCber.csv.gz").json() == seen
    listed = call("GET", "files?searchString=NOTES").json()
    assert (listed["files"], listed["totalCount"]) == ([seen], 1)
    assert listed["space"]["usedBytes"] >= 3
    assert call("DELETE", "files/notes/über.csv.gz").status_code == 204
    assert call("GET", "files/notes/über.csv.gz").status_code == 404


def test_files_are_sorted_and_paged(call):
    for name, size in (("sorted-b", 1), ("sorted-a", 20), ("sorted-c", 3)):
        call("POST", "files", files={"file": (name, b"x" * size)})

    def names(query):
        return [file["name"][-1] for file in call("GET", f"files?searchString=sorted-&{query}").json()["files"]]

    assert names("") == ["c", "a", "b"]
    assert names("sortColumn=name&sortOrder=ASC") == ["a", "b", "c"]
    assert names("sortColumn=size_bytes") == ["a", "c", "b"]
    assert names("paginationLimit=1&paginationOffset=1") == ["a"]
    assert call("GET", "files?sortColumn=x").status_code == 400


def test_what_the_query_says_of_a_file_stands_above_its_name(call):
    query = "dataFormat=csv&compressionFormat=gz"
    seen = call("POST", f"files?{query}", files={"file": ("said", b"")}).json()
    assert (seen["dataFormat"], seen["compressionFormat"]) == ("csv", "gz")
    assert call("POST", "files?compressionFormat=rar", files={"file": ("other", b"")}).status_code == 400


@pytest.mark.parametrize("name", ["../x", "a/../b", "..", ".", "", "a//b", "/etc/passwd", "a\x00b", "x" * 1025])
def test_a_file_name_that_a_url_cannot_end_with_is_refused(call, name):
    body = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\nx\r\n--b--\r\n'
    answer = call("POST", "files", data=body.encode(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 400
    assert answer.json()["code"] == "BadRequest"


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "file:///etc/passwd"])
def test_no_request_reads_a_file_that_was_not_uploaded(call, name):
    spec = spec_of("")
    spec["source"] = {**spec["source"], "type": "uploaded", "fileList": [name]}
    answer = call("POST", "jobs", json=spec)
    assert (answer.status_code, answer.json()["target"]) == (400, "source.fileList[0]")
    assert call("GET", f"files/{name}").status_code == 404


def test_there_is_room_for_so_much_only(call, monkeypatch):
    monkeypatch.setattr(files_api, "SPACE", 1_000_000)
    assert call("POST", "files", files={"file": ("large", b"x" * 900_000)}).status_code == 201
    assert call("POST", "files", files={"file": ("larger", b"x" * 200_000)}).status_code == 413
    call("DELETE", "files/large")


@pytest.mark.parametrize("name", ["large.json.bz2", "x.zst"])
def test_what_cannot_be_read_is_said_before(call, name):
    call("POST", "files", files={"file": (name, b"")})
    spec = spec_of("")
    spec["source"] = {**spec["source"], "type": "uploaded", "fileList": [name]}
    assert "plain and gz" in call("POST", "jobs", json=spec).json()["message"]


@pytest.fixture
def loads():
    """A local Polaris of its own, and a function that loads days into a table and returns the table after that."""
    with LocalPolaris() as polaris:
        call = caller_of(polaris)

        def load(*days, mode="append", wait_until, **changes):
            spec = spec_of(rows(*({"timestamp": day} for day in days)), ingestionMode=mode, **changes)
            job = call("POST", "jobs", json=spec).json()
            assert "id" in job, job
            over = ("completed", "failed")
            assert wait_until(lambda: call("GET", f"jobs/{job['id']}/status").json()["executionStatus"] in over)
            return call("GET", "tables/cities").json()

        yield polaris, call, load


def replacing(*intervals):
    return {"type": "table", "tableName": "cities", "intervals": list(intervals)}


def test_jobs_append_replace_and_delete(loads, wait_until):
    _, call, load = loads
    assert call("GET", "tables/cities").status_code == 404
    assert load("2026-11-01", "2026-11-01", "2026-11-02", wait_until=wait_until)["totalRows"] == 3
    table = load("2026-11-03", wait_until=wait_until)
    assert (table["totalRows"], table["segmentCount"], table["availability"]) == (4, 3, "available")
    one_day = replacing("2026-11-01T00:00:00Z/2026-11-02T00:00:00Z")
    assert load("2026-11-01", mode="replace", target=one_day, wait_until=wait_until)["totalRows"] == 3
    assert load("2026-12-01", mode="replace", replaceAll=True, wait_until=wait_until)["totalRows"] == 1
    for spec, left in (
        ({"type": "delete_data", "target": replacing("2026-11-01/2026-12-01")}, 1),
        ({"type": "delete_data", "target": replacing("2026-12-01/2026-12-02")}, 0),
        ({"type": "drop_table", "target": {"type": "table", "tableName": "cities"}}, None),
    ):
        job = call("POST", "jobs", json=spec).json()
        assert wait_until(lambda: call("GET", f"jobs/{job['id']}").json()["executionStatus"] == "completed")  # noqa: B023
        assert call("GET", "tables/cities").json().get("totalRows") == left


def test_a_job_that_fails_leaves_the_table_as_it_was(loads, wait_until):
    _, _, load = loads
    load("2026-11-01", wait_until=wait_until)
    assert load("2026-11-01", "soon", maxParseExceptions=0, wait_until=wait_until)["totalRows"] == 1


def test_rows_can_be_queried_a_little_later_than_their_job_is_over(wait_until):
    with LocalPolaris(available_after=0.3) as polaris:
        call = caller_of(polaris)
        polaris.add_table("cities")

        def table():
            seen = call("GET", "tables/cities").json()
            return seen["availability"], seen["totalRows"]

        assert table() == ("available", 0)
        call("POST", "jobs", json=spec_of(rows({"timestamp": "2026-11-01"})))
        assert wait_until(lambda: table() == ("unavailable", 0))
        assert wait_until(lambda: table() == ("available", 1))


def test_a_table_is_scripted(loads):
    polaris, call, _ = loads
    polaris.add_table("scripted", partitioningGranularity="hour")
    polaris.script_table("scripted", {"availability": "unavailable"}, {}, {"availability": "available", "totalRows": 9})
    looks = [call("GET", "tables/scripted").json() for _ in range(4)]
    assert [look["availability"] for look in looks] == ["unavailable", "unavailable", "available", "available"]
    polaris.set_table("scripted", availability="deleting")
    assert call("GET", "tables/scripted").json()["availability"] == "deleting"
    listed = call("GET", "tables?partitioningGranularity=hour").json()["values"]
    assert [table["name"] for table in listed] == ["scripted"]
    polaris.remove_table("scripted")
    assert call("GET", "tables").json() == {"values": []}
