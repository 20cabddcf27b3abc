"""What the tries of one task know of each other: the job that an earlier one created, or may have created.

Airflow 3.3 has a store for that, which outlives a worker, a retry and a clear. Before 3.3 there is none: XComs are
cleared at the start of each try.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_polaris import clock

if TYPE_CHECKING:
    from airflow_provider_polaris._compat import Context

#: Under which the store keeps it: a task that was deferred by one release goes on under the next.
KEY = "polaris_job"
State = Literal["sending", "lost", "waiting", "canceling", "passed", "refused", "failed"]
_STATES: tuple[str, ...] = get_args(State)


@dataclass(frozen=True)
class Remembered:
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


class Memory:
    """One task instance's memory.

    :param retries: the task's own; Airflow tells by them which try began a life.
    """

    def __init__(self, context: Context, retries: int) -> None:
        ti = context["ti"]
        self._store: Any = context.get("task_state_store")
        # As Airflow itself counts (get_first_reschedule_date): a clear raises max_tries, a retry does not.
        self.life = int(ti.max_tries) - retries + 1
        self.is_retry = int(ti.try_number) > self.life
        identity = [ti.dag_id, ti.run_id, ti.task_id, ti.map_index, self.life]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
        #: By which the jobs of this life are found again, where their spec has a place for it.
        self.marker = f"airflow-provider-polaris {digest}"

    @property
    def lasts(self) -> bool:
        """Whether what is noted outlives this process."""
        return self._store is not None

    def recall(self) -> Remembered | None:
        """Return what was noted last, ``None`` if nothing was, or if it cannot be read."""
        noted = self._store.get(KEY) if self.lasts else None
        if not isinstance(noted, Mapping) or noted.get("state") not in _STATES:
            return None
        life, at = noted.get("life"), noted.get("at")
        if not isinstance(life, int) or not isinstance(at, (int, float)):
            return None
        job_id, marker = (noted[name] if isinstance(noted.get(name), str) else None for name in ("job_id", "marker"))
        return Remembered(noted["state"], life, at, job_id, marker)

    def note(self, state: State, job_id: str | None = None, *, marker: str | None = None) -> None:
        """Note how far this try is."""
        if self.lasts:
            self._store.set(KEY, asdict(Remembered(state, self.life, clock.now(), job_id, marker)))
