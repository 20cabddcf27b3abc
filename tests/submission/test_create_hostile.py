"""What a hostile review did to the task that creates a job: loads twice, green by mistake, dead ends, wrong reasons."""

from __future__ import annotations

import asyncio
import json
import math
import types
import uuid
from datetime import datetime, timedelta, timezone
from importlib import import_module

import pytest

from airflow_provider_polaris.api.job_spec import sql_target
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.operators.polaris import PolarisCancelJobOperator, PolarisCreateJobOperator
from airflow_provider_polaris.sensors.polaris import PolarisJobSensor
from airflow_provider_polaris.submission.submission_record import KEY
from airflow_provider_polaris.submission.submit_once import SEARCHED_JOBS
from tests.hooks.test_polaris_hook import SPEC
from tests.operators.test_create import SQL, FakeStore, Task, jobs_of, posts
from tests.submission.test_kill import puts, running, state, waiting  # noqa: F401 - two of them are fixtures
from tests.support.airflow_versions import AIRFLOW_3, DAG, AirflowTaskTimeout, FakeTaskInstance, context_of, run_dag
from tests.support.run_task import one_event, outcome_of

#: Long enough, with a moved clock, for data that is really read.
LONG = {"poll_interval": 1, "timeout": 10**8}


def query_into_a_new_table():
    table = f"t-{uuid.uuid4()}"
    return table, {**SQL, "query": f'INSERT INTO "{table}" SELECT 1 PARTITIONED BY ALL'}


def rows_into_a_new_table():
    return {**SPEC, "target": {"type": "table", "tableName": f"b-{uuid.uuid4()}"}}


def a_dag(**options):
    begin = datetime(2026, 11, 1, tzinfo=timezone.utc)
    return DAG(f"d{uuid.uuid4().hex}", schedule=None, start_date=begin, catchup=False, **options)


def run_load(spec, dag_options=None, **options):
    with a_dag(**(dag_options or {})) as dag:
        PolarisCreateJobOperator(task_id="load", job_spec=spec, **{"poll_interval": 0.1, **options})
    return run_dag(dag).tasks["load"]


@pytest.fixture(autouse=True)
def _no_orders_are_left(polaris):
    yield
    polaris.clear_faults()


class TestNeverTwice:
    @pytest.mark.parametrize(("newer", "kind"), [(SEARCHED_JOBS - 1, "success"), (SEARCHED_JOBS, "PolarisJobLost")])
    def test_a_job_behind_many_newer_ones_is_found_or_not_known_to_be_absent(self, polaris, moved_clock, newer, kind):
        table, spec = query_into_a_new_table()
        task = Task(store=False)
        polaris.next_job("hang", table=table)
        polaris.set_status(task.run(spec, timeout=60).pushed["job_id"], "completed")
        for _ in range(newer):
            polaris.add_job(type="sql", target={"type": "table", "tableName": table}, executionStatus="completed")
        polaris.next_job("complete", table=table)
        assert task.run(spec).kind == kind
        assert len(posts(polaris)) == 1

    def test_a_spec_that_went_out_late_is_waited_for_since_then(self, polaris, hook, moved_clock, monkeypatch):
        """It is sent after two minutes of 429, cut in mid-answer, and arrives a little later."""
        table, spec = query_into_a_new_table()
        task, sent, right = Task(), [], PolarisHook.create_job
        monkeypatch.setattr(PolarisHook, "create_job", lambda self, spec: sent.append(spec) or right(self, spec))
        polaris.fail_next(4, status=429, retry_after=30, match="POST")
        polaris.fail_next(1, status=503, match="POST")

        def arrive():
            if moved_clock.slept[-1] == 15 and not jobs_of(hook, table):  # the first look was in vain
                where = {"type": "table", "tableName": table}
                polaris.add_job(type="sql", query=sent[0]["query"], target=where, executionStatus="completed")

        moved_clock.on_sleep = arrive
        assert task.run(spec).kind == "success"
        assert len(jobs_of(hook, table)) == 1

    def test_so_is_one_whose_worker_was_lost_while_it_sent(self, polaris, hook, moved_clock):
        table, spec = query_into_a_new_table()
        task = Task()
        note = {
            "state": "sending",
            "clear_generation": 1,
            "at": moved_clock.time,
            "marker": "airflow-provider-polaris abc",
        }
        task.store.set(KEY, note)
        task.try_number = 1
        moved_clock.time += 130  # more than a spec may be under way, less than it may be held up before
        query = f'INSERT INTO "{table}" SELECT 1\n/* airflow-provider-polaris abc */'

        def arrive():
            if not jobs_of(hook, table):
                where = {"type": "table", "tableName": table}
                polaris.add_job(type="sql", query=query, target=where, executionStatus="completed")

        moved_clock.on_sleep = arrive
        assert task.run(spec).kind == "success"
        assert not posts(polaris)

    @pytest.mark.parametrize(("before", "after", "is_query"), [(5, 2, True), (5, 2, False), (2, 5, True)])
    def test_a_dag_file_may_change_its_retries_between_two_tries(self, polaris, moved_clock, before, after, is_query):
        spec = query_into_a_new_table()[1] if is_query else rows_into_a_new_table()
        task = Task(store=False, retries=before)
        polaris.next_job("hang")
        task.run(spec, timeout=60)
        task.retries = after  # max_tries stays what it is, as in Airflow's database
        polaris.next_job("complete")
        assert task.run(spec, **LONG).kind == "PolarisJobLost"
        assert len(posts(polaris)) == 1

    def test_or_before_the_first(self, polaris, moved_clock):
        task = Task(store=False, retries=2)
        task.retries = 5
        assert task.run(rows_into_a_new_table(), **LONG).kind == "success"

    @pytest.mark.parametrize("what", ["unhealthy", "canceled"])
    def test_a_verdict_that_could_not_be_told_is_given_again(self, polaris, hook, moved_clock, monkeypatch, what):
        table, spec = query_into_a_new_table()
        task = Task()
        polaris.next_job("hang", table=table)
        unhealthy = {"executionStatus": "running", "health": {"status": "error", "code": "c"}}
        bad = unhealthy if what == "unhealthy" else {"executionStatus": "canceled"}
        moved_clock.on_sleep = lambda: polaris.set_fields(jobs_of(hook, table)[-1].id, **bad)
        right = FakeTaskInstance.xcom_push

        def push(self, key, value, **options):
            if key == "metrics":
                raise ConnectionError("the API server is gone")
            right(self, key, value, **options)

        monkeypatch.setattr(FakeTaskInstance, "xcom_push", push)
        assert task.run(spec, deferrable=False, fail_on_unhealthy=True).kind == "ConnectionError"
        monkeypatch.setattr(FakeTaskInstance, "xcom_push", right)
        again = task.run(spec, deferrable=False, fail_on_unhealthy=True)
        assert again.kind == ("PolarisGateRefused" if what == "unhealthy" else "PolarisJobCanceled")
        assert len(posts(polaris)) == 1

    def test_a_clear_goes_on_with_a_job_that_was_refused_while_it_ran(self, polaris, hook, moved_clock):
        table, spec = query_into_a_new_table()
        task = Task()
        polaris.next_job("hang", table=table)
        bad = {"executionStatus": "running", "health": {"status": "error", "code": "c"}}
        moved_clock.on_sleep = lambda: polaris.set_fields(jobs_of(hook, table)[-1].id, **bad)
        assert task.run(spec, fail_on_unhealthy=True, deferrable=False).kind == "PolarisGateRefused"
        task.clear()
        assert task.run(spec, fail_on_unhealthy=True, deferrable=False).kind == "PolarisGateRefused"
        assert len(posts(polaris)) == 1, "two would load side by side"

    @pytest.mark.parametrize(
        "garbage", ["x", {"state": "paused", "clear_generation": 1, "at": 1.0, "job_id": "j"}], ids=str
    )
    def test_a_note_that_a_retry_cannot_read_is_no_proof_of_absence(self, polaris, moved_clock, garbage):
        _, spec = query_into_a_new_table()
        task = Task()
        polaris.next_job("hang")
        polaris.set_status(task.run(spec, timeout=60).pushed["job_id"], "completed")
        task.store.set(KEY, garbage)
        assert task.run(spec).kind == "success"
        task.store.set(KEY, garbage)
        assert task.run(rows_into_a_new_table()).kind == "PolarisJobLost"
        assert len(posts(polaris)) == 1

    def test_a_job_that_somebody_unknown_canceled_is_not_loaded_again(self, polaris, moved_clock):
        table, spec = query_into_a_new_table()
        task = Task(store=False)
        polaris.next_job("hang", table=table)
        job_id = task.run(spec, timeout=60).pushed["job_id"]
        polaris.set_fields(job_id, executionStatus="canceled", createdBy=None, lastModifiedBy=None)
        assert task.run(spec).kind == "PolarisJobCanceled"
        assert len(posts(polaris)) == 1


class TestNeverGreenByMistake:
    def test_a_task_that_is_cleared_with_another_spec_loads_that(self, polaris, hook, moved_clock):
        (old, old_spec), (new, new_spec) = query_into_a_new_table(), query_into_a_new_table()
        task = Task()
        polaris.next_job("hang", table=old)
        first = task.run(old_spec, timeout=60)
        task.clear()
        running_yet = task.run(new_spec)
        assert running_yet.kind == "PolarisJobLost"
        assert "from another spec" in str(running_yet.error)
        assert first.pushed["job_id"] in str(running_yet.error)
        polaris.set_status(first.pushed["job_id"], "completed")
        task.clear()
        polaris.next_job("complete", table=new)
        assert task.run(new_spec).kind == "success"
        assert len(jobs_of(hook, new)) == 1

    def test_what_became_of_another_spec_whose_answer_was_lost_is_not_known(self, polaris, moved_clock):
        task = Task()
        task.store.set(
            KEY, {"state": "sending", "clear_generation": 1, "at": moved_clock.time, "spec": "of something else"}
        )
        task.try_number = 1
        task.clear()
        assert task.run(query_into_a_new_table()[1]).kind == "PolarisJobLost"
        assert not posts(polaris)

    @pytest.mark.usefixtures("airflow_db")
    @pytest.mark.filterwarnings("ignore")  # Airflow's own, while it runs a DAG
    @pytest.mark.parametrize("there", [False, True])
    def test_a_name_in_a_spec_may_end_like_a_file(self, polaris, tmp_path, there):
        if there:
            (tmp_path / "orders-2.json").write_text('{"timestamp": "2026-11-01"}\n')
        source = {**SPEC["source"], "type": "uploaded", "fileList": ["orders-{{ 1 + 1 }}.json"]}
        run_load({**SPEC, "source": source}, {"template_searchpath": [str(tmp_path)]})
        assert [body["source"]["fileList"] for body in posts(polaris)] == [["orders-2.json"]]

    @pytest.mark.usefixtures("airflow_db")
    @pytest.mark.filterwarnings("ignore")  # Airflow's own, while it runs a DAG
    def test_a_spec_may_still_be_a_file(self, polaris, tmp_path):
        _, spec = query_into_a_new_table()
        (tmp_path / "spec.json").write_text(json.dumps({**spec, "context": {"limit": "{{ 1 + 1 }}"}}))
        polaris.next_job("complete")
        assert run_load("spec.json", {"template_searchpath": [str(tmp_path)]}) == "success"
        assert posts(polaris)[0]["context"] == {"limit": "2"}

    @pytest.mark.usefixtures("airflow_db")
    @pytest.mark.filterwarnings("ignore")  # Airflow's own, while it runs a DAG
    @pytest.mark.parametrize("kind", ["operator", "sensor"])
    def test_a_threshold_that_is_mapped_over_must_not_be_none(self, polaris, kind):
        job_id = polaris.add_job(executionStatus="completed", metrics={"numRowsProcessed": 0})
        polaris.next_job("complete", metrics={"numRowsProcessed": 0})
        task = import_module("airflow.sdk" if AIRFLOW_3 else "airflow.decorators").task

        @task
        def least():
            return [None]

        with a_dag() as dag:
            if kind == "operator":
                mapped = PolarisCreateJobOperator.partial(task_id="gate", job_spec=SQL, poll_interval=0.1)
            else:
                mapped = PolarisJobSensor.partial(task_id="gate", job_id=job_id, poke_interval=0.1, project_id=None)
            mapped.expand(min_rows_processed=least())
        assert run_dag(dag).tasks["gate"] == "failed"
        assert not posts(polaris)

    @pytest.mark.usefixtures("airflow_db")
    @pytest.mark.filterwarnings("ignore")  # Airflow's own, while it runs a DAG
    def test_one_that_is_none_for_all_is_not_set(self, polaris):
        job_ids = [polaris.add_job(executionStatus="completed", metrics={"numRowsProcessed": 0}) for _ in range(2)]
        with a_dag() as dag:
            PolarisJobSensor.partial(task_id="gate", poke_interval=0.1, min_rows_processed=None).expand(job_id=job_ids)
        assert run_dag(dag).tasks["gate"] == "success"

    def test_a_mapping_that_airflow_would_not_render_is_refused(self, polaris):
        spec = types.MappingProxyType({**SPEC, "target": {"type": "table", "tableName": "t-{{ 1 + 1 }}"}})
        assert Task().run(spec).kind == "PolarisOptionError"
        assert not polaris.requests


class TestNoDeadEnds:
    def test_before_3_3_a_retry_loads_a_query_again_that_failed(self, polaris, moved_clock):
        table, spec = query_into_a_new_table()
        task = Task(store=False)
        polaris.next_job("fail", table=table)
        polaris.next_job("complete", table=table)
        assert task.run(spec).kind == "PolarisJobFailed"
        assert task.run(spec).kind == "success"

    def test_a_connection_that_was_missing_is_no_spec_that_was_sent(self, polaris, moved_clock, monkeypatch):
        task, spec, right = Task(), rows_into_a_new_table(), polaris.connection_json
        monkeypatch.delenv("AIRFLOW_CONN_POLARIS_DEFAULT")
        assert task.run(spec).kind == "PolarisConnectionMissing"
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", right)
        assert task.run(spec, **LONG).kind == "success"

    def test_a_clear_loads_again_when_the_job_is_gone(self, polaris, moved_clock):
        task = Task()
        polaris.next_job("hang")
        polaris.remove_job(task.run(timeout=60).pushed["job_id"])
        assert "clear this task to load again" in str(task.run().error)
        task.clear()
        polaris.next_job("complete")
        assert task.run().kind == "success"

    def test_one_404_does_not_prove_that_it_is_gone(self, polaris, moved_clock):
        task = Task()
        polaris.next_job("hang")
        task.run(timeout=60)
        polaris.fail_next(1, status=404, match="GET .*/jobs/")
        assert task.run(timeout=60).kind == "PolarisJobTimeout"

    @pytest.mark.parametrize("broken", ["canceling", "failed"])
    def test_a_note_that_fails_hides_no_reason(self, polaris, moved_clock, monkeypatch, broken):
        task, right = Task(), FakeStore.set

        def note(self, key, value):
            if value["state"] == broken:
                raise OSError("the API server is gone")
            right(self, key, value)

        monkeypatch.setattr(FakeStore, "set", note)
        if broken == "failed":
            polaris.fail_next(1, status=400, match="POST")
            assert task.run(rows_into_a_new_table()).kind == "PolarisBadRequest"
        else:
            polaris.next_job("hang")
            assert task.run(timeout=60, cancel_on_timeout=True).kind == "PolarisJobTimeout"

    @pytest.mark.usefixtures("airflow_db")
    @pytest.mark.filterwarnings("ignore")  # Airflow's own, while it runs a DAG
    @pytest.mark.skipif(not AIRFLOW_3, reason="2.11 has no references to assets")
    def test_an_outlet_that_airflow_does_not_know_is_no_fault_of_the_load(self, polaris):
        from airflow.sdk import Asset

        polaris.next_job("complete", table="by_sql")
        assert run_load(SQL, outlets=[Asset.ref(uri=f"x://{uuid.uuid4().hex}")]) == "success"


class TestKills:
    def test_a_user_may_kill_what_a_shutdown_has_told_to_end(self, running, state):  # noqa: F811
        def on_sleep():
            if len(running.clock.slept) in (2, 4):
                state.value = {2: "running", 4: "failed"}[len(running.clock.slept)]
                running.operator.on_kill()

        running.clock.on_sleep = on_sleep
        context = running.task.context()
        assert outcome_of(lambda: running.operator.execute(context), context["ti"]).kind == "PolarisJobCanceled"
        assert len(puts(running.polaris)) == 1

    @pytest.mark.parametrize("told", ["up_for_retry", "up_for_reschedule", "upstream_failed", "of a later release"])
    def test_a_trigger_leaves_the_job_where_nobody_is_known_to_have_acted(self, polaris, state, told):  # noqa: F811
        job_id = polaris.add_job(executionStatus="running")
        state.value = told
        asyncio.run(waiting(job_id).on_kill())
        assert not puts(polaris)

    def test_and_where_its_wait_was_over(self, polaris, state, moved_clock):  # noqa: F811
        job_id = polaris.add_job(executionStatus="running")
        state.value = "scheduled"  # to go on after the event of another triggerer: it is time
        asyncio.run(waiting(job_id, deadline=moved_clock.time - 1).on_kill())
        assert not puts(polaris)


class TestTimes:
    @pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
    def test_execution_timeout_in_the_first_look_cancels_if_it_is_to(self, polaris, deferrable):
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
    @pytest.mark.filterwarnings("ignore")  # Airflow's own, while it runs a task
    def test_on_2_11_a_deferred_task_is_back_before_airflow_ends_it(self, polaris):
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

    @pytest.mark.parametrize("value", [math.inf, math.nan, 10**12, 0, -1, "30", None, True, timedelta.max], ids=str)
    @pytest.mark.parametrize("name", ["timeout", "poll_interval"])
    @pytest.mark.parametrize("task", ["create", "cancel"])
    def test_that_cannot_be_are_refused_before_anything_is_sent(self, polaris, task, name, value):
        job_id = polaris.add_job(executionStatus="running")
        if task == "create":
            operator = PolarisCreateJobOperator(task_id="t", job_spec=SQL, **{name: value})
        else:
            operator = PolarisCancelJobOperator(task_id="t", job_id=job_id, **{name: value})
        ti = FakeTaskInstance()
        assert outcome_of(lambda: operator.execute(context_of(ti)), ti).kind == "PolarisOptionError"
        assert not polaris.requests

    @pytest.mark.parametrize("options", [{"timeout": 10**12}, {"poke_interval": 4e9}, {"timeout": 0}], ids=str)
    def test_nor_a_sensors(self, polaris, options):
        ti = FakeTaskInstance()
        sensor = PolarisJobSensor(task_id="t", job_id="some-job", **options)
        assert outcome_of(lambda: sensor.execute(context_of(ti)), ti).kind == "PolarisOptionError"
        assert not polaris.requests


class TestSpecs:
    def test_a_large_one_is_in_no_message(self):
        for spec in ({"type": "x" * 5_000_000}, {**SPEC, "target": {"type": ["x" * 5_000_000], "tableName": "t"}}):
            assert len(str(Task().run(spec).error)) < 1000

    @pytest.mark.parametrize("bad", [{1, 2}, datetime(2026, 1, 1, tzinfo=timezone.utc), math.nan, -math.inf], ids=str)
    def test_what_is_no_json_is_named_by_its_path(self, bad):
        outcome = Task().run({**SQL, "context": {"limits": [1, bad]}})
        assert outcome.kind == "PolarisOptionError"
        assert "context.limits[1]" in str(outcome.error)

    def test_one_that_is_too_deep_is_refused(self):
        assert Task().run("[" * 100_000 + "]" * 100_000).kind == "PolarisOptionError"

    @pytest.mark.parametrize(
        "query",
        [
            'INSERT INTO /* x */ "t" SELECT 1',
            'INSERT INTO -- x\n "t" SELECT 1',
            'INSERT/**/INTO "t" SELECT 1',
            'INSERT INTO"t" SELECT 1',
            "/* a */ -- b\n replace into t SELECT 1",
            'INSERT INTO "druid"."t" SELECT 1',
            "INSERT INTO druid.t SELECT 1",
        ],
    )
    def test_a_query_may_be_written_in_many_ways(self, query):
        assert sql_target(query) == "t"

    @pytest.mark.parametrize(
        "query", ["INSERTINTO t", "INSERT t", "SELECT 1", "INSERT INTO", "", "-- INSERT INTO t", None]
    )
    def test_but_is_an_insert(self, query):
        assert sql_target(query) is None

    def test_xcom_stays_small_whatever_polaris_answers(self, polaris, moved_clock):
        polaris.next_job("complete", table="by_sql", health={"status": "warn", "code": "x" * 300_000})
        assert len(json.dumps(Task().run().xcom)) < 4096
