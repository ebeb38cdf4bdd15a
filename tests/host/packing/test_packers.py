"""Packing: an adapter's tensors in one, checked against the method and the backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapterkit.adapted import PREFIX
from adapterkit.errors import ArtifactError, SiteError
from adapterkit.host.packing.packers import pack
from adapterkit.recipe import BottleneckMethod, Ia3Method, LoraMethod, NoMethod
from tests.host import worlds
from tests.methods.cases import attached

QUERY = "encoder.layer.0.attention.self.query"


def saved(backbone: Any, method: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with attached(backbone, method) as attachment:
        return attachment.config(), {PREFIX + name: tensor for name, tensor in attachment.state().items()}


def test_a_head_alone_needs_nothing(tiny_backbones):
    assert pack(NoMethod(), {}, {}, tiny_backbones["bert"]) is None


@pytest.mark.parametrize("name", ["lora", "lora-all", "pissa", "houlsby", "parallel", "ia3"])
def test_an_adapter_takes_the_bytes_of_its_own_numbers(tiny_backbones, name):
    method = worlds.METHODS[name]
    config, state = saved(tiny_backbones["bert"], method)
    packed = pack(method, config, state, tiny_backbones["bert"])
    assert packed is not None
    assert packed.size_bytes == packed.flat.numel() * 4
    assert packed.size_bytes <= 1.05 * 4 * sum(tensor.numel() for tensor in state.values())


def test_the_scaling_is_folded_into_the_projection_up(tiny_backbones):
    method = LoraMethod(sites=("attention.query",), layers=(0,), rank=2, alpha=6)  # scaled by 3
    a, b = torch.arange(64.0).view(2, 32), torch.arange(64.0).view(32, 2)
    config, _ = saved(tiny_backbones["bert"], method)
    state = {f"{PREFIX}{QUERY}.lora_A.weight": a, f"{PREFIX}{QUERY}.lora_B.weight": b}
    packed = pack(method, config, state, tiny_backbones["bert"])
    assert packed is not None
    assert torch.equal(packed.flat, torch.cat([a.flatten(), 3 * b.T.flatten()]))
    assert packed.lowest_layer == {"encoder": 0}


def test_factors_of_ia3_are_kept_as_what_they_differ_from_one_exactly_and_the_head_is_left_alone(tiny_backbones):
    method = Ia3Method(sites=("attention.query", "feedforward.output"), layers=(0,))
    config, _ = saved(tiny_backbones["bert"], method)
    gives = torch.linspace(-0.3, 0.3, 32).to(torch.bfloat16)  # less 1, no bf16 would hold it
    reads = torch.linspace(-3, 3, 64).to(torch.bfloat16)
    output = QUERY.replace("attention.self.query", "output.dense")
    state = {f"{PREFIX}{QUERY}.ia3_l": gives[:, None], f"{PREFIX}{output}.ia3_l": reads[None]}
    packed = pack(method, config, state | {f"{PREFIX}classifier.weight": torch.ones(2, 32)}, tiny_backbones["bert"])
    assert packed is not None
    assert torch.equal(packed.flat, torch.cat([gives.float() - 1, reads.float() - 1]))
    with pytest.raises(ArtifactError) as caught:
        pack(method, config, {f"{PREFIX}{QUERY}.ia3_l": gives[None]}, tiny_backbones["bert"])
    assert caught.value.problems == (
        f"{QUERY}.ia3_l: shape (1, 32), expected (32, 1)",
        f"{output}.ia3_l: missing",
    )


def test_adapters_that_are_built_alike_share_a_structure(tiny_backbones):
    first, second = (worlds.make(tiny_backbones["bert"], "bert", worlds.METHODS["lora"], seed) for seed in (0, 1))
    other = worlds.make(tiny_backbones["bert"], "bert", worlds.METHODS["lora-all"])
    assert first.packed.structure is second.packed.structure
    assert first.packed.structure is not other.packed.structure


def test_trained_biases_reach_below_all_layers(tiny_backbones):
    assert worlds.make(tiny_backbones["bert"], "bert", worlds.METHODS["all-biases"]).packed.lowest_layer == {
        "encoder": -1
    }


def test_every_wrong_tensor_is_named_at_once(tiny_backbones):
    method = LoraMethod(sites=("attention.query", "attention.value"), layers=(0,), rank=2)
    config, state = saved(tiny_backbones["bert"], method)
    value = QUERY.replace("query", "value")
    del state[f"{PREFIX}{value}.lora_B.weight"]
    state[f"{PREFIX}{QUERY}.lora_A.weight"] = torch.zeros(3, 32)
    state[f"{PREFIX}{QUERY}.lora_B.weight"][0, 0] = torch.nan
    state[f"{PREFIX}{QUERY.replace('0', '1')}.lora_A.weight"] = torch.zeros(2, 32)
    with pytest.raises(ArtifactError) as caught:
        pack(method, config, state, tiny_backbones["bert"])
    assert sorted(caught.value.problems) == sorted(
        [
            f"{value}.lora_B.weight: missing",
            f"{QUERY}.lora_A.weight: shape (3, 32), expected (2, 32)",
            f"{QUERY}.lora_B.weight: holds values that are not finite",
            f"{QUERY.replace('0', '1')}.lora_A.weight: not a tensor of this method on this backbone",
        ]
    )


def test_targets_that_are_not_the_methods_are_refused(tiny_backbones):
    method = BottleneckMethod(placement="pfeiffer", width=2)
    config, state = saved(tiny_backbones["bert"], method)
    wrong = {**config, "target_modules": [*config["target_modules"][1:], "pooler.dense"]}
    with pytest.raises(ArtifactError, match="targets") as caught:
        pack(method, wrong, state, tiny_backbones["bert"])
    assert [problem.split(":")[1].split()[0] for problem in caught.value.problems] == ["pooler.dense", "nothing"]


def test_what_is_packed_with_the_weights_waits_until_nobody_trains_on_them(tiny_backbones):
    backbone = tiny_backbones["bert"]
    dora, lora = (LoraMethod(rank=2, dora=dora) for dora in (True, False))
    config, state = saved(backbone, dora)
    plain = saved(backbone, lora)
    with attached(backbone, lora):
        with pytest.raises(SiteError, match="another adapter is attached"):
            pack(dora, config, state, backbone)
        assert pack(lora, *plain, backbone) is not None
