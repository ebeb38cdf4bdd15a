"""What an adapter is made of, as the host computes it: which pieces stand where, and how they lie in one flat tensor.

Two adapters with the same structure differ only in numbers, so that one batched product serves both. Structures are
interned: equal ones are the same object.

Axes: I inputs, O outputs, R rank, D hidden width, M bottleneck width.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import ClassVar
from weakref import WeakValueDictionary

from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LoraPiece:
    """Low-rank updates of linears, by path in the trunk, that are given the same x of width `inputs`, which is shrunk
    once for all: the rank and the width of the output at each."""

    paths: tuple[str, ...]
    ranks: tuple[int, ...]
    inputs: int
    outputs: tuple[int, ...]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """A of all linears as (ΣR, I), then B of each as (R, O) with the scaling folded in."""
        return (sum(self.ranks), self.inputs), *zip(self.ranks, self.outputs, strict=True)


@dataclass(frozen=True)
class AffinePiece:
    """gain · y + shift on the output y (O,) of the module at a path in the trunk, where there is either: DoRA's
    magnitudes, IA3's factors and trained biases. A gain is kept as what it differs from 1."""

    path: str
    width: int
    gain: bool
    shift: bool

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The gain, the shift: those that are there."""
        return ((self.width,),) * (self.gain + self.shift)


@dataclass(frozen=True)
class InputPiece:
    """W · (factor ⊙ x) instead of W · x in the linear at a path in the trunk, with x (width,): IA3's factors on what it
    reads."""

    path: str
    width: int

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The factor (I,), kept as what it differs from 1."""
        return ((self.width,),)


@dataclass(frozen=True)
class BottleneckPiece:
    """h + W_up · act(W_down · z + b_down) + b_up on the output h (hidden,) of the linear at a path in the trunk, with z
    = h for houlsby, norm(h + r) for pfeiffer, r for parallel; see `methods.bottleneck.layer`. `residual` is the path of
    the module whose first input is r, None for houlsby; `norm` that of pfeiffer's, None where the model normalises
    before the sublayer."""

    path: str
    hidden: int
    width: int
    placement: str
    activation: str
    residual: str | None
    norm: str | None

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """W_down as (M, D), b_down (M,), then W_up transposed with b_up as its last row, (M + 1, D), both scaled."""
        return (self.width, self.hidden), (self.width,), (self.width + 1, self.hidden)


@dataclass(frozen=True)
class FusionPiece:
    """Attention over several bottlenecks on the output h of the linear at a path in the trunk, each with its width and
    activation, all of one placement; see `methods.fusion.layer`. Queries and keys are compared in `query_width`; there
    may be a matrix W_Δ; `residual` and `norm` as for a bottleneck."""

    path: str
    hidden: int
    parts: tuple[tuple[int, str], ...]
    query_width: int
    value: bool
    placement: str
    residual: str | None
    norm: str | None

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Three for every bottleneck, as above; then W_Q (Q, D), b_Q (Q,), W_K (Q, D), and W_Δ (D, D) if any."""
        hidden, width = self.hidden, self.query_width
        necks = [shape for middle, _ in self.parts for shape in ((middle, hidden), (middle,), (middle + 1, hidden))]
        return (*necks, (width, hidden), (width,), (width, hidden), *((hidden, hidden),) * self.value)


Piece = LoraPiece | AffinePiece | InputPiece | BottleneckPiece | FusionPiece


@dataclass(frozen=True, eq=False)
class Structure:
    """The pieces of an adapter, in the order in which their tensors lie in its flat one: at one site affine ones before
    the others, and bottlenecks last. Made by `Structure.of`."""

    pieces: tuple[Piece, ...]

    _interned: ClassVar[WeakValueDictionary[tuple[Piece, ...], Structure]] = WeakValueDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> Structure:
        """The one structure of these pieces."""
        key = tuple(pieces)
        with cls._lock:
            found = cls._interned.get(key)
            if found is None:
                found = cls._interned[key] = cls(key)
            return found

    @cached_property
    def paths(self) -> frozenset[str]:
        """Of the modules at which something is computed."""
        return frozenset(
            path for piece in self.pieces for path in (piece.paths if isinstance(piece, LoraPiece) else (piece.path,))
        )

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Of every tensor, in order."""
        return tuple(shape for piece in self.pieces for shape in piece.shapes)

    @cached_property
    def lengths(self) -> list[int]:
        """Numbers in every tensor, in order."""
        return [prod(shape) for shape in self.shapes]

    @property
    def size(self) -> int:
        """Numbers in the flat tensor."""
        return sum(self.lengths)

    def unpack(self, flats_uP: Tensor) -> list[Tensor]:
        """Views of the tensors in one flat tensor (P,), or in several (u, P): then each has the leading axis u."""
        lead = flats_uP.shape[:-1]
        tensors = flats_uP.split_with_sizes(self.lengths, dim=-1)
        return [tensor.view(*lead, *shape) for tensor, shape in zip(tensors, self.shapes, strict=True)]
