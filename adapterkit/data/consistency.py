"""Whether a column holds one type of value throughout, down into lists and objects."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from adapterkit.data.files.json_values import WORDS
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered

_PLAIN = frozenset({str, bool, int, float, type(None)})


def watched(
    rows: Iterable[Numbered], problems: Problems, columns: Collection[str] | None = None, unit: str = "line"
) -> Iterator[Numbered]:
    """The same rows, each compared as it passes with the first type seen in every column. None fits everywhere.
    `columns`: to watch; None watches all. `unit`: what a row's number counts."""
    seen: dict[str, tuple[str, int]] = {}

    def fits(number: int, column: str, kind: type) -> bool:
        word = WORDS.get(kind, kind.__name__)
        first, first_number = seen.setdefault(column, (word, number))
        if word != first:
            told = f"{word}, but {first} on {unit} {first_number}; a column holds one type"
            problems.add(f"{unit} {number}, column {column}", told)
        return word == first

    def look(number: int, column: str, value: Any) -> None:
        kind = type(value)
        if value is None or not fits(number, column, kind):
            return
        if kind is list:
            kinds = set(map(type, value))
            if kinds <= _PLAIN:
                for inner in sorted(kinds - {type(None)}, key=lambda one: one.__name__):
                    fits(number, f"{column}[]", inner)
            else:
                for item in value:
                    look(number, f"{column}[]", item)
        elif kind is dict:
            for name, item in value.items():
                look(number, f"{column}.{name}", item)

    for number, row in rows:
        for name, value in row.items():
            if columns is None or name in columns:
                look(number, name, value)
        yield number, row
