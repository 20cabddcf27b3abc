"""The messages that the package can write, read from the string constants of its sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

#: A message as its constant parts, with a value between each two: ``("job ", " failed")`` for ``f"job {id} failed"``
#: and for the log's ``"job %s failed"``.
Template = tuple[str, ...]

#: A value in a message that is logged.
_LOG_VALUE = re.compile(r"%[-,.\d]*[sdfgr]")


def templates(paths: Iterable[Path]) -> set[Template]:
    """Return the strings and f-strings of these sources that have at least a word, without docstrings."""
    found = set()
    for path in paths:
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) not in docstrings and (parts := _parts(node)) and any(map(_letters, parts)):
                found.add(parts)
    return found


def _parts(node: ast.AST) -> Template | None:
    if isinstance(node, ast.Constant):
        return tuple(_LOG_VALUE.split(node.value)) if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return _joined(_parts(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = _parts(node.left), _parts(node.right)
        return _joined(sides) if any(sides) else None
    return None


def _joined(pieces: Iterable[Template | None]) -> Template:
    """Return one template of several; ``None`` is a value."""
    parts = [""]
    for piece in pieces:
        first, *rest = piece or ("", "")
        parts[-1] += first
        parts += rest
    return tuple(parts)


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


class Messages:
    """Answers whether a quotation is part of a message.

    In a quotation ``…`` is a value, and at its ends any text. A value has no blanks.
    """

    def __init__(self, known: Iterable[Template]) -> None:
        self._known = known

    def has(self, quotation: str) -> bool:
        """Whether a string of the sources contains this quotation, with at least one constant word of it."""
        text = quotation.strip("…").strip()
        return any(_letters_of(template, text) >= 4 for template in self._known)


def _letters_of(template: Template, text: str) -> int:
    """Return how many letters of a text are constants of a template, -1 if the text is not part of its messages."""
    best = -1
    for place, part in enumerate(template):
        if text in part:
            return _letters(text)
        rest = template[place + 1 :]
        for length in range(min(len(part), len(text)) + 1):
            if rest and part.endswith(text[:length]) and (after := _letters_after(rest, text[length:])) >= 0:
                best = max(best, _letters(text[:length]) + after)
    return best


def _letters_after(parts: Template, text: str) -> int:
    """Return the same for a text that starts with a value and continues with these parts."""
    best = -1
    for end in range(len(text) + 1):
        tail = text[end:]
        if parts[0].startswith(tail):
            best = max(best, _letters(tail))
        elif parts[1:] and tail.startswith(parts[0]):
            after = _letters_after(parts[1:], tail[len(parts[0]) :])
            best = max(best, _letters(parts[0]) + after if after >= 0 else -1)
        if tail.startswith(" "):
            break  # a value has no blanks
    return best


def quotations(text: str) -> Iterator[str]:
    """Yield the messages of this package that a page quotes.

    They are the code spans with a blank in the first column of each table whose first head is ``message``, except those
    behind ``of Airflow:``.
    """
    is_of_messages = False
    for before, row in pairwise(["", *text.splitlines()]):
        if row.startswith("|") and not before.startswith("|"):
            is_of_messages = row.startswith("| message |")
        elif row.startswith("|") and is_of_messages:
            own = row.split(" | ")[0].partition("of Airflow:")[0]
            yield from (span for span in own.split("`")[1::2] if " " in span)
