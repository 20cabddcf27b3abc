"""A batch job evaluates its expressions: mappings, filter and aggregations. A wrong one is refused at creation."""

from __future__ import annotations

import copy
import json

import pytest

from tests.support.local_calls import status_of
from tests.support.specs import DOCUMENTED_SPEC, S3, SPEC, T, rows, spec_of

TIME = SPEC["mappings"][0]


def mapping(expression, name="x", **more):
    return {"columnName": name, "expression": expression, **more}


def fault_of(answer):
    assert answer.status_code == 400, answer.text
    return answer.json()["target"], answer.json()["message"]


@pytest.fixture
def load(own_polaris, wait_until):
    """Return a function that runs a job, and returns its totals and its table."""
    _, call = own_polaris

    def run(spec):
        answer = call("POST", "jobs", json=spec)
        assert answer.status_code == 201, answer.text
        job_id = answer.json()["id"]
        assert wait_until(lambda: status_of(call, job_id) in ("completed", "failed"))
        job = call("GET", f"jobs/{job_id}").json()
        assert job["executionStatus"] == "completed", job["health"]
        table = call("GET", f"tables/{spec['target']['tableName']}").json()
        return call("GET", f"jobs/{job_id}/metrics").json()["totals"], table

    return run


def koalas():
    """The sample job of the vendor's documentation of the Jobs API, with its data inline: 40 rows of four groups."""
    sessions = [
        {
            "timestamp": f"2019-08-{19 + number % 2}T00:00:00Z",
            "city": ["Sydney", "Perth"][number // 2 % 2],
            "session": "S1",
            "session_length": number,
        }
        for number in range(40)
    ]
    spec = copy.deepcopy(DOCUMENTED_SPEC)
    del spec["source"]["fileList"]
    spec["source"] |= {"type": "inline", "data": rows(*sessions)}
    return {**spec, "createTableIfNotExists": True}


def test_the_sample_of_the_documentation_is_rolled_up(load):
    totals, table = load(koalas())
    assert totals == {"numRowsProcessed": 40, "numRowsSkippedByError": 0, "numRowsPersisted": 4}
    assert (table["type"], table["totalRows"], table["segmentCount"]) == ("aggregate", 4, 2)
    columns = [
        {"type": "dimension", "name": "__time", "dataType": "timestamp"},
        {"type": "dimension", "name": "city", "dataType": "string"},
        {"type": "dimension", "name": "session", "dataType": "string"},
        {"type": "measure", "name": "max_session_length", "dataType": "long"},
        {"type": "measure", "name": "__count", "dataType": "long"},
    ]
    assert table["schema"] == columns
    assert table["queryableSchema"] == [
        {"name": column["name"], "dataType": column["dataType"], "isDiscovered": False} for column in columns
    ]


def test_the_columns_of_a_table_have_the_types_of_their_expressions(load):
    spec = spec_of(rows({"timestamp": T, "count": 3, "amount": 1.5}))
    types = {
        '"count"': "long", '"amount"': "double", '"count" / 2': "long", '"count" / 2.0': "double",
        '"count" > 1': "long", "'x'": "string", 'TIME_PARSE("timestamp")': "long", 'CAST("amount" AS FLOAT)': "float",
        "PARSE_JSON('{}')": "json", "ARRAY['a']": "stringArray", "ARRAY[1]": "longArray", "ARRAY[1.5]": "doubleArray",
    }  # fmt: skip
    spec["mappings"] = [TIME, *(mapping(text, f"c{n}") for n, text in enumerate(types))]
    _, table = load(spec)
    assert table["type"] == "detail"
    assert [column["dataType"] for column in table["schema"]] == ["timestamp", *types.values()]
    assert "type" not in table["schema"][0]


def test_a_later_job_adds_its_columns_to_the_table(load):
    load(spec_of(rows({"timestamp": T})))
    _, table = load(spec_of(rows({"timestamp": T, "count": 1}), mappings=[TIME, mapping('"count"', "Count")]))
    assert [column["name"] for column in table["schema"]] == ["__time", "Count"]
    assert table["totalRows"] == 2


def test_a_mapping_to_a_measure_of_the_table_aggregates_without_saying_so(load):
    load(koalas())
    spec = koalas()
    spec["mappings"] = [
        {name: value for name, value in one.items() if name != "isAggregation"} for one in spec["mappings"]
    ]
    totals, table = load(spec)
    assert totals["numRowsPersisted"] == 4
    assert table["totalRows"] == 8


def test_a_filter_leaves_out_rows_before_anything_else_reads_them(load):
    data = rows({"timestamp": T, "count": 1}, {"timestamp": T, "count": 5}, {"timestamp": "soon", "count": 0}, "{")
    totals, table = load(spec_of(data, filterExpression='"count" > 1'))
    assert totals == {"numRowsProcessed": 1, "numRowsSkippedByError": 1, "numRowsPersisted": 1}
    assert table["totalRows"] == 1


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"filterExpression": "NOT SQL (("}, "filterExpression", "syntax error"),
        ({"filterExpression": '"count" + 1'}, "filterExpression", "must be true or false"),
        ({"filterExpression": 'COUNT("count") > 1'}, "filterExpression", "cannot aggregate"),
        ({"filterExpression": '"typo" > 1'}, "filterExpression", "no column 'typo'"),
        ({"mappings": [TIME, mapping('NO_SUCH_FN("count")')]}, "mappings[1].expression", "no function 'NO_SUCH_FN'"),
        ({"mappings": [TIME, mapping('"count" + "typo"')]}, "mappings[1].expression", "no column 'typo'"),
        ({"mappings": [TIME, mapping('SUM("count")')]}, "mappings[1].expression", "needs isAggregation"),
        (
            {"mappings": [TIME, mapping('"count"', isAggregation=True)]},
            "mappings[1].expression",
            "aggregation function",
        ),
        (
            {"mappings": [TIME, mapping('SUM("timestamp")', isAggregation=True)]},
            "mappings[1].expression",
            "no function takes (VARCHAR)",
        ),
        ({"mappings": [TIME, mapping("REGEXP_LIKE('a', '(')")]}, "mappings[1].expression", "missing )"),
        ({"mappings": [mapping('"amount"', "__time")]}, "mappings[0].expression", "must be a timestamp, not a DOUBLE"),
        (
            {"mappings": [mapping('MAX(TIME_PARSE("timestamp"))', "__time", isAggregation=True)]},
            "mappings[0].expression",
            "cannot be an aggregation",
        ),
        (
            {"mappings": [TIME, mapping('DS_HLL("count")', isAggregation=True)]},
            "mappings[1].expression",
            "The function DS_HLL is not carried out by the local Polaris",
        ),
    ],
)
def test_a_wrong_expression_is_refused_with_its_path(own_polaris, changes, path, message):
    _, call = own_polaris
    target, text = fault_of(call("POST", "jobs", json=spec_of(rows({"timestamp": T}), **changes)))
    assert target == path
    assert message in text
    assert len(text) < 200
    assert call("GET", "jobs").json()["values"] == []


def test_a_type_that_is_not_read_here_is_refused_with_its_path(own_polaris):
    _, call = own_polaris
    spec = copy.deepcopy(SPEC)
    spec["source"]["inputSchema"].append({"name": "sketch", "dataType": "HLLSketch"})
    assert fault_of(call("POST", "jobs", json=spec)) == (
        "source.inputSchema[2].dataType",
        "'HLLSketch' is not carried out by the local Polaris",
    )


def test_a_job_whose_data_is_not_read_here_may_have_expressions_that_are_not_carried_out(own_polaris):
    _, call = own_polaris
    sketch = mapping('DS_HLL("city")', isAggregation=True)
    assert call("POST", "jobs", json={**S3, "mappings": [TIME, sketch]}).status_code == 201
    wrong = {**S3, "mappings": [TIME, sketch, mapping('NO_SUCH_FN("city")')]}
    assert fault_of(call("POST", "jobs", json=wrong))[0] == "mappings[2].expression"


def test_names_of_columns_may_be_any_text(load):
    names = ['a"b', "a/b", "a~1b", "", " ", "City", "city", "ä", "0", "'"]
    spec = copy.deepcopy(SPEC)
    names.remove("")  # the API requires a name
    spec["source"]["data"] = json.dumps({"timestamp": T, **{name: name for name in names}}) + "\n"
    spec["source"]["inputSchema"] = [{"name": name, "dataType": "string"} for name in ("timestamp", *names)]
    spec["mappings"] = [TIME, *(mapping('"' + name.replace('"', '""') + '"', name) for name in names)]
    spec["filterExpression"] = "\"City\" = 'City' AND \"city\" = 'city'"
    totals, table = load(spec)
    assert totals["numRowsPersisted"] == 1
    assert [column["name"] for column in table["schema"]] == ["__time", *names]


def test_an_error_of_a_value_fails_the_job_and_says_why(own_polaris, wait_until):
    _, call = own_polaris
    spec = spec_of(rows({"timestamp": T, "count": 2**62}), mappings=[TIME, mapping('"count" * 4')])
    job_id = call("POST", "jobs", json=spec).json()["id"]
    assert wait_until(lambda: status_of(call, job_id) == "failed")
    health = call("GET", f"jobs/{job_id}").json()["health"]
    assert (health["code"], "Overflow" in health["message"]) == ("internal_error", True)
    assert call("GET", "tables/cities").json()["totalRows"] == 0
