"""The bottleneck as one autograd function that keeps z and the narrow middle.

Plain autograd keeps z once for every cast, the middle twice, f where its scale is learned, and dropout's mask, and
walks over tensors of full width for the scale, the mask, a cast and the sum.

Axes: N rows and tokens, D hidden width, M bottleneck width, K = M + 1 with a column of ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from adapterkit.backbone.dropout import Draw, draw


@dataclass(frozen=True, eq=False)
class BottleneckTensors:
    """f(z) = scale · (W_up · act(W_down · z + b_down) + b_up), with W_down (M, D), b_down (M,), W_up (D, M), b_up (D,),
    a scale that is a number, or the learned one as a tensor of one element, and the probability of dropout on f."""

    down_weight: Tensor
    down_bias: Tensor
    up_weight: Tensor
    up_bias: Tensor
    scale: float | Tensor
    activation: Callable[[Tensor], Tensor]
    dropout: float


def add_bottleneck(h: Tensor, z: Tensor, bottleneck: BottleneckTensors) -> Tensor:
    """h + dropout(f(z)), for an h (…, D) that a frozen linear gives and a z (…, D), h itself or another. The products
    are in h's dtype, and all else is cast.

    Gradients flow to h, z and the bottleneck's tensors. There are no second derivatives. The mask is drawn again for
    the gradient. The sum is a new tensor: h is a view where autograd recorded a linear of three axes, and writing into
    a view costs more than it saves.
    """
    b = bottleneck
    scale, number = (b.scale, 1.0) if isinstance(b.scale, Tensor) else (None, b.scale)
    fixed = _Fixed(number, b.activation, b.dropout, draw(h.shape[:-1]) if b.dropout else None)
    own_z = None if z is h else z
    tensors = (b.down_weight, b.down_bias, b.up_weight, b.up_bias)
    sum_ND: Tensor = _AddBottleneck.apply(h, own_z, *tensors, scale, fixed)  # type: ignore[no-untyped-call]
    return sum_ND.view(h.shape)  # not inside: it could not be changed in place


@dataclass(frozen=True)
class _Fixed:
    """What has no gradient."""

    scale: float
    activation: Callable[[Tensor], Tensor]
    dropout: float
    drawn: Draw | None


class _AddBottleneck(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        own_z: Tensor | None,
        down_MD: Tensor,
        down_M: Tensor,
        up_DM: Tensor,
        up_D: Tensor,
        scale: Tensor | None,
        fixed: _Fixed,
    ) -> Tensor:
        dtype = h.dtype
        h_ND = h.reshape(-1, h.shape[-1])
        z_ND = h_ND if own_z is None else own_z.to(dtype).reshape(h_ND.shape)
        a_NM = F.linear(z_ND, down_MD.to(dtype), down_M.to(dtype))
        middle_NK = _with_ones(fixed.activation(a_NM))
        up_DK = _scaled_up(up_DM, up_D, scale, fixed.scale).to(dtype)
        if fixed.drawn is not None:
            sum_ND = middle_NK @ up_DK.T
            sum_ND.mul_(fixed.drawn.mask_like(sum_ND, fixed.dropout)).add_(h_ND)
        else:
            sum_ND = torch.addmm(h_ND, middle_NK, up_DK.T)
        ctx.save_for_backward(z_ND, a_NM, down_MD, down_M, up_DM, up_D, scale)
        ctx.fixed, ctx.shape, ctx.z = fixed, h.shape, own_z if own_z is None else (own_z.shape, own_z.dtype)
        return sum_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        z_ND, a_NM, down_MD, down_M, up_DM, up_D, scale = ctx.saved_tensors
        fixed, dtype, of_h, of_z = ctx.fixed, z_ND.dtype, None, None
        g_ND = gradient.to(dtype)
        f_ND = g_ND if fixed.drawn is None else fixed.drawn.mask_like(g_ND, fixed.dropout).mul_(g_ND)
        with torch.enable_grad():
            inner_NM = a_NM.detach().requires_grad_()
            activated_NM = fixed.activation(inner_NM)
        up_DK = _scaled_up(up_DM, up_D, scale, fixed.scale).to(dtype)
        (grad_a_NM,) = torch.autograd.grad(activated_NM, inner_NM, f_ND @ up_DK[:, :-1])
        # The column of ones makes b_up's gradient a part of the same product.
        grad_up_DK = (_with_ones(activated_NM.detach()).T @ f_ND).T.to(up_DM.dtype)
        of_scale = None
        if scale is not None:
            of_scale = (
                (grad_up_DK * torch.cat([up_DM, up_D[:, None]], dim=1)).sum().to(scale.dtype).reshape(scale.shape)
            )
        grad_up_DK = grad_up_DK * (fixed.scale if scale is None else scale)
        grad_down_MD = (grad_a_NM.T @ z_ND).to(down_MD.dtype)
        narrow_MD = down_MD.to(dtype)
        if ctx.z is None and ctx.needs_input_grad[0]:
            of_h = torch.addmm(g_ND, grad_a_NM, narrow_MD).view(ctx.shape)
        elif ctx.needs_input_grad[0]:
            of_h = g_ND.reshape(ctx.shape)
        if ctx.needs_input_grad[1]:
            shape, z_dtype = ctx.z
            of_z = (grad_a_NM @ narrow_MD).view(shape).to(z_dtype)
        of_down_M = grad_a_NM.sum(0).to(down_M.dtype)
        return of_h, of_z, grad_down_MD, of_down_M, grad_up_DK[:, :-1], grad_up_DK[:, -1], of_scale, None


def _with_ones(middle_NM: Tensor) -> Tensor:
    return torch.cat([middle_NM, middle_NM.new_ones(len(middle_NM), 1)], dim=1)


def _scaled_up(up_DM: Tensor, up_D: Tensor, scale: Tensor | None, number: float) -> Tensor:
    """scale · [W_up, b_up]."""
    up_DK = torch.cat([up_DM, up_D[:, None]], dim=1)
    return up_DK.mul_(number if scale is None else scale)
