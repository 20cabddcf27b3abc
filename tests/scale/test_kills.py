"""The table of `make scale EXECUTOR=celery` shows what was found. Each difference from the documentation is a fault."""

from __future__ import annotations

from scale.kills import Row, faults_of, table

RIGHT = Row("cleared", "deferred", ("canceled", "completed"), "success", (("canceled", "completed"), "success"))
DELETED = Row("run deleted", "worker", ("canceled",), "", (("canceled",), ""))
TWICE = Row("kill -9", "worker", ("completed", "completed"), "success", (("completed",), "success"))


def test_the_table_shows_the_jobs_and_the_task_of_each_row():
    assert table([RIGHT, DELETED]).splitlines()[2:] == [
        "| cleared | deferred | canceled, completed | success |",
        "| run deleted | worker | canceled | deleted |",
    ]


def test_a_row_that_differs_from_the_documentation_is_a_fault():
    assert faults_of([RIGHT, DELETED]) == []
    (fault,) = faults_of([RIGHT, TWICE])
    assert fault.startswith("kill -9, worker: ")
