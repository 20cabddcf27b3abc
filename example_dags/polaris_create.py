"""Load orders with one task, and start a second DAG with the loaded data.

``load`` creates the job, waits for it in the triggerer, and succeeds only if the data is good. A retry continues with
the job of the previous try. The event of its outlet carries the job and its counters. ``polaris_report`` is scheduled
on the outlet and reads them.

The project needs the files of ``example_dags/data`` in the repository of the provider.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import DAG, Asset, Param, task
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.datasets import Dataset as Asset
    from airflow.decorators import task
    from airflow.models.param import Param

from airflow_provider_polaris.operators.polaris import PolarisCreateJobOperator

ORDERS = Asset("polaris://orders")
COLUMNS = {"timestamp": "string", "order_id": "string", "country": "string", "items": "long", "amount": "double"}
START = datetime(2026, 11, 1, tzinfo=timezone.utc)

with DAG(
    "polaris_create",
    schedule=None,
    start_date=START,
    catchup=False,
    description="Load orders with one task, and give the loaded data to other DAGs",
    doc_md=__doc__,
    tags=["example", "polaris"],
    params={
        "files": Param(
            ["orders-2026-11-01.json.gz", "orders-2026-11-02.json.gz"],
            type="array",
            title="Files",
            description="The names of two files that are uploaded to the project.",
        ),
        "max_rows_skipped_by_error": Param(
            10, type="integer", minimum=0, title="Lost rows", description="The most rows that may be lost."
        ),
    },
):
    load = PolarisCreateJobOperator(
        task_id="load",
        outlets=[ORDERS],
        deferrable=True,
        poll_interval=2,
        timeout=timedelta(hours=2),
        min_rows_processed=1,
        max_rows_skipped_by_error="{{ params.max_rows_skipped_by_error }}",
        job_spec={
            "type": "batch",
            "ingestionMode": "append",
            "createTableIfNotExists": True,
            "target": {"type": "table", "tableName": "orders"},
            "source": {
                "type": "uploaded",
                "fileList": ["{{ params.files[0] }}", "{{ params.files[1] }}"],
                "formatSettings": {"format": "nd-json"},
                "inputSchema": [{"name": name, "dataType": kind} for name, kind in COLUMNS.items()],
            },
            "mappings": [{"columnName": "__time", "expression": 'TIME_PARSE("timestamp")'}]
            + [{"columnName": name, "expression": f'"{name}"'} for name in COLUMNS if name != "timestamp"],
        },
    )

with DAG(
    "polaris_report",
    schedule=[ORDERS],
    start_date=START,
    catchup=False,
    description="Report on each load that polaris_create has finished",
    doc_md=__doc__,
    tags=["example", "polaris"],
):

    @task(inlets=[ORDERS])
    def report(inlet_events=None, triggering_asset_events=None, triggering_dataset_events=None) -> list[str]:
        """Report on all loads that have started this run. Airflow may start one run for several events."""
        by_asset = triggering_asset_events or triggering_dataset_events or {}  # Airflow 2.11 has the second name
        events = [event for group in by_asset.values() for event in group]
        if not events:  # a person has started this run
            events = inlet_events[ORDERS]
        lines = []
        for event in events:
            job = event.extra["polaris_job"]
            metrics = job["metrics"]
            lines.append(
                f"{job['table']}: {metrics['numRowsProcessed']:,} rows in, "
                f"{metrics['numRowsSkippedByError']:,} lost, after {job['duration_seconds']} s"
            )
        return lines

    report()
