"""Frozen weights laid out once for the processor, by oneDNN, in the place of torch's rows.

torch lays a weight out anew at every product, since it may have changed; a frozen one never does. The numbers are the
same, so that the plain weight can be had back bit by bit. bf16 products are equal in every bit, fp32 ones are added up
in another order. torch's compiler lays out weights that it may take for frozen by the same operations.

Only forwards without gradients use the layout; where a gradient is wanted, the plain weight is made for the call.
"""

from collections.abc import Sequence
from typing import Any, Literal
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Conv1D

from adapterkit.backbone.packing_choice import pays
from adapterkit.backbone.trunk import twin_of

Packing = Literal["auto", "off"]


class PackedLinear(nn.Linear):
    """x·Wᵀ + b, with W (O, I) laid out by oneDNN: `weight` has its shape and number format, and no addresses."""

    def forward(self, x: Tensor) -> Tensor:
        """x (…, I) to (…, O)."""
        return product(x, self.weight, self.bias)


class PackedConv1D(Conv1D):  # type: ignore[misc]
    """GPT-2's x·W + b, with Wᵀ (O, I) laid out by oneDNN."""

    def forward(self, x: Tensor) -> Tensor:
        """x (…, I) to (…, O)."""
        return product(x, self.weight, self.bias)


_PACKED: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: PackedLinear, Conv1D: PackedConv1D}
_PLAIN = {packed: plain for plain, packed in _PACKED.items()}


def is_packed(linear: Any) -> bool:
    """Whether a linear's weight is laid out by oneDNN."""
    return isinstance(linear, PackedLinear | PackedConv1D)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (…, I) times a weight (O, I) in either layout, plus a bias (O,)."""
    if weight.is_mkldnn and (x.dtype != weight.dtype or (torch.is_grad_enabled() and x.requires_grad)):
        weight = weight.to_dense()
    if not weight.is_mkldnn:
        return F.linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def laid_out(weight_OI: Tensor) -> Tensor:
    """A weight in oneDNN's layout."""
    with torch.inference_mode(False):  # so that it can be used inside and outside of it
        found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach().contiguous(), None)
    return found


def pack(trunk: nn.Module, paths: Sequence[str]) -> None:
    """Lay out the weights of the linears at these paths of a trunk on a CPU where that pays, each in the place of the
    plain one; what is not frozen, narrow or quantised stays plain. Forwards that run meanwhile are right. What shares
    the plain weights' memory, as a twin does, keeps it."""
    for linear in {id(module): module for module in map(trunk.get_submodule, paths)}.values():
        kind, weight = _PACKED.get(type(linear)), getattr(linear, "weight", None)
        if kind is None or type(weight) is not nn.Parameter or weight.requires_grad or not weight.is_cpu:
            continue
        weight_OI = weight.T if isinstance(linear, Conv1D) else weight
        if not pays(weight_OI, laid_out, product):
            continue
        linear.__class__ = kind  # first, since it takes either layout
        linear.weight = nn.Parameter(laid_out(weight_OI), requires_grad=False)


def plain_source(trunk: nn.Module) -> nn.Module:
    """The trunk, or what has the plain weights of a packed one: the same module for as long as anybody keeps it."""
    if not any(map(is_packed, trunk.modules())):
        return trunk
    kept: Any = vars(trunk).get("plain_source")
    source: nn.Module | None = None if kept is None else kept()
    if source is None:
        source = twin_of(trunk)
        for linear in source.modules():
            if is_packed(linear):
                weight = plain_weight(linear)
                linear.__class__ = _PLAIN[type(linear)]
                linear.weight = nn.Parameter(weight, requires_grad=False)
        vars(trunk)["plain_source"] = ref(source)
    return source


def plain_weight(linear: Any) -> Tensor:
    """The weight of a packed linear as its class has it: (O, I), Conv1D's (I, O). A copy, equal in every bit."""
    with torch.inference_mode(False):
        weight_OI: Tensor = linear.weight.detach().to_dense()
        return weight_OI.T.contiguous() if isinstance(linear, Conv1D) else weight_OI
