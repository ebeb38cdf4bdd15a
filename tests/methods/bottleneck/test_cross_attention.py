"""A bottleneck at the cross-attention, against hooks on plain transformers models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapterkit.errors import SiteError
from adapterkit.recipe import BottleneckMethod
from tests.laws.worlds import adapter
from tests.methods.cases import attached, disturb, hidden
from tests.methods.equations import Adapter

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
F = Callable[[Tensor], Tensor]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_hidden_states_follow_the_equations(fresh_backbone: Any, family: str, placement: str) -> None:
    backbone = fresh_backbone(family)
    trunk = backbone.trunk.double()
    trained = {"placement": placement, "width": 8, "scale": 2.0}
    with attached(backbone, BottleneckMethod(**trained, cross_attention=True), dtype=torch.float64) as attachment:
        disturb(attachment, 0.1)
        tensors = attachment.state()
        with torch.no_grad():
            found = hidden(trunk, family)
    assert {path.rpartition(".bottleneck")[0] for path in tensors if ends_cross(path)} == ends(trunk)
    elsewhere = {path: tensor for path, tensor in tensors.items() if not ends_cross(path)}
    with attached(backbone, BottleneckMethod(**trained), dtype=torch.float64) as attachment, torch.no_grad():
        attachment.load(elsewhere)
        without = hidden(trunk, family)
        by_hand(trunk, family, placement, Adapter(placement, tensors, scale=2.0))
        expected = hidden(trunk, family)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    assert (found - without).abs().max() > 0.01


def ends_cross(path: str) -> bool:
    return "EncDecAttention.o" in path or "encoder_attn.out_proj" in path


def ends(trunk: nn.Module) -> set[str]:
    """The linears whose output is the cross-attention's."""
    return {path for path, _ in trunk.named_modules() if path.endswith(("EncDecAttention.o", "encoder_attn.out_proj"))}


def by_hand(trunk: Any, family: str, placement: str, adapter: Adapter) -> None:
    """Change what every cross-attention's whole branch gives, T5's after it added, BART's before its norm."""
    for path in ends(trunk):
        above, f = path.rpartition(".")[0].rpartition(".")[0], partial(adapter.f, path)
        (after_adding if family == "t5" else before_norm)(trunk.get_submodule(above), placement, f)


def after_adding(sublayer: nn.Module, placement: str, f: F) -> None:
    def changed(module: nn.Module, args: Any, output: Any) -> Any:
        r, total = args[0], output[0]
        z = {"houlsby": total - r, "pfeiffer": total, "parallel": r}[placement]
        return (total + f(z), *output[1:])

    sublayer.register_forward_hook(changed)


def before_norm(layer: Any, placement: str, f: F) -> None:
    seen: list[Tensor] = []
    layer.encoder_attn.out_proj.register_forward_hook(lambda module, args, output: seen.append(output))

    def changed(norm: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        h = seen.pop()
        r = args[0] - h
        z = {"houlsby": lambda: h, "pfeiffer": lambda: norm.forward(h + r), "parallel": lambda: r}[placement]()
        return (args[0] + f(z),)

    layer.encoder_attn_layer_norm.register_forward_pre_hook(changed)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_backbones_without_one_refuse_it(tiny_backbones: Any, family: str) -> None:
    with (
        pytest.raises(SiteError, match="'cross_attention': not in this backbone, which has attention, feedforward"),
        attached(tiny_backbones[family], BottleneckMethod(cross_attention=True)),
    ):
        pass


def test_a_model_without_the_decoder_refuses_it(tiny_backbones: Any) -> None:
    with (
        pytest.raises(SiteError, match="no cross-attention in the layers that this model adapts"),
        adapter(tiny_backbones["t5"], "token-classification", BottleneckMethod(cross_attention=True)),
    ):
        pass
