"""Any number of labels for every text, written as names or as a 0 or 1 for each label."""

# Axes: B rows of a batch, N rows, C classes or targets.

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor

from adapterkit.errors import DataError
from adapterkit.metrics import Compared, compare_sets
from adapterkit.tasks.checked_rows import listed
from adapterkit.tasks.labels import NO_LABEL, find_classes, label_name, learn_labels, number, stands_for_none
from adapterkit.tasks.losses import binary_cross_entropy
from adapterkit.tasks.text_problem import MULTI_HOT, NAMES, TextProblem
from adapterkit.tasks.values import Loss

SHOWN = 10

HOW_TO_LIST = 'write a list (["a", "b"]), or name what separates the labels of a cell (task.label_separator: "|")'
"""The two ways of giving several labels."""

THRESHOLD = 0.5
"""A label of a multi-label text is given where its probability is at least this."""


class MultiLabel(TextProblem):
    """Any number of names for every text."""

    name = "multi-label"
    fewest_labels = 1
    forms = (NAMES, MULTI_HOT)

    @classmethod
    def learned(cls, values: Sequence[Any], places: Sequence[str], given: Sequence[str] | None) -> Self:
        unread = cls()
        rows = [(value, place) for value, place in zip(values, places, strict=True) if not unread._says_nothing(value)]
        lists = [value for value, _ in rows]
        if is_multi_hot(lists, None if given is None else len(given)):
            names = map(str, range(len(lists[0]))) if given is None else given
            return cls(tuple(names), form=MULTI_HOT, given=given is not None)
        repeating = [f"{place}: {value!r:.60}" for value, place in rows if _repeats_a_number(value)]
        if repeating:
            raise DataError(
                "rows have one number several times, so that the numbers are no labels",
                listed(repeating),
                f"A 0 or 1 for every label needs as many in every row{_expected(given)}; numbers to be learned as"
                " numbers need task.problem: regression.",
            )
        labels = learn_labels([label_name(item) for value in lists for item in value], given)
        if not labels:
            raise DataError(f"none of the {len(values)} training rows has a label", remedy="Check data.columns.label.")
        return cls(labels, given=given is not None)

    def misfit(self, value: Any) -> str | None:
        if not isinstance(value, list):
            return f"label {value!r:.40} is no list; {HOW_TO_LIST}"
        if any(isinstance(item, float) and not item.is_integer() for item in value):
            return f"label {value!r:.40} holds a fraction, expected names, or a 0 or 1 for every label"
        if self._says_nothing(value):
            return f"label {value!r:.40} stands for 'no label', unless task.labels names it"
        if self.form == MULTI_HOT:
            if self._is_hot(value) or not any(number(item) is not None for item in value):
                return None
            return f"label {value!r:.40} is no list of {self.classes} zeros and ones, as in training"
        if _repeats_a_number(value):
            return f"label {value!r:.40} has a number twice; in training a row's list named its labels"
        return None

    def read(self, values: Sequence[Any], places: Sequence[str]) -> list[Any]:
        if self.form == MULTI_HOT:
            values = [self._named(value) if self._is_hot(value) else value for value in values]
        kept = [[item for item in value if not stands_for_none(item, self.labels)] for value in values]
        found = find_classes(kept, self.labels, places, self.labels if self.given else None)
        return [[float(place in row) for place in range(self.classes)] for row in found]

    def _says_nothing(self, value: Any) -> bool:
        """Whether a label is no list, or one that says that there is none."""
        if not isinstance(value, list):
            return True
        return len(value) > 0 and all(stands_for_none(item, self.labels) for item in value)

    def _is_hot(self, value: Sequence[Any]) -> bool:
        return len(value) == self.classes and all(number_of(item) in (0.0, 1.0) for item in value)

    def _named(self, value: Sequence[Any]) -> list[str]:
        return [name for name, item in zip(self.labels, value, strict=True) if number_of(item)]

    def notes(self, values: Sequence[Any]) -> list[str]:
        notes = []
        if self.form == MULTI_HOT:
            names = ", ".join(self.labels[:SHOWN]) + (", …" if self.classes > SHOWN else "")
            notes.append(f"every label is a list of {self.classes} zeros and ones, read as one for each of: {names}")
            if not self.given:
                notes[-1] += "; task.labels names them"
        dropped = Counter(label_name(item) for value in values for item in value if stands_for_none(item, self.labels))
        for name, count in sorted(dropped.items()):
            notes.append(f"{name} stands {count:,} times in lists of labels, and is read as no label")
        return notes

    def telling_metric(self, read: Sequence[Any], wanted: str) -> tuple[str, str]:
        if wanted != "exact_match" and not np.any(read):
            return "exact_match", "no row has a label, so that every state has an F1 of 0"
        return wanted, ""

    def loss(self, logits_BC: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> Loss:
        return binary_cross_entropy(logits_BC, labels, weights)

    def counts(self, read: Sequence[Any]) -> dict[str, int]:
        return dict(zip(self.labels, np.asarray(read).sum(axis=0).astype(int).tolist(), strict=True))

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        return logits_BC.sigmoid()

    def answer(self, values: Sequence[float]) -> tuple[dict[str, Any], float]:
        probabilities = dict(zip(self.labels, values, strict=True))
        chosen = [label for label, probability in probabilities.items() if probability >= THRESHOLD]
        whole = math.prod(max(value, 1 - value) for value in values)
        return {"labels": chosen, "probabilities": probabilities}, whole

    def compared(self, read: Sequence[Any], predicted_NC: Any) -> Compared:
        return compare_sets(self.labels, read, predicted_NC, THRESHOLD)


def is_multi_hot(values: Sequence[Sequence[Any]], labels: int | None) -> bool:
    """Whether lists of labels hold a 0 or 1 for every label: all of one length, and nothing else in any.
    `labels`: how many there are, where that is known; else two at least."""
    lengths = set(map(len, values))
    if len(lengths) != 1 or (lengths != {labels} if labels is not None else min(lengths) < 2):
        return False
    return all(number_of(item) in (0.0, 1.0) for value in values for item in value)


def number_of(item: Any) -> float | None:
    """A number, true and false among them."""
    return float(item) if isinstance(item, bool) else number(item)


def _repeats_a_number(value: Sequence[Any]) -> bool:
    written = [label_name(item) for item in value if number_of(item) is not None]
    kept = [name for name in written if name not in NO_LABEL]
    return len(set(kept)) < len(kept)


def _expected(given: Sequence[str] | None) -> str:
    return "" if given is None else f", here the {len(given)} of task.labels"
