"""Attention whose backward is fast on a CPU: plain products, a chunk of rows at a time, and cheap dropout.

softmax(scale·q·kᵀ + bias)·v. Where the weights of a batch fit into one chunk they are kept for the backward; beyond
that they are computed again, chunk by chunk, so that they stay in the processor's cache and cost no memory.

With dropout torch's fused kernel is not used at all, and drawing the mask takes longer than both products; here it is
drawn as `dropout` says.

Axes: B rows, H heads, T queries, S keys, D head width, V head width of the values (DeepSeek's is another).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from adapterkit.backbone.dropout import Draw, draw

CHUNK_BYTES = 8 << 20
"""Scores that are in work at once. Smaller: more calls; larger: they leave the cache."""


def attend_plainly(
    q_BHTD: Tensor,
    k_BHSD: Tensor,
    v_BHSV: Tensor,
    bias: Tensor | None,
    scale: float,
    dropout: float,
    drawn: Draw | None = None,
) -> Tensor:
    """Attend, in the number format of autocast where that is on, else of q. Returns (B, H, T, V).
    `bias`: added to the scores, broadcast to (B, H, T, S); gets no gradient. `dropout`: the probability that a weight
    is zero, in steps of 2⁻¹⁶. `drawn`: what masks are cut from, with a number for each (B, H, T); else drawn here."""
    device = q_BHTD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else q_BHTD.dtype
    if bias is not None:
        bias = bias.to(dtype)
    q_BHTD, k_BHSD, v_BHSV = (tensor.to(dtype) for tensor in (q_BHTD, k_BHSD, v_BHSV))
    # Drawn whether a mask is needed or not, torch's state would differ between models with and without dropout.
    drawn = (drawn or draw(q_BHTD.shape[:-1])) if dropout else None
    attended: Tensor = _PlainAttention.apply(  # type: ignore[no-untyped-call]
        q_BHTD, k_BHSD, v_BHSV, bias, scale, dropout, drawn
    )
    return attended


class _PlainAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, dropout: float, drawn: Draw | None
    ) -> Tensor:
        # Not contiguous: heads are a view of a linear's output, which reads its gradient in the same order.
        ctx.settings, ctx.tokens_first = (scale, dropout, drawn), not q.is_contiguous()
        # Products want every head's tokens one behind the other; the copies are kept, so that they are made once.
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        chunks = _chunks(q, k)
        # Laid out as the next layer reads it: (B, T, H, V).
        out = _empty(q, v.shape[-1], tokens_first=True)
        masks = None if drawn is None else drawn.masks(k.shape[2], dropout, q)
        with torch.autocast(q.device.type, enabled=False):
            for rows in chunks:
                weights = _weights(q[rows], k[rows], _rows_of(bias, rows), scale)
                used = weights if masks is None else masks[rows].mul_(weights)
                out[rows] = _product(used, v[rows])
        ctx.save_for_backward(q, k, v, bias, weights if len(chunks) == 1 else None)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias, saved = ctx.saved_tensors
        scale, dropout, drawn = ctx.settings
        dq, dk, dv = (_empty(tensor, tensor.shape[-1], tokens_first=ctx.tokens_first) for tensor in (q, k, v))
        masks = None if drawn is None else drawn.masks(k.shape[2], dropout, q)
        with torch.autocast(q.device.type, enabled=False):
            for rows in _chunks(q, k):
                weights = _weights(q[rows], k[rows], _rows_of(bias, rows), scale) if saved is None else saved
                g = grad[rows].contiguous()
                d_weights = _product(g, v[rows].transpose(-1, -2))
                used = weights
                if masks is not None:
                    kept = masks[rows]
                    d_weights.mul_(kept)
                    used = kept.mul_(weights)
                dv[rows] = _product(used.transpose(-1, -2), g)
                d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
                dq[rows] = _product(d_scores, k[rows], scale)
                dk[rows] = _product(d_scores.transpose(-1, -2), q[rows], scale)
        return dq, dk, dv, None, None, None, None


def _weights(q: Tensor, k: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    scores = _product(q, k.transpose(-1, -2), scale)
    if bias is not None:
        scores += bias
    return torch.softmax(scores, -1)


def _product(left: Tensor, right: Tensor, scale: float = 1.0) -> Tensor:
    """scale · left @ right, of (B, H, …)."""
    shape = (*left.shape[:-1], right.shape[-1])
    left, right = left.flatten(0, 1), right.flatten(0, 1)
    if scale == 1.0:
        return torch.bmm(left, right).view(shape)
    nothing = left.new_empty(1)
    return torch.baddbmm(nothing, left, right, beta=0.0, alpha=scale).view(shape)


def _empty(x: Tensor, width: int, *, tokens_first: bool) -> Tensor:
    """(B, H, T, width) for an x of (B, H, T, …), which lies in memory as (B, T, H, width) or as it reads."""
    rows, heads, tokens, _ = x.shape
    if tokens_first:
        return x.new_empty(rows, tokens, heads, width).transpose(1, 2)
    return x.new_empty(rows, heads, tokens, width)


def _chunks(q: Tensor, k: Tensor) -> list[slice]:
    """PackedRows whose scores are computed together."""
    rows, heads, queries, _ = q.shape
    step = max(1, CHUNK_BYTES // max(1, heads * queries * k.shape[2] * q.element_size()))
    return [slice(start, start + step) for start in range(0, rows, step)]


def _rows_of(bias: Tensor | None, rows: slice) -> Tensor | None:
    return bias if bias is None or bias.shape[0] == 1 else bias[rows]
