"""Read the rows of a parquet file as lines of JSON, so that they are read further like those of nd-json."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_polaris.local.engine.data.rows import Counters
from airflow_provider_polaris.local.engine.sql.druid_names import text_literal

#: How many rows are fetched at once.
FETCHED = 2_000
#: How a column of each of these types becomes JSON. Druid has milliseconds for a moment.
_AS_JSON: Mapping[str, str] = {
    "BLOB": "to_base64({})",
    "DATE": "epoch_ms(CAST({} AS TIMESTAMP))",
    "TIMESTAMP": "epoch_ms({})",
    "TIMESTAMP WITH TIME ZONE": "epoch_ms({})",
    "TIMESTAMP_NS": "epoch_ms(CAST({} AS TIMESTAMP))",
}


class ParquetFault(ValueError):
    """A file that is no parquet."""


def lines_of_parquet(
    path: Path,
    settings: Mapping[str, Any],
    counters: Counters,
    may_continue: Callable[[float], bool] = lambda _: True,
) -> Iterator[list[bytes | None]]:
    """Yield lists of the next rows of a file, each a line of JSON. Count the bytes of the file at its end.

    The file is read with a database of its own, which can reach nothing but this file.

    :param settings: the ``formatSettings``: without ``binaryAsString``, bytes are base64.
    :param may_continue: called before each chunk with the share of the rows that is read. Reading ends if it returns
        false.
    :raises ParquetFault: for a file that is no parquet.
    """
    import duckdb

    as_string = "true" if settings.get("binaryAsString") else "false"
    source = f"read_parquet({text_literal(str(path))}, binary_as_string={as_string})"
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute("SET memory_limit = '256MB'")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET allowed_paths = [{text_literal(str(path))}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608 - a path of ours
            columns = ", ".join(f"{_value(str(name), str(kind))} AS {_name(str(name))}" for name, kind, *_ in described)
            rows = f"SELECT CAST(to_json(t) AS VARCHAR) FROM (SELECT {columns} FROM {source}) AS t"  # noqa: S608
            (total,) = connection.execute(f"SELECT count(*) FROM {source}").fetchall()[0]  # noqa: S608
            connection.execute(rows)
            read = 0
            while may_continue(read / total if total else 0.0) and (lines := connection.fetchmany(FETCHED)):
                read += len(lines)
                yield [line.encode() for (line,) in lines]
        except duckdb.Error as error:
            raise ParquetFault(str(error).split("\n", 1)[0]) from None
    counters.bytes += path.stat().st_size


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _value(name: str, kind: str) -> str:
    return _AS_JSON.get(kind, "{}").format(_name(name))
