"""Memory in which a view gathers the adapters of its batches, kept from batch to batch.

The system hands fresh memory out page by page, which takes six times as long as the gathering itself: 32 adapters of
rank 8 on every linear of a BERT with 6 layers and d = 256 are 28 MB, 22 ms in fresh memory and 3.6 ms in kept memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_LEAST_BYTES = 1 << 20
"""Smaller tensors come out of memory that the process has at hand."""


class Gathering:
    """One buffer for each gather of a batch, as large as the largest one so far."""

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []
        self._next = 0

    def collect(self, flats: Sequence[Tensor]) -> Tensor:
        """Tensors of one length as (u, P). What is returned holds until `reset`."""
        first = flats[0]
        size = len(flats) * first.numel()
        if first.device.type != "cpu" or size * first.element_size() < _LEAST_BYTES:
            return torch.stack(list(flats))
        place, self._next = self._next, self._next + 1
        if place == len(self._buffers):
            self._buffers.append(first.new_empty(0))
        buffer = self._buffers[place]
        if len(buffer) < size or buffer.dtype != first.dtype:
            with torch.inference_mode(False):  # so that it may be written to inside and outside of it
                buffer = self._buffers[place] = torch.empty(size, dtype=first.dtype)
        found = buffer[:size].view(len(flats), -1)
        torch.stack(list(flats), out=found)
        return found

    def reset(self) -> None:
        """The batch is done: its buffers may be written to."""
        self._next = 0
