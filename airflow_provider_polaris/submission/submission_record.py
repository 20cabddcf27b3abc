"""What the tries of one task know of each other: the job that an earlier one created, or may have created.

Airflow 3.3 has a store for that, which outlives a worker, a retry and a clear. Before 3.3 there is none: XComs are
cleared at the start of each try.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_polaris import clock

if TYPE_CHECKING:
    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.waiting.progress_log import Log

#: Under which the store keeps it: a task that was deferred by one release goes on under the next.
KEY = "polaris_job"
State = Literal["sending", "lost", "waiting", "canceling", "passed", "refused", "failed"]
_STATES: tuple[str, ...] = get_args(State)


@dataclass(frozen=True)
class SubmissionNote:
    """What was noted last.

    :param state: ``sending``: the spec went out, and no answer was noted; ``lost``: likewise, and the user was told;
        ``waiting`` for the job, without a verdict; ``canceling``: time was up, or the task was killed; or the verdict,
        of which ``passed`` and ``refused`` have loaded the data, and ``failed`` has not.
    :param life: the first try since the task was last cleared: retries of one life belong together.
    :param at: when the spec went out, in seconds since the epoch.
    """

    state: State
    life: int
    at: float
    job_id: str | None = None
    #: By which the job is found again whose spec went out.
    marker: str | None = None
    #: A digest of the spec, by which a clear that is to load something else is told.
    spec: str | None = None


class SubmissionRecord:
    """One task instance's record.

    :param retries: the task's own; Airflow tells by them which try began a life.
    """

    def __init__(self, context: Context, retries: int) -> None:
        ti = context["ti"]
        self._store: Any = context.get("task_state_store")
        # As Airflow itself counts (get_first_reschedule_date): a clear raises max_tries, a retry does not.
        self.life = int(ti.max_tries) - retries + 1
        this_try = int(ti.try_number)
        self.is_retry = this_try > 1 and this_try != self.life
        identity = [ti.dag_id, ti.run_id, ti.task_id, ti.map_index, self.life]
        #: By which the jobs of this life are found again, where their spec has a place for it.
        self.marker = f"airflow-provider-polaris {_digest(identity)}"
        #: Whether that is the marker of the tries before. It is not if the DAG file's ``retries`` have changed since
        #: the first one: then this count has begun before it, or is yet to begin.
        self.knows_marker = 1 <= self.life <= this_try
        run_began = getattr(context.get("dag_run"), "start_date", None)
        #: When the run began, in seconds since the epoch: no job of its tasks is older. ``None`` if that is not told.
        self.began = run_began.timestamp() if isinstance(run_began, datetime) else None
        #: Of this try's spec, once it is known.
        self.spec: str | None = None
        #: Whether something was noted that cannot be read: by a later release, perhaps.
        self.is_garbled = False

    @property
    def lasts(self) -> bool:
        """Whether what is noted outlives this process."""
        return self._store is not None

    def recall(self) -> SubmissionNote | None:
        """Return what was noted last, ``None`` if nothing was, or if it cannot be read."""
        noted = self._store.get(KEY) if self.lasts else None
        remembered = _read(noted) if isinstance(noted, Mapping) else None
        self.is_garbled = noted is not None and remembered is None
        return remembered

    def is_for(self, spec: Mapping[str, Any]) -> None:
        """Tell which spec, rendered, this try is to load."""
        self.spec = _digest(spec)

    def note(self, state: State, job_id: str | None = None, *, marker: str | None = None) -> None:
        """Note how far this try is."""
        if self.lasts:
            self._store.set(KEY, asdict(SubmissionNote(state, self.life, clock.now(), job_id, marker, self.spec)))

    def note_cancellation(self, job_id: str, log: Log) -> None:
        """Note that the job is about to be canceled: before it is, since this process may not live to do it after."""
        try:
            self.note("canceling", job_id)
        except Exception as error:  # noqa: BLE001 - Airflow may take nothing more from a task that ends
            log.info("The cancellation could not be noted for a next try: %s", error)


def _read(noted: Mapping[str, Any]) -> SubmissionNote | None:
    state, life, at = noted.get("state"), noted.get("life"), noted.get("at")
    if state not in _STATES or not isinstance(life, int) or not isinstance(at, (int, float)):
        return None
    told = {name: noted[name] for name in ("job_id", "marker", "spec") if isinstance(noted.get(name), str)}
    return SubmissionNote(state, life, at, **told)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
