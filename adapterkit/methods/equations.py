"""What a bottleneck reads and what it adds: the equations alone, for every layer that needs them, PEFT's or not.

Axes: … any leading axes (rows, tokens), D hidden width.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
    "tanh": functional.tanh,
    "sigmoid": torch.sigmoid,
    "leaky_relu": functional.leaky_relu,
    "identity": torch.clone,
}


def bottleneck_input(
    placement: str, h: Tensor, residual: Tensor | None, norm: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """z (…, D): h for houlsby, LN(h + r) or h + r for pfeiffer, r for parallel.
    `h`: (…, D), what the sublayer gives. `residual`: (…, D), what the model adds to it; not needed by houlsby. `norm`:
    what the model applies after adding; None where it normalises before the sublayer."""
    if residual is None or placement == "houlsby":
        return h
    if placement == "parallel":
        return residual
    z = h + residual
    return z if norm is None else norm(z)


def bottleneck(z: Tensor, down: Any, up: Any, activation: str, scale: Tensor | float) -> Tensor:
    """f(z) = scale · (W_up · act(W_down · z + b_down) + b_up), in the dtype of the projections. Returns (…, D)."""
    added: Tensor = scale * up(ACTIVATIONS[activation](down(z.to(down.weight.dtype))))
    return added
