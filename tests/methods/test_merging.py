"""Folding LoRA into weights, and out again."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapterkit.errors import AdapterkitError, MergeError
from adapterkit.methods.attachment import Merge
from adapterkit.recipe import LoraMethod
from tests.methods.cases import attached, bits, disturb


def layers_of(trunk: Any) -> dict[str, Any]:
    return {name: module for name, module in trunk.named_modules() if hasattr(module, "lora_A")}


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("dora", [False, True])
def test_a_merged_weight_is_the_weight_plus_the_update(tiny_backbones: Any, family: str, dora: bool) -> None:
    trunk = tiny_backbones[family].trunk
    settings = LoraMethod(sites="all-linear", rank=2, alpha=4.0, dora=dora)
    with attached(tiny_backbones[family], settings) as attachment, torch.no_grad():
        disturb(attachment)
        layers, state = layers_of(trunk), attachment.state()
        before = {path: layer.base_layer.weight.clone() for path, layer in layers.items()}
        merge = Merge(layers)
        for path, layer in layers.items():
            a, b = (state[f"{path}.lora_{name}.weight"] for name in "AB")
            bare = before[path].T if family == "gpt2" else before[path]
            expected = bare + 2.0 * b @ a
            if dora:  # magnitude times direction, row by row
                magnitude = state[f"{path}.lora_magnitude_vector"]
                expected = magnitude[:, None] * expected / expected.norm(dim=1, keepdim=True)
            found = layer.base_layer.weight.T if family == "gpt2" else layer.base_layer.weight
            assert torch.allclose(found, expected, atol=1e-5)
        merge.undo()
        assert all(bits(layer.base_layer.weight) == bits(before[path]) for path, layer in layers.items())
        assert not any(layer.merged for layer in layers.values())
        merge.undo()  # twice is once


def test_one_broken_layer_leaves_every_layer_unmerged(tiny_backbones: Any) -> None:
    trunk = tiny_backbones["bert"].trunk
    with attached(tiny_backbones["bert"], LoraMethod()) as attachment:
        parameters = attachment.parameters()
        broken = sorted(path for path in parameters if path.endswith("lora_B.weight"))[2:4]
        with torch.no_grad():
            for path in broken:
                parameters[path].fill_(float("nan"))
        layers = layers_of(trunk)
        before = [bits(layer.base_layer.weight) for layer in layers.values()]
        with pytest.raises(MergeError) as error:
            Merge(layers)
        assert [problem.partition(":")[0] for problem in error.value.problems] == [
            path.removesuffix(".lora_B.weight") for path in broken
        ]
        assert [bits(layer.base_layer.weight) for layer in layers.values()] == before
        assert not any(layer.merged for layer in layers.values())


def test_a_merge_error_is_caught_as_adapterkits_and_as_a_value_error() -> None:
    assert issubclass(MergeError, AdapterkitError)
    assert issubclass(MergeError, ValueError)
