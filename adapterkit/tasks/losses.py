"""Losses as (sum, weight), in fp32 whatever the logits' dtype; sum / weight is what torch's mean reduction gives."""

# Axes: N items, C classes, B rows, T tokens, K choices, V vocabulary.

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapterkit.tasks.values import IGNORED, Loss

_AT_ONCE = {"cpu": 1 << 20}
"""Numbers of a piece, by device: on a processor what its cache holds."""
_AT_ONCE_ELSEWHERE = 1 << 24


def vocabulary_cross_entropy(logits_NV: Tensor, target_N: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The sum of -log softmax(logits)[target], in fp32; with smoothing as in `torch.nn.CrossEntropyLoss`.

    torch's own keeps the logarithms of all probabilities beside the logits, and makes an fp32 copy of narrow ones
    first. Here both passes go through the logits piece by piece, so that a batch in bf16 takes a quarter of the memory.
    """
    total: Tensor = _VocabularyLoss.apply(logits_NV, target_N, label_smoothing)  # type: ignore[no-untyped-call]
    return total


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, target_N: Tensor, smoothing: float) -> Tensor:
        scale_N = logits_NV.new_empty(len(logits_NV), dtype=torch.float32)
        total = logits_NV.new_zeros((), dtype=torch.float32)
        for piece in _pieces(logits_NV):
            logits = logits_NV[piece].float()
            scale_N[piece] = logits.logsumexp(dim=-1)
            right = logits.gather(1, target_N[piece, None])[:, 0]
            wanted = right if not smoothing else (1 - smoothing) * right + smoothing * logits.mean(dim=-1)
            total += (scale_N[piece] - wanted).sum()
        ctx.save_for_backward(logits_NV, target_N, scale_N)
        ctx.smoothing = smoothing
        return total

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        logits_NV, target_N, scale_N = ctx.saved_tensors
        inner_NV = torch.empty_like(logits_NV)
        for piece in _pieces(logits_NV):
            shares = (logits_NV[piece].float() - scale_N[piece, None]).exp_()
            if ctx.smoothing:
                shares -= ctx.smoothing / logits_NV.shape[1]
            wanted = shares.new_full((len(shares), 1), ctx.smoothing - 1)
            inner_NV[piece] = shares.scatter_add_(1, target_N[piece, None], wanted).mul_(outer)
        return inner_NV, None, None


def _pieces(logits_NV: Tensor) -> Iterator[slice]:
    count, width = logits_NV.shape
    step = max(1, _AT_ONCE.get(logits_NV.device.type, _AT_ONCE_ELSEWHERE) // width)
    return (slice(start, start + step) for start in range(0, count, step))


def cross_entropy(
    logits_NC: Tensor, target_N: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Loss:
    """-log softmax(logits)[target], summed; items labelled IGNORED count nothing.

    With class weights w the weight is Σ w[target], and smoothing is torch's, as in `torch.nn.CrossEntropyLoss`.
    """
    counted_N = labelled(target_N)
    logits_NC, target_N = logits_NC[counted_N].float(), target_N[counted_N]
    if class_weights is not None:
        class_weights = class_weights.to(logits_NC)
    total = F.cross_entropy(logits_NC, target_N, weight=class_weights, label_smoothing=label_smoothing, reduction="sum")
    if class_weights is None:
        return Loss(total, total.new_tensor(float(len(target_N))))
    return Loss(total, class_weights[target_N].sum())


def masked_cross_entropy(logits_BK: Tensor, target_B: Tensor, there_BK: Tensor, label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy over the choices that are there; smoothing spreads over these only."""
    counted_B = target_B != IGNORED
    there_BK, target_B = there_BK[counted_B], target_B[counted_B]
    logp_BK = logits_BK[counted_B].float().masked_fill(~there_BK, -torch.inf).log_softmax(dim=-1)
    total = -logp_BK.gather(1, target_B[:, None]).sum()
    if label_smoothing:
        spread_B = logp_BK.masked_fill(~there_BK, 0.0).sum(dim=-1) / there_BK.sum(dim=-1)
        total = (1 - label_smoothing) * total - label_smoothing * spread_B.sum()
    return Loss(total, total.new_tensor(float(len(target_B))))


def binary_cross_entropy(logits_BC: Tensor, target_BC: Tensor, positive_weights: Tensor | None = None) -> Loss:
    """Each class on its own, summed over rows and classes; `positive_weights` (C,) multiplies the positive terms."""
    logits_BC = logits_BC.float()
    if positive_weights is not None:
        positive_weights = positive_weights.to(logits_BC)
    total = F.binary_cross_entropy_with_logits(
        logits_BC, target_BC.float(), pos_weight=positive_weights, reduction="sum"
    )
    return Loss(total, total.new_tensor(float(target_BC.numel())))


def squared_error(logits_BC: Tensor, target_BC: Tensor) -> Loss:
    """(logit - target)², summed over rows and targets."""
    total = F.mse_loss(logits_BC.float(), target_BC.float(), reduction="sum")
    return Loss(total, total.new_tensor(float(target_BC.numel())))


def labelled(labels: Tensor) -> Tensor:
    """Where there is something to predict."""
    return labels != IGNORED


def at_labels(logits: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """(N, V) logits and (N,) labels at every labelled token.
    `logits`: (B, T, V), the logit at a position being for the label at the same position; or what is asked for."""
    counted_BT = labelled(labels_BT)
    return logits[counted_BT] if logits.ndim == 3 else logits, labels_BT[counted_BT]


def token_cross_entropy(logits: Tensor, labels_BT: Tensor, label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy of every labelled token; see `at_labels`."""
    logits_NV, target_N = at_labels(logits, labels_BT)
    total = vocabulary_cross_entropy(logits_NV, target_N, label_smoothing)
    return Loss(total, total.new_tensor(float(len(target_N))))
