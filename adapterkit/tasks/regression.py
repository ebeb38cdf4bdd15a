"""One number or several for every text."""

# Axes: B rows of a batch, N rows, C classes or targets.

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor

from adapterkit.errors import DataError
from adapterkit.metrics import Metric
from adapterkit.metrics import classification as scores
from adapterkit.tasks.checked_rows import listed
from adapterkit.tasks.labels import number
from adapterkit.tasks.losses import squared_error
from adapterkit.tasks.text_problem import TextProblem, items_of
from adapterkit.tasks.values import Faults, Loss

MOST_TARGETS = 10_000
"""Numbers per row, at most; a stored task is not trusted beyond."""
LARGEST = float(np.finfo(np.float32).max)
"""What is learned and answered is a float32, and the square of a larger one need not be a number in any format."""


class Regression(TextProblem):
    """One number or several for every text."""

    name = "regression"
    fewest_labels = 0
    weighs = False

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

    @classmethod
    def sample(cls, names: Sequence[str], count: int) -> list[Any]:
        return [0.5] * count

    def inconsistencies(self) -> list[str]:
        problems = ["labels: found names, expected none (regression)"] if self.labels else []
        if not 1 <= self.targets <= MOST_TARGETS:
            problems.append(f"targets: found {self.targets} ({self.name})")
        return problems

    @property
    def classes(self) -> int:
        return self.targets

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

    def counts(self, read: Sequence[Any]) -> dict[str, int]:
        return {}

    def telling_metric(self, read: Sequence[Any], wanted: str) -> tuple[str, str]:
        if wanted != "mse" and np.all(np.ptp(np.asarray(read), axis=0) == 0):
            return "mse", "all have the same numbers, with which nothing correlates"
        return wanted, ""

    def answer(self, values: Sequence[float]) -> dict[str, Any]:
        return {"value": values[0]} if self.targets == 1 else {"values": list(values)}

    def faults(self, read: Sequence[Any], predicted_NC: Any) -> Faults:
        right_NC = np.asarray(read)
        off_N = np.abs(right_NC - predicted_NC).mean(axis=1)
        if self.targets > 1:
            return Faults(badness=off_N.tolist())
        edges = np.unique(np.quantile(right_NC[:, 0], (0, 0.25, 0.5, 0.75, 1)))
        found_N = np.clip(np.searchsorted(edges, right_NC[:, 0], side="right") - 1, 0, max(0, len(edges) - 2))
        groups = []
        for place in np.unique(found_N):
            inside_N = found_N == place
            name = f"{edges[place]:.4g} to {edges[min(place + 1, len(edges) - 1)]:.4g}"
            groups.append((name, float(off_N[inside_N].mean()), int(inside_N.sum())))
        return Faults((), "right number", "mean absolute error", groups, off_N.tolist())

    def score(self, read: Sequence[Any], predicted_NC: Any, resamples: int, seed: int) -> dict[str, Metric]:
        return scores.regression(np.asarray(read), predicted_NC, resamples, seed)
