"""The training loop: generators that yield before and after every optimizer step.

Saving, evaluating and stopping are plain statements of whoever consumes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from accelerate import Accelerator
from torch import Tensor, nn

from adapterkit.adapted import Adapted
from adapterkit.recipe import TrainingSettings
from adapterkit.training.batches import Batches
from adapterkit.training.learner import Learner
from adapterkit.training.standing import Position
from adapterkit.training.turn import Learning, Step, Turn


def turns(learning: Learning, *, done: int = 0, position: Position | None = None) -> Iterator[Turn]:
    """The steps of a run, from `done` to the last one. Whoever takes one computes its gradients and finishes it.

    Args:
        done: steps that were done before.
        position: where the run stands.
    """
    learning.adapted.train()
    batches = learning.batches
    for number, (after, features) in enumerate(batches.after(position or Position()), start=done + 1):
        if number > batches.total_steps:
            return
        yield Turn(learning, number, after, features)


def training_steps(
    model: nn.Module,
    adapted: Adapted,
    batches: Batches,
    learner: Learner,
    settings: TrainingSettings,
    accelerator: Accelerator,
    *,
    class_weights: Tensor | None = None,
) -> Iterator[Step]:
    """Train to the last step, with a report after each.

    Args:
        model: `adapted` as Accelerate has prepared it.

    Raises:
        DivergedError: see `Turn.finish`.
    """
    learning = Learning(model, adapted, batches, learner, settings, accelerator, class_weights)
    for turn in turns(learning):
        turn.compute()
        yield turn.finish()
