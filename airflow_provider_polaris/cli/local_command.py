"""The command ``local``: run the local Polaris in this process."""

from __future__ import annotations

import argparse
import runpy
import sys


def local(args: argparse.Namespace) -> None:
    """Run ``python -m airflow_provider_polaris.local`` with the options that were given."""
    from airflow_provider_polaris.cli.definitions import LOCAL

    given = []
    for flag in (arg.flags[0] for arg in LOCAL):
        value = getattr(args, flag.removeprefix("--").replace("-", "_"))
        values = value if isinstance(value, list) else [] if value is None else [value]
        given += [f"{flag}={one}" for one in values]
    module = "airflow_provider_polaris.local"
    before, sys.argv = sys.argv, [module, *given]
    try:
        # By its name: the local Polaris shares no code with the rest of the package.
        runpy.run_module(f"{module}.__main__", run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("airflow_provider_polaris"):
            raise
        raise SystemExit(
            f"The local Polaris needs {error.name}. pip install 'airflow-provider-polaris[local]'"
        ) from None
    finally:
        sys.argv = before
