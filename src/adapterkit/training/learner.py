"""What learns, and how fast: AdamW with a rate of its own for the head, warm-up and a schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from adapterkit.adapted import Adapted
from adapterkit.errors import RecipeError
from adapterkit.recipe import TrainingSettings

HEAD_RATE_FACTOR = 5.0
"""A head starts from nothing while the adapter corrects something good, so it learns this much faster by default."""


@dataclass
class Learner:
    """Everything that a step changes, and that a checkpoint therefore holds.

    Attributes:
        parameters: of method and head, by path.
        optimizer: over these parameters.
        schedule: of its rates.
        scaler: lifts fp16's small gradients; switched off in every other format.
    """

    parameters: dict[str, nn.Parameter]
    optimizer: Optimizer
    schedule: LRScheduler
    scaler: GradScaler

    def step(self, clip: float | None) -> float:
        """Clip the gradients, take one step and clear them. Returns the gradient's norm before clipping.

        A gradient that is not finite changes nothing; fp16's scaler then lowers its scale.
        """
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), clip or math.inf))
        if math.isfinite(norm) or self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def size(self) -> float:
        """The sum of the parameters' norms: not finite as soon as one value is not."""
        with torch.no_grad():
            return float(torch.stack(torch._foreach_norm(list(self.parameters.values()))).sum())


def make_learner(adapted: Adapted, settings: TrainingSettings, total_steps: int) -> Learner:
    """The learner of a run of `total_steps` steps.

    Raises:
        RecipeError: nothing trains.
    """
    parameters = {**adapted.method_parameters(), **adapted.head_parameters()}
    if not parameters:
        raise RecipeError(
            "nothing would train: neither the method nor the head has parameters",
            [f"method.kind: found {adapted.method.kind}, and the head of {adapted.task.kind} is the checkpoint's own"],
            "Take method.kind=lora or bottleneck.",
        )
    optimizer = make_optimizer(adapted, settings)
    device = adapted.backbone.device.type
    scaler = GradScaler(device, enabled=adapted.compute_dtype == torch.float16)
    return Learner(parameters, optimizer, make_schedule(optimizer, settings, total_steps), scaler)


def make_optimizer(adapted: Adapted, settings: TrainingSettings) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019) over the adapter's and the head's parameters; norms and biases do not decay."""
    head_rate = settings.head_learning_rate or HEAD_RATE_FACTOR * settings.learning_rate
    groups = [
        *_groups(adapted.method_parameters().values(), settings.learning_rate, settings.weight_decay),
        *_groups(adapted.head_parameters().values(), head_rate, settings.weight_decay),
    ]
    return AdamW(groups, lr=settings.learning_rate, fused=True)


def _groups(parameters: Iterable[nn.Parameter], rate: float, decay: float) -> list[dict[str, object]]:
    """Matrices decay; vectors and scalars, which are norms, biases and scales, do not."""
    every = list(parameters)
    matrices = [parameter for parameter in every if parameter.ndim > 1]
    vectors = [parameter for parameter in every if parameter.ndim <= 1]
    groups = [{"params": matrices, "lr": rate, "weight_decay": decay}]
    groups.append({"params": vectors, "lr": rate, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def warmup_steps(settings: TrainingSettings, total_steps: int) -> int:
    """Steps until the rate is at its highest: `warmup` is a share of all steps below 1, else a number of steps."""
    return math.ceil(settings.warmup * total_steps) if settings.warmup < 1 else int(settings.warmup)


def rate_factor(step: int, *, warmup: int, total: int, schedule: str) -> float:
    """What the highest rate is multiplied by at a step, counted from 0.

    Linear from 1/warmup to 1 during warm-up; then `linear` or `cosine` from 1 to 0, or `constant`.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return max(0.0, 1.0 - progress)


def make_schedule(optimizer: Optimizer, settings: TrainingSettings, total_steps: int) -> LambdaLR:
    """The schedule of a run of `total_steps` optimizer steps."""
    warmup = warmup_steps(settings, total_steps)
    return LambdaLR(
        optimizer, lambda step: rate_factor(step, warmup=warmup, total=total_steps, schedule=settings.schedule)
    )
