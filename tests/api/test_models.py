"""Jobs, metrics, logs and tables: parsing of documented samples, of new values and of invalid responses."""

from __future__ import annotations

import json
import pickle

import pytest

from airflow_provider_polaris.api.errors import PolarisInvalidResponse, PolarisUsageError
from airflow_provider_polaris.api.models import (
    ACTIVE_STATUSES,
    ExecutionStatus,
    File,
    Health,
    HealthStatus,
    Job,
    JobMetrics,
    JobType,
    LogEntry,
    QueryColumn,
    QueryResult,
    Statement,
    StatementPage,
    Table,
    check_file_name,
    check_table_name,
    clip,
)
from tests.support.specs import DOCUMENTED_SPEC

USER = {"username": "service-account-docs-demo", "userId": "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"}
#: The sample response of GET /v1/projects/PROJECT_ID/jobs/efb35e3e-… in "View and manage ingestion jobs by API".
JOB = {
    **DOCUMENTED_SPEC,
    "id": "efb35e3e-406e-4127-ad2e-280fede4f431",
    "desiredExecutionStatus": "running",
    "createdBy": USER,
    "lastModifiedBy": USER,
    "executionStatus": "pending",
    "health": {"status": "ok"},
    "createdTimestamp": "2022-08-09T22:34:46.716017658Z",
    "lastUpdatedTimestamp": "2022-08-09T22:34:46.716017658Z",
}
#: The sample response of GET …/jobs/db6a3110-…/metrics: two rows could not be parsed.
METRICS = {
    "totals": {
        "numRowsProcessed": 99999,
        "numRowsProcessedWithWarning": 0,
        "numRowsSkippedByFilter": 0,
        "numRowsSkippedByError": 2,
    }
}


def test_the_sample_job_is_parsed_to_the_last_field():
    job = Job.from_api(JOB)
    assert job == Job(
        id="efb35e3e-406e-4127-ad2e-280fede4f431",
        execution_status=ExecutionStatus.PENDING,
        type=JobType.BATCH,
        desired_execution_status=ExecutionStatus.RUNNING,
        health=Health(HealthStatus.OK),
        table="Koalas Subset",
        created_by="service-account-docs-demo",
        last_modified_by="service-account-docs-demo",
        created_at="2022-08-09T22:34:46.716017658Z",
        last_updated_at="2022-08-09T22:34:46.716017658Z",
    )
    assert job.raw == JOB  # with the fields of the job's type: source, ingestionMode, mappings


def test_the_sample_metrics_are_parsed_to_the_last_field():
    assert JobMetrics.from_api(METRICS) == JobMetrics(
        rows_processed=99999, rows_processed_with_warning=0, rows_skipped_by_filter=0, rows_skipped_by_error=2
    )
    assert JobMetrics.from_api(METRICS).to_dict() == {
        **METRICS["totals"],
        "numRowsPersisted": None,
        "numBytesProcessed": None,
    }


def test_a_new_counter_and_a_second_spelling_are_kept():
    metrics = JobMetrics.from_api({"totals": {"numRowsProcessedWithWarnings": 3, "numRowsBrandNew": 4}})
    assert metrics.rows_processed_with_warning == 3
    assert metrics.to_dict()["numRowsBrandNew"] == 4


@pytest.mark.parametrize("wrong", [None, "12", -1, 1.5, True, [], {}, 10**30], ids=repr)
def test_an_invalid_counter_counts_as_not_reported(wrong):
    assert JobMetrics.from_api({"totals": {"numRowsProcessed": wrong}}).rows_processed is None


@pytest.mark.parametrize("body", [[], "x", 7, {"totals": []}, {"totals": "x"}], ids=repr)
def test_metrics_of_a_wrong_shape_are_an_invalid_response(body):
    with pytest.raises(PolarisInvalidResponse):
        JobMetrics.from_api(body)


@pytest.mark.parametrize("body", [None, {}, {"totals": None}, {"totals": {}}], ids=repr)
def test_metrics_without_counters_report_nothing(body):
    assert JobMetrics.from_api(body) == JobMetrics()


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "completed",
        {},
        {"id": "a"},
        {"id": "a", "executionStatus": 7},
        {"id": "a", "executionStatus": ""},
        {"id": 7, "executionStatus": "running"},
        {"id": "a", "executionStatus": "completed", "health": "ok"},
        {"id": "a", "executionStatus": "completed", "health": ["ok"]},
        {"id": "a", "executionStatus": "completed", "health": {"status": 1}},
    ],
    ids=json.dumps,
)
def test_an_invalid_job_is_an_invalid_response(body):
    with pytest.raises(PolarisInvalidResponse):
        Job.from_api(body)


@pytest.mark.parametrize("health", [None, {}, {"status": None}], ids=repr)
def test_an_empty_health_counts_as_missing(health):
    assert Job.from_api({"id": "a", "executionStatus": "completed", "health": health}).health is None


def test_optional_fields_may_have_any_shape():
    job = Job.from_api(
        {
            "id": "a",
            "executionStatus": "completed",
            "target": "t",
            "createdBy": None,
            "lastModifiedBy": [],
            "startedTimestamp": 5,
            "completedTimestamp": "yesterday",
            "type": 3,
        }
    )
    assert (job.table, job.created_by, job.started_at, job.duration_seconds, job.type) == (None, None, None, None, None)


@pytest.mark.parametrize(("word", "kind"), [("new", ExecutionStatus), ("new", HealthStatus), ("new", JobType)])
def test_an_unknown_word_is_kept(word, kind):
    assert kind(word) == "new"
    assert not kind(word).is_known
    assert type(str(kind(word))) is str


def test_jobs_share_the_objects_of_known_words():
    assert ExecutionStatus("".join(["run", "ning"])) is ExecutionStatus.RUNNING
    assert pickle.loads(pickle.dumps(ExecutionStatus.RUNNING)) is ExecutionStatus.RUNNING  # noqa: S301 - our own
    assert type(JobType("running")) is JobType, "a word of another vocabulary is not shared"


def test_only_three_statuses_are_over():
    over = {status for status in ExecutionStatus.known if ExecutionStatus(status).is_over}
    assert over == {"completed", "failed", "canceled"}
    assert not ExecutionStatus("brand_new").is_over


def test_warning_is_read_as_the_documented_warn():
    health = Health.from_api(
        {"status": "warning", "code": "multiple", "log": {"message": "row 7", "healthStatus": "warning"}}
    )
    assert health == Health(HealthStatus.WARN, "multiple", None, LogEntry(None, HealthStatus.WARN, None, "row 7"))
    assert health.to_dict() == {"status": "warn", "code": "multiple", "message": "row 7"}


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        ("2022-08-09T22:34:46.716017658Z", "2022-08-09T22:35:46.816017658Z", 60.1),
        ("2022-08-09T22:34:46Z", "2022-08-09T22:34:47.5Z", 1.5),
        (None, "2022-08-09T22:34:47Z", None),
        ("2022-08-09T22:34:46Z", None, None),
        ("soon", "2022-08-09T22:34:47Z", None),
        ("P1D", "12:00", None),
        ("2022-08-09/22:34:46.01601", "2022-08-09T22:34:47Z", None),
        ("22:34:46", "2022-08-09T22:34:47Z", None),
        ("2022-08-09T22:34:46Z", "2022-08-09T22:34:45Z", None),
    ],
)
def test_the_duration_needs_a_valid_start_and_end(start, end, seconds):
    job = Job.from_api(
        {"id": "a", "executionStatus": "completed", "startedTimestamp": start, "completedTimestamp": end}
    )
    assert job.duration_seconds == seconds


def test_a_job_is_the_same_after_an_event():
    job = Job.from_api({**JOB, "health": {"status": "warning", "code": "multiple", "message": "m"}})
    event = json.loads(json.dumps(job.to_event()))
    assert Job.from_api(event) == job
    assert "source" not in event


def test_xcom_and_event_stay_small_for_a_huge_job():
    job = Job.from_api(
        {**JOB, "health": {"status": "error", "message": "x" * 10_000}, "source": {"fileList": ["f" * 99] * 10_000}}
    )
    assert len(json.dumps(job.to_dict(JobMetrics.from_api(METRICS)))) < 4096
    assert len(json.dumps(job.to_event())) < 4096


def test_text_that_a_database_rejects_is_replaced():
    """Half an emoji would end a triggerer of Airflow 3, and PostgreSQL rejects a NUL."""
    bad = "row \ud83d\x00"
    job = Job.from_api(
        {"id": "j", "executionStatus": "failed", "health": {"status": "error", "code": bad, "message": bad,
         "log": {"message": bad}}, "target": {"tableName": bad}, "lastModifiedBy": {"username": bad}, "type": bad}
    )  # fmt: skip
    for data in (job.to_event(), job.to_dict(), str(job), job.state):
        text = json.dumps(data, ensure_ascii=False)
        text.encode()
        assert "\\u0000" not in text


FULL = {
    **JOB,
    "type": "batch",
    "executionStatus": "completed",
    "health": {
        "status": "error",
        "code": "c",
        "message": "m",
        "log": {"timestamp": "t", "healthStatus": "warning", "code": "lc", "message": "lm"},
    },
    "lastModifiedBy": {"username": "kim"},
    "lastUpdatedTimestamp": "2022-08-09T22:36:00Z",
    "startedTimestamp": "2022-08-09T22:35:00Z",
    "completedTimestamp": "2022-08-09T22:35:30Z",
}


def test_every_field_of_a_job_is_parsed():
    job = Job.from_api(FULL)
    assert (job.last_modified_by, job.created_by) == ("kim", "service-account-docs-demo")
    assert (job.last_updated_at, job.started_at, job.completed_at) == (
        "2022-08-09T22:36:00Z",
        "2022-08-09T22:35:00Z",
        "2022-08-09T22:35:30Z",
    )
    assert job.health.log == LogEntry("t", HealthStatus.WARN, "lc", "lm")
    assert job.to_event() == {
        "id": JOB["id"],
        "type": "batch",
        "executionStatus": "completed",
        "desiredExecutionStatus": "running",
        "health": {"status": "error", "code": "c", "message": "m"},
        "target": {"tableName": "Koalas Subset"},
        "createdBy": {"username": "service-account-docs-demo"},
        "lastModifiedBy": {"username": "kim"},
        "createdTimestamp": "2022-08-09T22:34:46.716017658Z",
        "lastUpdatedTimestamp": "2022-08-09T22:36:00Z",
        "startedTimestamp": "2022-08-09T22:35:00Z",
        "completedTimestamp": "2022-08-09T22:35:30Z",
    }
    assert job.to_dict(JobMetrics(rows_processed=1)) == {
        "job_id": JOB["id"],
        "job_type": "batch",
        "table": "Koalas Subset",
        "execution_status": "completed",
        "health": {"status": "error", "code": "c", "message": "m"},
        "created_at": "2022-08-09T22:34:46.716017658Z",
        "started_at": "2022-08-09T22:35:00Z",
        "completed_at": "2022-08-09T22:35:30Z",
        "duration_seconds": 30.0,
        "metrics": {
            "numRowsProcessed": 1,
            "numRowsProcessedWithWarning": None,
            "numRowsSkippedByFilter": None,
            "numRowsSkippedByError": None,
            "numRowsPersisted": None,
            "numBytesProcessed": None,
        },
    }


def test_a_job_with_few_fields_has_every_key_in_its_dict():
    job = Job.from_api({"id": "j", "executionStatus": "new"})
    assert (job.type, job.desired_execution_status, job.table) == (None, None, None)
    assert {**job.to_dict(), "metrics": None} == {
        "job_id": "j",
        "job_type": None,
        "table": None,
        "execution_status": "new",
        "health": {"status": None, "code": None, "message": None},
        "created_at": None,
        "started_at": None,
        "completed_at": None,
        "duration_seconds": None,
        "metrics": None,
    }
    assert (job.to_event()["type"], job.to_event()["desiredExecutionStatus"], job.to_event()["health"]) == (None,) * 3


def test_every_counter_is_parsed():
    names = list(JobMetrics.NAMES)
    metrics = JobMetrics.from_api({"totals": {name: number for number, name in enumerate(names)}})
    assert [getattr(metrics, field) for field in JobMetrics.NAMES.values()] == list(range(6))
    assert metrics.to_dict() == {name: number for number, name in enumerate(names)}
    assert JobMetrics.from_api({"totals": {"numRowsPersisted": 2**63 - 1}}).rows_persisted == 2**63 - 1
    assert JobMetrics.from_api({"totals": {"numRowsPersisted": 2**63}}).rows_persisted is None


def test_jobs_health_counters_and_log_lines_as_text():
    assert str(Job.from_api(FULL)) == f"Polaris batch job {JOB['id']} into table 'Koalas Subset'"
    assert str(Job.from_api({"id": "j", "executionStatus": "x"})) == "Polaris job j"
    assert Job.from_api(FULL).state == "completed (health error, c: m)"
    assert str(LogEntry("t", HealthStatus.WARN, "c", "m")) == "t warn c m"
    assert str(LogEntry(message="m")) == "m"
    assert str(LogEntry(message="m" * 600)) == "m" * 499 + "…"
    assert (
        str(JobMetrics(rows_processed=1000, rows_processed_with_warning=5, rows_skipped_by_error=7))
        == "1,000 in, 5 in part, 7 lost"
    )
    assert str(JobMetrics(rows_processed=0, rows_processed_with_warning=0, rows_skipped_by_error=0)) == "0 in"
    assert str(JobMetrics(rows_skipped_by_error=2000)) == "2,000 lost"
    assert str(JobMetrics(rows_persisted=1)) == ""
    assert (
        Health(HealthStatus.WARN, None, None, LogEntry(message="from the log")).to_dict()["message"] == "from the log"
    )
    assert clip("abcde", 5) == "abcde"
    assert clip("abcdef", 5) == "abcd…"
    assert Job.from_api({"id": "j", "executionStatus": "s" * 70}).execution_status == "s" * 59 + "…"
    assert Health.from_api({"status": "h" * 70}).status == "h" * 59 + "…"


@pytest.mark.parametrize(
    ("read", "body", "message"),
    [
        (Job.from_api, 7, "Polaris returned a job that is not a JSON object: 7"),
        (Job.from_api, "x" * 200, "Polaris returned a job that is not a JSON object: '" + "x" * 98 + "…"),
        (Job.from_api, {"id": 7}, "Polaris returned an invalid job: id is 7, executionStatus is None"),
        (Health.from_api, [], "Polaris returned a health that is not a JSON object: []"),
        (Health.from_api, {"status": 1}, "Polaris returned an invalid health.status: 1"),
        (LogEntry.from_api, 1, "Polaris returned a log entry that is not a JSON object: 1"),
        (JobMetrics.from_api, 1, "Polaris returned metrics that is not a JSON object: 1"),
        (JobMetrics.from_api, {"totals": 1}, "Polaris returned metrics.totals that is not a JSON object: 1"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_message_for_an_invalid_response(read, body, message):
    with pytest.raises(PolarisInvalidResponse) as caught:
        read(body)
    assert str(caught.value) == message


def test_every_word_is_a_constant_of_its_class():
    for kind in (ExecutionStatus, HealthStatus, JobType):
        assert {str(getattr(kind, word.upper())) for word in kind.known} == kind.known
    assert ExecutionStatus.known == {
        "pending", "running", "idle", "suspended", "unknown", "completed", "failed", "canceled",
    }  # fmt: skip
    assert {kind for kind in JobType.known if JobType(kind).is_deletion} == {"delete_data", "drop_table"}


@pytest.mark.parametrize("answer", [None, [], "table", {"availability": "available"}, {"name": 5}])
def test_an_invalid_table_is_not_accepted(answer):
    with pytest.raises(PolarisInvalidResponse):
        Table.from_api(answer)


def test_a_table_keeps_what_the_service_reports():
    body = {"name": "orders\x00", "availability": "a" * 70, "totalRows": 7}
    table = Table.from_api(body)
    assert table == Table("orders\ufffd", "a" * 59 + "…", 7, body)
    assert Table.from_api({"name": "t", "availability": 1, "totalRows": True}) == Table(
        "t", None, None, {"name": "t", "availability": 1, "totalRows": True}
    )


#: The properties of a job that are true, for each status.
MEANINGS = {
    "pending": set(),
    "running": {"is_running"},
    "idle": {"is_running"},
    "suspended": {"is_suspended"},
    "unknown": set(),
    "completed": {"is_over", "has_completed"},
    "failed": {"is_over", "has_failed"},
    "canceled": {"is_over", "was_canceled", "is_being_canceled"},
    "brand_new": set(),
}
PROPERTIES = set().union(*MEANINGS.values())


@pytest.mark.parametrize("status", MEANINGS)
def test_each_status_has_its_meaning(status):
    job = Job.from_api({"id": "j", "executionStatus": status})
    assert {name for name in PROPERTIES if getattr(job, name)} == MEANINGS[status]
    assert job.has_known_status is (status != "brand_new")


def test_the_table_of_meanings_has_every_status():
    assert ExecutionStatus.known == MEANINGS.keys() - {"brand_new"}
    assert set(ACTIVE_STATUSES) == {status for status in ExecutionStatus.known if "is_over" not in MEANINGS[status]}


@pytest.mark.parametrize(
    ("desired", "canceled"), [("canceled", True), ("running", False), ("suspended", False), (None, False)]
)
def test_a_job_is_being_canceled_if_somebody_asked_for_that(desired, canceled):
    body = {"id": "j", "executionStatus": "running", "desiredExecutionStatus": desired}
    assert Job.from_api(body).is_being_canceled is canceled


@pytest.mark.parametrize(
    ("kind", "meanings"),
    [
        ("batch", {"has_source"}),
        ("sql", {"is_sql"}),
        ("streaming", {"has_source", "is_streaming"}),
        ("delete_data", {"is_deletion"}),
        ("drop_table", {"is_deletion", "drops_table"}),
        ("restore_data", {"has_interval"}),
        ("brand_new", set()),
    ],
)
def test_each_type_has_its_meaning(kind, meanings):
    names = ("has_source", "is_sql", "is_streaming", "is_deletion", "drops_table", "has_interval")
    assert {name for name in names if getattr(JobType(kind), name)} == meanings
    job = Job.from_api({"id": "j", "executionStatus": "running", "type": kind})
    assert (job.is_streaming, job.is_deletion) == ("is_streaming" in meanings, "is_deletion" in meanings)


def test_a_job_without_a_type_is_neither_a_stream_nor_a_deletion():
    job = Job.from_api({"id": "j", "executionStatus": "running"})
    assert (job.is_streaming, job.is_deletion) == (False, False)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [("ok", "is_ok"), ("warn", "is_warning"), ("warning", "is_warning"), ("error", "is_error"), ("new", None)],
)
def test_each_health_has_its_meaning(status, meaning):
    health = Health.from_api({"status": status})
    assert [name for name in ("is_ok", "is_warning", "is_error") if getattr(health, name)] == [meaning] * bool(meaning)


@pytest.mark.parametrize("name", ["t", "Koalas Subset", "t" * 255, "..."])
def test_the_name_of_a_table_has_1_to_255_characters(name):
    check_table_name(name)


@pytest.mark.parametrize("name", ["", "t" * 256, ".", "..", None, 7, ["t"]])
def test_another_value_is_no_name_of_a_table(name):
    with pytest.raises(PolarisUsageError, match="table must be a name of 1 to 255 characters; it is ") as caught:
        check_table_name(name)
    assert repr(name)[:100] in str(caught.value)


def test_a_table_that_is_none_is_quoted():
    with pytest.raises(PolarisInvalidResponse, match=r"Polaris returned an invalid table: \['no'\]"):
        Table.from_api(["no"])


def test_a_counter_with_a_very_long_name_is_left_out():
    assert JobMetrics.from_api({"totals": {"n" * 101: 1, "new": 2, "text": "3"}}).other == {"new": 2}


FILE = {
    "name": "in/orders.json.gz",
    "sizeBytes": 12,
    "digest": {"algo": "MD5", "hash": "0123456789ABCDEF0123456789abcdef"},
    "dataFormat": "nd-json",
    "compressionFormat": "gz",
    "uploadedOnDatetime": "2026-11-01T00:00:00Z",
}


def test_a_file_is_read_and_written_for_xcom():
    file = File.from_api(FILE)
    assert file == File(
        name="in/orders.json.gz",
        size=12,
        md5="0123456789abcdef0123456789abcdef",
        data_format="nd-json",
        compression_format="gz",
        uploaded_at="2026-11-01T00:00:00Z",
        raw=FILE,
    )
    assert file.to_dict() == {
        "name": "in/orders.json.gz",
        "size_bytes": 12,
        "md5": "0123456789abcdef0123456789abcdef",
        "data_format": "nd-json",
        "compression_format": "gz",
    }


@pytest.mark.parametrize(
    "digest",
    [None, {}, [], "x", {"algo": "sha1", "hash": "x"}, {"algo": "md5"}, {"algo": "md5", "hash": 7}, {"hash": "x"}],
)
def test_a_file_without_an_md5_has_none(digest):
    assert File.from_api({**FILE, "digest": digest}).md5 is None
    assert File.from_api({"name": "a", "sizeBytes": 0}) == File(
        "a", 0, None, None, None, None, {"name": "a", "sizeBytes": 0}
    )


@pytest.mark.parametrize(
    "data", [None, [], "x", {}, {"name": "a"}, {"sizeBytes": 1}, {**FILE, "name": 7}, {**FILE, "sizeBytes": -1}]
)
def test_something_else_is_no_file(data):
    with pytest.raises(PolarisInvalidResponse) as caught:
        File.from_api(data)
    assert str(caught.value) == f"Polaris returned an invalid file: {repr(data)[:99]}" + (
        "…" if len(repr(data)) > 100 else repr(data)[99:]
    )


@pytest.mark.parametrize("name", ["a", "a/b c/ü.json", "x" * 1024, "...", "a..b"])
def test_a_name_of_a_file_is_returned(name):
    assert check_file_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 1025, "a\nb", None, 7, b"a", ["a"]])
def test_a_name_of_a_file_has_printable_characters(name):
    with pytest.raises(PolarisUsageError) as caught:
        check_file_name(name)
    shown = repr(name)[:100]
    assert str(caught.value) == f"A file needs a name of 1 to 1,024 printable characters; it is {shown}"


@pytest.mark.parametrize("name", ["/a", "a/", "a//b", ".", "..", "a/.", "./a", "a/../b", 'a"b', "a\\b", "/" * 500])
def test_a_name_of_a_file_has_no_part_that_a_path_or_a_form_cannot_have(name):
    with pytest.raises(PolarisUsageError) as caught:
        check_file_name(name)
    assert str(caught.value) == f"The name of a file has no empty part, quote or backslash; it is {repr(name)[:100]}"


def test_a_result_of_a_query_is_a_sequence_of_rows():
    columns = [QueryColumn("a", "BIGINT", "LONG"), QueryColumn("b", "VARCHAR", "STRING")]
    result = QueryResult(columns, [(1, "x"), (2, None)])
    assert (list(result), len(result)) == ([(1, "x"), (2, None)], 2)
    assert result.dicts() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    with pytest.raises(ValueError, match="zip"):
        QueryResult(columns, [(1,)]).dicts()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"completedTimestamp": "2026-11-01T00:01:00Z"}, 1793491260.0),
        ({"completedTimestamp": None, "lastUpdatedTimestamp": "2026-11-01T00:00:30Z"}, 1793491230.0),
        ({"completedTimestamp": None, "lastUpdatedTimestamp": None}, None),
        ({"completedTimestamp": "2026-11-01T00:01:00Z", "executionStatus": "failed"}, None),
        ({"completedTimestamp": "2026-11-01T00:01:00Z", "executionStatus": "running"}, None),
    ],
    ids=str,
)
def test_a_completed_job_has_a_time_of_completion(changes, expected):
    job = Job.from_api({"id": "j", "executionStatus": "completed", **changes})
    assert job.completed_time == expected


@pytest.mark.parametrize(
    ("status", "completed_at", "expected"),
    [
        ("completed", "2026-11-01T10:00:00Z", 1793527200.0),
        ("failed", "2026-11-01T10:00:00Z", 1793527200.0),
        ("canceled", "2026-11-01T10:00:00Z", 1793527200.0),
        ("running", "2026-11-01T10:00:00Z", None),
        ("completed", None, None),
        ("completed", "yesterday", None),
    ],
)
def test_the_end_of_a_job_needs_the_services_own_timestamp(status, completed_at, expected):
    job = Job.from_api(
        {"id": "j", "executionStatus": status, "completedTimestamp": completed_at, "lastUpdatedTimestamp": "2026-11-02"}
    )
    assert job.end_time == expected


class TestStatement:
    SAMPLE = {  # noqa: RUF012 - a response
        "queryId": "query-1",
        "state": "SUCCESS",
        "createdAt": "2026-11-01T00:00:00Z",
        "schema": [{"name": "n", "type": "BIGINT", "nativeType": "LONG"}, {"name": "t"}],
        "durationMs": 1500,
        "result": {"numTotalRows": 7, "pages": [{"id": 0, "numRows": 5}, {"id": 1}]},
    }

    def read(self, **changes):
        return Statement.from_api({**self.SAMPLE, **changes})

    def test_a_statement_has_the_fields_of_the_response(self):
        statement = self.read()
        assert statement == Statement(
            id="query-1",
            state="SUCCESS",
            columns=[QueryColumn("n", "BIGINT", "LONG"), QueryColumn("t", "", "")],
            total_rows=7,
            pages=[StatementPage(0, 5), StatementPage(1, None)],
            created_at="2026-11-01T00:00:00Z",
            duration_seconds=1.5,
        )
        assert statement.raw == self.SAMPLE
        assert (statement.error, statement.category) == (None, None)

    def test_a_statement_that_has_just_been_accepted_has_only_an_id_and_a_state(self):
        statement = Statement.from_api({"queryId": "q", "state": "ACCEPTED", "schema": None, "result": None})
        assert statement == Statement("q", "ACCEPTED", [], None, [])
        assert statement.duration_seconds is None

    @pytest.mark.parametrize(
        ("failure", "error", "category"),
        [
            (
                {"errorDetails": {"errorMessage": "no", "category": "INVALID_INPUT", "error": "x"}},
                "no",
                "INVALID_INPUT",
            ),
            ({"errorDetails": {"error": "druidException"}}, "druidException", None),
            ({"error": {"errorMessage": "no", "category": "TIMEOUT"}}, "no", "TIMEOUT"),
            ({"errorDetails": {"errorMessage": "a"}, "error": {"errorMessage": "b"}}, "a", None),
            ({"error": "text"}, None, None),
            ({}, None, None),
        ],
        ids=str,
    )
    def test_a_failure_has_its_reason_and_its_category(self, failure, error, category):
        statement = self.read(state="FAILED", **failure)
        assert (statement.error, statement.category) == (error, category)

    @pytest.mark.parametrize(
        ("state", "category", "succeeded", "failed", "canceled"),
        [
            ("SUCCESS", None, True, False, False),
            ("FAILED", None, False, True, False),
            ("FAILED", "CANCELED", False, True, True),
            ("RUNNING", "CANCELED", False, False, False),
            ("ACCEPTED", None, False, False, False),
            ("NEW", None, False, False, False),
        ],
    )
    def test_only_success_and_failure_are_final(self, state, category, succeeded, failed, canceled):
        statement = self.read(state=state, errorDetails={"category": category})
        assert (statement.has_succeeded, statement.has_failed) == (succeeded, failed)
        assert statement.is_over == (succeeded or failed)
        assert statement.was_canceled == canceled

    def test_a_long_state_is_clipped(self):
        assert self.read(state="S" * 99).state == "S" * 59 + "…"

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"queryId": None}, "Polaris returned an invalid query: queryId is None, state is 'SUCCESS'"),
            ({"state": 5}, "Polaris returned an invalid query: queryId is 'query-1', state is 5"),
            (
                {"queryId": None, "state": ["x" * 200]},
                f"Polaris returned an invalid query: queryId is None, state is ['{'x' * 97}…",
            ),
            ({"schema": {}}, "Polaris returned an invalid schema of a query: {}"),
            ({"schema": "x" * 200}, f"Polaris returned an invalid schema of a query: '{'x' * 98}…"),
            ({"schema": [5]}, "Polaris returned a column of a query that is not a JSON object: 5"),
            ({"result": {"pages": 5}}, "Polaris returned an invalid pages of a query: 5"),
            ({"result": {"pages": [5]}}, "Polaris returned a page of a result that is not a JSON object: 5"),
            ({"result": {"pages": [{"id": "0"}]}}, "Polaris returned an invalid page of a result: {'id': '0'}"),
            (
                {"result": {"pages": [{"x": "y" * 200}]}},
                f"Polaris returned an invalid page of a result: {{'x': '{'y' * 92}…",
            ),
        ],
        ids=str,
    )
    def test_an_invalid_response_is_named(self, changes, message):
        with pytest.raises(PolarisInvalidResponse) as caught:
            self.read(**changes)
        assert str(caught.value) == message

    def test_a_response_that_is_no_object_is_named(self):
        with pytest.raises(PolarisInvalidResponse) as caught:
            Statement.from_api([1])
        assert str(caught.value) == "Polaris returned a query that is not a JSON object: [1]"
