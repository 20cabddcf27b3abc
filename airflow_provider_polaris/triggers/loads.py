"""PolarisLoadsTrigger: an event for each good load of a table, for an asset that starts DAGs. Airflow 3 only."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar

from airflow.triggers.base import TriggerEvent

try:
    from airflow.triggers.base import BaseEventTrigger
except ImportError:  # Airflow 2.11
    raise ImportError(
        "PolarisLoadsTrigger needs Airflow 3, which has event-driven schedules. On Airflow 2.11, use PolarisTableSensor"
    ) from None

from asgiref.sync import sync_to_async

from airflow_provider_polaris import clock, configuration
from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.errors import PolarisApiError, PolarisError, PolarisJobNotFound, PolarisUsageError
from airflow_provider_polaris.api.models import Job, check_table_name
from airflow_provider_polaris.gate.decision import Verdict
from airflow_provider_polaris.gate.load_choice import (
    LONGEST_LOAD_SECONDS,
    LoadChoice,
    read_job_types,
    read_moment,
    utc,
)
from airflow_provider_polaris.gate.options import Gate
from airflow_provider_polaris.gate.outage_tolerance import OutageTolerance
from airflow_provider_polaris.polling.loads_plan import LoadsWait
from airflow_provider_polaris.polling.polled_wait import Pace
from airflow_provider_polaris.polling.shared_client import SharedClient, shared_client
from airflow_provider_polaris.waiting.job_wait import JobWait, Outcome
from airflow_provider_polaris.waiting.progress_log import PollLog
from airflow_provider_polaris.waiting.stored import (
    Reader,
    StoredDict,
    list_of_ids,
    moment_of,
    number_type,
    numbers_by_text,
)

#: How the key of the state in the store of the asset begins. The key of a trigger never changes, so that a new release
#: continues with the state.
KEY = "polaris_loads"
#: Without a state, loads that completed this long before the first start by Airflow's clock are not listed. Later
#: readings show which loads are new, so that the clocks of Airflow and Polaris need not agree.
CLOCK_DIFFERENCE = timedelta(days=1)
#: How often a load is judged whose counters or log may come late.
JUDGEMENTS = 3
#: The state is also stored after so many seconds without a load, so that the next start reads less.
STORE_SECONDS = 900.0
#: The shortest time from an event to the storage of the state, in seconds. The process with the triggers hands its
#: events to the main loop of the triggerer once per second.
EVENT_SECONDS = 3.0
#: The pause after a fault, in seconds.
FAULT_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class LoadsState(StoredDict):
    """How far a trigger has read the loads of its table.

    :param completed_after: a load counts if it completed at this moment or later.
    :param read_from: jobs that were created before this moment are known, in seconds since the epoch.
    :param running: ids of the known loads that were not over, or not judged.
    :param delivered: the known loads that a reading may repeat, and when each was created, in seconds since the epoch.
    """

    completed_after: datetime
    read_from: float
    running: list[str] = field(default_factory=list)
    delivered: dict[str, float] = field(default_factory=dict)

    _name: ClassVar[str] = "The state of the trigger"
    _readers: ClassVar[dict[str, Reader]] = {
        "completed_after": moment_of,
        "read_from": number_type,
        "running": list_of_ids,
        "delivered": numbers_by_text,
    }


class PolarisLoadsTrigger(BaseEventTrigger):
    """Fire an event for each load of a table that passes the gate, whoever started the load.

    Use it with Airflow's ``AssetWatcher``. The payload of the event is the dict that the tasks put into XCom. A load
    that the gate refuses is logged, and fires no event. The triggers of one connection share each request for a list,
    whatever their tables.

    From Airflow 3.3 on, the trigger keeps its state in the store of its asset: each load fires an event at least once.
    After a triggerer was lost, events of the last interval may come twice, with the same ``job_id``. A consumer that
    was paused catches up. Before Airflow 3.3, there is no store: the trigger starts with the loads that complete from
    then on, and loads during a restart of the triggerer fire no event.

    The trigger never raises. It logs each cause of an outage once, and then every 15 minutes.

    :param table: the name of the table.
    :param polaris_conn_id: a connection of type ``imply_polaris``.
    :param project_id: overrides the project of the connection.
    :param since: at the first start, also fire events for loads that completed at this moment or later: text in ISO
        8601. By default, only loads that complete after the first start count.
    :param job_types: the types of jobs that count as loads.
    :param fail_on_warnings: refuse a load with one of these warning codes. ``True``: with any; ``()``: never.
    :param min_rows_processed: refuse a load with fewer processed rows, with and without warnings.
    :param max_rows_skipped_by_error: refuse a load with more skipped rows.
    :param max_rows_with_warning: refuse a load with more rows that were ingested in part.
    :param max_error_ratio: refuse a load with a larger share of skipped rows, from 0 to 1.
    :param poll_interval: the longest time between two polls, in seconds. The default is ``[polaris] poll_interval``.
    :raises PolarisUsageError: if an argument is invalid.
    """

    #: Airflow's database holds this path while a DAG waits for the asset. The path stays the same if the class moves.
    class_path = "airflow_provider_polaris.triggers.loads.PolarisLoadsTrigger"

    def __init__(
        self,
        table: str,
        *,
        polaris_conn_id: str = "polaris_default",
        project_id: str | None = None,
        since: str | datetime | None = None,
        job_types: str | Iterable[str] = ("batch", "sql"),
        fail_on_warnings: bool | Iterable[str] = ("no_rows_found", "unable_to_proceed"),
        min_rows_processed: int | None = None,
        max_rows_skipped_by_error: int | None = None,
        max_rows_with_warning: int | None = None,
        max_error_ratio: float | None = None,
        poll_interval: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        check_table_name(table)
        warnings = fail_on_warnings if isinstance(fail_on_warnings, (bool, str)) else sorted(fail_on_warnings)
        thresholds = {
            "min_rows_processed": min_rows_processed,
            "max_rows_skipped_by_error": max_rows_skipped_by_error,
            "max_rows_with_warning": max_rows_with_warning,
            "max_error_ratio": max_error_ratio,
        }
        self._gate = Gate.from_options(
            wait_for="completed", fail_on_warnings=warnings, fail_on_unhealthy=False, **thresholds
        )
        interval = configuration.watch_interval() if poll_interval is None else poll_interval
        if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 0 < interval < math.inf:
            raise PolarisUsageError(f"poll_interval must be more than 0 seconds; it is {interval!r}"[:200])
        self._since = None if since is None else read_moment("since", since)
        self._job_types = read_job_types(job_types)
        self._stored = {
            "table": table,
            "polaris_conn_id": polaris_conn_id,
            "project_id": project_id,
            "since": self._since and self._since.isoformat(),
            "job_types": sorted(self._job_types),
            "fail_on_warnings": warnings,
            **thresholds,
            "poll_interval": interval,
        }
        # An asset may have triggers for several tables. A changed gate or interval continues with the state.
        reads = json.dumps([polaris_conn_id, project_id, table, self._stored["job_types"]])
        self._key = f"{KEY}_{hashlib.sha256(reads.encode()).hexdigest()[:16]}"
        #: The state after the last poll, or of the first start, for a run that continues after a fault.
        self._last: LoadsState | None = None
        self.table = table
        self.polaris_conn_id = polaris_conn_id
        self.project_id = project_id
        self.poll_interval = interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to make this trigger again."""
        return self.class_path, dict(self._stored)

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Yield an event for each good load, without an end.

        Airflow makes a trigger again at once if it raises or returns, without a pause.
        """
        log = _WatchLog(f"Table {self.table!r}", self.log)
        while True:
            try:
                async with aclosing(self._watch(log)) as events:
                    async for event in events:
                        yield event
            except PolarisError as error:
                log.failed(error if isinstance(error, PolarisApiError) else PolarisApiError(str(error)))
            except Exception as error:
                if log.is_new_fault(error):
                    self.log.exception("The trigger continues after an error. %s", log.about)
            await clock.sleep_async(FAULT_PAUSE_SECONDS)

    async def _watch(self, log: _WatchLog) -> AsyncGenerator[TriggerEvent, None]:
        state = self._last or await self._load_state(log)
        is_first_start = state is None and self._since is None
        began = await self._begin(log) if is_first_start else 0.0
        after = state.completed_after if state else self._since or _now() - CLOCK_DIFFERENCE
        choice = LoadChoice(self.table, after, self._job_types)
        wait = LoadsWait(
            choice,
            Pace(self.poll_interval),
            math.inf,
            read_from=state.read_from if state else None,
            running=state.running if state else (),
            delivered=state.delivered if state else None,
            notify_always=True,
            now=clock.monotonic(),
        )
        watch = _Watch(after, wait, must_store=self._last is not None and not is_first_start)
        async with shared_client(self.polaris_conn_id, self.project_id) as client:
            with client.loads_poller.start(wait) as poll:
                while True:
                    answer, _, _ = await poll.next()
                    if isinstance(answer, PolarisApiError):
                        log.failed(answer)
                        continue
                    log.list_polled()
                    # At the next poll, and not right after an event: Airflow has stored the events before by now.
                    if watch.must_store:
                        await clock.sleep_async(watch.seconds_to_store)
                        if await self._store_state(watch.snapshot, log):
                            watch.stored()
                    # An outage may have put off the first reading. By Airflow's clock, loads since the start are new.
                    watch.add(job for job in answer or () if not is_first_start or (job.completed_time or 0.0) >= began)
                    has_events, has_fired, is_first_start = is_first_start, False, False
                    for job in watch.to_judge():
                        outcome, trouble = await self._judge(client, job)
                        if not watch.judged(job, outcome, trouble):
                            log.not_judged(job, trouble)
                        elif outcome and outcome.passed:
                            has_events = has_fired = True
                            yield TriggerEvent(outcome.result)
                        else:
                            has_events = True
                            log.refused(job, outcome)
                    if has_fired:
                        await self._wait_for_triggerer()
                        watch.fired()
                    self._last = watch.end_poll(has_events=has_events)

    async def _begin(self, log: _WatchLog) -> float:
        """Note the first start, also for a restart before the first poll. Return it, in seconds since the epoch."""
        now = _now()
        self._last = LoadsState(completed_after=now, read_from=now.timestamp() - LONGEST_LOAD_SECONDS)
        await self._store_state(self._last, log)
        return now.timestamp()

    async def _wait_for_triggerer(self) -> None:
        """Wait until the main loop of the triggerer responds. Events before that are stored soon, if it continues.

        While the main loop hangs, the events wait in this process. A request for the state would overtake them.
        """
        store = getattr(self, "asset_state_store", None)
        if store is not None:
            with suppress(Exception):  # an error is a response as well
                await sync_to_async(store.get)(self._key)

    async def _judge(self, client: SharedClient, job: Job) -> tuple[Outcome | None, str | None]:
        """Return what the gate decides on a load. Without an outcome, return why; ``None`` if the job is gone."""

        def judge(polaris: PolarisClient) -> tuple[Outcome | None, str | None]:
            tolerance = OutageTolerance(None, self.poll_interval, worked=True)
            job_wait = JobWait(polaris, job.id, self._gate, tolerance, self.poll_interval, _Quiet(), settle_seconds=0.0)
            return job_wait.poll(), job_wait.progress.trouble

        try:
            return await client.call(judge)
        except PolarisJobNotFound:
            return None, None
        except PolarisApiError as error:
            return None, str(error)

    async def _load_state(self, log: _WatchLog) -> LoadsState | None:
        """Return the state of an earlier trigger; ``None`` if there is none."""
        store = getattr(self, "asset_state_store", None)
        if store is None:
            log.without_store("This version of Airflow has no store for the state of an asset", self._since)
            return None
        try:
            stored = await sync_to_async(store.get)(self._key)
        except ValueError as error:
            if type(error) is not ValueError:  # a value that cannot be decoded now
                raise
            # Several assets have a watcher with these arguments.
            log.without_store(str(error), self._since)
            self.asset_state_store = None
            return None
        try:
            return None if stored is None else LoadsState.from_dict(stored)
        except PolarisError as error:  # another release may have stored it
            log.without_store(str(error), self._since)
            return None

    async def _store_state(self, state: LoadsState, log: _WatchLog) -> bool:
        """Store the state. Return whether that succeeded: the next poll tries again otherwise."""
        store = getattr(self, "asset_state_store", None)
        if store is not None:
            try:
                await sync_to_async(store.set)(self._key, state.to_dict())
            except Exception as error:  # noqa: BLE001 - without the state, the next start only repeats events
                if log.is_new_fault(error):
                    self.log.warning("The state could not be stored: %s. %s", error, log.about)
                return False
        return True


class _Watch:
    """What one run of the trigger knows: loads that are not judged yet, and the state that is stored next.

    :param must_store: whether the run before had a fault, and perhaps did not store its last state.
    """

    def __init__(self, completed_after: datetime, wait: LoadsWait, *, must_store: bool) -> None:
        self._completed_after = completed_after
        self._wait = wait
        #: The loads that are not judged, and how often that was tried.
        self._pending: dict[str, tuple[Job, int]] = {}
        self._stored_at = clock.monotonic()
        self._fired_at = -math.inf
        self._has_events = must_store
        #: The state after the last poll.
        self.snapshot = self._state()

    @property
    def must_store(self) -> bool:
        """Whether the state after the last poll is to be stored."""
        return self._has_events or clock.monotonic() - self._stored_at >= STORE_SECONDS

    @property
    def seconds_to_store(self) -> float:
        """How long to wait until Airflow has stored the last event."""
        return max(0.0, self._fired_at + EVENT_SECONDS - clock.monotonic())

    def fired(self) -> None:
        """Record that the last event of a poll was fired, and that the triggerer responds."""
        self._fired_at = clock.monotonic()

    def add(self, jobs: Iterable[Job]) -> None:
        """Add loads of a poll."""
        self._pending |= {job.id: (job, 0) for job in jobs}

    def to_judge(self) -> list[Job]:
        """Return the loads that are not judged yet, the one that completed first at the beginning."""
        return sorted((job for job, _ in self._pending.values()), key=lambda job: job.completed_time or 0.0)

    def judged(self, job: Job, outcome: Outcome | None, trouble: str | None) -> bool:
        """Record what the gate decides on a load. Return whether that is final.

        :param trouble: why there is no outcome; ``None`` if the job is gone.
        """
        _, times = self._pending.pop(job.id)
        if outcome is None:
            is_final = trouble is None
        else:
            is_final = outcome.decision.verdict is not Verdict.UNDECIDED or times + 1 >= JUDGEMENTS
        if not is_final:
            # An outage is no judgement.
            self._pending[job.id] = (job, times + (outcome is not None))
        return is_final

    def end_poll(self, *, has_events: bool) -> LoadsState:
        """Keep the state after a poll, until the next poll stores it. Return the state."""
        self._has_events = self._has_events or has_events
        self.snapshot = self._state()
        return self.snapshot

    def stored(self) -> None:
        """Record that the state was stored."""
        self._has_events = False
        self._stored_at = clock.monotonic()

    def _state(self) -> LoadsState:
        wait, pending = self._wait, self._pending
        return LoadsState(
            completed_after=self._completed_after,
            read_from=wait.read_from,
            running=sorted({*wait.running, *pending}),
            delivered={job_id: at for job_id, at in wait.delivered.items() if job_id not in pending},
        )


class _Quiet:
    """A log for a wait whose lines this trigger writes itself."""

    def log(self, level: int, event: Any, /, *args: Any) -> None:
        """Write nothing."""

    def info(self, event: Any, /, *args: Any) -> None:
        """Write nothing."""

    def warning(self, event: Any, /, *args: Any) -> None:
        """Write nothing."""


class _WatchLog(PollLog):
    """Logs refused loads, and each kind of trouble once and then every 15 minutes."""

    _is_without_store = False

    def failed(self, error: PolarisApiError) -> None:
        """Record a failed poll."""
        self.failed_polls += 1
        self.trouble = str(error)
        # Each kind for itself: the causes of one outage may alternate.
        if self._is_due(f"trouble {type(error).__name__} {error.status}", ""):
            self.log.warning("The trigger continues after a failed poll. %s. %s", self.trouble.rstrip("."), self.about)

    def list_polled(self) -> None:
        """Record a poll that succeeded."""
        self.add_silent_polls(1)
        if self.recovered():
            self._logged = {subject: at for subject, at in self._logged.items() if not subject.startswith("trouble ")}
            self.log.info("Polaris responds again. %s", self.about)

    def refused(self, job: Job, outcome: Outcome | None) -> None:
        """Log a load that fires no event."""
        if outcome:
            self.log.warning("%s", outcome.line("Refused, and no event: "))
        else:
            self.log.warning("Polaris no longer has the job: no event. Job %s", job.id)

    def not_judged(self, job: Job, trouble: str | None) -> None:
        """Log a load that the next polls judge again. In an outage, one load is named for all."""
        if trouble and self._is_due("judgement", ""):
            self.log.warning("The load is not checked yet: %s. Job %s", trouble.rstrip("."), job.id)

    def without_store(self, why: str, since: datetime | None) -> None:
        """Log once that the trigger has no state of an earlier start."""
        if not self._is_without_store:
            self._is_without_store = True
            before = f"Loads since {utc(since)} fire events again" if since else "Loads before this start fire no event"
            self.log.warning("%s. %s. %s", why.rstrip("."), before, self.about)

    def is_new_fault(self, error: Exception) -> bool:
        """Whether an unexpected error is to be logged."""
        return self._is_due(f"fault {type(error).__name__}", "")

    def explain(self, error: PolarisApiError) -> PolarisApiError:
        """Return the error: no error ends this wait."""
        return error


def _now() -> datetime:
    return datetime.fromtimestamp(clock.now(), timezone.utc)
