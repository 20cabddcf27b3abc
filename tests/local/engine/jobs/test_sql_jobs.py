"""SQL jobs: the rows that INSERT and REPLACE make, and the queries that the local Polaris does not run."""
# ruff: noqa: S608 - all queries are of the tests

from __future__ import annotations

import json

import pytest

from airflow_provider_polaris.local.engine.jobs import sql_jobs
from tests.support.local_calls import status_of
from tests.support.specs import rows, uploaded

LINES = rows(
    {"timestamp": "2026-11-01T10:00:00Z", "city": "Bern", "n": 1},
    {"timestamp": "2026-11-01T11:00:00Z", "city": "Bern", "n": 2},
    {"timestamp": "2026-11-02T10:00:00Z", "city": "Perth", "n": 3},
)
DATA = (
    "FROM TABLE(POLARIS_UPLOADED(files => ARRAY['cities.json'], format => 'json')) "
    'EXTEND ("timestamp" VARCHAR, city VARCHAR, n BIGINT)'
)
NO_SOURCE = "TABLE(POLARIS_SOURCE('{\"inputSchema\": []}'))"
TIME = 'TIME_PARSE("timestamp") AS __time'
FIRST_DAY = "__time >= TIMESTAMP '2026-11-01' AND __time < TIMESTAMP '2026-11-02 00:00:00'"


@pytest.fixture
def call(own_polaris):
    """Return a function that sends requests to a Polaris with the file cities.json."""
    _, call = own_polaris
    assert call("POST", "files", files={"file": ("cities.json", LINES.encode())}).status_code == 201
    return call


@pytest.fixture
def run(call, wait_until):
    """Return a function that runs a query to its end, and returns the job."""

    def run(query, **fields):
        answer = call("POST", "jobs", json={"type": "sql", "createTableIfNotExists": True, "query": query, **fields})
        assert answer.status_code == 201, answer.text
        job_id = answer.json()["id"]
        assert wait_until(lambda: status_of(call, job_id) in ("completed", "failed", "canceled"), 5), call(
            "GET", f"jobs/{job_id}/logs"
        ).json()
        return call("GET", f"jobs/{job_id}").json()

    return run


@pytest.fixture
def query(call):
    """Return a function that returns the rows of a query."""
    return lambda text: call("POST", "query/sql", json={"query": text}).json()


@pytest.fixture
def loaded(run):
    """Load the file into the table days, by day."""
    return run(f'INSERT INTO "days" SELECT {TIME}, city, n {DATA} PARTITIONED BY DAY')


def counters_of(call, job):
    return call("GET", f"jobs/{job['id']}/metrics").json()["totals"]


def test_an_insert_loads_an_uploaded_file(call, loaded, query):
    assert (loaded["executionStatus"], loaded["health"]) == ("completed", {"status": "ok"})
    assert counters_of(call, loaded) == {"numRowsProcessed": 3, "numRowsSkippedByError": 0, "numRowsPersisted": 3}
    table = call("GET", "tables/days").json()
    assert (table["totalRows"], table["segmentCount"], table["partitioningGranularity"]) == (3, 2, "day")
    columns = {column["name"]: column["dataType"] for column in table["queryableSchema"]}
    assert columns == {"__time": "timestamp", "city": "string", "n": "long"}
    assert query("SELECT city, SUM(n) AS n FROM days GROUP BY city ORDER BY city") == [
        {"city": "Bern", "n": 3},
        {"city": "Perth", "n": 3},
    ]


def test_an_insert_reads_a_table_that_another_job_has_loaded(call, loaded, run, query):
    job = run(
        "INSERT INTO totals SELECT TIME_FLOOR(__time, 'P1D') AS __time, city, COUNT(*) AS c FROM days GROUP BY 1, 2 "
        "PARTITIONED BY MONTH CLUSTERED BY city"
    )
    assert job["executionStatus"] == "completed", job["health"]
    assert counters_of(call, job) == {"numRowsProcessed": 3, "numRowsSkippedByError": 0, "numRowsPersisted": 2}
    assert query("SELECT city, c FROM totals ORDER BY city") == [{"city": "Bern", "c": 2}, {"city": "Perth", "c": 1}]
    assert call("GET", "tables/totals").json()["segmentCount"] == 1


def test_a_replacement_of_all_data_can_read_the_table_itself(loaded, run, query):
    job = run(
        "REPLACE INTO days OVERWRITE ALL SELECT __time, city, n * 10 AS n FROM days WHERE n > 1 PARTITIONED BY DAY"
    )
    assert job["executionStatus"] == "completed", job["health"]
    assert query("SELECT n FROM days ORDER BY n") == [{"n": 20}, {"n": 30}]


@pytest.mark.parametrize("partitioned", ["DAY", "FLOOR(__time TO DAY)"])
def test_a_replacement_of_a_day_leaves_the_other_days(loaded, run, query, partitioned):
    select = f"SELECT __time, 'new' AS city, n FROM days WHERE {FIRST_DAY} AND n = 2"
    job = run(f"REPLACE INTO days OVERWRITE WHERE {FIRST_DAY} {select} PARTITIONED BY {partitioned}")
    assert job["executionStatus"] == "completed", job["health"]
    assert query("SELECT city, n FROM days ORDER BY n") == [{"city": "new", "n": 2}, {"city": "Perth", "n": 3}]


def test_a_replacement_by_nothing_deletes(call, loaded, run, query):
    job = run("REPLACE INTO days OVERWRITE ALL SELECT __time, city, n FROM days WHERE n > 100 PARTITIONED BY DAY")
    assert job["executionStatus"] == "completed", job["health"]
    assert query("SELECT COUNT(*) AS c FROM days") == [{"c": 0}]
    assert call("GET", "tables/days").json()["totalRows"] == 0


def test_a_query_reads_the_source_of_a_batch_job(run, query):
    source = uploaded("cities.json")["source"]
    source["inputSchema"] = [{"name": "timestamp", "dataType": "string"}, {"name": "n", "dataType": "long"}]
    text = json.dumps(source).replace("'", "''")
    assert run(f"INSERT INTO t SELECT {TIME}, n FROM TABLE(POLARIS_SOURCE('{text}')) PARTITIONED BY ALL TIME")
    assert run(f"INSERT INTO t SELECT {TIME}, n FROM TABLE(POLARIS_SOURCE(source => '{text}')) PARTITIONED BY ALL")
    assert query("SELECT SUM(n) AS n FROM t") == [{"n": 12}]


def test_a_query_joins_two_sources(run, query):
    other = DATA.replace("FROM ", "")
    job = run(f'INSERT INTO t SELECT TIME_PARSE(a."timestamp") AS __time, a.n + b.n AS n {DATA} AS a JOIN {other} AS b '
              "ON a.n = b.n PARTITIONED BY DAY")  # fmt: skip
    assert job["executionStatus"] == "completed", job["health"]
    assert query("SELECT n FROM t ORDER BY n") == [{"n": 2}, {"n": 4}, {"n": 6}]


def test_csv_has_the_columns_of_extend(call, run, query):
    call("POST", "files", files={"file": ("cities.csv", b"when,what\n2026-11-01,7\n2026-11-02,\n")})
    data = "TABLE(POLARIS_UPLOADED(files => ARRAY['cities.csv'], format => 'csv', skipRows => 1))"
    job = run(f"INSERT INTO t SELECT TIME_PARSE(a) AS __time, b FROM {data} EXTEND (a VARCHAR, b BIGINT) "
              "PARTITIONED BY DAY")  # fmt: skip
    assert job["executionStatus"] == "completed", job["health"]
    assert query("SELECT b FROM t ORDER BY b") == [{"b": None}, {"b": 7}]


def test_parameters_stand_for_question_marks(run, query):
    job = run(f"INSERT INTO t SELECT {TIME}, ? AS word {DATA} WHERE n > ? PARTITIONED BY DAY",
              parameters=[{"type": "VARCHAR", "value": "it's"}, {"type": "BIGINT", "value": 2}])  # fmt: skip
    assert job["executionStatus"] == "completed", job["health"]
    assert query("SELECT word FROM t") == [{"word": "it's"}]


def test_without_a_time_all_rows_are_of_1970(run, query):
    job = run(f"INSERT INTO t SELECT city {DATA} PARTITIONED BY ALL")
    assert job["executionStatus"] == "completed", job["health"]
    assert query("SELECT MAX(__time) AS m FROM t") == [{"m": "1970-01-01T00:00:00.000Z"}]


def test_a_query_that_leaves_out_all_rows_completes(run):
    job = run(f"INSERT INTO t SELECT {TIME}, n {DATA} WHERE n > 9 PARTITIONED BY DAY")
    assert (job["executionStatus"], job["health"]["status"]) == ("completed", "ok")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (f"INSERT INTO t SELECT TIME_PARSE(city) AS __time, n {DATA} PARTITIONED BY DAY", "null_timestamp"),
        (
            f"REPLACE INTO t OVERWRITE WHERE {FIRST_DAY} SELECT {TIME}, n {DATA} PARTITIONED BY DAY",
            "timestamp_out_of_bounds",
        ),
        (f"INSERT INTO t SELECT {TIME}, 9223372036854775807 + n AS n {DATA} PARTITIONED BY DAY", "internal_error"),
    ],
)
def test_a_row_that_cannot_be_stored_fails_the_job(call, run, query, code):
    job = run(query)
    assert (job["executionStatus"], job["health"]["code"]) == ("failed", code)
    assert call("GET", "tables/t").json()["totalRows"] == 0


@pytest.mark.parametrize(("context", "status"), [({}, "failed"), ({"maxParseExceptions": 1}, "completed"),
                                                 ({"maxParseExceptions": -1}, "completed")])  # fmt: skip
def test_a_line_that_is_no_json_counts_as_a_parse_exception(call, run, context, status):
    call("POST", "files", files={"file": ("bad.json", f"{{\n{LINES}".encode())})
    job = run(
        f"INSERT INTO t SELECT {TIME} {DATA} PARTITIONED BY DAY".replace("cities.json", "bad.json"), context=context
    )
    assert job["executionStatus"] == status
    assert counters_of(call, job)["numRowsSkippedByError"] == 1


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("INSERT INTO t SELECT 1 PARTITIONED BY ALL", "The query reads no data"),
        (f"INSERT INTO t SELECT {'(' * 100_001} FROM x PARTITIONED BY ALL", "at most 100,000 characters"),
        (f"INSERT INTO t SELECT {TIME} {DATA}", "PARTITIONED BY"),
        (f"INSERT INTO t SELECT typo AS __time {DATA} PARTITIONED BY DAY", "There is no column 'typo'"),
        (f"INSERT INTO t SELECT {TIME}, 1 {DATA} PARTITIONED BY DAY", "Each column needs a name: EXPR$1"),
        (f"INSERT INTO t SELECT {TIME}, n, city AS n {DATA} PARTITIONED BY DAY", "different names"),
        (f"INSERT INTO t SELECT n {DATA} PARTITIONED BY DAY", "DAY needs the column __time"),
        (f"INSERT INTO t SELECT n > 1 AS __time {DATA} PARTITIONED BY DAY", "__time must be a timestamp"),
        (f"INSERT INTO t SELECT {TIME}, n + city AS x {DATA} PARTITIONED BY DAY", "fault"),
        (f"INSERT INTO t SELECT {TIME} {DATA} PARTITIONED BY TIME_FLOOR(__time, 'PT5M')", "PARTITIONED BY 'TIME_FLOOR"),
        (f"INSERT INTO t (a) SELECT {TIME} {DATA} PARTITIONED BY DAY", "a list of columns"),
        (f"INSERT INTO t SELECT {TIME} {DATA} PARTITIONED BY DAY".replace("cities.json", "none.json"), "No file named"),
        (f"INSERT INTO t SELECT {TIME} {DATA} PARTITIONED BY DAY".replace("'json'", "'orc'"), "in this format"),
        (f"INSERT INTO t SELECT {TIME} {DATA} PARTITIONED BY DAY".replace("n BIGINT", "n DATE"), "The type 'DATE'"),
        (f"INSERT INTO t SELECT {TIME} {DATA} PARTITIONED BY DAY".replace("n BIGINT", "city BIGINT"), "data must"),
        ("INSERT INTO t SELECT * FROM TABLE(S3(uris => ARRAY['s3://a'])) PARTITIONED BY ALL", "TABLE(S3(…))"),
        ("INSERT INTO t SELECT * FROM TABLE(POLARIS_SOURCE('{')) PARTITIONED BY ALL", "the source of a job"),
        (f"INSERT INTO t SELECT * FROM {NO_SOURCE} PARTITIONED BY ALL", "source.type"),
        ("INSERT INTO t SELECT * FROM TABLE(( PARTITIONED BY ALL", "SELECT, and PARTITIONED BY"),
        ("INSERT INTO t SELECT 'FROM PARTITIONED BY ALL FROM x", "has no end"),
        ("INSERT INTO t SELECT * FROM nowhere PARTITIONED BY ALL", "There is no table 'nowhere'"),
        ('INSERT INTO t SELECT * FROM "external data"."0" PARTITIONED BY ALL', "There is no table 'external data.0'"),
        ('INSERT INTO t SELECT * FROM "external data"."x" PARTITIONED BY ALL', "There is no table 'external data.x'"),
        (f"REPLACE INTO t SELECT {TIME} {DATA} PARTITIONED BY DAY", "OVERWRITE ALL"),
        (f"REPLACE INTO t OVERWRITE WHERE n > 1 SELECT {TIME} {DATA} PARTITIONED BY DAY", "OVERWRITE WHERE other than"),
        (f"REPLACE INTO t OVERWRITE WHERE {FIRST_DAY} SELECT {TIME} {DATA} PARTITIONED BY MONTH", "does not align"),
    ],
)  # fmt: skip
def test_a_query_that_is_not_run_waits_and_says_why_at_once(call, query, reason):
    answer = call("POST", "jobs", json={"type": "sql", "createTableIfNotExists": True, "query": query})
    assert (answer.status_code, answer.json()["executionStatus"]) == (201, "pending")
    (entry,) = call("GET", f"jobs/{answer.json()['id']}/logs").json()["logs"]
    assert "Waits for a test to change it" in entry["message"]
    assert reason in entry["message"]
    assert answer.json()["health"] == {"status": "warn", "code": "unable_to_proceed", "log": entry}


def test_the_warning_of_a_job_that_waits_is_gone_when_it_does_not_wait(call, own_polaris):
    polaris, _ = own_polaris
    text = "INSERT INTO t SELECT 1 PARTITIONED BY ALL"
    job_id = call("POST", "jobs", json={"type": "sql", "createTableIfNotExists": True, "query": text}).json()["id"]
    polaris.set_status(job_id, "running")
    assert call("GET", f"jobs/{job_id}").json()["health"] == {"status": "ok"}


def test_a_test_decides_how_a_query_ends_if_it_wants_to(call, own_polaris, run):
    polaris, _ = own_polaris
    polaris.next_job("fail", table="days")
    assert run(f'INSERT INTO "days" SELECT {TIME}, city, n {DATA} PARTITIONED BY DAY')["executionStatus"] == "failed"
    assert call("GET", "tables/days").json()["totalRows"] == 0


def test_a_query_that_runs_can_be_canceled(call, loaded, wait_until):
    crossed = ", ".join(f"days d{number}" for number in range(25))
    text = f"INSERT INTO t SELECT MAX(d0.__time) AS __time FROM {crossed} PARTITIONED BY ALL"
    job_id = call("POST", "jobs", json={"type": "sql", "createTableIfNotExists": True, "query": text}).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "running")
    call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "canceled"})
    assert wait_until(lambda: status_of(call, job_id) == "canceled")
    assert call("GET", "tables/t").json()["totalRows"] == 0


def test_a_query_can_be_canceled_while_its_rows_are_counted(call, loaded, wait_until, monkeypatch):
    def count(connection, *_):
        crossed = ", ".join(f"{sql_jobs.RESULT} r{number}" for number in range(40))
        connection.execute(f"SELECT count(*) FROM {crossed} WHERE r0.o0 <> r1.o0").fetchall()

    monkeypatch.setattr(sql_jobs, "count_partitions", count)
    text = "INSERT INTO t SELECT __time, n FROM days PARTITIONED BY DAY"
    job_id = call("POST", "jobs", json={"type": "sql", "createTableIfNotExists": True, "query": text}).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "running")
    call("PUT", f"jobs/{job_id}", json={"desiredExecutionStatus": "canceled"})
    assert wait_until(lambda: status_of(call, job_id) in ("canceled", "failed"))
    assert status_of(call, job_id) == "canceled"
