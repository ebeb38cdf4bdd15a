"""Full fine-tuning under a recipe's own budget: the score that adapters are measured against.

    python benchmarks/full_finetuning.py recipes/banking77.yaml training.learning_rate=1e-4

The rows, encodings, batches, schedule, loss, metrics and head are the recipe's. Only one thing differs: every weight of
the backbone trains, in fp32 with matrix products in the recipe's format.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from adapterkit.adapted import Adapted, build
from adapterkit.backbone import Backbone
from adapterkit.evaluation import score
from adapterkit.recipe import NoMethod, Recipe, resolve
from adapterkit.tasks import Metric
from adapterkit.tasks.protocol import GeneratingTask
from adapterkit.training.batches import HeldBatches
from adapterkit.training.datasets import RecipeRows, read_recipe_rows
from adapterkit.training.learner import make_learner
from adapterkit.training.standing import Progress
from adapterkit.training.turn import Learning, turns

LEARNING_RATES = {
    "e2e_small": 1e-3,
    "scan_simple": 1e-3,
    "squad_small": 3e-4,
    "tinyshakespeare": 1e-3,
    "wikitext2": 5e-4,
}
"""By recipe, where validation rows prefer another than the usual one: most of all for trunks far smaller than usual."""
LEARNING_RATE = 1e-4
"""For every other recipe; an override sets another."""


def rate_for(name: str) -> list[str]:
    """The override that sets the rate for a recipe."""
    return [f"training.learning_rate={LEARNING_RATES.get(name, LEARNING_RATE)}"]


class FullyTrained(Adapted):
    """An adapter whose method is the whole trunk."""

    def method_parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter that the module holds besides the head."""
        head = {id(parameter) for parameter in self.headed.trained.values()}
        return {name: p for name, p in self.module.named_parameters() if id(p) not in head}

    def train(self, mode: bool = True) -> Adapted:
        """Everything trains, so all of its dropout acts."""
        self.training = mode
        self.module.train(mode)
        return self

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Copies of everything that trains."""
        trained = {**self.method_parameters(), **self.head_parameters()}
        return {name: parameter.detach().clone() for name, parameter in trained.items()}

    def restore(self, snapshot: dict[str, torch.Tensor]) -> None:
        """Put a snapshot back."""
        with torch.no_grad():
            for name, parameter in {**self.method_parameters(), **self.head_parameters()}.items():
                parameter.copy_(snapshot[name])


def fully_trained(recipe: Recipe, task: Any) -> FullyTrained:
    """The recipe's backbone in fp32 under its head, all of it trainable."""
    backbone = Backbone.load(recipe.backbone.name, dtype="float32")
    adapted: Any = build(backbone, task, NoMethod(), recipe.head, recipe.training.seed)
    adapted.__class__ = FullyTrained
    adapted.compute_dtype = torch.float32
    adapted.module.requires_grad_(True)
    found: FullyTrained = adapted
    return found


def score_untrained(recipe: Recipe) -> dict[str, dict[str, Metric]]:
    """The checkpoint with its own head, as it is. Returns split -> metric -> value with its interval."""
    rows = read_recipe_rows(recipe)
    backbone = Backbone.load(recipe.backbone.name, dtype=recipe.backbone.dtype)
    return _scores(build(backbone, rows.task, NoMethod(), recipe.head, recipe.training.seed), rows)


def train_fully(recipe: Recipe) -> dict[str, dict[str, Metric]]:
    """Train every weight as the recipe says. Returns split -> metric -> value with its interval."""
    settings = recipe.training
    torch.manual_seed(settings.seed)
    rows = read_recipe_rows(recipe)
    adapted = fully_trained(recipe, rows.task)
    adapted.compute_dtype = Backbone.load(recipe.backbone.name, dtype=recipe.backbone.dtype).dtype
    task, accelerator = rows.task, Accelerator()
    batches = HeldBatches(task.encode(rows.train, adapted.vocabulary, "train").features, rows.train.numbers, settings)  # type: ignore[arg-type, union-attr]
    learner = make_learner(adapted, settings, batches.total_steps)
    kept: Any = None
    progress = Progress({})
    for turn in turns(Learning(adapted, adapted, batches, learner, settings, accelerator)):
        step = turn.take()
        if step.number % (batches.steps_per_epoch or 1) and step.number != batches.total_steps:
            continue
        if rows.validation is not None and settings.keep_best:
            generated = isinstance(task, GeneratingTask) and rows.metric in task.generated_metrics
            found = score(adapted, rows.validation, resamples=200, generated=generated)[rows.metric]
            progress.steps = step.number
            if progress.keeps(found):
                kept = adapted.snapshot()
            print(f"step {step.number} loss {step.loss:.4f} validation {found.value:.4f}", file=sys.stderr)
    if kept is not None:
        adapted.restore(kept)
    return _scores(adapted, rows)


def _scores(adapted: Adapted, rows: RecipeRows) -> dict[str, dict[str, Metric]]:
    parts = {"validation": rows.validation, "test": rows.test}
    return {split: score(adapted, held) for split, held in parts.items() if held is not None}


if __name__ == "__main__":
    scores = train_fully(resolve(sys.argv[1], [*rate_for(Path(sys.argv[1]).stem), *sys.argv[2:]]).recipe)
    print(
        json.dumps({split: {name: metric.value for name, metric in found.items()} for split, found in scores.items()})
    )
