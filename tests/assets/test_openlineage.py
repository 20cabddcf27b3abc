"""Tasks run through Airflow, and the events that Airflow's OpenLineage provider writes to a file about them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tests.support.local_calls import API_KEY
from tests.support.specs import SPEC, STREAMING, uploaded

pytest.importorskip("airflow.providers.openlineage", reason="make lineage installs Airflow's OpenLineage provider")

OK = {"status": "ok"}
COMPLETED = {"executionStatus": "completed", "health": OK}
TARGET = {"type": "table", "tableName": "orders"}
METRICS = {
    "numRowsProcessed": 90,
    "numRowsProcessedWithWarning": 5,
    "numRowsSkippedByError": 5,
    "numRowsPersisted": 80,
}


@pytest.fixture
def namespace(polaris):
    return f"polaris://{polaris.url.partition('://')[2]}"


@pytest.fixture
def events_of(polaris, lineage):
    """Return a function that runs the tasks of a DAG, and returns the last event of each."""

    def run(tasks):
        seen = lineage.run_tasks(tasks)
        return {task_id: {**event, "log": seen.log} for task_id, (event,) in seen.events.items()}

    return run


def names(datasets):
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


def rows_of(dataset):
    return dataset.get("outputFacets", {}).get("outputStatistics", {}).get("rowCount")


def checks_of(dataset):
    checks = dataset.get("facets", {}).get("dataQualityAssertions", {}).get("assertions", [])
    return {check["assertion"]: check["success"] for check in checks}


def query_of(event):
    facet = event["run"]["facets"].get("externalQuery", {})
    return facet.get("source"), facet.get("externalQueryId")


MODES = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferred": {"deferrable": True},
}


def test_a_sensor_reports_its_table_rows_thresholds_and_job_in_every_mode(polaris, namespace, events_of):
    tasks, jobs = [], {}
    for mode, options in MODES.items():
        for limit, state in ((5, "good"), (4, "bad")):
            task_id = f"{mode}_{state}"
            jobs[task_id] = polaris.add_job(type="batch", target=TARGET, executionStatus="running", metrics=METRICS)
            polaris.script(jobs[task_id], *([{}] if mode == "deferred" else []), COMPLETED)
            given = {
                **options, "task_id": task_id, "job_id": jobs[task_id], "poke_interval": 0.1,
                "min_rows_processed": 95, "max_rows_skipped_by_error": limit,
            }  # fmt: skip
            tasks.append(f"PolarisJobSensor(**{given!r})")
    events = events_of("\n".join(tasks))
    assert set(events) == set(jobs)
    for task_id, event in events.items():
        is_good = task_id.endswith("good")
        assert event["eventType"] == ("COMPLETE" if is_good else "FAIL"), task_id
        assert event["inputs"] == []
        assert names(event["outputs"]) == [(namespace, f"{polaris.project_id}.orders")], task_id
        assert rows_of(event["outputs"][0]) == 80
        assert checks_of(event["outputs"][0]) == {"min_rows_processed": True, "max_rows_skipped_by_error": is_good}
        assert query_of(event) == ("polaris", jobs[task_id])


def test_a_load_reports_its_inputs_its_table_and_its_rows_on_the_worker_and_deferred(
    polaris, hook, namespace, events_of, tmp_path
):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"timestamp": "2026-11-01T00:00:00Z", "count": 1}) + "\n")
    hook.upload_file(file, "in/a.json")
    load = uploaded("in/a.json")
    query = 'INSERT INTO "by_sql" SELECT * FROM "orders" AS o JOIN druid.users ON o.u = users.u PARTITIONED BY ALL'
    sql = {"type": "sql", "createTableIfNotExists": True, "query": query}
    tasks = f"""
options = {{"poll_interval": 0.1, "timeout": 30, "wait_until_available": False}}
PolarisCreateJobOperator(task_id="worker", job_spec={load!r}, deferrable=False, min_rows_processed=1, **options)
PolarisCreateJobOperator(task_id="deferred", job_spec={load!r}, deferrable=True, min_rows_processed=1, **options)
PolarisCreateJobOperator(task_id="refused", job_spec={load!r}, deferrable=True, min_rows_processed=2, **options)
PolarisCreateJobOperator(task_id="submitted", job_spec={sql!r}, wait_for_completion=False)
"""
    events = events_of(tasks)
    project = polaris.project_id
    for mode, passed in (("worker", True), ("deferred", True), ("refused", False)):
        event = events[mode]
        assert event["eventType"] == ("COMPLETE" if passed else "FAIL")
        assert names(event["inputs"]) == [(namespace, f"{project}/files/in/a.json")]
        (table,) = event["outputs"]
        assert names([table]) == [(namespace, f"{project}.{load['target']['tableName']}")]
        assert rows_of(table) == 1
        assert checks_of(table) == {"min_rows_processed": passed}
        assert query_of(event)[0] == "polaris"
        assert query_of(event)[1] in polaris._store.jobs
    assert names(events["submitted"]["inputs"]) == [(namespace, f"{project}.orders"), (namespace, f"{project}.users")]
    assert names(events["submitted"]["outputs"]) == [(namespace, f"{project}.by_sql")]
    assert query_of(events["submitted"])[1] in polaris._store.jobs


def test_upload_check_cancel_and_table_sensor_report_what_they_read_and_wrote(
    polaris, hook, namespace, events_of, tmp_path
):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"timestamp": "2026-11-01T00:00:00Z", "count": 1}) + "\n")
    loaded = polaris.add_job(type="batch", target=TARGET, executionStatus="completed", metrics=METRICS)
    running = polaris.add_job(type="batch", target=TARGET, executionStatus="running", metrics=METRICS)
    hook.upload_file(file, "a.json")
    load = uploaded("a.json")
    table = load["target"]["tableName"]
    tasks = f"""
upload = PolarisUploadOperator(task_id="upload", source={str(file)!r}, name="in/")
exists = PolarisUploadOperator(task_id="exists", source={str(file)!r}, name="in/", if_exists="fail")
upload >> exists
cancel = PolarisCancelJobOperator(task_id="cancel", job_id={running!r}, poll_interval=0.1, timeout=20)
first = PolarisTableSensor(
    task_id="first", table="orders", completed_after="2026-01-01", deferrable=True, poke_interval=0.1, timeout=20,
    min_rows_processed=1,
)
load = PolarisCreateJobOperator(task_id="load", job_spec={load!r}, poll_interval=0.1, timeout=20)
load >> PolarisTableCheckOperator(
    task_id="table_check", table={table!r},
    checks={{"has_rows": {{"check_statement": "COUNT(*) > 0"}}, "no_rows": {{"check_statement": "COUNT(*) = 0"}}}},
)
load >> PolarisColumnCheckOperator(
    task_id="column_check", table={table!r}, column_mapping={{"__time": {{"null_check": {{"equal_to": 0}}}}}},
)
"""
    events = events_of(tasks)
    project = polaris.project_id
    uploads = events["upload"]
    assert names(uploads["inputs"]) == [("file", str(file))]
    assert names(uploads["outputs"]) == [(namespace, f"{project}/files/in/a.json")]
    assert uploads["outputs"][0]["outputFacets"]["outputStatistics"]["size"] == file.stat().st_size
    assert events["exists"]["eventType"] == "FAIL"
    assert events["exists"]["outputs"] == [], "nothing was sent"

    assert names(events["cancel"]["outputs"]) == [(namespace, f"{project}.orders")]
    assert rows_of(events["cancel"]["outputs"][0]) == 80
    assert query_of(events["cancel"]) == ("polaris", running)

    assert query_of(events["first"]) == ("polaris", loaded)
    assert checks_of(events["first"]["outputs"][0]) == {"min_rows_processed": True}

    for task_id, state, checks in (
        ("table_check", "FAIL", {"has_rows": True, "no_rows": False}),
        ("column_check", "COMPLETE", {"null_check": True}),
    ):
        event = events[task_id]
        assert event["eventType"] == state
        assert names(event["inputs"]) == [(namespace, f"{project}.{table}")], event["log"][-3000:]
        assert checks_of(event["inputs"][0]) == checks
        assert event["outputs"] == []


def test_a_stream_operator_reports_its_table_only_if_it_creates_the_job(polaris, namespace, events_of):
    tasks = f"""
options = {{"action": "start", "job_spec": {STREAMING!r}}}
PolarisStreamOperator(task_id="creates", **options) >> PolarisStreamOperator(task_id="finds", **options)
"""
    events = events_of(tasks)
    assert {task_id: event["eventType"] for task_id, event in events.items()} == dict.fromkeys(events, "COMPLETE")
    table = STREAMING["target"]["tableName"]
    assert names(events["creates"]["outputs"]) == [(namespace, f"{polaris.project_id}.{table}")]
    assert events["finds"]["outputs"] == []


def test_a_query_reports_the_tables_that_it_reads_on_the_worker_and_deferred(polaris, namespace, events_of):
    polaris.add_table("orders")
    polaris.add_table("users")
    sql = "SELECT COUNT(*) AS n FROM orders AS o JOIN druid.users AS u ON o.__time = u.__time"
    fails = "SELECT PARSE_JSON('x{') AS n, COUNT(*) AS c FROM orders"
    queries = {"good": sql, "bad": fails, "invalid": "SELECT typo FROM orders"}
    tasks = f"""
options = {{"poll_interval": 0.1, "timeout": 30}}
for end, sql in {queries!r}.items():
    PolarisQueryOperator(task_id=f"worker_{{end}}", sql=sql, deferrable=False, **options)
    PolarisQueryOperator(task_id=f"deferred_{{end}}", sql=sql, deferrable=True, **options)
"""
    events = events_of(tasks)
    orders, users = ((namespace, f"{polaris.project_id}.{table}") for table in ("orders", "users"))
    ids = set()
    for mode in ("worker", "deferred"):
        good, bad, invalid = (events[f"{mode}_{end}"] for end in ("good", "bad", "invalid"))
        assert (good["eventType"], bad["eventType"], invalid["eventType"]) == ("COMPLETE", "FAIL", "FAIL")
        assert names(good["inputs"]) == [orders, users]
        assert names(bad["inputs"]) == [orders]
        assert (names(invalid["inputs"]), query_of(invalid)) == ([], (None, None)), "the query was never started"
        assert good["outputs"] == bad["outputs"] == []
        assert query_of(good)[0] == query_of(bad)[0] == "polaris"
        ids |= {query_of(good)[1], query_of(bad)[1]}
    assert len(ids) == 4
    assert ids <= set(polaris._statements._by_id)


def test_the_inlets_and_outlets_of_the_user_are_kept(polaris, namespace, events_of):
    job_id = polaris.add_job(type="batch", target=TARGET, executionStatus="completed", metrics=METRICS)
    failed = polaris.add_job(type="batch", target=TARGET, executionStatus="failed")
    host, project = namespace.partition("://")[2], polaris.project_id
    tasks = f"""
own = {{
    "inlets": [PolarisTable("raw", host={host!r}, project_id={project!r}), PolarisTable("short")],
    "outlets": [PolarisTable("orders", host={host!r}, project_id={project!r}), Asset("file:///data/report")],
}}
PolarisJobSensor(task_id="gate", job_id={job_id!r}, timeout=20, **own)
PolarisJobSensor(task_id="failed", job_id={failed!r}, timeout=20, **own)
PolarisJobSensor(task_id="unknown", job_id="no-such-job", timeout=20, **own)
"""
    polaris.fail_next(99, status=403, match="GET .*no-such-job")
    events = events_of(tasks)
    report = ("file", "/data/report")
    for task_id in ("gate", "failed", "unknown"):
        event = events[task_id]
        assert names(event["inputs"]) == [(namespace, f"{project}.raw")], task_id
        assert names(event["outputs"]) == [(namespace, f"{project}.orders"), report], task_id
    assert rows_of(events["gate"]["outputs"][0]) == 80
    assert rows_of(events["failed"]["outputs"][0]) is None
    assert query_of(events["unknown"]) == ("polaris", "no-such-job")


def test_no_event_has_the_key(polaris, lineage):
    job_id = polaris.add_job(type="batch", target=TARGET, executionStatus="completed", metrics=METRICS)
    seen = lineage.run_tasks(f"PolarisJobSensor(task_id='gate', job_id={job_id!r}, timeout=20)")
    assert seen.events["gate"][0]["outputs"]
    assert job_id in seen.text
    assert API_KEY not in seen.text


def test_a_plain_task_that_creates_a_job_reports_its_table(polaris, namespace, events_of):
    tasks = f"""
@task
def create():
    from airflow_provider_polaris.hooks.polaris import PolarisHook

    return PolarisHook().create_job({SPEC!r}).id

create()
"""
    (event,) = events_of(tasks).values()
    assert names(event["outputs"]) == [(namespace, f"{polaris.project_id}.cities")]


def test_lineage_that_cannot_be_read_is_empty_and_raises_no_error():
    from airflow_provider_polaris.assets.facets import operator_lineage

    def fail():
        raise RuntimeError("a fault of this provider")

    found = operator_lineage(fail, None, None)
    assert (found.inputs, found.outputs, found.run_facets) == ([], [], {})


def test_an_inlet_that_openlineage_cannot_name_leaves_the_other_datasets(monkeypatch):
    from airflow.providers.openlineage.extractors.manager import ExtractorManager

    from airflow_provider_polaris.assets.facets import operator_lineage
    from airflow_provider_polaris.assets.lineage import Input, Output, TaskLineage
    from airflow_provider_polaris.assets.uris import DatasetId

    def fail(_):
        raise RuntimeError("no such scheme")

    monkeypatch.setattr(ExtractorManager, "convert_to_ol_dataset", staticmethod(fail))
    known = TaskLineage((Input(DatasetId("n", "in")),), (Output(DatasetId("n", "out")),), "j")
    found = operator_lineage(lambda: known, SimpleNamespace(inlets=["x"], outlets=["y"]), None)
    assert [one.name for one in (*found.inputs, *found.outputs)] == ["in", "out"]
    assert found.run_facets["externalQuery"].externalQueryId == "j"
