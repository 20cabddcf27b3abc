"""Files of parquet: their values as Druid has them, and files that are none."""

from __future__ import annotations

import duckdb
import pytest

from airflow_provider_polaris.local.engine.data import parquet
from tests.support.local_calls import status_of
from tests.support.specs import SPEC

TYPES = {"at": "long", "day": "long", "city": "string", "n": "long", "price": "double", "tags": "stringArray",
         "more": "json", "raw": "string"}  # fmt: skip
ROW = """
    SELECT TIMESTAMP '2026-11-01 10:00:00.5' AS at, DATE '2026-11-02' AS day, 'Bern' AS city, 7 AS n,
    CAST(2.5 AS DECIMAL(5, 2)) AS price, ['a', 'b'] AS tags, {'k': 1} AS more, CAST('ab' AS BLOB) AS raw
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes the rows of a query to a parquet file, and returns its bytes."""

    def write(query):
        path = tmp_path / "rows.parquet"
        duckdb.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
        return path.read_bytes()

    return write


@pytest.fixture
def load(own_polaris, wait_until):
    """Return a function that loads a file into the table cities, and returns the job and the requests' function."""
    polaris, call = own_polaris

    def load(data, types=TYPES, rows_per_second=None, **settings):
        polaris.rows_per_second = rows_per_second
        call("POST", "files", files={"file": ("rows.parquet", data)})
        source = {
            "type": "uploaded",
            "fileList": ["rows.parquet"],
            "formatSettings": {"format": "parquet", **settings},
            "inputSchema": [{"name": name, "dataType": kind} for name, kind in types.items()],
        }
        time = {"columnName": "__time", "expression": 'MILLIS_TO_TIMESTAMP("at")'}
        mappings = [time, *({"columnName": name, "expression": '"' + name.replace('"', '""') + '"'} for name in types)]
        job_id = call("POST", "jobs", json={**SPEC, "source": source, "mappings": mappings}).json()["id"]
        assert wait_until(lambda: status_of(call, job_id) in ("completed", "failed"))
        return call("GET", f"jobs/{job_id}").json(), call

    return load


@pytest.mark.parametrize(("settings", "raw"), [({}, "YWI="), ({"binaryAsString": True}, "ab")])
def test_each_value_is_that_of_druid(write, load, settings, raw):
    job, call = load(write(ROW), **settings)
    assert (job["executionStatus"], job["health"]) == ("completed", {"status": "ok"})
    (row,) = call("POST", "query/sql", json={"query": "SELECT * FROM cities"}).json()
    assert row == {
        "__time": "2026-11-01T10:00:00.500Z", "at": 1793527200500, "day": 1793577600000, "city": "Bern", "n": 7,
        "price": 2.5, "tags": '["a","b"]', "more": '{"k":1}', "raw": raw,
    }  # fmt: skip


def test_a_large_file_is_read_in_parts(write, load):
    data = write("SELECT make_timestamp(1793527200000000 + range * 1000) AS at FROM range(5001)")
    job, call = load(data, types={"at": "long"})
    assert call("GET", f"jobs/{job['id']}/metrics").json()["totals"]["numRowsPersisted"] == 5001
    assert call("GET", "tables/cities").json()["totalRows"] == 5001


def test_a_column_that_the_file_lacks_is_null(write, load):
    job, call = load(write("SELECT TIMESTAMP '2026-11-01' AS at"), types={"at": "long", "other": "long"})
    assert job["health"] == {"status": "ok"}
    assert call("POST", "query/sql", json={"query": "SELECT other FROM cities"}).json() == [{"other": None}]


def test_the_speed_of_a_job_applies(write, load):
    job, _ = load(
        write("SELECT TIMESTAMP '2026-11-01' AS at FROM range(20)"), types={"at": "long"}, rows_per_second=100
    )
    assert job["executionStatus"] == "completed"


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1 and something else PAR1", b"{}"])
def test_a_file_that_is_no_parquet_fails_the_job(load, data):
    job, _ = load(data)
    assert (job["executionStatus"], job["health"]["code"]) == ("failed", "cannot_parse_source")


def test_a_hostile_name_of_a_column_is_a_name(write, load):
    name = "x\" FROM read_blob('/etc/hostname') --"
    hostile = write("SELECT TIMESTAMP '2026-11-01' AS at, 5 AS \"" + name.replace('"', '""') + '"')
    job, call = load(hostile, types={"at": "long", name: "long"})
    assert job["health"] == {"status": "ok"}
    assert call("POST", "query/sql", json={"query": "SELECT * FROM cities"}).json()[0][name] == 5


def test_the_database_that_reads_a_file_reaches_no_other_file(write, tmp_path, monkeypatch):
    write(ROW)
    (tmp_path / "other").write_text("secret")
    other = f"(SELECT content FROM read_blob('{tmp_path / 'other'}'))"  # noqa: S608 - an attack of the test
    monkeypatch.setattr(parquet, "_value", lambda *_: other)
    with pytest.raises(parquet.ParquetFault, match="Permission Error"):
        list(parquet.lines_of_parquet(tmp_path / "rows.parquet", {}, parquet.Counters()))
