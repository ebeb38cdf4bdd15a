"""What a bottleneck layer computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from adapterkit.errors import SiteError
from adapterkit.methods.bottleneck import BottleneckConfig, BottleneckLayer
from adapterkit.recipe import BottleneckMethod
from tests import tiny
from tests.methods import equations
from tests.methods.bottleneck.worlds import linear_world
from tests.methods.cases import attached, disturb, inputs

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
REFERENCES = {"bert": equations.bert, "gpt2": equations.gpt2, "llama": equations.llama}
placements = pytest.mark.parametrize("placement", PLACEMENTS)


@placements
@pytest.mark.parametrize("family", REFERENCES)
@pytest.mark.parametrize("learned", [False, True])
def test_hidden_states_follow_the_equations(fresh_backbone: Any, family: str, placement: str, learned: bool) -> None:
    backbone = fresh_backbone(family)
    trunk = backbone.trunk.double()
    weights = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    ids = inputs(family)["input_ids"]
    settings = BottleneckMethod(placement=placement, width=8, scale=2.0, scale_learned=learned)
    with attached(backbone, settings, dtype=torch.float64) as attachment, torch.no_grad():
        bare = trunk(input_ids=ids).last_hidden_state
        disturb(attachment, 0.1)
        found = trunk(input_ids=ids).last_hidden_state
        adapter = equations.Adapter(placement, attachment.state(), scale=2.0)
    expected = REFERENCES[family](weights, ids, 4, 3, adapter)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    assert (found - bare).abs().max() > 0.1


@pytest.mark.parametrize("family", REFERENCES)
def test_the_reference_without_an_adapter_is_the_bare_backbone(fresh_backbone: Any, family: str) -> None:
    backbone = fresh_backbone(family)
    trunk = backbone.trunk.double()
    silent = {
        f"{sublayer.output}.bottleneck_{name}": torch.zeros(1, 32) if name.endswith("weight") else torch.zeros(1)
        for sublayer in backbone.sites.sublayers
        for name in ("down.weight", "down.bias", "up.weight", "up.bias")
    }
    silent = {name: tensor.T if "up.weight" in name else tensor for name, tensor in silent.items()}
    ids = inputs(family)["input_ids"]
    with torch.no_grad():
        expected = trunk(input_ids=ids).last_hidden_state
        adapter = equations.Adapter("houlsby", {name: tensor.double() for name, tensor in silent.items()})
        found = REFERENCES[family](trunk.state_dict(), ids, 4, 3, adapter)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)


@placements
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_hidden_states_are_recorded_where_transformers_records_them(
    tiny_backbones: Any, family: str, placement: str
) -> None:
    backbone = tiny_backbones[family]
    with attached(backbone, BottleneckMethod(placement=placement, width=4)) as attachment, torch.no_grad():
        disturb(attachment)
        output = backbone.trunk(**inputs(family), output_hidden_states=True)
    states = output.get("hidden_states") or output.decoder_hidden_states
    # The last recorded state is the output itself: nothing of the adapter happens outside the layers.
    assert torch.equal(states[-1], output.last_hidden_state)


@placements
def test_f_by_hand(placement: str) -> None:
    base, layer, entry = linear_world(placement, activation="relu", scale=3.0)
    x, r = torch.randn(2, 4), torch.randn(2, 4)
    down, up = layer.bottleneck_down["a"], layer.bottleneck_up["a"]
    entry(r)
    found = layer(x)
    h = base(x)
    z = {"houlsby": h, "pfeiffer": h + r, "parallel": r}[placement]
    assert torch.allclose(found, h + 3.0 * (up(torch.relu(down(z)))))


def test_the_norm_stays_the_models_own() -> None:
    norm = nn.LayerNorm(4)
    _, layer, _ = linear_world("pfeiffer", norm)
    assert not any(parameter is norm.weight for parameter in layer.parameters())
    assert not any("norm" in name for name in layer.state_dict())
    assert norm not in list(layer.modules())


def test_dropout_acts_on_f_after_the_scaling() -> None:
    base, layer, entry = linear_world("parallel", dropout=0.5, scale=2.0)
    x, r = torch.randn(64, 4), torch.randn(64, 4)
    whole, parts = layer.train(), []
    for mode in (True, False):
        whole.train(mode)
        entry(r)
        parts.append(layer(x) - base(x))
    dropped, kept = parts
    zero = dropped.abs() < 1e-6
    assert 0.3 < zero.float().mean() < 0.7
    assert torch.allclose(dropped[~zero], 2 * kept[~zero], atol=1e-5)


def test_gpt2s_conv1d_and_norms_can_be_wrapped_and_other_modules_cannot() -> None:
    config = BottleneckConfig(target_modules=["base"], placement="houlsby", width=2)
    assert BottleneckLayer(Conv1D(6, 4), "a", config).bottleneck_down["a"].in_features == 6
    assert BottleneckLayer(nn.RMSNorm(6), "a", config).bottleneck_down["a"].in_features == 6
    with pytest.raises(SiteError, match="wraps a linear or a norm"):
        BottleneckLayer(nn.Embedding(4, 4), "a", config)


def test_a_placement_without_its_residual_is_refused() -> None:
    config = BottleneckConfig(
        target_modules=["base"], residual_modules={"base": "entry"}, placement="parallel", width=2
    )
    with pytest.raises(SiteError, match="needs the residual"):
        BottleneckLayer(nn.Linear(4, 4), "a", config)


def test_every_adapter_of_a_linear_has_its_own_norm_and_all_share_one_residual() -> None:
    norm = nn.LayerNorm(4)
    nn.init.normal_(norm.weight)
    base, layer, entry = linear_world("pfeiffer")
    config = BottleneckConfig(
        target_modules=["base"], residual_modules={"base": "entry"}, placement="pfeiffer", width=2
    )
    layer.update_layer("b", config, residual=("entry", entry), norm=norm)
    with torch.no_grad():
        for parameter in layer.bottleneck_up.parameters():
            parameter.normal_()
    layer.set_adapter("b")
    x, r = torch.randn(2, 4), torch.randn(2, 4)
    entry(r)
    down, up = layer.bottleneck_down["b"], layer.bottleneck_up["b"]
    h = base(x)
    assert torch.allclose(layer(x), h + up(torch.relu(down(norm(h + r)))), atol=1e-6)
    with pytest.raises(SiteError, match="found elsewhere, expected entry"):
        layer.update_layer("c", config, residual=("elsewhere", nn.Identity()))
