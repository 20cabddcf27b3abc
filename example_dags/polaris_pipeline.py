"""Load an hour from object storage, check it with SQL, and start other DAGs with it.

``upload`` sends the files, and finds those that an earlier try has sent. ``load`` replaces the hour, so that a second
run changes nothing, and leaves out the rows of other hours. ``check`` queries the table once. Only if it
passes, the event of its outlet starts the DAGs that are scheduled on the asset. ``clean_up`` deletes the files, also
after a load that failed: uploaded files never expire.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.timetables.interval import CronDataIntervalTimetable

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.models.param import Param

from airflow_provider_polaris.assets.uris import PolarisTable
from airflow_provider_polaris.operators.checks import PolarisTableCheckOperator
from airflow_provider_polaris.operators.polaris import (
    PolarisCreateJobOperator,
    PolarisDeleteFilesOperator,
    PolarisUploadOperator,
)

COLUMNS = {"timestamp": "string", "order_id": "string", "country": "string", "items": "long", "amount": "double"}
HOUR = "{{ data_interval_start | ts }}/{{ data_interval_end | ts }}"

with DAG(
    "polaris_pipeline",
    # On Airflow 3, a run of "@hourly" has no data interval.
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=False,
    description="Load an hour from object storage, check it with SQL, and start other DAGs with it",
    doc_md=__doc__,
    tags=["example", "polaris"],
    params={
        "source": Param(
            "s3://aws_default@lake/orders/*.json.gz",
            type="string",
            title="Source",
            description="The files: a path, an address of Airflow's object storage, or a pattern of one of them.",
        ),
    },
):
    upload = PolarisUploadOperator(
        task_id="upload",
        source="{{ params.source }}",
        name="orders/{{ data_interval_start | ts_nodash }}/",
        retries=2,
    )
    load = PolarisCreateJobOperator(
        task_id="load",
        interval=HOUR,
        deferrable=True,
        poll_interval=2,
        timeout=timedelta(hours=1),
        min_rows_processed=1,
        max_error_ratio=0.01,
        wait_until_available=True,  # the check must see all rows
        job_spec={
            "type": "batch",
            "createTableIfNotExists": True,
            "partitionedBy": "hour",
            "target": {"type": "table", "tableName": "orders_by_hour"},
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
        table="orders_by_hour",
        partition_clause=f"TIME_IN_INTERVAL(__time, '{HOUR}')",
        checks={
            "has_rows": {"check_statement": "COUNT(*) > 0"},
            "has_countries": {"check_statement": "country IS NOT NULL"},
            "costs_something": {"check_statement": "amount > 0"},
        },
        outlets=[PolarisTable("orders_by_hour")],
    )
    clean_up = PolarisDeleteFilesOperator(task_id="clean_up", names=upload.output["names"])

    upload >> load >> check
    load >> clean_up.as_teardown(setups=upload)
