"""Start a stream unless it runs, and hold it back while something else happens to its table.

``start`` creates the streaming job, or leaves the job that streams into the table as it is. ``suspend`` waits until the
stream is suspended. ``resume`` is a teardown: it lets the stream continue, also if ``maintain`` has failed. The events
of the meantime wait in the stream.

The project needs a connection of the type ``push_streaming``, ``kafka`` or ``kinesis``.
"""

from __future__ import annotations

from datetime import datetime, timezone

try:
    from airflow.sdk import DAG, Param, task
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.decorators import task
    from airflow.models.param import Param

from airflow_provider_polaris.operators.polaris import PolarisStreamOperator

TABLE = "clicks_by_minute"

with DAG(
    "polaris_maintenance",
    schedule="@weekly",
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=False,
    description="Start a stream unless it runs, and hold it back for a while",
    doc_md=__doc__,
    tags=["example", "polaris"],
    params={
        "connection": Param("clicks", type="string", title="Connection", description="Of Polaris, not of Airflow."),
    },
):
    start = PolarisStreamOperator(
        task_id="start",
        action="start",
        job_spec={
            "type": "streaming",
            "createTableIfNotExists": True,
            "target": {"type": "table", "tableName": TABLE},
            "source": {
                "type": "connection",
                "connectionName": "{{ params.connection }}",
                "formatSettings": {"format": "nd-json"},
                "inputSchema": [
                    {"name": "timestamp", "dataType": "string"},
                    {"name": "page", "dataType": "string"},
                ],
            },
            "mappings": [
                {"columnName": "__time", "expression": "TIME_FLOOR(TIME_PARSE(\"timestamp\"), 'PT1M')"},
                {"columnName": "page", "expression": '"page"'},
                {"columnName": "clicks", "expression": "COUNT(*)", "isAggregation": True},
            ],
        },
        retries=2,
    )
    suspend = PolarisStreamOperator(task_id="suspend", action="suspend", table=TABLE, retries=2)
    resume = PolarisStreamOperator(task_id="resume", action="resume", table=TABLE, retries=2)

    @task
    def maintain() -> str:
        """Do what needs a table that does not change."""
        from airflow_provider_polaris.hooks.polaris import PolarisHook

        return f"{TABLE} is {PolarisHook().get_table(TABLE).availability}"

    start >> suspend >> maintain() >> resume.as_teardown(setups=suspend)
