"""Computing layers again in the backward changes neither losses nor gradients: every kind, family, head and method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from transformers.modeling_layers import GradientCheckpointingLayer

from adapterkit.backbone.attention import drops_by_function
from adapterkit.backbone.dropout import rows_draw
from adapterkit.errors import RecipeError
from tests.laws.test_padding import Cell, cells, trained
from tests.laws.test_unpadded import close, learned
from tests.laws.worlds import batch_of, disturb
from tests.planning.test_estimates import keeping
from tests.tasks.conftest import ROWS


@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.family not in ("mpnet", "albert")], ids=str)
def test_losses_and_gradients_are_those_of_kept_layers(tiny_backbones: Mapping[str, Any], cell: Cell) -> None:
    backbone = tiny_backbones[cell.family]
    with trained(backbone, cell) as adapted:
        disturb(adapted)
        adapted.train()
        batch = batch_of(adapted, ROWS[cell.kind])
        found = []
        for again in (False, True):
            adapted.checkpoint_layers(again)
            # Dropout acts, and the second computation must draw as the first.
            with rows_draw(0, range(len(batch.features)), drops_by_function(adapted.backbone.trunk)):
                with keeping(adapted, batch) as storages:
                    logits = adapted(batch.inputs)
                size_bytes = sum(storages.values())
                found.append((*learned(adapted, batch, logits), size_bytes))
        kept, computed_again = found
    assert computed_again[0] == pytest.approx(kept[0], rel=1e-6)
    assert close(computed_again[1], kept[1])
    assert computed_again[2] < kept[2]
    layers = [part for part in adapted.backbone.trunk.modules() if isinstance(part, GradientCheckpointingLayer)]
    assert layers
    assert not any(layer.gradient_checkpointing for layer in layers)


def test_layers_that_cannot_be_computed_again_are_refused(tiny_backbones: Mapping[str, Any]) -> None:
    cell = next(cell for cell in cells() if cell.family == "mpnet")
    with trained(tiny_backbones["mpnet"], cell) as adapted:
        with pytest.raises(RecipeError, match="layers of mpnet cannot be computed again"):
            adapted.checkpoint_layers()
        assert not adapted.checkpointable
        adapted.checkpoint_layers(False)
