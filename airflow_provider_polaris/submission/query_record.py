"""The notes of a task's tries for each other: the asynchronous query that a try sent.

Airflow 3.3 keeps notes in a store across a lost worker, a retry and a clear. Airflow before 3.3 has no such store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_polaris import clock
from airflow_provider_polaris.submission.submission_record import clear_generation

if TYPE_CHECKING:
    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.waiting.progress_log import Log

#: The key of the note in the store. The key never changes: a task that one release deferred continues under the next.
KEY = "polaris_query"
State = Literal["sending", "waiting", "canceling", "over"]
_STATES: tuple[str, ...] = get_args(State)


@dataclass(frozen=True)
class QueryNote:
    """The last note of a task.

    :param state: ``sending``: the query was sent, and no response was noted. ``waiting``: the query has an id, and this
        task has not failed because of it. ``canceling``: the timeout passed, or the task was killed. ``over``:
        Polaris has started no query.
    :param clear_generation: the first try since the task was last cleared.
    :param at: when the note was written, in seconds since the epoch.
    :param query: digest of the query and its project. It shows whether a retry has another query.
    """

    state: State
    clear_generation: int
    at: float
    query_id: str | None = None
    query: str | None = None


class QueryRecord:
    """The notes of one task instance, as one of its tries reads and writes them.

    :param retries: the task's option. Airflow derives the first try of a clear generation from it.
    """

    def __init__(self, context: Context, retries: int, log: Log) -> None:
        ti = context["ti"]
        self._store: Any = context.get("task_state_store")
        self._log = log
        self._clear_generation = clear_generation(ti, retries)
        # Otherwise the DAG file's ``retries`` changed after the first try, and the number is wrong.
        self._knows_generation = 1 <= self._clear_generation <= int(ti.try_number)
        #: Digest of this try's query; ``None`` until :meth:`set_query`.
        self.query: str | None = None

    def set_query(self, query: str) -> None:
        """Keep the digest of the rendered query of this try."""
        self.query = query

    def last_note(self) -> QueryNote | None:
        """Return the last note; ``None`` if there is none, or if it cannot be read."""
        stored = self._store.get(KEY) if self._store is not None else None
        return _read(stored) if isinstance(stored, Mapping) else None

    def is_cleared_since(self, note: QueryNote) -> bool:
        """Whether a user cleared the task after the note. If that is unknown, the answer is no."""
        return self._knows_generation and note.clear_generation != self._clear_generation

    def note(self, state: State, query_id: str | None = None) -> None:
        """Note the progress of this try."""
        if self._store is not None:
            self._store.set(KEY, asdict(QueryNote(state, self._clear_generation, clock.now(), query_id, self.query)))

    def note_best_effort(self, state: State, query_id: str | None = None) -> None:
        """Note the progress. A failure of the store hides no other error, and ends no wait for a query."""
        try:
            self.note(state, query_id)
        except Exception as error:  # noqa: BLE001 - see above
            about = f"Query {query_id}" if query_id else "The query"
            self._log.warning(
                "%s: the state %r could not be stored for a retry: %s: %s", about, state, type(error).__name__, error
            )


def _read(stored: Mapping[str, Any]) -> QueryNote | None:
    state, generation, at = stored.get("state"), stored.get("clear_generation"), stored.get("at")
    if state not in _STATES or not isinstance(generation, int) or not isinstance(at, (int, float)):
        return None
    texts = {name: stored[name] for name in ("query_id", "query") if isinstance(stored.get(name), str)}
    return QueryNote(state, generation, at, **texts)
