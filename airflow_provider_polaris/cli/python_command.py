"""``python -m airflow_provider_polaris``: the commands for an Airflow before 3.2, from the same definitions."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. What it parses has ``func``, which runs the command."""
    from airflow_provider_polaris.cli.definitions import DESCRIPTION, subcommands

    parser = argparse.ArgumentParser(prog="python -m airflow_provider_polaris", description=DESCRIPTION)
    group = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in subcommands():
        one = group.add_parser(command.name, help=command.help, description=command.help)
        for arg in command.args:
            arg.add_to_parser(one)
        one.set_defaults(func=command.func)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command.

    :param argv: the arguments, by default those of the process.
    :raises SystemExit: with an exit code that is not 0, if the command does not succeed.
    """
    args = make_parser().parse_args(argv)
    args.func(args)
