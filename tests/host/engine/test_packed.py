"""A host over packed weights: mixed batches answer as each row alone, and everything else finds plain weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adapterkit as ak
from adapterkit.backbone import packed_weights
from adapterkit.backbone.packed_weights import is_packed
from adapterkit.host.engine.engine import Engine
from tests import tiny
from tests.host import worlds
from tests.host.artifacts import WORDS, Recipe, row_of
from tests.host.conftest import FolderOf

ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
pytestmark = pytest.mark.skipif(not ONEDNN, reason="this torch was built without oneDNN")


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every linear is packed, however small it is."""
    monkeypatch.setattr(packed_weights, "pays", lambda *_: True)


def packed_linears(trunk: torch.nn.Module) -> int:
    return sum(map(is_packed, trunk.modules()))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_mixed_batches_on_packed_weights_answer_as_each_row_alone(tiny_backbones: Any, family: str) -> None:
    backbone = tiny_backbones[family]
    mounted = [worlds.make(backbone, family, worlds.METHODS[name]) for name in worlds.methods_of(family)]
    twin = backbone.twin()
    engine = Engine(twin)
    assert packed_linears(twin.trunk)
    rows = [(one, place % worlds.ROWS) for place, one in enumerate(mounted * 2)]
    far = [
        worlds.distance(found, one.alone[row])
        for found, (one, row) in zip(worlds.answers(engine, family, rows), rows, strict=True)
    ]
    assert max(far) <= 1e-5
    assert not packed_linears(backbone.trunk)


@pytest.mark.parametrize("options", [{"packed": "off"}, {"merge": True}])
def test_a_host_that_asks_for_plain_weights_has_them_on_a_packed_backbone(
    tiny_backbones: Any, options: dict[str, Any]
) -> None:
    twin = tiny_backbones["bert"].twin()
    Engine(twin)
    assert packed_linears(twin.trunk)
    with Engine(twin, **options).routed([()]) as trunk:
        assert not packed_linears(trunk)
        assert torch.equal(
            worlds.states(trunk, worlds.batch([0], "bert")),
            worlds.states(tiny_backbones["bert"].trunk, worlds.batch([0], "bert")),
        )


def test_adapters_load_verify_and_answer_beside_a_packed_host(tiny_backbones: Any, folder_of: FolderOf) -> None:
    backbone = tiny_backbones["bert"].twin()
    recipe = Recipe("text-classification", "lora-dora")
    folder, row = folder_of("bert", recipe), row_of(recipe.kind, WORDS[:6])
    with ak.Host(backbone) as host:
        assert packed_linears(backbone.trunk)
        host.mount("a", folder)  # DoRA's norms are made from the plain weights
        assert {check.name for check in ak.verify(folder, backbone).checks if not check.ok} == {"golden rows"}  # none
        with ak.load(folder, backbone) as adapted:
            assert not packed_linears(adapted.backbone.trunk)
            expected = adapted.predict([row])[0]
        (found,) = host.predict([("a", row)])
    assert found["label"] == expected["label"]
    assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
