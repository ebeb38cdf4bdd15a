"""The fusion's equations against the paper's, written out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapterkit.methods.fusion.layer import FusionLayer
from adapterkit.recipe import BottleneckMethod
from tests.methods import equations
from tests.methods.cases import attached, disturb, hidden, inputs
from tests.methods.fusion.worlds import PLACEMENTS, fused, parts_on, settings_of

REFERENCES = {"bert": equations.bert, "gpt2": equations.gpt2, "llama": equations.llama}
placements = pytest.mark.parametrize("placement", PLACEMENTS)


def test_a_token_by_hand() -> None:
    """Two parts of width 1 that add (1, 0) and (0, 2) to every token; the query prefers the second by ln 3."""
    necks = []
    for column, amount in ((0, 1.0), (1, 2.0)):
        up_bias = torch.zeros(2)
        up_bias[column] = amount
        zero = torch.zeros
        necks.append(
            (
                BottleneckMethod(placement="houlsby", width=1),
                {
                    "bottleneck_down.weight": zero(1, 2),
                    "bottleneck_down.bias": zero(1),
                    "bottleneck_up.weight": zero(2, 1),
                    "bottleneck_up.bias": up_bias,
                },
            )
        )
    layer = FusionLayer(nn.Linear(2, 2), necks, query_width=1, value=True, dropout=0.0, residual=None, norm=None)
    with torch.no_grad():
        layer.base_layer.weight.zero_()  # type: ignore[union-attr,operator]
        layer.base_layer.bias.zero_()  # type: ignore[union-attr,operator]
        assert layer(torch.ones(1, 1, 2)).tolist() == [[[0.5, 1.0]]]  # at birth: the mean
        layer.fusion_query.bias.fill_(math.log(3))
        layer.fusion_key.weight.copy_(torch.tensor([[0.0, 0.5]]))  # keys 0 and 1: scores 0 and ln 3
        found = layer(torch.ones(1, 1, 2))
        # Shares 1/4 and 3/4.
        assert torch.allclose(found, torch.tensor([[[0.25, 1.5]]]), rtol=0, atol=1e-6)
        layer.fusion_value.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))  # type: ignore[union-attr]
        found = layer(torch.ones(1, 1, 2))
        assert torch.allclose(found, torch.tensor([[[1.75, 1.5]]]), rtol=0, atol=1e-6)


@dataclass
class Fusion(equations.Adapter):
    """f is a mixture: keys, and values before the sum, for every part, as paper and AdapterHub compute them."""

    parts: Sequence[equations.Adapter] = ()

    def f(self, path: str, z: Tensor) -> Tensor:
        get = {name: self.tensors[f"{path}.fusion_{name}.weight"] for name in ("query", "key")}
        delta = self.tensors.get(f"{path}.fusion_value.weight")
        width = z.shape[-1]
        value = torch.eye(width, dtype=z.dtype) if delta is None else torch.eye(width, dtype=z.dtype) + delta
        query = z @ get["query"].T + self.tensors[f"{path}.fusion_query.bias"]
        added = [part.f(path, z) for part in self.parts]
        if not added:
            return torch.zeros_like(z)
        scores = torch.stack([(query * (one @ get["key"].T)).sum(-1) for one in added])
        share = torch.exp(scores) / torch.exp(scores).sum(0)
        zero = torch.zeros_like(z)
        return sum((share[n][..., None] * (one @ value.T) for n, one in enumerate(added)), zero)


@pytest.mark.parametrize("family", REFERENCES)
def test_hidden_states_follow_the_equations(fresh_backbone: Any, family: str) -> None:
    for placement in PLACEMENTS:
        more: Any = {"query_width": 5, "value": False} if placement == "parallel" else {}
        check_hidden_states(fresh_backbone(family), family, placement, more)


def check_hidden_states(backbone: Any, family: str, placement: str, more: Any) -> None:
    # The reference has one activation, relu.
    settings = [method.model_copy(update={"activation": "relu"}) for method in settings_of(placement, 3)]
    parts = parts_on(backbone, settings)
    backbone.trunk.double()
    with fused(backbone, parts, dtype=torch.float64, **more) as attachment, torch.no_grad():
        disturb(attachment)
        found = hidden_of(backbone.trunk, family)
        adapter = Fusion(
            placement,
            attachment.state(),
            parts=[equations.Adapter(placement, flat(part.tensors), scale=part.settings.scale) for part in parts],
        )
    weights = backbone.trunk.state_dict()
    ids = inputs(family)["input_ids"]
    heads = backbone.config.num_attention_heads
    expected = REFERENCES[family](weights, ids, heads, backbone.config.num_hidden_layers, adapter)
    plain = REFERENCES[family](weights, ids, heads, backbone.config.num_hidden_layers, replace(adapter, parts=[]))
    assert not torch.allclose(plain, expected, atol=1e-2)
    # float64 has 16 digits; the layers' sums run in another order.
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)


def hidden_of(trunk: nn.Module, family: str) -> Tensor:
    """Last hidden states without padding, which the references do not know."""
    output: Tensor = trunk(input_ids=inputs(family)["input_ids"]).last_hidden_state
    return output


def flat(tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{path}.{ending}": tensor.double() for path, own in tensors.items() for ending, tensor in own.items()}


@placements
def test_a_fusion_at_birth_adds_the_mean_of_its_parts(tiny_backbones: Any, placement: str) -> None:
    backbone = tiny_backbones["bert"]
    parts = parts_on(backbone, settings_of(placement, 2))
    twice = [parts[0], replace(parts[0], name="again")]
    seen: list[Tensor] = []
    layers: list[FusionLayer] = []
    with fused(backbone, twice), torch.no_grad():
        both = hidden(backbone.trunk, "bert")
    with fused(backbone, parts), torch.no_grad():
        for module in backbone.trunk.modules():
            if isinstance(module, FusionLayer):
                layers.append(module)
        mixed = layers[0].mixed

        def watch(z: Tensor, added_ND: Tensor) -> Tensor:
            seen.extend([added_ND, mixed(z, added_ND)])
            return seen[-1]

        layers[0].mixed = watch  # type: ignore[method-assign]
        hidden(backbone.trunk, "bert")
    added, found = seen
    assert torch.equal(found, added.mean(dim=-2))
    # Of equal parts the mean is each of them, so the backbone answers as with one alone.
    with attached(backbone, parts[0].settings) as alone, torch.no_grad():
        alone.load({name: tensor.float() for name, tensor in flat(parts[0].tensors).items()})
        assert torch.allclose(hidden(backbone.trunk, "bert"), both, rtol=0, atol=1e-5)


@placements
def test_an_untrained_fusion_of_untrained_parts_changes_no_bit(tiny_backbones: Any, placement: str) -> None:
    backbone = tiny_backbones["bert"]
    parts = parts_on(backbone, settings_of(placement, 3), size=0.0)
    with torch.no_grad():
        bare = hidden(backbone.trunk, "bert")
        with fused(backbone, parts):
            assert torch.equal(hidden(backbone.trunk, "bert"), bare)


def test_the_order_of_the_parts_does_not_matter(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    parts = parts_on(backbone, settings_of("pfeiffer", 3))
    found = []
    for ordered in (parts, parts[::-1]):
        with fused(backbone, ordered) as attachment, torch.no_grad():
            disturb(attachment)
            found.append(hidden(backbone.trunk, "bert"))
    # Sums of three in another order.
    assert torch.allclose(*found, rtol=0, atol=1e-5)


def test_dropout_falls_on_the_scores_alone_and_only_in_training(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    parts = parts_on(backbone, settings_of("pfeiffer", 2))
    with fused(backbone, parts, dropout=0.5) as attachment, torch.no_grad():
        at_birth = hidden(backbone.trunk, "bert")
        attachment.train()
        # All scores are 0 at birth, dropped or not; and the parts' own dropout of 0.5 never runs.
        assert torch.equal(hidden(backbone.trunk, "bert"), at_birth)
        disturb(attachment)
        torch.manual_seed(0)
        assert not torch.equal(hidden(backbone.trunk, "bert"), hidden(backbone.trunk, "bert"))
        attachment.train(False)
        assert torch.equal(hidden(backbone.trunk, "bert"), hidden(backbone.trunk, "bert"))
