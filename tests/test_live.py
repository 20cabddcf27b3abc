"""scripts/live.py checks a project and only reads: here, the project of a local Polaris."""

from __future__ import annotations

from scripts import live


def test_the_check_of_a_project_is_skipped_without_its_variables(monkeypatch, capsys):
    for name in live.NEEDED:
        monkeypatch.delenv(name, raising=False)
    assert live.main() == 0
    assert "Skipped: set POLARIS_URL" in capsys.readouterr().out


def test_the_check_of_a_project_only_reads_and_prints_no_key(polaris, monkeypatch, capsys):
    polaris.add_job(executionStatus="completed", metrics={"numRowsProcessed": 1})
    monkeypatch.setenv("POLARIS_URL", polaris.url)
    monkeypatch.setenv("POLARIS_PROJECT_ID", polaris.project_id)
    monkeypatch.setenv("POLARIS_API_KEY", polaris.api_key)
    assert live.main() == 0
    output = capsys.readouterr().out
    assert output.count("ok      ") == 9
    assert "code 'NotFound'" in output
    assert polaris.api_key not in output
    assert {request.method for request in polaris.requests} == {"GET"}


def test_the_check_of_a_project_returns_the_number_of_failures(polaris, monkeypatch, capsys):
    monkeypatch.setenv("POLARIS_URL", polaris.url)
    monkeypatch.setenv("POLARIS_PROJECT_ID", polaris.project_id)
    monkeypatch.setenv("POLARIS_API_KEY", "pok_wrong")
    assert live.main() > 0
    assert "FAILED  authentication as api_key" in capsys.readouterr().out
