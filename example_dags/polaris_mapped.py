"""Load many days at once, and wait for all of them: one gate, mapped over the ids of the jobs.

Each mapped gate waits in the triggerer, so a hundred days need no worker slot. ``total`` runs when all days are loaded.
"""

from __future__ import annotations

from datetime import datetime, timezone

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
    description="Load many days at once, and wait for all of them",
    doc_md=__doc__,
    tags=["example", "polaris"],
    params={
        "days": Param(
            ["2026-11-01", "2026-11-02", "2026-11-03"],
            type="array",
            title="Days",
            description="One job loads ten rows for each of these days.",
        )
    },
)
def polaris_mapped():
    @task(retries=0)
    def create_jobs(params=None) -> list[str]:
        from airflow_provider_polaris.hooks.polaris import PolarisHook

        hook = PolarisHook()
        return [
            hook.create_job(
                {
                    "type": "batch",
                    "ingestionMode": "append",
                    "createTableIfNotExists": True,
                    "target": {"type": "table", "tableName": "visits"},
                    "source": {
                        "type": "inline",
                        "data": f'{{"timestamp": "{day}T00:00:00Z", "page": "/"}}\n' * 10,
                        "formatSettings": {"format": "nd-json"},
                        "inputSchema": [
                            {"name": "timestamp", "dataType": "string"},
                            {"name": "page", "dataType": "string"},
                        ],
                    },
                    "mappings": [
                        {"columnName": "__time", "expression": 'TIME_PARSE("timestamp")'},
                        {"columnName": "page", "expression": '"page"'},
                    ],
                }
            ).id
            for day in params["days"]
        ]

    gates = PolarisJobSensor.partial(
        task_id="gate",
        deferrable=True,
        poke_interval=5,
        min_rows_processed=1,
        map_index_template="{{ task.job_id }}",
    ).expand(job_id=create_jobs())

    @task
    def total(loads: list[dict]) -> int:
        return sum(load["metrics"]["numRowsProcessed"] for load in loads)

    total(gates.output)


polaris_mapped()
