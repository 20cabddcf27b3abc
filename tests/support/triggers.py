"""Triggers with arguments that suit most tests."""

from __future__ import annotations

import time

from airflow_provider_polaris.triggers.polaris import PolarisJobTrigger


def trigger(job_id="some-job", **options) -> PolarisJobTrigger:
    defaults = {
        "polaris_conn_id": "polaris_default",
        "project_id": None,
        "wait_for": "completed",
        "fail_on_unhealthy": False,
        "takes_list": True,
        "poll_interval": 60.0,
        "deadline": time.time() + 9e8,
        "max_unreachable": 3600.0,
    }
    return PolarisJobTrigger(job_id=job_id, **{**defaults, **options})
