"""What the kinds that answer with tokens of the vocabulary have in common: how likely they find the right ones."""

# Axes: B rows of a batch, T tokens, V vocabulary, N rows, F features, S statistics.

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapterkit.metrics import Formula, Metric, Statistics, bootstrap, ratio
from adapterkit.tasks.losses import at_labels, labelled, token_cross_entropy
from adapterkit.tasks.protocol import UnlabelledTask, reject_class_weights
from adapterkit.tasks.values import Batch, Faults, Feature, Features, Loss, Outputs, Row

DIRECTIONS = {"perplexity": False, "bits_per_character": False, "token_accuracy": True}
"""Metric -> whether higher is better."""


class Likelihood(NamedTuple):
    """Sums over the labelled tokens of one feature: -log p of the right ones, how many there are, and how many of these
    the model puts first."""

    loss_nats: float
    tokens: int
    right: int


def token_likelihoods(logits: Tensor, labels_BT: Tensor) -> list[Likelihood]:
    """Sums per batch row; logits as in `losses.at_labels`."""
    counted_BT = labelled(labels_BT)
    logits_NV, label_N = at_labels(logits.detach(), labels_BT)
    logits_NV = logits_NV.float()
    loss_N = torch.nn.functional.cross_entropy(logits_NV, label_N, reduction="none").double()
    right_N = (logits_NV.argmax(dim=-1) == label_N) if len(label_N) else label_N.bool()
    row_N = counted_BT.nonzero()[:, 0]
    rows = labels_BT.shape[0]
    loss_B = torch.zeros(rows, dtype=torch.float64, device=loss_N.device).index_add_(0, row_N, loss_N)
    right_B = torch.zeros(rows, dtype=torch.long, device=loss_N.device).index_add_(0, row_N, right_N.long())
    counts = counted_BT.sum(dim=1).tolist()
    return [Likelihood(*sums) for sums in zip(loss_B.tolist(), counts, right_B.tolist(), strict=True)]


def summed(features: Sequence[Feature], outputs: Sequence[Likelihood], rows: int) -> list[dict[str, Any]]:
    """Per row, how likely its text is: {"loss_nats", "tokens"}."""
    sums: list[dict[str, Any]] = [{"loss_nats": 0.0, "tokens": 0} for _ in range(rows)]
    for feature, output in zip(features, outputs, strict=True):
        sums[feature.row]["loss_nats"] += output.loss_nats
        sums[feature.row]["tokens"] += output.tokens
    return sums


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
        """Perplexity = exp(Σ loss / Σ tokens), accuracy of the labelled tokens, and bits per character where a text is
        predicted whole.

        The bootstrap resamples features: a language model's data are often one long document, cut into many. A row's
        characters are shared out among its features by their tokens.
        """
        characters = self.characters(rows, features)
        sums = summed(features, outputs, len(rows))
        statistics_FS = np.zeros((len(features), 4))
        for place, (feature, output) in enumerate(zip(features, outputs, strict=True)):
            statistics_FS[place, :3] = output
            if characters is not None and output.tokens:
                statistics_FS[place, 3] = characters[feature.row] * output.tokens / sums[feature.row]["tokens"]
        formulas: dict[str, Formula] = {"perplexity": _perplexity}
        if characters is not None:
            formulas["bits_per_character"] = lambda sums_S: ratio(sums_S[..., 0], sums_S[..., 3] * math.log(2))
        formulas["token_accuracy"] = lambda sums_S: ratio(sums_S[..., 2], sums_S[..., 1])
        return bootstrap(statistics_FS, formulas, DIRECTIONS, resamples=resamples, seed=seed)


def _perplexity(sums_S: Statistics) -> Any:
    # Beyond exp(700) a double is infinite; no model that is worth a number comes near.
    return np.exp(np.minimum(ratio(sums_S[..., 0], sums_S[..., 1]), 700.0))
