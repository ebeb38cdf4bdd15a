"""Low-rank updates as pairs of factors, and what can be done with them exactly.

Axes: R rank, I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """ΔW = b·a, with the adapter's scaling already inside b. Both in float64."""

    a: Tensor
    """(R, I), the shrinking factor."""
    b: Tensor
    """(O, R), the expanding factor."""

    @property
    def rank(self) -> int:
        """The width between the factors; the matrix itself may have a lower rank."""
        return len(self.a)

    @property
    def shape(self) -> tuple[int, int]:
        """(O, I), of ΔW."""
        return self.b.shape[0], self.a.shape[1]

    def matrix(self) -> Tensor:
        """ΔW, (O, I)."""
        return self.b @ self.a

    def norm(self) -> float:
        """‖ΔW‖ in Frobenius' norm, from the factors alone: ‖b·a‖² = ⟨bᵀb, a·aᵀ⟩."""
        squared = ((self.b.T @ self.b) * (self.a @ self.a.T)).sum()
        return float(squared.clamp(min=0).sqrt())

    def distance(self, other: LowRank) -> float:
        """‖ΔW - ΔW'‖, which no choice of factors changes."""
        return concatenated([(1.0, self), (-1.0, other)]).norm()

    def widened(self, rank: int) -> LowRank:
        """The same ΔW at a higher rank, by rows and columns of zeros."""
        more = rank - self.rank
        return LowRank(
            torch.cat([self.a, self.a.new_zeros(more, self.a.shape[1])]),
            torch.cat([self.b, self.b.new_zeros(self.b.shape[0], more)], dim=1),
        )


class Errors:
    """How far approximations are from what they stand for, by site: ‖found − exact‖ and ‖exact‖."""

    def __init__(self) -> None:
        self._norms: dict[str, tuple[float, float]] = {}

    def add(self, path: str, exact: LowRank, found: LowRank) -> None:
        """Note one site."""
        self._norms[path] = found.distance(exact), exact.norm()

    def report(self) -> dict[str, Any]:
        """‖found − exact‖ / ‖exact‖ for each site, and over all of them together."""
        sites = {path: _ratio(missed, norm) for path, (missed, norm) in self._norms.items()}
        missed, norms = ([pair[place] for pair in self._norms.values()] for place in (0, 1))
        return {"overall": _ratio(math.hypot(*missed), math.hypot(*norms)), "sites": sites}


def _ratio(missed: float, norm: float) -> float:
    """A share of nothing is all of it, unless nothing is missed."""
    return missed / norm if norm > 0 else float(missed > 0)


def concatenated(members: Sequence[tuple[float, LowRank]]) -> LowRank:
    """Σ w·ΔW exactly, at the sum of the ranks: [w₁b₁ w₂b₂ …]·[a₁; a₂; …]. Needs at least one member."""
    return LowRank(
        torch.cat([member.a for _, member in members]),
        torch.cat([weight * member.b for weight, member in members], dim=1),
    )


def truncated(whole: LowRank, rank: int) -> LowRank:
    """The nearest ΔW of at most this rank (Eckart & Young 1936), without making the matrix itself.

    b = Q_b·R_b and aᵀ = Q_a·R_a leave an SVD of R_b·R_aᵀ, which is as small as the ranks.
    """
    q_b, r_b = torch.linalg.qr(whole.b)
    q_a, r_a = torch.linalg.qr(whole.a.T)
    u, s, v = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    root = s[:rank].sqrt()
    return LowRank(root[:, None] * (v[:rank] @ q_a.T), (q_b @ u[:, :rank]) * root)


def nearest_of_rank(matrix_OI: Tensor, rank: int) -> LowRank:
    """The nearest low-rank update to any matrix (Eckart & Young 1936): U·Uᵀ·ΔW with the leading singular vectors.

    These are the leading eigenvectors of ΔW·ΔWᵀ, of which only `rank` are computed: on wide matrices some ten times
    faster than a whole SVD.
    """
    outputs, inputs = matrix_OI.shape
    if outputs > inputs:
        turned = nearest_of_rank(matrix_OI.T, rank)
        return LowRank(turned.b.T, turned.a.T)
    from scipy.linalg import eigh

    kept = min(rank, outputs)
    gram_OO = (matrix_OI @ matrix_OI.T).numpy()
    _, vectors = eigh(gram_OO, subset_by_index=[outputs - kept, outputs - 1])
    u_OR = torch.from_numpy(vectors).flip(-1)
    a_RI = u_OR.T @ matrix_OI
    # Each factor takes the square root of a singular value, so both stay of one size.
    root = torch.linalg.norm(a_RI, dim=1).sqrt().clamp(min=torch.finfo(a_RI.dtype).tiny)
    return LowRank(a_RI / root[:, None], u_OR * root)
