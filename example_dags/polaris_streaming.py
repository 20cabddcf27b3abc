"""Query a stream only while its streaming job is healthy.

A streaming job never completes. With ``wait_for="running"``, the gate opens when the job runs without a health error.
It waits while the job is pending, suspended or unhealthy, up to the timeout. With ``fail_on_unhealthy=True`` it would
refuse at the first health error. Health changes often, so this gate waits ten minutes for it.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task

from airflow_provider_polaris.sensors.polaris import PolarisJobSensor


@dag(
    schedule=None,
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=False,
    tags=["example", "polaris"],
    params={"streaming_job_id": "00000000-0000-4000-8000-000000000000"},
)
def polaris_streaming():
    gate = PolarisJobSensor(
        task_id="gate",
        job_id="{{ params.streaming_job_id }}",
        wait_for="running",
        deferrable=True,
        poke_interval=10,
        timeout=timedelta(minutes=10),
    )

    @task
    def query(stream: dict) -> str:
        return f"{stream['table']} is {stream['execution_status']}, health {stream['health']['status']}"

    query(gate.output)


polaris_streaming()
