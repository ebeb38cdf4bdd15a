"""The fused GELU is transformers' own: every bit for use, and to rounding while something trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers.activations import NewGELUActivation

from adapterkit.backbone.activation import FusedGelu, use_fused_activations


def fused() -> nn.Module:
    layer = nn.Sequential(NewGELUActivation())
    use_fused_activations(layer)
    assert type(layer[0]) is FusedGelu
    return layer


def test_value_and_gradient_equal_transformers_own() -> None:
    x = torch.linspace(-6, 6, 1001).requires_grad_()
    upstream = torch.linspace(-1, 1, 1001)
    found, expected = fused()(x), NewGELUActivation()(x)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    one, other = (torch.autograd.grad(y, x, upstream)[0] for y in (found, expected))
    assert torch.allclose(one, other, rtol=0, atol=1e-6)


def test_one_tensor_is_kept() -> None:
    x = torch.randn(50).requires_grad_()
    kept: list[Any] = []

    def keep(tensor: Any) -> Any:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        fused()(x)
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr()]


def test_for_use_every_bit_is_transformers_own() -> None:
    x = torch.randn(1001)
    assert torch.equal(fused()(x), NewGELUActivation()(x))
    with torch.no_grad():
        assert torch.equal(fused()(x.requires_grad_()), NewGELUActivation()(x))


def test_trunks_use_it(tiny_backbones: Mapping[str, Any]) -> None:
    kinds = {type(module) for module in tiny_backbones["gpt2"].trunk.modules()}
    assert FusedGelu in kinds
    assert NewGELUActivation not in kinds
