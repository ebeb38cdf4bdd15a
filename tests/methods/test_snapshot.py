"""The way back, also out of an attachment that failed half-way."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapterkit.methods import lowest_layer
from adapterkit.methods.bottleneck import BottleneckLayer
from adapterkit.methods.carrier import Before
from adapterkit.methods.lora.moved_weight import MovedWeight
from adapterkit.methods.table import attach
from tests.methods.cases import CASES, snapshot

MADE = ("peft.tuners.lora.layer", "peft.tuners.ia3.layer", BottleneckLayer.__module__)


@pytest.mark.parametrize("name", [name for name in CASES if name != "none"])
@pytest.mark.parametrize("moment", ["while injecting", "afterwards"])
def test_a_failure_leaves_nothing_behind(
    tiny_backbones: Any, name: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbones["gpt2"]
    before = snapshot(backbone.trunk)

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("no more memory")

    if moment == "afterwards":
        monkeypatch.setattr(Before, "train_only", fail)
    else:
        made = []
        real = torch.nn.Module.__setattr__

        def set_some(self: Any, key: str, value: Any) -> None:
            if type(value).__module__.startswith(MADE):
                made.append(value)
                if len(made) == 2:
                    fail()
            real(self, key, value)

        monkeypatch.setattr(torch.nn.Module, "__setattr__", set_some)
    with pytest.raises(MemoryError):
        attach(backbone.trunk, backbone, CASES[name].settings, seed=0)
    monkeypatch.undo()
    assert snapshot(backbone.trunk) == before


def test_restoring_twice_is_restoring_once(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    before = snapshot(backbone.trunk)
    noted = Before(backbone.trunk, backbone.trunk)
    noted.moved = MovedWeight({"pooler.dense": backbone.trunk.pooler.dense})
    noted.train_only({})
    noted.restore()
    noted.restore()
    assert snapshot(backbone.trunk) == before
    assert lowest_layer.BELOW_ALL_LAYERS == -1
