"""The bottleneck's fused function against gradients by differences and a reference with the same mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from adapterkit.backbone.dropout import draw
from adapterkit.methods.equations import ACTIVATIONS
from adapterkit.methods.fused import bottleneck as fused
from adapterkit.methods.fused.bottleneck import BottleneckTensors, add_bottleneck


def parts(**more: Any) -> tuple[list[Tensor], dict[str, Any]]:
    torch.manual_seed(0)
    shapes = ((3, 5), (3,), (5, 3), (5,))
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    settings = {"scale": 0.5, "activation": torch.tanh, "dropout": 0.0, **more}
    return tensors, settings


@pytest.mark.parametrize("own_z", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("learned", [False, True])
def test_gradients_are_those_of_differences(
    own_z: bool, dropout: float, learned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = draw((2, 4))
    monkeypatch.setattr(fused, "draw", lambda lead: drawn)
    tensors, settings = parts(dropout=dropout)
    h, z = (torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scale = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)

    def run(h: Tensor, z: Tensor, scale: Tensor, *tensors: Tensor) -> Tensor:
        whole = {**settings, "scale": scale if learned else 0.5}
        return add_bottleneck(h, z if own_z else h, BottleneckTensors(*tensors, **whole))

    assert torch.autograd.gradcheck(run, (h, z, scale, *tensors))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_values_and_gradients_are_the_equations(
    activation: str, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = draw((3, 4))
    monkeypatch.setattr(fused, "draw", lambda lead: drawn)
    (down, down_bias, up, up_bias), settings = parts(dropout=dropout, activation=ACTIVATIONS[activation])
    h = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    mask = drawn.mask_like(h.detach(), dropout) if dropout else 1.0
    expected = h + mask * 0.5 * (ACTIVATIONS[activation](h @ down.T + down_bias) @ up.T + up_bias)
    found = add_bottleneck(h, h, BottleneckTensors(down, down_bias, up, up_bias, **settings))
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    wanted = (h, down, down_bias, up, up_bias)
    ours, theirs = (torch.autograd.grad(result.square().sum(), wanted) for result in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


def test_only_z_and_the_narrow_middle_are_kept() -> None:
    (down, down_bias, up, up_bias), settings = parts(dropout=0.5)
    h, z = torch.randn(8, 5, dtype=torch.float64), torch.randn(8, 5, dtype=torch.float64)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        add_bottleneck(h, z, BottleneckTensors(down, down_bias, up, up_bias, **settings))
    for tensor in (down, down_bias, up, up_bias):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    assert sorted(kept.values()) == [8 * 8 * 3, 8 * 8 * 5]
