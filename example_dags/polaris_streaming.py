"""Query a stream only while its streaming job is healthy.

A streaming job never completes. With ``wait_for="running"``, the gate opens when the job runs without a health error.
It waits while the job is pending, suspended or unhealthy, up to the timeout. With ``fail_on_unhealthy=True`` it would
refuse at the first health error. Health changes often, so this gate waits ten minutes for it. If the table has no
streaming job, the other tasks are skipped.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import Param, dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task
    from airflow.models.param import Param

from airflow_provider_polaris.sensors.polaris import PolarisJobSensor


@dag(
    schedule=None,
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=False,
    description="Query a stream only while its streaming job is healthy",
    doc_md=__doc__,
    tags=["example", "polaris"],
    params={"table": Param("clicks", type="string", title="Table", description="The table that the stream loads.")},
)
def polaris_streaming():
    @task.short_circuit
    def find(params=None) -> str | None:
        from airflow_provider_polaris.hooks.polaris import PolarisHook

        job = PolarisHook().latest_job(params["table"], job_type="streaming")
        return job.id if job else None

    gate = PolarisJobSensor(
        task_id="gate",
        job_id=find(),
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
