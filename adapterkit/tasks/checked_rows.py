"""Rows as tasks see them: checked one by one, with the places that errors name."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from adapterkit.data.rows import Rows, as_rows
from adapterkit.errors import DataError
from adapterkit.recipe.columns import Column
from adapterkit.tasks.values import Checked, Encoded, Feature, Purpose, Row, Truncation

_NAMED = 10


def unit_of(rows: Sequence[Row]) -> str:
    """What the numbers of rows count: "line", "record" or "row"."""
    return rows.reading.unit if isinstance(rows, Rows) else "row"


def places_of(rows: Sequence[Row]) -> list[str]:
    """Where every row stands, as errors name it: "line 7" of a file, "row 7" of rows in memory."""
    unit = unit_of(rows)
    return [f"{unit} {number}" for number in (rows.numbers if isinstance(rows, Rows) else range(1, len(rows) + 1))]


def check(
    rows: Sequence[Row],
    columns: Mapping[str, Column],
    reason_of: Callable[[Row], str | None],
    purpose: Purpose = "train",
) -> Checked:
    """The usable rows, and (number, reason) of the others. Raises DataError where no row is usable."""
    all_rows = as_rows(rows)
    if not len(all_rows):
        raise DataError(f"{all_rows.source} has no rows")
    found = list(map(reason_of, all_rows))
    usable = [index for index, reason in enumerate(found) if reason is None]
    problems = [(number, reason) for number, reason in zip(all_rows.numbers, found, strict=True) if reason is not None]
    if not usable:
        needed = [name for name, column in columns.items() if purpose != "predict" or not column.target]
        raise DataError(
            f"none of the {len(all_rows)} rows of {all_rows.source} can be used",
            listed(f"{unit_of(all_rows)} {number}: {reason}" for number, reason in problems),
            f"Columns found: {', '.join(all_rows.columns) or 'none'}; needed: {', '.join(needed)}."
            + ("" if purpose == "predict" else " Name other columns with data.columns."),
        )
    return Checked(all_rows if not problems else all_rows.select(usable), problems)


def refuse_rows(rows: Sequence[Row], reason_of: Callable[[Row], str | None], what: str) -> None:
    """Raise DataError for rows that something is wrong with: "3 rows have no target", with the reason at each place."""
    found = zip(places_of(rows), map(reason_of, rows), strict=True)
    if bad := [f"{place}: {reason}" for place, reason in found if reason]:
        raise DataError(f"{len(bad)} rows {what}", listed(bad))


def listed(problems: Iterable[str]) -> list[str]:
    """The first problems, and how many more there are."""
    every = list(problems)
    return every if len(every) <= _NAMED else [*every[:_NAMED], f"… and {len(every) - _NAMED} more"]


def text_problem(row: Row, *names: str, optional: Sequence[str] = ()) -> str | None:
    """What is wrong with the text columns `names` of a row, and with those that it may lack; None where all hold text.

    Blank text is no text: a table cannot write it, so that it would count in some formats and not in others.
    """
    for name in (*names, *(name for name in optional if not is_missing(row.get(name)))):
        value = row.get(name)
        if is_missing(value):
            return f"no {name}"
        if problem := string_problem(value, name):
            return problem
    return None


def string_problem(value: Any, name: str) -> str | None:
    """What is wrong with a text that may be blank: a word of several, or a choice."""
    if value is None:
        return f"no {name}"
    if not isinstance(value, str):
        return f"{name} is {type(value).__name__}, expected text"
    return f"{name} holds half of a surrogate pair, which no tokenizer can read" if _has_lone_surrogate(value) else None


def optional_text(row: Row, name: str) -> str | None:
    """The text of a column that a row may lack."""
    value: str | None = row.get(name)
    return None if is_missing(value) else value


def is_missing(value: Any) -> bool:
    """Whether nothing is written: null, blank text, or the NaN of a data frame."""
    return value is None or (isinstance(value, str) and not value.strip()) or is_nan(value)


def is_nan(value: Any) -> bool:
    """Whether this is a data frame's sign for nothing."""
    return isinstance(value, float) and math.isnan(value)


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def by_row(features: Sequence[Feature], rows: int) -> list[list[int]]:
    """For every row, the positions of its features."""
    positions: list[list[int]] = [[] for _ in range(rows)]
    for position, feature in enumerate(features):
        positions[feature.row].append(position)
    return positions


def encoded(
    rows: Sequence[Row], features: list[Feature], cuts: Mapping[int, int] | None = None, note: str = ""
) -> Encoded:
    """Features of rows, with a note. `cuts`: position of a row -> tokens that were cut away from it."""
    lost = {row: tokens for row, tokens in sorted((cuts or {}).items()) if tokens > 0}
    places = places_of(rows) if lost else []
    first = tuple(places[row] for row in [*lost][:20])
    return Encoded(features, Truncation(len(lost), sum(lost.values()), len(rows), first), note)


def encoded_whole(
    rows: Sequence[Row], found: Sequence[tuple[dict[str, list[int]], int]], labels: Sequence[Any]
) -> Encoded:
    """One feature for each row. `found`: its tokens, and how many more were cut away."""
    features = [
        Feature(index, index, tokens, label, len(tokens["input_ids"]))
        for index, ((tokens, _), label) in enumerate(zip(found, labels, strict=True))
    ]
    return encoded(rows, features, {index: lost for index, (_, lost) in enumerate(found)})
