"""What crosses a process while a task waits: the arguments stored with its trigger, and the event the trigger fires.

Both ends read with ``from_dict``. The other end may run another release of this provider: unknown keys are ignored, and
an error names each key that is missing or has a wrong type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, TypeVar, get_args

from airflow_provider_polaris.api.errors import PolarisError, error_from_dict
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.gate.decision import Condition, UntilOver
from airflow_provider_polaris.gate.load_choice import LoadChoice, utc
from airflow_provider_polaris.gate.options import Gate
from airflow_provider_polaris.waiting.stored import (
    Reader,
    StoredDict,
    count_type,
    dict_type,
    flag_type,
    job_of,
    list_of_texts,
    moment_of,
    number_type,
    numbers_by_text,
    one_of,
    optional_of,
    text_type,
)

Event = TypeVar("Event", bound="EndEvent")

#: What a job's trigger waits for. ``over`` is the condition of a cancellation.
WaitFor = Literal["completed", "running", "over"]
#: Why a trigger has fired: the job, or its table, ends the wait; the deadline has passed; the wait cannot continue.
EventOutcome = Literal["job", "table", "timeout", "error"]


@dataclass(frozen=True, kw_only=True)
class WaitArgs(StoredDict):
    """A deferred wait in Airflow's database. It contains no secret and no threshold.

    A task that one release deferred continues under the next release. So a new field needs a default.

    :param deadline: when the wait ends, in seconds since the epoch. Wall clock: another process may continue the wait.
    :param poll_interval: the longest pause between two polls, in seconds.
    :param max_unreachable: the wait ends after an outage of this many seconds.
    :param failing: what failed before this deferral (:meth:`OutageTolerance.to_dict`). The first poll then waits an
        interval, since the poll before has just failed.
    """

    polaris_conn_id: str
    project_id: str | None
    poll_interval: float
    deadline: float
    max_unreachable: float
    failing: dict[str, Any] | None = None

    _name: ClassVar[str] = "The stored arguments of the trigger"
    _readers: ClassVar[dict[str, Reader]] = {
        "polaris_conn_id": text_type,
        "project_id": optional_of(text_type),
        "poll_interval": number_type,
        "deadline": number_type,
        "max_unreachable": number_type,
        "failing": optional_of(dict_type),
    }

    @property
    def grows(self) -> bool:
        """Whether the pauses grow with the time waited, up to ``poll_interval``."""
        return False


@dataclass(frozen=True, kw_only=True)
class CancelableArgs(WaitArgs):
    """A deferred wait for a job, or a query, that a kill of the task may cancel.

    :param cancel_on_kill: cancel when a user clears or marks the waiting task. Airflow 3.3 and later report that.
    :param logical_date: of the DAG run, if it has one. The trigger needs it to find out whether the task was cleared.
    """

    cancel_on_kill: bool = False
    logical_date: datetime | None = None

    _readers: ClassVar[dict[str, Reader]] = {
        **WaitArgs._readers,
        "cancel_on_kill": flag_type,
        "logical_date": optional_of(moment_of),
    }


@dataclass(frozen=True, kw_only=True)
class TriggerArgs(WaitArgs):
    """A deferred wait for a job, a table or a load.

    Each pause is up to a tenth shorter than ``poll_interval``, at random.

    :param exponential_backoff: double the interval after each poll, up to ``max_wait`` seconds if given.
    :param waiting_since: when the wait began, in seconds since the epoch, if the interval grows with the time waited,
        up to ``poll_interval``.
    """

    exponential_backoff: bool = False
    max_wait: float | None = None
    waiting_since: float | None = None

    _readers: ClassVar[dict[str, Reader]] = {
        **WaitArgs._readers,
        "exponential_backoff": flag_type,
        "max_wait": optional_of(number_type),
        "waiting_since": optional_of(number_type),
    }

    @property
    def grows(self) -> bool:
        """Whether the pauses grow with the time waited, up to ``poll_interval``."""
        return self.waiting_since is not None


@dataclass(frozen=True, kw_only=True)
class OneJobArgs(TriggerArgs):
    """A deferred wait whose job is known.

    :param last_job: the job as the worker last saw it.
    """

    job_id: str
    last_job: Job | None = None

    _readers: ClassVar[dict[str, Reader]] = {
        **TriggerArgs._readers,
        "job_id": text_type,
        "last_job": optional_of(job_of),
    }


@dataclass(frozen=True, kw_only=True)
class JobTriggerArgs(OneJobArgs, CancelableArgs):
    """A deferred wait for a job.

    :param wait_for: the gate's option, or ``over``: any outcome ends the wait.
    :param fail_on_unhealthy: the gate's option.
    :param takes_list: whether the list of jobs that are over may end the wait. The task that has deferred confirms the
        end by id. An earlier release would not, and a task that could not confirm an end does not try again.
    """

    wait_for: WaitFor
    fail_on_unhealthy: bool
    takes_list: bool = False

    _readers: ClassVar[dict[str, Reader]] = {
        **CancelableArgs._readers,
        **OneJobArgs._readers,
        "wait_for": one_of(*get_args(WaitFor)),
        "fail_on_unhealthy": flag_type,
        "takes_list": flag_type,
    }

    @property
    def condition(self) -> Condition:
        """The condition that ends the wait."""
        if self.wait_for == "over":
            return UntilOver()
        return Gate(wait_for=self.wait_for, fail_on_unhealthy=self.fail_on_unhealthy)


@dataclass(frozen=True, kw_only=True)
class TableTriggerArgs(OneJobArgs):
    """A deferred wait for the table of a job that has completed.

    :param table: the name of the table.
    """

    table: str

    _readers: ClassVar[dict[str, Reader]] = {**OneJobArgs._readers, "table": text_type}


@dataclass(frozen=True)
class LoadsSeen(StoredDict):
    """The loads of a table that a gate has refused. The wait for a load continues after them.

    :param after: loads that completed before this moment are judged; ``None`` if no load was refused.
    :param passed_over: the ids of the refused loads that completed after that moment, and when each completed, in
        seconds since the epoch.
    :param refused: the number of loads that were refused.
    :param last_refusal: why the last of them was refused, as a line.
    """

    after: datetime | None = None
    passed_over: dict[str, float] = field(default_factory=dict)
    refused: int = 0
    last_refusal: str | None = None

    _name: ClassVar[str] = "The refused loads"
    _readers: ClassVar[dict[str, Reader]] = {
        "after": optional_of(moment_of),
        "passed_over": numbers_by_text,
        "refused": count_type,
        "last_refusal": optional_of(text_type),
    }


@dataclass(frozen=True, kw_only=True)
class LoadTriggerArgs(TriggerArgs):
    """A deferred wait for a load of a table.

    :param table: the name of the table.
    :param completed_after: a load counts if it completed at this moment or later.
    :param job_types: the types of jobs that count as loads.
    :param read_from: the worker has seen all jobs that were created before this moment of the service's clock; ``None``
        if it does not know such a moment.
    :param running: the ids of the jobs of the table that were not over.
    :param loads: the loads that the worker has refused.
    """

    table: str
    completed_after: datetime
    job_types: list[str]
    read_from: datetime | None = None
    running: list[str] = field(default_factory=list)
    loads: LoadsSeen = field(default_factory=LoadsSeen)

    _readers: ClassVar[dict[str, Reader]] = {
        **TriggerArgs._readers,
        "table": text_type,
        "completed_after": moment_of,
        "job_types": list_of_texts,
        "read_from": optional_of(moment_of),
        "running": list_of_texts,
        "loads": LoadsSeen.from_dict,
    }

    @property
    def since(self) -> str:
        """The moment after which a load counts, for a person."""
        return utc(self.completed_after)

    @property
    def choice(self) -> LoadChoice:
        """The loads for which the trigger waits."""
        passed_over = frozenset(self.loads.passed_over)
        after = self.loads.after or self.completed_after
        return LoadChoice(self.table, after, frozenset(self.job_types), passed_over)


@dataclass(frozen=True)
class TableSeen(StoredDict):
    """The state of a job's table at the trigger's last poll.

    :param state: the last known availability; ``None`` if Polaris did not report it.
    :param seen: the state as a clause for messages; empty before the first response.
    """

    name: str
    state: str | None
    seen: str

    _name: ClassVar[str] = "The event's 'table'"
    _readers: ClassVar[dict[str, Reader]] = {"name": text_type, "state": optional_of(text_type), "seen": text_type}


@dataclass(frozen=True, kw_only=True)
class EndEvent(StoredDict):
    """The one event of a trigger, with which the task continues.

    :param outcome: why the trigger has fired.
    :param deadline: when the wait ends, for a task that defers again; ``None`` only if the trigger could not read its
        arguments.
    :param error: why the wait cannot continue.
    :param failing: an outage that has not ended (:meth:`OutageTolerance.to_dict`).
    :param trouble: why the last poll failed; ``None`` if the last poll succeeded.
    :param outages: the periods in which every poll failed, without one that began before the deferral.
    """

    outcome: Any
    deadline: float | None = None
    error: PolarisError | None = None
    failing: dict[str, Any] | None = None
    trouble: str | None = None
    polls: int = 0
    failed_polls: int = 0
    outages: int = 0

    _name: ClassVar[str] = "The event of the trigger"
    _readers: ClassVar[dict[str, Reader]] = {
        "deadline": optional_of(number_type),
        "error": optional_of(error_from_dict),
        "failing": optional_of(dict_type),
        "trouble": optional_of(text_type),
        "polls": count_type,
        "failed_polls": count_type,
        "outages": count_type,
    }
    #: The keys without which a task cannot continue, by the outcome.
    _required: ClassVar[dict[str, tuple[str, ...]]]

    @classmethod
    def from_dict(cls: type[Event], data: Any) -> Event:
        """Read the event. Raises PolarisError if a key that its outcome needs is missing or has a wrong type."""
        event = super().from_dict(data)
        if missing := ", ".join(map(repr, event.missing())):
            raise PolarisError(
                f"{cls._name} cannot be read: its outcome is {event.outcome!r}, and {missing} is missing"
            )
        return event

    def missing(self) -> list[str]:
        """Return the keys that the outcome needs, and the event does not have."""
        return [name for name in self._required[self.outcome] if getattr(self, name) is None]


@dataclass(frozen=True, kw_only=True)
class WaitEvent(EndEvent):
    """The event of a trigger that waits for a job, a table or a load.

    :param job: the job as last seen. If ``is_listed``, the job before its end, if that was known.
    :param is_listed: whether only a list has shown that the job is over. The worker confirms that by id.
    :param loads: the loads that the gate had refused before, if the wait is for a load.
    """

    outcome: EventOutcome
    job: Job | None = None
    is_listed: bool = False
    table: TableSeen | None = None
    loads: LoadsSeen | None = None

    _readers: ClassVar[dict[str, Reader]] = {
        **EndEvent._readers,
        "outcome": one_of(*get_args(EventOutcome)),
        "job": optional_of(job_of),
        "is_listed": flag_type,
        "table": optional_of(TableSeen.from_dict),
        "loads": optional_of(LoadsSeen.from_dict),
    }
    _required: ClassVar[dict[str, tuple[str, ...]]] = {
        "job": ("deadline", "job"),
        "table": ("deadline", "job", "table"),
        "timeout": ("deadline",),
        "error": ("error",),
    }

    def missing(self) -> list[str]:
        """Return the keys that the outcome needs, and the event does not have."""
        is_stateless = self.outcome == "table" and self.table is not None and self.table.state is None
        return [*super().missing(), *(["table.state"] if is_stateless else [])]
