"""The view of a trunk without its pooler."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from adapterkit.backbone import without_pooler
from tests import tiny


def inputs(backbone: Any) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[5, 6, 7, 8]])
    return {"input_ids": ids} | ({"decoder_input_ids": ids} if backbone.is_encoder_decoder else {})


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_view_gives_the_same_states(tiny_backbones: Any, family: str) -> None:
    backbone = tiny_backbones[family]
    with torch.no_grad():
        whole, view = backbone.trunk(**inputs(backbone)), without_pooler(backbone.trunk)(**inputs(backbone))
    assert torch.equal(whole.last_hidden_state, view.last_hidden_state)
    assert getattr(view, "pooler_output", None) is None


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("first_called", ["view", "trunk"])
def test_the_view_hands_out_hidden_states_too(fresh_backbone: Any, family: str, first_called: str) -> None:
    backbone = fresh_backbone(family)
    asked = inputs(backbone) | {"output_hidden_states": True}
    name = "decoder_hidden_states" if backbone.is_encoder_decoder else "hidden_states"
    view, trunk = without_pooler(backbone.trunk), backbone.trunk
    order = (view, trunk, without_pooler(trunk)) if first_called == "view" else (trunk, view, trunk)
    with torch.no_grad():
        found = [module(**asked)[name] for module in order]
    layers = backbone.sites.layer_count["decoder" if backbone.is_encoder_decoder or backbone.is_decoder else "encoder"]
    for states in found:
        assert len(states) == layers + 1
        assert all(torch.equal(one, other) for one, other in zip(states, found[0], strict=True))


def test_a_copy_of_a_view_is_a_view_of_the_copy(tiny_backbones: Any) -> None:
    view = without_pooler(tiny_backbones["bert"].trunk)
    again = copy.deepcopy(view)
    with torch.no_grad():
        states = again(**inputs(tiny_backbones["bert"]), output_hidden_states=True).hidden_states
    assert len(states) == 4
    assert again.encoder is not view.encoder
    assert not any(module._forward_hooks for module in view.modules())


def test_the_view_shares_every_child_and_leaves_the_trunk_its_pooler(tiny_backbones: Any) -> None:
    trunk = tiny_backbones["bert"].trunk
    view: Any = without_pooler(trunk)
    assert view.pooler is None
    assert trunk.pooler is not None
    assert view.encoder is trunk.encoder
    assert view.embeddings is trunk.embeddings
    assert isinstance(view, type(trunk))
    assert str(type(view)) == str(type(trunk))
    assert not any("pooler" in name for name, _ in view.named_parameters())


def test_a_child_put_into_the_view_stays_out_of_the_trunk(tiny_backbones: Any) -> None:
    trunk = tiny_backbones["bert"].trunk
    view = without_pooler(trunk)
    view.register_forward_hook(lambda *_: None)
    view.add_module("extra", torch.nn.Linear(2, 2))
    assert "extra" not in dict(trunk.named_children())
    assert not trunk._forward_hooks
