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
from adapterkit.backbone.sites import Site, Sublayer
from adapterkit.host.engine.structure import AffinePiece, BottleneckPiece, InputPiece, LoraPiece, Piece, Structure
from adapterkit.methods.lowest_layer import lowest_layers

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
    size_bytes: int
    number: int = field(default_factory=itertools.count().__next__)


@dataclass(frozen=True)
class Update:
    """A low-rank update of one linear: y + scaling · b · a · x, with a (R, I), and b (O, R) with DoRA's gain inside."""

    site: Site
    a: Tensor
    b: Tensor
    scaling: float = 1.0


@dataclass(frozen=True)
class Affine:
    """gain · y + shift on the output of the module at a path in the trunk, before its update; (O,) each, or None."""

    path: str
    gain: Tensor | None
    shift: Tensor | None


@dataclass(frozen=True)
class Scaled:
    """A factor (I,) on what the linear at a path in the trunk reads."""

    path: str
    factor: Tensor


@dataclass(frozen=True)
class PlacedBottleneck:
    """A bottleneck after or beside one sublayer: W_down (M, D) and b_down (M,), W_up (D, M) and b_up (D,) with the
    scale folded in."""

    sublayer: Sublayer
    placement: str
    activation: str
    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor


@dataclass(frozen=True)
class Laid:
    """Pieces in the order in which they are packed; a tensor for each of their shapes; the numbers of tensors with what
    each is still to be multiplied by; and what updates and bottlenecks touch."""

    pieces: Sequence[Piece]
    tensors: Sequence[Tensor]
    factors: Sequence[tuple[int, float]]
    sites: Sequence[Site | Sublayer]


def assemble(
    backbone: Backbone,
    updates: Iterable[Update] = (),
    affines: Iterable[Affine] = (),
    bottlenecks: Iterable[PlacedBottleneck] = (),
    scaled: Iterable[Scaled] = (),
    lowest_layer: Mapping[str, int] | None = None,
) -> Packed:
    """Put pieces together, wherever they come from: at most one update and one factor per linear, one affine per
    module, one bottleneck per sublayer. `lowest_layer`: None takes it from the updates and bottlenecks."""
    laid = lay_out(updates, affines, bottlenecks, scaled)
    flat = flatten(laid.tensors, laid.factors).to(backbone.device, backbone.dtype)
    lowest = lowest_layers(laid.sites) if lowest_layer is None else dict(lowest_layer)
    return Packed(Structure.of(laid.pieces), flat, lowest, flat.numel() * flat.element_size())


def lay_out(
    updates: Iterable[Update] = (),
    affines: Iterable[Affine] = (),
    bottlenecks: Iterable[PlacedBottleneck] = (),
    scaled: Iterable[Scaled] = (),
) -> Laid:
    """The order in which pieces are packed; arguments as for `assemble`."""
    pieces: list[Piece] = []
    tensors: list[Tensor] = []
    factors: list[tuple[int, float]] = []
    sites: list[Site | Sublayer] = []
    for affine in affines:
        gain = None if affine.gain is None else affine.gain.float() - 1  # bf16 would round the difference
        given = [one for one in (gain, affine.shift) if one is not None]
        pieces.append(AffinePiece(affine.path, len(given[0]), affine.gain is not None, affine.shift is not None))
        tensors += given
    for one in scaled:
        pieces.append(InputPiece(one.path, len(one.factor)))
        tensors.append(one.factor.float() - 1)
    for group in _groups(updates):
        pieces.append(
            LoraPiece(
                tuple(update.site.path for update in group),
                tuple(len(update.a) for update in group),
                group[0].a.shape[1],
                tuple(len(update.b) for update in group),
            )
        )
        tensors += [update.a for update in group]
        factors += [(len(tensors) + number, update.scaling) for number, update in enumerate(group)]
        tensors += [update.b.T for update in group]
        sites += [update.site for update in group]
    for neck in bottlenecks:
        sublayer = neck.sublayer
        width, hidden = neck.down.shape
        pieces.append(
            BottleneckPiece(
                sublayer.output,
                hidden,
                width,
                neck.placement,
                neck.activation,
                residual=None if neck.placement == "houlsby" else sublayer.residual,
                norm=sublayer.norm if neck.placement == "pfeiffer" else None,
            )
        )
        tensors += [neck.down, neck.down_bias, neck.up.T, neck.up_bias]
        sites.append(sublayer)
    return Laid(pieces, tensors, factors, sites)


def flatten(tensors: Sequence[Tensor], factors: Iterable[tuple[int, float]] = ()) -> Tensor:
    """All numbers one after the other in fp32 on the CPU, some tensors multiplied: the dtype is changed only once."""
    lengths = [tensor.numel() for tensor in tensors]
    flat = torch.empty(sum(lengths))
    views = [piece.view(tensor.shape) for piece, tensor in zip(flat.split_with_sizes(lengths), tensors, strict=True)]
    for view, tensor in zip(views, tensors, strict=True):
        view.copy_(tensor)
    for number, factor in factors:
        if factor != 1:
            views[number].mul_(factor)
    return flat


def _groups(updates: Iterable[Update]) -> list[list[Update]]:
    """Updates of linears that share an x, together."""
    groups: dict[tuple[str, int, str], list[Update]] = {}
    for update in updates:
        site = update.site
        groups.setdefault((site.side, site.layer, SHARING.get(site.name, site.name)), []).append(update)
    return list(groups.values())
