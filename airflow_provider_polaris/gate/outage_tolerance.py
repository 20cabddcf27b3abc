"""How long a wait tolerates failed polls. Pure; the same in poke mode and in the trigger."""

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

#: How long a wait that has worked before tolerates a 401, in seconds: keys are rotated while jobs run.
KEY_ROTATION_SECONDS = 300.0
#: A 404 counts only if a second poll, at least so many seconds later, returns it too.
SECOND_CHECK_SECONDS = 10.0
#: The longest delay of a poll that ``Retry-After`` can ask for, in seconds.
MAX_RETRY_AFTER_SECONDS = 30.0
#: An outage before a deferral is forgotten after so many seconds and three intervals.
STALE_OUTAGE_SECONDS = 60.0


@dataclass
class OutageTolerance:
    """The failed polls of one wait, and when they end the wait.

    :param max_unreachable: the wait ends after an outage of so many seconds. ``None``: never, since a rescheduled poke
        is a new process and does not know when the outage began.
    :param interval: the usual seconds between two polls.
    :param worked: whether a poll of this wait has succeeded before. In the first poll a 401 is a wrong key, later it
        may be a rotation.
    :param unreachable_since: when the current outage began, in seconds since the epoch.
    :param unauthorized_since: when Polaris first rejected the key.
    :param not_found_since: when Polaris first reported that there is no such job.
    """

    max_unreachable: float | None
    interval: float = 0.0
    worked: bool = False
    unreachable_since: float | None = None
    unauthorized_since: float | None = None
    not_found_since: float | None = None

    def succeeded(self) -> None:
        """Forget the failures: a poll has succeeded."""
        self.worked = True
        self.unreachable_since = self.unauthorized_since = self.not_found_since = None

    def failed(self, error: PolarisError, now: float) -> float | None:
        """Count one more failed poll.

        :return: after how many seconds to poll again; ``None`` for the usual interval.
        :raises PolarisError: the error with which the wait ends.
        """
        if isinstance(error, PolarisTransientError):
            return self._unreachable(error, now)
        self.unreachable_since = None  # Polaris did respond
        if isinstance(error, PolarisUnauthorized):
            self._unauthorized(error, now)
            return None
        if isinstance(error, PolarisNotFound):
            return self._not_found(error, now)
        raise error

    def to_dict(self, now: float) -> dict[str, float | None] | None:
        """Return what another process needs to continue with this tolerance; ``None`` if nothing failed."""
        if self.unreachable_since is None and self.unauthorized_since is None:
            return None
        return {
            "at": now,
            "unreachable_since": self.unreachable_since,
            "unauthorized_since": self.unauthorized_since,
        }

    def resume(self, failing: Mapping[str, Any] | None, now: float) -> bool:
        """Continue with what :meth:`to_dict` returned. Return whether there was a failure to continue with.

        The arguments of a trigger never change. A trigger that starts again hours later must not take an old outage
        for one that has not ended.
        """
        at = failing.get("at") if failing else None
        if not failing or not isinstance(at, (int, float)) or now - at > STALE_OUTAGE_SECONDS + 3 * self.interval:
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
        asked = min(error.retry_after or 0.0, MAX_RETRY_AFTER_SECONDS)
        return asked if asked > self.interval else None

    def _unauthorized(self, error: PolarisUnauthorized, now: float) -> None:
        if not self.worked or self.max_unreachable is None:
            raise error
        if self.unauthorized_since is None:
            self.unauthorized_since = now
        if now - self.unauthorized_since >= KEY_ROTATION_SECONDS:
            raise error

    def _not_found(self, error: PolarisNotFound, now: float) -> float:
        if self.not_found_since is None:
            self.not_found_since = now
        left = self.not_found_since + SECOND_CHECK_SECONDS - now
        if left > 0:
            return left
        raise no_such_job(error)


def no_such_job(error: PolarisNotFound) -> PolarisJobNotFound:
    """Return the error that explains what a 404 may mean."""
    return PolarisJobNotFound(
        f"Polaris has no such job: {error}. Either the id or the project is wrong, or the job is old and its "
        "history was cleaned up (if a project has more than 5,000 finished batch jobs, those older than 90 days go)",
        status=error.status,
        code=error.code,
    )
