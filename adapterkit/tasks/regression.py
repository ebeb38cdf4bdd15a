"""One number or several for every text."""

# Axes: B rows of a batch, N rows, C classes or targets.

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor

from adapterkit.errors import DataError
from adapterkit.metrics import Compared, compare_numbers
from adapterkit.tasks.checked_rows import listed
from adapterkit.tasks.labels import number
from adapterkit.tasks.losses import squared_error
from adapterkit.tasks.text_problem import TextProblem, items_of
from adapterkit.tasks.values import Loss

MOST_TARGETS = 10_000
"""Numbers per row, at most; a stored task is not trusted beyond."""
LARGEST = float(np.finfo(np.float32).max)
"""What is learned and answered is a float32, and the square of a larger one need not be a number in any format."""


class Regression(TextProblem):
    """One number or several for every text."""

    name = "regression"
    fewest_labels = 0

    @classmethod
    def learned(cls, values: Sequence[Any], places: Sequence[str], given: Sequence[str] | None) -> Self:
        widths = [
            (len(items_of(value)), place)
            for value, place in zip(values, places, strict=True)
            if all(number(item) is not None for item in items_of(value))
        ]
        if not widths or not widths[0][0]:
            raise DataError("no training row has a number as its label", remedy="Check data.columns.label.")
        other = [f"{place}: {width}, expected {widths[0][0]}" for width, place in widths if width != widths[0][0]]
        if other:
            raise DataError("rows have different numbers of targets", listed(other))
        return cls((), widths[0][0])

    def inconsistencies(self) -> list[str]:
        problems = ["labels: found names, expected none (regression)"] if self.labels else []
        if not 1 <= self.targets <= MOST_TARGETS:
            problems.append(f"targets: found {self.targets} ({self.name})")
        return problems

    def misfit(self, value: Any) -> str | None:
        items = items_of(value)
        if any(number(item) is None for item in items):
            return f"label {value!r:.40} is not a number"
        if any(abs(number(item) or 0.0) > LARGEST for item in items):
            return f"label {value!r:.40} is beyond float32, whose largest number is {LARGEST:.2g}"
        if self.targets and len(items) != self.targets:
            return f"label has {len(items)} numbers, expected {self.targets}"
        return None

    def read(self, values: Sequence[Any], places: Sequence[str]) -> list[Any]:
        return [[number(item) for item in items_of(value)] for value in values]

    def loss(self, logits_BC: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> Loss:
        return squared_error(logits_BC, labels)

    def telling_metric(self, read: Sequence[Any], wanted: str) -> tuple[str, str]:
        if wanted != "mse" and np.all(np.ptp(np.asarray(read), axis=0) == 0):
            return "mse", "all have the same numbers, with which nothing correlates"
        return wanted, ""

    def answer(self, values: Sequence[float]) -> tuple[dict[str, Any], None]:
        return {"value": values[0]} if self.targets == 1 else {"values": list(values)}, None

    def compared(self, read: Sequence[Any], predicted_NC: Any) -> Compared:
        return compare_numbers(read, predicted_NC)
