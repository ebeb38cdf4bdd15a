"""The laws on backbones in bf16, which is what most hardware is fast at: adapters stay in fp32, answers stay exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterkit.artifact import load
from adapterkit.backbone import Backbone
from adapterkit.recipe import HeadSettings, TrainingSettings
from adapterkit.training.learner import make_learner
from tests import tiny
from tests.laws.cases import KINDS, METHODS
from tests.laws.worlds import adapter, batch_of, disturb, logits_of, write
from tests.methods.cases import bits

NAMES = [name for name in METHODS if name != "none"]
CELLS = [
    (family, kind, NAMES[(start + turn) % len(NAMES)])
    for start, family in enumerate(tiny.FAMILIES)
    for turn, kind in enumerate(kind for kind, row in KINDS.items() if family in row.families)
]
cells = pytest.mark.parametrize(("family", "kind", "method"), CELLS)
AUTO = HeadSettings()


@pytest.fixture(scope="module")
def narrow(fresh_backbone: Callable[..., Backbone]) -> Callable[[str], Backbone]:
    """Family -> its backbone in bf16."""
    loaded: dict[str, Backbone] = {}

    def load_once(family: str) -> Backbone:
        if family not in loaded:
            loaded[family] = fresh_backbone(family, dtype="bfloat16")
        return loaded[family]

    return load_once


def test_every_family_kind_and_method_is_there() -> None:
    assert {family for family, _, _ in CELLS} == set(tiny.FAMILIES)
    assert {kind for _, kind, _ in CELLS} == set(KINDS)
    assert {method for _, _, method in CELLS} == set(NAMES)


@cells
def test_an_untrained_adapter_changes_no_output_bit(
    narrow: Callable[[str], Backbone], family: str, kind: str, method: str
) -> None:
    backbone = narrow(family)
    with adapter(backbone, kind, head=AUTO) as bare:
        expected = logits_of(bare)
    with adapter(backbone, kind, METHODS[method].settings, AUTO) as adapted:
        found = logits_of(adapted)
    # Where an initialisation changes the weights and adds the change again, both sums round to bf16's 8 bits.
    moves = 0.1 * expected.abs().max().item() if METHODS[method].untrained else 0.0
    assert torch.allclose(found, expected, rtol=0, atol=moves)
    assert moves or torch.equal(found, expected)


@cells
def test_training_changes_no_bit_of_the_backbone_and_the_adapter_stays_in_float32(
    narrow: Callable[[str], Backbone], tmp_path: Path, family: str, kind: str, method: str
) -> None:
    backbone = narrow(family)
    before = {name: bits(tensor) for name, tensor in backbone.trunk.state_dict().items()}
    with adapter(backbone, kind, METHODS[method].settings, AUTO) as adapted:
        learner = make_learner(adapted, TrainingSettings(learning_rate=1e-2), total_steps=2)
        adapted.train()
        for _ in range(2):
            batch = batch_of(adapted)
            adapted.task.loss(adapted(batch.inputs), batch).mean.backward()
            learner.collect()
            learner.step(clip=None)
        adapted.eval()
        parameters = {**adapted.method_parameters(), **adapted.head_parameters()}
        assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
        write(tmp_path / "out", adapted)
        expected = logits_of(adapted)
    assert {name: bits(tensor) for name, tensor in backbone.trunk.state_dict().items()} == before
    with load(tmp_path / "out", backbone) as adapted:
        # Not equal bits: the last one of a sum in float32 may depend on where in memory its numbers lie.
        assert torch.allclose(logits_of(adapted), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_unmerging_restores_the_bytes(narrow: Callable[[str], Backbone], family: str) -> None:
    with adapter(narrow(family), "question-answering", METHODS["lora-all-linear"].settings, AUTO) as adapted:
        disturb(adapted)
        before = {name: bits(parameter) for name, parameter in adapted.module.named_parameters()}
        expected = logits_of(adapted)
        adapted.merge()
        # A merged weight is rounded to 8 bits once more, in each of up to 28 products.
        scale = expected.float().abs().max().item()
        assert torch.allclose(logits_of(adapted).float(), expected.float(), rtol=0, atol=0.15 * scale)
        adapted.unmerge()
        assert {name: bits(parameter) for name, parameter in adapted.module.named_parameters()} == before
        assert torch.equal(logits_of(adapted), expected)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_an_adapter_from_an_exact_backbone_answers_about_the_same_on_a_narrow_one(
    narrow: Callable[[str], Backbone], tiny_backbones: Mapping[str, Any], tmp_path: Path, family: str
) -> None:
    with adapter(tiny_backbones[family], "text-classification", METHODS["lora"].settings, AUTO) as adapted:
        disturb(adapted)
        write(tmp_path / "out", adapted)
        expected = logits_of(adapted)
    with load(tmp_path / "out", narrow(family)) as adapted:
        found = logits_of(adapted)
    # Head and adapter have the same values; what differs is the trunk's 8 bits.
    assert (found - expected).abs().mean() < 0.1 * expected.abs().mean()
