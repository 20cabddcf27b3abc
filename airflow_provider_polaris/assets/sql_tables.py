"""Which tables a query in Druid's SQL reads. Pure: a scan of the query's words, since no parser is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""\s+|--[^\n]*|/\*.*?\*/            # between the words
    |'(?:[^']|'')*'                       # a text
    |(?P<quoted>"(?:[^"]|"")*")
    |(?P<word>[A-Za-z_]\w*)
    |(?P<sign>[().,])
    |.""",
    re.DOTALL | re.VERBOSE,
)
#: What begins a table in a FROM clause, and what ends the clause.
_BEFORE_TABLE = {"FROM", "JOIN", ","}
_AFTER_CLAUSE = {
    "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "UNION", "INTERSECT", "EXCEPT", "WINDOW", "PARTITIONED",
    "CLUSTERED", "FETCH", "SELECT",
}  # fmt: skip
#: Words that are no table's name without quotes.
_NO_TABLE = {"TABLE", "UNNEST", "LATERAL", "VALUES", "SELECT", "WITH"}


@dataclass
class _Level:
    """What is open between two parentheses: a SELECT without its FROM, or a FROM clause."""

    wants_from: bool = False
    is_in_clause: bool = False
    wants_table: bool = False


@dataclass
class _Found:
    tables: list[str] = field(default_factory=list)
    own_names: set[str] = field(default_factory=set)


def tables_read(query: str) -> list[str]:
    """Return the names of the tables that a query reads, each once, in the order of the query.

    Names that ``WITH`` defines, other schemas than ``druid``, and table functions such as ``EXTERN`` are left out.
    """
    words = list(_words(query))
    found = _Found()
    levels = [_Level()]
    place = 0
    while place < len(words):
        place += _read(words, place, levels, found)
    return [name for name in dict.fromkeys(found.tables) if name not in found.own_names]


def _words(query: str) -> Iterator[str]:
    """Yield words, quoted names with their quotes, and signs. Another character is a sign, too."""
    for token in _TOKEN.finditer(query):
        if token["quoted"] or token["word"] or token["sign"]:
            yield token[0]
        elif token[0][0] == "'" or not (token[0].isspace() or token[0].startswith(("--", "/*"))):
            yield "?"


def _read(words: list[str], place: int, levels: list[_Level], found: _Found) -> int:
    """Read the word at a place. Return the number of words that are read."""
    word, level = words[place].upper(), levels[-1]
    wants_table, level.wants_table = level.wants_table, False
    if word == "(":
        levels.append(_Level(wants_table=wants_table and level.is_in_clause))
        levels[-1].is_in_clause = levels[-1].wants_table  # FROM (a JOIN b …)
    elif word == ")":
        if len(levels) > 1:
            levels.pop()
    elif word == "FROM" and level.wants_from and words[place - 1].upper() != "DISTINCT":
        level.wants_from, level.is_in_clause, level.wants_table = False, True, True
    elif level.is_in_clause and word in _BEFORE_TABLE:
        level.wants_table = True
    elif word in _AFTER_CLAUSE:
        level.wants_from, level.is_in_clause = word == "SELECT" or level.wants_from, False
    elif wants_table and _is_name(word) and word not in _NO_TABLE:
        return _read_table(words, place, found)
    elif _is_name(word) and _defines(words, place):
        found.own_names.add(_plain(words[place]))
    return 1


def _read_table(words: list[str], place: int, found: _Found) -> int:
    """Note the table whose name begins here. Return the number of words of the name."""
    name, end = [_plain(words[place])], place + 1
    while words[end : end + 1] == ["."] and end + 1 < len(words):
        name.append(_plain(words[end + 1]))
        end += 2
    is_function = words[end : end + 1] == ["("]
    if not is_function and (len(name) == 1 or name[:-1] == ["druid"]):
        found.tables.append(name[-1])
    return end - place


def _defines(words: list[str], place: int) -> bool:
    """Whether the word is a name that WITH defines: ``WITH name AS (`` or ``, name AS (``."""
    before = words[place - 1].upper() if place else ""
    after = [word.upper() for word in words[place + 1 : place + 3]]
    return before in {"WITH", ","} and after == ["AS", "("]


def _is_name(word: str) -> bool:
    return word[0] == '"' or word[0] == "_" or word[0].isalpha()


def _plain(word: str) -> str:
    return word[1:-1].replace('""', '"') if word[0] == '"' else word
