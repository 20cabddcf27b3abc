"""Load each day of the past, and load any day again: every run replaces its own day.

``upload`` sends the files of the day. ``load`` replaces the day, so that a second run changes nothing, and the order of
the days does not matter. ``check`` queries the table once. ``clean_up`` deletes the files, also after a load that
failed.

With ``catchup``, Airflow runs all days since ``start_date``. ``airflow backfill create`` (on 2.11
``airflow dags backfill``) runs some days again. Three days are loaded at a time: each replaces partitions of its own.

``make demo`` in the repository of the provider runs this DAG for a day of ``example_dags/data``.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.timetables.interval import CronDataIntervalTimetable

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.models.param import Param

from airflow_provider_polaris.operators.checks import PolarisTableCheckOperator
from airflow_provider_polaris.operators.polaris import (
    PolarisCreateJobOperator,
    PolarisDeleteFilesOperator,
    PolarisUploadOperator,
)

COLUMNS = {"timestamp": "string", "order_id": "string", "country": "string", "items": "long", "amount": "double"}
DATE = "{{ data_interval_start | ds }}"
DAY = "{{ data_interval_start | ts }}/{{ data_interval_end | ts }}"

with DAG(
    "polaris_backfill",
    # On Airflow 3, a run of "@daily" has no data interval.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=True,
    max_active_runs=3,
    description="Load each day of the past, and load any day again",
    doc_md=__doc__,
    tags=["example", "polaris"],
    params={
        "folder": Param(
            "s3://aws_default@lake/orders",
            type="string",
            title="Folder",
            description="The folder with the files: a path of the worker, or an address of Airflow's object storage.",
        ),
        "max_rows_skipped_by_error": Param(
            10, type="integer", minimum=0, title="Lost rows", description="The most rows of a day that may be lost."
        ),
    },
):
    upload = PolarisUploadOperator(
        task_id="upload",
        source=f"{{{{ params.folder }}}}/orders-{DATE}*.json.gz",
        name=f"orders/{DATE}/",
        retries=2,
    )
    load = PolarisCreateJobOperator(
        task_id="load",
        interval=DAY,
        deferrable=True,
        poll_interval=2,
        timeout=timedelta(hours=2),
        retries=2,
        min_rows_processed=1,
        max_rows_skipped_by_error="{{ params.max_rows_skipped_by_error }}",
        wait_until_available=True,  # the check must see all rows
        job_spec={
            "type": "batch",
            "createTableIfNotExists": True,
            "partitionedBy": "day",
            "target": {"type": "table", "tableName": "orders_by_day"},
            "source": {
                "type": "uploaded",
                "fileList": upload.output["names"],
                "formatSettings": {"format": "nd-json"},
                "inputSchema": [{"name": name, "dataType": kind} for name, kind in COLUMNS.items()],
            },
            "mappings": [{"columnName": "__time", "expression": 'TIME_PARSE("timestamp")'}]
            + [{"columnName": name, "expression": f'"{name}"'} for name in COLUMNS if name != "timestamp"],
        },
    )
    check = PolarisTableCheckOperator(
        task_id="check",
        table="orders_by_day",
        partition_clause=f"TIME_IN_INTERVAL(__time, '{DAY}')",
        checks={
            "has_rows": {"check_statement": "COUNT(*) > 0"},
            "has_orders": {"check_statement": "order_id IS NOT NULL"},
        },
    )
    clean_up = PolarisDeleteFilesOperator(task_id="clean_up", names=upload.output["names"])

    upload >> load >> check
    load >> clean_up.as_teardown(setups=upload)
