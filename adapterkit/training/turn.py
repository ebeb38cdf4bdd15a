"""One optimizer step in two halves: the gradients of its rows, and the change of the weights.

Between the two stands whoever drives the run, so that several runs can have their gradients computed together.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import torch
from accelerate import Accelerator
from torch import Tensor

from adapterkit.adapted import Adapted
from adapterkit.backbone.attention import drops_by_function
from adapterkit.backbone.dropout import rows_draw
from adapterkit.data import shard
from adapterkit.errors import DivergedError
from adapterkit.recipe import TrainingSettings
from adapterkit.tasks.protocol import Batch, Feature
from adapterkit.training.batches import Batches
from adapterkit.training.learner import Learner
from adapterkit.training.objectives.objective import Objective
from adapterkit.training.standing import Position


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
        objective: what `training.objective` adds, before its weight; None where there is none.
        asked: whether any process was asked to stop before the step was exchanged.
        seconds: wall time; of runs whose gradients are computed together, its share.
    """

    number: int
    position: Position
    loss: float
    gradient_norm: float
    learning_rate: float
    rows: int
    tokens: int
    seconds: float
    objective: float | None = None
    asked: bool = False

    def values(self) -> dict[str, float]:
        """What journals and trackers keep of it."""
        kept = {"loss": self.loss, "gradient_norm": self.gradient_norm, "learning_rate": self.learning_rate}
        kept["seconds"] = round(self.seconds, 4)
        return kept if self.objective is None else {**kept, "objective": self.objective}


@dataclass(frozen=True)
class Learning:
    """What all steps of a run share.

    Attributes:
        adapted: what learns.
        class_weights: of the loss.
        objective: a term beside it.
    """

    adapted: Adapted
    batches: Batches
    learner: Learner
    settings: TrainingSettings
    accelerator: Accelerator
    class_weights: Tensor | None = None
    objective: Objective | None = None

    @cached_property
    def drops_by_function(self) -> bool:
        """See `attention.drops_by_function`."""
        return drops_by_function(self.adapted.backbone.trunk)


class Turn:
    """A step whose rows are chosen. `compute` first, or what stands for it; then `finish`.

    The loss of a step is the mean over all that its global batch weighs, however it is cut into micro-batches and
    over processes: every micro-batch adds the gradient of its summed loss, and the sum is divided once.

    Attributes:
        learning: what the run's steps share.
        number: of the step, from 1.
        features: its rows, on all processes.
        seconds: wall time spent on it so far.
        seed: of its dropout. It follows from the recipe's seed and the step's number, and each row draws by its number
            in the step, so that a run that goes on, on any number of processes, draws as if it had never stopped.
    """

    def __init__(self, learning: Learning, number: int, after: Position, features: Sequence[Feature]) -> None:
        self.learning, self.number, self.features = learning, number, features
        self.seconds = 0.0
        drawn = sha256(f"{learning.settings.seed} {number}".encode())
        self.seed = int.from_bytes(drawn.digest()[:7], "little")
        self._after = after
        self._sums: list[Tensor] = []

    def compute(self) -> None:
        """The gradients of all micro-batches, with a forward and a backward of the run's own.

        The global random generators begin each at the step's seed.
        """
        started = time.perf_counter()
        run, accelerator = self.learning, self.learning.accelerator
        for micro_batch in _micro_batches(range(len(self.features)), run.settings.accumulate):
            own = shard(micro_batch, accelerator.process_index, accelerator.num_processes)
            # A process without rows still computes, with one that counts for nothing.
            rows = own or micro_batch[:1]
            batch = self.batch([self.features[row] for row in rows])
            with rows_draw(self.seed, rows, run.drops_by_function):
                found = None if run.objective is None else run.objective.answered(batch)
                logits, term = found or (run.adapted(batch.inputs, run.adapted.task.answered(batch)), None)
                torch.autograd.backward(self.loss(logits, batch, term, counts=1.0 if own else 0.0))
        self.seconds += time.perf_counter() - started

    def take(self) -> Step:
        """The whole step. Raises DivergedError as `finish` does."""
        self.compute()
        return self.finish()

    def batch(self, features: Sequence[Feature]) -> Batch:
        """Tensors of some of the step's rows, on the run's device."""
        adapted, settings = self.learning.adapted, self.learning.settings
        batch = adapted.task.collate(features, adapted.vocabulary, seed=settings.seed, epoch=self._after.epoch)
        return batch.to(adapted.backbone.device)

    def loss(self, logits: Tensor, batch: Batch, term: Tensor | None = None, *, counts: float = 1.0) -> Tensor:
        """What to go backward from, and note what the step has to know of it.
        `term`: of an objective that has looked at the batch."""
        run = self.learning
        loss = run.adapted.task.loss(
            logits, batch, label_smoothing=run.settings.label_smoothing, class_weights=run.class_weights
        )
        total, added = loss.total, torch.zeros_like(loss.total)
        if run.objective is not None:
            # The step divides by the weights of all its parts, and the term is a mean already.
            added = (run.objective.penalty() if term is None else term) * loss.weight
            total = total + run.objective.settings.weight * added
        self._sums.append(torch.stack([one.detach().float() for one in (total, loss.weight, added)]) * counts)
        return run.learner.scaler.scale(total * (counts / len(self.features)))

    def forget(self) -> None:
        """Leave no gradient and no sum of what was computed, as if nothing had been."""
        self._sums, self.seconds = [], 0.0
        for parameter in self.learning.learner.parameters.values():
            parameter.grad = None

    def finish(self, *, asked: bool = False) -> Step:
        """Change the weights by the gradients that were computed. `asked`: whether this process was asked to stop.
        Raises DivergedError: the loss, a gradient or a weight is not finite; names the step, the rows and the rate."""
        started = time.perf_counter()
        run, learner, features = self.learning, self.learning.learner, self.features
        rate = float(learner.optimizer.param_groups[0]["lr"])
        sums = torch.stack(self._sums).sum(0)
        sums = torch.cat([sums, sums.new_full((1,), float(asked))])
        total, weight, added, wishes = learner.collect(sums, run.accelerator.num_processes)
        if not math.isfinite(total):
            raise self._not_finite("loss of", total, rate)
        # Every loss was divided by the number of features.
        norm = learner.step(run.settings.clip, len(features) / max(weight, 1e-12))
        if not math.isfinite(norm) and not learner.scaler.is_enabled():
            raise self._not_finite("gradient of", norm, rate)
        if not math.isfinite(size := learner.size()):
            raise self._not_finite("size of the weights after", size, rate)
        return Step(
            number=self.number,
            position=self._after,
            loss=total / max(weight, 1e-12),
            gradient_norm=norm,
            learning_rate=rate,
            rows=len(features),
            tokens=sum(feature.length_tokens for feature in features),
            seconds=self.seconds + time.perf_counter() - started,
            objective=None if run.objective is None else added / max(weight, 1e-12),
            asked=wishes > 0,
        )

    def _not_finite(self, what: str, value: float, rate: float) -> DivergedError:
        numbers = self.learning.batches.line_numbers(self.features)
        shown = ", ".join(map(str, numbers[:32])) + (" …" if len(numbers) > 32 else "")
        return DivergedError(
            f"training stopped: the {what} step {self.number} is {value}",
            [f"learning rate: {rate:g}", f"training rows of this step, by number: {shown}"],
            "Lower training.learning_rate, raise training.warmup, or look at these rows. The last checkpoint is kept.",
        )


def turns(learning: Learning, *, done: int = 0, position: Position | None = None) -> Iterator[Turn]:
    """The steps of a run, from `done` to the last one. Whoever takes one computes its gradients and finishes it.
    `done`: steps that were done before. `position`: where the run stands."""
    learning.adapted.train()
    batches = learning.batches
    for number, (after, features) in enumerate(batches.after(position or Position()), start=done + 1):
        if number > batches.total_steps:
            return
        yield Turn(learning, number, after, features)


def _micro_batches(rows: range, count: int) -> list[range]:
    """Cut a step's rows, which are sorted by length, into micro-batches of equal size."""
    size = math.ceil(len(rows) / count)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
