"""The notes of a task's tries for each other: the job that a try created, or may have created.

Airflow 3.3 keeps notes in a store across a lost worker, a retry and a clear. Airflow before 3.3 has no such store, and
deletes a task's XComs at the start of each try.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_polaris import clock
from airflow_provider_polaris._compat import task_url
from airflow_provider_polaris.api.job_spec import comparable

if TYPE_CHECKING:
    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.waiting.progress_log import Log

#: The key of the note in the store. The key never changes: a task that one release deferred continues under the next.
KEY = "polaris_job"
State = Literal["sending", "lost", "waiting", "canceling", "passed", "refused", "failed"]
_STATES: tuple[str, ...] = get_args(State)


@dataclass(frozen=True)
class SubmissionNote:
    """The last note of a task.

    :param state: ``sending``: the spec was sent, and no response was noted. ``lost``: the same, and the task failed
        with a message. ``waiting``: the job has no verdict yet. ``canceling``: the timeout passed, or the task was
        killed. ``passed`` and ``refused``: the data is loaded. ``failed``: the data is not loaded.
    :param clear_generation: the first try since the task was last cleared.
    :param at: when the spec was sent, in seconds since the epoch.
    :param marker: marker in the submitted spec, used to find its job. ``None`` if the spec was sent without a marker.
    :param spec: digest of the spec. It shows whether a cleared task loads something else.
    :param known_jobs: ids of the newest jobs of the table before the spec was sent; ``None`` if unknown.
    """

    state: State
    clear_generation: int
    at: float
    job_id: str | None = None
    marker: str | None = None
    spec: str | None = None
    known_jobs: list[str] | None = None


def clear_generation(ti: Any, retries: int) -> int:
    """Return the number of the first try since the task was last cleared.

    :param retries: the task's option.
    """
    # As Airflow itself counts (get_first_reschedule_date): a clear raises max_tries, a retry does not.
    return int(ti.max_tries) - retries + 1


class SubmissionRecord:
    """The notes of one task instance, as one of its tries reads and writes them.

    A clear generation is all tries since the task was last cleared. Its number is the number of its first try.

    :param retries: the task's option. Airflow derives the first try of a clear generation from it.
    """

    def __init__(self, context: Context, retries: int) -> None:
        ti = context["ti"]
        self._store: Any = context.get("task_state_store")
        self.clear_generation = clear_generation(ti, retries)
        this_try = int(ti.try_number)
        #: Whether Airflow does not retry the task after this try, whatever the error.
        self.is_last_try = this_try > int(ti.max_tries)
        self.is_retry = this_try > 1 and this_try != self.clear_generation
        dag_run = context.get("dag_run")
        # Airflow 2.11 numbers its DAG runs: a run that was deleted and created again has another number.
        #: The number of tries before this one in the clear generation.
        self.tries_before = this_try - self.clear_generation
        identity = [ti.dag_id, ti.run_id, ti.task_id, ti.map_index, self.clear_generation, getattr(dag_run, "id", None)]
        #: Beginning of the markers of all specs of this clear generation.
        self.marker = f"airflow-provider-polaris {digest(identity)}"
        #: Whether the tries before had the same marker. They had another if the DAG file's ``retries`` changed after
        #: the first try: the clear generation is then less than one, or later than this try.
        self.knows_marker = 1 <= self.clear_generation <= this_try
        run_began = getattr(dag_run, "start_date", None)
        #: When the DAG run began, in seconds since the epoch; ``None`` if unknown. No job of its tasks is older.
        self.run_began = run_began.timestamp() if isinstance(run_began, datetime) else None
        #: Who creates the job, for a person who looks at the job.
        self.about = {
            "dag_id": ti.dag_id,
            "run_id": ti.run_id,
            "task_id": ti.task_id,
            "map_index": ti.map_index,
            "try_number": this_try,
        }
        if url := task_url(ti):
            self.about["url"] = url
        #: Digest of this try's spec; ``None`` until :meth:`set_spec`.
        self.spec: str | None = None
        self._written: SubmissionNote | None = None
        #: Whether there is a note that cannot be read. A later release may have written that note.
        self.is_unreadable = False

    @property
    def is_kept(self) -> bool:
        """Whether Airflow keeps the notes for later tries."""
        return self._store is not None

    def last_note(self) -> SubmissionNote | None:
        """Return the last note; ``None`` if there is none, or if it cannot be read."""
        stored = self._store.get(KEY) if self.is_kept else None
        note = _read(stored) if isinstance(stored, Mapping) else None
        self.is_unreadable = stored is not None and note is None
        return note

    @property
    def is_overtaken(self) -> bool:
        """Whether another try has written a note since this try wrote one. Airflow counts this try as lost then."""
        return self._written is not None and self.last_note() != self._written

    def set_spec(self, spec: Mapping[str, Any]) -> None:
        """Keep a digest of the rendered spec of this try."""
        self.spec = digest(comparable(spec))

    def note(
        self,
        state: State,
        job_id: str | None = None,
        *,
        marker: str | None = None,
        known_jobs: list[str] | None = None,
    ) -> None:
        """Note the progress of this try."""
        if self.is_kept:
            generation = self.clear_generation
            note = SubmissionNote(state, generation, clock.now(), job_id, marker, self.spec, known_jobs)
            self._store.set(KEY, asdict(note))
            self._written = note

    def note_cancellation(self, job_id: str, log: Log) -> None:
        """Note a cancellation before it is sent, since this process may end right after. Best effort."""
        try:
            self.note("canceling", job_id)
        except Exception as error:  # noqa: BLE001 - Airflow may reject every call of a task that ends
            log.info("The cancellation of job %s could not be noted for the next try: %s", job_id, error)


def _read(stored: Mapping[str, Any]) -> SubmissionNote | None:
    state, generation, at = stored.get("state"), stored.get("clear_generation"), stored.get("at")
    if state not in _STATES or not isinstance(generation, int) or not isinstance(at, (int, float)):
        return None
    texts = {name: stored[name] for name in ("job_id", "marker", "spec") if isinstance(stored.get(name), str)}
    known = stored.get("known_jobs")
    is_known = isinstance(known, list) and all(isinstance(job_id, str) for job_id in known)
    return SubmissionNote(state, generation, at, **texts, known_jobs=known if is_known else None)


def digest(value: Any) -> str:
    """Return a short text that two JSON values share only if they are equal, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
