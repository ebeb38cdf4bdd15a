"""Weights in eight bits: what is narrow, how far answers move, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adapterkit as ak
from adapterkit.backbone.quantise import quantised_linears
from adapterkit.errors import BackboneError, MergeError, RecipeError
from adapterkit.recipe import Ia3Method, LoraMethod
from tests.laws.worlds import adapter, batch_of, disturb, logits_of
from tests.training.worlds import recipe, train

pytest.importorskip("torchao", reason="int8 needs torchao")

FAMILIES = ("bert", "modernbert", "llama", "t5", "bart")


def int8(tiny_backbones: Any, family: str) -> ak.Backbone:
    return ak.Backbone.load(tiny_backbones[family].folder, dtype="int8", device="cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_linears_of_the_layers_are_narrow_and_nothing_else_is(tiny_backbones: Any, family: str) -> None:
    backbone, plain = int8(tiny_backbones, family), tiny_backbones[family]
    assert backbone.quantised
    assert not plain.quantised
    narrow = {name for name, tensor in backbone.trunk.named_parameters() if type(tensor) is not nn.Parameter}
    linears = {f"{path}.weight" for path in quantised_linears(plain.trunk, plain.sites)}
    assert narrow == linears
    assert len(linears) >= 6 * 2
    for name, weight in plain.trunk.named_parameters():
        found = backbone.trunk.get_parameter(name)
        if name in narrow:
            # A channel's 255 steps reach from minus its largest weight to plus it; a rounding is half of one.
            half_OI = weight.detach().abs().amax(dim=1, keepdim=True) / 127 / 2
            assert ((found.dequantize() - weight).abs() <= 1.01 * half_OI).all(), name
        else:
            assert torch.equal(found, weight), name
    assert backbone.fingerprint == plain.fingerprint
    assert backbone.contract == plain.contract


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_learns_on_them(tiny_backbones: Any, family: str) -> None:
    method = LoraMethod(sites="all-linear", rank=4)
    with adapter(int8(tiny_backbones, family), "text-classification", method) as adapted:
        batch = batch_of(adapted)
        optimizer = torch.optim.Adam([*adapted.method_parameters().values(), *adapted.head_parameters().values()], 1e-2)
        losses = []
        for _ in range(8):
            loss = adapted.task.loss(adapted(batch.inputs), batch).mean
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_an_artifact_of_either_weights_verifies_on_the_other(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone, plain = int8(tiny_backbones, "bert"), tiny_backbones["bert"]
    for name, trained_on, tried_on in (("narrow", backbone, plain), ("wide", plain, backbone)):
        wanted = recipe(tmp_path, plain, output=str(tmp_path / name))
        folder = train(wanted, backbone=trained_on).artifact
        assert ak.verify(folder, backbone=trained_on).ok
        assert ak.verify(folder, backbone=tried_on).ok


@pytest.mark.parametrize("method", [LoraMethod(), Ia3Method()], ids=["lora", "ia3"])
def test_merging_is_refused_and_changes_nothing(tiny_backbones: Mapping[str, Any], method: Any) -> None:
    with adapter(int8(tiny_backbones, "bert"), "text-classification", method) as adapted:
        disturb(adapted)
        before = logits_of(adapted)
        with pytest.raises(MergeError, match="quantised weights"):
            adapted.merge()
        assert torch.equal(logits_of(adapted), before)


def test_initialisations_that_split_the_weight_are_refused(tiny_backbones: Mapping[str, Any]) -> None:
    with (
        pytest.raises(RecipeError, match="not quantised"),
        adapter(int8(tiny_backbones, "bert"), "text-classification", LoraMethod(initialization="pissa")),
    ):
        pass


def test_the_planner_counts_their_bytes(tiny_backbones: Mapping[str, Any], tmp_path: Path) -> None:
    backbone, plain = int8(tiny_backbones, "bert"), tiny_backbones["bert"]
    wanted = recipe(tmp_path, plain, backbone={"name": str(plain.folder), "dtype": "int8"})
    planned, wide = ak.plan(wanted), ak.plan(recipe(tmp_path, plain))
    held = 0
    for tensor in backbone.trunk.parameters():
        narrow = type(tensor) is not nn.Parameter
        parts = (tensor.qdata, tensor.scale, tensor.zero_point) if narrow else (tensor,)
        held += sum(part.numel() * part.element_size() for part in parts)
    unused = sum(p.numel() * p.element_size() for p in plain.trunk.parameters()) - wide.memory.weights
    assert planned.memory.weights == pytest.approx(held - unused, rel=0.01)
    assert planned.memory.weights < wide.memory.weights


def test_gpt2s_linears_are_refused(tiny_backbones: Any) -> None:
    with pytest.raises(BackboneError, match="no linears that can be int8") as caught:
        int8(tiny_backbones, "gpt2")
    assert "Conv1D" in str(caught.value)


def test_a_missing_torchao_is_named(tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchao.quantization", None)
    with pytest.raises(BackboneError, match="need torchao"):
        int8(tiny_backbones, "bert")
