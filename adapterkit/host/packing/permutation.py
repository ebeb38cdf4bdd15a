"""Packing the second adapter of a recipe as the first one was packed, in one gather.

Files of one recipe hold their tensors at the same places. So where each number of a packed adapter comes from is found
once, by packing places instead of numbers; whatever lays out tensors elsewhere is packed tensor by tensor.

Axes: S numbers in the artifact's memory, P numbers that are packed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from adapterkit.host.engine.assembly import Packed, Update, flatten, lay_out
from adapterkit.host.engine.structure import Structure

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


@dataclass(frozen=True)
class Permutation:
    """How a LoRA is packed out of one memory: the packed adapter's structure and lowest layer, where each of its
    numbers comes from (P,), and what each is multiplied by (P,), None where that is 1 everywhere."""

    structure: Structure
    lowest_layer: Mapping[str, int]
    places: Tensor
    factors: Tensor | None

    @classmethod
    def of(cls, packed: Packed, places: Iterable[Update]) -> Self:
        """`packed`: an adapter that was packed tensor by tensor. `places`: its updates, places instead of numbers."""
        updates = list(places)
        laid = lay_out(updates)
        ones = [replace(update, a=torch.ones_like(update.a), b=torch.ones_like(update.b)) for update in updates]
        factors = flatten(lay_out(ones).tensors, laid.factors)
        return cls(
            packed.structure,
            packed.lowest_layer,
            flatten(laid.tensors).to(torch.int32),
            None if bool((factors == 1).all()) else factors,
        )

    def pack(self, whole: Tensor, device: torch.device, dtype: torch.dtype) -> Packed:
        """Pack what lies in another memory of the same layout."""
        flat_P = torch.empty(len(self.places))
        # Pieces that stay in the cache: fresh memory in one piece would cost more than the gather.
        for chunk, places in zip(torch.split(flat_P, _AT_ONCE), torch.split(self.places, _AT_ONCE), strict=True):
            chunk.copy_(whole.index_select(0, places))
        if self.factors is not None:
            flat_P.mul_(self.factors)
        flat_P = flat_P.to(device, dtype)
        return Packed(self.structure, flat_P, self.lowest_layer, flat_P.numel() * flat_P.element_size())
