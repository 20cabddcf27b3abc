"""How long a wait puts up with polls that fail. Pure; the same in poke mode and in the trigger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_polaris.api.errors import (
    PolarisError,
    PolarisJobNotFound,
    PolarisNotFound,
    PolarisTransientError,
    PolarisUnauthorized,
)

#: Keys are rotated while jobs run: how long a wait that had worked looks again at a 401, in seconds.
ROTATION_GRACE = 300.0
#: Only a second look at least this much later proves that a job is not there, in seconds.
SECOND_LOOK = 10.0
#: The longest that ``Retry-After`` puts a poll off beyond its interval, in seconds.
MAX_RETRY_AFTER = 30.0
#: What a deferral hands over of failed polls is too old to go on with after that, in seconds, and some intervals.
STALE = 60.0


@dataclass
class OutageTolerance:
    """What one wait remembers of polls that failed.

    :param max_unreachable: seconds without an answer after which the wait ends. ``None`` never ends it: a rescheduled
        poke is a new process and does not know when the outage began.
    :param interval: the usual seconds between two polls.
    :param worked: whether this wait has had an answer before; at the first look a 401 is a wrong key, later it may be a
        rotation.
    :param unreachable_since: when a running outage began, in seconds since the epoch.
    :param unauthorized_since: when the key was first turned away.
    :param not_found_since: when the job was first said not to be there.
    """

    max_unreachable: float | None
    interval: float = 0.0
    worked: bool = False
    unreachable_since: float | None = None
    unauthorized_since: float | None = None
    not_found_since: float | None = None

    def succeeded(self) -> None:
        """Forget the failures: a poll had all its answers."""
        self.worked = True
        self.unreachable_since = self.unauthorized_since = self.not_found_since = None

    def failed(self, error: PolarisError, now: float) -> float | None:
        """Bear one more failed poll.

        :return: after how many seconds to look again; ``None`` for the usual interval.
        :raises PolarisError: the error with which the wait ends.
        """
        if isinstance(error, PolarisTransientError):
            return self._unreachable(error, now)
        self.unreachable_since = None  # it did answer
        if isinstance(error, PolarisUnauthorized):
            self._unauthorized(error, now)
            return None
        if isinstance(error, PolarisNotFound):
            return self._not_found(error, now)
        raise error

    def to_dict(self, now: float) -> dict[str, float | None] | None:
        """Return what another process needs to go on with this tolerance; ``None`` if nothing failed."""
        if self.unreachable_since is None and self.unauthorized_since is None:
            return None
        return {
            "at": now,
            "unreachable_since": self.unreachable_since,
            "unauthorized_since": self.unauthorized_since,
        }

    def resume(self, failing: Mapping[str, Any] | None, now: float) -> bool:
        """Go on with what :meth:`to_dict` told, and return whether there was something to go on with.

        A trigger's arguments stay what they were: one that starts again hours later must not take an outage of back
        then for one that never ended.
        """
        at = failing.get("at") if failing else None
        if not failing or not isinstance(at, (int, float)) or now - at > STALE + 3 * self.interval:
            return False
        self.unreachable_since = failing.get("unreachable_since")
        self.unauthorized_since = failing.get("unauthorized_since")
        return True

    def _unreachable(self, error: PolarisTransientError, now: float) -> float | None:
        if self.unreachable_since is None:
            self.unreachable_since = now
        lasted = now - self.unreachable_since
        if self.max_unreachable is not None and lasted >= self.max_unreachable:
            raise type(error)(
                f"Polaris was out of reach for {lasted:,.0f} s, and max_unreachable is {self.max_unreachable:,.0f}. "
                f"When Polaris is back, clear or retry the task: it waits for the same job. The last answer: {error}",
                status=error.status,
                code=error.code,
            )
        asked = min(error.retry_after or 0.0, MAX_RETRY_AFTER)
        return asked if asked > self.interval else None

    def _unauthorized(self, error: PolarisUnauthorized, now: float) -> None:
        if not self.worked or self.max_unreachable is None:
            raise error
        if self.unauthorized_since is None:
            self.unauthorized_since = now
        if now - self.unauthorized_since >= ROTATION_GRACE:
            raise error

    def _not_found(self, error: PolarisNotFound, now: float) -> float:
        if self.not_found_since is None:
            self.not_found_since = now
        left = self.not_found_since + SECOND_LOOK - now
        if left > 0:
            return left
        raise no_such_job(error)


def no_such_job(error: PolarisNotFound) -> PolarisJobNotFound:
    """Return the error that says what a 404 may mean."""
    return PolarisJobNotFound(
        f"Polaris has no such job: {error}. Either the id or the project is wrong, or the job is old and its "
        "history was cleaned up (past 5,000 finished batch jobs in a project, those older than 90 days go)",
        status=error.status,
        code=error.code,
    )
