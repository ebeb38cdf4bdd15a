"""The frozen products of a training step: x·Wᵀ on the way up, and g·W, the gradient of x, on the way down.

A frozen weight may be laid out once for the processor (see `backbone.packed_weights`), for each of the two ways where a
measurement says that it pays. Both layouts stand beside the plain weight, which is mostly the mapped file itself: at
most two copies of the linears through which a step goes, for as long as it trains.

On the way down most rows may be zeros: above the last attention where a head reads one token of each row. Such rows
give zeros, and are left out of the product.

Axes: N rows and tokens, I inputs, O outputs.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import Conv1D

from adapterkit.backbone import Site
from adapterkit.backbone.packed_weights import laid_out, product
from adapterkit.backbone.packing_choice import pays
from adapterkit.backbone.quantisation import is_plain

TOKENS = (256,)
"""With how many tokens the layouts are compared."""

GAIN = 0.05
"""The share of a product's time that a layout has to save: it takes as much memory as the weight."""

_UNDECIDED = object()


class Frozen:
    """The forward of one frozen linear. An object and not a closure, so that a copied model has its own."""

    def __init__(self, linear: Any) -> None:
        """`linear`: torch's Linear, or GPT-2's Conv1D, in numbers."""
        self.linear = linear
        self._layouts: dict[str, Any] = {}
        self._address = 0

    def __call__(self, x: Tensor) -> Tensor:
        """x (…, I) to (…, O), as the linear's class gives it; the gradient flows to x alone."""
        linear, weight = self.linear, self.linear.weight
        dtype = product_dtype(x, weight)
        trains = weight.requires_grad or (linear.bias is not None and linear.bias.requires_grad)
        if trains or dtype != weight.dtype or torch.compiler.is_compiling():
            return type(linear).forward(linear, x)  # type: ignore[no-any-return]
        if torch.is_grad_enabled() and x.requires_grad:
            y_NO: Tensor = _Product.apply(x, self, dtype)  # type: ignore[no-untyped-call]
            return y_NO.view(*x.shape[:-1], y_NO.shape[-1])
        return up(linear, x.to(dtype))

    def layout(self, way: str, weight_OI: Tensor) -> Tensor | None:
        """The weight's layout for one way, made when first asked for; None where it does not pay."""
        address = self.linear.weight.data_ptr()
        if address != self._address:  # merging puts another weight there
            self._layouts, self._address = {}, address
        found = self._layouts.get(way, _UNDECIDED)
        if found is _UNDECIDED:
            worth = weight_OI.is_cpu and pays(weight_OI, laid_out, product, TOKENS, GAIN)
            found = self._layouts[way] = laid_out(weight_OI) if worth else None
        return found  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        # Layouts are made again where they pay.
        return {"linear": self.linear, "_layouts": {}, "_address": 0}


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: Frozen, dtype: torch.dtype) -> Tensor:
        ctx.linear, ctx.shape, ctx.given, ctx.products = frozen.linear, x.shape, x.dtype, dtype
        return up(frozen.linear, x.to(dtype).reshape(-1, x.shape[-1]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        grad_NI = add_down(None, ctx.linear, gradient.to(ctx.products))
        return grad_NI.view(ctx.shape).to(ctx.given), None, None


def put_on(trunk: nn.Module, sites: Iterable[Site]) -> None:
    """Let the plain linears of a trunk's sites compute so, under whatever is attached to them."""
    for linear in _linears(trunk, sites):
        if type(linear) in (nn.Linear, Conv1D) and is_plain(linear):
            linear.forward = Frozen(linear)


def take_off(trunk: nn.Module, sites: Iterable[Site]) -> None:
    """Leave them with their class's own forward, and let the layouts go."""
    for linear in _linears(trunk, sites):
        if isinstance(vars(linear).get("forward"), Frozen):
            del linear.forward


def most_bytes(trunk: nn.Module, sites: Iterable[Site]) -> int:
    """What the layouts of both ways take where all pay."""
    weights: list[Tensor] = [linear.weight for linear in _linears(trunk, sites) if is_plain(linear)]
    return 2 * sum(weight.numel() * weight.element_size() for weight in weights)


def _linears(trunk: nn.Module, sites: Iterable[Site]) -> Iterator[Any]:
    for site in sites:
        if site.linear:
            module: Any = trunk.get_submodule(site.path)
            yield module.get_base_layer() if hasattr(module, "get_base_layer") else module


def up(linear: Any, x: Tensor) -> Tensor:
    """x·Wᵀ + b: (…, I) to (…, O)."""
    layout = _layout(linear, "up")
    if layout is not None:
        return product(x, layout, linear.bias)
    if isinstance(linear, Conv1D):
        return torch.addmm(linear.bias, x.reshape(-1, x.shape[-1]), linear.weight).view(*x.shape[:-1], -1)
    return F.linear(x, linear.weight, linear.bias)


def add_down(grad_NI: Tensor | None, linear: Any, g_NO: Tensor) -> Tensor:
    """g·W, or a gradient (N, I) with it added in place."""
    rows = rows_with_gradient(g_NO)
    if rows is not None:
        if grad_NI is None:
            grad_NI = g_NO.new_zeros(len(g_NO), _weight_of(linear).shape[1])
        return grad_NI.index_add_(0, rows, _down(linear, g_NO[rows]))
    if grad_NI is None:
        return _down(linear, g_NO)
    if _layout(linear, "down") is None:
        return grad_NI.addmm_(g_NO, _weight_of(linear))
    return grad_NI.add_(_down(linear, g_NO))


def rows_with_gradient(g_NO: Tensor) -> Tensor | None:
    """The rows that are not zeros throughout; None where they are more than half, or not in a CPU's memory."""
    if not g_NO.is_cpu or type(g_NO) is not Tensor:  # a plan's tensors have no numbers
        return None
    few = len(g_NO) // 2
    sample_NK = g_NO[:, :: max(1, g_NO.shape[1] // 8)]
    if int(sample_NK.any(1).sum()) > few:  # nearly always, and cheap
        return None
    rows = g_NO.abs().amax(1).nonzero()[:, 0]  # five times as fast as `any`
    return rows if len(rows) <= few else None


def _down(linear: Any, g_NO: Tensor) -> Tensor:
    layout = _layout(linear, "down")
    return g_NO @ _weight_of(linear) if layout is None else product(g_NO, layout, None)


def _layout(linear: Any, way: str) -> Tensor | None:
    frozen = vars(linear).get("forward")
    if not isinstance(frozen, Frozen):
        return None
    weight_OI = _weight_of(linear)
    return frozen.layout(way, weight_OI if way == "up" else weight_OI.T)


def _weight_of(linear: Any) -> Tensor:
    weight: Tensor = linear.weight.detach()
    return weight.T if isinstance(linear, Conv1D) else weight


def product_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """Autocast's format where that is on, else the weight's."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
