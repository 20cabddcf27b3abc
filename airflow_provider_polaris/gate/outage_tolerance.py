"""How long a wait tolerates failed polls. Pure; the same in poke mode and in the trigger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from airflow_provider_polaris.api.errors import (
    PolarisError,
    PolarisJobNotFound,
    PolarisNotFound,
    PolarisQueryNotFound,
    PolarisTransientError,
    PolarisUnauthorized,
)

#: After a successful poll, a wait tolerates 401 for this long, since keys are rotated while jobs run.
KEY_ROTATION_SECONDS = 300.0
#: A 404 counts only if a second poll, at least this much later, returns 404 again.
SECOND_CHECK_SECONDS = 10.0
#: The longest delay of a poll that ``Retry-After`` can request.
MAX_RETRY_AFTER_SECONDS = 30.0
#: An outage before a deferral is forgotten after this time plus three intervals.
STALE_OUTAGE_SECONDS = 60.0


@dataclass
class OutageTolerance:
    """The failed polls of one wait, and when they end the wait.

    :param max_unreachable: the wait ends after an outage of this many seconds. ``None``: never, since a rescheduled
        poke is a new process and does not know when the outage began.
    :param interval: the longest usual seconds between two polls.
    :param worked: whether a poll of this wait has succeeded before. In the first poll a 401 means a wrong key. Later
        the key may be in rotation.
    :param unreachable_since: when the current outage began, in seconds since the epoch.
    :param unauthorized_since: when Polaris first rejected the key.
    :param not_found_since: when Polaris first returned 404.
    """

    #: What the next try does, for the message of an outage that ends the wait.
    after_outage: ClassVar[str] = "When Polaris responds again, clear the task to wait for the same job"

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

    def job_exists(self) -> None:
        """Note that Polaris has the job and accepts the key, though the poll may not have all its responses yet."""
        self.worked = True
        self.not_found_since = None

    def failed(self, error: PolarisError, now: float, usual: float | None = None) -> float | None:
        """Count one more failed poll.

        :param usual: the seconds until the next poll, if they are not the interval.
        :return: after how many seconds to poll again; ``None`` for the usual interval.
        :raises PolarisError: the error with which the wait ends.
        """
        if isinstance(error, PolarisTransientError):
            return self._unreachable(error, now, self.interval if usual is None else usual)
        self.unreachable_since = None  # Polaris did respond
        if isinstance(error, PolarisUnauthorized):
            self._unauthorized(error, now)
            return None
        if isinstance(error, PolarisNotFound):
            return self._not_found(error, now)
        raise error

    def to_dict(self, now: float) -> dict[str, float | None] | None:
        """Return what another process needs to continue with this tolerance; ``None`` if no poll failed."""
        if self.unreachable_since is None and self.unauthorized_since is None:
            return None
        return {
            "at": now,
            "unreachable_since": self.unreachable_since,
            "unauthorized_since": self.unauthorized_since,
        }

    def resume(self, failing: Mapping[str, Any] | None, now: float) -> bool:
        """Continue with the result of :meth:`to_dict`. Return whether a failure continues.

        The arguments of a trigger never change. A trigger that starts again hours later must not continue an old
        outage.
        """
        at = failing.get("at") if failing else None
        if not failing or not isinstance(at, (int, float)) or now - at > STALE_OUTAGE_SECONDS + 3 * self.interval:
            return False
        self.unreachable_since = failing.get("unreachable_since")
        self.unauthorized_since = failing.get("unauthorized_since")
        return True

    def _unreachable(self, error: PolarisTransientError, now: float, usual: float) -> float | None:
        if self.unreachable_since is None:
            self.unreachable_since = now
        lasted = now - self.unreachable_since
        if self.max_unreachable is not None and lasted >= self.max_unreachable:
            raise type(error)(
                f"Polaris was unreachable for {lasted:,.0f} s (max_unreachable {self.max_unreachable:,.0f})\n"
                f"{self.after_outage}\nThe last error:\n{error}",
                status=error.status,
                code=error.code,
            )
        requested = min(error.retry_after or 0.0, MAX_RETRY_AFTER_SECONDS)
        return requested if requested > usual else None

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
        raise self.gone(error)

    def gone(self, error: PolarisNotFound) -> PolarisNotFound:
        """Return the error that explains what two responses with 404 mean."""
        return no_such_job(error)


class QueryTolerance(OutageTolerance):
    """The failed polls of the wait for an asynchronous query, and when they end the wait."""

    after_outage = "From Airflow 3.3 on, a retry continues with the query. Before, a retry runs it again"

    def gone(self, error: PolarisNotFound) -> PolarisQueryNotFound:
        """Return the error that explains what two responses with 404 mean."""
        return PolarisQueryNotFound(
            "Polaris no longer has the query\nIts result was removed, or another project or service responds\n"
            f"A retry, or a clear, runs the query again\n{error}",
            status=error.status,
            code=error.code,
        )


class ListTolerance(OutageTolerance):
    """The failed polls of a wait that polls lists, and when they end the wait."""

    def gone(self, error: PolarisNotFound) -> PolarisNotFound:
        """Return the error that explains what two responses with 404 mean."""
        return no_such_project(error)


def no_such_job(error: PolarisNotFound) -> PolarisJobNotFound:
    """Return the error that explains what a 404 may mean."""
    return PolarisJobNotFound(
        "Polaris has no such job\nThe job id or the project is wrong, or Polaris has removed the job\n"
        f"Of more than 5,000 finished batch jobs, Polaris removes those older than 90 days\n{error}",
        status=error.status,
        code=error.code,
    )


def no_such_project(error: PolarisNotFound) -> PolarisNotFound:
    """Return the error that explains what a 404 to a list means."""
    return type(error)(
        "Polaris has no such project\n"
        f"Check the project id: the extra project_id of the connection, or project_id of the task\n{error}",
        status=error.status,
        code=error.code,
    )
