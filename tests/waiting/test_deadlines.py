"""When a wait ends: timeouts, Airflow's execution_timeout, and impossible times."""

from __future__ import annotations

import math
import uuid
from datetime import datetime, timedelta, timezone
from importlib import import_module

import pytest

from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator, PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from tests.support.airflow_versions import AIRFLOW_3, DAG, AirflowTaskTimeout, FakeTaskInstance, a_dag, context_of
from tests.support.create_tasks import Task, puts
from tests.support.run_task import one_event, outcome_of
from tests.support.specs import SQL, query_into_a_new_table


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_execution_timeout_in_the_first_poll_cancels_the_job_with_cancel_on_timeout(polaris, deferrable):
    timeout = import_module("airflow.sdk.execution_time.timeout" if AIRFLOW_3 else "airflow.utils.timeout").timeout
    table, spec = query_into_a_new_table()
    polaris.next_job("hang", table=table)
    polaris.hang_next(1, match="GET .*/jobs/")
    operator = PolarisCreateJobOperator(
        task_id="load",
        job_spec=spec,
        deferrable=deferrable,
        cancel_on_timeout=True,
        execution_timeout=timedelta(seconds=1),
    )
    context = Task(retries=0).context()

    def run():
        with timeout(1):  # as Airflow's task runner wraps it
            operator.execute(context)

    assert outcome_of(run, context["ti"]).kind == "execution_timeout"
    polaris.clear_faults()
    assert len(puts(polaris)) == 1


@pytest.mark.skipif(AIRFLOW_3, reason="3.x does not end a deferred task by itself: tests/operators/test_create.py")
@pytest.mark.usefixtures("airflow_db")
@pytest.mark.filterwarnings("ignore")  # warnings of Airflow itself while it runs a task
def test_a_deferred_task_on_2_11_resumes_before_airflow_ends_it(polaris):
    from airflow.models import TaskInstance, Trigger
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunType

    table, spec = query_into_a_new_table()
    polaris.next_job("hang", table=table)
    with a_dag() as dag:
        PolarisCreateJobOperator(
            task_id="load",
            job_spec=spec,
            poll_interval=0.5,
            deferrable=True,
            execution_timeout=timedelta(seconds=8),
            cancel_on_timeout=True,
        )
    DAG.bulk_write_to_db([dag])
    now = datetime.now(timezone.utc)
    with create_session() as session:
        run = dag.create_dagrun(
            run_id=uuid.uuid4().hex,
            state=DagRunState.RUNNING,
            execution_date=now,
            run_type=DagRunType.MANUAL,
            session=session,
            start_date=now,
            data_interval=(now, now),
        )
        run_id = run.run_id

    def fresh():
        instance = TaskInstance(dag.get_task("load"), run_id=run_id)
        instance.refresh_from_db()
        instance.task = dag.get_task("load")
        return instance

    fresh().run(ignore_all_deps=True, ignore_ti_state=True)
    with create_session() as session:
        row = session.get(Trigger, fresh().trigger_id)
        (module, _, name), kwargs = row.classpath.rpartition("."), dict(row.kwargs)
    Trigger.submit_event(fresh().trigger_id, one_event(getattr(import_module(module), name)(**kwargs)))
    with pytest.raises(AirflowTaskTimeout, match="execution_timeout"):
        fresh().run(ignore_all_deps=True)
    assert len(puts(polaris)) == 1


IMPOSSIBLE = [math.inf, math.nan, 10**12, 0, -1, "30", None, True, timedelta.max]
IMPOSSIBLE_OPTIONS = [
    (task, name, value)
    for task in ("create", "cancel")
    for name in ("timeout", "poll_interval")
    for value in IMPOSSIBLE
    # Without a poll_interval, the configuration gives one.
    if (task, name, value) != ("create", "poll_interval", None)
]


@pytest.mark.parametrize(("task", "name", "value"), IMPOSSIBLE_OPTIONS, ids=str)
def test_an_operator_rejects_an_impossible_time_before_it_sends_anything(polaris, task, name, value):
    job_id = polaris.add_job(executionStatus="running")
    if task == "create":
        operator = PolarisCreateJobOperator(task_id="t", job_spec=SQL, **{name: value})
    else:
        operator = PolarisCancelJobOperator(task_id="t", job_id=job_id, **{name: value})
    ti = FakeTaskInstance()
    assert outcome_of(lambda: operator.execute(context_of(ti)), ti).kind == "PolarisOptionInvalid"
    assert not polaris.requests


@pytest.mark.parametrize("options", [{"timeout": 10**12}, {"poke_interval": 4e9}, {"timeout": 0}], ids=str)
def test_a_sensor_rejects_an_impossible_time_before_it_sends_anything(polaris, options):
    ti = FakeTaskInstance()
    sensor = PolarisJobSensor(task_id="t", job_id="some-job", **options)
    assert outcome_of(lambda: sensor.execute(context_of(ti)), ti).kind == "PolarisOptionInvalid"
    assert not polaris.requests
