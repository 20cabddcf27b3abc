"""What crosses a process while a task waits: the arguments stored with its trigger, and the event the trigger fires.

Both ends read with ``from_dict``. The other end may run another release of this provider: unknown keys are ignored, and
an error names each key that is missing or has a wrong type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar, Literal, TypeVar, get_args

from airflow_provider_polaris.api.errors import PolarisError, error_from_dict, error_to_dict
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.api.parsing import clip
from airflow_provider_polaris.gate.decision import Condition, UntilOver
from airflow_provider_polaris.gate.load_choice import LoadChoice, utc
from airflow_provider_polaris.gate.options import Gate

#: What a job's trigger waits for. ``over`` is the condition of a cancellation.
WaitFor = Literal["completed", "running", "over"]
#: Why a trigger has fired: the job, or its table, ends the wait; the deadline has passed; the wait cannot continue.
EventOutcome = Literal["job", "table", "timeout", "error"]

Reader = Callable[[Any], Any]
Stored = TypeVar("Stored", bound="_Stored")


class _WrongType(Exception):
    """A value has not the type that its key requires. The message names the required type."""


def _instance_of(kind: type | tuple[type, ...], expected: str) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _WrongType(expected)
        return value

    return read


def _one_of(*values: str) -> Reader:
    def read(value: Any) -> Any:
        if value not in values:
            raise _WrongType(f"one of {', '.join(values)}")
        return value

    return read


def _optional(read: Reader) -> Reader:
    return lambda value: None if value is None else read(value)


def _job(value: Any) -> Job:
    try:
        return Job.from_api(value)
    except PolarisError:
        raise _WrongType("a job") from None


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _WrongType("a list of texts")
    return value


def _moments(value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or not all(isinstance(moment, (int, float)) for moment in value.values()):
        raise _WrongType("an object of numbers")
    return value


def _moment(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _WrongType("a date and time in ISO 8601") from None


_text = _instance_of(str, "text")
_number = _instance_of((int, float), "a number")
_count = _instance_of(int, "a whole number")
_flag = _instance_of(bool, "true or false")
_dict = _instance_of(dict, "an object")


def _plain(value: Any) -> Any:
    """Return the value as plain JSON types."""
    if isinstance(value, Job):
        return value.to_event()
    if isinstance(value, PolarisError):
        return error_to_dict(value)
    if isinstance(value, (TableSeen, LoadsSeen)):
        return value.to_dict()
    return value.isoformat() if isinstance(value, datetime) else value


class _Stored:
    """A dataclass that is stored as a dict of plain JSON types."""

    #: What the dict is, as the subject of an error message.
    _name: ClassVar[str]
    #: How the value of each key is read.
    _readers: ClassVar[dict[str, Reader]]

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form."""
        return {known.name: _plain(getattr(self, known.name)) for known in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls: type[Stored], data: Any) -> Stored:
        """Read the stored form. Raises PolarisError if a key is missing or has a value of a wrong type."""
        if not isinstance(data, Mapping):
            raise PolarisError(f"{cls._name} must be an object, not {clip(repr(data), 100)}")
        values: dict[str, Any] = {}
        faults = []
        for known in fields(cls):  # type: ignore[arg-type]
            if known.name not in data:
                if known.default is MISSING and known.default_factory is MISSING:
                    faults.append(f"{known.name!r} is missing")
                continue
            value = data[known.name]
            try:
                values[known.name] = cls._readers[known.name](value)
            except _WrongType as error:
                faults.append(f"{known.name!r} must be {error}, not {clip(repr(value), 100)}")
        if faults:
            raise PolarisError(f"{cls._name} cannot be read: {'; '.join(faults)}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class TriggerArgs(_Stored):
    """A deferred wait in Airflow's database. It contains no secret and no threshold.

    A task that one release deferred continues under the next release. So a new field needs a default.

    :param deadline: when the wait ends, in seconds since the epoch. Wall clock: another process may continue the wait.
    :param poll_interval: the longest pause between two polls, in seconds. Each pause is up to a tenth shorter, at
        random.
    :param max_unreachable: the wait ends after an outage of this many seconds.
    :param exponential_backoff: double the interval after each poll, up to ``max_wait`` seconds if given.
    :param failing: what failed before this deferral (:meth:`OutageTolerance.to_dict`). The first poll then waits an
        interval, since the poll before has just failed.
    """

    polaris_conn_id: str
    project_id: str | None
    poll_interval: float
    deadline: float
    max_unreachable: float
    exponential_backoff: bool = False
    max_wait: float | None = None
    failing: dict[str, Any] | None = None

    _name: ClassVar[str] = "The stored arguments of the trigger"
    _readers: ClassVar[dict[str, Reader]] = {
        "polaris_conn_id": _text,
        "project_id": _optional(_text),
        "poll_interval": _number,
        "deadline": _number,
        "max_unreachable": _number,
        "exponential_backoff": _flag,
        "max_wait": _optional(_number),
        "failing": _optional(_dict),
    }


@dataclass(frozen=True, kw_only=True)
class OneJobArgs(TriggerArgs):
    """A deferred wait whose job is known.

    :param last_job: the job as the worker last saw it.
    """

    job_id: str
    last_job: Job | None = None

    _readers: ClassVar[dict[str, Reader]] = {**TriggerArgs._readers, "job_id": _text, "last_job": _optional(_job)}


@dataclass(frozen=True, kw_only=True)
class JobTriggerArgs(OneJobArgs):
    """A deferred wait for a job.

    :param wait_for: the gate's option, or ``over``: any outcome ends the wait.
    :param fail_on_unhealthy: the gate's option.
    :param cancel_on_kill: cancel the job when a user clears or marks the waiting task. Airflow 3.3 and later report
        that.
    :param logical_date: of the DAG run, if it has one. The trigger needs it to find out whether the task was cleared.
    """

    wait_for: WaitFor
    fail_on_unhealthy: bool
    cancel_on_kill: bool = False
    logical_date: datetime | None = None

    _readers: ClassVar[dict[str, Reader]] = {
        **OneJobArgs._readers,
        "wait_for": _one_of(*get_args(WaitFor)),
        "fail_on_unhealthy": _flag,
        "cancel_on_kill": _flag,
        "logical_date": _optional(_moment),
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

    _readers: ClassVar[dict[str, Reader]] = {**OneJobArgs._readers, "table": _text}


@dataclass(frozen=True)
class LoadsSeen(_Stored):
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
        "after": _optional(_moment),
        "passed_over": _moments,
        "refused": _count,
        "last_refusal": _optional(_text),
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
        "table": _text,
        "completed_after": _moment,
        "job_types": _texts,
        "read_from": _optional(_moment),
        "running": _texts,
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
class TableSeen(_Stored):
    """The state of a job's table at the trigger's last poll.

    :param state: the last known availability; ``None`` if Polaris did not report it.
    :param seen: the state as a clause for messages; empty before the first response.
    """

    name: str
    state: str | None
    seen: str

    _name: ClassVar[str] = "The event's 'table'"
    _readers: ClassVar[dict[str, Reader]] = {"name": _text, "state": _optional(_text), "seen": _text}


@dataclass(frozen=True, kw_only=True)
class WaitEvent(_Stored):
    """The one event of a trigger, with which the task continues.

    :param deadline: when the wait ends, for a task that defers again; ``None`` only if the trigger could not read its
        arguments.
    :param job: the job as last seen.
    :param loads: the loads that the gate had refused before, if the wait is for a load.
    :param error: why the wait cannot continue.
    :param failing: an outage that has not ended (:meth:`OutageTolerance.to_dict`).
    :param trouble: why the last poll failed; ``None`` if the last poll succeeded.
    """

    outcome: EventOutcome
    deadline: float | None = None
    job: Job | None = None
    table: TableSeen | None = None
    loads: LoadsSeen | None = None
    error: PolarisError | None = None
    failing: dict[str, Any] | None = None
    trouble: str | None = None
    polls: int = 0
    failed_polls: int = 0

    _name: ClassVar[str] = "The event of the trigger"
    _readers: ClassVar[dict[str, Reader]] = {
        "outcome": _one_of(*get_args(EventOutcome)),
        "deadline": _optional(_number),
        "job": _optional(_job),
        "table": _optional(TableSeen.from_dict),
        "loads": _optional(LoadsSeen.from_dict),
        "error": _optional(error_from_dict),
        "failing": _optional(_dict),
        "trouble": _optional(_text),
        "polls": _count,
        "failed_polls": _count,
    }
    #: The keys without which a task cannot continue.
    _required: ClassVar[dict[str, tuple[str, ...]]] = {
        "job": ("deadline", "job"),
        "table": ("deadline", "job", "table"),
        "timeout": ("deadline",),
        "error": ("error",),
    }

    @classmethod
    def from_dict(cls, data: Any) -> WaitEvent:
        """Read the event. Raises PolarisError if a key that its outcome needs is missing or has a wrong type."""
        event = super().from_dict(data)
        missing = [repr(name) for name in cls._required[event.outcome] if getattr(event, name) is None]
        if event.table and event.outcome == "table" and event.table.state is None:
            missing.append("'table.state'")
        if missing:
            raise PolarisError(
                f"{cls._name} cannot be read: its outcome is {event.outcome!r}, and {', '.join(missing)} is missing"
            )
        return event
