"""Whether a column holds one type of value throughout, down into lists and objects."""

from collections.abc import Iterable
from typing import Any

from adapterkit.data.files.json_values import WORDS
from adapterkit.data.problems import Problems
from adapterkit.data.rows import Numbered, Row

_PLAIN = frozenset({str, bool, int, float, type(None)})


class TypeWatch:
    """Remembers the first type seen in every column and reports rows that hold another.

    Args:
        columns: the columns to watch; None watches all.
        unit: what a row's number counts, "line" or "record".
    """

    def __init__(self, problems: Problems, columns: Iterable[str] | None = None, unit: str = "line") -> None:
        self._problems = problems
        self._unit = unit
        self._columns = None if columns is None else frozenset(columns)
        self._seen: dict[str, tuple[str, int]] = {}

    def look(self, number: int, row: Row) -> None:
        """Compare one row with those before it. None fits everywhere."""
        for name, value in row.items():
            if self._columns is None or name in self._columns:
                self._value(number, name, value)

    def _value(self, number: int, column: str, value: Any) -> None:
        if value is None:
            return
        kind = type(value)
        if not self._fits(number, column, kind):
            return
        if kind is list:
            kinds = set(map(type, value))
            if kinds <= _PLAIN:
                for inner in sorted(kinds - {type(None)}, key=lambda one: one.__name__):
                    self._fits(number, f"{column}[]", inner)
            else:
                for item in value:
                    self._value(number, f"{column}[]", item)
        elif kind is dict:
            for name, item in value.items():
                self._value(number, f"{column}.{name}", item)

    def _fits(self, number: int, column: str, kind: type) -> bool:
        word = WORDS.get(kind, kind.__name__)
        first, first_number = self._seen.setdefault(column, (word, number))
        if word == first:
            return True
        self._problems.add(
            f"{self._unit} {number}, column {column}",
            f"{word}, but {first} on {self._unit} {first_number}; a column holds one type",
        )
        return False


def watched(rows: Iterable[Numbered], watch: TypeWatch) -> Iterable[Numbered]:
    """The same rows, each looked at as it passes."""
    for number, row in rows:
        watch.look(number, row)
        yield number, row
