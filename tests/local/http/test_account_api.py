"""The local Polaris reports the permissions of the key and the state of the project, and takes access tokens."""

from __future__ import annotations

import pytest
import requests


@pytest.fixture
def get(own_polaris):
    polaris, _ = own_polaris

    def send(path, scheme="Basic", secret=None):
        headers = {"Authorization": f"{scheme} {secret or polaris.api_key}"}
        return requests.get(f"{polaris.url}{path}", headers=headers, timeout=10)

    send.polaris = polaris
    return send


def test_the_key_has_the_permissions_that_were_given(get):
    get.polaris.permissions = ("ViewTables", "ManageFiles")
    answer = get("/v1/apikeyinfo")
    assert answer.status_code == 200
    assert answer.json()["permissions"] == ["ManageFiles", "ViewTables"]
    assert get("/v1/apikeyinfo", secret="wrong").status_code == 401


def test_the_project_has_the_state_that_was_set(get):
    project = f"/v1/projects/{get.polaris.project_id}"
    assert get(project).json()["status"]["state"] == "running"
    get.polaris.project_state = "paused"
    assert get(project).json()["status"]["state"] == "paused"
    assert get("/v1/projects/another").status_code == 404


def test_an_access_token_is_taken_as_bearer_only_and_expires(get, moved_clock):
    jobs = f"/v1/projects/{get.polaris.project_id}/jobs"
    token = get.polaris.new_access_token()
    assert get(jobs, "Bearer", token).status_code == 200
    assert get(jobs, "Basic", token).status_code == 401
    assert get(jobs, "Bearer", get.polaris.api_key).status_code == 401
    moved_clock.time += 300
    expired = get(jobs, "Bearer", token)
    assert expired.status_code == 401
    assert expired.json() == {"message": 'Token claims invalid: ["exp"]="token expired"'}
