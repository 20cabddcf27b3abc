"""A folder in the place of object stores: which files a source names, and loads from them."""

from __future__ import annotations

import gzip

import pytest

from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.local.engine.data.objects import ObjectFolder
from tests.support.local_calls import caller_of, status_of
from tests.support.specs import S3, rows

LINE = rows({"timestamp": "2026-11-01"}).encode()


@pytest.fixture
def root(tmp_path):
    """Return a folder with two buckets, beside a file that is in neither."""
    for name in ("lake/day=1/a.json", "lake/day=1/b.json", "lake/day=2/c.json", "lake/d.csv", "other/a.json"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(LINE)
    (tmp_path / "root" / "lake" / "day=1" / "empty.json").touch()
    (tmp_path / "secret.json").write_bytes(LINE)
    (tmp_path / "root" / "lake" / "link.json").symlink_to(tmp_path / "secret.json")
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ({"prefixes": ["day=1/"]}, ["day=1/a.json", "day=1/b.json"]),
        ({"prefixes": ["day=2", "d"]}, ["d.csv", "day=1/a.json", "day=1/b.json", "day=2/c.json"]),
        ({"prefixes": ["none"]}, []),
        ({"pattern": "day=*/*.json"}, ["day=1/a.json", "day=1/b.json", "day=2/c.json"]),
        ({"pattern": "*"}, ["d.csv"]),
        ({"objects": ["day=2/c.json", "d.csv"]}, ["day=2/c.json", "d.csv"]),
        ({"uris": ["s3://lake/d.csv"]}, ["d.csv"]),
    ],
)
def test_a_source_names_files_of_its_bucket(root, source, names):
    files = ObjectFolder(root).files_of({"type": "s3", "connectionName": "lake", **source})
    assert [file.path.relative_to(root / "lake").as_posix() for file in files] == names


@pytest.mark.parametrize(
    "source",
    [
        {"objects": ["none.json"]},
        {"objects": ["day=1"]},
        {"objects": ["../../secret.json"]},
        {"objects": ["link.json"]},
        {"uris": ["s3://none/a.json"]},
        {"uris": ["s3://../secret.json"]},
        {"connectionName": "../..", "prefixes": ["s"]},
    ],
)
def test_a_name_outside_of_the_folder_is_no_file(root, source):
    with pytest.raises(FileNotFoundError, match="is not in the folder"):
        ObjectFolder(root).files_of({"type": "s3", "connectionName": "lake", **source})


@pytest.fixture
def load(root, wait_until):
    """Yield a function that loads a source into the table cities, and returns the job and its counters."""
    with LocalPolaris(s3_root=root) as polaris:
        polaris.add_table("cities")
        call = caller_of(polaris)

        def load(**source):
            inputs = {name: S3["source"][name] for name in ("type", "connectionName", "inputSchema")}
            spec = {**S3, "source": {**inputs, **source}}
            job_id = call("POST", "jobs", json=spec).json()["id"]
            assert wait_until(lambda: status_of(call, job_id) in ("completed", "failed"))
            return call("GET", f"jobs/{job_id}").json(), call("GET", f"jobs/{job_id}/metrics").json()["totals"]

        yield load


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_a_job_loads_all_files_of_a_prefix(load, kind):
    job, totals = load(type=kind, prefixes=["day=1/"])
    assert (job["executionStatus"], totals["numRowsPersisted"]) == ("completed", 2)


def test_a_name_decides_on_format_and_compression(load, root):
    (root / "lake" / "e.csv.gz").write_bytes(gzip.compress(b"timestamp\n2026-11-01\n"))
    job, totals = load(uris=["s3://lake/e.csv.gz"])
    assert (job["health"], totals["numRowsPersisted"]) == ({"status": "ok"}, 1)


def test_a_file_that_is_not_there_fails_the_job(load):
    job, _ = load(objects=["none.json"])
    assert (job["executionStatus"], job["health"]["code"]) == ("failed", "cannot_parse_source")
    assert "lake/none.json is not in the folder of the object stores" in job["health"]["message"]


def test_without_a_folder_the_job_waits_for_a_test(own_polaris):
    _, call = own_polaris
    assert call("POST", "jobs", json=S3).json()["executionStatus"] == "pending"
