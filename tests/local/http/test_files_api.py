"""Files are uploaded, listed, read by jobs and deleted."""

from __future__ import annotations

import hashlib
import uuid

import pytest

from airflow_provider_polaris.local.http import files_api
from tests.support.local_calls import status_of
from tests.support.specs import spec_of, uploaded


def test_a_file_is_uploaded_listed_and_deleted(call):
    answer = call("POST", "files", files={"file": ("notes/über.csv.gz", b"abc")})
    assert answer.status_code == 201
    seen = answer.json()
    assert str(uuid.UUID(seen["id"])) == seen["id"]
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


def test_the_query_overrides_the_format_in_a_files_name(call):
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


def test_an_upload_beyond_the_space_of_the_project_is_a_413(call, monkeypatch):
    monkeypatch.setattr(files_api, "SPACE", 1_000_000)
    assert call("POST", "files", files={"file": ("large", b"x" * 900_000)}).status_code == 201
    assert call("POST", "files", files={"file": ("larger", b"x" * 200_000)}).status_code == 413
    call("DELETE", "files/large")


@pytest.mark.parametrize("name", ["large.json.bz2", "x.zst", "rows.orc"])
def test_a_job_whose_files_cannot_be_read_here_stays_pending(call, name):
    call("POST", "files", files={"file": (name, b"")})
    spec = uploaded(name)
    del spec["source"]["formatSettings"]
    job = call("POST", "jobs", json=spec).json()
    assert status_of(call, job["id"]) == "pending"
    assert "Waits for a test to change it" in call("GET", f"jobs/{job['id']}/logs").json()["logs"][0]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"no multipart at all",
        b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b--\r\n',
    ],
    ids=["no multipart", "no file"],
)
def test_an_invalid_upload_is_a_400(call, body):
    answer = call("POST", "files", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, answer.json()["code"]) == (400, "BadRequest")
