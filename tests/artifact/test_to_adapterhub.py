"""Artifacts become AdapterHub's folders. `make interop` lets AdapterHub itself load such; here is what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adapterkit.artifact import export, import_adapterhub, load
from adapterkit.errors import ExportError
from adapterkit.recipe import BottleneckMethod, HeadSettings, Ia3Method, LoraMethod, NoMethod
from tests.artifact.conftest import FAMILY, logits, make, write

FIRST = HeadSettings(kind="linear", pooling="first")


def test_a_bottleneck_has_adapterhubs_names_and_the_same_numbers(tmp_path: Path, tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    with make(backbone, BottleneckMethod(width=3, layers=(0, 2)), FIRST) as adapted:
        write(tmp_path / "in", adapted, dtype="float32")
        state, expected = adapted.state(), logits(adapted)
    folder = export(tmp_path / "in", tmp_path / "out", to="adapterhub", backbone=backbone)
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter.safetensors")
    assert config["config"]["leave_out"] == [1]
    assert int(32 // config["config"]["reduction_factor"]) == 3
    down = "bert.encoder.layer.2.output.adapters.out.adapter_down.0.weight"
    ours = "base_model.model.bert.encoder.layer.2.output.dense.bottleneck_down.weight"
    assert torch.equal(tensors[down], state[ours])
    assert len(tensors) == 2 * 4
    head = load_file(folder / "model_head.safetensors")
    assert torch.equal(head["heads.out.1.weight"], state["base_model.model.adapterkit_head.output.classifier.weight"])
    with load(import_adapterhub(folder, tmp_path / "back", backbone), backbone) as adapted:
        assert torch.equal(logits(adapted), expected)


def test_a_lora_of_many_ranks_has_one_and_no_scale(tmp_path: Path, tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    method = LoraMethod(rank=2, alpha=8.0, rank_pattern={"attention.value": 5}, rslora=True)
    with make(backbone, method, FIRST) as adapted:
        write(tmp_path / "in", adapted, dtype="float32")
        state = adapted.state()
    folder = export(tmp_path / "in", tmp_path / "out", to="adapterhub", backbone=backbone)
    config = json.loads((folder / "adapter_config.json").read_text())["config"]
    assert (config["r"], config["alpha"], config["attn_matrices"]) == (5, 5, ["q", "v"])
    tensors = load_file(folder / "adapter.safetensors")
    start = "encoder.layer.1.attention.self.query."
    theirs = [tensors[f"bert.{start}loras.out.lora_{side}"] for side in "BA"]
    ours = [state[f"base_model.model.bert.{start}lora_{side}.weight"] for side in "BA"]
    torch.testing.assert_close(theirs[0] @ theirs[1], 8 / 2**0.5 * ours[0] @ ours[1])


@pytest.mark.parametrize(
    ("family", "method", "head", "reason"),
    [
        ("bert", BottleneckMethod(width=2), HeadSettings(kind="linear", pooling="mean"), "pooling mean"),
        ("bert", BottleneckMethod(width=2), HeadSettings(kind="attention"), "head attention"),
        ("bert", BottleneckMethod(width=2), HeadSettings(kind="mlp", hidden=7, pooling="first"), "head width 7"),
        ("bert", LoraMethod(rank=2, dora=True), FIRST, "magnitudes"),
        ("bert", LoraMethod(rank=2, sites=("attention.output",)), FIRST, "sites attention.output"),
        ("bert", Ia3Method(), FIRST, "AdapterHub scales what a linear gives"),
        ("bert", NoMethod(), FIRST, "expected a LoRA"),
        ("bert-without-pooler", LoraMethod(rank=2), FAMILY, "pooler was trained"),
        ("t5", LoraMethod(rank=2), FIRST, "reads the encoder"),
        ("llama", LoraMethod(rank=2), FAMILY, "backbone: llama"),
    ],
)
def test_what_adapterhub_cannot_say_is_refused_with_the_reason(
    tmp_path: Path, tiny_backbones: Any, family: str, method: Any, head: HeadSettings, reason: str
) -> None:
    with make(tiny_backbones[family], method, head) as adapted:
        write(tmp_path / "in", adapted)
    with pytest.raises(ExportError, match=reason):
        export(tmp_path / "in", tmp_path / "out", to="adapterhub", backbone=tiny_backbones[family])
    assert not (tmp_path / "out").exists()
