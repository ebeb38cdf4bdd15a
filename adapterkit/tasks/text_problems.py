"""What the labels of whole texts can be: one name, several, or numbers; each with its loss, answers and scores."""

# Axes: B rows of a batch, N rows, C classes or targets.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from adapterkit.errors import DataError
from adapterkit.metrics import Metric
from adapterkit.metrics import classification as scores
from adapterkit.tasks.checked_rows import listed
from adapterkit.tasks.labels import (
    Wanted,
    class_weights,
    find_classes,
    label_name,
    learn_labels,
    number,
    positive_weights,
)
from adapterkit.tasks.losses import binary_cross_entropy, cross_entropy, squared_error
from adapterkit.tasks.values import Loss

THRESHOLD = 0.5
"""A label of a multi-label text is given where its probability is at least this."""

MOST_TARGETS = 10_000
"""Numbers per row of a regression, at most; a stored task is not trusted beyond."""


@dataclass(frozen=True)
class TextProblem(ABC):
    """How the labels of one task are read, learned and scored.

    Attributes:
        labels: names in class order; empty for a regression.
        targets: numbers per row of a regression, else 0.
        smooths, weighs: whether label smoothing and class weights mean something here.
    """

    name: ClassVar[str]
    fewest_labels: ClassVar[int]
    dtype: ClassVar[torch.dtype] = torch.float32
    smooths: ClassVar[bool] = False
    weighs: ClassVar[bool] = True

    labels: tuple[str, ...] = ()
    targets: int = 0

    @classmethod
    @abstractmethod
    def learned(cls, values: Sequence[Any], numbers: Sequence[int], given: Sequence[str] | None) -> TextProblem:
        """The problem that the labels of training rows pose. Raises DataError where there is nothing to learn."""

    @classmethod
    @abstractmethod
    def sample(cls, names: Sequence[str], count: int) -> list[Any]:
        """`count` labels, every name among them where count allows."""

    def inconsistencies(self) -> list[str]:
        """What `learned` can never have made."""
        problems = []
        if len(self.labels) < self.fewest_labels:
            problems.append(f"labels: found {len(self.labels)}, expected at least {self.fewest_labels} ({self.name})")
        if self.targets:
            problems.append(f"targets: found {self.targets} ({self.name})")
        return problems

    @property
    def classes(self) -> int:
        """Number of logits."""
        return len(self.labels)

    @abstractmethod
    def misfit(self, value: Any) -> str | None:
        """Why a label does not fit the problem; None where it does."""

    @abstractmethod
    def read(self, values: Sequence[Any], numbers: Sequence[int]) -> list[Any]:
        """What the loss takes for each label that fits. Raises DataError for labels that training did not see."""

    @abstractmethod
    def loss(self, logits_BC: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> Loss:
        """The loss of transformers' class for the problem."""

    def weights(self, wanted: Wanted, read: Sequence[Any]) -> list[float]:
        """One weight per label."""
        raise NotImplementedError

    @abstractmethod
    def counts(self, read: Sequence[Any]) -> dict[str, int]:
        """How often each label is an answer."""

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        """Probabilities, or the predicted numbers."""
        return logits_BC

    @abstractmethod
    def answer(self, values: Sequence[float]) -> dict[str, Any]:
        """The JSON-able answer of a row from what `probabilities` gives."""

    @abstractmethod
    def score(self, read: Sequence[Any], predicted_NC: Any, resamples: int, seed: int) -> dict[str, Metric]:
        """The metrics of the problem, main one first."""


class SingleLabel(TextProblem):
    """One name for every text."""

    name = "single-label"
    fewest_labels = 2
    dtype = torch.long
    smooths = True

    @classmethod
    def learned(cls, values: Sequence[Any], numbers: Sequence[int], given: Sequence[str] | None) -> SingleLabel:
        problem = cls()
        labels = learn_labels([label_name(value) for value in values if problem.misfit(value) is None], given)
        if len(labels) < cls.fewest_labels:
            raise DataError(
                "text classification needs at least two labels",
                [f"label: found {', '.join(map(repr, labels)) or 'none'} in all {len(values)} training rows"],
                "Check data.columns.label, or name all labels in task.labels.",
            )
        return cls(labels)

    @classmethod
    def sample(cls, names: Sequence[str], count: int) -> list[Any]:
        return [names[place % len(names)] for place in range(count)]

    def misfit(self, value: Any) -> str | None:
        return f"label {value!r:.40} is a list, expected one label" if isinstance(value, list) else None

    def read(self, values: Sequence[Any], numbers: Sequence[int]) -> list[Any]:
        return [found for (found,) in find_classes([[value] for value in values], self.labels, numbers)]

    def loss(self, logits_BC: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> Loss:
        return cross_entropy(logits_BC, labels, smoothing, weights)

    def weights(self, wanted: Wanted, read: Sequence[Any]) -> list[float]:
        return class_weights(wanted, self.labels, read)

    def counts(self, read: Sequence[Any]) -> dict[str, int]:
        return dict(zip(self.labels, np.bincount(read, minlength=self.classes).tolist(), strict=True))

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        return logits_BC.softmax(dim=-1)

    def answer(self, values: Sequence[float]) -> dict[str, Any]:
        best = int(np.argmax(values))
        probabilities = dict(zip(self.labels, values, strict=True))
        return {"label": self.labels[best], "score": values[best], "probabilities": probabilities}

    def score(self, read: Sequence[Any], predicted_NC: Any, resamples: int, seed: int) -> dict[str, Metric]:
        return scores.single_label(read, predicted_NC.argmax(axis=1), self.classes, resamples, seed)


class MultiLabel(TextProblem):
    """Any number of names for every text."""

    name = "multi-label"
    fewest_labels = 1

    @classmethod
    def learned(cls, values: Sequence[Any], numbers: Sequence[int], given: Sequence[str] | None) -> MultiLabel:
        problem = cls()
        names = [label_name(item) for value in values if problem.misfit(value) is None for item in value]
        labels = learn_labels(names, given)
        if not labels:
            raise DataError(f"none of the {len(values)} training rows has a label", remedy="Check data.columns.label.")
        return cls(labels)

    @classmethod
    def sample(cls, names: Sequence[str], count: int) -> list[Any]:
        return [[name] for name in SingleLabel.sample(names, count)]

    def misfit(self, value: Any) -> str | None:
        return None if isinstance(value, list) else f"label {value!r:.40} is not a list, expected a list of labels"

    def read(self, values: Sequence[Any], numbers: Sequence[int]) -> list[Any]:
        found = find_classes([value or [] for value in values], self.labels, numbers)
        return [[float(place in row) for place in range(self.classes)] for row in found]

    def loss(self, logits_BC: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> Loss:
        return binary_cross_entropy(logits_BC, labels, weights)

    def weights(self, wanted: Wanted, read: Sequence[Any]) -> list[float]:
        """Weights of the positive terms of each label."""
        return positive_weights(wanted, self.labels, np.asarray(read))

    def counts(self, read: Sequence[Any]) -> dict[str, int]:
        return dict(zip(self.labels, np.asarray(read).sum(axis=0).astype(int).tolist(), strict=True))

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        return logits_BC.sigmoid()

    def answer(self, values: Sequence[float]) -> dict[str, Any]:
        probabilities = dict(zip(self.labels, values, strict=True))
        chosen = [label for label, probability in probabilities.items() if probability >= THRESHOLD]
        return {"labels": chosen, "probabilities": probabilities}

    def score(self, read: Sequence[Any], predicted_NC: Any, resamples: int, seed: int) -> dict[str, Metric]:
        return scores.multi_label(np.asarray(read), predicted_NC >= THRESHOLD, resamples, seed)


class Regression(TextProblem):
    """One number or several for every text."""

    name = "regression"
    fewest_labels = 0
    weighs = False

    @classmethod
    def learned(cls, values: Sequence[Any], numbers: Sequence[int], given: Sequence[str] | None) -> Regression:
        widths = [
            (len(_items(value)), line)
            for value, line in zip(values, numbers, strict=True)
            if all(number(item) is not None for item in _items(value))
        ]
        if not widths or not widths[0][0]:
            raise DataError("no training row has a number as its label", remedy="Check data.columns.label.")
        other = [f"line {line}: {width}, expected {widths[0][0]}" for width, line in widths if width != widths[0][0]]
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
        items = _items(value)
        if any(number(item) is None for item in items):
            return f"label {value!r:.40} is not a number"
        if self.targets and len(items) != self.targets:
            return f"label has {len(items)} numbers, expected {self.targets}"
        return None

    def read(self, values: Sequence[Any], numbers: Sequence[int]) -> list[Any]:
        return [[number(item) for item in _items(value)] for value in values]

    def loss(self, logits_BC: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> Loss:
        return squared_error(logits_BC, labels)

    def counts(self, read: Sequence[Any]) -> dict[str, int]:
        return {}

    def answer(self, values: Sequence[float]) -> dict[str, Any]:
        return {"value": values[0]} if self.targets == 1 else {"values": list(values)}

    def score(self, read: Sequence[Any], predicted_NC: Any, resamples: int, seed: int) -> dict[str, Metric]:
        return scores.regression(np.asarray(read), predicted_NC, resamples, seed)


PROBLEMS: Mapping[str, type[TextProblem]] = MappingProxyType(
    {problem.name: problem for problem in (SingleLabel, MultiLabel, Regression)}
)


def detect(values: Sequence[Any], numbers: Sequence[int]) -> type[TextProblem]:
    """A list per row is multi-label (regression if it holds fractions), a number with a fraction is regression."""
    lists = [isinstance(value, list) for value in values]
    if any(lists) and not all(lists):
        first = [numbers[lists.index(wanted)] for wanted in (True, False)]
        raise DataError(
            "labels are of two forms",
            [f"line {first[0]}: a list of labels", f"line {first[1]}: a single label"],
            "Give every row a list, or every row one label.",
        )
    read = [number(item) for value in values for item in _items(value)]
    if all(found is not None for found in read) and any(found is not None and not found.is_integer() for found in read):
        return Regression
    return MultiLabel if any(lists) else SingleLabel


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
