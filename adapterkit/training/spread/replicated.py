"""The whole backbone in every process; torch's DDP averages the gradients during the backward."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import cast

from accelerate import Accelerator
from torch import Tensor, nn

from adapterkit.adapted import Adapted


class Replicated:
    """See `Spread`; of one process, too."""

    sharded = False

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    def spread(self, adapted: Adapted) -> None:
        """It lies as it was loaded."""

    def model(self, adapted: Adapted) -> nn.Module:
        """The adapter inside DDP."""
        return cast(nn.Module, self._accelerator.prepare(adapted, device_placement=[False]))

    def alone(self, model: nn.Module) -> AbstractContextManager[None]:
        """DDP's own."""
        return cast("AbstractContextManager[None]", self._accelerator.no_sync(model))

    def exchange(self, gradients: list[Tensor]) -> None:
        """The backward has done it."""
