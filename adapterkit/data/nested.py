"""Lists and objects that a table holds as text: "['a', 'b']", "[1 0 0]", "{'text': …}".

A column is read so where every cell of it can be, as JSON, as Python writes it or as numpy prints it. Where some can
and some cannot, nobody knows what the author meant.
"""

import ast
import json
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from itertools import pairwise
from typing import Any

from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered
from adapterkit.recipe.columns import Column

LONGEST_LITERAL_CHARACTERS = 1_000_000
"""Longer cells are read as JSON only: Python's own literals take hundreds of bytes for each of theirs."""

_ITEM = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+]?\d+\.?\d*(?:e[-+]?\d+)?|True|False)"""
_PRINTED = re.compile(rf"\[\s*{_ITEM}(?:\s+{_ITEM})*\s*\]", re.DOTALL)
_ARRAY = re.compile(r"array\((\[[^()]*\])(?:,\s*dtype=[\w.<>'\"]+)?\)")


def parse_nested(text: str) -> list[Any] | dict[str, Any] | None:
    """The list or object that a text writes; None where it writes none."""
    text = text.strip()
    if (text[:1], text[-1:]) not in (("[", "]"), ("{", "}")):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _literal(text)
    return found if isinstance(found, list | dict) else None


def _literal(text: str) -> Any:
    """What Python or numpy would write so."""
    if len(text) > LONGEST_LITERAL_CHARACTERS:
        return None
    if _PRINTED.fullmatch(text):
        return [ast.literal_eval(item) for item in re.findall(_ITEM, text)]
    plain = _ARRAY.sub(r"\1", text)
    try:
        # Python would join 'a' 'b' to one text.
        tokens = [token for token in tokenize.generate_tokens(StringIO(plain).readline) if token.string.strip()]
        if any(a.type == b.type == tokenize.STRING for a, b in pairwise(tokens)):
            return None
        return ast.literal_eval(plain)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError):
        return None


def find_nested(rows: Sequence[Numbered], needs: Mapping[str, Column], problems: Problems, unit: str) -> list[str]:
    """The columns in which every text writes a list or an object, of those that may hold them.

    Cells of a column in which some do and some do not become problems, as do cells in brackets that nothing can read.
    """
    return [
        name
        for name, need in needs.items()
        if need.nested and _is_nested([(number, row.get(name)) for number, row in rows], name, need, problems, unit)
    ]


def _is_nested(cells: Sequence[tuple[int, Any]], name: str, need: Column, problems: Problems, unit: str) -> bool:
    written = [(number, cell) for number, cell in cells if cell is not None and cell != ""]
    if not written or not all(isinstance(cell, str) for _, cell in written):
        return False
    unread = [(number, cell) for number, cell in written if parse_nested(cell) is None]
    if not unread:
        return True
    if len(unread) == len(written):
        # Single words in brackets are names: [CLS]. Several are a list that nothing can read: [a, b].
        if all(re.fullmatch(r"\s*\[.*\]\s*", cell, re.DOTALL) for _, cell in written):
            unread = [(number, cell) for number, cell in unread if re.search(r"[,\s]", cell.strip())]
        else:
            unread = []
    for number, cell in unread:
        problems.add(f"{unit} {number}, column {name}", f"{cell!r:.40} cannot be read as a list", how_to_list(need))
    return False


def how_to_list(need: Column) -> str:
    """The ways of giving lists in cells."""
    separated = ', or name what separates the labels of a cell: task.label_separator: "|"' if need.separable else ""
    return f'Write every cell of the column as a list, such as ["a", "b"]{separated}.'


def with_nested(
    rows: Iterable[Numbered], names: Sequence[str], needs: Mapping[str, Column], problems: Problems, unit: str
) -> Iterator[Numbered]:
    """The rows with the lists and objects that these columns write."""
    for number, row in rows:
        read = {name: parse_nested(row[name]) for name in names if isinstance(row.get(name), str) and row[name]}
        for name, value in read.items():
            if value is None:
                why = f"{row[name]!r:.40} cannot be read as a list"
                problems.add(f"{unit} {number}, column {name}", why, how_to_list(needs[name]))
        yield number, ({**row, **read} if read else row)
