"""Dropout whose masks are drawn quickly, and again for the backward instead of being kept: a seed is eight bytes.

Torch draws a mask on a CPU with one Mersenne twister call per element, which takes ten times longer than here,
where a draw is 16 bits of a small fast generator (SFC64). Its seed is one draw of torch's own generator: a run
that is stopped and resumed, and a layer that is checkpointed and run again, draw the same masks.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_SEEDS = 2**63 - 1
_DRAWS = 1 << 16


def draw_seed() -> int:
    """A seed for masks, from the global generator of the CPU."""
    return int(torch.randint(_SEEDS, (), dtype=torch.int64))


class Masks:
    """Masks that follow one another, the same whenever they are drawn from the same seed on the same kind of device."""

    def __init__(self, probability: float, seed: int) -> None:
        """`probability`: that a value is dropped, from 0 to 1; on a CPU in steps of 2⁻¹⁶."""
        self._probability, self._seed = probability, seed
        self._generator: Any = None

    def next(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """0 for what is dropped and 1 / (1 - probability) elsewhere, in the dtype and on the device of `like`."""
        kept = torch.empty(shape, dtype=like.dtype, device=like.device)
        return self._drawn_on_cpu(kept) if kept.device.type == "cpu" else self._drawn_by_torch(kept)

    def _drawn_on_cpu(self, kept: Tensor) -> Tensor:
        if self._generator is None:
            self._generator = np.random.Generator(np.random.SFC64(self._seed))
        dropped = round(self._probability * _DRAWS)
        if dropped == _DRAWS:
            return kept.zero_()
        count = kept.numel()
        draws = self._generator.integers(0, 2**64, -(-count // 4), dtype=np.uint64).view(np.int16)[:count]
        torch.ge(torch.from_numpy(draws).view(kept.shape), dropped - _DRAWS // 2, out=kept)
        return kept.mul_(_DRAWS / (_DRAWS - dropped))

    def _drawn_by_torch(self, kept: Tensor) -> Tensor:
        if self._generator is None:
            self._generator = torch.Generator(kept.device).manual_seed(self._seed)
        return kept.bernoulli_(1.0 - self._probability, generator=self._generator).div_(1.0 - self._probability)


def mask_like(x: Tensor, probability: float, seed: int) -> Tensor:
    """The first of the seed's masks, of x's shape, dtype and device."""
    return Masks(probability, seed).next(tuple(x.shape), x)


class QuickDropout(nn.Dropout):
    """`torch.nn.Dropout`; while it drops on a CPU, with masks of this module."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - its name in torch
        if not self.training:
            return input
        if not 0.0 < self.p < 1.0 or self.inplace or input.device.type != "cpu":
            return super().forward(input)
        dropped: Tensor = _Dropped.apply(input, self.p, draw_seed())  # type: ignore[no-untyped-call]
        return dropped


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float, seed: int) -> Tensor:
        ctx.settings = probability, seed
        return mask_like(x, probability, seed).mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return mask_like(grad, *ctx.settings).mul_(grad), None, None


def use_quick_dropout(trunk: nn.Module) -> None:
    """Let a trunk's dropout layers draw as this module does, once, when it is loaded. For use nothing changes."""
    for module in trunk.modules():
        if type(module) is nn.Dropout:
            module.__class__ = QuickDropout
