"""A job reads rows one by one, and counts those that are processed, have a warning or are skipped."""

from __future__ import annotations

import gzip
import io
import json

import pytest

from airflow_provider_polaris.local.engine.data import rows as rows_module
from airflow_provider_polaris.local.engine.data.rows import Counters, lines_of
from tests.support.local_calls import status_of
from tests.support.specs import SPEC, T, rows, spec_of, uploaded


@pytest.fixture
def older_counters(polaris, monkeypatch):
    """Make jobs report rows with a warning."""
    monkeypatch.setattr(polaris, "counters", "older")


@pytest.mark.usefixtures("older_counters")
@pytest.mark.parametrize(
    ("row", "counter"),
    [
        ({"timestamp": T}, "processed"),
        ({"timestamp": T, "count": 3, "amount": 1.5}, "processed"),
        ({"timestamp": T, "count": None}, "processed"),
        ({"timestamp": T, "count": "3"}, "processed"),
        ({"timestamp": T, "count": ""}, "processed"),
        ({"timestamp": "2026-11-01T00:00:00.123456789Z"}, "processed"),
        ({"timestamp": "2026-11-01"}, "processed"),
        ({"timestamp": T, "count": "N/A"}, "warned"),
        ({"timestamp": T, "amount": "12,50"}, "warned"),
        ({"timestamp": T, "count": True}, "warned"),
        ({"timestamp": T, "count": [1]}, "warned"),
        ({"timestamp": T, "count": "N/A", "amount": "N/A"}, "warned"),
        ([1], "skipped"),
        ("null", "skipped"),
        ("{", "skipped"),
        (f'{{"timestamp": "{T}", "count": NaN}}', "skipped"),
        (f'{{"timestamp": "{T}", "count": 3,}}', "skipped"),
        (f'{{"timestamp": "{T}", "text": "NaN, {{,}} inf"}}', "processed"),
        (f'{{"timestamp": "{T}", "count": 3.7}}', "processed"),
        (f'{{"timestamp": "{T}", "count": "3.0"}}', "processed"),
        (f'{{"timestamp": "{T}", "count": "9223372036854775807.0"}}', "processed"),
        (f'{{"timestamp": "{T}", "count": "3.7"}}', "warned"),
        (f'{{"timestamp": "{T}", "count": "1_000"}}', "warned"),
        (f'{{"timestamp": "{T}", "count": 12345678901234567890}}', "warned"),
        (f'{{"timestamp": "{T}", "amount": "nan"}}', "warned"),
        (f'{{"timestamp": "\\ud800{T}"}}', "skipped"),
        ("<html>", "skipped"),
        ("[" * 50_000, "skipped"),
        ("", "nothing"),
        ("   ", "nothing"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_each_row_is_processed_skipped_or_has_a_warning(ingest, row, counter):
    job, metrics = ingest(spec_of(rows({"timestamp": T}, row)))
    assert job.execution_status == "completed"
    assert metrics.rows_processed == 1 + (counter == "processed")
    assert metrics.rows_processed_with_warning == (counter == "warned")
    assert metrics.rows_skipped_by_error == (counter == "skipped")
    good = counter in {"processed", "nothing"}
    assert (job.health.status, job.health.code) == (("ok", None) if good else ("warn", "invalid_rows_found"))


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"timestamp": None},
        {"timestamp": ""},
        {"timestamp": "yesterday"},
        {"timestamp": "12:00"},
        {"timestamp": 1},
        {"timestamp": "x" * 5000},
    ],
    ids=lambda row: repr(row)[:30],
)
def test_a_row_without_a_valid_timestamp_fails_the_job(ingest, hook, row):
    job, _ = ingest(spec_of(rows({"timestamp": T}, "{", row)))
    assert (job.execution_status, job.health.status, job.health.code) == ("failed", "error", "null_timestamp")
    assert job.health.message.startswith("Row 3 has no valid timestamp: 'timestamp' is ")
    assert len(job.health.message) < 200
    assert [entry.message for entry in hook.get_job_logs(job.id)] == [job.health.message]


def test_a_job_without_rows_has_a_warning(ingest):
    job, metrics = ingest(spec_of(""))
    assert (job.execution_status, job.health.status, job.health.code) == ("completed", "warn", "no_rows_found")
    assert metrics.rows_processed == 0


@pytest.mark.parametrize(("most", "status"), [(1, "failed"), (2, "completed")])
def test_a_job_fails_after_more_than_max_parse_exceptions(ingest, hook, most, status):
    job, metrics = ingest(spec_of(rows("{", "{", {"timestamp": T}), maxParseExceptions=most))
    assert job.execution_status == status
    assert metrics.rows_skipped_by_error == 2
    if status == "failed":
        assert (job.health.status, job.health.code) == ("error", "cannot_parse_source")
        assert "maxParseExceptions is 1" in job.health.message
        assert [entry.message for entry in hook.get_job_logs(job.id)] == [job.health.message]


LOSSY = rows({"timestamp": T}, {"timestamp": T, "count": "N/A"}, "{")
AGGREGATING = [*SPEC["mappings"], {"columnName": "__count", "expression": "COUNT(*)", "isAggregation": True}]


def test_a_job_reports_the_counters_of_the_newer_documentation(own_polaris, wait_until):
    polaris, call = own_polaris

    def totals(**changes):
        job_id = call("POST", "jobs", json=spec_of(LOSSY, **changes)).json()["id"]
        assert wait_until(lambda: status_of(call, job_id) == "completed")
        return call("GET", f"jobs/{job_id}/metrics").json()["totals"]

    newer = {"numRowsProcessed": 1, "numRowsPersisted": 2, "numRowsSkippedByError": 1}
    assert totals() == newer
    assert totals(mappings=AGGREGATING) == {**newer, "numRowsPersisted": 1}, "both rows have the same time"
    assert totals(filterExpression='"count" > 1') == {**newer, "numRowsProcessed": 0, "numRowsPersisted": 0}
    polaris.counters = "older"
    assert totals() == {
        "numRowsProcessed": 1,
        "numRowsProcessedWithWarning": 1,
        "numRowsSkippedByFilter": 0,
        "numRowsSkippedByError": 1,
    }


def test_counters_of_no_edition_are_an_error(own_polaris):
    with pytest.raises(ValueError, match="newer or older"):
        own_polaris[0].counters = "all"


@pytest.mark.parametrize(
    ("changes", "row", "code"),
    [
        ({}, {"city": "a\0b"}, "invalid_null_byte"),
        ({}, {"unmapped": "a\0b"}, None),
        ({}, {"city": ["a", "b"]}, None),
        ({"mappings": AGGREGATING}, {"city": ["a", "b"]}, "cannot_parse_multi_value_dimension"),
        ({"mappings": AGGREGATING}, {"tags": ["a", "b"]}, None),
    ],
)
def test_a_text_that_the_service_refuses_fails_the_job(ingest, changes, row, code):
    spec = spec_of(rows({"timestamp": T}, {"timestamp": T, **row}), **changes)
    columns = [{"name": "timestamp"}, {"name": "city"}, {"name": "tags"}, {"name": "unmapped"}]
    spec["source"]["inputSchema"] = [{"dataType": "string", **column} for column in columns]
    spec["mappings"] = [
        *spec["mappings"],
        {"columnName": "city", "expression": '"city"'},
        {"columnName": "tags", "expression": 'MV_TO_ARRAY("tags")'},
    ]
    job, _ = ingest(spec)
    assert job.health.code == code
    if code:
        assert job.health.message.startswith("Row 2, column 'city': ")


@pytest.mark.parametrize(("delimiter", "value"), [(None, "a\x01b"), ("|", "a|b")])
def test_a_list_in_a_csv_value_fails_an_aggregating_job(ingest, delimiter, value):
    settings = {"format": "csv"} | ({"listDelimiter": delimiter} if delimiter else {})
    spec = spec_of(f"timestamp,city\n{T},{value}\n", format_settings=settings)
    spec["source"]["inputSchema"] = [{"name": name, "dataType": "string"} for name in ("timestamp", "city")]
    plain = [*SPEC["mappings"], {"columnName": "city", "expression": '"city"'}]
    assert ingest({**spec, "mappings": plain})[0].health.code is None
    assert (
        ingest({**spec, "mappings": [*AGGREGATING, plain[-1]]})[0].health.code == "cannot_parse_multi_value_dimension"
    )


def test_a_filter_leaves_out_the_rows_that_would_fail_the_job(ingest, older_counters):
    spec = spec_of(rows({"timestamp": "2026-11-01"}, {"timestamp": "2026-11-03"}, {}), ingestionMode="replace")
    spec["target"] = {**spec["target"], "intervals": ["2026-11-01/P1D"]}
    job, metrics = ingest({**spec, "filterExpression": "\"timestamp\" < '2026-11-02'"})
    assert job.execution_status == "completed"
    assert (metrics.rows_processed, metrics.rows_skipped_by_filter) == (1, 2)


@pytest.mark.parametrize(
    ("value", "code"), [(1_793_491_200_000, None), ("1793491200000", None), ("x", "null_timestamp")]
)
def test_a_plain_column_of_numbers_holds_milliseconds(ingest, value, code):
    spec = spec_of(rows({"count": value}), mappings=[{"columnName": "__time", "expression": '"count"'}])
    spec |= {"ingestionMode": "replace", "target": {**spec["target"], "intervals": ["2026-11-01/P1D"]}}
    assert ingest(spec)[0].health.code == code


@pytest.mark.parametrize(
    ("settings", "data", "counted"),
    [
        ({"format": "csv"}, f"timestamp,count,amount\n{T},1,2.5\n{T},x,\n{T},1\n{T},1,2,3\n", (3, 1, 0)),
        ({"format": "csv"}, f"timestamp,count,amount\r\n{T},1,2.5\r\n\r\n", (1, 0, 0)),
        ({"format": "csv"}, f'timestamp,count,amount\n{T},"1","2.5"\n{T},1,"2\n{T},1,"a ""b"""\n', (1, 1, 1)),
        ({"format": "csv"}, f"\ufefftimestamp,count,amount\n{T},1,2.5\n", (1, 0, 0)),
        ({"format": "csv", "columns": ["timestamp", "count"]}, f"{T},1\n", (1, 0, 0)),
        ({"format": "csv", "columns": ["timestamp"], "skipHeaderRows": 2}, f"# one\n# two\n{T}\n", (1, 0, 0)),
        ({"format": "csv", "delimiter": ";"}, f'timestamp;count\n{T};1\n{T};"1\n', (1, 0, 1)),
        ({"format": "csv", "delimiter": "\t"}, f"timestamp\tcount\n{T}\t1\n", (1, 0, 0)),
        ({"format": "csv", "delimiter": r"\t"}, f"timestamp\tcount\n{T}\t1\n", (1, 0, 0)),
        ({"format": "csv"}, "", (0, 0, 0)),
        ({"format": "csv"}, "timestamp,count,amount\n", (0, 0, 0)),
    ],
)
@pytest.mark.usefixtures("older_counters")
def test_csv_is_read_with_its_settings(ingest, settings, data, counted):
    job, metrics = ingest(spec_of(data, format_settings=settings))
    assert job.execution_status == "completed"
    assert (metrics.rows_processed, metrics.rows_processed_with_warning, metrics.rows_skipped_by_error) == counted


@pytest.mark.parametrize("has_settings", [True, False])
@pytest.mark.parametrize(("name", "settings"), [("rows.json", "nd-json"), ("rows.csv.gz", "csv")])
def test_uploaded_files_are_read_each_with_its_own_header(ingest, call, name, settings, has_settings):
    data = (rows({"timestamp": T}, {"timestamp": T}) if settings == "nd-json" else f"timestamp\n{T}\n{T}\n").encode()
    names = [f"{number}-{name}" for number in range(2)]
    for one in names:
        body = gzip.compress(data) if one.endswith("gz") else data
        assert call("POST", "files", files={"file": (one, body)}).status_code == 201
    spec = uploaded(*names, format_settings={"format": settings})
    if not has_settings:
        del spec["source"]["formatSettings"]  # the format follows from the names
    job, metrics = ingest(spec)
    assert (job.execution_status, metrics.rows_processed) == ("completed", 4)
    for one in names:
        call("DELETE", f"files/{one}")


def test_a_truncated_gzip_fails_the_job(ingest, call):
    whole = gzip.compress(rows(*({"timestamp": T, "n": n} for n in range(5000))).encode())
    call("POST", "files", files={"file": ("broken.json.gz", whole[:-2000])})
    job, _ = ingest(uploaded("broken.json.gz"))
    assert (job.execution_status, job.health.code) == ("failed", "cannot_parse_source")


def test_a_damaged_gzip_fails_the_job(ingest, call):
    whole = gzip.compress(rows(*({"timestamp": T, "n": n} for n in range(5000))).encode())
    call("POST", "files", files={"file": ("damaged.json.gz", whole[:500] + b"\xff" * 500 + whole[1000:])})
    job, _ = ingest(uploaded("damaged.json.gz"))
    assert (job.execution_status, job.health.code) == ("failed", "cannot_parse_source")


def test_a_file_that_is_deleted_while_its_job_waits_fails_the_job(hook, polaris, call, wait_until, monkeypatch):
    monkeypatch.setattr(polaris, "rows_per_second", 500)
    slow = [hook.create_job(spec_of(rows(*[{"timestamp": T}] * 900))).id for _ in range(2)]  # both workers are busy
    call("POST", "files", files={"file": ("gone.json", b"{}\n")})
    job_id = hook.create_job(uploaded("gone.json")).id
    call("DELETE", "files/gone.json")
    assert wait_until(lambda: hook.get_job(job_id).execution_status.is_over)
    assert hook.get_job(job_id).health.code == "cannot_parse_source"
    assert len(slow) == 2


@pytest.mark.parametrize("size", [1, 7, 50])
def test_lines_do_not_depend_on_the_size_of_chunks(monkeypatch, size):
    assert rows_module.CHUNK < rows_module.MAX_LINE, "only a line of several chunks can be too long"
    monkeypatch.setattr(rows_module, "CHUNK", size)
    monkeypatch.setattr(rows_module, "MAX_LINE", 50)
    data = b"\xef\xbb\xbf"[: 3 if size >= 3 else 0] + b"one\n\n" + b"x" * 51 + b"\ntwo\n" + b"y" * 50 + b"\nlast"
    counters = Counters()
    lines = [line for some in lines_of(io.BytesIO(data), gzipped=False, counters=counters) for line in some]
    assert lines == [b"one", b"", None, b"two", b"y" * 50, b"last"]
    assert counters.bytes == len(data)


def test_a_row_outside_the_replaced_intervals_fails_the_job(ingest):
    spec = spec_of(rows({"timestamp": "2026-11-01"}, {"timestamp": "2026-11-03"}), ingestionMode="replace")
    spec["target"] = {**spec["target"], "intervals": ["2026-11-01/2026-11-03"]}
    job, metrics = ingest(spec)
    assert (job.execution_status, job.health.code) == ("failed", "timestamp_out_of_bounds")
    assert metrics.rows_processed == 1


def test_values_in_the_form_of_json_are_not_evaluated(ingest):
    data = "timestamp,count\n" + json.dumps(T) + ",1\n"
    assert ingest(spec_of(data, format_settings={"format": "csv"}))[1].rows_processed == 1


@pytest.mark.parametrize("bad", [b"x" * (rows_module.MAX_LINE + 1), b"\xff"], ids=["too long", "no UTF-8"])
@pytest.mark.parametrize(("settings", "head"), [({"format": "nd-json"}, b""), ({"format": "csv"}, b"timestamp\n")])
def test_a_batch_of_bad_lines_alone_has_no_row(settings, head, bad):
    lines = lines_of(io.BytesIO(head + bad + b"\n"), gzipped=False, counters=Counters())
    batch = rows_module.BatchReader(lines, settings).next(10)
    assert (batch.lines, batch.bad) == (0, 1)
