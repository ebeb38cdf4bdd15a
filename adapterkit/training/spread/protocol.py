"""What a run asks of a way to spread over processes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor, nn

from adapterkit.adapted import Adapted


class Spread(Protocol):
    """A way to spread a run over processes. Each of them has some of a step's rows; all take the same step.

    Attributes:
        sharded: whether a process holds a part of the backbone alone, so that no forward can do without the others.
    """

    sharded: bool

    def spread(self, adapted: Adapted) -> None:
        """Lay the backbone out, before a learner is made."""

    def model(self, adapted: Adapted) -> nn.Module:
        """What a step calls in the place of the adapter."""

    def alone(self, model: nn.Module) -> AbstractContextManager[None]:
        """Inside, a backward adds to this process's gradients and exchanges none."""

    def exchange(self, gradients: list[Tensor]) -> None:
        """Average the gradients of all processes, in place, where the backward has not done it."""
