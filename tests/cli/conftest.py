"""A fixture that runs a command in this process."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from airflow_provider_polaris.cli.python_command import main


class Ended(NamedTuple):
    """What is left of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd):
    """Return a function that runs a command, and returns its exit code and what it printed."""

    def run(*argv):
        capfd.readouterr()
        code = 0
        try:
            main([str(one) for one in argv])
        except SystemExit as ended:
            code = ended.code
        return Ended(code, *capfd.readouterr())

    return run
