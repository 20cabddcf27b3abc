"""Asynchronous queries: they run in threads of their own, and their results are kept in files."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from airflow_provider_polaris.local.engine.project.store import Store
from airflow_provider_polaris.local.engine.query.querying import Query, QueryFailure
from airflow_provider_polaris.local.engine.query.results import types_of, value_of
from airflow_provider_polaris.local.engine.timestamps import timestamp

State = Literal["ACCEPTED", "RUNNING", "SUCCESS", "FAILED"]
#: How many rows a page of a result has at most, as in Druid.
ROWS_PER_PAGE = 100_000
#: How many rows of a result its status shows.
SAMPLE = 100
#: The largest result that is kept, in bytes.
MAX_RESULT = 1024**3
#: How many queries run at once. Others are accepted and wait.
WORKERS = 2


class Statement:
    """A query that runs in the background. Its files have one row each line, as a list of JSON.

    :param folder: for the pages of the result.
    :param names: the names of the columns of the result.
    :param kinds: their types in DuckDB.
    """

    def __init__(self, query: Query, folder: Path, names: Sequence[str], kinds: Sequence[str]) -> None:
        self.id = f"query-{uuid.uuid4()}"
        self.created_at = timestamp()
        self.names, self.kinds = names, kinds
        self.state: State = "ACCEPTED"
        self.failure: QueryFailure | None = None
        self.duration_ms = -1  # as in Druid, until the query ends
        self.sample: list[Any] = []
        self._query = query
        self._folder = folder
        self._pages: list[dict[str, int]] = []
        self._is_stopped = False

    @property
    def is_over(self) -> bool:
        """Whether the query has ended."""
        return self.state in ("SUCCESS", "FAILED")

    def stop(self) -> None:
        """Let the query fail as soon as possible."""
        self._is_stopped = True
        self._query.stop()

    def run(self) -> None:
        """Run the query to its end. The state says how it ended."""
        started = time.monotonic()
        self.state = "RUNNING"
        try:
            if not self._is_stopped:
                self._write(self._query.run().rows)
        except QueryFailure as failure:
            self.failure = failure
        except Exception as error:  # noqa: BLE001 - a query must end after any error
            self.failure = QueryFailure("RUNTIME_FAILURE", f"{type(error).__name__}: {error}")
        finally:
            self._query.close()
        if self._is_stopped:
            self.failure = QueryFailure("CANCELED", "The query was canceled")
        if self.failure:
            for path in self._folder.glob(f"{self.id}-*"):
                path.unlink()
        self.duration_ms = round((time.monotonic() - started) * 1000)
        self.state = "FAILED" if self.failure else "SUCCESS"

    def _write(self, rows: Iterator[Sequence[Any]]) -> None:
        """Write the pages of the result.

        :raises QueryFailure: if the result is too large.
        """
        left = MAX_RESULT
        for number in itertools.count():
            count, size = self._write_page(self._page(number), itertools.islice(rows, ROWS_PER_PAGE), left)
            if count == 0:
                self._page(number).unlink()
                return
            self._pages.append({"id": number, "numRows": count, "sizeInBytes": size})
            left -= size

    def _write_page(self, path: Path, rows: Iterator[Sequence[Any]], left: int) -> tuple[int, int]:
        """Write the rows of a page. Return their number and their size.

        :param left: how many bytes the result may still have.
        """
        count = size = 0
        with path.open("wb") as file:
            for row in rows:
                if self._is_stopped:
                    break
                values = [value_of(value) for value in row]
                if len(self.sample) < SAMPLE:
                    self.sample.append(values)
                line = f"{json.dumps(values, ensure_ascii=False)}\n".encode()
                count, size = count + 1, size + len(line)
                if size > left:
                    raise QueryFailure("CAPACITY_EXCEEDED", f"The result has more than {MAX_RESULT:,} bytes")
                file.write(line)
        return count, size

    def rows(self, page: int | None) -> Iterator[Sequence[Any]]:
        """Yield the rows of a page, or of all pages, of a query that has succeeded.

        :raises QueryFailure: if there is no such page.
        """
        if page is not None and page >= max(1, len(self._pages)):
            raise QueryFailure("INVALID_INPUT", f"There is no page {page}: the result has {len(self._pages)}")
        numbers = range(len(self._pages)) if page is None or not self._pages else [page]
        return self._read(numbers)

    def _read(self, pages: Sequence[int]) -> Iterator[Sequence[Any]]:
        for number in pages:
            with self._page(number).open(encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)

    def _page(self, number: int) -> Path:
        return self._folder / f"{self.id}-{number}.json"

    def status(self) -> dict[str, Any]:
        """Return the query as the API has it, without details of a failure."""
        body: dict[str, Any] = {
            "queryId": self.id,
            "state": self.state,
            "createdAt": self.created_at,
            "schema": [
                {"name": name, "type": sql, "nativeType": native}
                for name, (native, sql) in zip(self.names, types_of(self.kinds), strict=True)
            ],
            "durationMs": self.duration_ms,
        }
        if self.state == "SUCCESS":
            body["result"] = {
                "numTotalRows": sum(page["numRows"] for page in self._pages),
                "totalSizeInBytes": sum(page["sizeInBytes"] for page in self._pages),
                "dataSource": "__query_select",
                "sampleRecords": self.sample,
                "pages": self._pages,
            }
        return body


class Statements:
    """The asynchronous queries of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_id: dict[str, Statement] = {}
        self._workers: ThreadPoolExecutor | None = None

    def submit(self, text: str, parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Accept a query. Return it as the API has it, before it runs.

        :raises QueryFailure: for an invalid query.
        """
        query = Query(self._store, text, parameters)
        statement = Statement(query, self._store.statement_folder(), query.names, query.kinds())
        accepted = statement.status()
        self._by_id[statement.id] = statement
        with self._store.lock:
            self._workers = self._workers or ThreadPoolExecutor(WORKERS, thread_name_prefix="polaris-statement")
            self._workers.submit(statement.run)
        return accepted

    def get(self, query_id: str) -> Statement:
        """Return a query by its id.

        :raises KeyError: if there is none.
        """
        return self._by_id[query_id]

    def close(self) -> None:
        """Stop all queries that run."""
        for statement in list(self._by_id.values()):
            while not statement.is_over:
                statement.stop()  # again: it has no effect on a query that is about to start
                time.sleep(0.005)
        if self._workers:
            self._workers.shutdown(wait=True)
