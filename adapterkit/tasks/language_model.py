"""What the kinds that answer with tokens of the vocabulary have in common: how likely they find the right ones."""

# Axes: B rows of a batch, T tokens, V vocabulary, N rows, F features, S statistics.

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from adapterkit.metrics import Compared, Formula, Groups, ratio, ratio_of
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks.checked_rows import check
from adapterkit.tasks.losses import at_labels, labelled, token_cross_entropy
from adapterkit.tasks.protocol import Task
from adapterkit.tasks.values import Batch, Feature, Features, Loss, Outputs, Row


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
class LanguageModelTask(Task):
    """A kind whose loss and metrics are about labelled tokens; its outputs are a `Likelihood` per feature."""

    proof: ClassVar[Literal["predict", "score"]] = "score"
    metric_directions: ClassVar[Mapping[str, bool]] = {"perplexity": False, "token_accuracy": True}

    settings: TaskSettings

    @classmethod
    def prepare(cls, settings: TaskSettings, rows: Sequence[Row]) -> Self:
        task = cls(settings)
        check(rows, cls.columns, lambda row: task.problem_of(row, "train"))
        return task

    def targets(self, labels_BT: Tensor) -> Tensor:
        """At each token the label that its logits predict."""
        return labels_BT

    def answered(self, batch: Batch) -> Tensor | None:
        return None if batch.labels is None else labelled(self.targets(batch.labels))

    def summed_loss(self, logits: Any, batch: Batch, smoothing: float, weights: Tensor | None) -> Loss:
        return token_cross_entropy(logits, self.targets(batch.labels), smoothing)

    def outputs(self, logits: Any, batch: Batch) -> list[Any]:
        """Per feature its `Likelihood`."""
        return list(token_likelihoods(logits, self.targets(batch.labels)))

    def predictions(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> list[dict[str, Any]]:
        """How likely each row's labelled tokens are. Text comes from generation."""
        return summed(features, outputs, len(rows))

    def compared(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> Compared:
        """Perplexity = exp(Σ loss / Σ tokens), accuracy of the labelled tokens, and bits per character where a text is
        predicted whole.

        The bootstrap resamples features: a language model's data are often one long document, cut into many. A row's
        characters are shared out among its features by their tokens.
        """
        characters = [0] * len(rows)
        for feature in features:
            characters[feature.row] += feature.extras.get("characters", 0)
        sums = summed(features, outputs, len(rows))
        nats_F, tokens_F, right_F = np.array(outputs, dtype=np.float64).reshape(-1, 3).T
        share_F = np.array([characters[f.row] / max(sums[f.row]["tokens"], 1) for f in features]) * tokens_F
        per_token = ratio_of(nats_F, tokens_F)
        formulas: dict[str, Formula] = {
            "perplexity": lambda times_RF: _perplexity(per_token(times_RF)),
            "bits_per_character": ratio_of(nats_F, share_F * math.log(2)),
            "token_accuracy": ratio_of(right_F, tokens_F),
        }
        by_length: dict[int, list[tuple[float, int]]] = {}
        for one in sums:
            by_length.setdefault(max(one["tokens"] - 1, 0).bit_length(), []).append((one["loss_nats"], one["tokens"]))
        groups = [
            (f"up to {2**power:,}", float(_perplexity(ratio(*map(sum, zip(*inside, strict=True))))), len(inside))
            for power, inside in sorted(by_length.items())
        ]
        return Compared(
            len(features),
            {name: formula for name, formula in formulas.items() if name in self.metric_directions},
            groups=Groups("predicted tokens", "perplexity", groups),
            badness=[one["loss_nats"] / max(one["tokens"], 1) for one in sums],
        )


def _perplexity(nats_per_token: Any) -> Any:
    # Beyond exp(700) a double is infinite; no model that is worth a number comes near.
    return np.exp(np.minimum(nats_per_token, 700.0))
