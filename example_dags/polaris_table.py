"""Wait for the load of a day that another tool starts, for example the console, Terraform or a script.

The gate opens at the first good load of the table that completes after the end of the run's day, whoever started it. So
each run of a backfill takes the load of its own day. A load that is not good enough is logged, and the gate waits for
the next one.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import Param, dag, task
except ImportError:  # Airflow 2.11
    from airflow.decorators import dag, task
    from airflow.models.param import Param

from airflow_provider_polaris.sensors.polaris import PolarisTableSensor


@dag(
    schedule="@daily",
    start_date=datetime(2026, 11, 1, tzinfo=timezone.utc),
    catchup=False,
    description="Wait for the load of a day that another tool starts",
    doc_md=__doc__,
    tags=["example", "polaris"],
    params={"table": Param("orders", type="string", title="Table", description="The table that is loaded.")},
)
def polaris_table():
    gate = PolarisTableSensor(
        task_id="gate",
        table="{{ params.table }}",
        completed_after="{{ data_interval_end }}",
        deferrable=True,
        poke_interval=10,
        timeout=timedelta(hours=12),
        min_rows_processed=1,
    )

    @task
    def report(load: dict) -> str:
        return f"{load['table']} was loaded at {load['completed_at']}"

    report(gate.output)


polaris_table()
