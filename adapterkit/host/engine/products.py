"""What the host adds to the output of one module for a run of rows: two batched products.

Both products are taken with the tokens last: a · xᵀ, then y += hᵀ · b. So the narrow result h (R, N) lies with its long
axis together, which matrix libraries like up to twice as much in fp32 and five times in bf16 as h (N, R).

Axes: u adapters, N tokens of one adapter's rows, I inputs, O outputs, R rank, D hidden width, M bottleneck width,
P parts of a fusion, Q its query width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import Conv1D

from adapterkit.errors import RoutingError
from adapterkit.host.engine.structure import (
    AffinePiece,
    BottleneckPiece,
    FusionPiece,
    InputPiece,
    LoraPiece,
    Piece,
    Structure,
)
from adapterkit.methods.equations import ACTIVATIONS, bottleneck_input

MERGE_FROM = 4.0
"""From how many times as many tokens as equal multiplications a weight is folded: its way through memory costs too."""

Key = tuple[int, int]
Rows = tuple[int, int] | None
"""A run of rows in a batch, before any repetition; None for the whole batch."""
Norm = Callable[[Tensor], Tensor]
Product = Callable[[Tensor], Tensor]
Gather = Callable[[Sequence[Tensor]], Tensor]
PieceT = TypeVar("PieceT", bound=Piece)
PlacedT = TypeVar("PlacedT", bound=BottleneckPiece | FusionPiece)


class Weights:
    """The tensors of the `count` adapters of one run of rows, which all have the same structure."""

    def __init__(self, structure: Structure, flats: Sequence[Tensor], gather: Gather) -> None:
        """Nothing is copied before it is needed, and the tensors of one adapter never are.
        `gather`: makes (u, P) of several adapters' tensors."""
        self.count = len(flats)
        self._gather = gather
        self._structure = structure
        self._flats = flats
        self._unpacked: dict[torch.dtype, list[Tensor]] = {}

    def of(self, dtype: torch.dtype) -> list[Tensor]:
        """Every tensor of the structure for all adapters, with a leading axis u."""
        found = self._unpacked.get(dtype)
        if found is None:
            flats = self._flats
            stacked = flats[0][None] if len(flats) == 1 else self._gather(flats)
            found = self._unpacked[dtype] = self._structure.unpack(stacked.to(dtype))
        return found

    def alone(self, dtype: torch.dtype) -> list[list[Tensor]]:
        """Every tensor of the structure, adapter by adapter; nothing is copied."""
        return [self._structure.unpack(flat.to(dtype)) for flat in self._flats]


class RowWeights:
    """The tensors of one structure for every row of a batch, zeros where a row has other ones: for compiled forwards.
    `flats` (u, P) is another tensor for every batch."""

    def __init__(self, structure: Structure) -> None:
        self.flats = torch.empty(0)
        self._lengths, self._shapes = structure.lengths, structure.shapes

    @property
    def count(self) -> int:
        """How many rows."""
        return self.flats.shape[0]

    def of(self, dtype: torch.dtype) -> list[Tensor]:
        """As `Weights.of`; the compiler makes the views free."""
        flats = self.flats.to(dtype)
        tensors = torch.split_with_sizes(flats, self._lengths, dim=1)
        return [tensor.view(flats.shape[0], *shape) for tensor, shape in zip(tensors, self._shapes, strict=True)]


Held = Weights | RowWeights


class Shrunk:
    """The last x that was shrunk and what came out of it, for the linears that share both."""

    def __init__(self) -> None:
        self._x: Tensor | None = None
        self._kept: dict[Key, Tensor] = {}

    def get(self, x: Tensor, key: Key) -> Tensor | None:
        """What was kept under this key for this very x."""
        return self._kept.get(key) if x is self._x else None

    def keep(self, x: Tensor, key: Key, value: Tensor) -> None:
        """Keep a value for x; everything of other inputs is forgotten."""
        if x is not self._x:
            self._x, self._kept = x, {}
        self._kept[key] = value

    def forget(self) -> None:
        """Let go of both."""
        self._x, self._kept = None, {}


def shrink(a_uRI: Tensor, x_uNI: Tensor) -> Tensor:
    """a · xᵀ for every adapter: (u, R, N). One adapter alone takes the plain product, which is twice as fast."""
    if len(a_uRI) == 1:
        return torch.mm(a_uRI[0], x_uNI[0].t())[None]
    return torch.bmm(a_uRI, x_uNI.transpose(1, 2))


def expand(y_uNO: Tensor, h_uRN: Tensor, b_uRO: Tensor) -> None:
    """y += hᵀ · b for every adapter, in place."""
    if len(h_uRN) == 1:
        y_uNO[0].addmm_(h_uRN[0].t(), b_uRO[0])
    else:
        y_uNO.baddbmm_(h_uRN.transpose(1, 2), b_uRO)


class Addition(ABC, Generic[PieceT]):
    """What one piece of one run of rows adds at one module. Where it stands `behind` the updates there, it may need the
    first input of the module at the path `residual`."""

    behind: ClassVar[bool] = False
    residual: str | None = None

    def __init__(self, rows: Rows, weights: Held, first: int, piece: PieceT) -> None:
        """`rows`: the run in the batch, before any repetition; None for the whole batch. `first`: number of the piece's
        first tensor in its structure."""
        self.rows = rows
        self.weights = weights
        self.first = first
        self.piece = piece

    @abstractmethod
    def apply(self, x: Tensor, y: Tensor, residual: Tensor | None, copies: int) -> None:
        """Change this run's rows of y in place; every row of the batch stands there `copies` times in a row."""

    def cut(self, tensor: Tensor, copies: int) -> Tensor:
        """This run's rows of a tensor as (u, N, width)."""
        if self.rows is not None:
            low, high = self.rows
            tensor = tensor[low * copies : high * copies]
        return tensor.reshape(self.weights.count, -1, tensor.shape[-1])


class LoraAddition(Addition[LoraPiece]):
    """y + b · a · x. The shrink is shared by all linears of the piece that are given the same x."""

    def __init__(
        self, rows: Rows, weights: Held, first: int, piece: LoraPiece, member: int, shrunk: Shrunk | None
    ) -> None:
        """`member`: number of this linear in the piece. `shrunk`: where the shrink is shared; None shares nothing."""
        super().__init__(rows, weights, first, piece)
        self._b = first + 1 + member
        start = sum(piece.ranks[:member])
        self._own = slice(start, start + piece.ranks[member])
        self._shrunk = shrunk if len(piece.paths) > 1 else None
        self._key = id(weights), first

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """a (R, I) and b (R, O) of this linear, of an adapter that owns the batch."""
        tensors = self.weights.of(dtype)
        return tensors[self.first][0, self._own], tensors[self._b][0]

    def apply(self, x: Tensor, y: Tensor, residual: Tensor | None, copies: int) -> None:
        tensors = self.weights.of(y.dtype)
        a_uRI, b_uRO = tensors[self.first], tensors[self._b]
        shrunk = self._shrunk
        if self.rows is None and len(a_uRI) == 1:
            self._apply_alone(x, y, a_uRI[0], b_uRO[0])
            return
        if shrunk is None:
            h_uRN = shrink(a_uRI[:, self._own], self.cut(x, copies))
        else:
            found = shrunk.get(x, self._key)
            if found is None:
                found = shrink(a_uRI, self.cut(x, copies))
                shrunk.keep(x, self._key, found)
            h_uRN = found[:, self._own]
        expand(self.cut(y, copies), h_uRN, b_uRO)

    def _apply_alone(self, x: Tensor, y: Tensor, a_RI: Tensor, b_RO: Tensor) -> None:
        """As `apply` for an adapter that owns the batch, in fewer steps: short rows wait for Python."""
        shrunk = self._shrunk
        h_RN = None if shrunk is None else shrunk.get(x, self._key)
        if h_RN is None:
            h_RN = (a_RI if shrunk is not None else a_RI[self._own]) @ x.reshape(-1, a_RI.shape[1]).t()
            if shrunk is not None:
                shrunk.keep(x, self._key, h_RN)
        own_RN = h_RN if shrunk is None else h_RN[self._own]
        y.view(-1, b_RO.shape[1]).addmm_(own_RN.t(), b_RO)


class AffineAddition(Addition[AffinePiece]):
    """gain · y + shift, where the gain is kept as what it differs from 1: zeros change nothing."""

    def apply(self, x: Tensor, y: Tensor, residual: Tensor | None, copies: int) -> None:
        tensors = self.weights.of(y.dtype)
        y_uNO = self.cut(y, copies)
        if self.piece.gain:
            y_uNO.addcmul_(y_uNO, tensors[self.first][:, None])
        if self.piece.shift:
            y_uNO.add_(tensors[self.first + self.piece.gain][:, None])


class InputAddition(Addition[InputPiece]):
    """y + W · (factor ⊙ x), where the factor is kept as what it differs from 1: zeros change nothing."""

    def __init__(self, rows: Rows, weights: Held, first: int, piece: InputPiece, product: Product) -> None:
        """`product`: the linear's own, without its bias."""
        super().__init__(rows, weights, first, piece)
        self._product = product

    def apply(self, x: Tensor, y: Tensor, residual: Tensor | None, copies: int) -> None:
        factor_uI = self.weights.of(y.dtype)[self.first]
        self.cut(y, copies).add_(self._product(self.cut(x, copies) * factor_uI[:, None]))


class Behind(Addition[PlacedT]):
    """What reads h, the residual or both, as its placement says, and is added to h."""

    behind = True

    def __init__(self, rows: Rows, weights: Held, first: int, piece: PlacedT, norm: Norm | None) -> None:
        """`norm`: the model's own, as it is in the bare backbone; pfeiffer in post-norm models needs it."""
        super().__init__(rows, weights, first, piece)
        self.residual = piece.residual
        self._norm = norm

    def read(self, h_uND: Tensor, residual: Tensor | None, copies: int) -> Tensor:
        """z (u, N, D), in the dtype of h."""
        residual_uND = None if residual is None else self.cut(residual, copies)
        return bottleneck_input(self.piece.placement, h_uND, residual_uND, self._norm).to(h_uND.dtype)


class BottleneckAddition(Behind[BottleneckPiece]):
    """h + W_up · act(W_down · z + b_down) + b_up."""

    def apply(self, x: Tensor, y: Tensor, residual: Tensor | None, copies: int) -> None:
        y_uND = self.cut(y, copies)
        z_uND = self.read(y_uND, residual, copies)
        down_uMD, down_uM, up_uMD = self.weights.of(y.dtype)[self.first : self.first + 3]
        middle_uMN = ACTIVATIONS[self.piece.activation](shrink(down_uMD, z_uND).add_(down_uM[:, :, None]))
        # b_up is the last row of W_up: one product instead of another pass over y.
        ones = middle_uMN.new_ones(()).expand(len(middle_uMN), 1, middle_uMN.shape[2])
        expand(y_uND, torch.cat([middle_uMN, ones], dim=1), up_uMD)


class FusionAddition(Behind[FusionPiece]):
    """h + (I + W_Δ) · Σ share · f, as `methods.fusion.layer` has it.

    One adapter after the other: its matrices are as wide as the backbone, so that stacking those of several costs more
    than it saves. Nothing of an adapter is copied.
    """

    def apply(self, x: Tensor, y: Tensor, residual: Tensor | None, copies: int) -> None:
        weights = cast(Weights, self.weights)  # nothing compiled has fusions
        h_uND = self.cut(y, copies)
        z_uND = self.read(h_uND, residual, copies)
        for h_ND, z_ND, own in zip(h_uND, z_uND, weights.alone(y.dtype), strict=True):
            self._add(h_ND, z_ND, own[self.first : self.first + len(self.piece.shapes)])

    def _add(self, h_ND: Tensor, z_ND: Tensor, tensors: list[Tensor]) -> None:
        piece = self.piece
        added_NPD = z_ND.new_empty(len(z_ND), len(piece.parts), piece.hidden)
        for number, (_, activation) in enumerate(piece.parts):
            down_MD, down_M, up_MD = tensors[3 * number : 3 * number + 3]
            middle_NM = ACTIVATIONS[activation](torch.addmm(down_M, z_ND, down_MD.t()))
            added_NPD[:, number] = torch.addmm(up_MD[-1], middle_NM, up_MD[:-1])
        query_QD, query_Q, key_QD, *value_DD = tensors[3 * len(piece.parts) :]
        query_ND = torch.addmm(query_Q, z_ND, query_QD.t()) @ key_QD
        scores_NP = torch.bmm(added_NPD, query_ND[..., None])[..., 0]
        share_NP = torch.softmax(scores_NP.float(), dim=-1).to(z_ND.dtype)
        mixed_ND = torch.bmm(share_NP[:, None], added_NPD)[:, 0]
        h_ND.add_(mixed_ND)
        for delta_DD in value_DD:
            h_ND.addmm_(mixed_ND, delta_DD.t())


class Merged:
    """The product of a linear with its LoRAs folded into a copy of its weight, for an adapter that owns the batch.

    Folding costs O · I · R multiplications, the products that it saves N · (I + O) · R.
    """

    def __init__(
        self, linear: nn.Linear | Conv1D, additions: Sequence[LoraAddition], copies: dict[Any, Tensor]
    ) -> None:
        """`copies`: memory for the folded weight, by shape and dtype; of one view, whose modules run one by one."""
        self.additions = len(additions)
        self._linear = linear
        self._lora = additions
        self._copies = copies
        inputs, outputs = linear.weight.shape
        self._fewest_tokens = MERGE_FROM * inputs * outputs / (inputs + outputs)

    def product(self, x: Tensor) -> Tensor | None:
        """The linear's output; None where there are too few tokens for it to pay."""
        weight, bias = self._linear.weight, self._linear.bias
        if x.numel() // x.shape[-1] < self._fewest_tokens or x.dtype != weight.dtype:
            return None
        key = weight.shape, weight.dtype
        folded = self._copies.get(key)
        if folded is None:
            with torch.inference_mode(False):  # so that it may be written to inside and outside of it
                folded = self._copies[key] = torch.empty_like(weight, requires_grad=False)
        source: Tensor = weight
        for addition in self._lora:
            a_RI, b_RO = addition.factors(weight.dtype)
            left, right = (a_RI.t(), b_RO) if isinstance(self._linear, Conv1D) else (b_RO.t(), a_RI)
            torch.addmm(source, left, right, out=folded)
            source = folded
        if not isinstance(self._linear, Conv1D):
            return nn.functional.linear(x, folded, bias)
        return torch.addmm(bias, x.reshape(-1, x.shape[-1]), folded).reshape(*x.shape[:-1], -1)


class ModuleWork:
    """All additions at one module for one batch."""

    def __init__(
        self, rows: int | None, additions: Sequence[Addition[Any]], *, in_place: bool, merged: Merged | None = None
    ) -> None:
        """`rows`: of the batch, before any repetition; None where every addition is for the whole batch. `in_place`:
        whether the module's output is its own, so that it may be written to. `merged`: takes the place of the module's
        own product, and of as many of the first additions as it folds."""
        self.rows = rows
        self.residual = next((addition.residual for addition in additions if addition.residual is not None), None)
        self._merged = merged
        self._additions = tuple(additions)
        self._in_place = in_place

    def merged_product(self, x: Tensor) -> Tensor | None:
        """What `apply` then takes for y; None for the module's own output."""
        return None if self._merged is None else self._merged.product(x)

    def apply(self, x: Tensor, y: Tensor, residuals: dict[str, Tensor], *, merged: bool = False) -> Tensor:
        """The module's output y with what the adapters make of it.
        `residuals`: first inputs by path; the one that is needed is taken out. `merged`: whether y comes from
        `merged_product`. Raises RoutingError: the batch has another number of rows than was announced."""
        copies = 1
        if self.rows is not None:
            copies, rest = divmod(len(y), self.rows)
            if rest or not copies:
                raise RoutingError(
                    "the batch is not the one that was announced",
                    [f"rows: found {len(y)}, expected {self.rows}, or each of them repeated in place"],
                    "Give every row its adapter, and the view exactly those rows.",
                )
        residual = None if self.residual is None else residuals.pop(self.residual)
        additions = (
            self._additions[self._merged.additions :] if merged and self._merged is not None else self._additions
        )
        if additions and not (self._in_place and y.is_contiguous()):
            y = y.clone(memory_format=torch.contiguous_format)
        for addition in additions:
            addition.apply(x, y, residual, copies)
        return y
