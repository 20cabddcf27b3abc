"""Uploads: safe to repeat after any failure, and the same bytes arrive."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import threading

import pytest

from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.api.errors import (
    PolarisBadRequest,
    PolarisFileExists,
    PolarisForbidden,
    PolarisInvalidResponse,
    PolarisNotFound,
    PolarisSourceUnreadable,
    PolarisUnreachable,
    PolarisUsageError,
)
from airflow_provider_polaris.local import LocalPolaris
from airflow_provider_polaris.local.http import files_api

DATA = b'{"timestamp": "2026-11-01T00:00:00Z"}\n' * 20_000


@pytest.fixture(scope="module")
def polaris():
    """Yield a local Polaris for all tests of this module."""
    with LocalPolaris() as polaris:
        yield polaris


@pytest.fixture
def client(polaris, moved_clock):
    """Yield a client of a project without files."""
    connection = PolarisConnection.from_values(host=polaris.url, project_id=polaris.project_id, api_key=polaris.api_key)
    client = PolarisClient(connection)
    polaris.requests.clear()
    yield client
    polaris.clear_faults()
    for file in list(client.list_files()):
        client.delete_file(file.name)
    client.close()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "orders.json"
    path.write_bytes(DATA)
    return path


def stored(polaris, name):
    """Return the bytes that a local Polaris has stored."""
    return polaris._store.files[name].path.read_bytes()


def posts(polaris):
    return [request for request in polaris.requests if request.method == "POST"]


class Slow(io.BytesIO):
    """A stream that cannot seek."""

    def seekable(self):
        return False

    def seek(self, *_):
        raise OSError("no seek")

    tell = seek


@pytest.mark.parametrize("kind", ["path", "text", "stream", "no seek", "offset"])
def test_each_kind_of_source_arrives_with_all_its_bytes(polaris, client, path, kind):
    stream = io.BytesIO(b"skipped" + DATA)
    stream.seek(7)
    source = {
        "path": path, "text": str(path), "stream": io.BytesIO(DATA), "no seek": Slow(DATA), "offset": stream
    }[kind]  # fmt: skip
    file = client.upload_file(source, "in/orders.json")
    assert stored(polaris, "in/orders.json") == DATA
    md5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    assert (file.name, file.size, file.md5, file.data_format) == ("in/orders.json", len(DATA), md5, "nd-json")
    assert client.get_file("in/orders.json") == file
    assert [one.name for one in client.list_files("orders")] == ["in/orders.json"]
    client.delete_file("in/orders.json")
    with pytest.raises(PolarisNotFound):
        client.delete_file("in/orders.json")
    client.delete_file("in/orders.json", missing_ok=True)


def test_the_name_and_the_formats_can_be_chosen(client, path):
    assert client.upload_file(path).name == "orders.json"
    file = client.upload_file(path, "x", data_format="csv", compression_format="none")
    assert (file.data_format, file.compression_format) == ("csv", "none")


@pytest.mark.parametrize("name", ["ö/ü ß.json", "a b/c d.json", "100%/x?y#z.json", "a+b&c=d.json", "x" * 200])
def test_a_name_may_have_slashes_spaces_and_other_characters(polaris, client, path, name):
    assert client.upload_file(path, name).name == name
    assert client.upload_file(path, name).name == name
    assert (stored(polaris, name), len(posts(polaris))) == (DATA, 1)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "..", "a/../b", 'a"b', "a\\b", "a\nb", "x" * 1025, None, 7])
def test_a_name_that_polaris_cannot_have_is_refused_before_anything_is_sent(polaris, client, name):
    with pytest.raises(PolarisUsageError):
        client.upload_file(io.BytesIO(b"x"), name)
    assert polaris.requests == []


def test_the_same_file_is_not_sent_again(polaris, client, path):
    client.upload_file(path)
    client.upload_file(path)
    client.upload_file(path, if_exists="replace")
    assert len(posts(polaris)) == 1


@pytest.mark.parametrize("other", [DATA[:-1], DATA[:-2] + b"!\n"], ids=["size", "bytes"])
def test_another_file_of_the_name_is_an_error_or_is_replaced(polaris, client, path, other):
    client.upload_file(io.BytesIO(other), "orders.json")
    with pytest.raises(PolarisFileExists, match="Polaris has another file named 'orders\\.json'"):
        client.upload_file(path)
    with pytest.raises(PolarisFileExists):
        client.upload_file(path, if_exists="fail")
    assert stored(polaris, "orders.json") == other
    client.upload_file(path, if_exists="replace")
    assert stored(polaris, "orders.json") == DATA


def test_fail_fails_for_any_file_of_the_name(client, path):
    client.upload_file(path, if_exists="fail")
    with pytest.raises(PolarisFileExists, match="the same size"):
        client.upload_file(path, if_exists="fail")
    with pytest.raises(PolarisUsageError, match="if_exists must be same, replace or fail"):
        client.upload_file(path, if_exists="ask")


@pytest.mark.parametrize("if_exists", ["same", "replace", "fail"])
@pytest.mark.parametrize("when", ["before", "mid-body", "after"])
def test_a_lost_request_or_response_is_repeated_and_stores_the_file_once(polaris, client, path, when, if_exists):
    polaris.drop_next(1, when=when, match="POST .*/files")
    assert client.upload_file(path, if_exists=if_exists).size == len(DATA)
    assert stored(polaris, "orders.json") == DATA
    assert len(list(client.list_files())) == 1


def test_503s_are_repeated_and_end_in_an_error(polaris, client, path):
    polaris.fail_next(2, match="POST .*/files")
    assert client.upload_file(path).size == len(DATA)
    client.delete_file("orders.json")
    polaris.fail_next(9, match="POST .*/files")
    with pytest.raises(PolarisUnreachable):
        client.upload_file(path)
    assert list(client.list_files()) == []


def test_a_file_that_another_client_uploads_at_the_same_time(polaris, client, path, monkeypatch):
    """The other client is faster: between the look for the file and the upload."""
    find = PolarisClient._find_file

    def find_late(self, name, other):
        found = find(self, name)
        if found is None:
            client.put_file(type(self).UPLOAD(io.BytesIO(other)), name, if_exists="same", formats={})
        return found

    from airflow_provider_polaris.api.upload import Upload

    monkeypatch.setattr(PolarisClient, "UPLOAD", Upload, raising=False)
    for other, if_exists, outcome in (
        (DATA, "same", DATA), (b"other", "replace", DATA), (b"other", "same", None)
    ):  # fmt: skip
        called = threading.Event()

        def once(self, name, other=other, called=called):
            if called.is_set():
                return find(self, name)
            called.set()
            return find_late(self, name, other)

        monkeypatch.setattr(PolarisClient, "_find_file", once)
        if outcome is None:
            with pytest.raises(PolarisFileExists):
                client.upload_file(path, if_exists=if_exists)
        else:
            client.upload_file(path, if_exists=if_exists)
            assert stored(polaris, "orders.json") == outcome
        client.delete_file("orders.json")


def test_a_source_that_changes_while_it_is_sent_is_not_stored(polaris, client, path):
    class Changing:
        name = "orders.json"

        def __init__(self, size):
            self.size = size

        def stat(self):
            return type("Stat", (), {"st_size": self.size})

        def open(self, _mode):
            return io.BytesIO(DATA)

    for size in (len(DATA) - 1, len(DATA) + 1):
        with pytest.raises(PolarisSourceUnreadable, match="was changed while it was sent"):
            client.upload_file(Changing(size))
        assert list(client.list_files()) == []
    assert client.upload_file(path).size == len(DATA)


def test_a_source_that_cannot_be_read_is_no_outage(polaris, client):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(PolarisSourceUnreadable, match="Input/output error"):
        client.upload_file(Broken(DATA), "orders.json")
    assert len(posts(polaris)) <= 1
    with pytest.raises(FileNotFoundError):
        client.upload_file("/no/such/file")
    with pytest.raises(PolarisUsageError, match="from a path or a binary stream"):
        client.upload_file(b"bytes", "x")


def test_polaris_that_stores_other_bytes_is_an_error(polaris, client, path, monkeypatch):
    copy = files_api._copy

    def damaged(source, target):
        size, _ = copy(source, target)
        return size, "0" * 32

    monkeypatch.setattr(files_api, "_copy", damaged)
    with pytest.raises(PolarisInvalidResponse, match="Delete the file, and upload it again"):
        client.upload_file(path)


def test_the_digest_of_a_gzip_may_be_that_of_the_data_inside(polaris, client, tmp_path, monkeypatch):
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:]))
    inside = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    copy = files_api._copy
    monkeypatch.setattr(files_api, "_copy", lambda *args: (copy(*args)[0], inside))
    client.upload_file(path)
    client.upload_file(path)
    assert len(posts(polaris)) == 1
    monkeypatch.setattr(files_api, "_copy", lambda *args: (copy(*args)[0], "0" * 32))
    client.delete_file("a.json.gz")
    with pytest.raises(PolarisInvalidResponse):
        client.upload_file(path)
    client.upload_file(path, "a.json.zst", compression_format="zstd")  # only a warning


@pytest.mark.parametrize("size", [5_000, 30_000_000], ids=["small", "large"])
def test_a_file_that_is_too_large_is_refused_by_polaris(polaris, client, monkeypatch, size):
    """The response comes while a large file is still being sent."""
    monkeypatch.setattr(files_api, "SPACE", 1000)
    with pytest.raises(PolarisBadRequest, match="413"):
        client.upload_file(io.BytesIO(bytes(size)), "large.json")
    monkeypatch.undo()
    assert (list(client.list_files()), len(posts(polaris))) == ([], 1)


_KILLED = """
import io, os, sys
from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import PolarisConnection
url, project, key, size, last = sys.argv[1:]
class Killed(io.BytesIO):
    def read(self, most=-1):
        if self.tell() >= int(last):
            os._exit(9)
        return super().read(most)
client = PolarisClient(PolarisConnection.from_values(host=url, project_id=project, api_key=key))
client.upload_file(Killed(b"x" * int(size)), "killed.json")
os._exit(0)
"""


@pytest.mark.parametrize("last", [0, 1, 2_000_000, 3_999_999, 4_000_000, 9_000_000])
def test_a_process_that_is_killed_at_any_byte_leaves_nothing_that_stops_the_next_try(polaris, client, last):
    data = b"x" * 4_000_000
    command = [sys.executable, "-c", _KILLED, polaris.url, polaris.project_id, polaris.api_key, "4000000", str(last)]
    assert subprocess.run(command, check=False, timeout=60).returncode == (9 if last <= 4_000_000 else 0)
    assert client.upload_file(io.BytesIO(data), "killed.json").size == len(data)
    assert stored(polaris, "killed.json") == data


def test_a_key_without_the_permission_is_told_which_one(polaris, client, path):
    all_of_them = polaris.permissions
    polaris.permissions = ("ManageIngestionJobs",)
    try:
        with pytest.raises(PolarisForbidden, match="give the API key the permission ManageFiles"):
            client.upload_file(path)
    finally:
        polaris.permissions = all_of_them


def test_an_empty_file_is_a_file(polaris, client):
    assert client.upload_file(io.BytesIO(b""), "empty.json").size == 0
    assert stored(polaris, "empty.json") == b""


def test_the_list_has_all_pages(client, monkeypatch):
    from airflow_provider_polaris.api import file_calls

    monkeypatch.setattr(file_calls, "_PAGE", 2)
    for number in range(5):
        client.upload_file(io.BytesIO(b"x"), f"{number}.json")
    assert [file.name for file in client.list_files()] == [f"{number}.json" for number in range(5)]


@pytest.mark.parametrize("body", ["[]", '{"files": {}}', '{"files": [{"name": "x"}]}', '{"files": [7]}'])
def test_a_list_of_another_shape_is_an_invalid_response(polaris, client, body):
    polaris.answer_next(1, body=body, headers={"Content-Type": "application/json"}, match="GET .*/files")
    with pytest.raises(PolarisInvalidResponse):
        list(client.list_files())


_MEMORY = """
import io, resource, sys
from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import PolarisConnection
url, project, key, size = sys.argv[1:]
client = PolarisClient(PolarisConnection.from_values(host=url, project_id=project, api_key=key))
client.upload_file(io.BytesIO(b"x"), "warm.json")
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
class Endless:
    name = "large.json"
    def stat(self):
        return type("Stat", (), {"st_size": int(size)})
    def open(self, mode):
        return self
    def __enter__(self):
        self.left = int(size)
        return self
    def __exit__(self, *exc):
        pass
    def read(self, most):
        part = min(most, self.left)
        self.left -= part
        return bytes(part)
client.upload_file(Endless())
print(peak() - before)
"""


def test_the_memory_of_an_upload_does_not_grow_with_the_file(polaris, client):
    command = [sys.executable, "-c", _MEMORY, polaris.url, polaris.project_id, polaris.api_key, str(300_000_000)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    assert int(output) < 50  # megabytes
