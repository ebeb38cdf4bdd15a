"""What the host adds where several bottlenecks are fused: attention over what each of them adds.

Axes: u adapters, N tokens of one adapter's rows, P parts, D hidden width, M bottleneck width, Q query width.
"""

import torch
from torch import Tensor

from adapterkit.host.engine.products import Addition, Norm, Rows, Weights
from adapterkit.host.engine.structure import FusionPiece
from adapterkit.methods.equations import ACTIVATIONS, bottleneck_input


class FusionAddition(Addition):
    """h + (I + W_Δ) · Σ share · f, as `methods.fusion.layer` has it.

    One adapter after the other: its matrices are as wide as the backbone, so that stacking those of several costs more
    than it saves. Nothing of an adapter is copied.
    """

    def __init__(self, rows: Rows, weights: Weights, first: int, piece: FusionPiece, norm: Norm | None) -> None:
        """`norm`: the model's own, as it is in the bare backbone."""
        super().__init__(rows, weights, first)
        self._piece = piece
        self._alone = weights.alone
        self._norm = norm

    def apply(self, x: Tensor, y: Tensor, residual: Tensor | None, copies: int) -> None:
        piece = self._piece
        h_uND = self.cut(y, copies)
        residual_uND = None if residual is None else self.cut(residual, copies).to(y.dtype)
        z_uND = bottleneck_input(piece.placement, h_uND, residual_uND, self._norm)
        for h_ND, z_ND, own in zip(h_uND, z_uND, self._alone(y.dtype), strict=True):
            self._add(h_ND, z_ND, own[self.first : self.first + len(piece.shapes)])

    def _add(self, h_ND: Tensor, z_ND: Tensor, tensors: list[Tensor]) -> None:
        piece = self._piece
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
