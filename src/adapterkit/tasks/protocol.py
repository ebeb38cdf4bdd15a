"""What every kind of task gives: rows in, features, batches, a loss, and scored predictions out.

A task goes through these steps, and each is one method that a training loop, an evaluation or a predictor calls:

    prepare(settings, rows)            learn the labels                     -> Task
    check_rows(rows, purpose)          which rows cannot be used, and why   -> Checked
    encode(rows, vocabulary, purpose)  text to token ids                    -> Encoded(features, truncation)
    collate(features, vocabulary)      features to padded tensors           -> Batch
    loss(logits, batch)                sum and weight, apart                -> Loss
    outputs(logits, batch)             small CPU objects, one per feature
    predictions(rows, features, outputs), score(rows, features, outputs)    one dict per row; metrics with intervals

Rows are any sequence of dicts with canonical column names. Line numbers come from its `numbers`, else 1..n.
"""

# Axes: B rows of a batch, T tokens, C classes, K choices, V vocabulary.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

from adapterkit.errors import DataError, RecipeError
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks.confidence import Metric

Row = Mapping[str, Any]
Purpose = Literal["train", "score", "predict"]
"""`train` and `score` need the target columns; `predict` does not. Language models also cut their text differently."""

IGNORED = -100
"""The label of a position that no loss and no metric counts, as in transformers."""

DEFAULT_MAX_TOKENS = 512
"""The length limit where neither the recipe nor the backbone has one (T5's relative positions, for example)."""


@dataclass(frozen=True)
class Column:
    """A column that a kind reads.

    Attributes:
        required: whether a row without it cannot be used. A required target is not needed to predict.
        meaning: one line for help texts and errors.
        aliases: names under which data sets often call it; tried in this order.
        target: whether it holds the answer.
    """

    required: bool
    meaning: str
    aliases: tuple[str, ...] = ()
    target: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """What a task needs to know about the backbone that will read its features.

    Attributes:
        tokenizer: the backbone's transformers tokenizer.
        max_tokens: the most tokens that the backbone takes, special ones included; None where it has no limit.
        pad_id: the id that padding uses. It is always masked, so any id is right.
        decoder_start_id: the first decoder token of an encoder-decoder, else None.
    """

    tokenizer: Any
    max_tokens: int | None
    pad_id: int
    decoder_start_id: int | None = None

    @classmethod
    def of(cls, tokenizer: Any, max_tokens: int | None = None, decoder_start_id: int | None = None) -> Self:
        """The vocabulary of a tokenizer; a tokenizer without a pad token pads with its end token, or with id 0."""
        pads = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        return cls(tokenizer, max_tokens, next(pad for pad in pads if pad is not None), decoder_start_id)


@dataclass(frozen=True, slots=True)
class Feature:
    """One sequence for the backbone. A row gives one or more (windows), and a language model may cut a row into many.

    Attributes:
        row: index into the rows that were encoded.
        index: position among all features of the same `encode`; seeds what is random for this feature.
        inputs: model inputs by name, each (T,); multiple choice: each (K, T).
        labels: the kind's own labels, or None where the row has none.
        length_tokens: the length that padding and buckets go by.
        extras: what the kind needs to find its way back from tokens to the row.
    """

    row: int
    index: int
    inputs: dict[str, list[Any]]
    labels: Any
    length_tokens: int
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Truncation:
    """What encoding had to cut away.

    Attributes:
        rows: rows that lost tokens.
        tokens: tokens lost over all rows.
        of_rows: rows encoded.
        numbers: line numbers of the first rows that lost tokens (at most 20).
    """

    rows: int = 0
    tokens: int = 0
    of_rows: int = 0
    numbers: tuple[int, ...] = ()

    def __str__(self) -> str:
        if not self.rows:
            return f"nothing cut ({self.of_rows} rows)"
        return f"{self.rows} of {self.of_rows} rows cut, {self.tokens} tokens lost (lines {list(self.numbers)})"


class Encoded(NamedTuple):
    """The features of some rows, and what was cut away to make them."""

    features: list[Feature]
    truncation: Truncation


class Checked(NamedTuple):
    """The usable rows, with their line numbers, and (line number, reason) for every other one."""

    rows: Sequence[Row]
    problems: list[tuple[int, str]]


@dataclass(frozen=True)
class Batch:
    """Padded tensors for one forward.

    Attributes:
        inputs: model inputs by name, (B, T) or (B, K, T), padded on the right.
        labels: the kind's labels, or None where a feature has none.
        features: the features, in batch order.
    """

    inputs: dict[str, Tensor]
    labels: Any
    features: Sequence[Feature]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        labels = self.labels
        if isinstance(labels, Tensor):
            labels = labels.to(device)
        elif isinstance(labels, dict):
            labels = {name: tensor.to(device) for name, tensor in labels.items()}
        return replace(self, inputs={name: tensor.to(device) for name, tensor in self.inputs.items()}, labels=labels)


class Loss(NamedTuple):
    """A loss as a sum and a weight, so that micro-batches and processes add up exactly.

    Attributes:
        total: summed loss, fp32, with its graph.
        weight: what to divide by, fp32; 0 where every label is ignored (total is then 0 too, never NaN).
    """

    total: Tensor
    weight: Tensor

    @property
    def mean(self) -> Tensor:
        """total / weight, the number that transformers calls the loss; 0 where nothing is weighed."""
        return self.total / torch.where(self.weight == 0, torch.ones_like(self.weight), self.weight)


class Task(ABC):
    """Labels, columns, encoding, loss and metrics of one kind. Immutable once prepared.

    Attributes:
        kind: the kind's name.
        columns: the columns it reads, by canonical name.
        generates: whether its answers come from generated tokens (see `GeneratingTask`).
        settings: the recipe's task section.
        labels: label names; the position is the class. Empty where the kind has none.
        classes: number of logits per item; 0 for language models.
        problem: "single-label", "multi-label" or "regression" for text classification, else "".
    """

    kind: ClassVar[str]
    columns: ClassVar[Mapping[str, Column]]
    metric_directions: ClassVar[Mapping[str, bool]]
    """Every metric that the kind may give -> whether higher is better."""
    generates: ClassVar[bool] = False

    settings: TaskSettings
    labels: tuple[str, ...] = ()
    problem: str = ""

    @classmethod
    @abstractmethod
    def prepare(cls, settings: TaskSettings, rows: Sequence[Row]) -> Task:
        """Learn from training rows what the rows decide: labels, problem, tag scheme.

        Raises:
            DataError: no usable row, one class only, or targets that do not fit together; with line numbers.
        """

    @property
    @abstractmethod
    def classes(self) -> int:
        """Number of logits per item: labels, targets, 2 for answer spans, 1 for choices, 0 for language models."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that `score` gives; the first is the main one."""
        return tuple(self.metric_directions)

    @property
    def main_metric(self) -> str:
        """The metric that picks the best checkpoint.

        Raises:
            RecipeError: the recipe names one that this task does not give.
        """
        wanted = self.settings.metric
        if wanted is not None and wanted not in self.metrics:
            raise RecipeError(
                f"{self.kind} has no metric {wanted!r}",
                [f"task.metric: found {wanted!r}, expected one of {', '.join(self.metrics)}"],
            )
        return wanted or self.metrics[0]

    def higher_is_better(self, metric: str) -> bool:
        """Whether a larger value of `metric` is better."""
        return self.metric_directions[metric]

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything that `from_dict` needs, as plain JSON values; what a manifest stores."""

    @classmethod
    @abstractmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Task:
        """The inverse of `to_dict`. Raises DataError for a dict that `to_dict` cannot have written."""

    @abstractmethod
    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        """Why `row` cannot be used, or None where it can."""

    def check_rows(self, rows: Sequence[Row], purpose: Purpose = "train") -> Checked:
        """Split off the rows that cannot be used.

        Raises:
            DataError: no row can be used.
        """
        from adapterkit.tasks.rows import check  # rows.py builds on the types above

        return check(rows, self.columns, lambda row: self.problem_of(row, purpose), purpose)

    @abstractmethod
    def encode(self, rows: Sequence[Row], vocabulary: Vocabulary, purpose: Purpose = "train") -> Encoded:
        """Turn usable rows into features, in row order.

        Raises:
            DataError: a label that training did not see, or a row that `check_rows` would have refused.
            BackboneError: the tokenizer cannot do what the kind needs.
            RecipeError: a length setting that the backbone cannot honour.
        """

    @abstractmethod
    def collate(
        self,
        features: Sequence[Feature],
        vocabulary: Vocabulary,
        *,
        seed: int | None = None,
        epoch: int = 0,
        multiple: int = 1,
    ) -> Batch:
        """Pad features on the right into one batch.

        Args:
            seed: of what is random in training (masks); None for the fixed choice that evaluation uses.
            epoch: draws anew in every epoch. A feature's draw depends on (seed, epoch, its index), not on the batch.
            multiple: pad the length to a multiple of this.
        """

    @abstractmethod
    def loss(
        self, logits: Any, batch: Batch, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> Loss:
        """The loss of a batch in fp32; total / weight is the loss that transformers' class for the kind gives.

        Args:
            logits: what the kind's model gives: (B, C); (B, T, C); (B, T, 2) for spans; (B, K); (B, T, V).
            class_weights: (C,), from `class_weights`.

        Raises:
            RecipeError: smoothing or weights where the kind has no use for them.
        """

    def class_weights(
        self, wanted: Mapping[str, float] | Literal["balanced"] | None, rows: Sequence[Row]
    ) -> list[float] | None:
        """One weight per class from the recipe's `training.class_weights` and the training rows.

        Raises:
            RecipeError: the kind has no classes to weigh, or a name is not a label.
        """
        if wanted is not None:
            raise RecipeError(
                f"{self.kind} cannot use class weights",
                [f"training.class_weights: found {wanted!r}, expected null for this task"],
            )
        return None

    @abstractmethod
    def outputs(self, logits: Any, batch: Batch) -> list[Any]:
        """One small CPU object per feature (numbers, numpy arrays), all that `predictions` and `score` need."""

    @abstractmethod
    def predictions(
        self, rows: Sequence[Row], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """One JSON-able answer per row."""

    @abstractmethod
    def score(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Any],
        *,
        resamples: int = 1000,
        seed: int = 0,
    ) -> dict[str, Metric]:
        """Metrics over rows, main one first, with 95 % bootstrap intervals (`resamples=0`: none, low = high = value).

        `features` and `outputs` are those of `encode(rows, …, "score")`, all of them, in the same order.
        """

    def calibrated(self, rows: Sequence[Row], features: Sequence[Feature], outputs: Sequence[Any]) -> Task:
        """The task with what is chosen on validation rows (the no-answer threshold); itself where nothing is."""
        return self


class GeneratingTask(Task):
    """A kind whose answers are generated token by token."""

    generates: ClassVar[bool] = True
    generated_metrics: ClassVar[frozenset[str]] = frozenset()
    """The metrics that `score_texts` gives; `score` gives the others, from one teacher-forced forward."""

    @abstractmethod
    def collate_prompts(self, features: Sequence[Feature], vocabulary: Vocabulary) -> Batch:
        """Inputs for generation from features of `encode(rows, …, "predict")`; decoders are padded on the left."""

    def decode(self, token_ids: Sequence[Sequence[int]], vocabulary: Vocabulary) -> list[str]:
        """Generated ids, without the prompt, to text; special tokens and the space around it are dropped."""
        texts = vocabulary.tokenizer.batch_decode([list(ids) for ids in token_ids], skip_special_tokens=True)
        return [str(text).strip() for text in texts]

    @abstractmethod
    def groups(self, rows: Sequence[Row]) -> list[list[int]]:
        """Row indices that share one prompt, in order of first appearance: one text is generated for each group."""

    @abstractmethod
    def answers(self, rows: Sequence[Row], texts: Sequence[str]) -> list[dict[str, Any]]:
        """One JSON-able answer per row from one generated text per row."""

    @abstractmethod
    def score_texts(
        self, rows: Sequence[Row], texts: Sequence[str], *, resamples: int = 1000, seed: int = 0
    ) -> dict[str, Metric]:
        """Metrics of generated texts, one per group of `groups(rows)`, against all references of the group."""


def reject_label_smoothing(task: Task, label_smoothing: float) -> None:
    """Raise RecipeError where smoothing is asked for and the task has no use for it."""
    if label_smoothing:
        raise RecipeError(
            f"{task.kind}{f' ({task.problem})' if task.problem else ''} cannot use label smoothing",
            [f"training.label_smoothing: found {label_smoothing}, expected 0"],
        )


def reject_class_weights(task: Task, class_weights: Tensor | None) -> None:
    """Raise RecipeError where class weights are given and the task has no use for them."""
    if class_weights is not None:
        raise RecipeError(
            f"{task.kind}{f' ({task.problem})' if task.problem else ''} cannot use class weights",
            ["training.class_weights: found weights, expected null for this task"],
        )


def unexpected_stored(kind: str, problem: str) -> DataError:
    """The error for a stored task that `to_dict` cannot have written."""
    return DataError(f"the stored {kind} task cannot be read", [problem])
