"""How likely a language model finds the tokens that it should predict: per feature, then per row, then as metrics."""

# Axes: B rows of a batch, T tokens, V vocabulary, N rows, F features, S statistics.

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapterkit.metrics import Formula, Metric, Statistics, bootstrap, ratio
from adapterkit.tasks.losses import at_labels, labelled
from adapterkit.tasks.values import Feature

DIRECTIONS = {"perplexity": False, "bits_per_character": False, "token_accuracy": True}
"""Metric -> whether higher is better."""


class Likelihood(NamedTuple):
    """Sums over the labelled tokens of one feature.

    Attributes:
        loss_nats: -log p of the right tokens.
        tokens: how many there are.
        right: how many of them the model puts first.
    """

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


def score_likelihoods(
    features: Sequence[Feature],
    outputs: Sequence[Likelihood],
    rows: int,
    characters: Sequence[int] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Metric]:
    """Perplexity = exp(Σ loss / Σ tokens), token accuracy, and with `characters` per row the bits per character.

    The bootstrap resamples features: a language model's data are often one long document, cut into many. A row's
    characters are shared out among its features by their tokens.
    """
    tokens_N = np.zeros(rows)
    for feature, output in zip(features, outputs, strict=True):
        tokens_N[feature.row] += output.tokens
    statistics_FS = np.zeros((len(features), 4))
    formulas: dict[str, Formula] = {"perplexity": _perplexity}
    for place, (feature, output) in enumerate(zip(features, outputs, strict=True)):
        statistics_FS[place, :3] = output
        if characters is not None and output.tokens:
            statistics_FS[place, 3] = characters[feature.row] * output.tokens / tokens_N[feature.row]
    if characters is not None:
        formulas["bits_per_character"] = _bits_per_character
    formulas["token_accuracy"] = _accuracy
    return bootstrap(statistics_FS, formulas, DIRECTIONS, resamples=resamples, seed=seed)


def _perplexity(sums_S: Statistics) -> Any:
    # Beyond exp(700) a double is infinite; no model that is worth a number comes near.
    return np.exp(np.minimum(ratio(sums_S[..., 0], sums_S[..., 1]), 700.0))


def _bits_per_character(sums_S: Statistics) -> Any:
    return ratio(sums_S[..., 0], sums_S[..., 3] * math.log(2))


def _accuracy(sums_S: Statistics) -> Any:
    return ratio(sums_S[..., 2], sums_S[..., 1])
