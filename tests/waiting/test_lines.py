"""The lines that a person reads in a task's log: verdict, table and numbers first, the job's id last, on one screen."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from airflow_provider_polaris.api.models import Job, JobMetrics
from airflow_provider_polaris.gate.decision import decide
from airflow_provider_polaris.gate.options import Gate
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from airflow_provider_polaris.waiting.job_wait import MAX_HEAD, Outcome
from tests.support.imports import PACKAGE
from tests.support.run_task import both_modes, run_task

ID = "721aad36-bcef-48be-a50e-2fb6210bab76"
#: The characters of an exception that Airflow 3.3 shows at 1280 pixels: tests/browser/test_airflow_pages.py.
SHOWN = 83
LOST = {"status": "warn", "code": "invalid_rows_found", "message": "7 rows were skipped, 5 ingested in part"}
COUNTERS = JobMetrics(rows_processed=23_988, rows_processed_with_warning=5, rows_skipped_by_error=7)


def outcome(status, health, *, table="orders", metrics=COUNTERS, **options):
    fields = {"id": ID, "type": "batch", "executionStatus": status, "health": health, "target": {"tableName": table}}
    job = Job.from_api(
        {**fields, "lastModifiedBy": {"username": "kim"}, "completedTimestamp": "2026-11-01T10:00:00.5Z"}
    )
    return Outcome(job, decide(job, Gate(**options), metrics), metrics)


@pytest.mark.parametrize(
    ("ended", "line"),
    [
        (
            outcome("completed", LOST, max_rows_skipped_by_error=0),
            f"Refused: orders lost 7 rows, max_rows_skipped_by_error is 0\n23,988 in, 5 in part, 7 lost. Job {ID}",
        ),
        (
            outcome("completed", {"status": "warn", "code": "no_rows_found"}, metrics=JobMetrics(0, None, None, 24_000),
                    fail_on_warnings=frozenset({"no_rows_found"})),
            f"Refused: orders completed with no_rows_found; fail_on_warnings names it\n0 in, 24,000 lost. Job {ID}",
        ),
        (
            outcome("failed", {"status": "error", "code": "internal_error", "message": "The disk is full"}),
            f"Refused: orders failed, internal_error: The disk is full\n23,988 in, 5 in part, 7 lost. Job {ID}",
        ),
        (
            outcome("canceled", None, metrics=None),
            f"Refused: orders was canceled by kim at 2026-11-01 10:00:00 UTC\nJob {ID}",
        ),
        (
            outcome("completed", LOST),
            f"Gate opens with a warning: orders completed, 23,988 in, 5 in part, 7 lost. Job {ID}",
        ),
        (outcome("completed", {"status": "ok"}, metrics=None), f"Gate opens: orders completed. Job {ID}"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_the_verdict_the_table_and_the_numbers_come_before_the_id(ended, line):
    if not ended.passed:
        assert ended.message("Refused: ") == line
        assert len("PolarisGateRefused: ") + line.index("\n") <= SHOWN + len("names it")
    else:
        verdict = "Gate opens with a warning: " if ended.decision.warn else "Gate opens: "
        assert "error" not in line.lower(), "Airflow 2.11 paints a line with this word red"
        assert ended.line(verdict) == line
        assert line.index(". Job ") <= MAX_HEAD


@pytest.mark.parametrize("table", ["orders", "t" * 255, None])
@pytest.mark.parametrize("text", ["short", "long " * 100])
def test_a_long_reason_is_cut_in_the_line_and_follows_in_full(table, text):
    ended = outcome("failed", {"status": "error", "code": "row_too_large", "message": text.strip()}, table=table)
    line, second, *rest = ended.message("Refused: ").split("\n")
    assert second.endswith(f"Job {ID}")
    assert len(line) <= MAX_HEAD
    assert any(text.strip()[:490] in part for part in (line, *rest))


def frames_below(error, folder):
    """The files of the traceback's frames in a folder."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return [name for name in frames if Path(name).is_relative_to(folder)]


@both_modes
@pytest.mark.parametrize(
    ("fault", "expected"),
    [({"executionStatus": "failed"}, "PolarisGateRefused"), ({}, "timeout"), (None, "PolarisJobNotFound")],
    ids=["refused", "timeout", "no such job"],
)
def test_the_traceback_of_an_expected_error_shows_no_code_of_the_wait(
    polaris, moved_clock, deferrable, fault, expected
):
    job_id = ID if fault is None else polaris.add_job(**{"executionStatus": "running", **fault})
    outcome = run_task(lambda: PolarisJobSensor(task_id="gate", job_id=job_id, timeout=60, deferrable=deferrable))
    assert outcome.kind == expected
    assert [Path(name).name for name in frames_below(outcome.error, PACKAGE)] == ["deferral.py"]


@both_modes
@pytest.mark.parametrize(
    ("how", "name", "first"),
    [
        ("slow", "AirflowSensorTimeout", "Timeout: orders was running after 21,600 s (timeout)"),
        ("unreachable", "PolarisUnreachable", "Polaris was unreachable for 3,6"),
        ("removed", "PolarisJobNotFound", "orders was running, and Polaris no longer has the job"),
        ("unknown", "PolarisJobNotFound", "Polaris has no such job"),
    ],
)
def test_each_line_of_a_failed_wait_fits_the_screen(polaris, moved_clock, deferrable, how, name, first):
    target = {"type": "table", "tableName": "orders"}
    job_id = ID if how == "unknown" else polaris.add_job(executionStatus="running", target=target)
    then = {"unreachable": lambda: polaris.fail_next(9999, status=503), "removed": lambda: polaris.remove_job(job_id)}

    def after_the_first_poll():
        moved_clock.on_sleep = None
        then[how]()

    moved_clock.on_sleep = after_the_first_poll if how in then else None
    outcome = run_task(lambda: PolarisJobSensor(task_id="gate", job_id=job_id, timeout=21_600, deferrable=deferrable))
    lines = f"{name}: {outcome.error}".splitlines()
    assert lines[0].startswith(f"{name}: {first}")
    # The last part of an error of a request is for a search: the address, which may be long.
    assert [line for line in lines if len(line) > SHOWN and not line.startswith(("HTTP ", "http"))] == []
    assert f"Job {job_id}" in lines
