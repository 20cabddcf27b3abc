"""Run a day of polaris_backfill through Airflow, and write the result from Airflow's database to a JSON file.

python scripts/run_dag.py CONF_AS_JSON RESULT.json
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow import __version__ as airflow_version

EXAMPLES = Path(__file__).resolve().parent.parent / "example_dags"
#: The end of the day of which a run loads the orders.
DAY_IS_OVER = datetime(2026, 11, 2, tzinfo=timezone.utc)


def load_dag(dag_id: str) -> Any:
    """Return an example DAG, read by Airflow's own parser."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow before 3.2
        from airflow.models.dagbag import DagBag

    bag = DagBag(str(EXAMPLES))  # the configuration turns off the examples of Airflow itself
    if bag.import_errors:
        raise ImportError(str(bag.import_errors))
    return bag.dags[dag_id]


def run_at(dag: Any, conf: dict[str, Any] | None = None, moment: datetime | None = None) -> Any:
    """Run a DAG through Airflow, and return its run.

    :param moment: the logical date, by default now. The data interval is the last one that is over at that time.
    """
    if not airflow_version.startswith("2."):
        return dag.test(run_conf=conf, **({} if moment is None else {"logical_date": moment}))
    # Airflow deletes an earlier run of the same date, and needs the table to which the notes of a run refer.
    import airflow.providers.fab.auth_manager.models  # noqa: F401

    return dag.test(run_conf=conf, execution_date=moment)


def states_of(run: Any) -> dict[str, str]:
    """Return the state of each task of a DAG run."""
    return {ti.task_id: str(getattr(ti.state, "value", ti.state)) for ti in run.get_task_instances()}


def xcom_of(run: Any, task_id: str, key: str = "return_value") -> Any:
    """Return a value from Airflow's database, or ``None`` if there is no such value."""
    if airflow_version.startswith("2."):
        return run.get_task_instance(task_id).xcom_pull(task_ids=task_id, key=key)
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        query = XComModel.get_many(run_id=run.run_id, key=key, task_ids=[task_id], dag_ids=[run.dag_id])
        row = session.scalars(query).first()
        return row and XComModel.deserialize_value(row)


def main(conf: str, result: str) -> None:
    """Run the day."""
    dag = load_dag("polaris_backfill")
    dag.get_task("load").wait_until_available = False  # it would take 30 s, and local rows can be queried at once
    run = run_at(dag, json.loads(conf), DAY_IS_OVER)
    ended = next(ti.end_date for ti in run.get_task_instances() if ti.task_id == "load")
    seen = {
        "tasks": states_of(run),
        "job_id": xcom_of(run, "load", "job_id"),
        "metrics": xcom_of(run, "load", "metrics"),
        "ended": ended.isoformat(),
    }
    Path(result).write_text(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
