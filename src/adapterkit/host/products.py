"""What the host adds to the output of one module for a run of rows: two batched products, or a few plain ones.

Axes: u adapters, N tokens of one adapter's rows, I inputs, O outputs, R rank, D hidden width, M bottleneck width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from adapterkit.errors import RoutingError
from adapterkit.host.structure import AffinePiece, BottleneckPiece, LoraPiece, Structure
from adapterkit.methods.bottleneck.config import ACTIVATIONS

Key = tuple[int, int]

FEW_ADAPTERS = 4
MANY_TOKENS = 512
"""Up to so many adapters with at least so many tokens each are computed one after the other."""


class Weights:
    """The tensors of the adapters of one run of rows, which all have the same structure.

    Attributes:
        count: how many adapters.
    """

    def __init__(self, structure: Structure, flats: Sequence[Tensor]) -> None:
        """Nothing is copied before it is needed."""
        self.count = len(flats)
        self._structure = structure
        self._flats = flats
        self._together: dict[torch.dtype, list[Tensor]] = {}
        self._alone: dict[torch.dtype, list[list[Tensor]]] = {}

    def together(self, dtype: torch.dtype) -> list[Tensor]:
        """Every tensor of the structure for all adapters, with a leading axis u."""
        found = self._together.get(dtype)
        if found is None:
            flats = self._flats
            stacked = flats[0][None] if len(flats) == 1 else torch.stack(list(flats))
            found = self._together[dtype] = self._structure.split(stacked.to(dtype))
        return found

    def alone(self, dtype: torch.dtype) -> list[list[Tensor]]:
        """Every tensor of the structure, for each adapter."""
        found = self._alone.get(dtype)
        if found is None:
            found = self._alone[dtype] = [self._structure.split(flat.to(dtype)) for flat in self._flats]
        return found


class Shrunk:
    """The last x that was shrunk and what came out of it, for the linears that share both."""

    def __init__(self) -> None:
        self._x: Tensor | None = None
        self._kept: dict[Key, list[Tensor] | Tensor] = {}

    def get(self, x: Tensor, key: Key) -> list[Tensor] | Tensor | None:
        """What was kept under this key for this very x."""
        return self._kept.get(key) if x is self._x else None

    def keep(self, x: Tensor, key: Key, value: list[Tensor] | Tensor) -> None:
        """Keep a value for x; everything of other inputs is forgotten."""
        if x is not self._x:
            self._x, self._kept = x, {}
        self._kept[key] = value


class Step:
    """What one piece of one run of rows adds at one module.

    Attributes:
        low, high: its rows in the batch, before any repetition.
    """

    def __init__(self, low: int, high: int, weights: Weights, first: int) -> None:
        """Used by the subclasses.

        Args:
            first: number of the piece's first tensor in its structure.
        """
        self.low = low
        self.high = high
        self.weights = weights
        self.first = first

    def apply(self, x: Tensor, y: Tensor, copies: int) -> None:
        """Change this run's rows of y in place; every row stands there `copies` times in a row."""
        raise NotImplementedError


class LoraStep(Step):
    """y + b · a · x. The shrink is shared by all linears of the piece that are given the same x."""

    def __init__(
        self, low: int, high: int, weights: Weights, first: int, piece: LoraPiece, member: int, shrunk: Shrunk
    ) -> None:
        super().__init__(low, high, weights, first)
        self._b = first + 1 + member
        start = sum(piece.ranks[:member])
        self._columns = start, start + piece.ranks[member]
        self._shared = len(piece.paths) > 1
        self._key = id(weights), first
        self._shrunk = shrunk

    def apply(self, x: Tensor, y: Tensor, copies: int) -> None:
        weights = self.weights
        count = weights.count
        low, high = self.low * copies, self.high * copies
        whole = high - low == len(y)
        y_uNO = (y if whole else y[low:high]).view(count, -1, y.shape[-1])
        start, end = self._columns
        plain = count == 1 or (count <= FEW_ADAPTERS and y_uNO.shape[1] >= MANY_TOKENS)
        h = self._shrunk.get(x, self._key) if self._shared else None
        if h is None:
            x_uNI = (x if whole else x[low:high]).reshape(count, -1, x.shape[-1])
            if plain:
                h = [
                    torch.mm(x_NI, own[self.first].t()) for x_NI, own in zip(x_uNI, weights.alone(y.dtype), strict=True)
                ]
            else:
                h = torch.bmm(x_uNI, weights.together(y.dtype)[self.first].transpose(1, 2))
            if self._shared:
                self._shrunk.keep(x, self._key, h)
        if isinstance(h, list):
            for y_NO, h_NR, own in zip(y_uNO, h, weights.alone(y.dtype), strict=True):
                y_NO.addmm_(h_NR[:, start:end] if self._shared else h_NR, own[self._b])
        else:
            y_uNO.baddbmm_(h[:, :, start:end] if self._shared else h, weights.together(y.dtype)[self._b])


class AffineStep(Step):
    """gain · y + shift."""

    def __init__(self, low: int, high: int, weights: Weights, first: int, piece: AffinePiece) -> None:
        super().__init__(low, high, weights, first)
        self._gain = piece.gain
        self._shift = piece.shift

    def apply(self, x: Tensor, y: Tensor, copies: int) -> None:
        y_uNO = y[self.low * copies : self.high * copies].view(self.weights.count, -1, y.shape[-1])
        tensors = self.weights.together(y.dtype)
        if self._gain:
            y_uNO.mul_(tensors[self.first][:, None])
        if self._shift:
            y_uNO.add_(tensors[self.first + self._gain][:, None])


class BottleneckStep(Step):
    """h + W_up · act(W_down · z + b_down) + b_up."""

    def __init__(
        self,
        low: int,
        high: int,
        weights: Weights,
        first: int,
        piece: BottleneckPiece,
        residual: Callable[[], Tensor] | None,
        norm: Callable[[Tensor], Tensor] | None,
    ) -> None:
        """
        Args:
            residual: gives r, for all rows.
            norm: the model's own, as it is in the bare backbone.
        """
        super().__init__(low, high, weights, first)
        self._placement = piece.placement
        self._activate = ACTIVATIONS[piece.activation]
        self._residual = residual
        self._norm = norm

    def apply(self, x: Tensor, y: Tensor, copies: int) -> None:
        count = self.weights.count
        low, high = self.low * copies, self.high * copies
        y_uND = y[low:high].view(count, -1, y.shape[-1])
        z = y_uND
        if self._residual is not None:
            z = self._residual()[low:high].reshape(y_uND.shape).to(y.dtype)
            if self._placement == "pfeiffer":
                z = y_uND + z
                if self._norm is not None:
                    z = self._norm(z)
        down_uMD, down_uM, up_uMD = self.weights.together(y.dtype)[self.first : self.first + 3]
        middle_uNM = self._activate(torch.baddbmm(down_uM[:, None], z, down_uMD.transpose(1, 2)))
        # b_up is the last row of W_up: one product instead of another pass over y.
        ones = middle_uNM.new_ones(()).expand(*middle_uNM.shape[:-1], 1)
        y_uND.baddbmm_(torch.cat([middle_uNM, ones], dim=-1), up_uMD)


class Work:
    """All steps at one module for one batch."""

    def __init__(self, rows: int, steps: Sequence[Step], *, in_place: bool) -> None:
        """
        Args:
            rows: of the batch, before any repetition.
            in_place: whether the module's output is its own, so that it may be written to.
        """
        self._rows = rows
        self._steps = tuple(steps)
        self._in_place = in_place

    def apply(self, x: Tensor, y: Tensor) -> Tensor:
        """The module's output y with what the adapters make of it.

        Raises:
            RoutingError: the batch has another number of rows than was announced.
        """
        copies, rest = divmod(len(y), self._rows)
        if rest or not copies:
            raise RoutingError(
                "the batch is not the one that was announced",
                [f"rows: found {len(y)}, expected {self._rows}, or each of them repeated in place"],
                "Give every row its adapter, and the view exactly those rows.",
            )
        if not self._in_place or not y.is_contiguous():
            y = y.clone(memory_format=torch.contiguous_format)
        for step in self._steps:
            step.apply(x, y, copies)
        return y
