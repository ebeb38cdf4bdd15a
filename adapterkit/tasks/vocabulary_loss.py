"""Cross-entropy over a whole vocabulary, which keeps its logits and one number for each token.

torch's own keeps the logarithms of all probabilities beside the logits, and makes an fp32 copy of narrow ones first.
Here both passes go through the logits piece by piece in fp32, so that a batch in bf16 takes a quarter of the memory.
"""

# Axes: N tokens, V vocabulary.

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_AT_ONCE = {"cpu": 1 << 20}
"""Numbers of a piece, by device: on a processor what its cache holds."""
_AT_ONCE_ELSEWHERE = 1 << 24


def vocabulary_cross_entropy(logits_NV: Tensor, target_N: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The sum of -log softmax(logits)[target], in fp32; with smoothing as in `torch.nn.CrossEntropyLoss`."""
    total: Tensor = _Loss.apply(logits_NV, target_N, label_smoothing)  # type: ignore[no-untyped-call]
    return total


class _Loss(torch.autograd.Function):
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
