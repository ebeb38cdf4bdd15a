"""A fusion on a backbone: what it trains, saves, refuses and leaves behind."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from adapterkit.errors import ArtifactError, MergeError, RecipeError, SiteError
from adapterkit.methods.table import attach
from tests import tiny
from tests.methods.cases import bits, disturb, hidden, snapshot
from tests.methods.fusion.worlds import PLACEMENTS, fused, fusion_of, parts_on, settings_of

placements = pytest.mark.parametrize("placement", PLACEMENTS)
families = pytest.mark.parametrize("family", tiny.FAMILIES)


@families
def test_training_changes_the_fusion_alone_and_detaching_leaves_nothing(tiny_backbones: Any, family: str) -> None:
    backbone, placement = tiny_backbones[family], PLACEMENTS[tiny.FAMILIES.index(family) % 3]
    parts = parts_on(backbone, settings_of(placement))
    before = snapshot(backbone.trunk)
    with fused(backbone, parts) as attachment:
        own = {id(parameter) for parameter in attachment.parameters().values()}
        frozen = [parameter for parameter in backbone.trunk.parameters() if id(parameter) not in own]
        values, start = [bits(parameter) for parameter in frozen], attachment.state()
        attachment.train()
        optimizer = torch.optim.Adam(attachment.parameters().values(), lr=1e-2)
        for _ in range(2):  # keys get their first gradient once the queries are not zero
            answer = hidden(backbone.trunk, family)
            (answer * torch.linspace(-1, 1, answer.numel()).view_as(answer)).sum().backward()
            optimizer.step()
        assert [bits(parameter) for parameter in frozen] == values
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in frozen)
        end = attachment.state()
        assert [name for name in start if torch.equal(start[name], end[name])] == []
        optimizer.zero_grad()
    assert snapshot(backbone.trunk) == before


@placements
def test_a_state_holds_the_fusion_and_nothing_of_its_parts(tiny_backbones: Any, placement: str) -> None:
    backbone = tiny_backbones["bert"]
    parts = parts_on(backbone, settings_of(placement))
    with fused(backbone, parts, query_width=5) as attachment, torch.no_grad():
        disturb(attachment)
        answer, state, config = hidden(backbone.trunk, "bert"), attachment.state(), attachment.config()
    places = sorted(parts[0].tensors)
    shapes = {"query.weight": (5, 32), "query.bias": (5,), "key.weight": (5, 32), "value.weight": (32, 32)}
    expected = {f"{place}.fusion_{name}": shape for place in places for name, shape in shapes.items()}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected
    assert config["target_modules"] == places
    assert (config["placement"], config["query_width"], config["value"]) == (placement, 5, True)
    assert json.loads(json.dumps(config)) == config
    with fused(backbone, parts, seed=1, query_width=5) as attachment, torch.no_grad():
        attachment.load(state)
        assert torch.equal(hidden(backbone.trunk, "bert"), answer)
        with pytest.raises(ArtifactError, match="do not fit the adapter"):
            attachment.load({**state, f"{places[0]}.parts.0.down.weight": torch.zeros(3, 32)})


def test_a_fusion_stands_where_its_parts_stand(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    parts = parts_on(backbone, settings_of("pfeiffer", layers=(1,)))
    with fused(backbone, parts) as attachment:
        assert {name.rpartition(".fusion_")[0] for name in attachment.state()} == {"encoder.layer.1.output.dense"}
        assert attachment.lowest_layer == {"encoder": 1}


def test_the_same_seed_gives_the_same_fusion_and_leaves_the_generators_alone(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    parts = parts_on(backbone, settings_of("houlsby"))
    states = []
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for seed in (0, 0, 1):
        with fused(backbone, parts, seed=seed) as attachment:
            states.append(attachment.state())
    assert torch.equal(torch.get_rng_state(), before)
    first, again, other = ([bits(tensor) for tensor in state.values()] for state in states)
    assert first == again != other


def test_a_fusion_cannot_be_merged(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    with (
        fused(backbone, parts_on(backbone, settings_of("pfeiffer"))) as attachment,
        pytest.raises(MergeError, match="cannot be merged"),
    ):
        attachment.merge()


def refusal(backbone: Any, parts: Any) -> str:
    """Why parts cannot be fused; the trunk is as it was."""
    before = snapshot(backbone.trunk)
    with pytest.raises((RecipeError, SiteError)) as caught:
        attach(backbone.trunk, backbone, fusion_of([*parts, *parts][:2]), seed=0, parts=parts)
    assert snapshot(backbone.trunk) == before
    return str(caught.value)


def test_parts_that_do_not_fit_each_other_are_refused_naming_both_sides(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    houlsby, pfeiffer = (parts_on(backbone, settings_of(name, 1))[0] for name in ("houlsby", "pfeiffer"))
    (lower,) = parts_on(backbone, settings_of("pfeiffer", 1, layers=(0,)))
    houlsby, pfeiffer, lower = (
        replace(part, name=name) for part, name in ((houlsby, "h"), (pfeiffer, "p"), (lower, "low"))
    )
    assert "placement: h is houlsby, p is pfeiffer" in refusal(backbone, [houlsby, pfeiffer])
    assert "layers: only p is at encoder.layer.1.output.dense, " in refusal(backbone, [pfeiffer, lower])
    elsewhere = replace(pfeiffer, tensors={f"x.{path}": own for path, own in pfeiffer.tensors.items()})
    assert "no sublayer ends there" in refusal(backbone, [elsewhere, replace(elsewhere, name="q")])
    with pytest.raises(RecipeError, match="cannot be fused"):
        attach(backbone.trunk, backbone, fusion_of([houlsby, pfeiffer]), seed=0)
