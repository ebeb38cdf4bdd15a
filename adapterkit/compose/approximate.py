"""Approximations of a weighted sum of updates: TIES, DARE and magnitude pruning, on whole matrices.

They work on ΔW and not on its factors: entries of the factors mean nothing by themselves, since b·a = (b·M)·(M⁻¹·a)
for every M that can be inverted.

Axes: I inputs, O outputs, N members.
"""

from collections.abc import Sequence
from hashlib import sha256

import torch
from torch import Tensor


def trim(delta_OI: Tensor, density: float) -> Tensor:
    """Keep this share of the entries, at least one: those of the largest magnitude. The others become zero."""
    flat = delta_OI.flatten()
    keep = max(1, int(density * flat.numel()))
    kept = torch.zeros_like(flat)
    at = flat.abs().topk(keep).indices
    kept[at] = flat[at]
    return kept.view_as(delta_OI)


def magnitude(deltas: Sequence[Tensor], weights: Sequence[float], density: float) -> Tensor:
    """Σ w·trim(ΔW)."""
    return sum_of([trim(delta, density) for delta in deltas], weights)


def ties(deltas: Sequence[Tensor], weights: Sequence[float], density: float) -> Tensor:
    """Trim, elect a sign for every entry, and average the members that have it (Yadav et al. 2023, algorithm 1).

    The paper's result is λ·mean over the members that agree. Weights of λ/N each give just that; unequal ones weigh
    both the election and the mean: Σ|w| · Σ_agree w·δ / Σ_agree |w|. Where all agree this is Σ w·δ.
    """
    trimmed = torch.stack([trim(delta, density) for delta in deltas])
    weight_N11 = torch.tensor(weights, dtype=trimmed.dtype, device=trimmed.device)[:, None, None]
    weighted_NOI = weight_N11 * trimmed
    agrees_NOI = (weighted_NOI.sign() == weighted_NOI.sum(0).sign()) & (weighted_NOI != 0)
    share_OI = (weight_N11.abs() * agrees_NOI).sum(0)
    mean_OI = (weighted_NOI * agrees_NOI).sum(0) / torch.where(share_OI > 0, share_OI, 1.0)
    return weight_N11.abs().sum() * mean_OI


def dare(deltas: Sequence[Tensor], weights: Sequence[float], density: float, seeds: Sequence[int]) -> Tensor:
    """Σ w·δ, of which each entry is kept with probability `density` and then divided by it (Yu et al. 2024, eq. 2–4).
    `seeds`: of each member's mask."""
    kept = []
    for delta_OI, seed in zip(deltas, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        mask_OI = torch.rand(delta_OI.shape, generator=generator, dtype=torch.float64) < density
        kept.append(delta_OI * mask_OI.to(delta_OI.device) / density)
    return sum_of(kept, weights)


def mask_seed(seed: int, member: str, site: str) -> int:
    """A seed of its own for every member and site, whatever their order."""
    return int.from_bytes(sha256(f"{seed} {member} {site}".encode()).digest()[:7], "big")


def sum_of(deltas: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ w·ΔW."""
    total = torch.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights, strict=True):
        total += weight * delta
    return total
