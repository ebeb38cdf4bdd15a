"""Does the fast path end where the plain one ends? Test metrics over seeds, on rows of BANKING77.

    ADAPTERKIT_DATA=… OMP_NUM_THREADS=1 python benchmarks/fast_and_plain.py        # some 10 minutes on one core

The plain path: PEFT's own layers, padded batches through transformers' model, AdamW over every tensor by itself,
clipping by torch. Both see the same rows in the same order from the same start; dropout draws other numbers where
there is padding. So they may differ, and by no more than two seeds do.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from adapterkit.adapted import Adapted, build
from adapterkit.backbone import Backbone
from adapterkit.evaluation import score
from adapterkit.recipe import Recipe, resolve
from adapterkit.training.batches import HeldBatches
from adapterkit.training.datasets import RecipeRows, read_recipe_rows
from adapterkit.training.learner import HEAD_RATE_FACTOR, make_learner, rate_factor, warmup_steps
from adapterkit.training.standing import Position
from adapterkit.training.turn import Learning, turns

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "fast_and_plain.json"
Train = Callable[[Adapted, HeldBatches, Recipe], float]


def fast(adapted: Adapted, batches: HeldBatches, recipe: Recipe) -> float:
    """The library's own loop. Returns the loss of the last step."""
    learner = make_learner(adapted, recipe.training, batches.total_steps)
    accelerator = Accelerator()
    learning = Learning(adapted, batches, learner, recipe.training, accelerator)
    for turn in turns(learning):
        loss = turn.take().loss
    return loss


def plain(adapted: Adapted, batches: HeldBatches, recipe: Recipe) -> float:
    """The same steps by hand."""
    settings, total = recipe.training, batches.total_steps
    adapted.attachment.fuse(False)
    head_rate = settings.head_learning_rate or HEAD_RATE_FACTOR * settings.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": [p], "lr": rate, "weight_decay": settings.weight_decay if p.ndim > 1 else 0.0}
        for rate, found in (
            (settings.learning_rate, adapted.method_parameters()),
            (head_rate, adapted.head_parameters()),
        )
        for p in found.values()
    ]
    optimizer = torch.optim.AdamW(groups)
    trained = [p for group in groups for p in group["params"]]
    warmup = warmup_steps(settings, total)
    factor = lambda step: rate_factor(step, warmup=warmup, total=total, schedule=settings.schedule)  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    adapted.train()
    for number, (_, features) in enumerate(batches.after(Position()), start=1):
        if number > total:
            break
        batch = adapted.task.collate(features, adapted.vocabulary)
        logits = adapted.headed.logits(batch.inputs)
        loss = adapted.task.loss(logits, batch, label_smoothing=settings.label_smoothing).mean
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, settings.clip or math.inf)
        optimizer.step()
        schedule.step()
    return float(loss.detach())


def run(train: Train, backbone: Backbone, recipe: Recipe, rows: RecipeRows) -> dict[str, float]:
    """Train once. Returns test metrics and the last loss."""
    torch.manual_seed(recipe.training.seed)
    with build(backbone, rows.task, recipe.method, recipe.head, recipe.training.seed) as adapted:
        features = rows.task.encode(rows.train, adapted.vocabulary, "train").features  # type: ignore[arg-type]
        batches = HeldBatches(features, rows.train.numbers, recipe.training)  # type: ignore[union-attr]
        loss = train(adapted, batches, recipe)
        adapted.eval()
        found = score(adapted, rows.test or [], resamples=0)
    return {**{name: metric.value for name, metric in found.items()}, "last loss": loss}


def subset(source: Path, target: Path, labels: int) -> None:
    """The rows of the first labels, in the order of their names."""
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    chosen = sorted({row["label"] for row in rows})[:labels]
    target.write_text("".join(f"{json.dumps(row)}\n" for row in rows if row["label"] in chosen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--labels", type=int, default=30, help="of 77")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    paths: dict[str, Train] = {"fast": fast, "plain": plain}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in paths}
    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", "test"):
            source = Path(os.environ["ADAPTERKIT_DATA"]) / "banking77" / f"{part}.jsonl"
            subset(source, Path(folder) / f"{part}.jsonl", asked.labels)
        overrides = [f"data.{part}={folder}/{part}.jsonl" for part in ("train", "test")]
        overrides += ["data.validation=null", f"training.epochs={asked.epochs}"]
        for seed in asked.seeds:
            recipe = resolve(HERE.parent / "recipes" / "banking77.yaml", [*overrides, f"training.seed={seed}"]).recipe
            rows = read_recipe_rows(recipe)
            backbone = Backbone.load(recipe.backbone.name, dtype="float32", device="cpu")
            for name, train in paths.items():
                found[name].append(run(train, backbone, recipe, rows))
                print(name, seed, json.dumps(found[name][-1]), file=sys.stderr)
    report: dict[str, Any] = {"labels": asked.labels, "epochs": asked.epochs, "seeds": asked.seeds, "runs": found}
    for metric in ("accuracy", "macro_f1", "last loss"):
        values = {name: [one[metric] for one in runs] for name, runs in found.items()}
        report[metric] = {
            "fast": statistics.mean(values["fast"]),
            "plain": statistics.mean(values["plain"]),
            "largest difference of one seed": max(map(abs, map(float.__sub__, values["fast"], values["plain"]))),
            "spread of the plain path's seeds": max(values["plain"]) - min(values["plain"]),
        }
        print(metric, json.dumps({key: round(value, 5) for key, value in report[metric].items()}))
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
