"""LoRA linears as one autograd function that keeps no more than it needs.

Plain autograd keeps x once for every cast and every dropout, beside the masks and A·x; it adds the update into a
second output, and adds up the gradients of x that the linears give one by one. This function keeps x once for all
linears that read it, and A·x, which is R / I of its size. An x that a GELU has made is not kept at all: the GELU
keeps what it was made of, and makes it once more for the gradient.

Axes: N rows and tokens, I inputs, O outputs, R rank of one linear, Q ranks of all linears together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from adapterkit.backbone.dropout import Draw, draw
from adapterkit.methods.fused.frozen import add_down, up


@dataclass(frozen=True, eq=False)
class LoraLinear:
    """One frozen linear, torch's or GPT-2's Conv1D, and its update: a (R, I), b (O, R), the factor, and the probability
    of dropout on the update's own input."""

    base: Any
    a: nn.Parameter
    b: nn.Parameter
    scaling: float
    dropout: float


@dataclass(frozen=True, eq=False)
class Gelu:
    """What made an x: the tensor that the GELU has read, which its own backward keeps, and "none" or "tanh"."""

    source: Tensor
    approximate: str


def lora_linears(
    x: Tensor, linears: Sequence[LoraLinear], dtype: torch.dtype, made_by: Gelu | None = None
) -> tuple[Tensor, ...]:
    """y = W·x + b + scaling·B·A·dropout(x) of linears that read the same x (…, I): (…, O) for each. W and b have the
    `dtype` of the products, and all else is cast.

    Gradients flow to A, to B, and to x where it wants one; never to W or b. Every linear draws a mask of its own, and
    draws it again for the gradient. There are no second derivatives. `made_by` is what x can be computed from again.
    """
    drawn = [draw(x.shape[:-1]) if linear.dropout else None for linear in linears]
    factors = [factor for linear in linears for factor in (linear.a, linear.b)]
    outputs: tuple[Tensor, ...] = _LoraLinears.apply(x, made_by, linears, dtype, drawn, *factors)  # type: ignore[no-untyped-call]
    # Given its axes inside, an output could not be changed in place, as DeBERTa does.
    return tuple(y_NO.view(*x.shape[:-1], y_NO.shape[-1]) for y_NO in outputs)


class _LoraLinears(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        made_by: Gelu | None,
        linears: Sequence[LoraLinear],
        dtype: torch.dtype,
        drawn: list[Draw | None],
        *factors: Tensor,
    ) -> tuple[Tensor, ...]:
        x_NI = x.to(dtype).reshape(-1, x.shape[-1])
        s_QN = _shrink(x_NI, linears, drawn, factors[::2])
        outputs = []
        for linear, s_RN, b_OR in zip(linears, _of_each(s_QN, linears), factors[1::2], strict=True):
            y_NO = up(linear.base, x_NI)
            s_RN.mul_(linear.scaling)
            y_NO.addmm_(s_RN.T, b_OR.to(dtype).T)
            outputs.append(y_NO)
        ctx.save_for_backward(x_NI if made_by is None else made_by.source.detach(), s_QN, *factors)
        ctx.linears, ctx.drawn, ctx.shape, ctx.dtype = linears, drawn, x.shape, x.dtype
        # Not `made_by` itself: its source would outlive what autograd lets go of.
        ctx.approximate, ctx.products = None if made_by is None else made_by.approximate, dtype
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        x_NI, s_QN, *factors = ctx.saved_tensors
        linears, dtype = ctx.linears, ctx.products
        if ctx.approximate is not None:
            x_NI = F.gelu(x_NI, approximate=ctx.approximate).to(dtype).reshape(-1, ctx.shape[-1])
        g_QN = torch.zeros_like(s_QN)
        grad_x_NI: Tensor | None = None
        of_b: list[Tensor | None] = []
        work = zip(linears, gradients, factors[1::2], _of_each(s_QN, linears), _of_each(g_QN, linears), strict=True)
        for linear, gradient, b_OR, s_RN, g_RN in work:
            if gradient is None:
                of_b.append(None)
                continue
            g_NO = gradient.to(dtype)
            torch.mm(b_OR.to(dtype).T, g_NO.T, out=g_RN).mul_(linear.scaling)
            of_b.append((s_RN @ g_NO).T.to(b_OR.dtype))
            if ctx.needs_input_grad[0]:
                grad_x_NI = add_down(grad_x_NI, linear.base, g_NO)
        of_a = _shrink_gradients(x_NI, g_QN, grad_x_NI, linears, ctx.drawn, factors[::2])
        of_factors = [
            None if gradient is None else factor
            for gradient, pair in zip(gradients, zip(of_a, of_b, strict=True), strict=True)
            for factor in pair
        ]
        grad_x = None if grad_x_NI is None else grad_x_NI.view(ctx.shape).to(ctx.dtype)
        return grad_x, None, None, None, None, *of_factors


def _shrink(
    x_NI: Tensor, linears: Sequence[LoraLinear], drawn: Sequence[Draw | None], factors: Sequence[Tensor]
) -> Tensor:
    """A·dropout(x) of all linears: one product where nothing is dropped.

    Ranks come first: on CPUs a product with few rows is up to twice as fast as one with few columns.
    """
    if not any(drawn):
        return _joined(factors, x_NI.dtype) @ x_NI.T
    shrunk = []
    for linear, own, a_RI in zip(linears, drawn, factors, strict=True):
        kept_NI = own.mask_like(x_NI, linear.dropout).mul_(x_NI) if own else x_NI
        shrunk.append(a_RI.to(x_NI.dtype) @ kept_NI.T)
    return torch.cat(shrunk)


def _shrink_gradients(
    x_NI: Tensor,
    g_QN: Tensor,
    grad_x_NI: Tensor | None,
    linears: Sequence[LoraLinear],
    drawn: Sequence[Draw | None],
    factors: Sequence[Tensor],
) -> list[Tensor]:
    """The gradient of every A. That of x, where one is wanted, gets what flows through all A added in place."""
    dtype = x_NI.dtype
    if not any(drawn):
        if grad_x_NI is not None:
            grad_x_NI.addmm_(g_QN.T, _joined(factors, dtype))
        return [g_RI.to(a.dtype) for g_RI, a in zip(_of_each(g_QN @ x_NI, linears), factors, strict=True)]
    found = []
    for linear, own, a_RI, g_RN in zip(linears, drawn, factors, _of_each(g_QN, linears), strict=True):
        mask_NI = own.mask_like(x_NI, linear.dropout) if own else torch.ones_like(x_NI)
        if grad_x_NI is not None:
            grad_x_NI.addcmul_(g_RN.T @ a_RI.to(dtype), mask_NI)
        found.append((g_RN @ mask_NI.mul_(x_NI)).to(a_RI.dtype))
    return found


def _joined(factors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Matrices of some linears, one below the other."""
    return factors[0].to(dtype) if len(factors) == 1 else torch.cat([factor.to(dtype) for factor in factors])


def _of_each(joined: Tensor, linears: Sequence[LoraLinear]) -> tuple[Tensor, ...]:
    """The rows of every linear."""
    return torch.split(joined, [len(linear.a) for linear in linears])
