"""Packing the second adapter of a recipe as the first one was packed, in one gather.

Files of one recipe hold their tensors at the same places. So where each number of a packed adapter comes from is found
once, by packing places instead of numbers; whatever lays out tensors elsewhere is packed tensor by tensor.

Axes: S numbers in the artifact's memory, P numbers that are packed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from adapterkit.host.engine.assembly import Laid, Packed, flatten

MOST_PLACES = 1 << 24
"""Places are packed as fp32, which counts exactly so far."""
_AT_ONCE = 1 << 15

Layout = tuple[tuple[str, tuple[int, ...], int], ...]
"""Name, shape and first place of every tensor."""


@dataclass(frozen=True)
class Slab:
    """Tensors that are cut out of one: all of its numbers (S,), and which tensor stands where."""

    whole: Tensor
    layout: Layout

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self | None:
        """The memory of these tensors; None where they do not share one on the CPU."""
        whole = next((tensor._base for tensor in tensors.values()), None)
        if whole is None or not whole.is_cpu or whole.requires_grad or whole.dim() != 1 or len(whole) > MOST_PLACES:
            return None
        if not all(tensor._base is whole and tensor.is_contiguous() for tensor in tensors.values()):
            return None
        first = int(whole.storage_offset())
        layout = ((name, tuple(tensor.shape), int(tensor.storage_offset()) - first) for name, tensor in tensors.items())
        return cls(whole, tuple(layout))

    def places(self) -> dict[str, Tensor]:
        """Every tensor with the places of its numbers instead of the numbers, in fp32."""
        counted = torch.arange(len(self.whole), dtype=torch.float32)
        return {
            name: counted[start : start + torch.Size(shape).numel()].view(shape) for name, shape, start in self.layout
        }


class Permutation:
    """How an adapter is packed out of one memory: where each number comes from, and what it is multiplied by."""

    def __init__(self, packed: Packed, places: Sequence[Laid]) -> None:
        """`packed`: an adapter that was packed tensor by tensor. `places`: its pieces, places instead of numbers."""
        ones = [replace(one, tensors=[torch.ones_like(tensor) for tensor in one.tensors]) for one in places]
        self._structure, self._lowest_layer = packed.structure, packed.lowest_layer
        self._places_P = flatten([replace(one, factors=()) for one in places]).to(torch.int32)
        factors_P = flatten(ones)
        self._factors_P = None if bool((factors_P == 1).all()) else factors_P

    def pack(self, whole: Tensor, device: torch.device, dtype: torch.dtype) -> Packed:
        """Pack what lies in another memory of the same layout."""
        flat_P = torch.empty(len(self._places_P))
        # Pieces that stay in the cache: fresh memory in one piece would cost more than the gather.
        for chunk, places in zip(torch.split(flat_P, _AT_ONCE), torch.split(self._places_P, _AT_ONCE), strict=True):
            chunk.copy_(whole.index_select(0, places))
        if self._factors_P is not None:
            flat_P.mul_(self._factors_P)
        return Packed(self._structure, flat_P.to(device, dtype), self._lowest_layer)
