"""Full fine-tuning under a recipe's own budget: what adapters are measured against. Nothing of it is kept."""

from __future__ import annotations

import logging
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adapterkit.adapted import Adapted, build
from adapterkit.backbone import Backbone
from adapterkit.recipe import NoMethod, Recipe
from adapterkit.scoring import score
from adapterkit.tasks.protocol import GeneratingTask, Task
from adapterkit.training.batches import HeldBatches
from adapterkit.training.datasets import RecipeRows
from adapterkit.training.learner import make_learner
from adapterkit.training.standing import Progress
from adapterkit.training.turn import Learning, turns

logger = logging.getLogger(__name__)


class FullyTrained(Adapted):
    """An adapter whose method is the whole trunk."""

    def method_parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter that the module holds besides the head."""
        head = {id(parameter) for parameter in self.headed.trained.values()}
        return {name: p for name, p in self.module.named_parameters() if id(p) not in head}

    def train(self, mode: bool = True) -> FullyTrained:
        """Everything trains, so all of its dropout acts."""
        self.training = mode
        self.module.train(mode)
        return self

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of everything that trains."""
        trained = {**self.method_parameters(), **self.head_parameters()}
        return {name: parameter.detach().clone() for name, parameter in trained.items()}

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Put a snapshot back."""
        with torch.no_grad():
            for name, parameter in {**self.method_parameters(), **self.head_parameters()}.items():
                parameter.copy_(snapshot[name])


def fully_trained(recipe: Recipe, task: Task, backbone: Backbone | None = None) -> FullyTrained:
    """A backbone in fp32 of its own, under the recipe's head, all of it trainable; untrained so far.
    `backbone`: tells where it is loaded from and the format of products; None takes the recipe's. Raises BackboneError,
    HeadError: it cannot be loaded, or the head does not fit."""
    told = backbone or Backbone.load(recipe.backbone.name, dtype=recipe.backbone.dtype)
    own = Backbone.load(told.folder, dtype="float32")
    adapted: Any = build(own, task, NoMethod(), recipe.head, recipe.training.seed)
    adapted.__class__ = FullyTrained
    adapted.compute_dtype = told.dtype
    adapted.module.requires_grad_(True)
    found: FullyTrained = adapted
    return found


def train_fully(recipe: Recipe, rows: RecipeRows, backbone: Backbone | None = None) -> FullyTrained:
    """Train every weight as the recipe says: its rows, batches, schedule, loss and head; at the state that it keeps.
    `rows`: of the recipe. `backbone`: see `fully_trained`."""
    settings = recipe.training
    torch.manual_seed(settings.seed)
    adapted = fully_trained(recipe, rows.task, backbone)
    task, accelerator = rows.task, Accelerator(mixed_precision="no")
    features = task.encode(rows.train, adapted.vocabulary, "train").features  # type: ignore[arg-type]
    batches = HeldBatches(features, rows.train.numbers, settings)  # type: ignore[union-attr]
    learner = make_learner(adapted, settings, batches.total_steps)
    kept: dict[str, Tensor] | None = None
    progress = Progress({})
    learning = Learning(adapted, batches, learner, settings, accelerator)
    for turn in turns(learning):
        step = turn.take()
        if step.number % (batches.steps_per_epoch or 1) and step.number != batches.total_steps:
            continue
        if rows.validation is not None and settings.keep_best:
            generated = isinstance(task, GeneratingTask) and rows.metric in task.generated_metrics
            found = score(adapted, rows.validation, resamples=200, generated=generated)[rows.metric]
            progress.steps = step.number
            if progress.keeps(found):
                kept = adapted.snapshot()
            logger.info("step %d loss %.4f validation %.4f", step.number, step.loss, found.value)
    if kept is not None:
        adapted.restore(kept)
    return adapted
