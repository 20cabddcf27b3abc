"""Cancel a load when the task that waits for it ends.

The cancellation is the teardown of ``create_job``. It also runs after the gate has timed out or failed. If the gate has
opened, the job is over: the teardown logs that and succeeds. If ``create_job`` failed, there is no job id, and the
teardown is skipped.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task

from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor


@dag(
    schedule=None,
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=False,
    description="Cancel a Polaris load when the task that waits for it ends",
    doc_md=__doc__,
    tags=["example", "polaris"],
)
def polaris_cancel():
    @task(retries=0)
    def create_job() -> str:
        from airflow_provider_polaris.hooks.polaris import PolarisHook

        row = '{"timestamp": "2026-11-01T00:00:00Z", "city": "Sydney"}\n'
        job = PolarisHook().create_job(
            {
                "type": "batch",
                "ingestionMode": "append",
                "createTableIfNotExists": True,
                "target": {"type": "table", "tableName": "cities"},
                "source": {
                    "type": "inline",
                    "data": row * 1000,
                    "formatSettings": {"format": "nd-json"},
                    "inputSchema": [
                        {"name": "timestamp", "dataType": "string"},
                        {"name": "city", "dataType": "string"},
                    ],
                },
                "mappings": [
                    {"columnName": "__time", "expression": 'TIME_PARSE("timestamp")'},
                    {"columnName": "city", "expression": '"city"'},
                ],
            }
        )
        return job.id

    job_id = create_job()
    gate = PolarisJobSensor(
        task_id="gate", job_id=job_id, deferrable=True, poke_interval=5, timeout=timedelta(minutes=10)
    )
    cancel = PolarisCancelJobOperator(task_id="cancel", job_id=job_id, poll_interval=1)
    gate >> cancel.as_teardown(setups=job_id.operator)


polaris_cancel()
