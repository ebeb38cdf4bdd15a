"""The pieces of an adapter, whoever made them, put into one flat tensor with its structure.

Scalings are folded in, the tensors have the backbone's dtype, and nothing is padded: an adapter takes the bytes of
its own numbers. A flat tensor is never written again, so whoever holds one computes with the version he began with.

Axes: I inputs, O outputs, R rank, D hidden width, M bottleneck width.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapterkit.backbone import Backbone
from adapterkit.backbone.sites import Site
from adapterkit.host.engine.structure import AffinePiece, InputPiece, LoraPiece, Piece, Structure

SHARING = {
    "attention.query": "attention",
    "attention.key": "attention",
    "attention.value": "attention",
    # The cross attention's query reads the decoder, its key and value read the encoder.
    "cross_attention.key": "cross_attention",
    "cross_attention.value": "cross_attention",
    "feedforward.gate": "feedforward",
    "feedforward.input": "feedforward",
}
"""Sites of one layer that are given the same x -> what they share."""


@dataclass(frozen=True, eq=False)
class Packed:
    """The method of one adapter, ready for a host.

    The structure, the same object for adapters that are built alike, says which tensors stand where in `flat` (P,), in
    the backbone's dtype on its device, which is never written again. `lowest_layer` is the lowest one that the method
    touches on each side, -1 for the embeddings; `number` another one for every adapter that this process has made
    ready.
    """

    structure: Structure
    flat: Tensor
    lowest_layer: Mapping[str, int]
    number: int = field(default_factory=itertools.count().__next__)

    @property
    def size_bytes(self) -> int:
        """Of its numbers."""
        return self.flat.numel() * self.flat.element_size()


@dataclass(frozen=True, eq=False)
class Laid:
    """A piece and its numbers, tensor by tensor, with what each of them is still to be multiplied by (() for 1)."""

    piece: Piece
    tensors: Sequence[Tensor]
    factors: Sequence[float] = ()


@dataclass(frozen=True, eq=False)
class Update:
    """A low-rank update of one linear: y + scaling · b · a · x, with a (R, I), and b (O, R) with DoRA's gain inside."""

    site: Site
    a: Tensor
    b: Tensor
    scaling: float = 1.0


def low_rank(updates: Iterable[Update]) -> list[Laid]:
    """Updates, at most one per linear; those of linears that share an x are one piece."""
    groups: dict[tuple[str, int, str], list[Update]] = {}
    for update in updates:
        site = update.site
        groups.setdefault((site.side, site.layer, SHARING.get(site.name, site.name)), []).append(update)
    found = []
    for group in groups.values():
        paths, ranks = tuple(update.site.path for update in group), tuple(len(update.a) for update in group)
        piece = LoraPiece(paths, ranks, group[0].a.shape[1], tuple(len(update.b) for update in group))
        tensors = [*(update.a for update in group), *(update.b.T for update in group)]
        found.append(Laid(piece, tensors, [*[1.0] * len(group), *(update.scaling for update in group)]))
    return found


def affine(path: str, gain: Tensor | None = None, shift: Tensor | None = None) -> Laid:
    """gain · y + shift on the output of the module at a path in the trunk, before its update; (O,) each, one at
    least."""
    # bf16 would round the difference to 1.
    given = [tensor for tensor in (None if gain is None else gain.float() - 1, shift) if tensor is not None]
    return Laid(AffinePiece(path, len(given[0]), gain is not None, shift is not None), given)


def scaled_input(path: str, factor: Tensor) -> Laid:
    """A factor (I,) on what the linear at a path in the trunk reads."""
    return Laid(InputPiece(path, len(factor)), [factor.float() - 1])


def assemble(backbone: Backbone, laid: Sequence[Laid], lowest_layer: Mapping[str, int]) -> Packed:
    """Put pieces together, in the order of `Structure`; `lowest_layer` as in `Packed`."""
    flat = flatten(laid).to(backbone.device, backbone.dtype)
    return Packed(Structure.of(one.piece for one in laid), flat, lowest_layer)


def flatten(laid: Sequence[Laid]) -> Tensor:
    """All numbers one after the other in fp32 on the CPU, multiplied: the dtype is changed only once."""
    tensors = [tensor for one in laid for tensor in one.tensors]
    lengths = [tensor.numel() for tensor in tensors]
    flat = torch.empty(sum(lengths))
    views = [piece.view(tensor.shape) for piece, tensor in zip(flat.split_with_sizes(lengths), tensors, strict=True)]
    factors = [factor for one in laid for factor in one.factors or (1.0,) * len(one.tensors)]
    for view, tensor, factor in zip(views, tensors, factors, strict=True):
        view.copy_(tensor)
        if factor != 1:
            view.mul_(factor)
    return flat
