"""What every kind of task gives: rows in, features, batches, a loss, and scored predictions out.

A task goes through these steps, and each is one method that a training loop, an evaluation or a predictor calls:

    prepare(settings, rows)            learn the labels                     -> Task
    check_rows(rows, purpose)          which rows cannot be used, and why   -> Checked
    encode(rows, vocabulary, purpose)  text to token ids                    -> Encoded(features, truncation)
    collate(features, vocabulary)      features to padded tensors           -> Batch
    loss(logits, batch)                sum and weight, apart                -> Loss
    outputs(logits, batch)             small CPU objects, one per feature
    predictions(rows, features, outputs)    one dict per row
    compared(rows, features, outputs)       every figure of them -> Compared; score gives its metrics with intervals

Rows are any sequence of dicts with canonical column names. Errors name them by their numbers in `Rows`, else 1..n.
"""

# Axes: B rows of a batch, T tokens, C classes, K choices, V vocabulary.

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from torch import Tensor

from adapterkit.data import TextUnit
from adapterkit.errors import DataError, RecipeError
from adapterkit.glance import in_short
from adapterkit.metrics import Compared, Metric, bootstrap
from adapterkit.recipe import DataSettings
from adapterkit.recipe.columns import COLUMNS, Column
from adapterkit.recipe.kinds import Kind
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks.as_json import read_stored, write_stored
from adapterkit.tasks.checked_rows import check
from adapterkit.tasks.encoding import pad, pad_inputs
from adapterkit.tasks.labels import Wanted, class_weights
from adapterkit.tasks.values import IGNORED, Checked, Encoded, Features, Loss, Outputs, Purpose
from adapterkit.tasks.values import Batch as Batch
from adapterkit.tasks.values import Feature as Feature
from adapterkit.tasks.values import Row as Row
from adapterkit.tasks.values import Vocabulary as Vocabulary

SAMPLE_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "My card was lost on the way to London, can you send a new one?",
    "It was a bright cold day in April, and the clocks were striking thirteen.",
    "Ada Lovelace wrote the first program in 1843.",
)
"""Texts of ours, for rows that stand in where nobody gave any."""


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

    def __init_subclass__(cls, *, kind: Kind | None = None) -> None:
        """A class that names its kind reads that kind's columns."""
        if kind is not None:
            cls.kind, cls.columns = kind, COLUMNS[kind]

    metric_directions: ClassVar[Mapping[str, bool]]
    """Every metric that the kind may give -> whether higher is better."""
    generates: ClassVar[bool] = False
    running_text: ClassVar[bool] = False
    """Whether a plain text file is one running text, instead of a row in every line."""

    proof: ClassVar[Literal["predict", "score"]] = "predict"
    """What a stored row proves an adapter by: its answer, or ("score") the loss at its target."""
    draws_anew: ClassVar[bool] = False
    """Whether `collate` draws at random in every epoch, so that no text is read twice alike."""
    answers_places: ClassVar[bool] = False
    """Whether there are logits for every token, or every choice, to which a batch was padded."""

    settings: TaskSettings
    labels: tuple[str, ...] = ()
    problem: str = ""

    __repr__ = in_short("problem", "labels")

    @classmethod
    def has_labels(cls, settings: TaskSettings) -> bool:
        """Whether a task of these settings has label names."""
        return False

    @classmethod
    def sample_rows(cls, labels: Sequence[str] = (), problem: str = "") -> list[dict[str, Any]]:
        """A few usable rows, with every label in some row where there are labels."""
        return [{"text": text} for text in SAMPLE_TEXTS]

    @classmethod
    def text_unit(cls, data: DataSettings | None) -> TextUnit:
        """A row of a plain text file: a running text is one document, or paragraphs where a share of them validates."""
        if not cls.running_text:
            return "line"
        return "paragraph" if data is not None and isinstance(data.validation, float) else "document"

    @classmethod
    @abstractmethod
    def prepare(cls, settings: TaskSettings, rows: Sequence[Row]) -> Self:
        """Learn from training rows what the rows decide: labels, problem, tag scheme.
        Raises DataError: no usable row, one class only, or targets that do not fit together; with the places."""

    @property
    def classes(self) -> int:
        """Number of logits per item: labels, targets, 2 for answer spans, 1 for choices, 0 for language models."""
        return len(self.labels)

    def notes(self, rows: Sequence[Row]) -> list[str]:
        """What a user should know of how the targets of these rows, all usable, were read."""
        return []

    def is_countable(self, label: str) -> bool:
        """Whether rows with this label are worth counting by themselves."""
        return True

    def telling_metric(self, rows: Sequence[Row]) -> tuple[str, str]:
        """The metric to pick a state by on these usable rows: the main one, or another with the reason.

        Of rows that lack what the main metric counts, every state has the same score.
        """
        return self.main_metric, ""

    @property
    def stratify_by(self) -> str | None:
        """The column whose classes a validation share keeps in proportion; None where rows have no class."""
        return None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that `score` gives; the first is the main one."""
        return tuple(self.metric_directions)

    @property
    def main_metric(self) -> str:
        """The metric that picks the best checkpoint.
        Raises RecipeError: the recipe names one that this task does not give."""
        wanted = self.settings.metric
        if wanted is not None and wanted not in self.metrics:
            told = [f"task.metric: found {wanted!r}, expected one of {', '.join(self.metrics)}"]
            raise RecipeError(f"{self.kind} has no metric {wanted!r}", told)
        return wanted or self.metrics[0]

    def higher_is_better(self, metric: str) -> bool:
        """Whether a larger value of `metric` is better."""
        return self.metric_directions[metric]

    def to_dict(self) -> dict[str, Any]:
        """Everything that `from_dict` needs, as plain JSON values; what a manifest stores."""
        return write_stored(self.kind, self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises DataError for a dict that `to_dict` cannot have written."""
        task = cls(**read_stored(cls.kind, cls, stored))
        if problems := task.inconsistencies():
            raise DataError(f"the stored {cls.kind} task contradicts itself", problems)
        return task

    def inconsistencies(self) -> list[str]:
        """What `prepare` can never have made of this task's fields, though each is of the right type."""
        return ["labels: a name stands twice"] if len(set(self.labels)) < len(self.labels) else []

    @abstractmethod
    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        """Why `row` cannot be used, or None where it can."""

    def check_rows(self, rows: Sequence[Row], purpose: Purpose = "train") -> Checked:
        """Split off the rows that cannot be used.
        Raises DataError: no row can be used."""
        return check(rows, self.columns, lambda row: self.problem_of(row, purpose), purpose)

    @abstractmethod
    def encode(self, rows: Sequence[Row], vocabulary: Vocabulary, purpose: Purpose = "train") -> Encoded:
        """Turn usable rows into features, in row order.
        Raises DataError: a label that training did not see, or a row that `check_rows` would have refused;
        BackboneError: the tokenizer cannot do what the kind needs; RecipeError: a length setting that the backbone
        cannot honour."""

    def collate(
        self, features: Features, vocabulary: Vocabulary, *, seed: int | None = None, epoch: int = 0, multiple: int = 1
    ) -> Batch:
        """Pad features on the right into one batch. It has labels where every feature has.

        Args:
            seed: of what is random in training (masks); None for the fixed choice that evaluation uses.
            epoch: draws anew in every epoch. A feature's draw depends on (seed, epoch, its index), not on the batch.
            multiple: pad the length to a multiple of this.
        """
        drawn = [self.drawn(feature, vocabulary, seed, epoch) for feature in features]
        labelled = all(feature.labels is not None for feature in drawn)
        labels = self.stacked([feature.labels for feature in drawn], multiple) if labelled else None
        return Batch(self.padded(drawn, vocabulary, multiple), labels, features, vocabulary)

    def drawn(self, feature: Feature, vocabulary: Vocabulary, seed: int | None, epoch: int) -> Feature:
        """The feature with what is random of it; arguments as those of `collate`."""
        return feature

    def padded(self, features: Features, vocabulary: Vocabulary, multiple: int) -> dict[str, Tensor]:
        """Model inputs by name, (B, T) each."""
        return pad_inputs([feature.inputs for feature in features], vocabulary, multiple)

    def stacked(self, labels: Sequence[Any], multiple: int) -> Tensor:
        """(B, T), one label for every token that the model answers."""
        return pad(labels, IGNORED, multiple)

    def answered(self, batch: Batch) -> Tensor | None:
        """(B, T), true at the tokens whose logits `loss` and `outputs` read; None where they read all of them.

        Of a language model only some are read: the hidden ones, those behind a prompt. Logits may then be (N, V).
        """
        return None

    @property
    def smooths(self) -> bool:
        """Whether label smoothing means something to the loss; class weights do where there are labels."""
        return True

    def loss(
        self, logits: Any, batch: Batch, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> Loss:
        """The loss of a batch in fp32; total / weight is the loss that transformers' class for the kind gives.
        `logits`: what the kind's model gives: (B, C); (B, T, C); (B, T, 2) for spans; (B, K); (B, T, V), or (N, V) at
        the tokens that `answered` gives. `class_weights`: (C,), from `class_weights`. Raises RecipeError: smoothing or
        weights where the kind has no use for them."""
        if label_smoothing and not self.smooths:
            raise self._useless("label smoothing", f"training.label_smoothing: found {label_smoothing}, expected 0")
        if class_weights is not None and not self.labels:
            raise self._useless("class weights", "training.class_weights: found weights, expected null for this task")
        return self.summed_loss(logits, batch, label_smoothing, class_weights)

    @abstractmethod
    def summed_loss(self, logits: Any, batch: Batch, smoothing: float, weights: Tensor | None) -> Loss:
        """`loss` with settings that the task has a use for."""

    def class_weights(self, wanted: Wanted | None, rows: Sequence[Row]) -> list[float] | None:
        """One weight per class from the recipe's `training.class_weights` and the training rows.
        Raises RecipeError: the kind has no classes to weigh, or a name is not a label."""
        if wanted is None:
            return None
        if not self.labels:
            told = f"training.class_weights: found {wanted!r}, expected null for this task"
            raise self._useless("class weights", told)
        return class_weights(wanted, self.label_counts(rows), len(rows) if self.problem == "multi-label" else None)

    def _useless(self, what: str, told: str) -> RecipeError:
        which = f"{self.kind} ({self.problem})" if self.problem else self.kind
        return RecipeError(f"{which} cannot use {what}", [told])

    def label_counts(self, rows: Sequence[Row]) -> dict[str, int]:
        """How often each label is the answer: of rows, or of words where words are labelled; {} without labels.
        Raises DataError: a label that is not the task's."""
        return {}

    @abstractmethod
    def outputs(self, logits: Any, batch: Batch) -> list[Any]:
        """One small CPU object per feature (numbers, numpy arrays), all that `predictions` and `score` need."""

    @abstractmethod
    def predictions(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> list[dict[str, Any]]:
        """One JSON-able answer per row."""

    @abstractmethod
    def compared(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> Compared:
        """The answers beside the right ones.

        `features` and `outputs` are those of `encode(rows, …, "score")`, all of them, in the same order.
        """

    def score(
        self, rows: Sequence[Row], features: Features, outputs: Outputs, *, resamples: int = 1000, seed: int = 0
    ) -> dict[str, Metric]:
        """Metrics over rows, main one first, with 95 % bootstrap intervals (`resamples=0`: none, low = high = value).
        Arguments as those of `compared`."""
        return self.measured(self.compared(rows, features, outputs), resamples=resamples, seed=seed)

    def measured(self, found: Compared, *, resamples: int = 1000, seed: int = 0) -> dict[str, Metric]:
        """The metrics of answers that are compared; see `score`."""
        return bootstrap(found.items, found.formulas, self.metric_directions, resamples=resamples, seed=seed)

    def calibrated(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> Self:
        """The task with what is chosen on validation rows (the no-answer threshold); itself where nothing is."""
        return self


class GeneratingTask(Task):
    """A kind whose answers are generated token by token."""

    generates: ClassVar[bool] = True
    pads_left: ClassVar[bool] = False
    generated_metrics: ClassVar[frozenset[str]] = frozenset()
    """The metrics that `score_texts` gives; `score` gives the others, from one teacher-forced forward."""

    def collate_prompts(self, features: Features, vocabulary: Vocabulary) -> Batch:
        """Inputs for generation from features of `encode(rows, …, "predict")`; decoders are padded on the left."""
        inputs = pad_inputs([feature.inputs for feature in features], vocabulary, left=self.pads_left)
        return Batch(inputs, None, features, vocabulary)

    def new_tokens(self, prompts: Batch, wanted: int | None = None) -> int:
        """The most tokens to generate behind a batch of prompts, less than wanted where the backbone is full. `wanted`:
        None for the settings' max_new_tokens."""
        limit = prompts.vocabulary.max_tokens
        wanted = self.settings.max_new_tokens if wanted is None else wanted
        if limit is not None and self.pads_left:  # a decoder goes on where the prompt ends
            # The last token that is generated is never read, so it needs no place of its own.
            limit = max(1, limit - prompts.inputs["input_ids"].shape[1] + 1)
        return wanted if limit is None else min(wanted, limit)

    def stops(self, feature: Feature, asked: Sequence[str] | None = None) -> tuple[str, ...]:
        """Texts at which the answer to a prompt ends, as the model writes them.
        `asked`: what a caller asks for; None for the settings' stop. What was learned as an end, the settings' end_text
        and that of a chat's turn, ends every answer."""
        end = () if self.settings.end_text is None else (self.settings.end_text,)
        return (*(self.settings.stop if asked is None else asked), *end, *feature.extras.get("stop", ()))

    def groups(self, rows: Sequence[Row]) -> list[list[int]]:
        """Row indices that share one prompt, in order of first appearance: one text is generated for each group."""
        return [[index] for index in range(len(rows))]

    def answers(self, rows: Sequence[Row], texts: Sequence[str]) -> list[dict[str, Any]]:
        """One JSON-able answer per row from one generated text per row."""
        return [{"text": text} for text in texts]

    def score_texts(
        self, rows: Sequence[Row], texts: Sequence[str], *, resamples: int = 1000, seed: int = 0
    ) -> dict[str, Metric]:
        """Metrics of generated texts, one per group of `groups(rows)`, against all references of the group; none where
        a text has no one right continuation."""
        return {}
