"""The suite's own checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import tiny


@pytest.mark.parametrize("family", tiny.FAMILIES + tiny.VARIANTS + tiny.OTHERS)
def test_a_tiny_checkpoint_has_the_same_bytes_every_time(tiny_folders: Any, tmp_path: Path, family: str) -> None:
    again = tiny.build(family, tmp_path)
    first = {path.name: path.read_bytes() for path in tiny_folders[family].iterdir()}
    assert first == {path.name: path.read_bytes() for path in again.iterdir()}


def test_the_families_are_the_nine() -> None:
    assert len(tiny.FAMILIES) == 9
    assert tiny.ENCODERS + tiny.DECODERS + tiny.ENCODER_DECODERS == tiny.FAMILIES


def test_a_changed_shared_backbone_is_found_and_dropped(tiny_folders: Any) -> None:
    from tests.conftest import TinyBackbones

    backbones = TinyBackbones(tiny_folders)
    backbone = backbones["bert"]
    assert backbones.forget_changed() == []
    backbone.trunk.get_parameter("pooler.dense.bias").data[0] += 1
    backbone.trunk.train()
    assert backbones["bert"] is backbone
    assert "pooler.dense.bias changed" in backbones.forget_changed()[0]
    assert backbones["bert"] is not backbone
    assert backbones.forget_changed() == []
