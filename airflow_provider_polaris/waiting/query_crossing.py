"""What crosses a process while a task waits for an asynchronous query: see :mod:`.crossing`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal, get_args

from airflow_provider_polaris.api.errors import PolarisError, error_from_dict
from airflow_provider_polaris.waiting.crossing import (
    Reader,
    _count,
    _dict,
    _flag,
    _moment,
    _number,
    _one_of,
    _optional,
    _Stored,
    _text,
)

#: Why a trigger has fired: the query is over, with or without a result; the deadline has passed; the wait cannot
#: continue.
QueryOutcome = Literal["over", "timeout", "error"]


@dataclass(frozen=True, kw_only=True)
class QueryTriggerArgs(_Stored):
    """A deferred wait for a query, in Airflow's database. It contains no secret, and not the query itself.

    A task that one release deferred continues under the next release. So a new field needs a default.

    :param poll_interval: the longest pause between two polls, in seconds. The first pauses are shorter.
    :param deadline: when the wait ends, in seconds since the epoch.
    :param max_unreachable: the wait ends after an outage of this many seconds.
    :param failing: what failed before this deferral (:meth:`OutageTolerance.to_dict`).
    :param cancel_on_kill: cancel the query when a user clears or marks the waiting task. Airflow 3.3 and later report
        that.
    :param logical_date: of the DAG run, if it has one. The trigger needs it to find out whether the task was cleared.
    """

    query_id: str
    polaris_conn_id: str
    project_id: str | None
    poll_interval: float
    deadline: float
    max_unreachable: float
    failing: dict[str, Any] | None = None
    cancel_on_kill: bool = False
    logical_date: datetime | None = None

    _name: ClassVar[str] = "The stored arguments of the trigger"
    _readers: ClassVar[dict[str, Reader]] = {
        "query_id": _text,
        "polaris_conn_id": _text,
        "project_id": _optional(_text),
        "poll_interval": _number,
        "deadline": _number,
        "max_unreachable": _number,
        "failing": _optional(_dict),
        "cancel_on_kill": _flag,
        "logical_date": _optional(_moment),
    }


@dataclass(frozen=True, kw_only=True)
class QueryEvent(_Stored):
    """The one event of a query's trigger, with which the task continues. The worker requests the query itself.

    :param query_id: ``None`` only if the trigger could not read its arguments.
    :param deadline: when the wait ends, for a task that defers again. ``None`` as above.
    :param state: the state of the query as last seen, ``None`` if it was not reported yet.
    :param error: why the wait cannot continue.
    :param failing: an outage that has not ended (:meth:`OutageTolerance.to_dict`).
    :param trouble: why the last poll failed; ``None`` if it succeeded.
    """

    outcome: QueryOutcome
    query_id: str | None = None
    deadline: float | None = None
    state: str | None = None
    error: PolarisError | None = None
    failing: dict[str, Any] | None = None
    trouble: str | None = None
    polls: int = 0
    failed_polls: int = 0

    _name: ClassVar[str] = "The event of the trigger"
    _readers: ClassVar[dict[str, Reader]] = {
        "outcome": _one_of(*get_args(QueryOutcome)),
        "query_id": _optional(_text),
        "deadline": _optional(_number),
        "state": _optional(_text),
        "error": _optional(error_from_dict),
        "failing": _optional(_dict),
        "trouble": _optional(_text),
        "polls": _count,
        "failed_polls": _count,
    }

    @classmethod
    def from_dict(cls, data: Any) -> QueryEvent:
        """Read the event. Raises PolarisError if a key that its outcome needs is missing or has a wrong type."""
        event = super().from_dict(data)
        needed = ("error",) if event.outcome == "error" else ("query_id", "deadline")
        missing = [repr(name) for name in needed if getattr(event, name) is None]
        if missing:
            raise PolarisError(
                f"{cls._name} cannot be read: its outcome is {event.outcome!r}, and {', '.join(missing)} is missing"
            )
        return event
