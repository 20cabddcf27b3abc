"""Wait for a load that another tool started, for example the console or Terraform.

``find`` looks up the newest job of the table once and returns its id. The gate waits for that job. A newer job does not
change what the gate waits for.
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
    params={"table": "orders"},
)
def polaris_latest():
    @task(retries=3, retry_delay=timedelta(minutes=5))
    def find(params=None) -> str:
        from airflow_provider_polaris.hooks.polaris import PolarisHook

        job = PolarisHook().latest_job(params["table"], job_type="batch")
        if job is None:
            raise LookupError(f"The table {params['table']} has no job yet")
        return job.id

    gate = PolarisJobSensor(task_id="gate", job_id=find(), deferrable=True, poke_interval=10, min_rows_processed=1)

    @task
    def report(load: dict) -> str:
        return f"{load['table']} was loaded at {load['completed_at']}"

    report(gate.output)


polaris_latest()
