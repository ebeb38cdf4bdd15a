"""What learns, and how fast: AdamW with a rate of its own for the head, warm-up and a schedule."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.amp import GradScaler
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from adapterkit.adapted import Adapted
from adapterkit.errors import RecipeError
from adapterkit.recipe import TrainingSettings
from adapterkit.training.flat import Flat

HEAD_RATE_FACTOR = 5.0
"""A head starts from nothing while the adapter corrects something good, so it learns this much faster by default."""

SUMS = 4
"""Numbers that every process adds to a step, besides its gradients."""

FEW_BYTES = 1 << 16
"""Up to so many bytes the first of the processes on CPUs adds up what travels; a ring, beyond, keeps none waiting."""


@dataclass
class Learner:
    """Everything that a step changes, and that a checkpoint therefore holds.

    Attributes:
        parameters: of method and head, by path.
        optimizer: over these parameters, most of them flat.
        schedule: of its rates.
        scaler: lifts fp16's small gradients; switched off in every other format.
        flat: the parameters that lie in one buffer.
        loose: those that cannot: the trunk's own biases, and other formats than fp32.
    """

    parameters: dict[str, nn.Parameter]
    optimizer: Optimizer
    schedule: LRScheduler
    scaler: GradScaler
    flat: Flat
    loose: list[nn.Parameter]

    def collect(self, sums: Tensor | float = 0.0, processes: int = 1) -> list[float]:
        """Take the gradients over, and add up those of all processes: all that lies in one buffer in one exchange.

        Args:
            sums: `SUMS` numbers that travel with them; of one number all are it.
            processes: how many there are.

        Returns:
            The sums of all processes.
        """
        self.flat.gather()
        tail = self.flat.travels[-SUMS:]
        tail[:] = sums
        if processes > 1:
            for tensor in (self.flat.travels, *self._loose_gradients()):
                _add_up(tensor)
        found: list[float] = tail.tolist()
        return found

    def _loose_gradients(self) -> list[Tensor]:
        """Zero where there is none, as in `flat`: an expert that no row of one process reached has some in another."""
        gradients = [torch.zeros_like(loose) if loose.grad is None else loose.grad for loose in self.loose]
        for loose, gradient in zip(self.loose, gradients, strict=True):
            loose.grad = gradient
        return gradients

    def step(self, clip: float | None, factor: float = 1.0) -> float:
        """Multiply the gradients that were collected by a factor, clip them, take one step and clear them.

        A gradient that is not finite changes nothing; fp16's scaler then lowers its scale.

        Returns:
            The gradient's norm after the factor and before clipping.
        """
        gradients = [self.flat.gradient, *self._loose_gradients()]
        self.scaler.unscale_(self.optimizer)
        norm = factor * _norm(gradients)
        if math.isfinite(norm) or self.scaler.is_enabled():
            # As in torch.nn.utils.clip_grad_norm_.
            shrink = 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))
            for gradient in gradients:
                gradient.mul_(factor * shrink)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.schedule.step()
        for loose in self.loose:
            loose.grad = None
        return norm

    def size(self) -> float:
        """The norm of all parameters: not finite as soon as one value is not."""
        return _norm([self.flat.values, *(loose.detach() for loose in self.loose)])


def _add_up(tensor: Tensor) -> None:
    """Let a tensor hold the sum over all processes. Of few bytes messages cost more than bytes: then the first process
    adds up, with 2(N - 1) messages in the place of a ring's 4N(N - 1)."""
    if tensor.nbytes > FEW_BYTES or tensor.device.type != "cpu":
        distributed.all_reduce(tensor)
        return
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size() * (distributed.get_rank() == 0))]
    distributed.gather(tensor, parts or None)
    if parts:
        torch.sum(torch.stack(parts), 0, out=tensor)
    distributed.broadcast(tensor, 0)


def _norm(tensors: list[Tensor]) -> float:
    """The norm of all values together, with one wait for the device.

    Squares are summed pairwise; torch's norm sums them one by one, and is off by 1e-4 at 300,000 values.
    """
    return float(torch.stack([tensor.float().square().sum() for tensor in tensors]).sum().sqrt())


def make_learner(
    adapted: Adapted,
    settings: TrainingSettings,
    total_steps: int,
    *,
    done: int = 0,
    beside: Mapping[str, nn.Parameter] = {},
) -> Learner:
    """The learner of a run of `total_steps` steps, of which some are `done`.
    `beside`: what learns beside the adapter, as fast as its head. Raises RecipeError: nothing trains."""
    parameters = {**adapted.method_parameters(), **adapted.head_parameters()}
    if not parameters:
        raise RecipeError(
            "nothing would train: neither the method nor the head has parameters",
            [f"method.kind: found {adapted.method.kind}, and the head of {adapted.task.kind} is the checkpoint's own"],
            "Take method.kind=lora or bottleneck.",
        )
    groups = rate_groups(adapted, settings, beside)
    parameters |= beside
    # The trunk's own tensors stay where they are, as others may hold them; and a buffer has one format.
    own = {id(bias) for bias in adapted.attachment.biases().values()}
    every = [parameter for group in groups.values() for parameter in group]
    loose = [parameter for parameter in every if id(parameter) in own or parameter.dtype != torch.float32]
    held = {id(parameter) for parameter in loose}
    flat = Flat([[parameter for parameter in group if id(parameter) not in held] for group in groups.values()], SUMS)
    # AdamW (Loshchilov & Hutter 2019).
    optimizer = AdamW(
        [
            {
                "params": [*[piece] * bool(len(piece)), *(p for p in group if id(p) in held)],
                "lr": rate,
                "weight_decay": decay,
            }
            for piece, ((rate, decay), group) in zip(flat.groups, groups.items(), strict=True)
        ],
        lr=settings.learning_rate,
        fused=True,
    )
    device = adapted.backbone.device.type
    scaler = GradScaler(device, enabled=adapted.compute_dtype == torch.float16)
    return Learner(parameters, optimizer, make_schedule(optimizer, settings, total_steps, done), scaler, flat, loose)


def rate_groups(
    adapted: Adapted, settings: TrainingSettings, beside: Mapping[str, nn.Parameter] = {}
) -> dict[tuple[float, float], list[nn.Parameter]]:
    """What trains, by rate and weight decay: matrices decay; norms, biases and scales do not."""
    head_rate = settings.head_learning_rate or HEAD_RATE_FACTOR * settings.learning_rate
    rated = [(parameter, settings.learning_rate) for parameter in adapted.method_parameters().values()]
    rated += [(parameter, head_rate) for parameter in (*adapted.head_parameters().values(), *beside.values())]
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, rate in rated:
        groups.setdefault((rate, settings.weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return groups


def idle_rates(adapted: Adapted, settings: TrainingSettings) -> dict[str, str]:
    """Rates that the recipe sets and nothing learns at: path -> why."""
    idle = {}
    if settings.head_learning_rate is not None:
        if not adapted.method_parameters():
            idle["training.learning_rate"] = "only the head learns, at training.head_learning_rate"
        if not adapted.head_parameters():
            idle["training.head_learning_rate"] = "no head learns"
    return idle


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


def make_schedule(optimizer: Optimizer, settings: TrainingSettings, total_steps: int, done: int = 0) -> LambdaLR:
    """The schedule of a run of `total_steps` steps, of which some are `done`: a rate follows from its step alone."""
    warmup = warmup_steps(settings, total_steps)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return LambdaLR(
        optimizer,
        lambda step: rate_factor(step, warmup=warmup, total=total_steps, schedule=settings.schedule),
        last_epoch=done - 1,
    )
