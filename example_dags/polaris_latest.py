"""Wait for a load that another tool started, for example the console or Terraform.

``find`` looks up the newest job of the table once and returns its id. The gate waits for that job. A newer job does not
change what the gate waits for. If the table has no job, the other tasks are skipped.
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
    description="Wait for a Polaris load that another tool started",
    doc_md=__doc__,
    tags=["example", "polaris"],
    params={"table": Param("orders", type="string", title="Table", description="The table that is loaded.")},
)
def polaris_latest():
    @task.short_circuit(retries=3, retry_delay=timedelta(minutes=5))
    def find(params=None) -> str | None:
        from airflow_provider_polaris.hooks.polaris import PolarisHook

        job = PolarisHook().latest_job(params["table"], job_type="batch")
        return job.id if job else None

    gate = PolarisJobSensor(task_id="gate", job_id=find(), deferrable=True, poke_interval=10, min_rows_processed=1)

    @task
    def report(load: dict) -> str:
        return f"{load['table']} was loaded at {load['completed_at']}"

    report(gate.output)


polaris_latest()
