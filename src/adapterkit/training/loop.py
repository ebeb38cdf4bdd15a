"""The training loop: a generator that yields a report after every optimizer step.

Saving, evaluating and stopping are plain statements of whoever consumes it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adapterkit.adapted import Adapted
from adapterkit.data import shard
from adapterkit.errors import DivergedError
from adapterkit.recipe import TrainingSettings
from adapterkit.tasks.protocol import Feature
from adapterkit.training.batches import Batches, Position
from adapterkit.training.learner import Learner


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        number: from 1.
        position: where the run stands after it.
        loss: mean over everything that the step learned from, on all processes.
        gradient_norm: before clipping.
        learning_rate: of the adapter, or of the head where only that trains.
        rows: features in the step, on all processes.
        tokens: without padding.
        seconds: wall time.
    """

    number: int
    position: Position
    loss: float
    gradient_norm: float
    learning_rate: float
    rows: int
    tokens: int
    seconds: float


def training_steps(
    model: nn.Module,
    adapted: Adapted,
    batches: Batches,
    learner: Learner,
    settings: TrainingSettings,
    accelerator: Accelerator,
    *,
    done: int = 0,
    position: Position | None = None,
    class_weights: Tensor | None = None,
) -> Iterator[Step]:
    """Train from step `done` to the last one.

    The loss of a step is the mean over all that its global batch weighs, however it is cut into micro-batches and
    over processes: every part adds the gradient of its summed loss, and the sum is divided once.

    Args:
        model: `adapted` as Accelerate has prepared it.
        done: steps that were done before.
        position: where the run stands.

    Raises:
        DivergedError: the loss, a gradient or a weight is not finite; names the step, the rows and the rate.
    """
    adapted.train()
    device = adapted.backbone.device
    for number, (after, features) in enumerate(batches.after(position or Position()), start=done + 1):
        if number > batches.total_steps:
            return
        started = time.perf_counter()
        rate = float(learner.optimizer.param_groups[0]["lr"])
        sums = torch.zeros(2, device=device)
        parts = _micro_batches(features, settings.accumulate)
        for index, part in enumerate(parts):
            own = shard(part, accelerator.process_index, accelerator.num_processes)
            # A process without rows still takes part in the exchange of gradients, with one that counts for nothing.
            counts = 1.0 if own else 0.0
            batch = adapted.task.collate(own or part[:1], adapted.vocabulary, seed=settings.seed, epoch=after.epoch)
            batch = batch.to(device)
            with accelerator.no_sync(model) if index < len(parts) - 1 else nullcontext():
                logits = model(batch.inputs, adapted.task.answered(batch))
                loss = adapted.task.loss(
                    logits, batch, label_smoothing=settings.label_smoothing, class_weights=class_weights
                )
                torch.autograd.backward(learner.scaler.scale(loss.total * (counts / len(features))))
            sums += torch.stack([loss.total.detach().float(), loss.weight.detach().float()]) * counts
        total, weight = accelerator.reduce(sums, reduction="sum").tolist()
        if not math.isfinite(total):
            raise _not_finite("loss of", total, number, batches.line_numbers(features), rate)
        # Processes' gradients were averaged, and every loss was divided by the number of features.
        factor = len(features) * accelerator.num_processes / max(weight, 1e-12)
        norm = learner.step(settings.clip, factor)
        if not math.isfinite(norm) and not learner.scaler.is_enabled():
            raise _not_finite("gradient of", norm, number, batches.line_numbers(features), rate)
        if not math.isfinite(size := learner.size()):
            raise _not_finite("size of the weights after", size, number, batches.line_numbers(features), rate)
        yield Step(
            number=number,
            position=after,
            loss=total / max(weight, 1e-12),
            gradient_norm=norm,
            learning_rate=rate,
            rows=len(features),
            tokens=sum(feature.length_tokens for feature in features),
            seconds=time.perf_counter() - started,
        )


def _micro_batches(features: Sequence[Feature], parts: int) -> list[Sequence[Feature]]:
    """Cut a step's rows, which are sorted by length, into parts of equal size."""
    size = math.ceil(len(features) / parts)
    return [features[start : start + size] for start in range(0, len(features), size)]


def _not_finite(what: str, value: float, number: int, lines: Sequence[int], rate: float) -> DivergedError:
    shown = ", ".join(str(line) for line in lines[:32]) + (" …" if len(lines) > 32 else "")
    return DivergedError(
        f"training stopped: the {what} step {number} is {value}",
        [f"learning rate: {rate:g}", f"lines of the training data in this step: {shown}"],
        "Lower training.learning_rate, raise training.warmup, or look at these rows. The last checkpoint is kept.",
    )
