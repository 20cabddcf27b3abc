"""The burst: many jobs that end at once, beside as many triggers of Airflow's own that fire at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from airflow_provider_polaris.local import LocalPolaris
from scale.processes import STEP_SECONDS, TRIGGERERS, ScaleAirflow, require
from scale.readings import Traffic
from scale.report import Report
from scale.waits import CONN_ID, DAG_FILE, DAG_ID, Waits, wait_for_events, wait_for_no_triggers
from tests.support.local_calls import connection_without_page
from tests.support.real_airflow import wait_for

WAITS = 1000
INTERVAL = 10.0
#: How long the service takes for each response. A local Polaris takes a few milliseconds, and a real service more.
RESPONSE_SECONDS = 0.1
#: Airflow's own triggers fire so long after they are stored: all of them have started then.
START_SECONDS = 60.0
#: The most requests in the burst: two pages of each list, and the jobs beside the list.
MOST_REQUESTS = 10
#: How much longer the burst may take than Airflow's own triggers. With one request for each job, it took 2.5 times as
#: long.
MOST_RATIO = 2.0

TRIGGER = "airflow.providers.standard.triggers.temporal.DateTimeTrigger"
#: Gives each task a trigger that fires at a moment, as if the task had deferred with it.
WAIT_FOR_MOMENT = """
import sys
from datetime import datetime, timezone

from sqlalchemy import select

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session

dag_id, classpath, owner, moment = sys.argv[1:]
kwargs = {"moment": datetime.fromtimestamp(float(moment), timezone.utc), "end_from_trigger": False}
with create_session() as session:
    for task in session.scalars(select(TaskInstance).where(TaskInstance.dag_id == dag_id)):
        trigger = Trigger(classpath, kwargs)
        trigger.triggerer_id = int(owner)
        session.add(trigger)
        session.flush()
        task.trigger_id, task.state, task.next_kwargs, task.scheduled_dttm = trigger.id, "deferred", {}, None
"""


def run(report: Report, progress: Callable[[str], None], home: Path) -> None:
    """Run the burst in an empty folder, and add its figures. Nothing runs on after the end.

    :raises AssertionError: if a step does not end in time.
    """
    dags = home / "dags"
    dags.mkdir()
    (dags / "many_waits.py").write_text(DAG_FILE)
    with LocalPolaris() as polaris:
        waits = Waits(polaris, real=1, copied=WAITS - 1, others=0, interval=INTERVAL)
        (dags / "plan.json").write_text(waits.plan())
        airflow = ScaleAirflow(home, dags, silence=30, triggerers=TRIGGERERS[:1])
        try:
            progress("starting PostgreSQL, API server, DAG processor, scheduler and a triggerer")
            airflow.start_all(**{CONN_ID: connection_without_page(polaris)})
            progress(f"{WAITS:,} waits begin")
            waits.defer(airflow)
            waits.copy(airflow)
            wait_for(lambda: not waits.owners(airflow).without, "a triggerer to own each wait", seconds=STEP_SECONDS)
            polaris.delay_next(10**9, seconds=RESPONSE_SECONDS)
            # After two intervals, no new wait is requested by id any more.
            time.sleep(3 * INTERVAL)
            took = _end(report, progress, airflow, polaris, waits)
            progress(f"{WAITS:,} triggers of Airflow's own fire")
            own = _fire(airflow)
        finally:
            airflow.stop_all()
    report.add("Airflow's own triggers: until the last event is stored", own, unit="s", digits=1)
    report.add("the burst beside Airflow's own triggers", took / own, limit=MOST_RATIO, digits=1)


def _end(
    report: Report, progress: Callable[[str], None], airflow: ScaleAirflow, polaris: LocalPolaris, waits: Waits
) -> float:
    """Let all jobs end. Return how many seconds after the next poll the last event is stored."""
    (triggerer,) = airflow.triggerers
    progress(f"{WAITS:,} jobs end")
    polaris.requests.clear()
    cpu = sum(airflow.runner(triggerer).cpu_times()[:2])
    waits.end_all()
    ended = time.time()
    last_event = wait_for_events(airflow, WAITS)
    cpu = sum(airflow.runner(triggerer).cpu_times()[:2]) - cpu
    seen = Traffic(list(polaris.requests))
    events = waits.events(airflow)
    right = [event for key, event in events.items() if event["job"]["id"] == waits.jobs[key]]
    # A list that was requested before the end does not show it.
    polled = next(one.at for one in seen.pages if one.at > ended)
    in_burst = [one for one in seen.requests if polled <= one.at <= last_event]
    last_news = max(one.at for one in (*Traffic(in_burst).ended, *Traffic(in_burst).jobs)) + RESPONSE_SECONDS
    report.add("waits", WAITS)
    report.exactly("tasks with the event of their job", len(right), WAITS)
    report.add("time of a response", RESPONSE_SECONDS, unit="s", digits=1)
    report.add("from the end of the jobs to the next poll", polled - ended, limit=1.5 * INTERVAL, unit="s", digits=1)
    report.add("from that poll: requests until the last event is stored", len(in_burst), limit=MOST_REQUESTS)
    report.add("from that poll: until the end of the last job is known", last_news - polled, unit="s", digits=1)
    report.add("from that poll: until the last event is stored", last_event - polled, unit="s", digits=1)
    report.add("CPU of the process of the triggers", cpu, unit="s", digits=1)
    return last_event - polled


def _fire(airflow: ScaleAirflow) -> float:
    """Let as many of Airflow's own triggers fire. Return after how many seconds the last event is stored."""
    wait_for_no_triggers(airflow)
    (owner,) = airflow.live_triggerers()
    moment = time.time() + START_SECONDS
    airflow.run_python(WAIT_FOR_MOMENT, DAG_ID, TRIGGER, str(owner), str(moment))
    took = wait_for_events(airflow, WAITS) - moment
    require(took > 0, "The triggers of Airflow have started too late")
    return took
