"""PolarisQueryOperator: run a query that may take longer than a minute, on a worker or deferred."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_polaris import clock, configuration
from airflow_provider_polaris._compat import AirflowTaskTimeout, default_deferrable
from airflow_provider_polaris.api.errors import (
    PolarisError,
    PolarisQueryFailed,
    PolarisUsageError,
    sentences,
)
from airflow_provider_polaris.assets.lineage_task import LineageTask
from airflow_provider_polaris.exceptions import PolarisQueryRefused, PolarisQueryTimeout
from airflow_provider_polaris.hooks.project_task import ProjectTask
from airflow_provider_polaris.operators.template_file import TemplateFile
from airflow_provider_polaris.waiting.deferral import (
    DeferringTask,
    called_by_airflow,
    check_seconds,
    deadline_of,
    seconds,
)
from airflow_provider_polaris.waiting.wait_metrics import MeteredTask, sends_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.triggers.base import BaseTrigger

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.api.models import QueryResult, Statement
    from airflow_provider_polaris.assets.lineage import TaskLineage
    from airflow_provider_polaris.hooks.polaris import PolarisHook
    from airflow_provider_polaris.submission.query_record import QueryRecord
    from airflow_provider_polaris.submission.worker_kill import WorkerKill
    from airflow_provider_polaris.waiting.progress_log import PollLog
    from airflow_provider_polaris.waiting.query_crossing import QueryTriggerArgs
    from airflow_provider_polaris.waiting.query_wait import QueryWait

#: The categories of a failure after which another try would fail in the same way, or would undo a cancellation.
FINAL_CATEGORIES = frozenset({"INVALID_INPUT", "UNSUPPORTED", "CANCELED"})


class PolarisQueryOperator(TemplateFile, LineageTask, MeteredTask, DeferringTask, ProjectTask):
    """Run a SELECT that may take longer than a minute, and put its result into XCom.

    Polaris bills each query that it receives. So the task never sends a query again whose response was lost: it fails
    with :class:`~airflow_provider_polaris.exceptions.PolarisQueryLost`. On Airflow 3.3 and later, a retry continues
    with the query of the try before if that try had no result: its worker was lost, or Polaris was unreachable. Before
    3.3, a task cannot store the id of its query, and such a retry runs the query again. A clear runs it again, too.

    The task fails with

    * :class:`~airflow_provider_polaris.exceptions.PolarisQueryRefused`, never retried, if the query is invalid or not
      supported, or if somebody canceled it;
    * :class:`~airflow_provider_polaris.exceptions.PolarisQueryFailed`, retried as usual, if it failed otherwise;
    * :class:`~airflow_provider_polaris.exceptions.PolarisQueryTimeout`, retried as usual, if it is not over in time. It
      is canceled;
    * :class:`~airflow_provider_polaris.exceptions.PolarisQueryLost`, never retried, if Polaris may run it, and its id
      is not known;
    * :class:`~airflow_provider_polaris.exceptions.PolarisResultTooLarge`, never retried, if the result has more rows
      than ``max_rows``;
    * a :class:`~airflow_provider_polaris.exceptions.PolarisApiError`, retried as usual, if Polaris does not respond, or
      no longer has the query.

    XCom: ``return_value`` is a list of rows, each a list. The key ``columns`` has the names of the columns, and
    ``query_id`` the id, as soon as it is known. docs/reference/xcom.md describes them.

    :param sql: the query, with a ``?`` for each parameter, or the path of a ``.sql`` file. (templated)
    :param parameters: the values, which are sent apart from the query, so that none can change it: see
        :meth:`PolarisHook.query`. (templated)
    :param context: Druid's query context, such as ``{"sqlTimeZone": "Europe/Zurich"}``. (templated)
    :param max_rows: the most rows that the result may have. ``None``: any number.
    :param cancel_on_kill: cancel the query when a user clears or marks the task, or deletes its DAG run, while the task
        runs or (Airflow 3.3 and later) is deferred.
    :param max_unreachable: fail after an outage of Polaris of this many seconds. The default is
        ``[polaris] max_unreachable``.
    :param deferrable: wait in the triggerer. The default is ``[operators] default_deferrable``.
    :param poll_interval: the longest time between two polls, in seconds. The first polls come sooner.
    :param timeout: the longest wait, in seconds. The query is canceled after that. A retry waits for this long again.
    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: overrides the project of the connection. (templated)
    """

    template_fields: Sequence[str] = ("sql", "parameters", "context", "polaris_conn_id", "project_id")
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql", "parameters": "json"}  # noqa: RUF012 - Airflow's own way to declare it
    file_option = "sql"
    ui_color = "#e6e0fa"

    def __init__(
        self,
        *,
        sql: str,
        parameters: Sequence[Any] | None = None,
        context: dict[str, Any] | None = None,
        max_rows: int | None = 10_000,
        cancel_on_kill: bool = True,
        max_unreachable: float | None = None,
        deferrable: bool | None = None,
        poll_interval: timedelta | float = 10,
        timeout: timedelta | float = 24 * 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        # Airflow would load a file for each text of a list that ends with .sql.
        self.parameters = tuple(parameters) if isinstance(parameters, list) else parameters
        self.context = context
        self.max_rows = max_rows
        self.cancel_on_kill = cancel_on_kill
        self.max_unreachable = configuration.max_unreachable() if max_unreachable is None else max_unreachable
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.poll_interval = seconds(poll_interval)
        self.timeout = seconds(timeout)
        self._kill: WorkerKill | None = None
        self._must_end = False
        self._query_id: str | None = None
        self._query_wait: QueryWait | None = None

    @property
    def poll_log(self) -> PollLog | None:
        """The log of the wait for the query; ``None`` if this process has begun no wait."""
        return self._query_wait.log if self._query_wait else None

    @called_by_airflow
    @sends_metrics
    def execute(self, context: Context) -> list[list[Any]] | None:
        """Start the query, or find that of an earlier try. Wait for it, and return its rows."""
        began = clock.now()
        self._check_options()
        query_wait: QueryWait | None = None
        record = self._record(context)
        try:
            with self.opened_hook() as hook:
                statement = self._start(hook, record, context)
                began = clock.now()  # the time to start the query does not count
                query_wait = self._wait_for(hook, statement.id, record)
                result = self._poll(query_wait) if statement.is_over else None
                if result is None and self.deferrable:
                    self._defer(query_wait, deadline_of(self, context, began, self.timeout), context)
                if result is None:
                    result = self._poll(query_wait, began + self.timeout)
                if result is None:
                    raise self.timed_out(partial(self._timeout_message, query_wait, record))
                return self._finish(query_wait, result, context)
        except AirflowTaskTimeout:  # execution_timeout: Airflow's alarm has interrupted this method
            if query_wait:
                limit = self.execution_timeout.total_seconds() if self.execution_timeout else clock.now() - began
                self.log.warning("%s", self._timeout_message(query_wait, record, "execution_timeout", limit))
                query_wait.hook.close()
            raise
        finally:
            self._kill = None  # Airflow may end this process while it handles the task's success

    @called_by_airflow
    @sends_metrics
    def execute_complete(self, context: Context, event: Any = None) -> list[list[Any]] | None:
        """Continue after a deferral. Airflow calls this on another instance than the one that deferred."""
        from airflow_provider_polaris.waiting.query_crossing import QueryEvent

        try:
            seen = QueryEvent.from_dict(event)
        except PolarisError as error:
            hint = "The worker and the triggerer may run different releases of this provider"
            raise PolarisError(sentences(error, hint)) from None
        record = self._record(context)
        with self.opened_hook() as hook:
            self._note_query(hook, seen.query_id)
            query_wait = self._wait_for(hook, str(seen.query_id), record)
            query_wait.resume(seen)
            if seen.outcome == "error" and seen.error:
                raise seen.error
            result = self._poll(query_wait) if seen.outcome == "over" else None
            if result is not None:
                return self._finish(query_wait, result, context)
            if seen.outcome == "over" and seen.deadline is not None and clock.now() < seen.deadline:
                self._defer(query_wait, seen.deadline, context)
            raise self.timed_out(partial(self._timeout_message, query_wait, record), deferred=True)

    def known_lineage(self) -> TaskLineage:
        """Return the tables that the query reads. The result is empty if the task knows no query."""
        from airflow_provider_polaris.assets.lineage import TaskLineage, lineage_of_query

        if self._query_id is None or self._project is None:
            return TaskLineage()
        return lineage_of_query(self._project, self._query_id, self.sql)

    def on_kill(self) -> None:
        """Cancel the query if a user killed the task. Leave the query running if only this process must end."""
        self._must_end = True
        if self.cancel_on_kill and self._kill:
            self._kill.handle()

    def _check_options(self) -> None:
        """Check all options before anything is sent."""
        check_seconds(self, "poll_interval", "timeout", "max_unreachable")
        limit = self.max_rows
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise PolarisUsageError(f"max_rows must be a whole number, 0 or more, or None; it is {limit!r}"[:200])

    def _record(self, context: Context) -> QueryRecord:
        from airflow_provider_polaris.submission.query_record import QueryRecord

        return QueryRecord(context, self.retries or 0, self.log)

    def _start(self, hook: PolarisHook, record: QueryRecord, context: Context) -> Statement:
        """Start the query, or find that of an earlier try. Push its id."""
        from airflow_provider_polaris.submission.kill_target import QUERY
        from airflow_provider_polaris.submission.query_submission import QuerySubmission
        from airflow_provider_polaris.submission.worker_kill import WorkerKill

        kill = self._kill = WorkerKill(context["ti"], QUERY, self.log)
        if self._must_end and self.cancel_on_kill:  # on_kill came earlier: Airflow 3 lets the task continue after it
            kill.handle()
        submission = QuerySubmission(hook, record, self.sql, self.parameters, self.context, self.log, kill.check)
        try:
            statement = submission.statement()
        except PolarisQueryFailed as error:
            raise _final(error) from None
        self._note_query(hook, statement.id)
        if self.do_xcom_push:
            context["ti"].xcom_push(key="query_id", value=statement.id)
        return statement

    def _note_query(self, hook: PolarisHook, query_id: str | None) -> None:
        """Keep the query for lineage. Best effort: no error."""
        self._query_id = query_id
        self.note_project(hook)

    def _wait_for(self, hook: PolarisHook, query_id: str, record: QueryRecord) -> QueryWait:
        from airflow_provider_polaris.submission.kill_target import QueryOfWorker
        from airflow_provider_polaris.waiting.query_wait import QueryWait

        query_wait = self._query_wait = QueryWait(
            hook,
            query_id,
            self.log,
            max_unreachable=self.max_unreachable,
            interval=self.poll_interval,
            reads_result=self.do_xcom_push,
            max_rows=self.max_rows,
        )
        if self._kill:
            self._kill.set_target(QueryOfWorker(query_wait, record))
        return query_wait

    def _poll(self, query_wait: QueryWait, deadline: float | None = None) -> QueryResult | None:
        """Poll once, or until a deadline. Return the result; ``None`` if there is none yet."""
        try:
            return query_wait.poll() if deadline is None else query_wait.wait_until(deadline)
        except PolarisQueryFailed as error:
            raise _final(error) from None

    def _defer(self, query_wait: QueryWait, deadline: float, context: Context) -> NoReturn:
        """Defer until the query is over. The task continues in :meth:`execute_complete`."""
        from airflow_provider_polaris.waiting.query_crossing import QueryTriggerArgs

        args = QueryTriggerArgs(
            query_id=query_wait.query_id,
            polaris_conn_id=self.polaris_conn_id,
            project_id=self.project_id,
            poll_interval=self.poll_interval,
            deadline=deadline,
            max_unreachable=self.max_unreachable,
            failing=query_wait.tolerance.to_dict(clock.now()),
            cancel_on_kill=self.cancel_on_kill,
            logical_date=getattr(context.get("dag_run"), "logical_date", None) if self.cancel_on_kill else None,
        )
        self.defer_with(args, f"query {query_wait.query_id}")

    def trigger_for(self, args: QueryTriggerArgs) -> BaseTrigger:
        """Return the trigger that waits as the arguments say."""
        from airflow_provider_polaris.triggers.queries import PolarisQueryTrigger

        return PolarisQueryTrigger(**args.to_dict())

    def timeout_error(self, message: str) -> PolarisQueryTimeout:
        """Return the error for a query that is not over in time."""
        return PolarisQueryTimeout(message)

    def _timeout_message(self, query_wait: QueryWait, record: QueryRecord, option: str, limit: float) -> str:
        """Cancel the query. Return which limit has passed, the last known state, and what happens to the query."""
        log = query_wait.log
        known = f"the query was {log.state}" if log.state else "the query was not reported yet"
        lines = [
            f"Timeout: {known} after {limit:,.0f} s ({option})",
            *([f"The last poll failed: {log.trouble}"] if log.trouble else []),
            self._cancel(query_wait, record),
            f"To wait longer, raise {option} and clear the task",
            f"Query {query_wait.query_id}",
        ]
        return "\n".join(lines)

    def _cancel(self, query_wait: QueryWait, record: QueryRecord) -> str:
        """Ask Polaris to cancel the query. Return what happened."""
        record.note_best_effort("canceling", query_wait.query_id)
        try:
            query_wait.hook.cancel_query(query_wait.query_id)
        except PolarisError as error:
            return f"The query could not be canceled, and may still be running: {error}"
        return "Polaris accepted the cancellation of the query"

    def _finish(self, query_wait: QueryWait, result: QueryResult, context: Context) -> list[list[Any]] | None:
        """Push the names of the columns, and return the rows."""
        from airflow_provider_polaris.waiting.query_wait import rows_for_xcom

        polled = str(query_wait.log)
        polls = f". {polled}" if polled else ""
        if not self.do_xcom_push:
            self.log.info("Query %s has succeeded%s", query_wait.query_id, polls)
            return None
        context["ti"].xcom_push(key="columns", value=[column.name for column in result.columns])
        self.log.info("Query %s returned %s rows%s", query_wait.query_id, f"{len(result):,}", polls)
        return rows_for_xcom(result)


def _final(error: PolarisQueryFailed) -> PolarisQueryFailed:
    """Return the error, as one that Airflow does not retry if another try would fail in the same way."""
    if error.category not in FINAL_CATEGORIES:
        return error
    return PolarisQueryRefused(str(error), category=error.category, status=error.status, code=error.code)
