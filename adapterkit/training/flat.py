"""Parameters in one piece of memory, so that norm, clipping, optimizer and checks are one operation each.

A step of AdamW over some hundred small tensors costs mostly calls: 2.1 ms for 72 LoRA matrices against 0.1 ms flat.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Flat:
    """Parameters whose values lie one after the other in one buffer. They stay what they were to everybody else.

    Attributes:
        groups: for each group of parameters, the piece of the buffer that holds them, for an optimizer.
        gradient: of all of them.
        travels: the gradient, and room behind it for sums that processes exchange together with it.
    """

    def __init__(self, groups: Sequence[Sequence[nn.Parameter]], sums: int = 0) -> None:
        """Move the values into the buffer. `groups`: parameters of one dtype on one device; none stands there twice.
        `sums`: that travel with the gradient."""
        self._parameters = [parameter for group in groups for parameter in group]
        self._values = torch.cat([parameter.detach().reshape(-1) for parameter in self._parameters])
        self.travels = self._values.new_zeros(len(self._values) + sums)
        self.gradient = self.travels[: len(self._values)]
        pieces = torch.split(self._values, [parameter.numel() for parameter in self._parameters])
        for parameter, piece in zip(self._parameters, pieces, strict=True):
            parameter.data = piece.view(parameter.shape)
        sizes = [sum(parameter.numel() for parameter in group) for group in groups]
        self.groups = [nn.Parameter(piece) for piece in torch.split(self._values, sizes)]
        for piece, gradient in zip(self.groups, torch.split(self.gradient, sizes), strict=True):
            piece.grad = gradient

    @property
    def values(self) -> Tensor:
        """All values."""
        return self._values

    def gather(self) -> None:
        """Take the parameters' gradients over, zero where there is none, and leave them without any."""
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in self._parameters
        ]
        torch.cat([gradient.reshape(-1) for gradient in gradients], out=self.gradient)
        for parameter in self._parameters:
            parameter.grad = None
