"""What every problem of text classification gives: labels read, a loss, answers and scores."""

# Axes: B rows of a batch, N rows, C classes or targets.

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from adapterkit.metrics import Compared
from adapterkit.tasks.values import Loss

NAMES = "names"
MULTI_HOT = "multi-hot"


@dataclass(frozen=True)
class TextProblem(ABC):
    """How the labels of one task are read, learned and scored.

    The labels stand in class order; a regression has none, and `targets` numbers per row. `form` is how a row's labels
    are written: "names", or "multi-hot", a 0 or 1 for every label. Where the recipe has `given` the labels, numbers may
    be positions among them.
    """

    name: ClassVar[str]
    fewest_labels: ClassVar[int]
    dtype: ClassVar[torch.dtype] = torch.float32
    forms: ClassVar[tuple[str, ...]] = (NAMES,)

    labels: tuple[str, ...] = ()
    targets: int = 0
    form: str = NAMES
    given: bool = False

    @classmethod
    @abstractmethod
    def learned(cls, values: Sequence[Any], places: Sequence[str], given: Sequence[str] | None) -> Self:
        """The problem that the labels of training rows pose. Raises DataError where there is nothing to learn."""

    def inconsistencies(self) -> list[str]:
        """What `learned` can never have made."""
        problems = []
        if len(self.labels) < self.fewest_labels:
            problems.append(f"labels: found {len(self.labels)}, expected at least {self.fewest_labels} ({self.name})")
        if self.form not in self.forms:
            problems.append(f"form: found {self.form!r:.40}, expected {' or '.join(self.forms)} ({self.name})")
        if self.targets:
            problems.append(f"targets: found {self.targets} ({self.name})")
        return problems

    @property
    def classes(self) -> int:
        """Number of logits."""
        return len(self.labels) or self.targets

    @abstractmethod
    def misfit(self, value: Any) -> str | None:
        """Why a label does not fit the problem; None where it does."""

    @abstractmethod
    def read(self, values: Sequence[Any], places: Sequence[str]) -> list[Any]:
        """What the loss takes for each label that fits. Raises DataError for labels that training did not see."""

    @abstractmethod
    def loss(self, logits_BC: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> Loss:
        """The loss of transformers' class for the problem."""

    def notes(self, values: Sequence[Any]) -> list[str]:
        """What a user should know of how these labels, which fit, are read."""
        return []

    def telling_metric(self, read: Sequence[Any], wanted: str) -> tuple[str, str]:
        """The metric to pick a state by on these rows, and why it is not the one that is wanted; "" where it is."""
        return wanted, ""

    def counts(self, read: Sequence[Any]) -> dict[str, int]:
        """How often each label is an answer."""
        return {}

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        """Probabilities, or the predicted numbers."""
        return logits_BC

    @abstractmethod
    def answer(self, values: Sequence[float]) -> tuple[dict[str, Any], float | None]:
        """The JSON-able answer of a row from what `probabilities` gives, and its probability as a whole, if any."""

    @abstractmethod
    def compared(self, read: Sequence[Any], predicted_NC: Any) -> Compared:
        """What `probabilities` gives of rows beside their labels."""


def items_of(value: Any) -> list[Any]:
    """What a label holds, as a list."""
    return value if isinstance(value, list) else [value]
