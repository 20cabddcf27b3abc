"""The upload operator finds its files, sends them once, and returns names that a job spec takes."""

from __future__ import annotations

import hashlib

import fsspec
import pytest

from airflow_provider_polaris._compat import AirflowFailException, object_path
from airflow_provider_polaris.operators import files
from airflow_provider_polaris.operators.polaris import PolarisDeleteFilesOperator, PolarisUploadOperator
from tests.support.airflow_versions import attach
from tests.support.run_task import run_task

pytestmark = pytest.mark.usefixtures("moved_clock")


@pytest.fixture
def folder(tmp_path):
    """Return a folder with two days of two tables."""
    for name in ("orders/2026-11-01.json", "orders/2026-11-02.json", "cities/2026-11-01.json", "orders/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f'{{"file": "{name}"}}\n')
    return tmp_path


@pytest.fixture
def upload(polaris):
    """Return a function that runs the operator."""

    def run(source, **options):
        return run_task(lambda: PolarisUploadOperator(task_id="upload", source=source, **options))

    return run


def test_one_file_gets_its_name_and_its_metadata_are_returned(upload, folder):
    path = folder / "orders" / "2026-11-01.json"
    outcome = upload(str(path))
    assert outcome.kind == "success"
    data = path.read_bytes()
    assert outcome.xcom == {
        "names": ["2026-11-01.json"],
        "files": [
            {
                "name": "2026-11-01.json",
                "size_bytes": len(data),
                "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
                "data_format": "nd-json",
                "compression_format": "none",
                "was_sent": True,
            }
        ],
        "bytes": len(data),
    }
    assert outcome.pushed == {"names": ["2026-11-01.json"]}
    again = upload(path).xcom
    assert (again["files"][0]["was_sent"], again["names"]) == (False, ["2026-11-01.json"])


@pytest.mark.parametrize(
    ("source", "name", "names"),
    [
        ("orders/2026-11-01.json", "first.json", ["first.json"]),
        ("orders/2026-11-01.json", "day/", ["day/2026-11-01.json"]),
        ("orders/*.json", None, ["2026-11-01.json", "2026-11-02.json"]),
        ("orders/2026-11-0[2-9].json", "in/", ["in/2026-11-02.json"]),
        ("**/2026-11-02.json", None, ["2026-11-02.json"]),
        (["orders/2026-11-02.json", "orders/n*.txt"], "x/", ["x/2026-11-02.json", "x/notes.txt"]),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"], ids=["path", "object storage"])
def test_files_are_found_by_path_pattern_and_list(upload, folder, scheme, source, name, names):
    sources = [f"{scheme}{folder}/{one}" for one in ([source] if isinstance(source, str) else source)]
    outcome = upload(sources if isinstance(source, list) else sources[0], name=name)
    assert outcome.kind == "success", outcome.error
    assert outcome.xcom["names"] == names


def test_an_object_of_airflows_storage_is_a_source(upload, folder):
    assert upload(object_path(f"file://{folder}/orders/notes.txt")).xcom["names"] == ["notes.txt"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("orders/none.json", "does not exist"),
        ("orders/*.csv", "No file matches"),
        ("orders", "is a folder: end it with /*"),
        ("*", "No file matches"),
    ],
)
def test_a_file_that_is_not_there_fails_the_task_and_is_tried_again(upload, folder, polaris, source, message):
    outcome = upload(f"{folder}/{source}")
    assert (outcome.kind, message in str(outcome.error)) == ("PolarisSourceUnreadable", True), outcome
    assert not isinstance(outcome.error, AirflowFailException)
    assert polaris.requests == []


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        (["orders/*.json"], {"name": "one.json"}, "2 files match, and name 'one.json' is for one"),
        (["orders/2026-11-01.json", "cities/2026-11-01.json"], {}, "Two files get the name '2026-11-01.json'"),
        ([], {}, "source is an empty list"),
        (["orders/notes.txt"], {"name": "/x"}, "no empty part"),
        (["orders/notes.txt"], {"if_exists": "ask"}, "if_exists must be same, replace or fail"),
    ],
)
def test_a_wrong_option_fails_the_task_without_retries(upload, folder, polaris, sources, options, message):
    outcome = upload([f"{folder}/{one}" for one in sources], **options)
    assert (outcome.kind, message in str(outcome.error)) == ("PolarisOptionInvalid", True), outcome
    assert polaris.requests == []


def test_another_file_of_the_name_fails_the_task_without_retries_or_is_replaced(upload, folder):
    path = folder / "orders" / "notes.txt"
    upload(path)
    path.write_text("changed")
    outcome = upload(path)
    assert outcome.kind == "PolarisUploadRefused"
    assert isinstance(outcome.error, AirflowFailException)
    assert "Choose another name, or if_exists='replace'" in str(outcome.error)
    assert upload(path, if_exists="replace").xcom["files"][0]["size_bytes"] == 7


def test_the_log_says_what_was_sent_and_shows_the_progress_of_a_large_file(upload, folder, task_log, monkeypatch):
    monkeypatch.setattr(files, "REPORT_SECONDS", 0.0)
    large = folder / "large.json"
    large.write_bytes(b"x" * 1_000_000)
    upload(large)
    upload(large)
    log = task_log()
    for line in (
        "large.json: 26 % of 1.0 MB",
        "Uploaded large.json: 1.0 MB in 0 s",
        "large.json is there already: 1.0 MB with the same digest",
    ):
        assert sum(line in one for one in log) == 1


def test_uploaded_files_are_deleted_and_a_missing_one_is_no_error(upload, folder, polaris):
    names = upload(f"{folder}/orders/*").xcom["names"]
    for _ in range(2):
        outcome = run_task(lambda: PolarisDeleteFilesOperator(task_id="delete", names=names))
        assert (outcome.kind, outcome.xcom) == ("success", names)
    assert polaris._store.files == {}


@pytest.mark.parametrize(
    ("names", "kind"),
    [(None, "skipped"), ("a.json", "PolarisOptionInvalid"), ([], "success"), ([7], "PolarisOptionInvalid")],
)
def test_names_that_are_no_list(polaris, names, kind):
    assert run_task(lambda: PolarisDeleteFilesOperator(task_id="delete", names=names)).kind == kind


def test_objects_of_a_bucket_are_found_and_sent(upload, polaris):
    bucket = fsspec.filesystem("memory")
    attach("memory", fs=bucket)
    bucket.pipe({"/bucket/in/a.json": b"{}\n", "/bucket/in/b.json": b'{"b": 1}\n', "/bucket/in/more/c.json": b""})
    outcome = upload(["memory://bucket/in/*.json", "memory://bucket/in/more/c.json"], name="day/")
    assert outcome.kind == "success", outcome.error
    assert outcome.xcom["names"] == ["day/a.json", "day/b.json", "day/c.json"]
    assert polaris._store.files["day/b.json"].path.read_bytes() == b'{"b": 1}\n'
