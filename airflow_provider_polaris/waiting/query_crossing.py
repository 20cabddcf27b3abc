"""What crosses a process while a task waits for an asynchronous query: see :mod:`.crossing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from airflow_provider_polaris.waiting.crossing import CancelableArgs, EndEvent
from airflow_provider_polaris.waiting.stored import Reader, one_of, optional_of, text_type

#: Why a trigger has fired: the query is over, with or without a result; the deadline has passed; the wait cannot
#: continue.
QueryOutcome = Literal["over", "timeout", "error"]


@dataclass(frozen=True, kw_only=True)
class QueryTriggerArgs(CancelableArgs):
    """A deferred wait for a query. It does not contain the query itself. The first pauses are shorter."""

    query_id: str

    _readers: ClassVar[dict[str, Reader]] = {**CancelableArgs._readers, "query_id": text_type}


@dataclass(frozen=True, kw_only=True)
class QueryEvent(EndEvent):
    """The event of a query's trigger. The worker requests the query itself.

    :param query_id: ``None`` only if the trigger could not read its arguments.
    :param state: the state of the query as last seen, ``None`` if it was not reported yet.
    """

    outcome: QueryOutcome
    query_id: str | None = None
    state: str | None = None

    _readers: ClassVar[dict[str, Reader]] = {
        **EndEvent._readers,
        "outcome": one_of(*get_args(QueryOutcome)),
        "query_id": optional_of(text_type),
        "state": optional_of(text_type),
    }
    _required: ClassVar[dict[str, tuple[str, ...]]] = {
        "over": ("query_id", "deadline"),
        "timeout": ("query_id", "deadline"),
        "error": ("error",),
    }
