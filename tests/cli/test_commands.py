"""The commands that read, cancel, upload and query: their results, their forms and their exit codes."""

from __future__ import annotations

import csv
import io
import json
import logging
import os

import pytest

from airflow_provider_polaris.hooks.polaris import PolarisHook
from tests.support.local_calls import API_KEY
from tests.support.specs import DROP, SPEC, load_of


def loaded(wait_until, spec=SPEC):
    """Create a job that reads its rows, and return its id once it is over."""
    hook = PolarisHook()
    job_id = hook.create_job(spec).id
    assert wait_until(lambda: hook.get_job(job_id).is_over)
    hook.close()
    return job_id


def test_jobs_lists_the_newest_job_first_and_applies_each_filter(polaris, run):
    first = polaris.add_job(executionStatus="completed", type="batch", target={"tableName": "orders"})
    second = polaris.add_job(executionStatus="running", type="streaming", target={"tableName": "clicks"})

    def listed(*options):
        ended = run("jobs", "-o", "json", *options)
        assert ended.code == 0
        return [job["job_id"] for job in json.loads(ended.out)]

    assert set(listed()) == {first, second}
    assert listed("--table", "orders") == [first]
    assert listed("--table", "order") == []
    assert listed("--status", "running") == [second]
    assert set(listed("--status", "running", "--status", "completed")) == {first, second}
    assert listed("--type", "streaming") == [second]
    assert len(listed("--limit", "1")) == 1


def test_the_table_of_jobs_fits_80_columns_and_cuts_nothing(polaris, run, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "a_table_with_a_very_long_name_that_fits_no_line_of_a_terminal_" * 2
    job_id = polaris.add_job(executionStatus="completed", target={"tableName": name})
    ended = run("jobs")
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert job_id in lines[1]
    start, end = lines[0].index("TABLE"), lines[0].index("JOB")
    assert "".join(line[start:end].strip() for line in lines[1:]) == name
    assert "\x1b" not in ended.out


def test_a_narrow_terminal_wraps_ids_and_cuts_nothing(polaris, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    job_id = polaris.add_job(executionStatus="completed", target={"tableName": "orders"})
    lines = run("jobs").out.splitlines()
    assert max(map(len, lines)) <= 40
    start = lines[0].index("JOB")
    assert "".join(line[start:].strip() for line in lines[1:]) == job_id


def test_a_name_with_control_characters_does_not_control_the_terminal(polaris, run):
    job_id = polaris.add_job(executionStatus="running", target={"tableName": "a\x1b[2Jb [red]c[/red]"})
    for argv in (["jobs"], ["show", job_id], ["cancel", job_id]):
        ended = run(*argv)
        assert ended.code == 0
        assert "\x1b" not in ended.out + ended.err
    assert "[red]" in run("show", job_id).out


def test_no_job_is_an_empty_list_and_no_error(polaris, run):
    assert run("jobs", "-o", "json") == (0, "[]\n", "")
    assert run("jobs") == (0, "", "No job matches\n")


def test_show_has_state_counters_and_the_end_of_the_log(polaris, run):
    job_id = polaris.add_job(
        executionStatus="completed",
        health={"status": "warn", "code": "invalid_rows_found", "message": "7 rows"},
        target={"tableName": "orders"},
        metrics={"numRowsProcessed": 12345, "numRowsSkippedByError": 7},
    )
    polaris.set_logs(job_id, *({"message": f"line {number}"} for number in range(9)))
    ended = run("show", job_id, "--log-lines", "2")
    assert ended.code == 0
    for text in ("orders", "completed", "warn, invalid_rows_found: 7 rows", "12,345", "line 7", "line 8"):
        assert text in ended.out
    assert "line 6" not in ended.out
    shown = json.loads(run("show", job_id, "-o", "json").out)
    assert shown["metrics"]["numRowsSkippedByError"] == 7
    assert [entry["message"] for entry in shown["log"]] == [f"line {number}" for number in range(4, 9)]
    assert json.loads(run("show", job_id, "-o", "json", "--log-lines", "0").out)["log"] == []


def test_show_leaves_out_a_part_that_cannot_be_read(polaris, run):
    job_id = polaris.add_job(executionStatus="completed")
    polaris.fail_next(1, status=400, match="/logs")
    ended = run("show", job_id, "-o", "json")
    assert ended.code == 0
    assert json.loads(ended.out)["log"] == []
    assert ended.err.startswith("Not shown: HTTP 400")


def test_an_error_is_one_line_without_a_traceback_and_has_an_exit_code(polaris, run, airflow_db, moved_clock):
    job_id = polaris.add_job(executionStatus="running")
    for code, start, argv in (
        (1, "Error: Polaris has no such job", ["show", "no-such-job"]),
        (2, "Error: job_id must be a Polaris id", ["show", "a/b"]),
        (2, "Error: --limit must be 1 or more", ["jobs", "--limit", "0"]),
        (2, "Error: --log-lines must be 0 or more", ["show", job_id, "--log-lines", "-1"]),
        (2, "Error: timeout must be more than 0 seconds", ["wait", job_id, "--timeout", "0"]),
        (2, "Error: poll_interval must be more than 0 seconds", ["wait", job_id, "--poll-interval", "nan"]),
        (2, "Error: max_unreachable must be a number", ["wait", job_id, "--max-unreachable", "-1"]),
        (2, "Error: max_error_ratio must be a ratio", ["wait", job_id, "--max-error-ratio", "2"]),
        (2, "Error: Thresholds on row counters", ["wait", job_id, "--wait-for", "running", "--min-rows-processed=1"]),
        (3, "Error: The connection 'nowhere' is not defined", ["jobs", "--conn-id", "nowhere"]),
    ):
        ended = run(*argv)
        assert (ended.code, ended.out) == (code, ""), argv
        assert ended.err.startswith(start)
        assert len(ended.err.splitlines()) == 1
    polaris.fail_next(99, status=503)
    assert run("jobs").code == 3
    polaris.clear_faults()
    polaris.api_key = "pok_rotated"
    ended = run("jobs")
    assert ended.code == 3
    assert API_KEY not in ended.err


def test_verbose_shows_the_traceback_of_an_error(polaris, run):
    ended = run("show", "no-such-job", "--verbose")
    assert ended.code == 1
    assert "Traceback (most recent call last)" in ended.err
    assert ended.out == ""


def test_an_unexpected_error_is_one_line_too(polaris, run, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("a fault of this provider\nin two lines")

    monkeypatch.setattr(PolarisHook, "list_jobs", fail)
    assert run("jobs") == (1, "", "Error: RuntimeError: a fault of this provider. in two lines\n")


def test_a_command_leaves_logs_and_environment_as_they_were(polaris, run):
    loggers = [logging.getLogger(name) for name in ("airflow", "airflow_provider_polaris")]

    def state():
        return [(one.level, one.propagate, list(one.handlers)) for one in loggers], dict(os.environ)

    before = state()
    run("jobs")
    run("show", "no-such-job")
    assert state() == before


def test_a_warning_of_this_provider_is_a_line_on_stderr(polaris, run, monkeypatch):
    connection = json.loads(polaris.connection_json)
    connection["extra"]["projekt"] = "x"
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))
    ended = run("jobs", "-o", "json")
    assert (ended.code, ended.out) == (0, "[]\n")
    assert ended.err == "Connection 'polaris_default' has extras that this provider does not know: projekt\n"


def test_an_unknown_option_is_an_error_of_usage(run):
    assert run("jobs", "--colour").code == 2
    assert run("no-such-command").code == 2
    assert run("jobs", "--output", "yaml").code == 2


def test_cancel_accepts_a_running_job_and_a_job_that_is_over(polaris, run):
    job_id = polaris.add_job(executionStatus="running", target={"tableName": "orders"})
    ended = run("cancel", job_id)
    assert ended.code == 0
    assert ended.out.startswith("Polaris accepted the cancellation: orders was running. Job ")
    polaris.set_status(job_id, "canceled")
    ended = run("cancel", job_id, "-o", "json")
    assert ended.code == 0
    assert json.loads(ended.out)["execution_status"] == "canceled"
    assert "already over. Nothing was canceled" in ended.err


def test_cancel_waits_until_the_job_is_over(polaris, run, moved_clock):
    job_id = polaris.add_job(executionStatus="running", target={"tableName": "orders"})
    ended = run("cancel", job_id, "--wait")
    assert ended.code == 0
    assert ended.out.startswith("orders is canceled (health error, canceled: ")
    assert ended.out.endswith(f"). Job {job_id}\n")


def test_cancel_of_a_deletion_says_that_it_is_not_possible(polaris, run):
    job_id = polaris.add_job(executionStatus="running", type=DROP["type"])
    ended = run("cancel", job_id)
    assert ended.code == 1
    assert "Polaris cannot cancel jobs of type drop_table. The job is still running" in ended.err


def test_a_cancellation_that_is_not_over_in_time_has_an_exit_code_of_its_own(polaris, run, moved_clock):
    polaris.cancel_checks = 10_000
    job_id = polaris.add_job(executionStatus="running")
    ended = run("cancel", job_id, "--wait", "--timeout", "60")
    assert ended.code == 4
    assert "Polaris has accepted the cancellation" in ended.out


def test_upload_sends_a_file_once_and_refuses_another_of_its_name(polaris, run, tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "b.csv").write_text("x\n2\n")
    ended = run("upload", f"{tmp_path}/*.csv", "--name", "in/", "-o", "json")
    assert ended.code == 0
    assert [(file["name"], file["was_sent"]) for file in json.loads(ended.out)] == [
        ("in/a.csv", True),
        ("in/b.csv", True),
    ]
    ended = run("upload", tmp_path / "a.csv", "--name", "in/a.csv")
    assert ended.out.splitlines()[1].split() == ["in/a.csv", "4", "there"]
    (tmp_path / "b.csv").write_text("x\n3\n4\n")
    ended = run("upload", tmp_path / "a.csv", tmp_path / "b.csv", "--name", "in/", "-o", "json")
    assert ended.code == 1
    assert [file["name"] for file in json.loads(ended.out)] == ["in/a.csv"]  # the result before the error
    assert "Polaris has another file named 'in/b.csv'" in ended.err
    assert run("upload", tmp_path / "b.csv", "--name", "in/b.csv", "--if-exists", "replace").code == 0


@pytest.mark.parametrize(
    ("code", "files", "options", "message"),
    [
        (1, ["none.csv"], [], "does not exist"),
        (2, ["a.csv", "b.csv"], ["--name", "one.csv"], "End it with a slash"),
        (2, ["a.csv", "c/a.csv"], [], "Two files get the name 'a.csv'"),
    ],
    ids=["missing", "two for a name", "one name twice"],
)
def test_upload_checks_all_files_before_it_sends_one(polaris, run, tmp_path, code, files, options, message):
    (tmp_path / "c").mkdir()
    for name in ("a.csv", "b.csv", "c/a.csv"):
        (tmp_path / name).write_text(name)
    ended = run("upload", *(tmp_path / name for name in files), *options)
    assert ended.code == code
    assert message in ended.err
    assert not [request for request in polaris.requests if request.method == "POST"]


def test_sql_shows_rows_in_each_form(polaris, run, wait_until):
    polaris.add_table("cities")
    given = [{"timestamp": "2026-11-01T00:00:00Z", "city": "São, Paulo", "count": 5}]
    loaded(wait_until, load_of("cities", *given, city='"city"', count='"count"'))
    query = 'SELECT "city", "count", CAST(NULL AS VARCHAR) AS nothing FROM "cities" WHERE "count" = ? AND "city" = ?;'
    argv = ["sql", query, "--param", "5", "--param", "São, Paulo"]
    ended = run(*argv)
    assert ended.out.splitlines() == ["city       count nothing", "São, Paulo 5     null"]
    assert ended.err == "1 row\n"
    assert json.loads(run(*argv, "-o", "json").out) == [{"city": "São, Paulo", "count": 5, "nothing": None}]
    assert list(csv.reader(io.StringIO(run(*argv, "-o", "csv").out))) == [
        ["city", "count", "nothing"],
        ["São, Paulo", "5", ""],
    ]


def test_sql_reads_its_query_from_stdin(polaris, run, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 1 AS one\n"))
    assert json.loads(run("sql", "-", "-o", "json").out) == [{"one": 1}]


def test_a_parameter_is_a_value_of_json_or_else_text(polaris, run):
    for text in ("5", '"5"', "Oslo", "true", "1.5", "null", ""):
        assert run("sql", "SELECT ? AS x", f"--param={text}").code == 0
    sent = [request.body["parameters"][0] for request in polaris.requests]
    assert [(one["type"], one["value"]) for one in sent] == [
        ("BIGINT", 5),
        ("VARCHAR", "5"),
        ("VARCHAR", "Oslo"),
        ("BOOLEAN", True),
        ("DOUBLE", 1.5),
        ("VARCHAR", None),
        ("VARCHAR", ""),
    ]


def test_sql_that_polaris_rejects_is_an_error_and_prints_no_result(polaris, run):
    ended = run("sql", "SELECT FROM WHERE", "-o", "json")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Error: HTTP 400")
    assert run("sql", "  ").code == 2
