"""IA3 against the paper's equations, and the places that it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from adapterkit.errors import SiteError
from adapterkit.methods.rows.ia3 import check_injected, choose
from adapterkit.methods.table import attach
from adapterkit.recipe import Ia3Method
from tests.methods.cases import attached, bits, disturb

PLACES = {
    "bert": ("attention.key", "attention.value", "feedforward.output"),
    "modernbert": ("attention.qkv", "feedforward.output"),
    "gpt2": ("attention.qkv", "feedforward.output"),
    "llama": ("attention.key", "attention.value", "feedforward.output"),
    "t5": ("attention.key", "attention.value", "feedforward.output", "cross_attention.key", "cross_attention.value"),
}


@pytest.mark.parametrize("family", PLACES)
def test_by_itself_it_takes_the_places_of_the_paper(tiny_backbones: Any, family: str) -> None:
    chosen = choose(tiny_backbones[family].sites, Ia3Method())
    assert set(PLACES[family]) == {site.name for site in chosen}


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_every_layer_is_the_papers_equation_and_merging_is_that_in_weights(tiny_backbones: Any, family: str) -> None:
    backbone = tiny_backbones[family]
    with attached(backbone, Ia3Method()) as attachment, torch.no_grad():
        disturb(attachment)
        layers = {name: module for name, module in backbone.trunk.named_modules() if hasattr(module, "ia3_l")}
        own = {path: (layer.base_layer.weight.clone(), layer.base_layer.bias.clone()) for path, layer in layers.items()}
        x_by_path, expected = {}, {}
        for path, (weight, bias) in own.items():
            weight_OI = weight.T if family == "gpt2" else weight
            factor = attachment.state()[f"{path}.ia3_l"].flatten()
            x = x_by_path[path] = torch.randn(3, weight_OI.shape[1], generator=torch.Generator().manual_seed(1))
            if path.endswith(("output.dense", "mlp.c_proj")):  # γ(W₁x) is scaled before W₂
                expected[path] = functional.linear(factor * x, weight_OI, bias)
            else:  # keys and values
                expected[path] = factor * functional.linear(x, weight_OI, bias)
            torch.testing.assert_close(layers[path](x), expected[path])
        attachment.merge()
        for path, layer in layers.items():
            torch.testing.assert_close(layer(x_by_path[path]), expected[path])
            assert layer.merged
        attachment.unmerge()
        for path, layer in layers.items():
            assert (bits(layer.base_layer.weight), bits(layer.base_layer.bias)) == tuple(map(bits, own[path]))
            torch.testing.assert_close(layer(x_by_path[path]), expected[path])


def test_a_recipe_says_which_side_of_a_site_is_scaled(tiny_backbones: Any) -> None:
    method = Ia3Method(sites=("attention.output", "feedforward.output"), inputs=("attention.output",), top=1)
    with attached(tiny_backbones["bert"], method) as attachment:
        shapes = {path: tuple(tensor.shape) for path, tensor in attachment.state().items()}
        config = attachment.config()
    layer = "encoder.layer.2"
    assert shapes == {f"{layer}.attention.output.dense.ia3_l": (1, 32), f"{layer}.output.dense.ia3_l": (32, 1)}
    assert config["feedforward_modules"] == [f"{layer}.attention.output.dense"]
    assert attachment.lowest_layer == {"encoder": 2}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"sites": ["layer.output"]}, "site 'layer.output': not a linear"),
        ({"inputs": ["attention.query"]}, "inputs: 'attention.query' is none of the chosen sites"),
        ({"sites": ["attention.qkv"]}, "site 'attention.qkv': not in this backbone"),
    ],
)
def test_places_that_cannot_be_scaled_are_refused_with_what_there_is(
    tiny_backbones: Any, settings: Any, problem: str
) -> None:
    backbone = tiny_backbones["bert"]
    with pytest.raises(SiteError) as caught:
        attach(backbone.trunk, backbone, Ia3Method(**settings), seed=0)
    assert any(problem in line for line in caught.value.problems)
    assert "attention.key" in str(caught.value)


def test_layers_that_peft_scaled_on_the_other_side_are_noticed(tiny_backbones: Any) -> None:
    backbone, method = tiny_backbones["bert"], Ia3Method(sites=("feedforward.output",))
    targets = {site.path: site for site in choose(backbone.sites, method)}
    with attached(backbone, method):
        with pytest.raises(SiteError, match="scaled on its other side"):
            check_injected(backbone.trunk, targets, method.model_copy(update={"inputs": ()}))
        with pytest.raises(SiteError, match=r"layer\.0\..*: adapted, and not asked for"):
            check_injected(backbone.trunk, dict(list(targets.items())[1:]), method)
