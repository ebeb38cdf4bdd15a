"""Label names: learned from rows, found again in others, weighed."""

# Axes: N rows, C classes.

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from numpy.typing import NDArray

from adapterkit.errors import DataError, RecipeError
from adapterkit.tasks.checked_rows import listed

Wanted = Mapping[str, float] | Literal["balanced"]


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
    """The name of a label: 3, 3.0 and "3" are one label."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def learn_labels(names: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """The label names in class order: as given, else those that occur, sorted (as numbers where all are whole)."""
    if given is not None:
        return tuple(given)
    found = set(names)
    if all(name.removeprefix("-").isdecimal() for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def find_classes(values: Sequence[Sequence[Any]], labels: Sequence[str], numbers: Sequence[int]) -> list[list[int]]:
    """The classes of every row's labels. A whole number that is no label's name is a class by position.

    Raises:
        DataError: labels that training did not see, with the lines that hold them.
    """
    classes = {name: place for place, name in enumerate(labels)}
    by_position = not any(name.removeprefix("-").isdecimal() for name in labels)
    unknown: dict[str, list[int]] = {}
    found: list[list[int]] = []
    for items, line in zip(values, numbers, strict=True):
        row = []
        for item in items:
            name = label_name(item)
            place = classes.get(name)
            if place is None and by_position and name.isdecimal() and int(name) < len(labels):
                place = int(name)
            if place is None:
                unknown.setdefault(name, []).append(line)
            else:
                row.append(place)
        found.append(row)
    if unknown:
        known = ", ".join(map(repr, labels[:20])) + (", …" if len(labels) > 20 else "")
        raise DataError(
            f"{len(unknown)} labels are not the task's: training did not see them",
            listed(f"{name!r:.60}: {_lines(lines)}" for name, lines in sorted(unknown.items())),
            f"The task knows {known}. Name every label in task.labels, or remove these rows.",
        )
    return found


def _lines(lines: Sequence[int]) -> str:
    named = ", ".join(map(str, lines[:5])) + (", …" if len(lines) > 5 else "")
    return f"on {len(lines)} lines ({named})" if len(lines) > 1 else f"on line {named}"


def class_weights(wanted: Wanted, labels: Sequence[str], classes: Sequence[int]) -> list[float]:
    """One weight per class. "balanced": n / (C · count), as scikit-learn defines it; 1 for a class without rows."""
    if wanted == "balanced":
        counts = Counter(classes)
        return [len(classes) / (len(labels) * counts[place]) if counts[place] else 1.0 for place in range(len(labels))]
    return _named(wanted, labels)


def positive_weights(wanted: Wanted, labels: Sequence[str], hot_NC: NDArray[Any]) -> list[float]:
    """One weight per label for its positive terms. "balanced": negatives / positives; 1 for a label without rows."""
    if wanted == "balanced":
        positives_C = hot_NC.sum(axis=0)
        return [float((len(hot_NC) - count) / count) if 0 < count < len(hot_NC) else 1.0 for count in positives_C]
    return _named(wanted, labels)


def _named(wanted: Mapping[str, float], labels: Sequence[str]) -> list[float]:
    problems = [f"training.class_weights.{name}: not a label" for name in wanted if name not in labels]
    problems += [
        f"training.class_weights.{name}: found {weight}, expected a finite number above 0"
        for name, weight in wanted.items()
        if not (math.isfinite(weight) and weight > 0)
    ]
    if problems:
        raise RecipeError("class weights do not fit the labels", problems, f"Labels: {', '.join(labels)}")
    return [float(wanted.get(label, 1.0)) for label in labels]
