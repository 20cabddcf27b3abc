"""The thresholds of a gate that the counters of a batch job answer."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from tests.support.run_task import run_task
from tests.support.specs import T, rows, spec_of

ANSWERED = {"min_rows_processed": 1, "max_rows_skipped_by_error": 0, "max_error_ratio": 0}


@pytest.mark.parametrize(
    ("counters", "thresholds", "kind"),
    [
        ("newer", ANSWERED, "success"),
        ("newer", {"max_rows_with_warning": 0}, "PolarisGateRefused"),
        ("older", {**ANSWERED, "max_rows_with_warning": 0}, "success"),
    ],
)
def test_the_newer_counters_do_not_answer_max_rows_with_warning(
    polaris, ingest, moved_clock, monkeypatch, counters, thresholds, kind
):
    monkeypatch.setattr(polaris, "counters", counters)
    job, _ = ingest(spec_of(rows({"timestamp": T})))
    outcome = run_task(lambda: PolarisJobSensor(task_id="gate", job_id=job.id, **thresholds))
    assert outcome.kind == kind
    if kind != "success":
        assert "numRowsProcessedWithWarning is not reported" in str(outcome.error)
