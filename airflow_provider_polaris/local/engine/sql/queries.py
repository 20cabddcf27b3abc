"""The table that an SQL job writes to, read from the head of its query.

The local Polaris has its own reader: a fault in the provider's reader then shows as a difference between the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from airflow_provider_polaris.local.engine.intervals import GRANULARITIES

#: A quoted name has at most 255 characters, as a table's name has, so a query of megabytes of quotes is read fast.
_TOKEN = re.compile(
    r'(?P<blank>\s+|--[^\r\n]*|/\*.*?\*/)|(?P<word>[^\W\d]\w*)|"(?P<quoted>(?:[^"]|""){1,255})"|(?P<sign>.)', re.DOTALL
)
_PARTITIONED = re.compile(r"\bPARTITIONED\s+BY\s+(\w+)", re.IGNORECASE)
_FROM = re.compile(r"\bFROM\b", re.IGNORECASE)
#: Words that can follow ``INTO`` only if the table's name is missing.
_NO_NAMES = {"SELECT", "WITH", "VALUES"}
#: The one schema that jobs write to.
_SCHEMA = "druid"


class _Token(NamedTuple):
    kind: str
    text: str


_END = _Token("end", "")


def target_of(query: Any) -> str | None:
    """Return the table that a query inserts into or replaces, ``None`` if the query does neither.

    A table in another schema than ``druid`` counts as none: Druid cannot write there.
    """
    if not isinstance(query, str):
        return None
    tokens = _tokens(query)
    if _keyword(next(tokens, _END)) not in {"INSERT", "REPLACE"} or _keyword(next(tokens, _END)) != "INTO":
        return None
    name = next(tokens, _END)
    if _keyword(name) in _NO_NAMES:
        return None
    if next(tokens, _END) == _Token("sign", "."):
        if name.text != _SCHEMA:
            return None
        name = next(tokens, _END)
        if next(tokens, _END) == _Token("sign", "."):
            return None
    return (name.text or None) if name.kind in {"word", "quoted"} else None


def replaces(query: Any) -> bool:
    """Return whether a query replaces rows of its table."""
    return isinstance(query, str) and _keyword(next(_tokens(query), _END)) == "REPLACE"


def partitioning_of(query: str) -> str | None:
    """Return the granularity that a query names last: ``PARTITIONED BY DAY``. A function in its place is ``None``."""
    granularity = (_PARTITIONED.findall(query) or [""])[-1].lower()
    return granularity if granularity in GRANULARITIES else None


def reads_data(query: str) -> bool:
    """Return whether a query may have a FROM. The word may be a part of a text."""
    return _FROM.search(query) is not None


def _tokens(query: str) -> Iterator[_Token]:
    """Yield the parts of a query in order, without blanks and comments."""
    for match in _TOKEN.finditer(query):
        kind = match.lastgroup or ""
        if kind != "blank":
            yield _Token(kind, match[kind].replace('""', '"') if kind == "quoted" else match[kind])


def _keyword(token: _Token) -> str | None:
    return token.text.upper() if token.kind == "word" else None
