"""From a recipe to an artifact: every kind and method, the same bytes again, and nothing left where it fails."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch

import adapterkit as ak
from adapterkit.errors import OutputError, RecipeError
from adapterkit.recipe.kinds import FACTS, KINDS
from tests.training.worlds import FAMILY, METHODS, bytes_of, entries, losses, recipe, rows_of, train

CASES = [
    pytest.param(kind, method, id=f"{kind} {method}")
    for kind in KINDS
    for method in METHODS
    if not (FACTS[kind].borrows_head and method == "none")
]


def test_every_kind_is_trained() -> None:
    assert set(FAMILY) == set(KINDS)


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_every_kind_and_method_goes_from_a_recipe_to_an_artifact_that_answers(
    tiny_backbones: Any, tmp_path: Path, kind: str, method: str
) -> None:
    backbone = tiny_backbones[FAMILY[kind]]
    epochs = 8 if kind == "masked-lm" else 2  # which tokens are masked makes more of a step's loss than what is learned
    plan = recipe(tmp_path, backbone, kind, method=METHODS[method], training={"epochs": epochs})
    result = train(plan, backbone=backbone)
    steps = losses(result.artifact)
    assert len(steps) == result.steps
    assert mean(steps[-4:]) < mean(steps[:4])  # the last pass over the rows, and the first
    assert set(result.metrics) == {"validation", "test"}
    assert all(metric.low <= metric.value <= metric.high for metric in result.metrics["test"].values())
    assert ak.verify(result.artifact, backbone)
    again, tested = ak.evaluate(result.artifact, backbone=backbone), result.metrics["test"]
    assert again.keys() == tested.keys()
    for name, metric in again.items():
        # Batches of another size add up in another order.
        assert metric.value == pytest.approx(tested[name].value, rel=1e-6)
    with ak.load(result.artifact, backbone) as adapted:
        assert len(adapted.predict(rows_of(kind, 3))) == 3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if FACTS[kind].borrows_head])
def test_a_borrowed_head_alone_has_nothing_to_train(tiny_backbones: Any, tmp_path: Path, kind: str) -> None:
    backbone = tiny_backbones[FAMILY[kind]]
    with pytest.raises(RecipeError, match="nothing would train"):
        train(recipe(tmp_path, backbone, kind, method={"kind": "none"}), backbone=backbone)
    assert entries(tmp_path / "out") == []


def test_the_stored_recipe_and_the_same_seed_give_the_same_bytes_and_another_seed_others(
    tiny_backbones: Any, tmp_path: Path
) -> None:
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, method={"kind": "lora", "rank": 2, "dropout": 0.1})
    first = train(plan, backbone=backbone)
    again = train(plan, backbone=backbone, overrides=[f"output={tmp_path / 'again'}"])
    stored = train(first.artifact, backbone=backbone, overrides=[f"output={tmp_path / 'stored'}"])
    other = train(plan, backbone=backbone, overrides=["training.seed=1", f"output={tmp_path / 'other'}"])
    assert bytes_of(first.artifact) == bytes_of(again.artifact) == bytes_of(stored.artifact)
    assert first.metrics == again.metrics
    assert (
        bytes_of(first.artifact)["adapter_model.safetensors"] != bytes_of(other.artifact)["adapter_model.safetensors"]
    )


def test_the_callers_random_generators_are_not_touched(fresh_backbone: Any, tmp_path: Path) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    backbone = fresh_backbone("bert-plain")
    train(recipe(tmp_path, backbone, training={"max_steps": 2}), backbone=backbone)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("method", METHODS)
def test_the_backbone_is_given_back_as_it_was_also_after_a_failure(
    fresh_backbone: Any, tmp_path: Path, method: str
) -> None:
    backbone = fresh_backbone("bert")
    before = {name: tensor.clone() for name, tensor in backbone.trunk.state_dict().items()}
    structure = [(name, type(module)) for name, module in backbone.trunk.named_modules()]
    plan = recipe(tmp_path, backbone, method=METHODS[method], training={"max_steps": 2})
    train(plan, backbone=backbone)
    with pytest.raises(ak.errors.TrainingError):
        train(plan, backbone=backbone, overrides=["training.learning_rate=1e30", f"output={tmp_path / 'failed'}"])
    after = backbone.trunk.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert structure == [(name, type(module)) for name, module in backbone.trunk.named_modules()]
    assert not any(module.training for module in backbone.trunk.modules())
    assert not any(parameter.requires_grad for parameter in backbone.trunk.parameters())


def test_an_output_that_exists_is_refused_before_anything_is_read_and_replaced_on_demand(
    tiny_backbones: Any, tmp_path: Path
) -> None:
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, training={"max_steps": 1})
    first = train(plan, backbone=backbone)
    with pytest.raises(OutputError, match="exists"):
        train({**plan, "data": {"train": "no-such.jsonl"}}, backbone=backbone)
    second = train(plan, backbone=backbone, overrides=["training.seed=1"], overwrite=True)
    assert second.artifact == first.artifact
    assert ak.verify(second.artifact, backbone)
    assert len(losses(second.artifact)) == 1
