"""Query a stream only while it is healthy: the health of a streaming job as a gate.

A streaming job never completes. ``wait_for="running"`` opens when it is up and not sick, and waits while it is pending,
suspended or sick, up to the timeout. ``fail_on_unhealthy=True`` would refuse at the first health error instead; health
flaps, so this gate gives it ten minutes.
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
