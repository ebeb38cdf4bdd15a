"""The view of a trunk without its pooler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests import tiny

from adapterkit.backbone import without_pooler


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
def test_the_view_hands_out_hidden_states_too(fresh_backbone: Any, family: str) -> None:
    backbone = fresh_backbone(family)
    asked = inputs(backbone) | {"output_hidden_states": True}
    name = "decoder_hidden_states" if backbone.is_encoder_decoder else "hidden_states"
    views = (without_pooler(backbone.trunk), backbone.trunk, without_pooler(backbone.trunk))
    with torch.no_grad():
        first, whole, again = (view(**asked)[name] for view in views)
    assert len(first) == len(whole) == len(again) > 2
    assert all(torch.equal(a, b) and torch.equal(b, c) for a, b, c in zip(first, whole, again, strict=True))


def test_the_view_shares_every_child_and_leaves_the_trunk_its_pooler(tiny_backbones: Any) -> None:
    trunk = tiny_backbones["bert"].trunk
    view = without_pooler(trunk)
    assert view.pooler is None
    assert trunk.pooler is not None
    assert view.encoder is trunk.encoder
    assert view.embeddings is trunk.embeddings
    assert type(view) is type(trunk)
    assert not any("pooler" in name for name, _ in view.named_parameters())


def test_a_child_put_into_the_view_stays_out_of_the_trunk(tiny_backbones: Any) -> None:
    trunk = tiny_backbones["bert"].trunk
    view = without_pooler(trunk)
    view.register_forward_hook(lambda *_: None)
    view.extra = torch.nn.Linear(2, 2)
    assert not hasattr(trunk, "extra")
    assert not trunk._forward_hooks
