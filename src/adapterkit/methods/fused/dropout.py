"""Dropout masks that are drawn again instead of being kept: a seed is eight bytes, a mask is as large as its input."""

from __future__ import annotations

import torch
from torch import Tensor

_SEEDS = 2**63 - 1


def draw_seed() -> int:
    """A seed for one mask, from the global generator of the CPU.

    So a run that is stopped and resumed, and a layer that is checkpointed and run again, draw the same masks.
    """
    return int(torch.randint(_SEEDS, (), dtype=torch.int64))


def mask_like(x: Tensor, probability: float, seed: int) -> Tensor:
    """Zeros with this probability and 1 / (1 - probability) elsewhere, of x's shape, dtype and device.

    The same seed gives the same mask on the same kind of device.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    kept = torch.empty_like(x).bernoulli_(1.0 - probability, generator=generator)
    return kept.div_(1.0 - probability)
