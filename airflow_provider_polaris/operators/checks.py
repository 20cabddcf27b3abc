"""PolarisColumnCheckOperator and PolarisTableCheckOperator: Airflow's SQL checks with one scan of the table.

Airflow's own operators put a SELECT for each check together with ``UNION ALL``, inside of another SELECT. Druid takes
``UNION ALL`` only at the top level, and each SELECT would be a scan.

The import of Airflow's SQL operators takes half a second. So ``operators.polaris`` does not export these two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.sql.operators.sql import SQLColumnCheckOperator, SQLTableCheckOperator

from airflow_provider_polaris.assets.lineage_task import LineageTask, is_installed

if TYPE_CHECKING:
    from airflow_provider_polaris.assets.lineage import TaskLineage

#: The column and the check, or the name of the check.
Label = tuple[str, ...]
#: Druid's aggregation functions. A check that has none is about each row.
_AGGREGATION = re.compile(
    r"\b(COUNT|SUM|MIN|MAX|AVG|ANY_VALUE|EARLIEST|LATEST|EARLIEST_BY|LATEST_BY|GROUPING|ARRAY_AGG|ARRAY_CONCAT_AGG|"
    r"STRING_AGG|LISTAGG|BIT_AND|BIT_OR|BIT_XOR|STDDEV|STDDEV_POP|STDDEV_SAMP|VARIANCE|VAR_POP|VAR_SAMP|DS_\w+|"
    r"APPROX_\w+|BLOOM_FILTER)\s*\(",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


class _Checks(LineageTask):
    """What both operators have: the lineage of the checked table."""

    table: str

    def note_project_of(self, hook: Any) -> None:
        """Keep the project for lineage, which needs the connection once more. Best effort: no error."""
        if self._project is None and is_installed():
            from airflow_provider_polaris.hooks.polaris import PolarisHook

            self.note_project(PolarisHook(hook.polaris_conn_id, hook.project_id))

    def results(self) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
        """Yield the name, the column and the options of each check, with the result as ``success``."""
        raise NotImplementedError

    def known_lineage(self) -> TaskLineage:
        """Return the checked table, with each check that has a result."""
        from airflow_provider_polaris.assets.lineage import Check, TaskLineage, lineage_of_checks

        if self._project is None:
            return TaskLineage()
        done = [one for one in self.results() if "success" in one[2]]
        checks = (Check(name, bool(options["success"]), column) for name, column, options in done)
        return lineage_of_checks(self._project, self.table, checks)


class PolarisColumnCheckOperator(_Checks, SQLColumnCheckOperator):
    """Check the columns of a table: the arguments are those of Airflow's ``SQLColumnCheckOperator``.

    All checks are one query. Only a check with a ``partition_clause`` of its own needs a further one. Druid counts
    distinct values approximately, unless the project says otherwise, and has no ``MIN`` and ``MAX`` of texts.

    :param table: the table, as it stands in a query.
    :param column_mapping: the checks of each column: ``null_check``, ``distinct_check``, ``unique_check``, ``min`` or
        ``max``, each with ``equal_to``, ``greater_than``, ``geq_to``, ``less_than`` or ``leq_to``, and ``tolerance``.
    :param partition_clause: the condition of the rows that are checked. (templated)
    :param conn_id: a connection of type ``imply_polaris``. (templated)
    """

    def __init__(self, *, conn_id: str = "polaris_default", **kwargs: Any) -> None:
        super().__init__(conn_id=conn_id, **kwargs)
        values: dict[Label, tuple[str, str | None]] = {
            (column, check): (self.column_checks[check].format(column=column), options.get("partition_clause"))
            for column, checks in self.column_mapping.items()
            for check, options in checks.items()
        }
        self._labels, queries = _queries(self.table, self.partition_clause, values)
        self.sql = queries  # type: ignore[assignment]  # Airflow renders each query of a list

    def get_db_hook(self) -> Any:
        """Return the hook. Its records are those that Airflow's operator expects."""
        hook = super().get_db_hook()
        self.note_project_of(hook)
        return _OneScan(hook, self._labels)

    def results(self) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
        """Yield each check of each column."""
        for column, checks in self.column_mapping.items():
            for name, options in checks.items():
                yield name, column, options


class PolarisTableCheckOperator(_Checks, SQLTableCheckOperator):
    """Check a table: the arguments are those of Airflow's ``SQLTableCheckOperator``.

    All checks are one query. Only a check with a ``partition_clause`` of its own needs a further one. A check of an
    aggregation, ``COUNT(*) > 0``, is about the table. Any other, ``price >= 0``, must hold for each row.

    :param table: the table, as it stands in a query.
    :param checks: by the name of a check, its ``check_statement``, a condition.
    :param partition_clause: the condition of the rows that are checked. (templated)
    :param accept_none: whether a check that is about rows passes if there are none. The option needs version 2.0 of
        ``apache-airflow-providers-common-sql``.
    :param conn_id: a connection of type ``imply_polaris``. (templated)
    """

    def __init__(self, *, conn_id: str = "polaris_default", **kwargs: Any) -> None:
        super().__init__(conn_id=conn_id, **kwargs)
        values: dict[Label, tuple[str, str | None]] = {
            (name,): (_passes(check["check_statement"]), check.get("partition_clause"))
            for name, check in self.checks.items()
        }
        self._labels, queries = _queries(self.table, self.partition_clause, values)
        self.sql = queries  # type: ignore[assignment]  # Airflow renders each query of a list

    def get_db_hook(self) -> Any:
        """Return the hook. Its records are those that Airflow's operator expects."""
        accepts_none = getattr(self, "accept_none", False)  # common-sql before 2.0 has no such option here
        hook = super().get_db_hook()
        self.note_project_of(hook)
        return _OneScan(hook, self._labels, none=int(accepts_none))

    def results(self) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
        """Yield each check."""
        for name, options in self.checks.items():
            yield name, None, options


def _passes(statement: str) -> str:
    """Return the value of a check: 1 if it passes, 0 if it fails, null for each row of an empty table."""
    value = f"CASE WHEN {statement} THEN 1 ELSE 0 END"
    return value if _AGGREGATION.search(_QUOTED.sub("''", statement)) else f"MIN({value})"


def _queries(
    table: str, condition: str | None, values: Mapping[Label, tuple[str, str | None]]
) -> tuple[list[list[Label]], list[str]]:
    """Return the labels of the values of each query, and the queries: one for each further condition.

    :param values: the value of each check, and its own condition.
    """
    labels: dict[str | None, list[Label]] = {}
    for label, (_, own) in values.items():
        labels.setdefault(own, []).append(label)
    queries = []
    for own, group in labels.items():
        selected = ", ".join(f"{values[label][0]} AS check_{n}" for n, label in enumerate(group))
        conditions = " AND ".join(f"({part})" for part in (condition, own) if part)
        where = f" WHERE {conditions}" if conditions else ""
        queries.append(f"SELECT {selected} FROM {table}{where}")  # noqa: S608 - the author of a DAG writes the parts
    return list(labels.values()), queries


class _OneScan:
    """A hook whose records have a row for each check."""

    def __init__(self, hook: Any, labels: Iterable[Sequence[Label]], none: Any = None) -> None:
        self._hook = hook
        self._labels = labels
        self._none = none

    def get_records(self, sql: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the labels and the result of each check."""
        records = []
        for query, labels in zip(sql, self._labels, strict=True):
            for label, value in zip(labels, self._hook.get_first(query), strict=True):
                records.append((*label, self._none if value is None else value))
        return records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hook, name)
