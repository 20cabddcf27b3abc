"""Events that are pushed to a connection get into the tables of its streaming jobs."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_polaris.local.engine.data import connections
from tests.support.local_calls import caller_of, status_of
from tests.support.specs import event, stream_into

NOW = 1_794_700_800.0  # 2026-11-15
DAY = 86_400


class Streams:
    """A local Polaris with the connection clicks, and what tests do with it."""

    def __init__(self, polaris, wait_until):
        self.polaris = polaris
        self.call = caller_of(polaris)
        self.wait_until = wait_until
        self.connect("clicks")

    def connect(self, name):
        answer = self.call("POST", "connections", json={"type": "push_streaming", "name": name})
        assert answer.status_code == 201, answer.text

    def start(self, table="cities", status="running", **changes):
        answer = self.call("POST", "jobs", json=stream_into(table, **changes))
        assert answer.status_code == 201, answer.text
        job_id = answer.json()["id"]
        assert self.wait_until(lambda: status_of(self.call, job_id) == status)
        return job_id

    def push(self, *events, connection="clicks"):
        answer = self.call("POST", f"events/{connection}", data="\n".join(events))
        assert (answer.status_code, answer.content) == (200, b"")

    def rows(self, table="cities"):
        return self.call("POST", "query/sql", json={"query": f'SELECT "city" AS c FROM "{table}" ORDER BY 1'}).json()  # noqa: S608

    def has(self, *cities, table="cities"):
        return self.wait_until(lambda: self.rows(table) == [{"c": city} for city in sorted(cities)])

    def totals(self, job_id):
        return self.call("GET", f"jobs/{job_id}/metrics").json()["totals"]

    def update(self, job_id, wish):
        return self.call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": wish}).status_code


@pytest.fixture
def streams(polaris, wait_until, moved_clock, monkeypatch):
    """Return a local Polaris on 2026-11-15 with a push streaming connection."""
    moved_clock.time = NOW
    monkeypatch.setattr(polaris, "idle_after", 3600)
    monkeypatch.setattr(polaris, "permissions", polaris.permissions)
    return Streams(polaris, wait_until)


def test_events_are_loaded_and_counted(streams):
    job_id = streams.start()
    streams.push(event("Oslo"), event("Bern"))
    assert streams.has("Bern", "Oslo")
    streams.push(event("Perth"))
    assert streams.has("Bern", "Oslo", "Perth")
    assert streams.totals(job_id) == {
        "numRowsProcessed": 3,
        "numRowsProcessedWithWarning": 0,
        "numRowsSkippedByFilter": 0,
        "numRowsSkippedByError": 0,
    }
    table = streams.call("GET", "tables/cities").json()
    assert (table["totalRows"], table["availability"]) == (3, "available")
    assert status_of(streams.call, job_id) == "running"


def test_a_job_without_events_is_idle_until_the_next_event(streams):
    job_id = streams.start()
    streams.polaris.idle_after = 0.0
    assert streams.wait_until(lambda: status_of(streams.call, job_id) == "idle")
    streams.polaris.idle_after = 3600
    streams.push(event())
    assert streams.wait_until(lambda: status_of(streams.call, job_id) == "running")
    assert streams.has("Oslo")


def test_a_suspended_job_holds_its_events_back(streams):
    job_id = streams.start()
    assert streams.update(job_id, "suspended") == 200
    streams.push(event("Oslo"))
    other = streams.start("others")
    streams.push(event("Bern"))
    assert streams.has("Bern", table="others")  # the thread has seen both jobs
    assert (streams.totals(job_id), status_of(streams.call, job_id)) == ({}, "suspended")
    assert streams.update(job_id, "running") == 200
    assert streams.has("Bern", "Oslo")
    assert (streams.totals(job_id)["numRowsProcessed"], streams.totals(other)["numRowsProcessed"]) == (2, 1)


def test_a_canceled_job_takes_no_more_events(streams):
    job_id = streams.start()
    streams.push(event("Oslo"))
    assert streams.has("Oslo")
    assert streams.update(job_id, "canceled") == 200
    assert streams.wait_until(lambda: status_of(streams.call, job_id) == "canceled")
    streams.push(event("Bern"))
    assert streams.rows() == [{"c": "Oslo"}]


def test_a_new_job_goes_on_where_the_last_one_of_its_table_ended(streams):
    first = streams.start()
    streams.push(event("Oslo"))
    assert streams.has("Oslo")
    streams.update(first, "canceled")
    assert streams.wait_until(lambda: status_of(streams.call, first) == "canceled")
    streams.push(event("Bern"))
    second = streams.start(readFromPoint="earliest")
    assert streams.has("Bern", "Oslo")
    third = streams.start(replaceRunning=True)
    assert streams.wait_until(lambda: status_of(streams.call, second) == "canceled")
    streams.push(event("Perth"))
    assert streams.has("Bern", "Oslo", "Perth")
    assert streams.totals(third)["numRowsProcessed"] == 1


@pytest.mark.parametrize(("point", "cities"), [("earliest", ["Bern", "Oslo"]), ("latest", ["Bern"]), (None, ["Bern"])])
def test_a_first_job_reads_from_its_point(streams, point, cities):
    streams.push(event("Oslo"))
    streams.start(**({"readFromPoint": point} if point else {}))
    streams.push(event("Bern"))
    assert streams.has(*cities)


def test_a_reset_applies_the_point_again(streams):
    job_id = streams.start(readFromPoint="earliest")
    streams.push(event("Oslo"))
    assert streams.has("Oslo")
    assert streams.call("POST", f"jobs/{job_id}/reset").status_code == 200
    assert streams.has("Oslo", "Oslo")


def test_rows_that_cannot_be_parsed_are_skipped_and_logged(streams):
    job_id = streams.start()
    streams.push("no event", event("Oslo"), event("Bern", at="never"), event("no\u0000text"))
    assert streams.has("Oslo")
    totals = streams.totals(job_id)
    assert (totals["numRowsProcessed"], totals["numRowsSkippedByError"]) == (1, 3)
    job = streams.call("GET", f"jobs/{job_id}").json()
    assert (job["executionStatus"], job["health"]["code"]) == ("running", "invalid_rows_found")
    logs = streams.call("GET", f"jobs/{job_id}/logs").json()["logs"]
    assert [entry["message"] for entry in logs] == ["3 rows could not be parsed"]


def test_more_bad_rows_than_allowed_fail_the_job(streams):
    job_id = streams.start(maxParseExceptions=1)
    streams.push("bad")
    streams.push("bad")
    assert streams.wait_until(lambda: status_of(streams.call, job_id) == "failed")
    assert streams.call("GET", f"jobs/{job_id}").json()["health"]["code"] == "cannot_parse_source"


@pytest.mark.parametrize(
    ("days", "changes", "taken"),
    [
        (-29, {}, True),
        (-31, {}, False),
        (-31, {"lateMessageRejectionPeriod": "P40D"}, True),
        (-2, {"lateMessageRejectionPeriod": "P1D"}, False),
        (1999, {}, True),
        (2001, {}, False),
        (3, {"earlyMessageRejectionPeriod": "P2D"}, False),
        (-3000, {"lateMessageRejectionPeriod": "P9999Y"}, True),
    ],
)
def test_late_and_early_events_are_left_out_as_by_a_filter(streams, days, changes, taken):
    job_id = streams.start(**changes)
    moment = int((NOW + days * DAY) * 1000)
    spec = stream_into("numbers", **changes)
    spec["mappings"][0]["expression"] = 'MILLIS_TO_TIMESTAMP("count")'
    streams.update(job_id, "canceled")
    job_id = streams.call("POST", "jobs", json=spec).json()["id"]
    streams.push(event(count=moment))
    name = "numRowsProcessed" if taken else "numRowsSkippedByFilter"
    assert streams.wait_until(lambda: streams.totals(job_id).get(name) == 1)


def test_a_filter_and_csv_and_an_aggregate_table_work_as_in_a_batch_job(streams):
    csv = {"format": "csv", "columns": ["timestamp", "city", "count"]}
    spec = stream_into("sums", format_settings=csv, filterExpression="\"city\" <> 'Bern'")
    spec["mappings"][2] = {"columnName": "sum", "expression": 'SUM("count")', "isAggregation": True}
    job_id = streams.call("POST", "jobs", json=spec).json()["id"]
    streams.push(*(f"2026-11-14T10:00:00Z,{city},2" for city in ("Oslo", "Oslo", "Bern")))
    query = {"query": 'SELECT "city", "sum" FROM "sums"'}
    expected = [{"city": "Oslo", "sum": 4}]
    assert streams.wait_until(lambda: streams.call("POST", "query/sql", json=query).json() == expected)
    assert streams.totals(job_id)["numRowsSkippedByFilter"] == 1
    assert streams.call("GET", "tables/sums").json()["type"] == "aggregate"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"connection": "kafka"}, "its data is elsewhere"),
        ({"useSchemaDiscovery": True}, "useSchemaDiscovery is not carried out"),
        (
            {"enableUpserts": True, "upsertKeyColumns": ["city"], "upsertVersionColumn": "__time"},
            "enableUpserts is not carried out",
        ),
        ({"mappings": None}, "it has no inputSchema or no mappings"),
        ({"format_settings": {"format": "orc"}}, "it reads only nd-json and csv"),
    ],
)
def test_a_stream_that_is_not_run_waits_and_says_why(streams, changes, reason):
    spec = stream_into("cities", **changes)
    spec = {key: value for key, value in spec.items() if value is not None}
    job = streams.call("POST", "jobs", json=spec).json()
    assert (job["executionStatus"], job["health"]["status"]) == ("pending", "warn")
    assert job["health"]["log"]["message"].endswith(reason)


def test_a_typo_in_a_mapping_is_refused(streams):
    spec = stream_into("cities")
    spec["mappings"][1]["expression"] = '"ciyt"'
    answer = streams.call("POST", "jobs", json=spec)
    assert (answer.status_code, answer.json()["target"]) == (400, "mappings[1].expression")


def test_a_planned_behaviour_scripts_the_stream(streams):
    streams.polaris.next_job("complete", metrics={"numRowsProcessed": 5})
    job_id = streams.start()
    streams.push(event())
    assert streams.totals(job_id) == {"numRowsProcessed": 5}
    assert streams.update(job_id, "canceled") == 200
    assert streams.wait_until(lambda: status_of(streams.call, job_id) == "canceled")


def test_no_event_is_lost_or_loaded_twice_beside_many_clients(streams):
    streams.start()
    streams.start("others")

    def push(client):
        for number in range(20):
            streams.push(*(event(f"{client}-{number}-{n}") for n in range(5)))

    clients = [threading.Thread(target=push, args=(client,)) for client in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    expected = sorted(f"{client}-{number}-{n}" for client in range(4) for number in range(20) for n in range(5))
    for table in ("cities", "others"):
        assert streams.has(*expected, table=table)


def test_events_need_a_connection_and_have_a_limit(streams, monkeypatch):
    assert streams.call("POST", "events/none", data=event()).status_code == 404
    assert streams.call("POST", "events/clicks", data=b"x" * connections.READ_BYTES).status_code == 413
    monkeypatch.setattr(connections, "MAX_BYTES", 100)
    answer = streams.call("POST", "events/clicks", data=b"x" * 200)
    assert (answer.status_code, answer.json()["code"]) == (429, "TooManyRequests")
    streams.polaris.permissions = ("ManageIngestionJobs",)
    assert streams.call("POST", "events/clicks", data=event()).status_code == 403


def test_the_largest_event_is_loaded(streams):
    streams.start()
    large = event("x" * (connections.READ_BYTES - 1 - len(event(""))))
    streams.push(large)
    streams.push(event("Oslo"))
    query = {"query": 'SELECT CHAR_LENGTH("city") AS n FROM "cities" ORDER BY 1'}
    expected = [{"n": 4}, {"n": len(large) - len(event(""))}]
    assert streams.wait_until(lambda: streams.call("POST", "query/sql", json=query).json() == expected)
