"""One label for every text."""

# Axes: B rows of a batch, N rows, C classes or targets.

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from adapterkit.errors import DataError
from adapterkit.metrics import Compared, compare_classes
from adapterkit.tasks.labels import NO_LABEL, find_classes, is_whole, label_name, learn_labels, stands_for_none
from adapterkit.tasks.losses import cross_entropy
from adapterkit.tasks.text_problem import TextProblem
from adapterkit.tasks.values import Loss

FEWEST_RATINGS = 3
"""Whole numbers in a row that may be a scale, at least."""


class SingleLabel(TextProblem):
    """One name for every text."""

    name = "single-label"
    fewest_labels = 2
    dtype = torch.long

    @classmethod
    def learned(cls, values: Sequence[Any], places: Sequence[str], given: Sequence[str] | None) -> Self:
        found = [label_name(value) for value in values if not isinstance(value, list)]
        labels = learn_labels(found, given)
        if len(labels) < cls.fewest_labels:
            left_out = [name for name in NO_LABEL if name in found]
            raise DataError(
                "text classification needs at least two labels",
                [
                    f"label: found {', '.join(map(repr, labels)) or 'none'} in all {len(values)} training rows",
                    *(f"label {name}: stands for 'no label' unless task.labels names it" for name in left_out),
                ],
                "Check data.columns.label, or name all labels in task.labels.",
            )
        return cls(labels, given=given is not None)

    def misfit(self, value: Any) -> str | None:
        if isinstance(value, list):
            return f"label {value!r:.40} is a list, expected one label"
        if stands_for_none(value, self.labels):
            return f"label {label_name(value)} stands for 'no label', unless task.labels names it"
        return None

    def read(self, values: Sequence[Any], places: Sequence[str]) -> list[Any]:
        given = self.labels if self.given else None
        return [found for (found,) in find_classes([[value] for value in values], self.labels, places, given)]

    def notes(self, values: Sequence[Any]) -> list[str]:
        if self.given or not all(map(is_whole, self.labels)):
            return []
        places = [int(name) for name in self.labels]
        if places[0] < 1 or places != list(range(places[0], places[0] + len(places))) or len(places) < FEWEST_RATINGS:
            return []
        shown = f"the labels are the whole numbers {places[0]} to {places[-1]}"
        ratings = "where they are ratings, task.problem: regression learns them as numbers"
        return [f"{shown}, and are learned as {len(places)} classes without an order; {ratings}"]

    def telling_metric(self, read: Sequence[Any], wanted: str) -> tuple[str, str]:
        if wanted == "mcc" and len(set(read)) < 2:
            return "accuracy", "they have one label only, of which every state has an MCC of 0"
        return wanted, ""

    def loss(self, logits_BC: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> Loss:
        return cross_entropy(logits_BC, labels, smoothing, weights)

    def counts(self, read: Sequence[Any]) -> dict[str, int]:
        return dict(zip(self.labels, np.bincount(read, minlength=self.classes).tolist(), strict=True))

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        return logits_BC.softmax(dim=-1)

    def answer(self, values: Sequence[float]) -> tuple[dict[str, Any], float]:
        score = max(values)
        probabilities = dict(zip(self.labels, values, strict=True))
        return {"label": self.labels[values.index(score)], "score": score, "probabilities": probabilities}, score

    def compared(self, read: Sequence[Any], predicted_NC: Any) -> Compared:
        return compare_classes(self.labels, read, predicted_NC)
