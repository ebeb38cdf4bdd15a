"""Laws 1 to 6, 12: what every adapter does to its backbone, and what becomes of it on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adapterkit.adapted import PREFIX, Adapted
from adapterkit.artifact import load
from adapterkit.errors import MergeError
from adapterkit.recipe import TrainingSettings
from adapterkit.training.learner import make_learner
from tests.laws.cases import CASES, HEADS, Case
from tests.laws.worlds import adapter, batch_of, disturb, logits_of, write
from tests.methods.cases import bits

Backbones = Mapping[str, Any]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
# A borrowed head without a method has nothing to train.
every_case_that_trains = pytest.mark.parametrize(
    "case", [case for case in CASES if case.method != "none" or not case.kind.endswith("-lm")], ids=str
)


@contextmanager
def built(backbones: Backbones, case: Case, *, seed: int = 0) -> Iterator[Adapted]:
    """An adapter of the case. The trunk exists once, however often it is built upon."""
    backbone = backbones[case.family]
    addresses = {name: parameter.data_ptr() for name, parameter in backbone.trunk.named_parameters()}
    with adapter(backbone, case.kind, case.row.settings, HEADS[case.head], seed=seed) as adapted:
        shared = {parameter.data_ptr() for parameter in backbone.trunk.parameters()}
        own = {id(parameter) for parameter in trained(adapted).values()}
        named = adapted.module.named_parameters()
        extra = {name for name, p in named if id(p) not in own and p.data_ptr() not in shared}
        # Beside what a head borrows, an initialisation that takes its start out of a weight has that weight for itself.
        moved = {name for name in extra if name.endswith("base_layer.weight")} if case.row.untrained else set()
        assert extra - moved <= adapted.headed.loaded
        yield adapted
    assert {name: parameter.data_ptr() for name, parameter in backbone.trunk.named_parameters()} == addresses


def trained(adapted: Adapted) -> dict[str, torch.nn.Parameter]:
    """What the adapter declares that it trains."""
    return {**adapted.method_parameters(), **adapted.head_parameters()}


def frozen(adapted: Adapted) -> dict[str, torch.nn.Parameter]:
    """All of backbone and borrowed head."""
    declared = {id(parameter) for parameter in trained(adapted).values()}
    everything = dict(adapted.module.named_parameters()) | {
        f"trunk {name}": parameter for name, parameter in adapted.backbone.trunk.named_parameters()
    }
    return {name: parameter for name, parameter in everything.items() if id(parameter) not in declared}


def backward(adapted: Adapted) -> None:
    batch = batch_of(adapted)
    adapted.task.loss(adapted(batch.inputs), batch).mean.backward()


@every_case
def test_an_untrained_adapter_changes_no_output_bit(tiny_backbones: Backbones, case: Case) -> None:
    with adapter(tiny_backbones[case.family], case.kind, head=HEADS[case.head]) as bare:
        expected = logits_of(bare)
    with built(tiny_backbones, case) as adapted:
        found = logits_of(adapted)
    assert torch.allclose(found, expected, rtol=0, atol=case.untrained)
    assert case.untrained or torch.equal(found, expected)


@every_case_that_trains
def test_training_steps_change_all_of_the_adapter_and_no_bit_of_the_backbone(
    tiny_backbones: Backbones, case: Case
) -> None:
    with built(tiny_backbones, case) as adapted:
        before = {name: bits(parameter) for name, parameter in frozen(adapted).items()}
        start = {name: parameter.detach().clone() for name, parameter in trained(adapted).items()}
        learner = make_learner(adapted, TrainingSettings(learning_rate=1e-2), total_steps=2)
        adapted.train()
        for _ in range(2):  # what lies below a zero matrix gets its first gradient in the second step
            backward(adapted)
            learner.collect()
            learner.step(clip=None)
        after = trained(adapted)
        assert {name: bits(parameter) for name, parameter in frozen(adapted).items()} == before
        # A key's bias moves all scores of a query alike; the softmax ignores it, and AdamW does not decay it.
        still = [name for name in start if torch.equal(start[name], after[name]) and not name.endswith(case.flat)]
        assert [name for name in still if "key" not in name] == []


@every_case_that_trains
def test_exactly_the_declared_parameters_get_gradients(tiny_backbones: Backbones, case: Case) -> None:
    with built(tiny_backbones, case) as adapted:
        declared = trained(adapted)
        needing = {name for name, parameter in adapted.module.named_parameters() if parameter.requires_grad}
        assert len(needing) == len(declared)
        assert all(parameter.requires_grad for parameter in declared.values())
        disturb(adapted)  # away from the zeros at which half of an adapter has no gradient
        backward(adapted)
        assert [name for name, parameter in declared.items() if parameter.grad is None] == []
        silent = [name for name, parameter in declared.items() if not parameter.grad.any()]  # type: ignore[union-attr]
        assert [name for name in silent if not name.endswith(case.flat)] == []
        assert [name for name, parameter in frozen(adapted).items() if parameter.grad is not None] == []


@every_case
def test_a_saved_adapter_answers_the_same_in_the_same_bytes_and_holds_nothing_of_the_checkpoint(
    tiny_backbones: Backbones, tmp_path: Path, case: Case
) -> None:
    expected = []
    for folder in ("first", "second"):
        with built(tiny_backbones, case) as adapted:
            disturb(adapted)
            declared = {f"{PREFIX}{name}" for name in trained(adapted)}
            write(tmp_path / folder, adapted)
            expected.append(logits_of(adapted))  # saving rounds the weights to what the artifact holds
    files = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()} == files
    with load(tmp_path / "first", tiny_backbones[case.family]) as loaded:
        assert torch.equal(logits_of(loaded), expected[0])
    assert torch.equal(*expected)
    checkpoint = load_file(tiny_backbones[case.family].folder / "model.safetensors")
    saved = load_file(tmp_path / "first" / "adapter_model.safetensors")
    assert saved.keys() == declared or case.row.untrained  # some initialisations save their start too
    names = {name.removeprefix(PREFIX) for name in saved}
    assert [name for name in sorted(names & checkpoint.keys()) if not name.startswith(case.continued)] == []
    values = {(tuple(tensor.shape), bits(tensor.to(torch.bfloat16))) for tensor in checkpoint.values()}
    assert [name for name, tensor in saved.items() if (tuple(tensor.shape), bits(tensor)) in values] == []


@every_case
def test_merged_equals_unmerged_and_unmerging_restores_the_bytes(tiny_backbones: Backbones, case: Case) -> None:
    with built(tiny_backbones, case) as adapted:
        disturb(adapted)
        before = {name: bits(parameter) for name, parameter in adapted.module.named_parameters()}
        expected = logits_of(adapted)
        if case.row.merges:
            adapted.merge()
            largest = expected.abs().max().item()
            assert torch.allclose(logits_of(adapted), expected, rtol=0, atol=case.merged * max(1.0, largest))
            adapted.unmerge()
        else:
            with pytest.raises(MergeError):
                adapted.merge()
        assert {name: bits(parameter) for name, parameter in adapted.module.named_parameters()} == before
        assert torch.equal(logits_of(adapted), expected)
