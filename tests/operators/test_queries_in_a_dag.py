"""What Airflow renders, stores and maps for the operator that runs a query, in DAG runs."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.operators.polaris import PolarisQueryOperator
from tests.support.airflow_versions import a_dag, run_dag
from tests.support.queries import SQL

pytestmark = [
    pytest.mark.usefixtures("airflow_db", "polaris"),
    pytest.mark.filterwarnings("ignore"),  # warnings of Airflow itself while it runs a DAG
]


def run_query(tmp_path, **options):
    """Run the operator in a DAG whose files are in a folder. Return the DAG run."""
    with a_dag(template_searchpath=[str(tmp_path)]) as dag:
        PolarisQueryOperator(task_id="query", poll_interval=0.1, **options)
    return run_dag(dag)


@pytest.mark.parametrize("deferrable", [False, True])
def test_airflow_runs_a_query_of_a_file_with_templates(tmp_path, deferrable):
    (tmp_path / "by_city.sql").write_text("SELECT {{ 1 + 1 }} AS n, ? AS name, ? AS file\n")
    result = run_query(
        tmp_path,
        sql="by_city.sql",
        parameters=["{{ dag.dag_id }}", "not_a_file.sql"],
        context={"sqlTimeZone": "{{ 'UTC' }}"},
        deferrable=deferrable,
    )
    assert result.tasks == {"query": "success"}
    assert result.xcom("query") == [[2, result.run.dag_id, "not_a_file.sql"]]
    assert result.xcom("query", "columns") == ["n", "name", "file"]
    assert result.xcom("query", "query_id").startswith("query-")


def test_rows_are_the_input_of_mapped_tasks(tmp_path):
    """A parameter that is the output of another task keeps its type."""
    with a_dag() as dag:
        first = PolarisQueryOperator(task_id="first", sql=SQL, poll_interval=0.1)
        PolarisQueryOperator.partial(task_id="second", sql="SELECT ? AS n, ? AS city", poll_interval=0.1).expand(
            parameters=first.output
        )
    result = run_dag(dag)
    assert set(result.tasks.values()) == {"success"}
