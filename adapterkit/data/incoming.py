"""Rows that come in to be answered, in a file or line by line: each with its place, and none of them held.

What cannot be read as a row keeps its place as an error, so that every answer stands where its row stood.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from adapterkit.data.files.json_values import parse_object
from adapterkit.data.problems import Problems
from adapterkit.data.sources import read_each
from adapterkit.errors import BadRowError
from adapterkit.recipe import DataSettings

Incoming = tuple[str, dict[str, Any] | str | BadRowError]
"""A place ("line 7") and what stands there: an object, a text, or why it is neither."""


def each_row(source: str | Path, settings: DataSettings | None = None) -> Iterator[Incoming]:
    """The rows of a file or a hub data set, under its own column names. Raises DataError: nothing of it can be read."""
    unread = _Unread(str(source))
    for place, row in read_each(source, unread, settings):
        number = _number(place)
        yield from unread.before(number)
        # A reader hands on a row with the broken bytes of a line replaced.
        broken = unread.take()
        yield place, (broken if broken is not None else row)
    yield from unread.before(None)


def each_line(lines: Iterable[str]) -> Iterator[Incoming]:
    """Every line as a row: JSON objects where the first line is one, texts otherwise."""
    objects: bool | None = None
    for number, line in enumerate(lines, start=1):
        text = line.removesuffix("\n").removesuffix("\r")
        if not text.strip():
            yield f"line {number}", BadRowError("is empty, expected one row per line")
            continue
        if objects is None:
            objects = text.lstrip().startswith("{")
        yield f"line {number}", read_line(text, objects=objects)


def read_line(text: str, *, objects: bool) -> dict[str, Any] | str | BadRowError:
    """One line: the text itself, or the JSON object that it holds."""
    found = parse_object(text) if objects else text
    return BadRowError(found) if objects and isinstance(found, str) else found


class _Unread(Problems):
    """What a reader could not read, until the rows behind it come. A record that is broken twice counts once."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._waiting: list[tuple[str, str]] = []

    def add(self, place: str, problem: str, remedy: str = "") -> None:
        if self._waiting and _number(place) <= _number(self._waiting[-1][0]):
            place, problem = place, f"{self._waiting.pop()[1]}; {problem}"
        self._waiting.append((place, problem))

    def before(self, number: int | None) -> Iterator[Incoming]:
        """What stands before a row with this number; all of it for None."""
        while self._waiting and (number is None or _number(self._waiting[0][0]) < number):
            place, problem = self._waiting.pop(0)
            yield place, BadRowError(problem)

    def take(self) -> BadRowError | None:
        """What is wrong within the row that comes next."""
        problems, self._waiting = [problem for _, problem in self._waiting], []
        return BadRowError("; ".join(problems)) if problems else None


def _number(place: str) -> int:
    return int(place.rpartition(" ")[2])
