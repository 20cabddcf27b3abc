"""What crosses a process while a task waits for an asynchronous query: see :mod:`.crossing`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal, get_args

from airflow_provider_polaris.api.errors import PolarisError, error_from_dict
from airflow_provider_polaris.waiting.stored import (
    Reader,
    StoredDict,
    count_type,
    dict_type,
    flag_type,
    moment_of,
    number_type,
    one_of,
    optional_of,
    text_type,
)

#: Why a trigger has fired: the query is over, with or without a result; the deadline has passed; the wait cannot
#: continue.
QueryOutcome = Literal["over", "timeout", "error"]


@dataclass(frozen=True, kw_only=True)
class QueryTriggerArgs(StoredDict):
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
        "query_id": text_type,
        "polaris_conn_id": text_type,
        "project_id": optional_of(text_type),
        "poll_interval": number_type,
        "deadline": number_type,
        "max_unreachable": number_type,
        "failing": optional_of(dict_type),
        "cancel_on_kill": flag_type,
        "logical_date": optional_of(moment_of),
    }


@dataclass(frozen=True, kw_only=True)
class QueryEvent(StoredDict):
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
        "outcome": one_of(*get_args(QueryOutcome)),
        "query_id": optional_of(text_type),
        "deadline": optional_of(number_type),
        "state": optional_of(text_type),
        "error": optional_of(error_from_dict),
        "failing": optional_of(dict_type),
        "trouble": optional_of(text_type),
        "polls": count_type,
        "failed_polls": count_type,
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
