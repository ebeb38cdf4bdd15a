"""What the kinds that answer with tokens of the vocabulary have in common: how likely they find the right ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adapterkit.metrics import Metric
from adapterkit.tasks.likelihood import score_likelihoods, summed, token_likelihoods
from adapterkit.tasks.losses import labelled, token_cross_entropy
from adapterkit.tasks.protocol import reject_class_weights
from adapterkit.tasks.unlabelled import UnlabelledTask
from adapterkit.tasks.values import Batch, Faults, Feature, Features, Loss, Outputs, Row


@dataclass(frozen=True, repr=False)
class LanguageModelTask(UnlabelledTask):
    """A kind whose loss and metrics are about labelled tokens; its outputs are a `Likelihood` per feature."""

    def targets(self, labels_BT: Tensor) -> Tensor:
        """At each token the label that its logits predict."""
        return labels_BT

    def characters(self, rows: Sequence[Row], features: Sequence[Feature]) -> list[int] | None:
        """Of every row, for bits per character; None where that is not asked."""
        return None

    def answered(self, batch: Batch) -> Tensor | None:
        return None if batch.labels is None else labelled(self.targets(batch.labels))

    def loss(
        self, logits: Any, batch: Batch, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> Loss:
        reject_class_weights(self, class_weights)
        return token_cross_entropy(logits, self.targets(batch.labels), label_smoothing)

    def outputs(self, logits: Any, batch: Batch) -> list[Any]:
        """Per feature its `Likelihood`."""
        return list(token_likelihoods(logits, self.targets(batch.labels)))

    def predictions(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> list[dict[str, Any]]:
        """How likely each row's labelled tokens are. Text comes from generation."""
        return summed(features, outputs, len(rows))

    def faults(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> Faults:
        sums = summed(features, outputs, len(rows))
        found: dict[int, list[tuple[float, int]]] = {}
        for one in sums:
            found.setdefault(max(one["tokens"] - 1, 0).bit_length(), []).append((one["loss_nats"], one["tokens"]))
        groups = []
        for power, inside in sorted(found.items()):
            nats, tokens = (sum(numbers) for numbers in zip(*inside, strict=True))
            groups.append((f"up to {2**power:,}", math.exp(min(nats / max(tokens, 1), 700.0)), len(inside)))
        badness = [one["loss_nats"] / max(one["tokens"], 1) for one in sums]
        return Faults((), "predicted tokens", "perplexity", groups, badness)

    def score(
        self, rows: Sequence[Row], features: Features, outputs: Outputs, *, resamples: int = 1000, seed: int = 0
    ) -> dict[str, Metric]:
        """Perplexity and accuracy of the labelled tokens, and bits per character where a text is predicted whole."""
        characters = self.characters(rows, features)
        return score_likelihoods(features, outputs, len(rows), characters, resamples=resamples, seed=seed)
