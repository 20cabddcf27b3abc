"""What a person sees while a command waits: lines, and a bar below them if stderr is a terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris.cli.session import Session, visible

if TYPE_CHECKING:
    from rich.progress import Progress


class SessionLog:
    """The log of a wait, on stderr. See :class:`~airflow_provider_polaris.waiting.progress_log.Log`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def log(self, level: int, event: Any, /, *args: Any) -> None:
        """Show a line."""
        text = str(event) % args if args else str(event)
        self._session.note(f"{'Warning: ' if level >= logging.WARNING else ''}{text}")

    def info(self, event: Any, /, *args: Any) -> None:
        """Show a line."""
        self.log(logging.INFO, event, *args)

    def warning(self, event: Any, /, *args: Any) -> None:
        """Show a warning."""
        self.log(logging.WARNING, event, *args)


class Bar:
    """A bar of one thing. Without a terminal, it shows nothing."""

    def __init__(self, progress: Progress | None, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(visible(title), total=None) if progress else None

    @property
    def is_shown(self) -> bool:
        """Whether somebody sees the bar."""
        return self._progress is not None

    def update(self, title: str, done: float | None, total: float = 1.0) -> None:
        """Show how far it is.

        :param done: out of ``total``; ``None`` if unknown.
        """
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=visible(title))
            if done is not None:
                self._progress.update(self._task, completed=min(done, total), total=total)


@contextmanager
def bar(session: Session, title: str) -> Iterator[Bar]:
    """Show a bar on stderr, if that is a terminal. The lines of the session appear above the bar."""
    if not session.messages.is_terminal or session.messages.is_dumb_terminal:
        yield Bar(None, title)
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=session.messages, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        yield Bar(progress, title)
