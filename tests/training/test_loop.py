"""The loop against a plain PyTorch one, and what stops it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from adapterkit.adapted import build
from adapterkit.backbone import Backbone
from adapterkit.errors import TrainingError
from adapterkit.recipe import load_recipe
from adapterkit.tasks import TASKS
from adapterkit.training import run
from adapterkit.training.learner import make_learner
from tests.training.worlds import entries, events, losses, recipe, rows_of, train, write_rows

RATE, HEAD_RATE, DECAY, CLIP = 2e-2, 5e-2, 0.1, 0.5
LABELS = {"bad": 0, "good": 1}


@pytest.fixture(scope="module")
def still(tiny_folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DistilBERT without dropout."""
    folder = tmp_path_factory.mktemp("still") / "distilbert"
    shutil.copytree(tiny_folders["distilbert"], folder)
    config = json.loads((folder / "config.json").read_text())
    config.update(dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def still_backbone(still: Path) -> Any:
    return Backbone.load(str(still), dtype="float32", device="cpu")


def task_of(plan: dict[str, Any]) -> Any:
    settings = load_recipe(plan).task
    return TASKS[settings.kind].prepare(settings, rows_of(settings.kind, 40))


def plain_model(still: Path, auto_class: Any, plan: dict[str, Any], backbone: Any) -> Any:
    """transformers' class with PEFT's LoRA, starting from the same numbers as ours."""
    settings, task = load_recipe(plan), task_of(plan)
    model = auto_class.from_pretrained(still, num_labels=len(task.labels)).eval()
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules=["q_lin", "v_lin"]))
    with build(backbone, task, settings.method, settings.head, settings.training.seed) as ours:
        state = {name.removeprefix("base_model.model."): tensor for name, tensor in ours.state().items()}
    names = dict(model.base_model.model.named_parameters())
    with torch.no_grad():
        for name, tensor in state.items():
            path = name.replace("lora_A.weight", "lora_A.default.weight").replace(
                "lora_B.weight", "lora_B.default.weight"
            )
            names[path].copy_(tensor)
            names[path].requires_grad_(True)
    return model


def plain_training(model: Any, batches: list[Any], steps: int, warmup: int, loss_of: Any) -> list[float]:
    """Steps of AdamW with linear warm-up and decay, written out."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p], "lr": RATE if "lora_" in name else HEAD_RATE, "weight_decay": DECAY if p.ndim > 1 else 0.0}
        for name, p in trained
    ]
    peaks = [group["lr"] for group in groups]
    optimizer = torch.optim.AdamW(groups)
    found = []
    for number, batch in zip(range(steps), batches, strict=False):
        factor = (number + 1) / warmup if number < warmup else (steps - number) / (steps - warmup)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in trained], CLIP)
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


TRAINING = {
    "batch_size": 40,  # one batch holds every row, so that the order of rows plays no part
    "max_steps": 5,
    "epochs": 5,
    "learning_rate": RATE,
    "head_learning_rate": HEAD_RATE,
    "weight_decay": DECAY,
    "clip": CLIP,
    "warmup": 2,
}
METHOD = {"kind": "lora", "rank": 4, "alpha": 16.0, "sites": ["attention.query", "attention.value"]}


@pytest.mark.parametrize("extra", [{}, {"label_smoothing": 0.1}, {"class_weights": {"bad": 1.0, "good": 3.0}}])
def test_losses_are_those_of_a_plain_loop_over_transformers_and_peft(
    still: Path, still_backbone: Any, tmp_path: Path, extra: dict[str, Any]
) -> None:
    plan = recipe(
        tmp_path, still_backbone, method=METHOD, head={"kind": "family"},
        data={"validation": None}, training={**TRAINING, **extra},
    )  # fmt: skip
    rows = rows_of("text-classification", 40)
    tokenizer = AutoTokenizer.from_pretrained(still)
    batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    targets = torch.tensor([LABELS[row["label"]] for row in rows])
    weights = torch.tensor([1.0, 3.0]) if "class_weights" in extra else None

    def loss_of(model: Any, inputs: Any) -> Any:
        logits = model(**inputs).logits
        return F.cross_entropy(logits, targets, weight=weights, label_smoothing=extra.get("label_smoothing", 0.0))

    plain = plain_model(still, AutoModelForSequenceClassification, plan, still_backbone)
    expected = plain_training(plain, [batch] * 5, steps=5, warmup=2, loss_of=loss_of)
    ours = train(plan, backbone=still_backbone)
    assert losses(ours.artifact) == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < expected[0]


def test_losses_of_tagging_are_those_of_a_plain_loop_too(still: Path, still_backbone: Any, tmp_path: Path) -> None:
    plan = recipe(
        tmp_path, still_backbone, "token-classification", method=METHOD, head={"kind": "family"},
        data={"validation": None}, training=TRAINING,
    )  # fmt: skip
    rows = rows_of("token-classification", 40)
    tokenizer = AutoTokenizer.from_pretrained(still)
    batch = tokenizer([row["tokens"] for row in rows], is_split_into_words=True, padding=True, return_tensors="pt")
    labels = torch.full_like(batch["input_ids"], -100)
    order = task_of(plan).labels
    for index, row in enumerate(rows):
        before = None
        for place, word in enumerate(batch.word_ids(index)):
            if word is not None and word != before:
                labels[index, place] = order.index(row["tags"][word])
            before = word

    def loss_of(model: Any, inputs: Any) -> Any:
        return model(**inputs, labels=labels).loss

    plain = plain_model(still, AutoModelForTokenClassification, plan, still_backbone)
    expected = plain_training(plain, [batch] * 5, steps=5, warmup=2, loss_of=loss_of)
    assert losses(train(plan, backbone=still_backbone).artifact) == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_not_finite_stops_with_step_lines_and_rate(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    rows = rows_of("text-classification", 10)
    train_file = write_rows(tmp_path / "ten.jsonl", rows)
    plan = recipe(
        tmp_path, backbone, data={"train": train_file, "validation": None},
        training={"learning_rate": 1e30, "warmup": 0, "batch_size": 5, "evaluate_every": 1},
    )  # fmt: skip
    with pytest.raises(TrainingError) as stopped:
        train(plan, backbone=backbone)
    said = str(stopped.value)
    assert "training stopped: the" in said
    assert "step 1 is" in said or "step 2 is" in said
    assert "learning rate: 1e+30" in said
    named = said.partition("training rows of this step, by number: ")[2].splitlines()[0]
    lines = [int(number) for number in named.split(", ")]
    assert len(lines) == 5
    assert set(lines) <= set(range(1, 11))
    assert entries(tmp_path / "out") == ["training"]


def test_a_step_says_what_it_did(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, training={"max_steps": 4, "warmup": 2, "clip": None, "learning_rate": 0.01})
    steps = events(train(plan, backbone=backbone).artifact, "step")
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    # Two steps of warm-up, then two of decay: 1/2, 2/2, 2/2, 1/2 of the highest rate.
    assert [step["learning_rate"] for step in steps] == pytest.approx([0.005, 0.01, 0.01, 0.005])
    assert all(step["rows"] == 8 and step["tokens"] > 8 and step["gradient_norm"] > 0 for step in steps)


def test_a_poisoned_head_stops_the_first_step_and_leaves_nothing_of_an_artifact(
    tiny_backbones: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(adapted: Any, *arguments: Any, **named: Any) -> Any:
        with torch.no_grad():
            next(iter(adapted.head_parameters().values())).fill_(math.nan)
        return make_learner(adapted, *arguments, **named)

    monkeypatch.setattr(run, "make_learner", poisoned)
    backbone = tiny_backbones["bert"]
    with pytest.raises(TrainingError, match="the loss of step 1 is nan"):
        train(recipe(tmp_path, backbone), backbone=backbone)
    assert entries(tmp_path / "out") == ["training"]
