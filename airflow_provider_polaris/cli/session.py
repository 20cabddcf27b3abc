"""What every command shares: its connection, its result on stdout, its messages on stderr, and its exit code."""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, TextIO

from airflow_provider_polaris.api.errors import (
    PolarisConnectionInvalid,
    PolarisConnectionMissing,
    PolarisError,
    PolarisForbidden,
    PolarisTransientError,
    PolarisUnauthorized,
    PolarisUsageError,
    sentences,
)

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_provider_polaris.hooks.polaris import PolarisHook

#: The exit codes, as docs/reference/command-line.md lists them. argparse itself ends with 2.
OK, FAILED, USAGE, NO_SERVICE, TIMEOUT = 0, 1, 2, 3, 4
INTERRUPTED = 130
CLOSED_PIPE = 141
#: The least width of a column that is wrapped, in characters.
MIN_COLUMN = 8
#: The errors that say nothing about what was asked: the connection, the key or the service does not work.
_NO_SERVICE = (
    PolarisConnectionInvalid,
    PolarisConnectionMissing,
    PolarisForbidden,
    PolarisTransientError,
    PolarisUnauthorized,
)


class Session:
    """One run of a command.

    :param args: the options of the command.
    :param out: where the result goes, and nothing else.
    """

    def __init__(self, args: argparse.Namespace, out: TextIO) -> None:
        from airflow_provider_polaris.hooks.polaris import PolarisHook

        self.args = args
        self.hook: PolarisHook = PolarisHook(args.conn_id, args.project_id)
        self.output: str = args.output
        self._out = out
        self.messages = _console(sys.stderr)

    @property
    def is_json(self) -> bool:
        """Whether the result is one JSON document."""
        return self.output == "json"

    def note(self, text: str) -> None:
        """Show a message on stderr."""
        self.messages.print(visible(text), soft_wrap=True)

    def write(self, text: str) -> None:
        """Write text to stdout as it is."""
        self._out.write(text)

    def show_json(self, value: Any) -> None:
        """Write a JSON document. It is ASCII, so that every terminal and locale can show it."""
        self.write(f"{json.dumps(value, indent=2)}\n")

    def show_lines(self, text: str) -> None:
        """Write text for a person. Only a terminal wraps lines: a line in a pipe stays whole."""
        console = _console(self._out)
        for line in text.splitlines():
            console.print(visible(line), soft_wrap=not console.is_terminal)

    def show_table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, fixed: Sequence[str] = ()) -> None:
        """Write a table that fits the terminal, or 80 columns without one. Long cells are wrapped, and nothing is cut.

        :param fixed: the columns whose cells stay on one line, unless the terminal is too narrow.
        """
        from rich.table import Table
        from rich.text import Text

        console = _console(self._out)
        rows = [[visible(cell) for cell in row] for row in rows]
        widest = [max(map(len, (name, *(row[number] for row in rows)))) for number, name in enumerate(columns)]
        needed = sum(width + 1 if name in fixed else MIN_COLUMN for name, width in zip(columns, widest, strict=True))
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_header=any(columns))
        for name in columns:
            is_whole = name in fixed and needed <= console.width
            table.add_column(Text(visible(name)), overflow="fold", no_wrap=is_whole)
        for row in rows:
            table.add_row(*map(Text, row))
        with console.capture() as shown:
            console.print(table)
        self.write("".join(f"{line.rstrip()}\n" for line in shown.get().splitlines()))


def visible(value: Any) -> str:
    """Return a value as text for a terminal. A control character of a response must not control the terminal."""
    text = "" if value is None else str(value)
    return "".join(sign if sign.isprintable() else " " if sign.isspace() else "\ufffd" for sign in text)


def _console(file: TextIO) -> Console:
    from rich.console import Console

    return Console(file=file, emoji=False, markup=False, highlight=False)


def command(function: Callable[[Session], int]) -> Callable[[argparse.Namespace], None]:
    """Turn a function that returns an exit code into a command that Airflow calls.

    The command ends the process if the code is not 0: Airflow ignores what a command returns.
    """

    @functools.wraps(function)
    def run(args: argparse.Namespace) -> None:
        with _only_results_on_stdout() as out, _quiet(verbose=args.verbose), _with_database():
            code = _run(function, args, out)
        if code:
            raise SystemExit(code)

    return run


def _run(function: Callable[[Session], int], args: argparse.Namespace, out: TextIO) -> int:
    session = Session(args, out)
    try:
        with closing(session.hook):
            code = function(session)
        out.flush()
    except KeyboardInterrupt:
        session.note("Interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the result, such as head, has enough
        return CLOSED_PIPE
    except Exception as error:  # noqa: BLE001 - a person gets a line; --verbose shows the traceback
        if args.verbose:
            traceback.print_exc()
        kind = "" if isinstance(error, (PolarisError, OSError)) else f"{type(error).__name__}: "
        session.note(f"Error: {kind}{sentences(*str(error).splitlines())}")
        return _code_of(error)
    return code


def _code_of(error: Exception) -> int:
    if isinstance(error, _NO_SERVICE):
        return NO_SERVICE
    return USAGE if isinstance(error, PolarisUsageError) else FAILED


@contextmanager
def _only_results_on_stdout() -> Iterator[TextIO]:
    """Yield a stream to stdout. All else that is printed goes to stderr: Airflow's loggers print to stdout."""
    if sys.stdout is None or sys.stderr is None:
        raise SystemExit("stdout or stderr is closed")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved = os.dup(1)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    os.dup2(2, 1)
    out = open(saved, "w", encoding=encoding, errors="backslashreplace")  # noqa: SIM115, PTH123 - closed below
    try:
        with redirect_stdout(sys.stderr):
            yield out
    finally:
        os.dup2(saved, 1)
        with suppress(BrokenPipeError):
            out.close()


@contextmanager
def _with_database() -> Iterator[None]:
    """Let Airflow 3 look a connection up in its database too. Its command ``connections`` sets the same variable."""
    name = "_AIRFLOW_PROCESS_CONTEXT"
    before = os.environ.get(name)
    os.environ[name] = before or "server"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


@contextmanager
def _quiet(*, verbose: bool) -> Iterator[None]:
    """Leave Airflow's log out, and show the warnings of this provider as plain lines."""
    if verbose:
        yield
        return
    airflow, own = logging.getLogger("airflow"), logging.getLogger("airflow_provider_polaris")
    before = airflow.level, own.propagate
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    airflow.setLevel(logging.CRITICAL + 1)
    own.addHandler(handler)
    own.propagate = False
    try:
        yield
    finally:
        own.removeHandler(handler)
        airflow.setLevel(before[0])
        own.propagate = before[1]
