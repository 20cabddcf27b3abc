"""Start an asynchronous query once: continue with the query of an earlier try, and never send one twice by mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from airflow_provider_polaris import clock
from airflow_provider_polaris.api.errors import (
    PolarisError,
    PolarisNotFound,
    PolarisTransientError,
)
from airflow_provider_polaris.api.models import Statement
from airflow_provider_polaris.api.query_calls import body_of
from airflow_provider_polaris.exceptions import PolarisQueryLost
from airflow_provider_polaris.gate.outage_tolerance import SECOND_CHECK_SECONDS
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.submission.query_record import QueryNote, QueryRecord
from airflow_provider_polaris.submission.submission_record import digest
from airflow_provider_polaris.waiting.progress_log import Log

#: What a user has to know if a query may run that no task waits for.
MAY_RUN = "The query changes nothing, but Polaris bills it\nClear the task to run the query again"


class QuerySubmission:
    """Gets the query of one try: the query of an earlier try, or a new one.

    :param check: called right before the query is sent. Raises if the task must not start a query any more.
    :raises PolarisUsageError: if the query or a parameter cannot be sent.
    """

    def __init__(
        self,
        hook: PolarisHook,
        record: QueryRecord,
        sql: str,
        parameters: Sequence[Any] | None,
        context: Mapping[str, Any] | None,
        log: Log,
        check: Callable[[], None],
    ) -> None:
        self._hook = hook
        self._record = record
        self._query = (sql, parameters)
        self._context = context
        self._log = log
        self._check = check
        record.set_query(digest([body_of(sql, parameters, context), hook.polaris_conn_id, hook.project_id]))

    def statement(self) -> Statement:
        """Return the query to wait for.

        :raises PolarisQueryLost: if Polaris may run a query whose id nobody knows.
        """
        note = self._record.last_note()
        statement = self._of_earlier_try(note) if note else None
        return statement or self._start()

    def _of_earlier_try(self, note: QueryNote) -> Statement | None:
        """Return the query of an earlier try; ``None`` if this try must start one."""
        is_cleared = self._record.is_cleared_since(note)
        if note.state == "sending":
            if is_cleared:
                return None  # the error told the user what a clear does
            sent = f"{datetime.fromtimestamp(note.at, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
            raise PolarisQueryLost(
                f"Polaris may be running the query: an earlier try sent it at {sent}, and noted no response\n{MAY_RUN}"
            )
        if note.query_id is None or note.state == "over":
            return None
        if note.state == "canceling" or is_cleared or note.query != self._record.query:
            self._cancel(note.query_id)
            return None
        return self._request(note.query_id)

    def _request(self, query_id: str) -> Statement | None:
        """Return the query of an earlier try; ``None`` if it has no result and gets none."""
        try:
            statement = self._get(query_id)
        except PolarisTransientError as error:
            self._log.warning("%s. Query %s: an earlier try started it. This try waits for it", error, query_id)
            return Statement(query_id, "UNKNOWN")  # the wait tolerates an outage
        if statement is None or statement.has_failed:
            why = statement.error or "it has failed" if statement else "Polaris no longer has it"
            self._log.warning("Query %s of an earlier try has no result: %s. This try starts it again", query_id, why)
            return None
        self._log.warning(
            "Query %s is %s: an earlier try started it. This try continues with it", query_id, statement.state
        )
        return statement

    def _get(self, query_id: str) -> Statement | None:
        try:
            return self._hook.get_statement(query_id)
        except PolarisNotFound:
            clock.sleep(SECOND_CHECK_SECONDS)  # as in every wait, one 404 does not count
        try:
            return self._hook.get_statement(query_id)
        except PolarisNotFound:
            return None

    def _cancel(self, query_id: str) -> None:
        """Cancel a query that no try waits for any more. Best effort."""
        try:
            self._hook.cancel_query(query_id, retry=False)
        except PolarisError as error:
            self._log.warning(
                "Query %s of an earlier try could not be canceled, and may still be running: %s", query_id, error
            )

    def _start(self) -> Statement:
        self._check()
        self._hook.get_conn()  # an invalid connection must not count as a query that was sent
        self._record.note("sending")
        try:
            statement = self._hook.start_query(*self._query, context=self._context)
        except PolarisError as error:
            if isinstance(error, PolarisTransientError) and error.received:
                # The note stays, so that no retry sends the query either.
                raise PolarisQueryLost(
                    f"Polaris may be running the query: its response was lost\n{MAY_RUN}\n{error}"
                ) from None
            self._record.note_best_effort("over")  # Polaris has not received the query, or has rejected it
            raise
        self._record.note_best_effort("waiting", statement.id)
        self._log.info("Started query %s", statement.id)
        return statement
