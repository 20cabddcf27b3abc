"""scripts/live.py, the read-only check of a real project, against the local Polaris."""

from __future__ import annotations

from scripts import live


def test_the_check_is_skipped_without_a_project(monkeypatch, capsys):
    for name in live.NEEDED:
        monkeypatch.delenv(name, raising=False)
    assert live.main() == 0
    assert "Skipped: set POLARIS_URL" in capsys.readouterr().out


def test_the_check_only_reads_and_shows_no_key(polaris, monkeypatch, capsys):
    polaris.add_job(executionStatus="completed", metrics={"numRowsProcessed": 1})
    monkeypatch.setenv("POLARIS_URL", polaris.url)
    monkeypatch.setenv("POLARIS_PROJECT_ID", polaris.project_id)
    monkeypatch.setenv("POLARIS_API_KEY", polaris.api_key)
    assert live.main() == 0
    said = capsys.readouterr().out
    assert said.count("ok      ") == 9
    assert "code 'NotFound'" in said
    assert polaris.api_key not in said
    assert {request.method for request in polaris.requests} == {"GET"}


def test_failed_checks_are_counted(polaris, monkeypatch, capsys):
    monkeypatch.setenv("POLARIS_URL", polaris.url)
    monkeypatch.setenv("POLARIS_PROJECT_ID", polaris.project_id)
    monkeypatch.setenv("POLARIS_API_KEY", "pok_wrong")
    assert live.main() > 0
    assert "FAILED  authentication as api_key" in capsys.readouterr().out
