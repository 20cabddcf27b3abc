"""Load two days of orders into Polaris, and report on them only when the data is good.

``create_job`` creates the job, ``gate`` waits for it in the triggerer, and ``report`` runs when the gate opens. A retry
of ``create_job`` would load again, so the task has no retries. The gate can be retried and cleared at any time.

``polaris_create`` does both in one task. The project needs the files of ``example_dags/data`` in the repository of the
provider.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import Param, dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task
    from airflow.models.param import Param

from airflow_provider_polaris.sensors.polaris import PolarisJobSensor

COLUMNS = {"timestamp": "string", "order_id": "string", "country": "string", "items": "long", "amount": "double"}


@dag(
    schedule=None,
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=False,
    description="Load two days of orders, and report on them only when the data is good",
    doc_md=__doc__,
    tags=["example", "polaris"],
    params={
        "files": Param(
            ["orders-2026-11-01.json.gz", "orders-2026-11-02.json.gz"],
            type="array",
            title="Files",
            description="The names of files that are uploaded to the project.",
        ),
        "max_rows_skipped_by_error": Param(
            10, type="integer", minimum=0, title="Lost rows", description="The most rows that may be lost."
        ),
    },
)
def polaris_gate():
    @task(retries=0)
    def create_job(params=None) -> str:
        from airflow_provider_polaris.hooks.polaris import PolarisHook

        job = PolarisHook().create_job(
            {
                "type": "batch",
                "ingestionMode": "append",
                "createTableIfNotExists": True,
                "target": {"type": "table", "tableName": "orders"},
                "source": {
                    "type": "uploaded",
                    "fileList": params["files"],
                    "formatSettings": {"format": "nd-json"},
                    "inputSchema": [{"name": name, "dataType": kind} for name, kind in COLUMNS.items()],
                },
                "mappings": [{"columnName": "__time", "expression": 'TIME_PARSE("timestamp")'}]
                + [{"columnName": name, "expression": f'"{name}"'} for name in COLUMNS if name != "timestamp"],
            }
        )
        return job.id

    gate = PolarisJobSensor(
        task_id="gate",
        job_id=create_job(),
        deferrable=True,
        poke_interval=2,
        timeout=timedelta(hours=2),
        min_rows_processed=1,
        max_rows_skipped_by_error="{{ params.max_rows_skipped_by_error }}",
    )

    @task
    def report(load: dict) -> str:
        metrics = load["metrics"]
        return (
            f"{load['table']}: {metrics['numRowsProcessed']:,} rows in, "
            f"{metrics['numRowsSkippedByError']:,} lost, after {load['duration_seconds']} s"
        )

    report(gate.output)


polaris_gate()
