"""The table of problems that whole texts pose, and how to tell which one it is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from adapterkit.errors import DataError
from adapterkit.tasks.checked_rows import listed
from adapterkit.tasks.labels import number
from adapterkit.tasks.multi_label import MultiLabel
from adapterkit.tasks.regression import Regression
from adapterkit.tasks.single_label import SingleLabel
from adapterkit.tasks.text_problem import TextProblem, items_of

SEPARATORS = ("|", ";", ",")
"""What labels are joined with in one cell."""

PROBLEMS: Mapping[str, type[TextProblem]] = MappingProxyType(
    {problem.name: problem for problem in (SingleLabel, MultiLabel, Regression)}
)


def detect(values: Sequence[Any], places: Sequence[str], given: Sequence[str] | None) -> type[TextProblem]:
    """A list per row is multi-label (regression if it holds fractions), a number with a fraction is regression.
    Raises DataError: lists and single labels in one column; cells that seem to hold several labels each."""
    lists = [isinstance(value, list) for value in values]
    if any(lists) and not all(lists):
        first = [places[lists.index(wanted)] for wanted in (True, False)]
        told = [f"{first[0]}: a list of labels", f"{first[1]}: a single label"]
        raise DataError("labels are of two forms", told, "Give every row a list, or every row one label.")
    read = [number(item) for value in values for item in items_of(value)]
    fractions = any(found is not None and not found.is_integer() for found in read)
    if given is None and fractions and all(found is not None for found in read):
        return Regression
    if any(lists):
        return MultiLabel
    if given is None:
        _refuse_several_in_one(values, places)
    return SingleLabel


def _refuse_several_in_one(values: Sequence[Any], places: Sequence[str]) -> None:
    """Raise DataError where labels look like several, joined by a character: their pieces are labels of other rows."""
    first = dict(zip(reversed(values), reversed(places), strict=True))
    names = [name for name in first if isinstance(name, str)]
    for separator in SEPARATORS:
        pieces = {name: [piece.strip() for piece in name.split(separator)] for name in names}
        rows_with = Counter(piece for found in pieces.values() for piece in set(found) if piece)
        joined = [name for name in names if len(pieces[name]) > 1]
        known = [name for name in joined if all(rows_with[piece] > 1 for piece in pieces[name] if piece)]
        if known and 2 * len(known) >= len(joined):
            raise DataError(
                f"labels seem to hold several each, separated by {separator!r}",
                listed(f"{first[name]}: {name!r:.60}" for name in sorted(known, key=first.__getitem__)),
                f'Say so: task.label_separator: "{separator}", or lists (["a", "b"]); where they are single labels,'
                " task.problem: single-label.",
            )
