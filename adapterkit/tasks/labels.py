"""Label names: learned from rows, found again in others, weighed."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from adapterkit.errors import DataError, RecipeError
from adapterkit.tasks.checked_rows import is_missing, listed

Wanted = Mapping[str, float] | Literal["balanced"]


NO_LABEL = ("-1", "-100")
"""What data sets write where a row, or a word, has no label: `datasets` and `transformers`. No names of labels, unless
`task.labels` says so."""

_WHOLE = re.compile(r"(-?\d+)\.0+")


def number(value: Any) -> float | None:
    """A finite number, written as one or as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def label_name(value: Any) -> str:
    """The name of a label: 3, 3.0, "3" and "3.0" are one label."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    whole = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    return str(value) if whole is None else whole[1]


def is_whole(name: str) -> bool:
    """Whether a label's name is a whole number."""
    return name.removeprefix("-").isdecimal()


def split_cell(value: Any, separator: str) -> Any:
    """The labels that one cell holds; what is no text, or blank, stays as it is."""
    if not isinstance(value, str) or is_missing(value):
        return value
    return [piece for part in value.split(separator) if (piece := part.strip())]


def stands_for_none(value: Any, labels: Sequence[str]) -> bool:
    """Whether a label that is written says that there is none."""
    name = label_name(value)
    return name in NO_LABEL and name not in labels


def learn_labels(names: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """The label names in class order: as given, else those that occur, sorted (as numbers where all are whole).
    Raises DataError: nobody can tell whether -1 is a label; two names that are given are one number."""
    if given is not None:
        alike = Counter(map(label_name, given))
        twice = [f"task.labels: {name} is named {count} times" for name, count in alike.items() if count > 1]
        if twice:
            raise DataError("task.labels names one number twice", twice, "1 and 1.0 are one label.")
        return tuple(given)
    found = _without_missing(set(names))
    if all(map(is_whole, found)):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def _without_missing(found: set[str]) -> set[str]:
    """The names but for -1 and -100; -1 stays beside 1 alone, and on a scale with other negative numbers."""
    others = found.difference(NO_LABEL)
    if "-1" not in found:
        return others
    if others == {"0", "1"}:
        raise DataError(
            "the labels are -1, 0 and 1, and -1 may stand for 'no label'",
            ["label: found -1, 0 and 1: three classes, or two and rows without a label"],
            'Say which: task.labels: ["-1", "0", "1"], or task.labels: ["0", "1"] to leave the rows with -1 out.',
        )
    if others == {"1"} or any(is_whole(name) and int(name) < 0 for name in others):
        return others | {"-1"}
    return others


def find_classes(
    values: Sequence[Sequence[Any]], labels: Sequence[str], places: Sequence[str], given: Sequence[str] | None
) -> list[list[int]]:
    """The classes of every row's labels. `given`: the names in the order that the recipe gives them. A whole number
    that is no label's name is a position among these; where labels were learned, their order is nobody's, and a number
    means nothing. Raises DataError: labels that training did not see, with the places that hold them."""
    classes = {label_name(name): place for place, name in enumerate(labels)}
    by_position = given is not None and not any(map(is_whole, labels))
    unknown: dict[str, list[str]] = {}
    found: list[list[int]] = []
    for items, at in zip(values, places, strict=True):
        row = []
        for item in items:
            name = label_name(item)
            place = classes.get(name)
            if place is None and by_position and name.isdecimal() and int(name) < len(labels):
                place = int(name)
            if place is None:
                unknown.setdefault(name, []).append(at)
            else:
                row.append(place)
        found.append(row)
    if unknown:
        known = ", ".join(map(repr, labels[:20])) + (", …" if len(labels) > 20 else "")
        remedy = f"The task knows {known}. Name every label in task.labels, or remove these rows."
        if all(map(is_whole, unknown)) and not any(map(is_whole, labels)):
            remedy = (
                f"The task knows {known}, sorted by name, so that a number says nothing of which one is meant. Write"
                " names here, or train with task.labels, which gives the names their numbers."
            )
        raise DataError(
            f"{len(unknown)} labels are not the task's: training did not see them",
            listed(f"{name!r:.60}: {_shown(held)}" for name, held in sorted(unknown.items())),
            remedy,
        )
    return found


def _shown(places: Sequence[str]) -> str:
    return ", ".join(places[:5]) + (f" and {len(places) - 5} more" if len(places) > 5 else "")


def class_weights(wanted: Wanted, counts: Mapping[str, int], apart: int | None = None) -> list[float]:
    """One weight per label, of which `counts` says how often each is an answer. "balanced": n / (C · count), as
    scikit-learn defines it; of labels that each of so many rows has or not, `apart`, negatives / positives, for the
    positive terms. 1 for a label without items. Raises RecipeError: a name is not a label, or a weight no weight."""
    if wanted == "balanced":
        if apart is not None:
            return [(apart - count) / count if 0 < count < apart else 1.0 for count in counts.values()]
        items = sum(counts.values())
        return [items / (len(counts) * count) if count else 1.0 for count in counts.values()]
    problems = [f"training.class_weights.{name}: not a label" for name in wanted if name not in counts]
    problems += [
        f"training.class_weights.{name}: found {weight}, expected a finite number above 0"
        for name, weight in wanted.items()
        if not (math.isfinite(weight) and weight > 0)
    ]
    if problems:
        raise RecipeError("class weights do not fit the labels", problems, f"Labels: {', '.join(counts)}")
    return [float(wanted.get(label, 1.0)) for label in counts]
