"""Names and texts of Druid as DuckDB writes them.

The name of a column or table is written as its bytes in hexadecimal: DuckDB ignores the case of names, and Druid does
not.
"""

from __future__ import annotations

#: How much of a faulty text a message has, in characters.
MAX_SHOWN = 60


class SqlFault(Exception):
    """An expression or query that Druid rejects."""


def physical(name: str) -> str:
    """Return the name that DuckDB has for a column or table."""
    return f"n{name.encode().hex()}"


def quoted(name: str) -> str:
    """Return the name of a column or table as it stands in a statement of DuckDB."""
    return f'"{physical(name)}"'


def logical(name: str) -> str:
    """Return the name that :func:`physical` has made a name of."""
    return bytes.fromhex(name[1:]).decode()


def text_literal(text: str) -> str:
    """Return a text as a literal of DuckDB.

    :raises SqlFault: for a text with a null byte, which no literal can have.
    """
    if "\0" in text:
        raise SqlFault("A literal cannot have a null byte")
    return "'" + text.replace("'", "''") + "'"


def shown(text: str) -> str:
    """Return a text for a message: one short line in quotes."""
    text = " ".join(text.split())
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
