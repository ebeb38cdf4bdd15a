"""How labels name the right choice: by position from 0 or from 1, by letter, by text, or by a name beside the choices.

One cell often allows several readings: 2 is the second choice or the third, or a choice's text where choices are
numbers. So a whole column is read in one way: the only one in which all of its labels can be read, or the plainest of
those that agree.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from adapterkit.errors import DataError
from adapterkit.tasks.checked_rows import is_missing, listed, places_of
from adapterkit.tasks.labels import label_name
from adapterkit.tasks.values import Row

FROM_0, FROM_1 = "from-0", "from-1"


def choices_of(row: Row) -> list[str] | None:
    """The choices of a row: a list, or the list under "text" of a dict (ARC, CommonsenseQA on the hub)."""
    choices = row.get("choices")
    if isinstance(choices, Mapping):
        choices = choices.get("text")
    return choices if isinstance(choices, list) else None


def _count(row: Row) -> int:
    return len(choices_of(row) or [])


def _names_of(row: Row) -> list[str]:
    """The names that stand beside the choices."""
    raw = row.get("choices")
    names = raw.get("label") if isinstance(raw, Mapping) else None
    return [*map(label_name, names)] if isinstance(names, list) else []


def _only(label: str, names: Sequence[str]) -> int | None:
    return names.index(label) if names.count(label) == 1 else None


class Naming(NamedTuple):
    """What a label is, and the position of the choice that it names in a row, or None where it cannot be read so."""

    words: str
    place: Callable[[str, Row], int | None]


READINGS: Mapping[str, Naming] = {
    "name": Naming("the name of a choice", lambda label, row: _only(label, _names_of(row))),
    "text": Naming("the text of a choice", lambda label, row: _only(label, [*map(label_name, choices_of(row) or [])])),
    "letter": Naming(
        "the letter of a choice",
        lambda label, row: _only(label.strip("(). ").upper(), list(string.ascii_uppercase[: _count(row)])),
    ),
    FROM_0: Naming(
        "a position counted from 0",
        lambda label, row: int(label) if label.isdecimal() and int(label) < _count(row) else None,
    ),
    FROM_1: Naming(
        "a position counted from 1",
        lambda label, row: int(label) - 1 if label.isdecimal() and 1 <= int(label) <= _count(row) else None,
    ),
}
"""The ways to read a column of labels, the plainest first."""


def place_of(row: Row, reading: str) -> int | None:
    """The position of the right choice; None where the label names none of them."""
    label = row.get("label")
    if isinstance(label, bool) or is_missing(label) or not isinstance(label, str | int | float):
        return None
    return READINGS[reading].place(label_name(label), row)


def readings_of(row: Row) -> dict[str, int]:
    """Every way in which a row's label can be read, with the position of the choice that it then names."""
    return {reading: place for reading in READINGS if (place := place_of(row, reading)) is not None}


def find_reading(rows: Sequence[Row], known: str = "") -> str:
    """The one way in which all these labels can be read; rows whose label is none of the choices are passed over.
    `known`: how the labels of training rows were read, "" if that is what is asked. Raises DataError: no way fits all
    labels, or several do and name other choices; with the rows that show it."""
    places = places_of(rows)
    found = [(places[index], row, ways) for index, row in enumerate(rows) if (ways := readings_of(row))]
    fitting = [reading for reading in READINGS if all(reading in ways for _, _, ways in found)]
    if known in fitting or not found:
        return known or FROM_0
    if not fitting or (known in (FROM_0, FROM_1) and {FROM_0, FROM_1}.issuperset(fitting)):
        raise _contradiction(found, known)
    if fitting[0] == "name" or fitting == [FROM_0, FROM_1]:
        return fitting[0]
    others = [reading for reading in fitting if reading != FROM_1 or FROM_0 not in fitting]
    for place, row, ways in found:
        if len({ways[reading] for reading in others}) > 1:
            raise DataError(
                "labels can be read in several ways, which name other choices",
                [
                    f"{place}: label {row['label']!r:.40} is {READINGS[reading].words}, choice {ways[reading] + 1}"
                    for reading in others
                ],
                f"Say which: task.right_choice: {' or '.join(others)}.",
            )
    return fitting[0]


def _contradiction(found: Sequence[tuple[str, Row, Mapping[str, int]]], known: str) -> DataError:
    """The first row for every set of readings that some row has alone."""
    first: dict[tuple[str, ...], str] = {}
    for place, row, ways in found:
        if known not in ways:
            words = " or ".join(READINGS[reading].words for reading in ways)
            first.setdefault(tuple(ways), f"{place}: label {row['label']!r:.40} is {words}")
    trained = f"; those of training rows were {READINGS[known].words}" if known else ""
    return DataError(
        f"the labels cannot be read in one way{trained}",
        listed(first.values()),
        "Write all of them in one way. Where some are wrong, task.right_choice says in training which way is right, and"
        " leaves them out.",
    )


def notes_of(reading: str, rows: Sequence[Row]) -> list[str]:
    """What a user should know of how the labels of these rows are read."""
    either = {FROM_0, FROM_1}
    if reading == FROM_0 and rows and all(either <= readings_of(row).keys() for row in rows):
        unsure = "though no label shows that it is not counted from 1; task.right_choice says which"
        return [f"the label is read as {READINGS[reading].words}, {unsure}"]
    return [f"the label is read as {READINGS[reading].words}"] if reading == FROM_1 else []
