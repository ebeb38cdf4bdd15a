"""Text classification: one label per text or text pair, several labels, or numbers (regression)."""

# Axes: B rows of a batch, N rows, C classes or targets.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from adapterkit.errors import DataError
from adapterkit.metrics import Metric
from adapterkit.metrics import classification as scores
from adapterkit.recipe.columns import COLUMNS, Column
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks.checked_rows import Cuts, listed, numbers_of, text_problem, usable_indices
from adapterkit.tasks.encoding import encode_texts, longest, pad_inputs
from adapterkit.tasks.labels import class_weights, find_classes, label_name, learn_labels, number, positive_weights
from adapterkit.tasks.losses import binary_cross_entropy, cross_entropy, squared_error
from adapterkit.tasks.protocol import (
    Batch,
    Encoded,
    Feature,
    Loss,
    Purpose,
    Row,
    Task,
    Vocabulary,
    reject_class_weights,
    reject_label_smoothing,
)

THRESHOLD = 0.5
"""A label of a multi-label text is given where its probability is at least this."""

MOST_TARGETS = 10_000
"""Numbers per row of a regression, at most; a stored task is not trusted beyond."""


@dataclass(frozen=True)
class TextClassification(Task):
    """Labels or numbers for whole texts.

    Attributes:
        settings, labels, problem: see `Task`.
        targets: numbers per row of a regression, else 0.
    """

    kind: ClassVar[str] = "text-classification"
    columns: ClassVar[Mapping[str, Column]] = COLUMNS["text-classification"]
    metric_directions: ClassVar[Mapping[str, bool]] = scores.DIRECTIONS

    settings: TaskSettings
    labels: tuple[str, ...] = ()
    problem: str = "single-label"
    targets: int = 0

    @classmethod
    def prepare(cls, settings: TaskSettings, rows: Sequence[Row]) -> TextClassification:
        unread = cls(settings)
        usable = usable_indices(rows, lambda row: unread._text_problem(row) or _label_problem(row.get("label")))
        values = [rows[index]["label"] for index in usable]
        numbers = [numbers_of(rows)[index] for index in usable]
        problem = settings.problem if settings.problem != "auto" else _detect(values, numbers)
        if problem == "regression":
            return cls(settings, (), problem, _targets(values, numbers))
        learned = cls(settings, (), problem)
        fitting = [value for value in values if learned._misfit(value) is None]
        lists = fitting if problem == "multi-label" else [[value] for value in fitting]
        labels = learn_labels([label_name(item) for value in lists for item in value], settings.labels)
        if problem == "single-label" and len(labels) < 2:
            raise DataError(
                "text classification needs at least two labels",
                [f"label: found {', '.join(map(repr, labels)) or 'none'} in all {len(values)} training rows"],
                "Check data.columns.label, or name all labels in task.labels.",
            )
        if not labels:
            raise DataError(f"none of the {len(values)} training rows has a label", remedy="Check data.columns.label.")
        return cls(settings, labels, problem)

    def inconsistencies(self) -> list[str]:
        problems = super().inconsistencies()
        fewest = {"single-label": 2, "multi-label": 1, "regression": 0}.get(self.problem)
        if fewest is None:
            problems.append(f"problem: found {self.problem!r:.40}, expected one of {', '.join(scores.NAMES)}")
        elif len(self.labels) < fewest:
            problems.append(f"labels: found {len(self.labels)}, expected at least {fewest} ({self.problem})")
        numbers = self.problem == "regression"
        if numbers and self.labels:
            problems.append("labels: found names, expected none (regression)")
        if not (1 <= self.targets <= MOST_TARGETS if numbers else self.targets == 0):
            problems.append(f"targets: found {self.targets} ({self.problem})")
        return problems

    @property
    def classes(self) -> int:
        return self.targets if self.problem == "regression" else len(self.labels)

    @property
    def metrics(self) -> tuple[str, ...]:
        return scores.NAMES[self.problem]

    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        problem = self._text_problem(row)
        if problem or (purpose == "predict" and row.get("label") is None):
            return problem
        value = row.get("label")
        return _label_problem(value) or (None if purpose == "predict" else self._misfit(value))

    def encode(self, rows: Sequence[Row], vocabulary: Vocabulary, purpose: Purpose = "train") -> Encoded:
        labels = [None] * len(rows) if purpose == "predict" else self._labels(rows)
        limit = longest(self.settings, vocabulary)
        encoded = encode_texts(vocabulary, [row["text"] for row in rows], [row.get("text_pair") for row in rows], limit)
        cuts = Cuts(rows)
        features = []
        for index, ((tokens, lost), label) in enumerate(zip(encoded, labels, strict=True)):
            cuts.add(index, lost)
            features.append(Feature(index, index, tokens, label, len(tokens["input_ids"])))
        return cuts.encoded(features)

    def collate(
        self,
        features: Sequence[Feature],
        vocabulary: Vocabulary,
        *,
        seed: int | None = None,
        epoch: int = 0,
        multiple: int = 1,
    ) -> Batch:
        labels = None
        if all(feature.labels is not None for feature in features):
            dtype = torch.long if self.problem == "single-label" else torch.float32
            labels = torch.tensor([feature.labels for feature in features], dtype=dtype)
        inputs = pad_inputs([feature.inputs for feature in features], vocabulary, multiple)
        return Batch(inputs, labels, features, vocabulary)

    def loss(
        self, logits: Any, batch: Batch, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> Loss:
        if self.problem == "single-label":
            return cross_entropy(logits, batch.labels, label_smoothing, class_weights)
        reject_label_smoothing(self, label_smoothing)
        if self.problem == "multi-label":
            return binary_cross_entropy(logits, batch.labels, class_weights)
        reject_class_weights(self, class_weights)
        return squared_error(logits, batch.labels)

    def class_weights(
        self, wanted: Mapping[str, float] | Literal["balanced"] | None, rows: Sequence[Row]
    ) -> list[float] | None:
        """Single-label: weights of the cross-entropy. Multi-label: weights of the positive terms of each label."""
        if wanted is None or self.problem == "regression":
            return super().class_weights(wanted, rows)
        if self.problem == "single-label":
            return class_weights(wanted, self.labels, [int(label) for label in self._labels(rows)])
        return positive_weights(wanted, self.labels, np.asarray(self._labels(rows)))

    def label_counts(self, rows: Sequence[Row]) -> dict[str, int]:
        if self.problem == "regression":
            return {}
        found = self._labels(rows)
        hot_NC = np.eye(self.classes)[found] if self.problem == "single-label" else np.asarray(found)
        return dict(zip(self.labels, hot_NC.sum(axis=0).astype(int).tolist(), strict=True))

    def outputs(self, logits: Any, batch: Batch) -> list[Any]:
        """Per feature (C,): probabilities, or the predicted numbers."""
        logits_BC = logits.detach().float()
        if self.problem == "single-label":
            logits_BC = logits_BC.softmax(dim=-1)
        elif self.problem == "multi-label":
            logits_BC = logits_BC.sigmoid()
        return list(logits_BC.cpu().numpy())

    def predictions(
        self, rows: Sequence[Row], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> list[dict[str, Any]]:
        return [self._answer(output) for output in outputs]

    def score(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Any],
        *,
        resamples: int = 1000,
        seed: int = 0,
    ) -> dict[str, Metric]:
        labels = self._labels(rows)
        predicted_NC = np.asarray(outputs, dtype=np.float64).reshape(len(rows), self.classes)
        if self.problem == "single-label":
            return scores.single_label(labels, predicted_NC.argmax(axis=1), self.classes, resamples, seed)
        if self.problem == "multi-label":
            return scores.multi_label(np.asarray(labels), predicted_NC >= THRESHOLD, resamples, seed)
        return scores.regression(np.asarray(labels), predicted_NC, resamples, seed)

    def _answer(self, output: Any) -> dict[str, Any]:
        values = [float(value) for value in output]
        if self.problem == "regression":
            return {"value": values[0]} if self.targets == 1 else {"values": values}
        probabilities = dict(zip(self.labels, values, strict=True))
        if self.problem == "multi-label":
            chosen = [label for label, probability in probabilities.items() if probability >= THRESHOLD]
            return {"labels": chosen, "probabilities": probabilities}
        best = int(np.argmax(output))
        return {"label": self.labels[best], "score": values[best], "probabilities": probabilities}

    def _labels(self, rows: Sequence[Row]) -> list[Any]:
        """One class, one 0/1 vector, or one list of numbers per row. Raises DataError for labels unknown or unfit."""
        numbers = numbers_of(rows)
        values = [row.get("label") for row in rows]
        unfit = [
            f"line {numbers[index]}: {problem}"
            for index, value in enumerate(values)
            if (problem := _label_problem(value) or self._misfit(value)) is not None
        ]
        if unfit:
            raise DataError(f"{len(unfit)} rows have no usable label", listed(unfit))
        if self.problem == "regression":
            return [[number(item) for item in (value if isinstance(value, list) else [value])] for value in values]
        if self.problem == "single-label":
            return [found for (found,) in find_classes([[value] for value in values], self.labels, numbers)]
        hot = []
        for found in find_classes([value or [] for value in values], self.labels, numbers):
            hot.append([float(place in found) for place in range(len(self.labels))])
        return hot

    def _text_problem(self, row: Row) -> str | None:
        return text_problem(row, "text", *(["text_pair"] if row.get("text_pair") is not None else []))

    def _misfit(self, value: Any) -> str | None:
        """Why a label does not fit the problem; None where it does."""
        if self.problem == "multi-label":
            return None if isinstance(value, list) else f"label {value!r:.40} is not a list, expected a list of labels"
        if self.problem == "single-label":
            return f"label {value!r:.40} is a list, expected one label" if isinstance(value, list) else None
        items = value if isinstance(value, list) else [value]
        if any(number(item) is None for item in items):
            return f"label {value!r:.40} is not a number"
        if self.targets and len(items) != self.targets:
            return f"label has {len(items)} numbers, expected {self.targets}"
        return None


def _label_problem(value: Any) -> str | None:
    """Why a value cannot be any kind of label."""
    if value is None:
        return "no label"
    for item in value if isinstance(value, list) else [value]:
        if item is None or not isinstance(item, str | int | float):
            return f"label {item!r:.40} is {type(item).__name__}, expected text or a number"
        if isinstance(item, float) and not np.isfinite(item):
            return f"label is {item}, expected a finite number"
        if isinstance(item, str) and not item.strip():
            return "label is blank"
    return None


def _fraction(value: Any) -> bool:
    found = number(value)
    return found is not None and not found.is_integer()


def _detect(values: Sequence[Any], numbers: Sequence[int]) -> str:
    """A list per row is multi-label (regression if it holds fractions), a number with a fraction is regression."""
    lists = [isinstance(value, list) for value in values]
    if any(lists) and not all(lists):
        first = [numbers[lists.index(wanted)] for wanted in (True, False)]
        raise DataError(
            "labels are of two forms",
            [f"line {first[0]}: a list of labels", f"line {first[1]}: a single label"],
            "Give every row a list, or every row one label.",
        )
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if all(number(item) is not None for item in items) and any(map(_fraction, items)):
        return "regression"
    return "multi-label" if any(lists) else "single-label"


def _targets(values: Sequence[Any], numbers: Sequence[int]) -> int:
    """Numbers per row of a regression. Raises DataError where rows differ, or no row holds a number."""
    widths = [
        (len(value) if isinstance(value, list) else 1, line)
        for value, line in zip(values, numbers, strict=True)
        if all(number(item) is not None for item in (value if isinstance(value, list) else [value]))
    ]
    if not widths or not widths[0][0]:
        raise DataError("no training row has a number as its label", remedy="Check data.columns.label.")
    other = [f"line {line}: {width}, expected {widths[0][0]}" for width, line in widths if width != widths[0][0]]
    if other:
        raise DataError("rows have different numbers of targets", listed(other))
    return widths[0][0]
