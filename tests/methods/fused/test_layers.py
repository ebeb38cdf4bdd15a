"""Under PEFT's layers: the same gradients in every family, and PEFT's own forward where the fused one does not fit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from adapterkit.methods.attachment import Attachment
from adapterkit.methods.bottleneck import BottleneckLayer
from adapterkit.methods.fused import layers as fused_layers
from adapterkit.recipe import BottleneckMethod, LoraMethod
from tests import tiny
from tests.methods.cases import attached, disturb, hidden

ALL = {"sites": "all-linear", "rank": 4}
METHODS = {
    "query and value": LoraMethod(rank=4),
    "all linears": LoraMethod(**ALL),
    "top layer": LoraMethod(**ALL, top=1),
    "a rank of its own": LoraMethod(**ALL, rank_pattern={"attention.output": 2}, alpha=3.0),
    "pissa": LoraMethod(**ALL, initialization="pissa"),
    "houlsby": BottleneckMethod(placement="houlsby", width=4, activation="silu"),
    "pfeiffer": BottleneckMethod(placement="pfeiffer", width=4, activation="gelu"),
    "parallel": BottleneckMethod(placement="parallel", width=4, activation="tanh", scale_learned=True),
}
FALLING_BACK = {"dora": LoraMethod(**ALL, dora=True), "biases": LoraMethod(rank=4, bias="lora_only")}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each call of the fused LoRA function, how many linears it computed."""
    found: list[int] = []

    def count(x: Tensor, linears: Any, *more: Any) -> tuple[Tensor, ...]:
        found.append(len(linears))
        return plain(x, linears, *more)

    plain = fused_layers.lora_linears
    monkeypatch.setattr(fused_layers, "lora_linears", count)
    return found


def gradients(backbone: Any, family: str, attachment: Attachment, *, fused: bool) -> dict[str, Tensor]:
    attachment.fuse(fused)
    for parameter in attachment.parameters().values():
        parameter.grad = None
    answer = hidden(backbone.trunk, family)
    (answer * torch.linspace(-1, 1, answer.numel()).view_as(answer)).sum().backward()
    return {path: p.grad.clone() for path, p in attachment.parameters().items() if p.grad is not None}


def adapted_layers(backbone: Any, kind: type) -> list[Any]:
    return [module for module in backbone.trunk.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_those_of_the_plain_layers(tiny_backbones: Any, family: str, name: str) -> None:
    backbone = tiny_backbones[family]
    with attached(backbone, METHODS[name]) as attachment:
        disturb(attachment, 0.1)
        plain = gradients(backbone, family, attachment, fused=False)
        fused = gradients(backbone, family, attachment, fused=True)
    assert plain.keys() == fused.keys()
    whole = torch.stack([gradient.norm() for gradient in plain.values()]).norm()
    for path, expected in plain.items():
        # Sums in another order, through up to four layers; a key's gradients are differences of larger ones.
        assert float((fused[path] - expected).norm()) < 1e-5 * float(expected.norm()) + 1e-6 * float(whole), path


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_linears_that_read_the_same_are_computed_together(
    tiny_backbones: Any, family: str, computed: list[int]
) -> None:
    backbone = tiny_backbones[family]
    with attached(backbone, LoraMethod(**ALL)):
        hidden(backbone.trunk, family).sum().backward()
    linears = [3, 1, 1, 1], [3, 1, 2, 1], [3, 1, 1, 1]
    layer = dict(zip(("bert", "llama", "t5"), linears, strict=True))[family]
    # T5's decoder has a cross attention between the two: its query alone, its key and value together.
    expected = layer * 2 + [3, 1, 1, 2, 1, 1, 1] * 2 if family == "t5" else layer * 3
    assert computed == expected


def test_without_gradients_pefts_own_forward_answers(tiny_backbones: Any, computed: list[int]) -> None:
    backbone = tiny_backbones["bert"]
    with attached(backbone, LoraMethod()) as attachment, torch.no_grad():
        disturb(attachment)
        hidden(backbone.trunk, "bert")
    assert computed == []


@pytest.mark.parametrize("name", FALLING_BACK)
def test_what_does_not_fit_falls_back(tiny_backbones: Any, name: str, computed: list[int]) -> None:
    backbone = tiny_backbones["bert"]
    with attached(backbone, FALLING_BACK[name]):
        hidden(backbone.trunk, "bert").sum().backward()
    assert computed == []


def test_disabled_merged_and_hooked_layers_fall_back(tiny_backbones: Any, computed: list[int]) -> None:
    backbone = tiny_backbones["bert"]
    bare = hidden(backbone.trunk, "bert")
    with attached(backbone, LoraMethod(sites=("attention.query",), layers=(0,))) as attachment:
        disturb(attachment)
        expected = hidden(backbone.trunk, "bert")
        computed.clear()
        (layer,) = adapted_layers(backbone, LoraLayer)
        layer.enable_adapters(False)
        assert torch.equal(hidden(backbone.trunk, "bert"), bare)
        layer.enable_adapters(True)
        attachment.merge()
        assert torch.allclose(hidden(backbone.trunk, "bert"), expected, atol=1e-4)
        attachment.unmerge()
        seen: list[Tensor] = []
        handle = layer.base_layer.register_forward_hook(lambda module, args, output: seen.append(output))
        assert torch.allclose(hidden(backbone.trunk, "bert"), expected, atol=1e-5)
        handle.remove()
        assert len(seen) == 1
        assert computed == []
        hidden(backbone.trunk, "bert")
        assert computed == [1]


def test_a_reader_that_is_given_another_x_computes_for_itself(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    with attached(backbone, LoraMethod(layers=(0,))) as attachment:
        disturb(attachment)
        query, value = adapted_layers(backbone, LoraLayer)
        one, other = torch.randn(2, 3, 32), torch.randn(2, 3, 32)
        found = query(one), value(other), value(one), query(other), value(other)
        attachment.fuse(False)
        expected = query(one), value(other), value(one), query(other), value(other)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))


def test_a_copy_of_the_model_calls_its_own_layers(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    with attached(backbone, LoraMethod(layers=(0,))) as attachment:
        disturb(attachment)
        query, _ = adapted_layers(backbone, LoraLayer)
        query(torch.randn(2, 3, 32))  # leaves an output waiting
        twin = copy.deepcopy(backbone.trunk)
        expected = hidden(backbone.trunk, "bert")
        with torch.no_grad():
            for parameter in attachment.parameters().values():
                parameter.zero_()
        assert torch.allclose(hidden(twin, "bert"), expected, atol=1e-6)
        assert not torch.allclose(hidden(backbone.trunk, "bert"), expected, atol=1e-3)


@pytest.mark.parametrize("settings", [LoraMethod(**ALL, dropout=0.3), BottleneckMethod(width=4, dropout=0.3)])
def test_dropout_follows_the_seed_and_rests_in_eval_mode(tiny_backbones: Any, settings: Any) -> None:
    backbone = tiny_backbones["bert"]
    with attached(backbone, settings) as attachment:
        disturb(attachment)
        still = hidden(backbone.trunk, "bert")
        assert torch.equal(still, hidden(backbone.trunk, "bert"))
        attachment.train()
        drawn = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            drawn.append(hidden(backbone.trunk, "bert"))
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])
        assert not torch.allclose(drawn[0], still, atol=1e-3)


def test_fusing_can_be_switched_and_is_on_from_the_start(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    with attached(backbone, LoraMethod()) as attachment:
        layers = adapted_layers(backbone, LoraLayer)
        assert all("forward" in vars(layer) for layer in layers)
        attachment.fuse(False)
        assert not any("forward" in vars(layer) for layer in layers)
    with attached(backbone, BottleneckMethod(width=4)) as attachment:
        (first, *_) = adapted_layers(backbone, BottleneckLayer)
        assert first.fused
        attachment.fuse(False)
        assert not first.fused


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_autocast_on_a_bf16_backbone_keeps_outputs_and_gradients_near_the_plain_ones(
    fresh_backbone: Any, family: str
) -> None:
    backbone = fresh_backbone(family, dtype="bfloat16")
    for name in ("all linears", "houlsby"):
        with attached(backbone, METHODS[name]) as attachment, torch.autocast("cpu", dtype=torch.bfloat16):
            disturb(attachment, 0.05)
            plain = gradients(backbone, family, attachment, fused=False)
            fused = gradients(backbone, family, attachment, fused=True)
        apart = torch.stack([(fused[path] - plain[path]).norm() for path in plain]).norm()
        # bf16 keeps eight bits, and the two round in different places.
        assert float(apart / torch.stack([g.norm() for g in plain.values()]).norm()) < 0.05


def test_a_linear_of_a_foreign_class_falls_back(tiny_backbones: Any, computed: list[int]) -> None:
    class Special(nn.Linear):
        """Stands for a quantised linear."""

    backbone = tiny_backbones["bert"]
    with attached(backbone, LoraMethod(layers=(0,))) as attachment:
        for layer in adapted_layers(backbone, LoraLayer):
            layer.base_layer.__class__ = Special
        attachment.fuse()
        hidden(backbone.trunk, "bert").sum().backward()
        for layer in adapted_layers(backbone, LoraLayer):
            layer.base_layer.__class__ = nn.Linear
    assert computed == []
