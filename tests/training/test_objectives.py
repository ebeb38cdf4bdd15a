"""Objectives beside a task's loss: their formulas against plain loops in float64, and what runs make of them."""

from __future__ import annotations

import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import adapterkit as ak
from adapterkit.errors import DeviceError, RecipeError
from adapterkit.training.learner import Learner
from adapterkit.training.objectives.objective import distance, make_objective, simcse, supervised_contrastive
from tests.training.worlds import bytes_of, events, losses, recipe, train

DROPPING = {"kind": "lora", "rank": 4, "dropout": 0.2}
KINDS: dict[str, dict[str, Any]] = {
    "supervised-contrastive": {"kind": "supervised-contrastive", "weight": 0.5, "width": 8},
    "simcse": {"kind": "simcse", "weight": 0.5, "alone": True},
    "near-backbone": {"kind": "near-backbone", "weight": 3.0, "distance": "cosine"},
    "near-start": {"kind": "near-start", "weight": 2.0},
}


@pytest.fixture(scope="module")
def still(tiny_folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A backbone without dropout."""
    folder = tmp_path_factory.mktemp("still") / "bert"
    shutil.copytree(tiny_folders["bert"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    )
    return ak.Backbone.load(str(folder), dtype="float32", device="cpu")


def unit(rows: int, width: int, seed: int) -> Any:
    found = np.random.default_rng(seed).normal(size=(rows, width))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_the_supervised_contrastive_loss_is_that_of_the_paper() -> None:
    z, classes, tau = unit(7, 5, seed=0), [0, 1, 0, 2, 1, 0, 3], 0.2
    every = []
    for i in range(7):
        positives = [p for p in range(7) if p != i and classes[p] == classes[i]]
        below = sum(math.exp(z[i] @ z[a] / tau) for a in range(7) if a != i)
        if positives:  # of classes 2 and 3 there is one row each, which has none
            every.append(-sum(math.log(math.exp(z[i] @ z[p] / tau) / below) for p in positives) / len(positives))
    assert len(every) == 5
    found = supervised_contrastive(torch.tensor(z), torch.tensor(classes), tau)
    assert found.item() == pytest.approx(sum(every) / 5, rel=1e-12)


def test_rows_that_are_all_of_different_classes_ask_for_nothing() -> None:
    z = torch.tensor(unit(4, 3, seed=1), requires_grad=True)
    found = supervised_contrastive(z, torch.arange(4), 0.1)
    found.backward()
    assert found.item() == 0.0
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_the_simcse_loss_is_that_of_the_paper() -> None:
    one, other, tau = unit(4, 6, seed=2), unit(4, 6, seed=3), 0.05
    every = [
        -math.log(math.exp(one[i] @ other[i] / tau) / sum(math.exp(one[i] @ other[j] / tau) for j in range(4)))
        for i in range(4)
    ]
    assert simcse(torch.tensor(one), torch.tensor(other), tau).item() == pytest.approx(sum(every) / 4, rel=1e-12)


def test_distances_of_states_leave_out_padding_and_count_every_row_alike() -> None:
    states, frozen = torch.zeros(2, 3, 2), torch.zeros(2, 3, 2)
    states[0, 0] = torch.tensor([3.0, 1.0])  # (9 + 1) / 2 = 5
    states[0, 1] = torch.tensor([0.0, 2.0])  # (0 + 4) / 2 = 2
    states[0, 2] = 100.0  # padding
    states[1] = 1.0  # 1 at each of three tokens
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert distance(states, frozen, mask, "squares").item() == ((5 + 2) / 2 + 1) / 2
    turned = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])
    found = distance(turned, torch.tensor([[[0.0, 7.0]], [[3.0, 3.0]]]), torch.ones(2, 1), "cosine").item()
    assert found == pytest.approx((1 + 0) / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_goes_on_as_if_it_never_was_and_leaves_nothing_of_the_objective(
    tiny_backbones: Any, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbones["bert"]
    training = {"objective": KINDS[kind], "max_steps": 5, "checkpoint_every": 1}
    plan = recipe(tmp_path, backbone, method=DROPPING, training=training)
    whole = train(plan, backbone=backbone, overrides=[f"output={tmp_path / 'whole'}"]).artifact
    take, taken = Learner.step, []

    def step(self: Learner, clip: float | None, factor: float) -> float:
        taken.append(clip)
        if len(taken) == 3:
            signal.raise_signal(signal.SIGINT)
        return take(self, clip, factor)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", step)
        with pytest.raises(KeyboardInterrupt):
            train(plan, backbone=backbone)
    resumed = train(plan, backbone=backbone, resume=True).artifact
    assert bytes_of(resumed) == bytes_of(whole)
    assert losses(resumed) == losses(whole)
    with safe_open(whole / "adapter_model.safetensors", "pt") as held:
        assert not [name for name in held.keys() if "projection" in name or "objective" in name]  # noqa: SIM118
    assert all(event["objective"] >= 0 for event in events(whole, "step"))
    assert ak.verify(whole, backbone)


def moved(folder: Path, backbone: Any) -> tuple[float, float]:
    """How far the method's weights are from those of an untrained adapter, and how far its last states."""
    with ak.load(folder, backbone) as adapted:
        manifest = ak.artifact.open_artifact(folder).manifest
        from adapterkit.adapted import build

        with build(backbone, adapted.task, manifest.method, manifest.head, manifest.seed) as fresh:
            pairs = zip(adapted.method_parameters().values(), fresh.method_parameters().values(), strict=True)
            weights = sum(float((one - other).detach().square().sum()) for one, other in pairs)
        inputs = backbone.tokenizer(["lost card", "found a boat"], return_tensors="pt", padding=True)
        with torch.inference_mode():
            states = [trunk(**inputs).last_hidden_state for trunk in (adapted.backbone.trunk, backbone.trunk)]
    return weights, float((states[0] - states[1]).square().mean())


def test_a_method_stays_nearer_to_its_start_and_to_the_backbone_the_more_it_is_asked_to(
    tiny_backbones: Any, tmp_path: Path
) -> None:
    backbone = tiny_backbones["bert"]
    found = {}
    for name, objective in {
        "free": None,
        "start": {"kind": "near-start", "weight": 100.0},
        "backbone": {"kind": "near-backbone", "weight": 100.0},
    }.items():
        plan = recipe(tmp_path, backbone, training={"objective": objective}, output=str(tmp_path / name))
        found[name] = moved(train(plan, backbone=backbone).artifact, backbone)
    assert found["start"][0] < 0.5 * found["free"][0]
    assert found["backbone"][1] < 0.5 * found["free"][1]


def test_the_first_loss_is_the_tasks_and_the_term_times_its_weight(still: Any, tmp_path: Path) -> None:
    backbone = still  # masks of dropout would differ where padding is left out
    first = {}
    for weight in (0.5, 2.0):
        objective = {"kind": "supervised-contrastive", "weight": weight}
        training = {"objective": objective, "max_steps": 1}
        plan = recipe(tmp_path, backbone, training=training, output=str(tmp_path / str(weight)))
        (event,) = events(train(plan, backbone=backbone).artifact, "step")
        first[weight] = event
    training = {"max_steps": 1}
    (plain,) = losses(train(recipe(tmp_path, backbone, training=training), backbone=backbone).artifact)
    for weight, event in first.items():
        assert event["loss"] == pytest.approx(plain + weight * event["objective"], rel=1e-5)


def test_alone_the_tasks_loss_ends_at_the_head(still: Any, tmp_path: Path) -> None:
    """With classes that all differ there is no positive, so that nothing shapes the method, and the head learns."""
    backbone = still
    rows = [{"text": f"{'lost' if n % 2 else 'found'} {n}", "label": n} for n in range(8)]
    objective = {"kind": "supervised-contrastive", "alone": True}
    plan = recipe(tmp_path, backbone, training={"objective": objective, "weight_decay": 0.0, "epochs": 15})
    plan["data"] = {"validation": None, "test": None}
    artifact = ak.train(plan, data={"train": rows}, backbone=backbone, quiet=True).artifact
    assert moved(artifact, backbone) == (0.0, 0.0)
    assert losses(artifact)[-1] < losses(artifact)[0]


def test_two_looks_that_are_alike_are_refused(still: Any, tmp_path: Path) -> None:
    plan = recipe(tmp_path, still, training={"objective": {"kind": "simcse"}})
    with pytest.raises(RecipeError, match="both looks are the same"):
        train(plan, backbone=still)


def test_a_trunk_cache_is_not_used_and_says_why(tiny_backbones: Any, tmp_path: Path) -> None:
    plan = recipe(tmp_path, tiny_backbones["bert"], method={"kind": "lora", "top": 1})
    plan["training"] |= {"objective": {"kind": "near-backbone"}, "max_steps": 1}
    (begin,) = events(train(plan, backbone=tiny_backbones["bert"]).artifact, "begin")
    assert begin["trunk_cache"] == "not used, training.objective near-backbone reads the states of all layers"


REFUSED: dict[str, tuple[list[str], str]] = {
    "head only": (["method.kind=none"], "training.objective: shapes a method, and method.kind is none"),
    "language model": (["task.kind=causal-lm"], "which compares whole texts; not causal-lm"),
    "regression": (["task.problem=regression"], "needs one label for each row"),
    "family head": (["head.kind=family"], "head.kind (command line): is family"),
    "parts of a step": (["training.accumulate=2"], "training.accumulate (command line): cuts a step's rows"),
    "kept states": (["training.cache=kept"], "training.cache (command line): keeps states below the adapter"),
    "one row": (["training.batch_size=1"], "compares the rows of a step"),
    "another kind's setting": (["training.objective.distance=cosine"], "belongs to near-backbone"),
    "and the other way round": (
        ["training.objective={kind: near-start, temperature: 1.0, alone: true}"],
        "training.objective.temperature",
    ),
    "an encoder-decoder": (
        ["task.kind=seq2seq-lm", "training.objective={kind: near-backbone}"],
        "no row of one document",
    ),
    "documents that share rows": (
        ["task={kind: causal-lm, pack_documents: true}", "training.objective={kind: near-backbone}"],
        "task.pack_documents",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_apply_is_refused_by_name(tmp_path: Path, case: str) -> None:
    overrides, told = REFUSED[case]
    plan = recipe(tmp_path, tmp_path, training={"objective": {"kind": "supervised-contrastive"}})
    with pytest.raises(RecipeError) as refused:
        ak.load_recipe(plan, overrides)
    assert told in str(refused.value)


def test_rows_without_one_label_each_are_refused_when_they_are_seen(tiny_backbones: Any, tmp_path: Path) -> None:
    rows = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": ["y"]}, {"text": "c", "label": ["x"]}]
    plan = recipe(tmp_path, tiny_backbones["bert"], training={"objective": {"kind": "supervised-contrastive"}})
    plan["data"] = {"test": None, "validation": None}
    with pytest.raises(RecipeError, match="cannot shape this adapter"):
        ak.train(plan, data={"train": rows}, backbone=tiny_backbones["bert"], quiet=True)


def test_a_plan_says_that_it_does_not_know(tiny_folders: Any, tmp_path: Path) -> None:
    plan = recipe(tmp_path, tiny_folders["bert"], training={"objective": {"kind": "simcse"}})
    with pytest.raises(RecipeError, match="is not estimated"):
        ak.plan(plan)


@pytest.mark.parametrize("kind", ["supervised-contrastive", "simcse", "near-backbone"])
def test_several_processes_are_refused(tmp_path: Path, kind: str) -> None:
    read = ak.load_recipe(recipe(tmp_path, tmp_path, training={"objective": {"kind": kind}}))
    nothing: Any = None
    with pytest.raises(DeviceError, match="found 2 processes"):
        make_objective(read.training, nothing, nothing, nothing, 2)


def test_a_written_block_reads_back(tmp_path: Path) -> None:
    for block in KINDS.values():
        read = ak.load_recipe(recipe(tmp_path, tmp_path, training={"objective": block}))
        assert ak.load_recipe(json.loads(json.dumps(read.to_dict()))) == read
