"""Text classification: one label per text or text pair, several labels, or numbers (regression)."""

# Axes: B rows of a batch, N rows, C classes or targets.

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle, islice
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from adapterkit.errors import DataError, RecipeError
from adapterkit.metrics import Compared
from adapterkit.metrics import classification as scores
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks.as_json import OPTIONAL
from adapterkit.tasks.checked_rows import (
    check,
    encoded_whole,
    is_missing,
    listed,
    optional_text,
    places_of,
    refuse_rows,
    text_problem,
)
from adapterkit.tasks.confident import ConfidentTask
from adapterkit.tasks.encoding import encode_texts, longest
from adapterkit.tasks.labels import number, split_cell
from adapterkit.tasks.multi_label import MultiLabel
from adapterkit.tasks.protocol import SAMPLE_TEXTS
from adapterkit.tasks.regression import Regression
from adapterkit.tasks.single_label import SingleLabel
from adapterkit.tasks.text_problem import NAMES, TextProblem, items_of
from adapterkit.tasks.values import Batch, Encoded, Features, Loss, Outputs, Purpose, Row, Vocabulary

SEPARATORS = ("|", ";", ",")
"""What labels are joined with in one cell."""

PROBLEMS: Mapping[str, type[TextProblem]] = MappingProxyType(
    {problem.name: problem for problem in (SingleLabel, MultiLabel, Regression)}
)


@dataclass(frozen=True, repr=False)
class TextClassification(ConfidentTask, kind="text-classification"):
    """Labels or numbers for whole texts; see `Task`, and `TextProblem` for `targets` and `form`."""

    metric_directions: ClassVar[Mapping[str, bool]] = scores.DIRECTIONS

    settings: TaskSettings
    labels: tuple[str, ...] = ()
    problem: str = "single-label"
    targets: int = 0
    form: str = field(default=NAMES, metadata=OPTIONAL)

    @classmethod
    def prepare(cls, settings: TaskSettings, rows: Sequence[Row]) -> Self:
        unread = cls(settings)
        usable, _ = check(
            rows, cls.columns, lambda row: unread.problem_of(row, "predict") or _label_problem(unread._label(row))
        )
        values, places = [unread._label(row) for row in usable], places_of(usable)
        asked = PROBLEMS.get(settings.problem) or _detect(values, places, settings.labels)
        problem = asked.learned(values, places, settings.labels)
        if problem.name == "regression" and settings.abstain is not None:
            raise RecipeError(
                "numbers have no confidence to abstain by", ["task.abstain: found a risk, expected null (regression)"]
            )
        return cls(settings, problem.labels, problem.name, problem.targets, problem.form)

    @classmethod
    def has_labels(cls, settings: TaskSettings) -> bool:
        return settings.problem not in PROBLEMS or PROBLEMS[settings.problem].fewest_labels > 0

    @classmethod
    def sample_rows(cls, labels: Sequence[str] = (), problem: str = "") -> list[dict[str, Any]]:
        names = list(labels) or ["a", "b"]
        written: dict[str, list[Any]] = {"multi-label": [[name] for name in names], "regression": [0.5]}
        values, count = written.get(problem, names), max(len(SAMPLE_TEXTS), len(names))
        pairs = zip(cycle(SAMPLE_TEXTS), islice(cycle(values), count), strict=False)
        return [{"text": text, "label": label} for text, label in pairs]

    def inconsistencies(self) -> list[str]:
        if self.problem not in PROBLEMS:
            return [f"problem: found {self.problem!r:.40}, expected one of {', '.join(PROBLEMS)}"]
        calibrated = self.problem == "regression" and self.temperature != 1
        numbers = [f"temperature: found {self.temperature}, expected 1 (regression)"] if calibrated else []
        return super().inconsistencies() + self._problem.inconsistencies() + numbers

    @cached_property
    def _problem(self) -> TextProblem:
        given = self.settings.labels is not None
        return PROBLEMS[self.problem](self.labels, self.targets, self.form, given)

    @property
    def stratify_by(self) -> str | None:
        return "label" if self.labels else None

    @property
    def classes(self) -> int:
        return self._problem.classes

    @property
    def metrics(self) -> tuple[str, ...]:
        return scores.NAMES[self.problem]

    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        problem = text_problem(row, "text", optional=["text_pair"])
        return problem or (None if purpose == "predict" else self._unfit(row))

    def encode(self, rows: Sequence[Row], vocabulary: Vocabulary, purpose: Purpose = "train") -> Encoded:
        labels = [None] * len(rows) if purpose == "predict" else self._labels(rows)
        limit = longest(self.settings, vocabulary)
        found = encode_texts(
            vocabulary, [row["text"] for row in rows], [optional_text(row, "text_pair") for row in rows], limit
        )
        return encoded_whole(rows, found, labels)

    def stacked(self, labels: Sequence[Any], multiple: int) -> Tensor:
        return torch.tensor(labels, dtype=self._problem.dtype)

    @property
    def smooths(self) -> bool:
        return self.problem == "single-label"

    def summed_loss(self, logits: Any, batch: Batch, smoothing: float, weights: Tensor | None) -> Loss:
        return self._problem.loss(logits, batch.labels, smoothing, weights)

    def label_counts(self, rows: Sequence[Row]) -> dict[str, int]:
        return self._problem.counts(self._labels(rows)) if self.labels else {}

    def outputs(self, logits: Any, batch: Batch) -> list[Any]:
        """Per feature (C,): probabilities, or the predicted numbers."""
        return list(self._problem.probabilities(self.tempered(logits)).cpu().numpy())

    def predictions(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> list[dict[str, Any]]:
        answers = (self._problem.answer(np.asarray(output).tolist()) for output in outputs)
        return [answer if sure is None else self.trusted(answer, sure) for answer, sure in answers]

    def compared(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> Compared:
        predicted_NC = np.asarray(outputs, dtype=np.float64).reshape(len(outputs), self.classes)
        return self._problem.compared(self._labels(rows), predicted_NC)

    def _labels(self, rows: Sequence[Row]) -> list[Any]:
        """One class, one 0/1 vector, or one list of numbers per row. Raises DataError for labels unknown or unfit."""
        refuse_rows(rows, self._unfit, "have no usable label")
        return self._problem.read([self._label(row) for row in rows], places_of(rows))

    def _unfit(self, row: Row) -> str | None:
        """Why a row's label cannot be used, or None where it can."""
        value = self._label(row)
        return _label_problem(value) or self._problem.misfit(value)

    def _label(self, row: Row) -> Any:
        """A row's label as written, or the list of those that one cell holds."""
        value, separator = row.get("label"), self.settings.label_separator
        return split_cell(value, separator) if separator is not None else value

    def notes(self, rows: Sequence[Row]) -> list[str]:
        return self._problem.notes([self._label(row) for row in rows])

    def telling_metric(self, rows: Sequence[Row]) -> tuple[str, str]:
        return self._problem.telling_metric(self._labels(rows), self.main_metric)


def _label_problem(value: Any) -> str | None:
    """Why a value cannot be any kind of label."""
    if is_missing(value):
        return "no label"
    for item in items_of(value):
        if item is None or not isinstance(item, str | int | float):
            return f"label {item!r:.40} is {type(item).__name__}, expected text or a number"
        if isinstance(item, float) and not np.isfinite(item):
            return f"label is {item}, expected a finite number"
        if isinstance(item, str) and not item.strip():
            return "label is blank"
    return None


def _detect(values: Sequence[Any], places: Sequence[str], given: Sequence[str] | None) -> type[TextProblem]:
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
